"""The stages of the access logs: a log of this machine stands in for a data server's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from pingmesh_tasks.access import sessions
from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.pipeline import access_logs, usage_pictures
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.tables import read_part, read_table, write_table
from pingmesh_tasks.windows import window_containing
from tests.pipeline.conftest import SERVER, WINDOW
from tests.support.memory_store import contents

SAMPLES = Path(__file__).parents[1] / "samples" / "mdsplus"
LINES = (SAMPLES / "access-inetd.log").read_bytes().splitlines(keepends=True)


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """The data server's folder of logs: 60 lines, and an empty errors log."""
    (tmp_path / "access.log").write_bytes(b"".join(LINES[:60]))
    (tmp_path / "errors.log").touch()
    return tmp_path


def all_stages(run):
    collected = access_logs.collect_logs(run, SERVER)
    built = access_logs.build_access_tables(run, SERVER)
    paired = access_logs.pair_sessions(run, SERVER)
    return collected | built | paired | access_logs.summarize_usage(run, SERVER)


def status(store, window=WINDOW):
    rows = read_part(store, "log_status", window, SERVER)
    return {kind: (outcome, detail) for kind, outcome, detail in rows.select("kind", "outcome", "detail").iter_rows()}


def test_every_line_becomes_a_row_or_a_rejected_line(run, store, logs):
    told = all_stages(run)
    assert told["lines"] == 60 == told["client"] + told["operation"] + told["rejected"]
    assert (told["new_bytes"], told["backlog_bytes"], told["lost_bytes"]) == (len(b"".join(LINES[:60])), 0, 0)
    assert read_part(store, "client", WINDOW, SERVER).height == told["client"] > 0
    assert read_part(store, "operation", WINDOW, SERVER).height == told["operation"] > 0
    assert read_part(store, "session", WINDOW, SERVER).height == told["sessions"] > 0
    assert read_part(store, "usage", WINDOW, SERVER).height == told["figures"] > 0
    assert set(read_table(store, "session", WINDOW)["server"]) == {SERVER}


def test_both_logs_have_a_row_of_their_own(run, store, logs):
    access_logs.collect_logs(run, SERVER)
    assert {kind: outcome for kind, (outcome, _) in status(store).items()} == {"access": "first", "errors": "first"}
    rows = read_part(store, "log_status", WINDOW, SERVER)
    assert set(rows["window"]) == {WINDOW.start}
    assert rows.filter(kind="access")["new_bytes"].item() == len(b"".join(LINES[:60]))


def test_a_server_without_an_errors_log_has_one_row(run, store, logs, inventory_file):
    text = inventory_file.read_text()
    inventory_file.write_text(text.replace(f"errors_path: {logs}/errors.log, ", ""))
    access_logs.collect_logs(run, SERVER)
    assert set(status(store)) == {"access"}


def test_the_next_window_brings_what_was_added(run, store, logs):
    all_stages(run)
    with (logs / "access.log").open("ab") as log:
        log.write(b"".join(LINES[60:90]))
    later = replace(run, window=WINDOW.shifted(1))
    assert all_stages(later)["lines"] == 30
    assert status(store, later.window)["access"][0] == "grown"


def test_the_same_run_twice_leaves_equal_objects(run, store, logs):
    def tables():
        every = contents(store, "tables/", "raw/", "quarantine/")
        return {key: data for key, data in every.items() if "log_status" not in key}

    all_stages(run)
    first = tables()
    all_stages(run)
    assert tables() == first
    assert status(store)["access"][0] == "adopted"


def test_a_window_that_brought_nothing_has_empty_tables(run, store, logs):
    all_stages(run)
    quiet = replace(run, window=WINDOW.shifted(1))
    told = all_stages(quiet)
    assert (told["lines"], told["new_bytes"]) == (0, 0)
    assert read_part(store, "client", quiet.window, SERVER).is_empty()
    assert status(store, quiet.window)["access"][0] == "quiet"


def test_a_server_that_cannot_be_reached_is_a_row_for_each_log_and_no_collection(run, store, fleet, logs):
    fleet.sick[SERVER] = ("unreachable", "10.0.0.9 port 2222: no route to host")
    assert access_logs.collect_logs(run, SERVER) == {"new_bytes": 0, "backlog_bytes": 0, "lost_bytes": 0}
    told = ("unreachable", "10.0.0.9 port 2222: no route to host")
    assert status(store) == {"access": told, "errors": told}
    assert fleet.done == [("ensure_keys", [SERVER])]


def test_a_log_that_is_missing_is_a_row_and_the_other_is_collected(run, store, logs):
    (logs / "access.log").unlink()
    access_logs.collect_logs(run, SERVER)
    assert status(store)["access"][0] == "missing"
    assert status(store)["errors"][0] == "first"


def test_a_server_may_take_as_long_as_both_of_its_logs_need(run, fleet, logs, inventory_file):
    access_logs.collect_logs(run, SERVER)
    assert fleet.extra_s == 2 * 2 * 20
    assert fleet.done == [("ensure_keys", [SERVER]), ("collect_logs", [SERVER])]


