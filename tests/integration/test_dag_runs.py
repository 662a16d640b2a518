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
#: Prints what became of each task: id, name of the mapped instance, state.
PROGRAM = """
import json, sys
from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
from airflow.models.dagbundle import DagBundleModel
from airflow.utils.db import initdb
from airflow.utils.session import create_session
initdb()
with create_session() as session:
    session.merge(DagBundleModel(name="dags-folder"))
dags, name = sys.argv[1:3]
bag = DagBag(dags, collect_dags=False, bundle_path=dags, bundle_name="dags-folder")
bag.process_file(f"{dags}/{name}.py")
assert not bag.import_errors, bag.import_errors
bag.dags[name].deadline = None  # dag.test() of Airflow 3.3 cannot store it
sync_bag_to_db(bag, "dags-folder", None)
run = bag.dags[name].test()
told = [[ti.task_id, ti.rendered_map_index, str(ti.state), ti.try_number] for ti in run.get_task_instances()]
print("RESULT " + json.dumps(told))
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
    }


def run_dag(name: str, environment: dict[str, str]) -> list[list]:
    command = [sys.executable, "-c", PROGRAM, str(REPO / "dags"), name]
    ended = subprocess.run(command, env=environment, cwd=REPO, capture_output=True, text=True, timeout=240)
    told = [line for line in ended.stdout.splitlines() if line.startswith("RESULT ")]
    assert told, ended.stdout[-3000:] + ended.stderr[-3000:]
    return json.loads(told[-1].removeprefix("RESULT "))


def test_the_first_run_of_pingmesh_starts_the_agents_and_names_its_shards(environment):
    told = run_dag("pingmesh", environment)
    print(told)
    of = {(task, name): state for task, name, state, _ in told}
    for task in ("ensure_keys", "dispatch_agents"):
        for shard in ("000-of-002", "001-of-002"):
            assert of[f"shard.{task}", shard] == "success"
    assert of["shard.collect_segments", "000-of-002"] == "skipped"
    assert of["detect_anomalies", None] == "skipped"
    assert of["check_fleet", None] == "success"


def test_a_fault_of_the_settings_fails_the_first_task_at_its_first_try(environment):
    told = run_dag("pingmesh", environment | {"PINGMESH_WINDOW": "300"})
    states = {task: (state, tries) for task, _, state, tries in told}
    assert states["plan_pinglists"] == ("failed", 1)
