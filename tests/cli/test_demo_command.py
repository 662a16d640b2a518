"""`pingmesh demo` where nothing runs; the demo itself: tests/integration/test_demo.py."""

import json
import sys

import pytest
from click.testing import CliRunner

from pingmesh_tasks.cli.main import main


@pytest.fixture
def run(tmp_path):
    def run(*words, **environment):
        return CliRunner().invoke(main, ["demo", "--root", str(tmp_path / "demo"), *words], env=environment)

    return run


def test_a_demo_that_does_not_run_is_down(run):
    done = run("status")
    assert (done.exit_code, done.stdout) == (1, "down\n")
    assert json.loads(run("status", "--json").stdout) == {"up": False, "faults": []}


def test_it_can_be_stopped_all_the_same(run):
    done = run("stop")
    assert done.exit_code == 0
    assert "Airflow did not run" in done.stdout
    as_json = run("stop", "--json")
    assert json.loads(as_json.stdout) == {"up": False, "faults": []}
    assert "Airflow did not run" in as_json.stderr


@pytest.mark.parametrize("words", [("fault",), ("fault", "hammer", "--json")])
def test_a_fault_needs_a_demo_that_runs(run, words):
    done = run(*words)
    assert done.exit_code == 1
    told = json.loads(done.stdout)["faults"][0] if "--json" in words else done.stderr
    assert "the demo does not run" in told


def test_a_port_that_is_no_number_is_a_fault(run):
    done = run("up", PINGMESH_DEMO_S3_PORT="many")
    assert done.exit_code == 1
    assert "PINGMESH_DEMO_" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_its_extra_it_says_what_to_install(run, monkeypatch):
    monkeypatch.delitem(sys.modules, "pingmesh_tasks.demo.run", raising=False)
    monkeypatch.setitem(sys.modules, "aiosmtpd.smtp", None)
    monkeypatch.delitem(sys.modules, "pingmesh_tasks.demo.inbox", raising=False)
    done = run("status")
    assert done.exit_code == 1
    assert "pip install 'pingmesh-airflow[demo]'" in done.stderr


def test_help_leaves_nothing_behind(run, tmp_path):
    assert run("up", "--help").exit_code == 0
    assert not (tmp_path / "demo").exists()
