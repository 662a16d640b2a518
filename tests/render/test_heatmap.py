import io
from itertools import combinations

import numpy as np
import polars as pl
import pytest
from PIL import Image

from pingmesh_tasks.matrix.states import State
from pingmesh_tasks.render import raster, theme
from pingmesh_tasks.render.heatmap import heatmap_sheet, history_sheet, render_heatmap, render_history
from pingmesh_tasks.render.mesh_cells import axis_for, build_mesh
from pingmesh_tasks.topology.inventory import Host, Inventory
from tests.support.mesh_frames import WINDOW, Faults, inventory_of, mesh_frame
from tests.support.pictures import assert_readable, shown_texts


def painted(pairs, inventory, metric="rtt_p50_us", target=1150):
    """Return (mesh, grid, pixels of the cells)."""
    axis = axis_for(inventory)
    mesh = build_mesh(pairs, axis, metric)
    grid = raster.grid_for(axis, target, 96)
    return mesh, grid, raster.paint(mesh, grid, theme.scale_for(metric, mesh.value))


def cell(pixels, grid, row, column):
    y, x = int(grid.starts[row]), int(grid.starts[column])
    return pixels[y : y + grid.cell, x : x + grid.cell]


def colours(tile):
    return {tuple(c) for c in tile.reshape(-1, 3).tolist()}


def size_of(png):
    image = Image.open(io.BytesIO(png))
    image.load()
    return image.size


@pytest.mark.parametrize("hosts", [8, 100, 200])
def test_failed_missing_not_planned_and_slowest_cells_differ_in_colour_and_in_shape(hosts):
    inventory = inventory_of(hosts, per_tor=4)
    n = [h.name for h in inventory.hosts]
    faults = Faults(silent=[n[3]], failed_pairs=[(n[0], n[1])], slow_pairs={(n[1], n[2]): 1_000})
    _, grid, pixels = painted(mesh_frame(inventory, faults=faults), inventory)
    failed, missing, unplanned, slowest = (cell(pixels, grid, *at) for at in ((0, 1), (3, 1), (2, 2), (1, 2)))
    assert {tuple(c) for c in theme.RAMP[-20:].tolist()} & colours(slowest)
    assert tuple(theme.rgb_of(theme.FAILED)) in colours(failed)
    for one, other in combinations((failed, missing, unplanned, slowest), 2):
        assert np.abs(one.astype(int).mean(axis=(0, 1)) - other.astype(int).mean(axis=(0, 1))).sum() > 40
    shapes = [tile[1:-1, 1:-1].std(axis=(0, 1)).sum() for tile in (failed, missing)]
    assert min(shapes) > 10, "a cross and a hatch are more than a colour"
    assert not np.array_equal(failed.std(axis=2) > 40, missing.std(axis=2) > 40)


def test_zero_loss_is_a_colour_of_its_own_and_not_the_paper_of_missing_data():
    inventory = inventory_of(8, per_tor=2)
    n = [h.name for h in inventory.hosts]
    pairs = mesh_frame(inventory, faults=Faults(silent=[n[3]], lossy_pairs={(n[0], n[1]): 0.0, (n[0], n[2]): 0.5}))
    _, grid, pixels = painted(pairs, inventory, "loss")
    zero, half, missing = (cell(pixels, grid, *at) for at in ((0, 1), (0, 2), (3, 0)))
    assert tuple(theme.rgb_of(theme.ZERO_LOSS)) in colours(zero)
    assert tuple(theme.rgb_of(theme.ZERO_LOSS)) not in colours(half) | colours(missing)


def test_loss_is_marked_by_a_triangle_that_grows_with_it():
    inventory = inventory_of(8, per_tor=2)
    n = [h.name for h in inventory.hosts]
    shares = {(n[0], n[i]): share for i, share in enumerate((0.0, 0.02, 0.1, 0.5), 1)}
    pairs = mesh_frame(inventory, faults=Faults(lossy_pairs=shares), sent=100)
    _, grid, pixels = painted(pairs, inventory)
    mark = theme.rgb_of(theme.LOSS_MARK)
    areas = [(cell(pixels, grid, 0, i) == mark).all(axis=2).sum() for i in range(1, 5)]
    assert areas[0] == 0 and areas == sorted(areas) and len(set(areas)) == 4


