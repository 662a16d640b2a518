import polars as pl
import pytest

from pingmesh_tasks.render.cdf import cdf_sheet, render_cdf, scope_spreads
from tests.support.mesh_frames import WINDOW, Faults, inventory_of, mesh_frame
from tests.support.pictures import assert_readable, shown_texts


def test_the_spread_of_a_scope_is_that_of_its_pairs_and_the_whole_mesh_comes_first():
    inventory = inventory_of(16, per_tor=2)
    pairs = mesh_frame(inventory, faults=Faults(dead=[inventory.hosts[0].name]))
    spreads = scope_spreads(pairs)
    assert list(spreads) == ["all", "intra_tor", "intra_dc", "inter_dc"]
    assert spreads["all"].answers == pairs["answered"].sum() == sum(spreads[s].answers for s in list(spreads)[1:])
    inside = pairs.filter(pl.col("scope") == "intra_tor")
    alone = scope_spreads(inside)
    assert list(alone) == ["all", "intra_tor"]
    for name in alone:
        assert alone[name].quantiles_us == spreads["intra_tor"].quantiles_us
        assert alone[name].us.tolist() == spreads["intra_tor"].us.tolist()


def test_a_scope_of_another_time_counts_in_the_whole_mesh_only():
    pairs = mesh_frame(inventory_of(4, dcs=1, podsets=1, per_tor=4)).with_columns(scope=pl.lit("inter_planet"))
    spreads = scope_spreads(pairs)
    assert list(spreads) == ["all"] and spreads["all"].answers == pairs["answered"].sum()


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
