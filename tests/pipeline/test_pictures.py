"""Pictures of a window and its matrix: under which keys, and which windows they show."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime

import polars as pl
import pytest

from pingmesh_tasks.pipeline import mesh_matrix, pictures
from pingmesh_tasks.pipeline.plan import plan_window, read_inventory
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.tables import write_table
from pingmesh_tasks.topology.axis import HostAxis
from pingmesh_tasks.windows import window_containing
from tests.pipeline.conftest import HOSTS, WINDOW
from tests.support.memory_store import contents
from tests.support.mesh_frames import mesh_frame


@pytest.fixture
def part(run):
    """The windows before WINDOW, and itself, have pairs."""
    part = plan_window(run)[0]
    for step in (-5, -3, -2, -1, 0):
        window = WINDOW.shifted(step)
        frame = mesh_frame(read_inventory(run, part), window, step + 10, full=True)
        write_table(run.store, "pair_latency", window, frame, part.shard)
    return part


@pytest.mark.parametrize("kind", ["heatmap", "history", "cdf", "bars"])
def test_a_picture_is_a_png_under_its_window_and_latest(run, store, part, kind):
    keys = pictures.draw(kind, run, part)
    assert keys == [layout.artifact(kind, WINDOW, "png"), layout.latest_artifact(kind, "png")]
    assert {store.get(key)[:4] for key in keys} == {b"\x89PNG"}


def test_a_backfill_does_not_replace_a_newer_latest(store):
    newer = WINDOW.shifted(1)
    assert pictures.keep(store, "heatmap", newer, {"png": b"new"})[1] == layout.latest_artifact("heatmap", "png")
    assert pictures.keep(store, "heatmap", WINDOW, {"png": b"old"}) == [layout.artifact("heatmap", WINDOW, "png")]
    assert store.get(layout.latest_artifact("heatmap", "png")) == b"new"
    assert store.get(layout.artifact("heatmap", WINDOW, "png")) == b"old"


def test_a_window_that_is_drawn_again_is_latest_again(store):
    pictures.keep(store, "heatmap", WINDOW, {"png": b"one"})
    pictures.keep(store, "heatmap", WINDOW, {"png": b"two"})
    assert store.get(layout.latest_artifact("heatmap", "png")) == b"two"


def test_other_kinds_do_not_count(store):
    pictures.keep(store, "cdf", WINDOW.shifted(5), {"png": b"x"})
    assert pictures.is_newest(store, "heatmap", WINDOW)


def test_a_newer_window_of_a_later_day_counts(store):
    today = window_containing(datetime.now(UTC), 300)
    pictures.keep(store, "heatmap", today, {"png": b"today"})
    for days_ago in (1, 3):
        assert not pictures.is_newest(store, "heatmap", today.shifted(-288 * days_ago))
    assert pictures.is_newest(store, "heatmap", today.shifted(1))


def test_every_ending_has_its_keys(store):
    keys = pictures.keep(store, "timeline", WINDOW, {"webp": b"w", "html": b"h"})
    assert store.get(layout.artifact("timeline", WINDOW, "html")) == b"h"
    assert store.get(layout.latest_artifact("timeline", "webp")) == b"w"
    assert len(keys) == 4


def test_a_history_shows_the_last_windows_that_have_pairs_oldest_first(run, part):
    last = pictures._last_windows(run, 4, ["src", "dst"])
    assert [window for window, _ in last] == [WINDOW.shifted(step) for step in (-3, -2, -1, 0)]
    assert [sum(frame.height for frame in frames) for _, frames in last] == [30] * 4
    assert pictures._last_windows(run, 6, ["src"])[0][0] == WINDOW.shifted(-5)


def test_the_matrix_has_a_part_a_metric_and_the_groups(run, store, part):
    told = mesh_matrix.build_mesh_map(run, part)
    written = contents(store, layout.table_prefix("mesh_map", WINDOW), layout.table_prefix("group_latency", WINDOW))
    assert told == {"hosts": len(HOSTS), "bytes": sum(map(len, written.values()))}
    assert layout.table("group_latency", WINDOW, "mesh") in written
    assert layout.table("mesh_map", WINDOW, "change") in written


def test_the_matrix_twice_leaves_equal_objects(run, store, part):
    mesh_matrix.build_mesh_map(run, part)
    first = contents(store)
    mesh_matrix.build_mesh_map(run, part)
    assert contents(store) == first


def test_a_mesh_that_is_too_large_for_a_matrix_has_groups(run, store, part, monkeypatch, caplog):
    monkeypatch.setattr(mesh_matrix.build, "MOST_HOSTS", 5)
    mesh_matrix.build_mesh_map(run, part)
    assert store.keys(layout.table_prefix("mesh_map", WINDOW)) == []
    assert store.keys(layout.table_prefix("group_latency", WINDOW))
    assert "no map is made of 6 hosts: the most is 5" in caplog.text


def test_pairs_may_come_in_any_slices(run, store, part, monkeypatch):
    mesh_matrix.build_mesh_map(run, part)
    whole = contents(store, layout.table_prefix("mesh_map", WINDOW))
    monkeypatch.setattr(mesh_matrix, "ROWS_AT_ONCE", 7)
    mesh_matrix.build_mesh_map(run, part)
    assert contents(store, layout.table_prefix("mesh_map", WINDOW)) == whole


def test_the_medians_of_the_baseline_are_those_of_the_newest_window_before(run, store, part):
    from pingmesh_tasks.detect.mesh.baseline import update_baseline
    from pingmesh_tasks.store.tables import read_table

    axis = HostAxis.of(read_inventory(run, part))
    mesh_matrix.build_mesh_map(run, part)
    without = contents(store, layout.table_prefix("mesh_map", WINDOW))
    pairs = read_table(store, "pair_latency", WINDOW.shifted(-2))
    write_table(store, "normal", WINDOW.shifted(-1), update_baseline(None, pairs, read_inventory(run, part)))
    mesh_matrix.build_mesh_map(run, part)
    changed = contents(store, layout.table_prefix("mesh_map", WINDOW))
    key = layout.table("mesh_map", WINDOW, "change")
    assert changed[key] != without[key]
    assert len(axis.hosts) == 6
    later = replace(run, window=WINDOW.shifted(-2))
    mesh_matrix.build_mesh_map(later, part)  # no baseline is older than this window


def test_the_matrix_shows_what_was_measured_in_its_window(run, store, part):
    mesh_matrix.build_mesh_map(run, part)
    mesh_matrix.build_mesh_map(replace(run, window=WINDOW.shifted(-1)), part)
    mesh_matrix.build_mesh_map(replace(run, window=WINDOW.shifted(3)), part)  # nothing was measured then
    for table, kind in (("mesh_map", "p50"), ("group_latency", "mesh")):
        windows = [WINDOW, WINDOW.shifted(-1), WINDOW.shifted(3)]
        parts = [store.get(layout.table(table, window, kind)) for window in windows]
        columns = [pl.read_parquet(io.BytesIO(part)).to_dict(as_series=False) for part in parts]
        assert columns[0] != columns[1] != columns[2] != columns[0], table
