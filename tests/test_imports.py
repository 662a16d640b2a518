"""Who may import whom: the rules of the house, held against every import statement."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]
PACKAGE = "pingmesh_tasks"
#: The rooms from the ground floor up: a room imports itself and the rooms before it in this list, no other.
ROOMS = [
    *("store", "topology", "fleet", "latency", "access", "matrix", "detect", "alerting", "render", "queries"),
    *("pipeline", "orchestration", "demo", "cli"),
]
FOUNDATION = {
    *("__init__", "settings", "windows", "errors"),
    *("suggestions", "bounded_yaml", "bundled", "text"),
}
#: Rooms that know Airflow.
AIRFLOW_ROOMS = {"orchestration"}
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


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(REPO).with_suffix("").parts).removesuffix(".__init__")


def imported_modules(file: Path) -> Iterator[str]:
    """Yield what a file imports at its top level, as names of modules: `from a import b` may mean `a.b`."""
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            yield from names | {node.module or ""}


def room_of(name: str) -> str | None:
    parts = name.split(".")
    return parts[1] if parts[0] == PACKAGE and len(parts) > 1 else None


@pytest.mark.parametrize("file", files(PACKAGE), ids=lambda path: str(path.relative_to(REPO)))
def test_a_module_imports_no_room_above_its_own(file):
    room = file.relative_to(REPO / PACKAGE).parts[0].removesuffix(".py")
    allowed = FOUNDATION if room in FOUNDATION else FOUNDATION | set(ROOMS[: ROOMS.index(room) + 1])
    for name in imports_of(file):
        imported = room_of(name)
        assert imported is None or imported in allowed, f"{room} imports {name}"


@pytest.mark.parametrize("file", files(PACKAGE), ids=lambda path: str(path.relative_to(REPO)))
def test_airflow_is_imported_in_orchestration_only(file):
    room = file.relative_to(REPO / PACKAGE).parts[0]
    for name in imports_of(file):
        assert room in AIRFLOW_ROOMS or name.split(".")[0] != "airflow", f"{room} imports {name}"


def test_no_modules_import_each_other_in_a_circle():
    modules = {module_name(file) for file in files(PACKAGE)}
    graph = {module_name(file): set(imported_modules(file)) & modules for file in files(PACKAGE)}
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail("circle of imports: " + " > ".join(error.args[1]))


@pytest.mark.parametrize("file", files("dags"), ids=lambda path: path.name)
def test_a_dag_file_imports_nothing_heavy(file):
    names = {name.split(".")[0] for name in imports_of(file, top_level_only=True)}
    assert not names & HEAVY


#: The agent's modules, from the ground up: each imports only those before it.
AGENT_MODULES = (
    "limits", "outcomes", "errors", "clock", "addresses", "chunk", "segment", "payload", "probes", "home", "pinglist",
    "poller", "ports", "resources", "release", "spool", "prober", "responder", "agent", "walk", "trace",
    "commands", "__main__",
)  # fmt: skip
AGENT_FILES = files("include/agent/pingmesh_agent")


def test_every_module_of_the_agent_has_its_place_in_the_order_and_in_the_description_of_the_package():
    assert {file.stem for file in AGENT_FILES} == {"__init__", *AGENT_MODULES}
    package = next(file for file in AGENT_FILES if file.stem == "__init__")
    described = [line.split()[0] for line in package.read_text().splitlines() if line.startswith("    ")]
    assert described == list(AGENT_MODULES[:-1])


@pytest.mark.parametrize("file", AGENT_FILES, ids=lambda path: path.stem)
def test_a_module_of_the_agent_imports_the_standard_library_and_modules_below_it(file):
    place = AGENT_MODULES.index(file.stem) if file.stem != "__init__" else 0
    below = set(AGENT_MODULES[:place])
    tree = ast.parse(file.read_text(), feature_version=(3, 8))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "pingmesh_agent":
            assert {alias.name for alias in node.names} <= below
    for name in imports_of(file):
        package, _, module = name.partition(".")
        assert package in sys.stdlib_module_names or package == "pingmesh_agent", f"{file.stem} imports {name}"
        assert not module or package != "pingmesh_agent" or module in below, f"{file.stem} imports {name}"


def test_a_running_agent_has_loaded_nothing_heavy():
    """Of the modules that it loads only these are written in Python; argparse, logging and such would cost 9 MB."""
    program = (
        "import sys; before = set(sys.modules); sys.path.insert(0, sys.argv[1]); import pingmesh_agent.commands; "
        "print(*sorted(set(sys.modules) - before))"
    )
    command = [sys.executable, "-I", "-S", "-c", program, str(AGENT_FILES[0].parents[1])]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    heavy = {"argparse", "asyncio", "dataclasses", "hashlib", "inspect", "logging", "selectors", "socket", "ssl"}
    heavy |= {"subprocess", "tempfile", "threading", "traceback", "typing", "urllib"}
    assert not heavy & set(loaded)


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
