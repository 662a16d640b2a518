import io
import math
import random
from bisect import bisect_right
from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from pingmesh_tasks.errors import StoreError
from pingmesh_tasks.latency.summary import summarize_pairs, summarize_probe_table
from pingmesh_tasks.store.schemas import PAIR_LATENCY, PROBE, check_schema
from pingmesh_tasks.windows import Window

WINDOW = Window(datetime(2026, 11, 21, 22, 5, tzinfo=UTC), 300)
COUNTS = ["answered", "lost", "refused", "unreachable", "reset", "bad_reply", "local_error"]
OUTCOME = {0: "answered", 1: "lost", 2: "refused", 3: "unreachable", 4: "unreachable", 5: "reset", 6: "bad_reply"}
OUTCOME |= {7: "local_error", 8: "lost", 9: "local_error", 200: "local_error"}


def probe(src="a", dst="b", protocol="tcp", at_s=0.0, rtt_us=100, err_code=0, retransmits=0, scope="intra_tor"):
    return {
        "ts": WINDOW.start + timedelta(seconds=at_s),
        "src": src,
        "src_ip": "10.0.0.1",
        "src_port": 40_000,
        "dst": dst,
        "dst_ip": "10.0.0.2",
        "dst_port": 8765,
        "protocol": protocol,
        "scope": scope,
        "msg_len": 0,
        "rtt_us": rtt_us if err_code == retransmits == 0 else None,
        "err_code": err_code,
        "retransmits": retransmits,
    }


def frame(probes):
    return pl.DataFrame(probes, schema=PROBE)


def plan(*pairs):
    return pl.DataFrame(pairs, schema=dict.fromkeys(["src", "dst", "protocol", "scope"], pl.String), orient="row")


def random_probes(seed, size=400, hosts=6):
    rng = random.Random(seed)
    names = [f"h{i}" for i in range(hosts)]
    return frame(
        probe(
            src=rng.choice(names),
            dst=rng.choice(names),
            protocol=rng.choice(["tcp", "tcp", "udp"]),
            at_s=rng.uniform(0, 299.9),
            rtt_us=int(rng.lognormvariate(6, 3)) % 2**32,
            err_code=rng.choice([0] * 8 + list(OUTCOME)),
            retransmits=rng.choice([0, 0, 0, 1]),
        )
        for _ in range(size)
    )


def brute_force(probes):
    """The definition, in plain Python: one dict a pair."""
    groups = {}
    for row in probes.to_dicts():
        groups.setdefault((row["src"], row["dst"], row["protocol"]), []).append(row)
    for (src, dst, protocol), rows in sorted(groups.items()):
        rtts = sorted(row["rtt_us"] for row in rows if row["rtt_us"] is not None)
        n = len(rtts)
        p50, p90, p95, p99 = (rtts[math.ceil(q * n - 1e-9) - 1] if n else None for q in (0.5, 0.9, 0.95, 0.99))
        ladder = Counter(bisect_right([10 * 10 ** (b / 40) for b in range(241)], rtt) for rtt in rtts)
        tally = Counter(OUTCOME[row["err_code"]] for row in rows)
        yield {
            "window": WINDOW.start,
            "src": src,
            "dst": dst,
            "protocol": protocol,
            "scope": "intra_tor",
            "sent": len(rows),
            "retransmitted": sum(row["err_code"] == 0 and row["retransmits"] > 0 for row in rows),
            **{name: tally[name] for name in COUNTS},
            "rtt_min_us": min(rtts, default=None),
            "rtt_p50_us": p50,
            "rtt_p90_us": p90,
            "rtt_p95_us": p95,
            "rtt_p99_us": p99,
            "rtt_max_us": max(rtts, default=None),
            "rtt_mean_us": float(np.float32(sum(rtts) / n)) if n else None,
            "jitter_us": p95 - p50 if n else None,
            "ladder_bucket": sorted(ladder),
            "ladder_count": [ladder[bucket] for bucket in sorted(ladder)],
        }


def summarized_from_parquet(probes, planned=None, **write_options):
    source, sink = io.BytesIO(), io.BytesIO()
    probes.write_parquet(source, **write_options)
    source.seek(0)
    stats = summarize_probe_table(source, WINDOW, planned, sink)
    return pl.read_parquet(sink.getvalue()), stats


@pytest.mark.parametrize("seed", range(20))
def test_every_figure_is_what_its_definition_says(seed):
    probes = random_probes(seed, size=random.Random(seed).choice([1, 30, 400, 2_000]))
    pairs = summarize_pairs(probes, WINDOW)
    check_schema("pair_latency", pairs)
    assert pairs.to_dicts() == [{name: row[name] for name in PAIR_LATENCY} for row in brute_force(probes)]


@pytest.mark.parametrize("seed", range(10))
def test_the_parts_add_up_to_what_was_sent(seed):
    pairs = summarize_pairs(random_probes(seed), WINDOW)
    assert (pairs["sent"] == pairs.select(pl.sum_horizontal(COUNTS)).to_series()).all()
    clean = pairs["answered"] - pairs["retransmitted"]
    assert (pairs["ladder_count"].list.sum() == clean).all()
    assert (pairs["rtt_p50_us"].is_null() == (clean == 0)).all()


