"""The hot path, from batches to incidents: what is evaluated, how far back, and what is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from pingmesh_tasks.alerting.state_file import AlertFile
from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.fleet.tailing import Contact, Roster
from pingmesh_tasks.pipeline import evaluate_hot
from pingmesh_tasks.pipeline.run import Run, load_run_inventory
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.hot_batch import HotCursor, HotPiece
from pingmesh_tasks.store.schemas import SCHEMAS
from pingmesh_tasks.store.tables import read_table, write_table
from pingmesh_tasks.topology.placement import place_of
from pingmesh_tasks.windows import window_containing
from tests.support.hot_mesh import (
    HOSTS,
    INVENTORY,
    LOG_SERVERS,
    hammered,
    put_log,
    put_missed_minutes,
    put_pieces,
    put_probes,
)

NOW = datetime(2026, 11, 21, 22, 8, 30, tzinfo=UTC)
#: Batches are put a moment before they are evaluated.
PUT = NOW - timedelta(seconds=1)


@pytest.fixture
def run(new_run: Callable[..., Run], inventory_file: Path) -> Run:
    inventory_file.write_text(INVENTORY + LOG_SERVERS)
    return new_run(window_s=60)


def open_incidents(run: Run) -> list[tuple[str, str]]:
    state = AlertFile(run.store).load()
    return [(incident.lead.finding.rule, incident.lead.finding.subject) for incident in state.open]


def cursor(run: Run) -> HotCursor:
    return HotCursor.decode(run.store.find(layout.hot_cursor()))


def test_a_host_that_died_is_an_incident_and_a_row_of_anomaly(run):
    put_probes(run.store, PUT, dead=lambda second: second > 45)
    told = evaluate_hot.evaluate_hot(run, NOW)
    assert (told["pieces"], told["open"], told["waiting"]) == (8, 1, 1)
    assert open_incidents(run) == [("host_down", "host04")]
    rows = read_table(run.store, "anomaly", window_containing(NOW, 60))
    assert rows.select("rule", "subject", "lane").rows() == [("host_down", "host04", "hot")]
    assert set(rows["at"]) == {NOW}


def test_an_incident_that_is_open_already_is_not_written_again(run):
    put_probes(run.store, PUT, dead=lambda second: second > 45)
    evaluate_hot.evaluate_hot(run, NOW)
    later = NOW + timedelta(seconds=5)
    put_probes(run.store, later - timedelta(seconds=1), dead=lambda second: second > 40)
    assert evaluate_hot.evaluate_hot(run, later)["open"] == 1
    rows = read_table(run.store, "anomaly", window_containing(NOW, 60))
    assert (rows.height, set(rows["at"])) == (1, {NOW})


def test_a_healthy_minute_is_evaluated_and_opens_nothing(run):
    put_probes(run.store, PUT, dead=lambda second: False)
    told = evaluate_hot.evaluate_hot(run, NOW)
    assert (told["findings"], told["open"], told["waiting"]) == (0, 0, 0)
    state = AlertFile(run.store).load()
    assert state.last_evaluated == {"hot mesh": NOW, "hot data1": NOW}


def test_the_cursor_is_at_the_newest_batch_and_asks_for_haste_while_an_incident_is_open(run):
    put_probes(run.store, PUT, dead=lambda second: False)
    [key] = run.store.keys(layout.HOT)
    evaluate_hot.evaluate_hot(run, NOW)
    assert (cursor(run).key, cursor(run).heartbeat_s) == (key, None)
    put_probes(run.store, PUT, dead=lambda second: second > 45)
    later = NOW + timedelta(seconds=1)
    evaluate_hot.evaluate_hot(run, later)
    assert cursor(run).heartbeat_s == 10


def test_without_a_batch_nothing_is_evaluated_and_no_cursor_moves(run):
    assert evaluate_hot.evaluate_hot(run, NOW) == {"pieces": 0, "findings": 0, "open": 0, "waiting": 0}
    assert AlertFile(run.store).load().last_evaluated == {}
    assert run.store.find(layout.hot_cursor()) is None


def test_batches_of_before_the_horizon_and_its_margin_are_not_read(run):
    put_probes(run.store, NOW - timedelta(seconds=77), dead=lambda second: True)
    assert evaluate_hot.evaluate_hot(run, NOW)["pieces"] == 0
    put_probes(run.store, NOW - timedelta(seconds=73), dead=lambda second: True)
    assert evaluate_hot.evaluate_hot(run, NOW)["pieces"] > 0


def test_the_horizon_is_a_setting(new_run, inventory_file):
    inventory_file.write_text(INVENTORY)
    put_probes(new_run().store, NOW - timedelta(seconds=60), dead=lambda second: False)
    assert evaluate_hot.evaluate_hot(new_run(hot_horizon_s=20), NOW)["pieces"] == 0
    assert evaluate_hot.evaluate_hot(new_run(hot_horizon_s=60), NOW)["pieces"] == 8


def test_a_fault_that_came_and_went_in_missed_minutes_is_opened_and_resolved(run):
    put_missed_minutes(run.store, NOW)
    told = evaluate_hot.evaluate_hot(run, NOW + timedelta(milliseconds=1))
    state = AlertFile(run.store).load()
    assert [incident.lead.finding.subject for incident in state.closed] == ["host04"]
    assert [entry.notification.kind for entry in state.outbox] == ["opened", "resolved"]
    assert (told["open"], told["waiting"]) == (0, 2)


def test_catch_up_does_not_hold_up_the_evaluation_of_now(run, monkeypatch):
    monkeypatch.setattr(evaluate_hot, "CATCH_UP_BUDGET_S", 0)
    put_missed_minutes(run.store, NOW)
    later = NOW + timedelta(milliseconds=1)
    assert evaluate_hot.evaluate_hot(run, later)["findings"] == 0
    assert AlertFile(run.store).load().last_evaluated["hot mesh"] == later


@pytest.mark.parametrize(
    ("last_s", "times_s"),
    [
        (None, [0]),
        (0, [0]),
        (60, [0]),
        (61, [60, 45, 30, 15, 0]),
        (74, [60, 45, 30, 15, 0]),
        (75, [75, 60, 45, 30, 15, 0]),
        (299, list(range(285, -1, -15))),
        (300, list(range(300, -1, -15))),
        (86_400, list(range(300, -1, -15))),
    ],
)
def test_catch_up_goes_back_five_minutes_at_most_in_steps_of_fifteen_seconds(last_s, times_s):
    last = None if last_s is None else NOW - timedelta(seconds=last_s)
    times = evaluate_hot.evaluation_times(last, NOW, timedelta(seconds=60))
    assert [(NOW - at).total_seconds() for at in times] == times_s


def test_a_user_who_floods_a_node_is_an_incident_of_the_data_server(run):
    put_log(run.store, PUT, hammered(PUT))
    told = evaluate_hot.evaluate_hot(run, NOW)
    assert told["findings"] > 0
    state = AlertFile(run.store).load()
    assert {incident.source for incident in state.open} == {"data1"}
    rows = read_table(run.store, "anomaly", window_containing(NOW, 60))
    assert rows.height == len(state.open)


def test_a_silent_host_counts_only_where_the_baseline_knows_it(run):
    contacts = tuple(
        Contact(name, "host", 0, name != "host04", 0, "timeout: gone" * (name == "host04")) for name in HOSTS
    )
    at_us = round(PUT.timestamp() * 1e6)
    contacts = tuple(replace(one, heard_us=at_us - 1_000_000, since_us=at_us - 600_000_000) for one in contacts)
    roster = HotPiece("roster", "follow", "0a0b0c0d", 0, Roster(contacts, 0).encode(), at_us)
    put_pieces(run.store, PUT, [roster])
    assert evaluate_hot.evaluate_hot(run, NOW)["findings"] == 0
    row = dict.fromkeys(SCHEMAS["normal"]) | {"src": "host04", "dst": "host01", "protocol": "tcp"}
    baseline = pl.DataFrame([row], schema=SCHEMAS["normal"])
    write_table(run.store, "normal", window_containing(NOW, 60).shifted(-1), baseline)
    later = NOW + timedelta(seconds=2)
    put_pieces(run.store, later - timedelta(seconds=1), [replace(roster, read_at_us=at_us + 2_000_000)])
    evaluate_hot.evaluate_hot(run, later)
    status = AlertFile(run.store).load()
    assert "host04" in {one.lead.finding.subject for one in status.open} | {s.finding.subject for s in status.pending}


def test_rules_with_faults_are_an_error_before_anything_is_evaluated(run, tmp_path):
    put_probes(run.store, PUT, dead=lambda second: second > 45)
    bad = replace(run, settings=run.settings.model_copy(update={"rules": str(tmp_path / "none.yaml")}))
    with pytest.raises(ConfigError, match="PINGMESH_RULES"):
        evaluate_hot.evaluate_hot(bad, NOW)
    assert AlertFile(run.store).load().last_evaluated == {}


def test_the_same_evaluation_twice_changes_nothing(run):
    put_probes(run.store, PUT, dead=lambda second: second > 45)
    evaluate_hot.evaluate_hot(run, NOW)
    first = {key: run.store.get(key) for key in run.store.keys("")}
    evaluate_hot.evaluate_hot(run, NOW)
    assert {key: run.store.get(key) for key in run.store.keys("")} == first


def test_an_evaluation_of_a_data_server_does_not_write_the_incidents_of_the_mesh(run):
    put_probes(run.store, PUT, dead=lambda second: second > 45)
    put_log(run.store, PUT + timedelta(milliseconds=5), hammered(PUT))
    evaluate_hot.evaluate_hot(run, NOW)
    rows = read_table(run.store, "anomaly", window_containing(NOW, 60))
    assert set(rows.filter(subject="host04")["source"]) == {"mesh"}
    assert set(rows.filter(pl.col("subject") != "host04")["source"]) == {"data1"}


def test_the_rules_see_all_that_was_read_of_a_data_server(run, monkeypatch):
    from pingmesh_tasks.detect.access import evaluate as rules

    views = []
    look = rules.evaluate_access
    monkeypatch.setattr(rules, "evaluate_access", lambda view, book: views.append(view) or look(view, book))
    before = window_containing(NOW, 60).shifted(-1)
    session = dict.fromkeys(SCHEMAS["session"]) | {"server": "data1", "user": "bob", "pid": 4711, "last_time": NOW}
    write_table(run.store, "session", before, pl.DataFrame([session], schema=SCHEMAS["session"]), "data1")
    write_table(run.store, "access_normal", before, pl.DataFrame(schema=SCHEMAS["access_normal"]), "data1")
    put_us = round(PUT.timestamp() * 1e6)
    contact = Contact("data1", "log", put_us - 90_000_000, True, put_us - 9_000_000)
    pieces = [
        HotPiece("access", "data1", "1:2", 0, hammered(PUT) + b"no line at all\n", put_us),
        HotPiece("errors", "data1", "1:3", 0, b"Access denied: mallory\n", put_us),
        HotPiece("roster", "follow", "0a0b0c0d", 0, Roster((contact,), 0).encode(), put_us),
    ]
    put_pieces(run.store, PUT, pieces)
    evaluate_hot.evaluate_hot(run, NOW)
    [view] = views
    assert (view.server, view.at, view.span_s, view.lane) == ("data1", NOW, 60, "hot")
    assert (view.client.height, view.operation.height, view.rejected.height) == (1, 1200, 1)
    assert view.server_error["user"].to_list() == ["mallory"]
    assert view.session["user"].to_list() == ["bob"]
    assert view.normal is not None and view.log_status is None
    assert (view.up, view.silent_s) == (True, 1)
    inventory = load_run_inventory(run)
    assert view.country_of is not None and view.place == place_of(inventory.log_servers[0], inventory)


def test_the_rules_on_a_data_server_that_was_lost_see_why(run, monkeypatch):
    from pingmesh_tasks.detect.access import evaluate as rules

    views = []
    look = rules.evaluate_access
    monkeypatch.setattr(rules, "evaluate_access", lambda view, book: views.append(view) or look(view, book))
    put_us = round(PUT.timestamp() * 1e6)
    contacts = (
        Contact("data1", "log", put_us - 29_000_000, False, None, "unreachable: no route"),
        Contact("host01", "host", 0, True, put_us),
    )
    put_pieces(run.store, PUT, [HotPiece("roster", "follow", "0a", 0, Roster(contacts, 0).encode(), put_us)])
    evaluate_hot.evaluate_hot(run, NOW)
    assert (views[0].up, views[0].silent_s) == (False, 30)
    assert views[0].log_status["outcome"].item() == "unreachable"
    assert (views[0].session, views[0].normal) == (None, None)