def test_a_window_takes_no_more_of_a_log_than_the_settings_allow(new_run, store, logs):
    line = LINES[1]
    with (logs / "access.log").open("wb") as log:
        log.write(line * (5 * 2**20 // len(line)))
    told = access_logs.collect_logs(new_run(log_mib_per_window=2), SERVER)
    assert told["new_bytes"] <= 3 * 2**20 < told["backlog_bytes"] + told["new_bytes"]
    assert told["backlog_bytes"] > 0


def test_sessions_that_are_open_are_carried_into_the_next_window(run, store, logs):
    all_stages(run)
    open_before = read_part(store, "session", WINDOW, SERVER).filter(pl.col("ended_by").is_null())
    quiet = replace(run, window=WINDOW.shifted(1))
    all_stages(quiet)
    carried = read_part(store, "session", quiet.window, SERVER)
    assert open_before.height > 0
    assert set(open_before["pid"]) <= set(carried["pid"])


def test_what_an_errors_log_says_is_a_table(run, store, logs):
    (logs / "errors.log").write_bytes(b"Access denied: mallory\nConnected: alice\n")
    all_stages(run)
    assert sorted(read_part(store, "server_error", WINDOW, SERVER)["user"]) == ["alice", "mallory"]


def test_the_names_of_the_data_servers_are_those_of_the_inventory(run, inventory_file):
    assert access_logs.server_names(run) == [SERVER]
    inventory_file.write_text("hosts: [{name: a, address: 10.0.0.1}, {name: b, address: 10.0.0.2}]\n")
    assert access_logs.server_names(run) == []


@pytest.mark.parametrize("stage", ["collect_logs", "build_access_tables", "summarize_usage"])
def test_a_server_that_left_the_inventory_is_named(run, stage):
    with pytest.raises(ConfigError, match="no longer has the log server 'data9'"):
        getattr(access_logs, stage)(run, "data9")


def test_the_report_of_a_window_and_of_its_day_are_drawn(run, store, logs):
    all_stages(run)
    day = window_containing(WINDOW.start, 86_400)
    keys = usage_pictures.draw_usage(run)
    assert set(keys) == {
        *(layout.artifact("usage", WINDOW, ending) for ending in ("png", "html")),
        *(layout.artifact("usage_day", day, ending) for ending in ("png", "html")),
        *(layout.latest_artifact(kind, end) for kind in ("usage", "usage_day") for end in ("png", "html")),
    }
    assert all(len(store.get(key)) > 1000 for key in keys)


def test_a_window_without_usage_is_not_drawn(run):
    with pytest.raises(ConfigError, match="window 20261121T220500Z has no usage to draw"):
        usage_pictures.draw_usage(run)


def test_a_day_of_many_windows_is_shown_by_the_hour(run, store, logs, monkeypatch):
    all_stages(run)
    usage = read_part(store, "usage", WINDOW, SERVER)
    windows = [WINDOW, WINDOW.shifted(1), WINDOW.shifted(11)]
    for window in windows[1:]:
        write_table(
            store, "usage", window, usage.with_columns(window=pl.lit(window.start).cast(usage["window"].dtype)), SERVER
        )
    assert set(usage_pictures._usage_of_day(store, windows)["window"]) == {window.start for window in windows}
    monkeypatch.setattr(usage_pictures, "MAX_SPANS", 2)
    hours = {window_containing(window.start, 3600).start for window in windows}
    assert set(usage_pictures._usage_of_day(store, windows)["window"]) == hours
    assert len(hours) == 2


def test_users_online_are_counted_step_by_step(run, store, logs):
    all_stages(run)
    online = usage_pictures._online(store, WINDOW, 60)
    assert set(online["server"]) == {SERVER}
    assert online.height >= 60
    assert usage_pictures._online(store, WINDOW.shifted(5), 60).is_empty()


@pytest.mark.parametrize("errors_path", [True, False])
def test_refusals_tell_of_sessions_only_where_both_logs_were_read_to_their_end(
    run, store, logs, inventory_file, monkeypatch, errors_path
):
    given = []
    pair = sessions.pair_sessions
    monkeypatch.setattr(sessions, "pair_sessions", lambda *args, **more: given.append(more) or pair(*args, **more))
    if not errors_path:
        inventory_file.write_text(inventory_file.read_text().replace(f"errors_path: {logs}/errors.log, ", ""))
    all_stages(run)
    assert (given[0]["errors"] is not None) is errors_path
    assert given[0]["caught_up"] is True
    assert given[0]["operation"].equals(read_part(store, "operation", WINDOW, SERVER))


def test_a_backlog_is_not_caught_up(run, store, logs, monkeypatch):
    given = []
    pair = sessions.pair_sessions
    monkeypatch.setattr(sessions, "pair_sessions", lambda *args, **more: given.append(more) or pair(*args, **more))
    access_logs.collect_logs(run, SERVER)
    behind = read_part(store, "log_status", WINDOW, SERVER).with_columns(backlog_bytes=pl.lit(7, pl.UInt64))
    write_table(store, "log_status", WINDOW, behind, SERVER)
    access_logs.build_access_tables(run, SERVER)
    access_logs.pair_sessions(run, SERVER)
    assert (given[0]["errors"], given[0]["caught_up"]) == (None, False)
