"""Hours and days out of windows, held against the probes that they are made of."""

import io
from collections import Counter
from itertools import pairwise

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pingmesh_tasks.errors import StoreError
from pingmesh_tasks.latency.ladder import Ladders, nearest_rank
from pingmesh_tasks.latency.rollup import PairSums, SourceRange, only_sources, roll_up
from pingmesh_tasks.latency.summary import QUANTILES, summarize_pairs
from pingmesh_tasks.store.schemas import PAIR_LATENCY, PROBE
from pingmesh_tasks.windows import Window
from tests.support.merged_pairs import merge_pairs

DAY = Window.parse("20261121T000000Z", 86_400)
HOUR = Window.parse("20261121T220000Z", 3_600)
HOSTS = [f"h{i}" for i in range(6)]
EXACT = [name for name in PAIR_LATENCY if name not in ("window", "rtt_mean_us")]


def probes_of(window: Window, seed: int, *, hosts: list[str] = HOSTS, count: int = 400) -> pl.DataFrame:
    """Return made-up rows of PROBE: round trips over five decades, some lost, some after a retransmit."""
    rng = np.random.default_rng(seed)
    src, dst = rng.integers(0, len(hosts), (2, count))
    src, dst = src[src != dst], dst[src != dst]
    count = len(src)
    code = rng.choice([0, 1, 2, 8], count, p=[0.9, 0.06, 0.02, 0.02])
    again = rng.random(count) < 0.05
    rtt = rng.lognormal(5 + seed % 3, 1.5, count).clip(1, 4e9).astype(np.uint32)
    return pl.DataFrame(
        {
            "ts": [window.start] * count,
            "src": [hosts[i] for i in src],
            "src_ip": "10.0.0.1",
            "src_port": 1,
            "dst": [hosts[i] for i in dst],
            "dst_ip": "10.0.0.2",
            "dst_port": 2,
            "protocol": rng.choice(["tcp", "udp"], count).tolist(),
            "scope": "intra_dc",
            "msg_len": 0,
            "rtt_us": pl.Series(np.where((code == 0) & ~again, rtt, 0)).replace(0, None),
            "err_code": code,
            "retransmits": again.astype(np.uint8),
        }
    ).cast(dict(PROBE))


WINDOWS = [Window(HOUR.start, 300).shifted(step) for step in range(-12, 12)]
PROBES = [probes_of(window, seed) for seed, window in enumerate(WINDOWS)]
PAIRS = [summarize_pairs(probes, window) for probes, window in zip(PROBES, WINDOWS, strict=True)]


def pieces_of(frame: pl.DataFrame, rows: int) -> list[SourceRange]:
    """Cut a table into row groups of whole sources, as `pair_latency` objects are."""
    tables = [part.to_arrow() for _, part in sorted(frame.group_by("src"))]
    groups = [pa.concat_tables(tables[i : i + rows]) for i in range(0, len(tables), rows)]
    return [SourceRange(g["src"][0].as_py(), g["src"][-1].as_py(), lambda g=g: g) for g in groups]


def rolled_up(windows: list[list[SourceRange]]) -> tuple[pl.DataFrame, int]:
    sink, batches = io.BytesIO(), []
    roll_up(windows, DAY, sink, seen=batches.append)
    assert sum(map(len, batches)) == pq.read_metadata(io.BytesIO(sink.getvalue())).num_rows
    return pl.read_parquet(io.BytesIO(sink.getvalue())), len(batches)


def test_counts_are_those_of_all_probes():
    merged = merge_pairs(PAIRS, DAY)
    whole = pl.concat(PROBES).with_columns(ts=pl.lit(DAY.start))
    at_once = summarize_pairs(whole.cast(dict(PROBE)), DAY)
    names = [n for n in EXACT if n not in (*QUANTILES, "jitter_us")]
    assert merged.select(names).equals(at_once.select(names))
    assert merged["window"].unique().to_list() == [DAY.start]
    assert np.allclose(merged["rtt_mean_us"].to_numpy(), at_once["rtt_mean_us"].to_numpy(), rtol=1e-6, equal_nan=True)


