"""The batch path, from the tables of a window to findings, baseline and incidents."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import polars as pl
import pytest

from pingmesh_tasks.alerting import Policy
from pingmesh_tasks.alerting.state_file import AlertFile
from pingmesh_tasks.detect.finding import Evaluation, Finding
from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.pipeline import access_logs, evaluate_windows, late_data
from pingmesh_tasks.pipeline.history import newest_table
from pingmesh_tasks.pipeline.incidents import incident_counts, policy_of, update_incidents
from pingmesh_tasks.pipeline.plan import plan_window, read_inventory
from pingmesh_tasks.pipeline.run import load_run_inventory
from pingmesh_tasks.store.schemas import HOST_STATUS
from pingmesh_tasks.store.tables import has_table, read_part, read_table, write_table
from pingmesh_tasks.topology.placement import place_of
from tests.pipeline.conftest import HOSTS, SERVER, WINDOW
from tests.support.memory_store import contents
from tests.support.mesh_frames import Faults, mesh_frame


def evaluate(run, step: int, *dead: str):
    """Write the tables of a window in which some hosts are dead, and evaluate it."""
    run = replace(run, window=WINDOW.shifted(step))
    part = plan_window(run)[0]
    frame = mesh_frame(read_inventory(run, part), run.window, step, Faults(dead=dead), full=True)
    write_table(run.store, "pair_latency", run.window, frame, part.shard)
    for stage in ("keys", "collect"):  # the outcomes of other stages are no evidence
        sick = "unreachable" if stage == "collect" else "ok"
        rows = [
            dict.fromkeys(HOST_STATUS)
            | {"window": run.window.start, "host": host, "stage": stage, "detail": ""}
            | {"outcome": sick if host in dead else "ok"}
            for host in HOSTS
        ]
        write_table(
            run.store, "host_status", run.window, pl.DataFrame(rows, schema=HOST_STATUS), f"{stage}-{part.shard}"
        )
    return evaluate_windows.evaluate_mesh_window(run, part)


def leads(run):
    return [(one.lead.finding.rule, one.lead.finding.subject) for one in AlertFile(run.store).load().open]


def test_a_dead_host_is_a_row_of_anomaly_and_an_incident(run, store):
    assert evaluate(run, 0)["findings"] == 0
    told = evaluate(run, 1, "db-4")
    assert (told["open"], told["waiting"]) == (1, 1)
    rows = read_table(store, "anomaly", WINDOW.shifted(1))
    assert rows.height == told["findings"] > 0
    assert set(rows["source"]) == {"mesh"}
    assert "collection says unreachable" in rows.filter(rule="host_down")["detail"].item()
    assert leads(run) == [("host_down", "db-4")]


def test_a_healthy_window_has_an_empty_table_of_findings_and_a_baseline(run, store):
    evaluate(run, 0)
    assert has_table(store, "anomaly", WINDOW)
    assert read_table(store, "anomaly", WINDOW).is_empty()
    assert read_table(store, "normal", WINDOW).height == 6 * 5


def test_the_baseline_goes_on_from_the_newest_window_before(run, store):
    evaluate(run, 0)
    evaluate(run, 2)
    alone = read_table(store, "normal", WINDOW)
    after = read_table(store, "normal", WINDOW.shifted(2))
    assert not after.equals(alone)
    assert newest_table(store, "normal", WINDOW.shifted(3)).equals(after)
    assert newest_table(store, "normal", WINDOW.shifted(1)).equals(alone)
    assert newest_table(store, "normal", WINDOW) is None


def test_a_second_evaluation_of_a_window_leaves_equal_tables(run, store):
    def tables():
        return contents(store, "tables/")

    evaluate(run, 0)
    evaluate(run, 1, "db-4")
    first = tables()
    evaluate(run, 1, "db-4")
    assert tables() == first


def test_a_backfill_writes_its_findings_and_leaves_the_incidents_alone(run, store):
    past = replace(run, dispatches=False)
    told = [evaluate(past, step, "db-4") for step in range(3)]
    assert set(told[2]) == {"findings", "not_evaluated"}
    assert read_table(store, "anomaly", WINDOW.shifted(2)).height > 0
    assert AlertFile(store).load().open == ()
    assert AlertFile(store).load().last_evaluated == {}


def test_a_run_that_ended_in_time_closes_the_late_data_alert(run, store):
    now = datetime.now(UTC)
    for dag_id in ("pingmesh", "access_logs"):
        finding = late_data.late_data_finding(dag_id, "run", 600, now)
        late = Evaluation(dag_id, "window", now, frozenset({finding.rule}), (finding,))
        update_incidents(run, load_run_inventory(run), [(late, now)])
    assert len(leads(run)) == 2
    evaluate(run, 0)
    evaluate(run, 1)
    assert [subject for _, subject in leads(run)] == ["access_logs"]


def test_a_server_that_cannot_be_read_is_counted_as_not_evaluated(run, fleet):
    fleet.sick[SERVER] = ("unreachable", "no route to host")
    for stage in (access_logs.collect_logs, access_logs.build_access_tables, access_logs.pair_sessions):
        stage(run, SERVER)
    told = evaluate_windows.evaluate_access_window(run, SERVER)
    assert (told["findings"], told["not_evaluated"]) == (1, 1), "that it is out of reach, and nothing else"


def test_rules_with_faults_are_an_error(run, tmp_path):
    with pytest.raises(ConfigError, match="PINGMESH_RULES"):
        evaluate(replace(run, settings=run.settings.model_copy(update={"rules": str(tmp_path / "none.yaml")})), 0)


@pytest.fixture
def flooded(run, tmp_path):
    """A log in which bob reads one node 40 times a second for half the window."""
    start = WINDOW.start.strftime("%a %b %e %H:%M")
    lines = [f"{start}:00 2026 (0) (pid 4711) Connection received from bob@ws1.example.org [198.51.100.7]"]
    for number in range(6_000):
        at = f"{start[:-2]}{5 + number // 2400:02d}:{number // 40 % 60:02d} 2026"
        lines.append(f"{at} (pid 4711) GetData called for tree=east, shot=12345, node=\\EAST::TOP.DATA:IP")
    (tmp_path / "access.log").write_text("\n".join(lines) + "\n")
    (tmp_path / "errors.log").touch()
    for stage in (access_logs.collect_logs, access_logs.build_access_tables, access_logs.pair_sessions):
        stage(run, SERVER)
    return run


def test_a_user_who_floods_a_node_is_an_incident_of_the_data_server(flooded, store):
    told = evaluate_windows.evaluate_access_window(flooded, SERVER)
    assert told["findings"] > 0 and told["open"] > 0
    rows = read_table(store, "anomaly", WINDOW)
    assert set(rows["source"]) == {SERVER}
    assert "bob" in set(rows["subject"])
    assert read_table(store, "access_normal", WINDOW).height > 0


def test_the_findings_of_the_mesh_and_of_a_server_do_not_replace_each_other(flooded, store):
    evaluate_windows.evaluate_access_window(flooded, SERVER)
    evaluate(flooded, 0, "db-4")
    assert set(read_table(store, "anomaly", WINDOW)["source"]) == {SERVER, "mesh"}


def test_a_window_without_lines_is_evaluated(run, store):
    told = evaluate_windows.evaluate_access_window(run, SERVER)
    assert told["findings"] == 0
    assert read_table(store, "anomaly", WINDOW).is_empty()


def test_a_server_that_left_the_inventory_is_named(run):
    with pytest.raises(ConfigError, match="data9"):
        evaluate_windows.evaluate_access_window(run, "data9")


def test_an_echo_of_a_fault_may_come_two_windows_later(new_run):
    assert policy_of(new_run(window_s=3600, lease_s=9000).settings).echo_s == 7200
    assert policy_of(new_run(window_s=60).settings).echo_s == Policy().echo_s
    assert policy_of(new_run(alert_repeat_s=77).settings).repeat_s == 77


def test_time_that_passes_is_an_update_too(run):
    now = datetime.now(UTC)
    finding = Finding("host_down", "host", "db-4", "critical", 1, "ratio", 0.9, now, "dead")
    seen = Evaluation("mesh", "window", now, frozenset({"host_down"}), (finding,))
    state = update_incidents(run, load_run_inventory(run), [(seen, now), (None, now)])
    assert incident_counts(state) == {"open": 1, "waiting": 1}
    assert AlertFile(run.store).load() == state


def test_the_rules_of_a_data_server_see_all_that_its_window_brought(flooded, store, monkeypatch):
    from pingmesh_tasks.detect.access import evaluate as rules

    views = []
    look = rules.evaluate_access
    monkeypatch.setattr(rules, "evaluate_access", lambda view, book: views.append(view) or look(view, book))
    evaluate_windows.evaluate_access_window(flooded, SERVER)
    evaluate_windows.evaluate_access_window(replace(flooded, window=WINDOW.shifted(1)), SERVER)
    view, later = views
    assert (view.server, view.at, view.span_s, view.lane) == (SERVER, WINDOW.end, 300, "window")
    for table in ("client", "operation", "session", "server_error", "log_status"):
        assert getattr(view, table).equals(read_part(store, table, WINDOW, SERVER)), table
    assert view.client.height == 1 and view.operation.height > 1000 and view.log_status.height == 2
    assert view.normal is None and later.normal.equals(read_part(store, "access_normal", WINDOW, SERVER))
    inventory = load_run_inventory(flooded)
    assert view.country_of is not None and view.place == place_of(inventory.log_servers[0], inventory)
