"""Hours out of windows and days out of hours, over objects in memory."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest

from pingmesh_tasks.alerting.state_file import AlertFile
from pingmesh_tasks.detect.finding import Evaluation
from pingmesh_tasks.errors import StoreError
from pingmesh_tasks.pipeline import late_data, rollups
from pingmesh_tasks.pipeline.incidents import update_incidents
from pingmesh_tasks.pipeline.mesh_matrix import build_mesh_map
from pingmesh_tasks.pipeline.run import Part, load_run_inventory
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.tables import read_table, write_table
from pingmesh_tasks.topology.inventory import Inventory
from pingmesh_tasks.topology.pinglist import plan_document, plan_version
from pingmesh_tasks.windows import Window
from tests.support.memory_store import contents
from tests.support.merged_pairs import merge_pairs
from tests.support.mesh_frames import Faults, inventory_of, mesh_frame

HOUR = Window.parse("20261121T220000Z", 3_600)
DAY = Window.parse("20261121T000000Z", 86_400)
MESH = inventory_of(8)
NAMES = [host.name for host in MESH.hosts]
WINDOWS = [Window(HOUR.start, 900).shifted(step) for step in range(4)]


@pytest.fixture
def run(new_run):
    return new_run(HOUR, window_s=900, lease_s=3600)


def measured(window: Window, mesh: Inventory = MESH) -> pl.DataFrame:
    return mesh_frame(mesh, window, seed=window.start.minute, faults=Faults(dead=[NAMES[5]]))


def leave_window(run, window: Window, mesh: Inventory = MESH, shards: int = 2) -> None:
    """Write what a run of `pingmesh` leaves of a window."""
    plan, names = plan_version(mesh), [host.name for host in mesh.hosts]
    run.store.put(layout.plan(plan), plan_document(mesh))
    for i in range(shards):
        its_hosts = names[len(names) * i // shards : len(names) * (i + 1) // shards]
        part = measured(window, mesh).filter(pl.col("src").is_in(its_hosts)).sort("src", "dst", "protocol")
        write_table(run.store, "pair_latency", window, part, layout.shard(i, shards))
    build_mesh_map(replace(run, window=window), Part(plan, layout.shard(0, shards)))


def pairs_of(run, level: str, window: Window) -> pl.DataFrame:
    return read_table(run.store, f"pair_latency_{level}", window).sort("src", "dst", "protocol")


def test_an_hour_is_the_sum_of_its_windows(run, store):
    for window in WINDOWS:
        leave_window(run, window)
    told = rollups.roll_up(run, "hour")
    merged = pairs_of(run, "hour", HOUR)
    assert merged.equals(merge_pairs([measured(window) for window in WINDOWS], HOUR))
    assert told == {"made_of": 4, "missing": 0, "pairs": 56, "silent": 7, "rows": 4 * 56}
    assert len(store.keys(layout.table_prefix("pair_latency_hour", HOUR))) == 2
    for table in ("sla_hour", "group_latency_hour", "mesh_map_hour"):
        assert store.keys(layout.table_prefix(table, HOUR)), table
    report = store.get(layout.artifact("sla_hour", HOUR, "csv")).decode().splitlines()
    assert report[0].startswith("window,") and len(report) > 1
    assert read_table(store, "sla_hour", HOUR).height == len(report) - 1


def test_a_day_is_made_of_its_hours(run):
    for window in WINDOWS:
        leave_window(run, window)
    rollups.roll_up(run, "hour")
    told = rollups.roll_up(run, "day")
    assert (told["made_of"], told["missing"]) == (1, 22), "hours after the run's are not missing yet"
    assert pairs_of(run, "day", DAY)["sent"].sum() == pairs_of(run, "hour", HOUR)["sent"].sum()


def test_a_missing_window_is_counted_and_taken_in_by_the_next_run(run, caplog):
    for window in WINDOWS[1:]:
        leave_window(run, window)
    assert not rollups.is_ready(run)
    told = rollups.roll_up(run, "hour")
    assert (told["made_of"], told["missing"]) == (3, 1)
    assert "hour 20261121T220000Z: 1 of 4 windows are not there (yet)" in caplog.text
    leave_window(run, WINDOWS[0])
    assert rollups.is_ready(run)
    assert rollups.roll_up(run, "hour")["missing"] == 0
    assert pairs_of(run, "hour", HOUR)["sent"].max() == 4 * 30


def test_the_same_roll_up_twice_leaves_equal_objects(run, store):
    for window in WINDOWS:
        leave_window(run, window)
    for level in ("hour", "day"):
        rollups.roll_up(run, level)
    first = contents(store)
    for level in ("hour", "day"):
        rollups.roll_up(run, level)
    assert contents(store) == first


def test_what_was_made_of_more_windows_than_are_left_is_kept(run, store):
    for window in WINDOWS:
        leave_window(run, window)
    rollups.roll_up(run, "hour")
    before = contents(store, "tables/pair_latency_hour/")
    store.delete(store.keys(layout.table_prefix("pair_latency", WINDOWS[0])))
    with pytest.raises(rollups.NothingToMerge, match="made of 4 windows, of which only 3 are left: kept as it is"):
        rollups.roll_up(run, "hour")
    assert contents(store, "tables/pair_latency_hour/") == before


@pytest.mark.parametrize("shards", [(2, 3), (4, 1)])
def test_windows_that_were_divided_otherwise_lose_and_double_nothing(run, shards):
    leave_window(run, WINDOWS[0], shards=shards[0])
    leave_window(run, WINDOWS[1], shards=shards[1])
    rollups.roll_up(run, "hour")
    assert pairs_of(run, "hour", HOUR).equals(merge_pairs([measured(window) for window in WINDOWS[:2]], HOUR))


def test_hosts_that_left_the_inventory_within_the_hour_keep_their_pairs(run):
    smaller = Inventory(MESH.hosts[2:], has_topology=True)
    leave_window(run, WINDOWS[0])
    leave_window(run, WINDOWS[1], smaller)
    rollups.roll_up(run, "hour")
    assert NAMES[0] in set(pairs_of(run, "hour", HOUR)["src"])
    frames = [measured(WINDOWS[0]), measured(WINDOWS[1], smaller)]
    assert pairs_of(run, "hour", HOUR).equals(merge_pairs(frames, HOUR))


def test_shards_of_an_earlier_roll_up_are_deleted(run, store):
    leave_window(run, WINDOWS[0], shards=4)
    rollups.roll_up(run, "hour")
    assert len(store.keys(layout.table_prefix("pair_latency_hour", HOUR))) == 4
    leave_window(run, WINDOWS[1], shards=2)
    rollups.roll_up(run, "hour")
    assert len(store.keys(layout.table_prefix("pair_latency_hour", HOUR))) == 2


def test_windows_of_before_plans_were_noted_are_laid_out_by_the_inventory_of_now(run, store, inventory_file):
    lines = [
        f"  - {{name: {h.name}, address: {h.address}, dc: {h.dc}, podset: {h.podset}, tor: {h.tor}}}"
        for h in MESH.hosts
    ]
    inventory_file.write_text("\n".join(["hosts:", *lines, ""]))
    write_table(store, "pair_latency", WINDOWS[0], measured(WINDOWS[0]).sort("src", "dst", "protocol"))
    assert rollups.roll_up(run, "hour")["made_of"] == 1
    version = rollups._footer(store, "hour", HOUR)["plan"]
    assert store.find(layout.plan(version)) is not None
    assert store.keys(layout.table_prefix("pair_latency_hour", HOUR)) == [
        layout.table("pair_latency_hour", HOUR, "000-of-001")
    ]
    assert pairs_of(run, "hour", HOUR).height == 56


def test_an_hour_without_a_window_has_nothing_to_merge(run, store):
    with pytest.raises(rollups.NothingToMerge, match="nothing was measured in the hour 20261121T220000Z"):
        rollups.roll_up(run, "hour")
    assert contents(store) == {}


@pytest.mark.parametrize(("window_s", "level"), [(3600, "hour"), (86_400, "day")])
def test_a_level_that_is_no_longer_than_a_window_has_nothing_to_merge(new_run, window_s, level):
    run = new_run(HOUR, window_s=window_s, lease_s=100_000)
    with pytest.raises(rollups.NothingToMerge, match=f"windows of {window_s} s are as long as a {level}"):
        rollups.roll_up(run, level)


def test_a_day_of_windows_of_an_hour_is_made_of_windows(new_run):
    run = new_run(HOUR, window_s=3600, lease_s=100_000)
    leave_window(run, HOUR)
    told = rollups.roll_up(run, "day")
    assert (told["made_of"], told["missing"]) == (1, 22)


def open_late_alert(run):
    finding = late_data.late_data_finding("latency_rollups", "run", 2700, HOUR.end)
    late = Evaluation("latency_rollups", "window", HOUR.end, frozenset({finding.rule}), (finding,))
    update_incidents(run, load_run_inventory(run), [(late, HOUR.end)])


@pytest.mark.parametrize("has_data", [True, False])
def test_two_runs_that_end_close_the_late_data_alert_whether_or_not_there_was_data(run, has_data):
    open_late_alert(run)
    if has_data:
        leave_window(run, WINDOWS[0])
    for _ in range(2):
        try:
            rollups.finish_roll_up(run, "hour", "latency_rollups")
        except rollups.NothingToMerge:
            assert not has_data
    assert AlertFile(run.store).load().open == ()


def test_a_run_that_fails_does_not_close_it(run, store):
    open_late_alert(run)
    leave_window(run, WINDOWS[0])
    [key, *_] = store.keys(layout.table_prefix("pair_latency", WINDOWS[0]))
    store.put(key, store.get(key)[:-100])
    for _ in range(3):
        with pytest.raises(StoreError, match=f"'{key}' is damaged .*; run its window again"):
            rollups.finish_roll_up(run, "hour", "latency_rollups")
    assert len(AlertFile(run.store).load().open) == 1


def test_a_part_that_was_replaced_since_it_was_listed_is_left_to_the_next_run(run, store, monkeypatch):
    leave_window(run, WINDOWS[0])
    keys = store.keys
    gone = layout.table("pair_latency", WINDOWS[1], "000-of-002")
    prefix = layout.table_prefix("pair_latency", WINDOWS[1])
    monkeypatch.setattr(store, "keys", lambda of: [gone] if of == prefix else keys(of))
    assert rollups.roll_up(run, "hour")["made_of"] == 2
    assert pairs_of(run, "hour", HOUR).equals(merge_pairs([measured(WINDOWS[0])], HOUR))