def test_quantiles_are_those_of_the_pooled_round_trips_to_the_ladders_error():
    merged = merge_pairs(PAIRS, DAY)
    answers = pl.concat(PROBES).drop_nulls("rtt_us").group_by("src", "dst", "protocol").agg("rtt_us")
    pooled = {tuple(key): np.sort(rtts) for *key, rtts in answers.iter_rows()}
    assert merged.height == len(pooled)
    inside = 0
    for row in merged.iter_rows(named=True):
        rtts = pooled[row["src"], row["dst"], row["protocol"]]
        for name, q in QUANTILES.items():
            exact = rtts[nearest_rank(q, len(rtts))]
            if 10 <= exact < 10_000_000:
                assert abs(row[name] - exact) <= 0.0288 * exact + 0.5, name  # and rounding to whole µs
                inside += 1
            assert row["rtt_min_us"] <= row[name] <= row["rtt_max_us"]
        assert row["jitter_us"] == row["rtt_p95_us"] - row["rtt_p50_us"]
    assert inside > 100


def test_every_quantile_is_the_one_that_the_merged_ladder_gives():
    merged = merge_pairs(PAIRS, DAY)
    told = Ladders.of_pairs(merged).quantiles_us(QUANTILES)
    assert merged.height == len(HOSTS) * (len(HOSTS) - 1) * 2, "every pair, by tcp and udp"
    for name in QUANTILES:
        assert merged[name].to_list() == [None if np.isnan(us) else us for us in told[name]]


@pytest.mark.parametrize("seed", range(5))
def test_merging_in_any_steps_says_the_same(seed):
    at_once = merge_pairs(PAIRS, DAY)
    rng = np.random.default_rng(seed)
    cuts = [0, *sorted(rng.choice(np.arange(1, 24), 4, replace=False)), 24]
    hours = [merge_pairs(PAIRS[low:high], HOUR) for low, high in pairwise(cuts)]
    in_steps = merge_pairs(hours, DAY)
    assert in_steps.select(EXACT).equals(at_once.select(EXACT))
    assert np.allclose(in_steps["rtt_mean_us"], at_once["rtt_mean_us"], rtol=1e-6, equal_nan=True)


def test_the_order_of_windows_does_not_matter():
    assert merge_pairs(PAIRS[::-1], DAY).select(EXACT).equals(merge_pairs(PAIRS, DAY).select(EXACT))


def test_an_average_of_percentiles_would_be_far_off():
    """Why ladders are kept: one slow window of twelve is in the p99 of the hour, and in no mean of theirs."""
    merged = merge_pairs(PAIRS, DAY)
    means = pl.concat(PAIRS).group_by("src", "dst", "protocol").agg(pl.col("rtt_p99_us").mean().alias("mean"))
    both = merged.join(means, on=["src", "dst", "protocol"])
    assert (both["mean"] / both["rtt_p99_us"] - 1).abs().max() > 0.3


def test_a_pair_that_is_silent_all_along_is_a_row_of_nulls():
    planned = pl.DataFrame({"src": ["h0"], "dst": ["h9"], "protocol": ["tcp"], "scope": ["inter_dc"]})
    windows = [summarize_pairs(probes, window, planned) for probes, window in zip(PROBES[:3], WINDOWS, strict=False)]
    row = merge_pairs(windows, HOUR).filter(dst="h9").row(0, named=True)
    assert (row["sent"], row["scope"], row["rtt_p50_us"], row["rtt_mean_us"], row["ladder_bucket"]) == (
        *(0, "inter_dc", None, None),
        [],
    )


def test_nothing_merged_is_no_row():
    assert merge_pairs([], HOUR).schema == PAIR_LATENCY
    assert merge_pairs([PAIR_LATENCY.to_frame()], HOUR).is_empty()


