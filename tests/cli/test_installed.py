"""`pingmesh doctor`, `dags-folder`, `preload-folder`, `example`.

Doctor with a real Airflow: test_package.py.
"""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from pingmesh_tasks.cli.main import main
from pingmesh_tasks.detect.rules_file import load_rules
from pingmesh_tasks.orchestration import installation
from pingmesh_tasks.topology.inventory import parse_inventory
from tests.pipeline.test_checkup import MadeUpAirflow

REPO = Path(__file__).parents[2]


def run(*words, **environment):
    return CliRunner().invoke(main, words, env=environment)


@pytest.fixture
def airflow(monkeypatch):
    """An Airflow without faults instead of that of this machine."""
    made_up = MadeUpAirflow()
    monkeypatch.setattr(installation, "LocalInstallation", lambda: made_up)
    monkeypatch.setattr(installation, "read_connections_of_the_database", lambda: None)
    monkeypatch.setenv("AIRFLOW__LOGGING__LOGGING_LEVEL", "CRITICAL")
    return made_up


def test_doctor_ends_well_where_nothing_is_wrong(airflow):
    done = run("doctor", PINGMESH_INVENTORY=str(REPO / "include/inventories/example.yaml"))
    assert done.exit_code == 0, done.stdout
    assert done.stdout.splitlines()[-1] == "0 faults"
    assert all(line.startswith("ok ") for line in done.stdout.splitlines()[:-1])


def test_doctor_says_what_to_do_for_a_fault(airflow):
    airflow.ssh_fault = "define the Airflow connection 'pingmesh_ssh'"
    done = run("doctor", PINGMESH_INVENTORY=str(REPO / "include/inventories/example.yaml"))
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    (row,) = [row for row, line in enumerate(lines) if line.startswith("FAULT ssh")]
    assert lines[row + 1].strip().startswith("Correct the connections pingmesh_ssh")
    assert lines[-1] == "1 fault"


def test_a_program_gets_every_check_of_doctor(airflow):
    airflow.plugin = ["Airflow has not loaded the plugin pingmesh"]
    done = run("doctor", "--json", PINGMESH_INVENTORY="")
    assert done.exit_code == 1
    document = json.loads(done.stdout)
    states = {check["name"]: check["state"] for check in document["checks"]}
    assert (states["settings"], states["inventory"], states["plugin"]) == (
        "fault",
        "skipped",
        "fault",
    )
    assert len(document["faults"]) == 2


def test_what_dag_files_print_is_not_in_the_document(airflow, monkeypatch):
    monkeypatch.setattr(airflow, "plugin_faults", lambda: print("noise") or [])
    done = run("doctor", "--json", PINGMESH_INVENTORY=str(REPO / "include/inventories/example.yaml"))
    assert json.loads(done.stdout)["faults"] == []
    assert "noise" in done.stderr


@pytest.mark.parametrize(
    ("command", "file"),
    [("dags-folder", "pingmesh.py"), ("preload-folder", "airflow_local_settings.py")],
)
def test_a_folder_is_printed_as_a_path_that_a_shell_can_take(command, file):
    path = run(command).stdout
    assert path.count("\n") == 1
    assert Path(path.rstrip("\n"), file).is_file()
    assert json.loads(run(command, "--json").stdout) == {"path": path.rstrip("\n"), "faults": []}


@pytest.mark.parametrize("name", ["inventory.csv", "inventory.yaml", "pinglist.txt"])
def test_an_example_of_an_inventory_is_one(name):
    assert parse_inventory(run("example", name).stdout, name).hosts


def test_the_example_of_the_rules_is_a_rule_book():
    text = run("example", "rules.yaml").stdout
    assert text == (REPO / "include/rules/rules.example.yaml").read_text()
    assert load_rules(text, "rules.yaml")
    assert json.loads(run("example", "rules.yaml", "--json").stdout)["text"] == text


def test_an_example_that_there_is_not_is_refused_with_those_that_there_are():
    done = run("example", "hosts.json")
    assert done.exit_code == 2
    assert "inventory.yaml" in done.stderr
