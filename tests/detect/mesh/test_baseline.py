"""What is normal for a pair: it follows slowly, is not moved by outliers, and never grows."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from pingmesh_tasks.detect.mesh.baseline import MEMORY, read_baseline, update_baseline
from pingmesh_tasks.detect.mesh.rows import code_rows
from pingmesh_tasks.store.schemas import check_schema
from pingmesh_tasks.topology.axis import HostAxis
from tests.support.pair_rows import PairRows, fabric, flat

INVENTORY = flat(3)


def after(*medians_us: float, before: pl.DataFrame | None = None) -> pl.DataFrame:
    """Return the normal after windows in which every pair had these medians; NaN is a window without an answer."""
    for us in medians_us:
        mesh = PairRows(INVENTORY, p50_us=us, p99_us=3 * us)
        if np.isnan(us):
            mesh.lost = mesh.sent.copy()
        before = update_baseline(before, mesh.frame(), INVENTORY)
    assert before is not None
    return before


def centre_us(normal: pl.DataFrame, name: str = "p50_ln") -> float:
    return float(np.exp(normal[name][0]))


def test_a_steady_pair_is_its_own_normal():
    normal = after(*[100] * 10)
    check_schema("normal", normal)
    assert centre_us(normal) == pytest.approx(100) and centre_us(normal, "p99_ln") == pytest.approx(300)
    assert normal["windows"].to_list() == [10] * 6
    assert normal["p50_dev"][0] < 0.05


def test_one_window_that_is_a_hundred_times_slower_moves_it_no_more_than_one_that_is_thrice_as_slow():
    usual = after(*[100] * 20)
    assert centre_us(after(10_000, before=usual)) == pytest.approx(centre_us(after(300, before=usual)), rel=1e-5)
    assert centre_us(after(10_000, before=usual)) == pytest.approx(100, rel=0.02)


def test_an_hour_of_a_fault_does_not_become_the_normal_but_a_day_of_it_does():
    usual = after(*[100] * MEMORY)
    assert centre_us(after(*[1_000] * 12, before=usual)) < 200
    assert centre_us(after(*[1_000] * 288, before=usual)) == pytest.approx(1_000, rel=0.2)


def test_a_pair_of_two_modes_has_a_deviation_as_wide_as_their_distance():
    rng = np.random.default_rng(1)
    normal = after(*rng.choice([100.0, 200.0], 60))
    assert 100 < centre_us(normal) < 200
    assert normal["p50_dev"][0] > 0.3  # ln 2 / 2


def test_a_window_without_an_answer_leaves_the_round_trips_as_they_were_and_counts_the_loss():
    usual = after(*[100] * 9)
    normal = after(float("nan"), before=usual)
    assert normal["p50_ln"].to_list() == usual["p50_ln"].to_list()
    assert normal["loss"][0] == pytest.approx(0.1)


def test_a_window_in_which_nothing_was_sent_changes_nothing():
    usual = after(*[100] * 9)
    silent = PairRows(INVENTORY).mute("h").frame()
    assert update_baseline(usual, silent, INVENTORY).equals(usual)


def test_it_has_the_pairs_of_the_window_and_no_others():
    usual = after(100, 100)
    fewer = PairRows(INVENTORY).frame().filter(pl.col("src") != "h2")
    normal = update_baseline(usual, fewer, INVENTORY)
    assert normal.height == 4 and set(normal["windows"]) == {3}
    grown = flat(4)
    again = update_baseline(normal, PairRows(grown).frame(), grown)
    assert again.filter(src="h4")["windows"].to_list() == [1] * 3
    assert again.filter(src="h1", dst="h2")["windows"].to_list() == [4]


@pytest.mark.parametrize("order", ["same", "shuffled", "missing"])
def test_it_is_found_again_for_rows_in_any_order(order):
    inventory = fabric()
    mesh = PairRows(inventory)
    mesh.p50_us = 100.0 + np.arange(mesh.p50_us.size).reshape(mesh.p50_us.shape)
    normal = update_baseline(None, mesh.frame(), inventory)
    if order == "shuffled":
        normal = normal.sample(fraction=1, shuffle=True, seed=2)
    if order == "missing":
        normal = normal.filter(pl.col("dst") != "p1t1h1")
    places = HostAxis.of(inventory)
    rows = code_rows(mesh.frame(), places)
    found = read_baseline(normal, rows, places)
    known = ~np.isnan(found.p50_ln)
    assert np.exp(found.p50_ln[known]) == pytest.approx(rows.rtt_p50_us[known], rel=1e-4)
    assert (known == (places.names.index("p1t1h1") != rows.b)).all() if order == "missing" else known.all()
    assert (found.windows == known).all()


def test_a_window_that_is_a_hundred_times_faster_moves_it_no_more_than_one_that_is_thrice_as_fast():
    usual = after(*[10_000] * 20)
    assert centre_us(after(100, before=usual)) == pytest.approx(centre_us(after(3_000, before=usual)), rel=1e-5)
    assert 9_000 < centre_us(after(100, before=usual)) < 10_000


def test_an_empty_baseline_is_one_of_no_windows():
    places = HostAxis.of(INVENTORY)
    rows = code_rows(PairRows(INVENTORY).frame(), places)
    for empty in (None, after(100).clear()):
        found = read_baseline(empty, rows, places)
        assert found.windows.tolist() == [0] * len(rows) and np.isnan(found.p50_ln).all()
    assert after(100, before=after(100).clear())["windows"].to_list() == [1] * 6


def test_the_weight_of_a_window_falls_to_one_in_memory_and_no_further():
    usual, old = after(*[100] * 9), after(*[100] * (2 * MEMORY))
    step = np.log(centre_us(after(110, before=usual)) / 100), np.log(centre_us(after(110, before=old)) / 100)
    assert step[0] == pytest.approx(np.log(1.1) / 10, rel=0.01)
    assert step[1] == pytest.approx(np.log(1.1) / MEMORY, rel=0.01)
