import math

import polars as pl
import pytest

from pingmesh_tasks.render.bars import bars_sheet, render_bars, server_bars, window_bar
from tests.support.mesh_frames import WINDOW, Faults, inventory_of, mesh_frame
from tests.support.pictures import assert_readable, shown_texts


def windows_of(inventory, count, **kwargs):
    return [(WINDOW.shifted(i), mesh_frame(inventory, WINDOW.shifted(i), seed=i, **kwargs)) for i in range(count)]


def test_the_mean_of_a_window_weighs_each_pair_by_its_clean_answers():
    inventory = inventory_of(2)
    pairs = mesh_frame(inventory).with_columns(
        rtt_mean_us=pl.Series([100.0, 400.0], dtype=pl.Float32),
        answered=pl.Series([31, 10], dtype=pl.UInt32),
        retransmitted=pl.Series([1, 0], dtype=pl.UInt32),
        sent=pl.Series([40, 10], dtype=pl.UInt32),
        lost=pl.Series([9, 0], dtype=pl.UInt32),
    )
    bar = window_bar(WINDOW, pairs)
    assert bar.mean_us == (30 * 100 + 10 * 400) / 40 and bar.unanswered == 1 - 41 / 50


def test_a_server_has_both_of_its_directions_and_a_dead_one_has_no_bar():
    inventory = inventory_of(6, dcs=1, podsets=1, per_tor=6)
    dead = inventory.hosts[2].name
    bars = {b.name: b for b in server_bars(mesh_frame(inventory, faults=Faults(dead=[dead])), inventory)}
    assert math.isnan(bars[dead].mean_us) and bars[dead].unanswered == 1.0 and bars[dead].answered == 0
    assert bars[inventory.hosts[0].name].sent == 5 * 30 + 4 * 30
    texts = shown_texts(bars_sheet([(WINDOW, mesh_frame(inventory, faults=Faults(dead=[dead])))], inventory))
    assert "no answer" in texts


def test_a_server_whose_probes_were_all_refused_is_wholly_unanswered_though_none_was_lost():
    inventory = inventory_of(2)
    a, b = (h.name for h in inventory.hosts)
    pairs = mesh_frame(inventory, faults=Faults(failed_pairs=[(a, b), (b, a)]))
    pairs = pairs.with_columns(refused="lost", lost=pl.lit(0, pl.UInt32))
    assert [bar.unanswered for bar in server_bars(pairs, inventory)] == [1.0, 1.0]
    texts = shown_texts(bars_sheet([(WINDOW, pairs)], inventory))
    assert "unanswered" in texts and texts.count("100 %") == 3 and "lost" not in texts


def test_above_sixty_servers_the_forty_worst_are_shown_and_the_rest_is_summed_up():
    inventory = inventory_of(61, per_tor=5)
    dead = inventory.hosts[60].name
    sheet = bars_sheet([(WINDOW, mesh_frame(inventory, faults=Faults(dead=[dead])))], inventory)
    texts = shown_texts(sheet)
    assert dead in texts and sum(t in {h.name for h in inventory.hosts} for t in texts) == 40
    assert any(t.startswith("The other 21:") for t in texts)
    assert_readable(sheet)


def test_thresholds_are_lines_with_their_values_and_a_bar_over_one_has_a_hatch():
    inventory = inventory_of(8, per_tor=2)
    sheet = bars_sheet(windows_of(inventory, 2), inventory, slow_us=50, bad_us=700)
    assert {"50 µs", "700 µs"} <= set(shown_texts(sheet))
    bars = list(sheet.figure.axes[0].patches)
    assert [p.get_hatch() for p in bars] == ["xxx", "xxx"]
    calm = bars_sheet(windows_of(inventory, 2), inventory, slow_us=50_000, bad_us=70_000)
    assert not any(p.get_hatch() for p in calm.figure.axes[0].patches)


@pytest.mark.parametrize("hosts", [1, 2, 8, 60, 100])
def test_no_two_texts_overlap_and_none_leaves_the_sheet(hosts):
    inventory = inventory_of(hosts, per_tor=4)
    faults = Faults(dead=[inventory.hosts[0].name])
    assert_readable(bars_sheet(windows_of(inventory, 3, faults=faults), inventory))


@pytest.mark.parametrize("us", [0, 10_000_000])
def test_extreme_times_and_empty_windows_have_a_picture(us):
    inventory = inventory_of(4, per_tor=2)
    pairs = mesh_frame(inventory).with_columns(rtt_mean_us=pl.lit(us, pl.Float32))
    assert_readable(bars_sheet([(WINDOW, pairs.clear()), (WINDOW.shifted(1), pairs)], inventory))
    assert_readable(bars_sheet([(WINDOW, pairs.clear())], inventory))


def test_the_same_windows_drawn_again_are_the_same_object():
    inventory = inventory_of(8)
    windows = windows_of(inventory, 2)
    assert render_bars(windows, inventory) == render_bars([(w, p.reverse()) for w, p in windows[::-1]], inventory)
