"""The page, the pictures and the roll-ups give the same figure of the same round trips, to the digit."""

import numpy as np
import polars as pl
import pytest

from pingmesh_tasks.latency.ladder import Ladders
from pingmesh_tasks.latency.summary import summarize_pairs
from pingmesh_tasks.matrix.groups import GroupBuilder, group_rows
from pingmesh_tasks.queries.group_series import distribution
from pingmesh_tasks.render.bars import bars_sheet, server_bars, window_bar
from pingmesh_tasks.render.cdf import cdf_sheet, scope_spreads
from pingmesh_tasks.render.theme import format_us
from pingmesh_tasks.store.schemas import PROBE
from pingmesh_tasks.topology.axis import HostAxis
from pingmesh_tasks.topology.inventory import Host, Inventory
from pingmesh_tasks.windows import Window
from tests.support.merged_pairs import merge_pairs
from tests.support.pictures import shown_texts

WINDOW = Window.parse("20261121T220500Z", 300)
HOUR = Window.parse("20261121T220000Z", 3_600)
INVENTORY = Inventory((Host("a", "10.0.0.1"), Host("b", "10.0.0.2")))
AXIS = HostAxis.of(INVENTORY)
RNG = np.random.default_rng(3)
CASES = {
    "8 µs": [8] * 40,
    "10 µs": [10] * 40,
    "250 µs": [250] * 40,
    "12 s": [12_000_000] * 40,
    "all decades": RNG.lognormal(6, 3, 400).clip(1, 4e9).astype(int).tolist(),
    "both ends": [8, 9] * 20 + [12_000_000, 13_000_000] * 20,
}


def pairs_of(rtts_us: list[int]) -> pl.DataFrame:
    """Return the window's rows of the pair a > b; no other pair was planned."""
    made = {"src": "a", "src_ip": "10.0.0.1", "dst": "b", "dst_ip": "10.0.0.2", "protocol": "tcp", "scope": "intra_tor"}
    made |= {"ts": WINDOW.start, "src_port": 1, "dst_port": 2, "msg_len": 0, "err_code": 0, "retransmits": 0}
    probes = pl.DataFrame({"rtt_us": rtts_us}).with_columns(pl.lit(value).alias(name) for name, value in made.items())
    return summarize_pairs(probes.select(list(PROBE)).cast(dict(PROBE)), WINDOW)


def group_of(pairs: pl.DataFrame, kind: str) -> dict[str, object]:
    builder = GroupBuilder(AXIS)
    builder.add(pairs)
    return group_rows(kind, builder.finish()[kind], AXIS).row(0, named=True)


@pytest.mark.parametrize("case", CASES)
def test_page_pictures_and_roll_ups_agree(case):
    pairs = pairs_of(CASES[case])
    merged = merge_pairs([pairs], HOUR).row(0, named=True)
    names = ("p50", "p90", "p99")
    told = {name: merged[f"rtt_{name}_us"] for name in names}
    ends = merged["rtt_min_us"], merged["rtt_max_us"]
    assert ends == (min(CASES[case]), max(CASES[case]))
    for kind in ("mesh", "dc", "podset", "tor", "host"):
        group = group_of(pairs, kind)
        assert {name: group[f"rtt_{name}_us"] for name in names} == told, kind
        assert (group["rtt_min_us"], group["rtt_max_us"]) == ends
        page = distribution(group)
        assert {name: page["quantiles"][f"{name}_us"] for name in names} == told
        assert (page["min_us"], page["max_us"]) == ends
    for scope, spread in scope_spreads(pairs).items():
        assert spread.quantiles_us == told, scope
        assert [us for us, _ in page["cdf"]] == spread.us.tolist()
        assert (spread.us[0], spread.us[-1]) == ends
    bars = [window_bar(WINDOW, pairs), *server_bars(pairs, INVENTORY)]
    assert [bar.p99_us for bar in bars] == [told["p99"]] * 3


@pytest.mark.parametrize("kind", ["frame", "table"])
def test_ladders_of_some_rows_of_a_table_are_those_of_these_rows(kind):
    pairs = pl.concat([pairs_of(rtts) for rtts in CASES.values()])
    some = pairs[2:5] if kind == "frame" else pairs.to_arrow(compat_level=pl.CompatLevel.oldest()).slice(2, 3)
    alone = [Ladders.of_pairs(pairs_of(rtts)) for rtts in list(CASES.values())[2:5]]
    found = Ladders.of_pairs(some)
    assert found.lengths.tolist() == [one.lengths[0] for one in alone]
    for at, one in enumerate(alone):
        assert [points.tolist() for points in found.cdf(at)] == [points.tolist() for points in one.cdf()]


@pytest.mark.parametrize(("case", "shown"), [("8 µs", "8 µs"), ("12 s", "12 s")])
def test_the_pictures_show_round_trips_beyond_the_ladders_ends_as_they_were(case, shown):
    pairs = pairs_of(CASES[case])
    assert format_us(CASES[case][0]) == shown
    cdf = shown_texts(cdf_sheet(pairs, INVENTORY, WINDOW))
    assert cdf.count(shown) >= 6  # three quantiles of the whole mesh and of its one scope
    assert not {"10 µs", "10 s"} & set(cdf[-30:])
    bars = shown_texts(bars_sheet([(WINDOW, pairs)], INVENTORY))
    assert bars.count(shown) >= 6  # mean and p99 of the window and of two servers