@pytest.mark.parametrize("options", [{}, {"row_group_size": 37}, {"row_group_size": 37, "statistics": False}])
@pytest.mark.parametrize("ordered", [True, False])
def test_a_file_and_a_frame_give_the_same_summary_however_the_file_is_cut(ordered, options):
    probes = random_probes(3)
    if ordered:
        probes = probes.sort("src", "dst", "protocol")
    planned = plan(("h1", "h9", "tcp", "x"), ("a", "b", "tcp", "x"), ("z", "b", "udp", "x"), ("h2", "h3", "tcp", "x"))
    pairs, stats = summarized_from_parquet(probes, planned, **options)
    assert pairs.schema == PAIR_LATENCY
    assert pairs.equals(summarize_pairs(probes, WINDOW, planned))
    assert (stats.pairs, stats.probes, stats.outside) == (len(pairs), 400, 0)
    assert stats.silent == 3


def test_a_sorted_file_is_read_source_by_source(monkeypatch):
    from pingmesh_tasks.latency import summary

    seen = []
    original = summary._summarize
    monkeypatch.setattr(summary, "_summarize", lambda *a: seen.append(len(a[0])) or original(*a))
    probes = pl.concat([random_probes(1, 100).with_columns(src=pl.lit(host)) for host in ("c", "a", "b")])
    pairs, _ = summarized_from_parquet(probes, row_group_size=100)
    assert seen == [100, 100, 100, 0]
    assert pairs["src"].unique(maintain_order=True).to_list() == ["a", "b", "c"]


def test_a_summary_written_twice_is_the_same_bytes(tmp_path):
    random_probes(5).write_parquet(tmp_path / "probe.parquet")
    for name in ("one", "two"):
        summarize_probe_table(tmp_path / "probe.parquet", WINDOW, None, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_planned_pair_that_gave_nothing_is_a_row_of_zeros():
    planned = plan(("a", "b", "tcp", "intra_tor"), ("a", "c", "tcp", "inter_dc"), ("a", "b", "udp", "intra_tor"))
    pairs = summarize_pairs(frame([probe()]), WINDOW, planned)
    assert pairs.select("src", "dst", "protocol", "scope", "sent").rows() == [
        ("a", "b", "tcp", "intra_tor", 1),
        ("a", "b", "udp", "intra_tor", 0),
        ("a", "c", "tcp", "inter_dc", 0),
    ]
    silent = pairs.row(2, named=True)
    assert [silent[name] for name in COUNTS] == [0] * 7
    assert [silent[name] for name in PAIR_LATENCY if name.startswith("rtt_")] == [None] * 7
    assert (silent["jitter_us"], silent["ladder_bucket"], silent["ladder_count"]) == (None, [], [])
    assert silent["window"] == WINDOW.start


def test_a_pair_planned_twice_is_one_row():
    twice = plan(("a", "b", "tcp", "intra_tor"), ("a", "b", "tcp", "intra_tor"))
    assert len(summarize_pairs(frame([]), WINDOW, twice)) == 1


def test_a_probe_that_nobody_planned_still_counts():
    pairs = summarize_pairs(frame([probe(dst="x")]), WINDOW, plan(("a", "b", "tcp", "intra_tor")))
    assert pairs.select("dst", "sent").rows() == [("b", 0), ("x", 1)]


def test_two_protocols_of_one_pair_are_two_rows():
    pairs = summarize_pairs(
        frame([probe(protocol="udp", rtt_us=7), probe(rtt_us=9), probe(protocol="udp", rtt_us=7)]), WINDOW
    )
    assert pairs.select("protocol", "sent", "rtt_p50_us").rows() == [("tcp", 1, 9), ("udp", 2, 7)]


def test_a_probe_counts_in_the_window_of_its_send_time_and_in_no_other():
    at = [-3600, -0.000001, 0, 299.999999, 300, 7200]
    probes = frame(probe(at_s=seconds, rtt_us=i) for i, seconds in enumerate(at))
    per_window = {steps: summarize_pairs(probes, WINDOW.shifted(steps)) for steps in (-12, -1, 0, 1, 24)}
    assert {steps: pairs["sent"].sum() for steps, pairs in per_window.items()} == {-12: 1, -1: 1, 0: 2, 1: 1, 24: 1}
    assert per_window[0].select("rtt_min_us", "rtt_max_us").row(0) == (2, 3)
    _, stats = summarized_from_parquet(probes)
    assert (stats.probes, stats.outside) == (2, 4)


def test_a_retransmitted_answer_is_an_answer_but_in_no_quantile():
    row = summarize_pairs(
        frame([probe(rtt_us=50), probe(retransmits=1), probe(err_code=1, retransmits=2)]), WINDOW
    ).row(0, named=True)
    assert (row["sent"], row["answered"], row["retransmitted"], row["lost"]) == (3, 2, 1, 1)
    assert (row["rtt_max_us"], row["ladder_count"]) == (50, [1])


def test_a_rare_tail_is_not_rounded_away():
    """Of 151 values the 99th percentile is the 150th, the first of two outliers; rounding half up would miss it."""
    probes = frame(probe(rtt_us=10 if i < 149 else 9_000) for i in range(151))
    assert summarize_pairs(probes, WINDOW)["rtt_p99_us"].item() == 9_000


def test_nothing_in_is_nothing_out():
    assert summarize_pairs(frame([]), WINDOW).equals(pl.DataFrame(schema=PAIR_LATENCY))
    pairs, stats = summarized_from_parquet(frame([]))
    assert pairs.equals(pl.DataFrame(schema=PAIR_LATENCY))
    assert stats.pairs == stats.probes == 0


def test_what_is_no_probe_table_is_refused():
    with pytest.raises(StoreError, match="table probe: column rtt_us"):
        summarize_pairs(frame([probe()]).drop("rtt_us"), WINDOW)
    with pytest.raises(StoreError, match="column dst has 1 nulls"):
        summarize_pairs(frame([probe(dst=None)]), WINDOW)
