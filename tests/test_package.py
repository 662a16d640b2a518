"""The wheel: built, installed where no checkout is, and used as Airflow and an operator use it.

The new environment gets its dependencies from the one that runs the tests, by links, and the package
from the wheel alone: quick, and without a network.
"""

import ast
import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from pingmesh_tasks.pipeline.checkup import DAGS

REPO = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
#: Parts of Airflow that the page is made of: their versions are Airflow's business.
OF_AIRFLOW = {"anyio", "fastapi", "pydantic-core", "sqlalchemy", "starlette", "apache-airflow-core"}
OF_AIRFLOW |= {"apache-airflow-task-sdk"}
SECRET = "never-printed-4711"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*build, "--wheel-dir", folder, REPO], check=True)
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The folder of an environment that has the wheel and all that it needs."""
    root = tmp_path_factory.mktemp("environment")
    venv.create(root / "venv", symlinks=True)
    python = root / "venv" / "bin" / "python"
    links = root / "dependencies"
    links.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not re.match(r"_?pingmesh|__editable__|.*\.pth$", entry.name):
            (links / entry.name).symlink_to(entry)
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()
    Path(site, "dependencies.pth").write_text(f"{links}\n")
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, wheel], check=True)
    return root


@pytest.fixture
def run(installed):
    """Run a program of the environment, from a directory outside of the checkout."""

    def run(program, *words, check=True, **environment):
        ours = {"PATH": os.environ["PATH"], "HOME": str(installed), "AIRFLOW_HOME": str(installed / "airflow")}
        settings = {"AIRFLOW__CORE__LOAD_EXAMPLES": "False", "PYTHONWARNINGS": "ignore"}
        done = subprocess.run(
            [installed / "venv" / "bin" / program, *words],
            cwd=installed,
            env=ours | settings | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    return run


@pytest.fixture
def inventory(tmp_path):
    file = tmp_path / "hosts.csv"
    file.write_text("name,address\na,192.0.2.1\nb,192.0.2.2\n")
    return str(file)


# --- the wheel


def test_the_wheel_has_the_two_packages_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"pingmesh_tasks", "pingmesh_ui", dist_info(names)}
    assert not [name for name in names if "__pycache__" in name or "/tests/" in name]


@pytest.mark.needs("git checkout")
def test_every_file_of_a_shipped_folder_is_in_the_wheel(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    config = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    listed = subprocess.run(["git", "ls-files", *config["only-include"]], cwd=REPO, capture_output=True, text=True)
    assert listed.returncode == 0, listed.stderr
    tracked = [name for name in listed.stdout.splitlines() if (REPO / name).is_file()]
    wanted = [name for name in tracked if not name.startswith(tuple(config["exclude"]))]
    assert len(wanted) > 200
    for name in wanted:
        for prefix, target in config["sources"].items():
            name = re.sub(f"^{re.escape(prefix)}/", f"{target}/", name)
        assert name in names


def test_the_wheel_says_what_it_is(wheel):
    archive = zipfile.ZipFile(wheel)
    info = dist_info(archive.namelist())
    entry_points = archive.read(f"{info}/entry_points.txt").decode()
    assert "[console_scripts]\npingmesh = pingmesh_tasks.cli.main:main" in entry_points
    assert "[airflow.plugins]\npingmesh = pingmesh_ui.plugin:PingmeshPlugin" in entry_points
    told = archive.read(f"{info}/METADATA").decode()
    assert re.search(r"^Requires-Dist: apache-airflow(<4,>=3\.3|>=3\.3,<4)$", told, re.MULTILINE)
    extras = set(re.findall(r"^Provides-Extra: (\S+)$", told, re.MULTILINE))
    assert extras == {"postgres", "celery", "kubernetes", "spark", "demo", "bench", "dev"}
    assert "pingmesh_tasks/py.typed" in archive.namelist()


def dist_info(names):
    (folder,) = {name.split("/")[0] for name in names if ".dist-info/" in name}
    return folder


# --- what it needs


def test_every_import_is_of_a_declared_requirement():
    core = declared(PROJECT["dependencies"]) | OF_AIRFLOW
    extras = {name: declared(wanted) for name, wanted in PROJECT["optional-dependencies"].items()}
    spark = extras["spark"] | {"pyspark"}
    provided = metadata.packages_distributions()
    for file in sorted(
        file for folder in ("pingmesh_tasks", "plugins", "dags") for file in (REPO / folder).rglob("*.py")
    ):
        allowed = core | (extras["demo"] if "/demo/" in str(file) else set())
        allowed |= spark if file.name == "spark.py" else set()
        for name in third_party(file):
            owners = {canonical(owner) for owner in owners_of(name, provided)}
            assert owners & allowed, f"{file}: {name} is of {owners}, which pyproject.toml does not require"


def test_every_requirement_has_a_lower_bound_that_the_lock_meets():
    locked = dict(re.findall(r"^([a-z0-9-]+)==([^ ;\\]+)", (REPO / "requirements.lock").read_text(), re.MULTILINE))
    every = [
        *PROJECT["dependencies"],
        *(r for e in ("spark", "demo", "bench", "dev") for r in PROJECT["optional-dependencies"][e]),
    ]
    for requirement in every:
        name, bound = re.fullmatch(r"([a-z0-9-]+)>=([0-9.]+)(?:,<[0-9.]+)?", requirement).groups()
        assert version(locked[name]) >= version(bound), requirement


def test_the_image_has_the_versions_that_the_tests_ran_with_and_none_of_their_tools():
    pins = {}
    for lock in ("requirements.lock", "requirements-image.lock"):
        text = (REPO / lock).read_text()
        pins[lock] = set(re.findall(r"^([a-z0-9-]+==[^ ;\\]+)", text, re.MULTILINE))
        blocks = re.split(r"\n(?=[a-z0-9-]+==)", text)
        assert all("--hash=sha256:" in block for block in blocks), lock
    names = {pin.split("==")[0] for pin in pins["requirements-image.lock"]}
    assert not names & (declared(PROJECT["optional-dependencies"]["bench"]) | {"pytest", "mypy", "ruff", "playwright"})
    only = {pin.split("==")[0] for pin in pins["requirements-image.lock"] - pins["requirements.lock"]}
    assert only == declared(PROJECT["optional-dependencies"]["postgres"])


def declared(requirements):
    return {canonical(re.match(r"[A-Za-z0-9-]+", requirement)[0]) for requirement in requirements}


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def version(text):
    return tuple(int(part) for part in re.findall(r"\d+", text))


def third_party(file):
    """Yield the modules that a file imports, but those of Python and of this package."""
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module]
        ours = {"pingmesh_tasks", "pingmesh_ui"}
        yield from (name for name in names if name.split(".")[0] not in sys.stdlib_module_names | ours)


def owners_of(name, provided):
    """Return the distributions that a module may be of; a provider of Airflow is one of its own."""
    parts = name.split(".")
    if parts[:2] == ["airflow", "providers"]:
        short = parts[2:4] if parts[2] == "apache" else parts[2:3]
        return {"-".join(["apache-airflow-providers", *short])}
    return provided.get(parts[0], set())


# --- the installed package


def test_airflow_reads_every_dag_of_the_installed_package_and_shows_its_page(run, installed, inventory):
    program = """