@pytest.mark.parametrize("hosts", [1_000, 2_500])
def test_a_dead_host_leaves_a_red_mark_in_the_cells_of_its_tor(hosts):
    inventory = inventory_of(hosts, per_tor=20, podsets=2 if hosts == 1_000 else 5)
    dead = len(inventory.hosts) // 3
    pairs = mesh_frame(inventory, faults=Faults(dead=[inventory.hosts[dead].name]), ladder=False)
    mesh, grid, pixels = painted(pairs, inventory)
    column = int(mesh.axis.member[dead])
    marked = [
        i for i in range(mesh.axis.size) if tuple(theme.rgb_of(theme.FAILED)) in colours(cell(pixels, grid, i, column))
    ]
    assert mesh.state[column, column] == State.MEASURED
    assert marked == np.flatnonzero(mesh.failed[:, column]).tolist() and len(marked) > 20


@pytest.mark.parametrize("hosts", [1, 2, 8, 16, 60, 100, 200, 201, 1_000, 2_500])
@pytest.mark.parametrize("topology", [True, False])
def test_no_two_texts_overlap_and_none_leaves_the_sheet(hosts, topology):
    inventory = inventory_of(hosts, per_tor=2 if hosts <= 16 else 5 if hosts <= 200 else 20, topology=topology)
    names = [h.name for h in inventory.hosts]
    faults = Faults(dead=[names[hosts // 3]], silent=[names[-1]])
    pairs = mesh_frame(inventory, faults=faults, ring=0 if topology or hosts <= 200 else 8, ladder=False)
    assert_readable(heatmap_sheet(pairs, inventory, WINDOW))


def test_names_of_63_characters_are_shortened_and_overlap_nothing():
    hosts = tuple(
        Host(f"{'x' * 55}-{i:07}", f"10.0.0.{i}", f"{'d' * 59}{i // 20}", f"{'p' * 59}{i // 10}", f"{'t' * 59}{i // 5}")
        for i in range(60)
    )
    inventory = Inventory(hosts, has_topology=True)
    sheet = heatmap_sheet(mesh_frame(inventory, faults=Faults(dead=[hosts[3].name, hosts[4].name])), inventory, WINDOW)
    assert_readable(sheet)
    assert any(t.endswith("0000042") and "…" in t for t in shown_texts(sheet))


def test_the_picture_says_window_metric_hosts_and_totals():
    inventory = inventory_of(8, per_tor=2)
    texts = " ".join(shown_texts(heatmap_sheet(mesh_frame(inventory), inventory, WINDOW, metric="rtt_p99_us")))
    for part in ("p99", "2026-11-21 22:05–22:10 UTC", "8 hosts in 2 DCs, 4 podsets, 4 ToRs", "56 pairs", "probes sent"):
        assert part in texts
    pooled = inventory_of(400, per_tor=20)
    assert "ToR × ToR, worst of its pairs" in " ".join(
        shown_texts(heatmap_sheet(mesh_frame(pooled, ladder=False), pooled, WINDOW, metric="rtt_p99_us"))
    )


def test_the_worst_pairs_are_named_with_value_share_unanswered_and_count_of_probes():
    inventory = inventory_of(8, per_tor=2)
    n = [h.name for h in inventory.hosts]
    faults = Faults(lossy_pairs={(n[0], n[5]): 0.3}, failed_pairs=[(n[1], n[2])])
    texts = shown_texts(heatmap_sheet(mesh_frame(inventory, faults=faults), inventory, WINDOW))
    assert f"{n[1]} → {n[2]}" in texts and f"{n[0]} → {n[5]}" in texts
    assert any(t.startswith("failed: no answer") and "30 sent" in t for t in texts)
    assert any("ms" in t and "30 % unanswered" in t and "30 sent" in t for t in texts)


def test_hosts_that_are_gone_and_pairs_that_are_not_drawn_are_named():
    whole = inventory_of(8, per_tor=2)
    smaller = Inventory(whole.hosts[:-1], has_topology=True)
    dead = whole.hosts[2].name
    texts = shown_texts(heatmap_sheet(mesh_frame(whole, faults=Faults(dead=[dead])), smaller, WINDOW))
    assert texts.count(dead) >= 3 and "No answer from" in texts and "No data from" in texts
    assert any("14 pairs of hosts no longer in the inventory" in t for t in texts)


@pytest.mark.parametrize("metric", ["rtt_p50_us", "loss"])
@pytest.mark.parametrize("kind", ["empty", "one host", "all failed", "all missing", "zero", "ten seconds"])
def test_every_extreme_of_a_window_has_a_picture(kind, metric):
    inventory = inventory_of(1 if kind == "one host" else 6, per_tor=2)
    names = [h.name for h in inventory.hosts]
    pairs = mesh_frame(inventory)
    if kind == "empty":
        pairs = pairs.clear()
    elif kind in ("all failed", "all missing"):
        pairs = mesh_frame(
            inventory,
            faults=Faults(failed_pairs=[(a, b) for a in names for b in names if a != b])
            if kind == "all failed"
            else Faults(silent=names),
        )
    elif kind in ("zero", "ten seconds"):
        us = 0 if kind == "zero" else 10_000_000
        pairs = pairs.with_columns(pl.lit(us, pl.UInt32).alias(c) for c in pairs.columns if c.startswith("rtt_p"))
    width, height = size_of(render_heatmap(pairs, inventory, WINDOW, metric=metric))
    assert 900 < width < 2_400 and 300 < height < 2_400
    assert_readable(heatmap_sheet(pairs, inventory, WINDOW, metric=metric))


def test_the_same_window_drawn_again_is_the_same_object():
    inventory = inventory_of(16)
    pairs = mesh_frame(inventory, faults=Faults(dead=[inventory.hosts[3].name]))
    first = render_heatmap(pairs, inventory, WINDOW)
    assert first == render_heatmap(pairs.reverse(), inventory, WINDOW)
    assert b"Software" not in first and b"tEXt" not in first and b"tIME" not in first


def test_ten_thousand_hosts_are_podsets_or_tors_and_never_a_grid_of_hosts():
    inventory = inventory_of(10_000, per_tor=40, podsets=5)
    pairs = mesh_frame(inventory_of(200), ladder=False)  # strangers all: the size of the matrix is what is looked at
    assert "ToR × ToR" in " ".join(shown_texts(heatmap_sheet(pairs, inventory, WINDOW)))


def test_a_history_shows_the_last_four_windows_on_one_scale():
    inventory = inventory_of(8, per_tor=2)
    windows = [(WINDOW.shifted(i), mesh_frame(inventory, WINDOW.shifted(i), seed=i)) for i in range(6)]
    sheet = history_sheet(windows[::-1], inventory)
    texts = shown_texts(sheet)
    assert [t for t in texts if t in ("22:10–22:15", "22:15–22:20", "22:20–22:25", "22:25–22:30", "22:30–22:35")] == [
        "22:15–22:20", "22:20–22:25", "22:25–22:30", "22:30–22:35"
    ]  # fmt: skip
    assert_readable(sheet)
    assert render_history(windows, inventory) == render_history(windows[::-1], inventory)


@pytest.mark.parametrize("count", [1, 2])
def test_a_history_of_fewer_windows_is_a_smaller_picture(count):
    inventory = inventory_of(100, per_tor=5)
    windows = [
        (WINDOW.shifted(i), mesh_frame(inventory, WINDOW.shifted(i), seed=i, ladder=False)) for i in range(count)
    ]
    assert_readable(history_sheet(windows, inventory))
