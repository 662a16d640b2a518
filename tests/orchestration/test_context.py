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