import json, sys
import pingmesh_tasks
from pathlib import Path
from pingmesh_tasks import bundled
from airflow.dag_processing.dagbag import DagBag
from airflow import plugins_manager
bag = DagBag(sys.argv[1], collect_dags=False)
for file in sorted(Path(sys.argv[1]).glob("*.py")):
    bag.process_file(str(file))
apps, _ = plugins_manager.get_fastapi_plugins()
(page,) = [app for app in apps if app["url_prefix"] == "/pingmesh"]
sources = [p["source"] for p in plugins_manager.get_plugin_info(["source"]) if p["name"] == "pingmesh"]
from pingmesh_ui.static_files import StaticFiles
from pingmesh_tasks.alerting.messages.message import TEMPLATES
print(json.dumps({
    "package": pingmesh_tasks.__file__, "checkout": bundled.checkout(), "dags": sorted(bag.dags),
    "errors": bag.import_errors, "page": page["app"].title, "sources": [str(s) for s in sources],
    "plugin_errors": plugins_manager.get_import_errors(), "index": StaticFiles().index().decode(),
    "templates": sorted(file.name for file in TEMPLATES.iterdir()),
}))
"""
    folder = run("pingmesh", "dags-folder").stdout.strip()
    assert Path(folder).is_relative_to(installed)
    done = run("python", "-c", program, folder, PINGMESH_INVENTORY=inventory)
    told = json.loads(done.stdout.splitlines()[-1])
    assert Path(told["package"]).is_relative_to(installed / "venv")
    assert told["checkout"] is None
    assert told["dags"] == sorted(DAGS)
    assert told["errors"] == {}
    assert len(told["sources"]) == 1
    assert "pingmesh-airflow==" in told["sources"][0]
    assert told["plugin_errors"] == {}
    assert "static/" in told["index"]
    assert {"email.html.j2", "slack.json.j2", "text.j2"} <= set(told["templates"])


def test_doctor_finds_no_fault_in_a_complete_installation(run, inventory, s3_server):
    access = s3_server.access
    bucket = {"conn_type": "aws", "login": access.access_key_id, "password": access.secret_access_key}
    done = run(
        "pingmesh",
        "doctor",
        "--json",
        check=False,
        PINGMESH_INVENTORY=inventory,
        PINGMESH_S3_ENDPOINT=access.endpoint,
        AIRFLOW__CORE__DAGS_FOLDER=run("pingmesh", "dags-folder").stdout.strip(),
        AIRFLOW_CONN_PINGMESH_S3=json.dumps(bucket),
        AIRFLOW_CONN_PINGMESH_SSH=json.dumps({"conn_type": "ssh", "login": "pingmesh", "password": SECRET}),
        AIRFLOW_CONN_PINGMESH_WEBHOOK=json.dumps(
            {"conn_type": "http", "host": "http://127.0.0.1:9", "password": SECRET}
        ),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(done.stdout)
    assert document["faults"] == []
    not_ok = [check["name"] for check in document["checks"] if check["state"] != "ok"]
    assert not_ok == ["pool"]  # there is no database
    assert SECRET not in done.stdout + done.stderr
    assert access.secret_access_key not in done.stdout + done.stderr


def test_doctor_names_every_fault_without_a_secret(run, inventory):
    done = run(
        "pingmesh",
        "doctor",
        check=False,
        PINGMESH_INVENTORY=inventory,
        PINGMESH_S3_ENDPOINT=f"http://user:{SECRET}@127.0.0.1:9",
        AIRFLOW_CONN_PINGMESH_S3=json.dumps({"conn_type": "aws", "login": "key", "password": SECRET}),
        AIRFLOW_CONN_PINGMESH_SLACK=json.dumps({"conn_type": "slack", "password": SECRET}),
    )
    assert done.returncode == 1
    faults = re.findall(r"^FAULT (\S+)", done.stdout, re.MULTILINE)
    assert set(faults) == {"bucket", "ssh"}
    assert re.search(r"^warn +DAGs folder", done.stdout, re.MULTILINE)
    assert SECRET not in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
