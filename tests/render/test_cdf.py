import math

import numpy as np
import polars as pl
import pytest

from pingmesh_tasks.render.cdf import cdf_sheet, render_cdf, scope_ladders
from pingmesh_tasks.render.spread import BUCKETS, UPPER_US, ladders_by, middle_us, quantile_us
from tests.support.mesh_frames import WINDOW, Faults, inventory_of, mesh_frame
from tests.support.pictures import assert_readable, shown_texts


def ladder_of(rtts):
    buckets = np.searchsorted(UPPER_US, rtts, side="right")
    return np.bincount(buckets, minlength=BUCKETS)


def test_a_quantile_of_a_ladder_is_within_its_promised_error_of_the_exact_one():
    rtts = np.sort(np.random.default_rng(5).lognormal(5, 1.2, 20_001))
    for q in (0.01, 0.5, 0.9, 0.99, 0.999):
        exact = rtts[math.ceil(q * len(rtts) - 1e-9) - 1]
        assert quantile_us(ladder_of(rtts), q) == pytest.approx(exact, rel=0.0293) or exact < 10


def test_the_ends_of_the_ladder_have_values_and_an_empty_one_has_none():
    assert quantile_us(ladder_of(np.array([3.0])), 0.5) == 10.0 == middle_us(0)
    assert quantile_us(ladder_of(np.array([2e7])), 0.5) == 1e7
    assert math.isnan(quantile_us(np.zeros(BUCKETS, dtype=np.int64), 0.5))


def test_ladders_add_up_over_pairs_and_scopes():
    inventory = inventory_of(16, per_tor=2)
    pairs = mesh_frame(inventory, faults=Faults(dead=[inventory.hosts[0].name]))
    ladders = scope_ladders(pairs)
    assert list(ladders) == ["all", "intra_tor", "intra_dc", "inter_dc"]
    assert ladders["all"].sum() == pairs["answered"].sum()
    assert (ladders["all"] == sum(ladders[s] for s in list(ladders)[1:])).all()
    inside = pairs.filter(pl.col("scope") == "intra_tor")
    assert (ladders_by(inside, "scope")["intra_tor"] == ladders["intra_tor"]).all()


def test_the_picture_writes_out_p50_p90_and_p99_of_the_mesh_and_of_each_scope():
    inventory = inventory_of(16, per_tor=2)
    pairs = mesh_frame(inventory)
    sheet = cdf_sheet(pairs, inventory, WINDOW)
    texts = shown_texts(sheet)
    for part in ("whole mesh", "same ToR", "same DC", "between DCs", "p50", "p90", "p99", "unanswered"):
        assert part in texts
    assert sum(t.endswith((" µs", " ms")) for t in texts) == 12
    assert any("±2.9 %" in t for t in texts)
    assert_readable(sheet)


def test_lines_differ_in_their_dashes_and_not_in_colour_alone():
    inventory = inventory_of(16, per_tor=2)
    drawn = cdf_sheet(mesh_frame(inventory), inventory, WINDOW).figure.axes[0].lines
    lines = [line for line in drawn if len(line.get_xdata()) > 1]
    assert len(lines) == 4 == len({line.get_color() for line in lines})
    assert len({repr(line._dash_pattern) for line in lines}) == 4


@pytest.mark.parametrize("kind", ["empty", "all failed", "one probe"])
def test_a_window_without_answers_says_so_instead_of_failing(kind):
    inventory = inventory_of(2)
    a, b = (h.name for h in inventory.hosts)
    pairs = mesh_frame(inventory, faults=Faults(failed_pairs=[(a, b), (b, a)] if kind == "all failed" else []))
    pairs = {"empty": pairs.clear(), "all failed": pairs, "one probe": mesh_frame(inventory, sent=1)[:1]}[kind]
    sheet = cdf_sheet(pairs, inventory, WINDOW)
    assert ("No clean answer in this window" in shown_texts(sheet)) == (kind != "one probe")
    assert_readable(sheet)


def test_the_same_window_drawn_again_is_the_same_object():
    inventory = inventory_of(8)
    pairs = mesh_frame(inventory)
    assert render_cdf(pairs, inventory, WINDOW) == render_cdf(pairs.reverse(), inventory, WINDOW)
