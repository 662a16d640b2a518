"""Every DAG file: it loads, it is light, and it says what an operator needs to know."""

import os
import subprocess
import sys
from itertools import pairwise

import pytest

from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.orchestration.retry import RETRY_POLICY
from tests.dags.conftest import DAG_FILES, INVENTORY, REPO

HEAVY = ("polars", "pyarrow", "matplotlib", "asyncssh", "obstore", "boto3")
EXPECTED = {
    *("pingmesh", "access_logs", "latency_rollups", "anomaly_alerts", "alert_admin", "fleet_admin", "retention"),
}
TASKS_OF_PINGMESH = {
    "plan_pinglists",
    "shard.ensure_keys",
    "shard.dispatch_agents",
    "shard.collect_segments",
    "shard.build_probe_table",
    "shard.summarize_latency",
    "detect_anomalies",
    "build_mesh_map",
    "render_heatmap",
    "render_history",
    "render_cdf",
    "render_bars",
    "render_timeline",
    "check_fleet",
}


def test_the_dags_are_the_known_ones_and_named_after_their_files(dags):
    assert set(dags) == EXPECTED == {file.stem for file in DAG_FILES}


def test_every_dag_tells_its_purpose_and_what_to_do_when_it_is_red(dags):
    for dag in dags.values():
        assert "When it is red" in dag.doc_md
        assert dag.description
        assert "pingmesh" in dag.tags


def test_every_task_has_a_timeout_and_retries_with_backoff_and_a_doc(dags):
    for dag in dags.values():
        for task in dag.tasks:
            assert task.execution_timeout, task.task_id
            assert task.retries >= 1, task.task_id
            assert task.retry_exponential_backoff, task.task_id
            assert task.doc_md, task.task_id


def test_the_stages_of_pingmesh_run_in_order_a_shard(dags):
    dag = dags["pingmesh"]
    assert set(dag.task_ids) == TASKS_OF_PINGMESH
    chain = ["ensure_keys", "dispatch_agents", "collect_segments", "build_probe_table", "summarize_latency"]
    for earlier, later in pairwise(chain):
        assert f"shard.{later}" in dag.get_task(f"shard.{earlier}").downstream_task_ids
    assert "shard.summarize_latency" in dag.get_task("render_heatmap").upstream_task_ids


def test_a_day_is_rolled_up_after_its_hour_even_where_there_is_no_hour_level(dags):
    dag = dags["latency_rollups"]
    assert dag.get_task("wait_for_windows").downstream_task_ids == {"roll_up_hour"}
    assert dag.get_task("roll_up_hour").downstream_task_ids == {"roll_up_day"}
    assert dag.get_task("roll_up_day").trigger_rule == "none_failed"
    assert dag.get_task("wait_for_windows").reschedule  # no worker is held while it waits


def test_who_has_windows_says_when_they_are_late(dags):
    late = {name: dag.deadline[0].interval.total_seconds() for name, dag in dags.items() if dag.deadline}
    assert late == {"pingmesh": 600, "access_logs": 600, "latency_rollups": 2_700}


def test_retention_deletes_nothing_until_it_is_told_to(dags):
    dag = dags["retention"]
    assert dag.params["dry_run"] is True
    assert dag.params["max_share"] == 0.5
    for bad in (0, 1.1):
        with pytest.raises(Exception, match="Invalid input"):
            dag.params.update({"max_share": bad})
            dag.params.validate()


def test_params_are_checked_before_a_run_starts(dags):
    params = dags["pingmesh"].params
    for name, bad in {"max_failed_share": 2, "protocol": "icmp6", "shard_size": 0, "hosts": "a1"}.items():
        with pytest.raises(Exception, match="Invalid input"):
            params.update({name: bad})
            params.validate()


def test_without_the_spark_provider_the_engine_spark_says_what_to_install(monkeypatch):
    from pingmesh_tasks.orchestration import spark

    monkeypatch.setitem(sys.modules, "airflow.providers.apache.spark.hooks.spark_submit", None)
    with pytest.raises(ConfigError, match=r"pip install 'pingmesh-airflow\[spark\]'"):
        spark._hook_class()


@pytest.mark.parametrize("file", DAG_FILES, ids=lambda file: file.name)
def test_reading_a_dag_file_imports_nothing_heavy(file, tmp_path):
    """Every task process reads it, so what it imports, through our own modules too, is paid for each time."""
    code = f"import runpy, sys; runpy.run_path({str(file)!r}); print(*[m for m in {HEAVY} if m in sys.modules])"
    environment = os.environ | {"AIRFLOW_HOME": str(tmp_path), "PYTHONPATH": str(REPO), "PINGMESH_INVENTORY": "x.csv"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[-2].split() == []


ON_HOSTS = {
    "pingmesh": {"shard.ensure_keys", "shard.dispatch_agents", "shard.collect_segments"},
    "access_logs": {"collect_logs"},
    "fleet_admin": {"act_on_hosts"},
}


def pools_of(dags):
    return {(name, task.task_id): task.pool for name, dag in dags.items() for task in dag.tasks}


def test_tasks_that_use_ssh_run_in_the_pool_of_the_settings_and_no_others(dags, read_dags):
    assert set(pools_of(dags).values()) == {"default_pool"}
    pools = pools_of(read_dags(INVENTORY | {"PINGMESH_SSH_POOL": "pingmesh_ssh"}).dags)
    in_pool = {key for key, pool in pools.items() if pool == "pingmesh_ssh"}
    assert in_pool == {(name, task) for name, tasks in ON_HOSTS.items() for task in tasks}


def test_every_task_has_the_retry_policy(dags):
    for dag in dags.values():
        for task in dag.tasks:
            assert task.retry_policy is RETRY_POLICY, task.task_id


def test_mapped_tasks_are_bounded_and_named_after_what_they_work_on(dags):
    for name, groups in {"pingmesh": "shard", "access_logs": "server"}.items():
        mapped = [task for task in dags[name].tasks if task.map_index_template]
        assert mapped
        for task in mapped:
            assert task.max_active_tis_per_dag == 8, task.task_id
            argument = "part" if groups == "shard" else "server"
            assert f"op_kwargs['{argument}']" in task.map_index_template


@pytest.mark.parametrize("file", DAG_FILES, ids=lambda file: file.name)
def test_a_task_names_the_function_that_it_calls(file):
    text = file.read_text()
    assert "getattr(" not in text
    assert "get_current_context()[" not in text.replace('get_current_context()["params"]', "")
