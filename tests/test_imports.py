"""Who may import whom: the rules of the house, held against every import statement."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]
PACKAGE = "pingmesh_tasks"
ROOMS_THAT_DO_NOT_KNOW_EACH_OTHER = {"fleet", "probes", "access"}
FOUNDATION = {"settings", "windows", "errors"}
#: What a room must not know of those that come after it: frames → findings → memory → messages.
LATER = {
    "render": {"probes", "access", "detect", "alarm", "notify", "page"},
    "detect": {"probes", "access", "render", "alarm", "notify", "page"},
    "alarm": {"probes", "access", "render", "notify", "page"},
    "notify": {"probes", "access", "render", "page"},
    "maps": {"access", "render", "alarm", "notify", "page"},
}
PURE = LATER.keys()
HEAVY = {"polars", "numpy", "pyarrow", "matplotlib", "asyncssh", "obstore", "boto3", "botocore", "PIL", "pyspark"}


def imports_of(file: Path, *, top_level_only: bool = False) -> Iterator[str]:
    tree = ast.parse(file.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield node.module or ""


def files(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in (REPO / folder).rglob("*.py")]
    assert found
    return sorted(found)


def room_of(name: str) -> str | None:
    parts = name.split(".")
    return parts[1] if parts[0] == PACKAGE and len(parts) > 1 else None


@pytest.mark.parametrize("file", files(PACKAGE), ids=lambda path: str(path.relative_to(REPO)))
def test_a_module_imports_only_whom_it_may_know(file):
    room = file.relative_to(REPO / PACKAGE).parts[0].removesuffix(".py")
    for name in imports_of(file):
        known = room_of(name)
        if room != "orchestration":
            assert name.split(".")[0] != "airflow", f"{room} imports {name}: Airflow belongs to orchestration"
        if room in FOUNDATION:
            assert known is None or known in FOUNDATION, f"{room} imports {name}: it must know nobody"
        if room in ROOMS_THAT_DO_NOT_KNOW_EACH_OTHER:
            others = ROOMS_THAT_DO_NOT_KNOW_EACH_OTHER - {room} | {"render", "detect", "orchestration", "demo"}
            assert known not in others, f"{room} imports {name}"
        if room in PURE:
            assert known not in LATER[room], f"{room} imports {name}"
        if room == "store":
            assert known in {None, "store"} | FOUNDATION, f"{room} imports {name}"
        if room not in {"orchestration", "demo"}:
            assert known not in {"orchestration", "demo"}, f"{room} imports {name}"


@pytest.mark.parametrize("file", files("dags"), ids=lambda path: path.name)
def test_a_dag_file_imports_nothing_heavy(file):
    names = {name.split(".")[0] for name in imports_of(file, top_level_only=True)}
    assert not names & HEAVY


def test_the_agent_needs_nothing_but_the_standard_library():
    agent = REPO / "include" / "agent" / "pingmesh_agent.py"
    assert {name.split(".")[0] for name in imports_of(agent)} <= sys.stdlib_module_names


def test_keys_of_the_bucket_are_spelled_in_the_layout_only():
    roots = ("raw/", "tables/", "artifacts/", "quarantine/", "control/")
    for file in files(PACKAGE, "dags"):
        if file.name == "layout.py":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                first = node.values[0]
                spelled = isinstance(first, ast.Constant) and str(first.value).startswith(roots)
                assert not spelled, f"{file}:{node.lineno}"