def test_round_trips_beyond_the_ladder_are_bounded_by_the_exact_extremes():
    window = WINDOWS[0]
    rtts = [3, 5, 20_000_000, 30_000_000]
    probes = probes_of(window, 1, hosts=["a", "b"]).filter(src="a", protocol="tcp")[:4]
    probes = probes.with_columns(
        rtt_us=pl.Series(rtts, dtype=pl.UInt32), err_code=pl.lit(0, pl.UInt8), retransmits=pl.lit(0, pl.UInt8)
    )
    row = merge_pairs([summarize_pairs(probes, window)], HOUR).row(0, named=True)
    assert (row["rtt_min_us"], row["rtt_p50_us"], row["rtt_p99_us"], row["rtt_max_us"]) == (
        3,
        3,
        30_000_000,
        30_000_000,
    )


def test_a_scope_is_that_of_the_last_window():
    moved = PAIRS[1].with_columns(scope=pl.lit("inter_dc"))
    merged = merge_pairs([PAIRS[0], moved], HOUR)
    assert merged.join(moved, on=["src", "dst", "protocol"], how="semi")["scope"].unique().to_list() == ["inter_dc"]


def test_a_pair_that_is_there_twice_is_refused_by_name():
    pairs = PAIRS[0].sort("src", "dst", "protocol")
    twice = pairs.row(-3, named=True)
    with pytest.raises(StoreError, match=f"{twice['src']} > {twice['dst']} is there twice"):
        PairSums().add(pl.concat([pairs, pairs[-3:-2]]).to_arrow())


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_a_roll_up_by_pieces_is_the_merge_of_whole_tables(rows):
    merged, batches = rolled_up([pieces_of(pairs, rows) for pairs in PAIRS])
    wanted = merge_pairs(PAIRS, DAY)
    assert batches == -(-len(HOSTS) // rows)
    assert merged.equals(wanted)


def test_a_roll_up_counts_what_it_merged():
    planned = pl.DataFrame({"src": ["h0"], "dst": ["h9"], "protocol": ["tcp"], "scope": ["inter_dc"]})
    windows = [summarize_pairs(probes, window, planned) for probes, window in zip(PROBES[:3], WINDOWS, strict=False)]
    stats = roll_up([pieces_of(pairs, 2) for pairs in windows], HOUR, io.BytesIO())
    merged = merge_pairs(windows, HOUR)
    assert (stats.pairs, stats.silent, stats.rows) == (merged.height, 1, sum(map(len, windows)))


def test_a_range_is_read_once_where_all_windows_are_cut_alike():
    reads: Counter[tuple[int, str]] = Counter()

    def counted(window: int, piece: SourceRange) -> SourceRange:
        def read() -> pa.Table:
            reads[window, piece.first] += 1
            return piece.read()

        return SourceRange(piece.first, piece.last, read)

    rolled_up([[counted(at, piece) for piece in pieces_of(pairs, 2)] for at, pairs in enumerate(PAIRS)])
    assert len(reads) == 24 * 3 and {*reads.values()} == {1}


def test_pieces_need_not_end_at_the_same_sources():
    merged, _ = rolled_up([pieces_of(pairs, 1 + i % 4) for i, pairs in enumerate(PAIRS)])
    assert merged.equals(merge_pairs(PAIRS, DAY))


def test_pieces_of_which_some_sources_are_wanted_bring_only_those():
    kept = {"h1", "h4"}
    merged, _ = rolled_up([[only_sources(piece, kept) for piece in pieces_of(pairs, 3)] for pairs in PAIRS])
    assert merged.equals(merge_pairs([pairs.filter(pl.col("src").is_in(kept)) for pairs in PAIRS], DAY))


def test_the_ladder_of_a_merge_is_the_sum_of_the_ladders():
    merged = merge_pairs(PAIRS, DAY).row(3, named=True)
    total = Counter()
    for pairs in PAIRS:
        for row in pairs.filter(src=merged["src"], dst=merged["dst"], protocol=merged["protocol"]).to_dicts():
            total += Counter(dict(zip(row["ladder_bucket"], row["ladder_count"], strict=True)))
    assert total.total() > 100
    assert dict(zip(merged["ladder_bucket"], merged["ladder_count"], strict=True)) == total
    assert merged["ladder_bucket"] == sorted(total)
