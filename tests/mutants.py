"""Sample mutants of one or more rooms and see whether their unit tests notice.

    make mutants                                     20 mutants of every room, seed 1
    make mutants ROOMS="detect alerting" COUNT=50 SEED=7 MINUTES=30

A mutant is a copy of the code with one change (a comparison turned, a number moved by one, an `and` made an `or`, a
`not` added, a loop skipped, ...), made by Cosmic Ray, which lives in an environment of its own (`.mutants`). A
mutant that no test fails on shows a behaviour that no test holds: write the test, or note why the change is
equivalent. The sample is drawn evenly over places in the code, so that one seed gives one sample; annotations, which
are no behaviour, are left out. Everything runs in a temporary copy of the checkout.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cosmic_ray.plugins
from cosmic_ray.ast import ast_nodes, get_ast_from_path
from cosmic_ray.mutating import use_mutation

REPO = Path(__file__).resolve().parents[1]
#: Where a room's code is, and the tests that should notice; `tests/golden` is run for every room.
ROOMS = {
    room: (f"pingmesh_tasks/{room}", f"tests/{room}")
    for room in (
        *("store", "topology", "fleet", "latency", "access", "matrix", "detect", "alerting"),
        *("render", "queries", "pipeline", "orchestration"),
    )
} | {
    "agent": ("include/agent", "tests/agent"),
    "page": ("plugins/pingmesh_ui", "tests/ui/test_api.py tests/ui/test_api_faults.py"),
}
#: Tests of other rooms that are unit tests of this one too.
ALSO = {
    "queries": "tests/ui/test_api.py tests/ui/test_alarms_api.py",
    "orchestration": "tests/dags",
}
#: A decorator or an exception type that is changed mostly breaks the import, which says nothing of a test.
LEFT_OUT = ("RemoveDecorator", "ExceptionReplacer")
#: A mutant that makes the tests take so many times as long as without it counts as noticed: it loops.
PATIENCE = 5


@dataclass(frozen=True)
class Mutant:
    """One change: `occurrence` counts the places in `file` (relative to the checkout) that `operator` can change."""

    room: str
    file: str
    line: int
    operator: str
    occurrence: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.operator.removeprefix('core/')}"


def mutants_of(room: str, file: Path, root: Path) -> Iterator[tuple[tuple[int, int], Mutant]]:
    """Yield every mutant of a file with the position (line, column) that it changes."""
    tree = get_ast_from_path(file)
    annotations = _annotations(file.read_text())
    for name in cosmic_ray.plugins.operator_names():
        operator_class = cosmic_ray.plugins.get_operator(name)
        if operator_class.arguments() or name.rpartition("/")[2].startswith(LEFT_OUT):
            continue
        operator = operator_class()
        places = (start for node in ast_nodes(tree) for start, _ in operator.mutation_positions(node))
        for occurrence, (line, column) in enumerate(places):
            if not any(first <= (line, column) < last for first, last in annotations):
                yield (line, column), Mutant(room, str(file.relative_to(root)), line, name, occurrence)


def _annotations(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return the positions of all annotations and type aliases: nothing of them is evaluated."""
    spans = []
    for node in ast.walk(ast.parse(source)):
        annotated = [getattr(node, name, None) for name in ("annotation", "returns")]
        for found in (one for one in annotated if isinstance(one, ast.expr)):
            end = (found.end_lineno or found.lineno, found.end_col_offset or found.col_offset)
            spans.append(((found.lineno, found.col_offset), end))
    return spans


def sample(room: str, count: int, seed: int, root: Path) -> list[Mutant]:
    """Return `count` mutants of a room: places in the code are drawn evenly, then one change at each place."""
    places: dict[tuple[str, int, int], list[Mutant]] = defaultdict(list)
    for file in sorted((root / ROOMS[room][0]).rglob("*.py")):
        for (line, column), mutant in mutants_of(room, file, root):
            places[mutant.file, line, column].append(mutant)
    draw = random.Random(f"{room} {seed}")
    drawn = draw.sample(sorted(places), min(count, len(places)))
    return [draw.choice(sorted(places[place], key=str)) for place in drawn]


def tests_of(room: str, file: str = "") -> list[str]:
    """Return the tests of a room, those of the folder that mirrors the file's first."""
    tests = [*ROOMS[room][1].split(), *ALSO.get(room, "").split(), "tests/golden"]
    mirror = str(Path("tests", room, Path(file).relative_to(ROOMS[room][0]).parent)) if file else ""
    nearest = [mirror] if (REPO / mirror).is_dir() and mirror not in tests and file else []
    return [*nearest, *tests]


def passes(tests: list[str], root: Path, python: str, limit_s: float | None = None) -> bool:
    """Run tests until the first failure; a run that takes longer than `limit_s` has failed."""
    environment = os.environ | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [python, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    with subprocess.Popen(
        command,
        cwd=root,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as run:
        try:
            return run.wait(limit_s) == 0
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)
            return False


def is_killed(mutant: Mutant, root: Path, python: str, limit_s: float) -> bool:
    """Whether a unit test of the mutant's room fails on it, or takes longer than `limit_s`."""
    operator = cosmic_ray.plugins.get_operator(mutant.operator)()
    with use_mutation(root / mutant.file, operator, mutant.occurrence):
        return not passes(tests_of(mutant.room, mutant.file), root, python, limit_s)


def diff_of(mutant: Mutant, root: Path) -> str:
    """Return the line that a mutant changes, before and after."""
    file = root / mutant.file
    before = file.read_text().splitlines()
    with use_mutation(file, cosmic_ray.plugins.get_operator(mutant.operator)(), mutant.occurrence):
        after = file.read_text().splitlines()
    return "\n".join(
        f"    - {old.strip()}\n    + {new.strip()}" for old, new in zip(before, after, strict=False) if old != new
    )


def copy_checkout(folder: Path) -> Path:
    """Copy what git tracks, as it is in the working tree, to a folder."""
    listed = subprocess.run(["git", "ls-files"], cwd=REPO, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        if (REPO / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPO / name, folder / name)
    return folder


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rooms", nargs="*", default=list(ROOMS), choices=list(ROOMS), help="(all)")
    parser.add_argument("--count", type=int, default=20, help="mutants of each room (20)")
    parser.add_argument("--seed", type=int, default=1, help="of the sample (1)")
    parser.add_argument("--minutes", type=float, default=60, help="start no mutant after so long (60)")
    parser.add_argument("--python", default=str(REPO / ".venv" / "bin" / "python"), help="that runs the tests")
    options = parser.parse_args(arguments)
    began, survivors = time.monotonic(), 0
    with tempfile.TemporaryDirectory() as folder:
        root = copy_checkout(Path(folder))
        for room in options.rooms:
            killed, tried, started = 0, 0, time.monotonic()
            if not passes(tests_of(room), root, options.python):
                print(f"{room}: its tests fail without any mutant")
                return 1
            limit_s = 30 + PATIENCE * (time.monotonic() - started)
            for mutant in sample(room, options.count, options.seed, root):
                if time.monotonic() - began > 60 * options.minutes:
                    print(f"{room}: stopped after {options.minutes:g} minutes")
                    break
                tried += 1
                if is_killed(mutant, root, options.python, limit_s):
                    killed += 1
                else:
                    print(f"survived: {mutant}\n{diff_of(mutant, root)}", flush=True)
            survivors += tried - killed
            print(f"{room}: {killed} of {tried} killed ({killed / max(tried, 1):.0%})", flush=True)
    print(f"{survivors} survived; each is a test to write or an equivalent change")
    return 0


if __name__ == "__main__":
    sys.exit(main())
