from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.windows import window_containing

pytestmark = pytest.mark.integration  # Airflow takes seconds to import


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("AIRFLOW_HOME", str(tmp_path_factory.mktemp("airflow")))
    from pingmesh_tasks.orchestration import context

    yield context
    patch.undo()


def dag_run(kind: str, start: datetime | None, run_after: datetime):
    from airflow.sdk.api.datamodels._generated import DagRunType

    return SimpleNamespace(run_type=DagRunType(kind), data_interval_start=start, run_after=run_after)


NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_a_scheduled_run_works_on_its_data_interval(context):
    run = dag_run("scheduled", NOON, NOON + timedelta(minutes=5))
    assert context.window_of(run, 300).id == "20261121T120000Z"


def test_a_run_without_an_interval_works_on_the_last_complete_window(context):
    run = dag_run("asset_triggered", None, NOON + timedelta(minutes=7))
    assert context.window_of(run, 300).id == "20261121T120000Z"


def test_a_backfill_leaves_the_agents_alone_however_recent_its_window_is(context):
    window = window_containing(datetime.now(UTC), 300).shifted(-1)
    assert context.is_past(dag_run("backfill", window.start, window.end), window)
    assert not context.is_past(dag_run("scheduled", window.start, window.end), window)


def test_a_run_of_an_old_window_leaves_the_agents_alone(context):
    window = window_containing(datetime.now(UTC), 300).shifted(-5)
    assert context.is_past(dag_run("manual", window.start, window.end), window)


def test_a_form_changes_what_it_offers_and_a_conf_nothing_else(context):
    from pingmesh_tasks.settings import load_settings

    settings = load_settings({"PINGMESH_INVENTORY": "x.csv"})
    conf = {"protocol": "udp", "shard_size": 7, "agent_home": "/etc", "ssh_dir": "/tmp/mine", "agent_lab": True}
    changed = context.with_form(settings, conf)
    assert (changed.protocol, changed.shard_size) == ("udp", 7)
    assert changed.model_dump() == settings.model_dump() | {"protocol": "udp", "shard_size": 7}


def test_a_value_that_no_form_would_let_through_is_refused(context):
    from pingmesh_tasks.settings import load_settings

    with pytest.raises(ConfigError, match="shard_size"):
        context.with_form(load_settings({"PINGMESH_INVENTORY": "x.csv"}), {"shard_size": 0})


@pytest.fixture
def task(context, monkeypatch, tmp_path):
    """Play the context of a running task: return a function that sets its run and Params."""
    monkeypatch.setenv("PINGMESH_INVENTORY", "hosts.csv")
    monkeypatch.setenv("PINGMESH_SSH_DIR", str(tmp_path))
    monkeypatch.setenv("AIRFLOW_CONN_PINGMESH_SSH", '{"conn_type": "ssh", "login": "probe"}')
    monkeypatch.setenv("AIRFLOW_CONN_PINGMESH_S3", '{"conn_type": "aws", "login": "key", "password": "hidden"}')
    monkeypatch.delenv("AIRFLOW_CONN_PINGMESH_BOOTSTRAP", raising=False)

    def play(kind: str = "scheduled", windows_ago: int = 1, params: dict | None = None, parts: list | None = None):
        window = window_containing(datetime.now(UTC), 300).shifted(-windows_ago)
        pulled = SimpleNamespace(xcom_pull=lambda task_ids: parts if task_ids == "plan_pinglists" else None)
        run = dag_run(kind, window.start, window.end)
        monkeypatch.setattr(
            context, "get_current_context", lambda: {"dag_run": run, "params": params or {}, "ti": pulled}
        )
        return window

    return play


def test_a_task_gets_its_window_its_params_and_its_accesses(context, task, monkeypatch):
    window = task(params={"hosts": ["db-1"], "shard_size": 7, "protocol": None, "dry_run": True})
    run = context.current_run()
    assert (run.window, run.only_hosts, run.settings.shard_size, run.settings.protocol) == (window, ("db-1",), 7, "tcp")
    assert (run.ssh.username, run.bootstrap, run.dispatches) == ("probe", None, True)
    assert run.store.access.access_key_id == "key"
    monkeypatch.setenv("AIRFLOW_CONN_PINGMESH_BOOTSTRAP", '{"conn_type": "ssh", "login": "root", "password": "x"}')
    assert context.current_run().bootstrap.username == "root"


def test_a_dag_of_hours_has_windows_of_an_hour(context, task):
    task()
    assert context.current_run(3_600).window.length_s == 3_600


@pytest.mark.parametrize(
    ("kind", "windows_ago", "live"), [("scheduled", 1, True), ("backfill", 1, False), ("manual", 9, False)]
)
def test_a_run_that_looks_back_skips_what_touches_the_agents(context, task, kind, windows_ago, live):
    from airflow.sdk.exceptions import AirflowSkipException

    task(kind, windows_ago)
    assert context.current_run().dispatches is live
    if live:
        assert context.live_run().dispatches
    else:
        with pytest.raises(AirflowSkipException, match="the agents are left alone"):
            context.live_run()


@pytest.mark.parametrize(("age_s", "past"), [(880, False), (920, True)])
def test_a_window_is_past_three_lengths_after_its_end(context, age_s, past):
    start = datetime.now(UTC) - timedelta(seconds=age_s + 300)
    window = SimpleNamespace(end=start + timedelta(seconds=300), length_s=300)
    assert context.is_past(dag_run("scheduled", start, window.end), window) is past


def test_any_part_of_the_plan_names_it(context, task):
    parts = [{"plan": "0123", "shard": "000-of-002"}, {"plan": "0123", "shard": "001-of-002"}]
    task(parts=parts)
    assert context.planned_part() == context.part_of(parts[0])
    assert context.part_of(parts[1]).shard == "001-of-002"


def test_a_reason_to_skip_skips_the_task_and_another_error_passes(context):
    from airflow.sdk.exceptions import AirflowSkipException

    with pytest.raises(AirflowSkipException, match="nothing was measured"), context.skipped_on(KeyError, LookupError):
        raise LookupError("nothing was measured")
    with pytest.raises(ValueError, match="bad"), context.skipped_on(LookupError):
        raise ValueError("bad")
    with context.skipped_on(LookupError):
        pass
