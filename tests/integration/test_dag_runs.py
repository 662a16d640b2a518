"""One run of each DAG of windows in Airflow itself (`dag.test()`), on real SSH hosts and a real S3 server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pingmesh_tasks.demo.fleet import demo_inventory_csv
from tests.support.fleet import PASSWORD, FleetOfTest, running_fleet

pytestmark = [pytest.mark.integration, pytest.mark.e2e]
REPO = Path(__file__).parents[2]
#: Runs a DAG twice, the second time with a misspelt setting; prints, a line a run, what became of each task: its id,
#: the name of the mapped instance, its state, its tries.
PROGRAM = """
import json, os, sys
from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
from airflow.models.dagbundle import DagBundleModel
from airflow.utils.db import initdb
from airflow.utils.session import create_session
initdb()
with create_session() as session:
    session.merge(DagBundleModel(name="dags-folder"))
dags, name = sys.argv[1:3]
for variables in ({}, {"PINGMESH_WINDOW": "300"}):
    os.environ.update(variables)
    bag = DagBag(dags, collect_dags=False, bundle_path=dags, bundle_name="dags-folder")
    bag.process_file(f"{dags}/{name}.py")
    assert not bag.import_errors, bag.import_errors
    bag.dags[name].deadline = None  # dag.test() of Airflow 3.3 cannot store it
    sync_bag_to_db(bag, "dags-folder", None)
    tasks = bag.dags[name].test().get_task_instances()
    print("RESULT " + json.dumps([[ti.task_id, ti.rendered_map_index, str(ti.state), ti.try_number] for ti in tasks]))
"""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[FleetOfTest]:
    with running_fleet(tmp_path, 3) as fleet:
        (tmp_path / "inventory.csv").write_text(demo_inventory_csv(fleet.demo.hosts, fleet.demo.ssh_port))
        yield fleet


@pytest.fixture
def environment(fleet, store, tmp_path) -> dict[str, str]:
    ssh = {"conn_type": "ssh", "login": fleet.access.username, "port": fleet.demo.ssh_port}
    s3 = {"conn_type": "aws", "login": store.access.access_key_id, "password": store.access.secret_access_key}
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": str(REPO),
        "PYTHONWARNINGS": "ignore",
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(REPO / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_PINGMESH_SSH": json.dumps(ssh),
        "AIRFLOW_CONN_PINGMESH_BOOTSTRAP": json.dumps(ssh | {"password": PASSWORD}),
        "AIRFLOW_CONN_PINGMESH_S3": json.dumps(s3),
        "PINGMESH_INVENTORY": str(tmp_path / "inventory.csv"),
        "PINGMESH_SSH_DIR": str(tmp_path / "ssh"),
        "PINGMESH_S3_ENDPOINT": str(store.access.endpoint),
        "PINGMESH_S3_BUCKET": store.access.bucket,
        "PINGMESH_SHARD_SIZE": "2",
        "PINGMESH_COLLECT_GRACE_S": "0",
        "PINGMESH_MAX_FAILED_SHARE": "1",  # on a busy machine an agent has not written its status yet
    }


def run_dag(name: str, environment: dict[str, str]) -> list[list[list]]:
    """Run a DAG with sound settings and with a fault; return the tasks of both runs."""
    command = [sys.executable, "-c", PROGRAM, str(REPO / "dags"), name]
    ended = subprocess.run(command, env=environment, cwd=REPO, capture_output=True, text=True, timeout=240)
    runs = [line.removeprefix("RESULT ") for line in ended.stdout.splitlines() if line.startswith("RESULT ")]
    assert len(runs) == 2, ended.stdout[-3000:] + ended.stderr[-3000:]
    return [json.loads(run) for run in runs]


def test_a_first_run_starts_the_agents_shard_by_shard_and_a_fault_of_the_settings_fails_the_first_task(environment):
    first, faulty = run_dag("pingmesh", environment)
    states = {(task, shard): state for task, shard, state, _ in first}
    for shard in ("000-of-002", "001-of-002"):
        assert states["shard.ensure_keys", shard] == "success"
        assert states["shard.dispatch_agents", shard] == "success"
        assert ("shard.collect_segments", shard) in states
    assert states["check_fleet", None] == "success"
    assert ["plan_pinglists", None, "failed", 1] in faulty, "a fault of the settings is not retried"
