"""Claim: an hour of a shard of a full mesh of 2,500 hosts (7.5 M rows) is rolled up in ≤ 32 CPU s and ≤ 1 GB.

    python benchmarks/rollup_hour.py [--sources 250] [--windows 12] [--day] [--dir DIR]

One process does what the task roll_up_hour does with one shard of 250 sources: it merges 12 windows of
`pair_latency` that lie on disk, 2,499 pairs a source of 30 probes each (log-normal round trips, 0.1 % lost). `--day`
merges 24 such hours instead of 12 windows, as roll_up_day does. The whole mesh is ten shards, one after the other, in
the same memory. CPU seconds are user + sys of the whole process and its threads, imports included; RSS is its peak.

The peer is DuckDB in the same run, on the same files: ladders unnested and grouped by pair and bucket, quantiles by a
window function over the running sum. Both results are held against each other.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

TARGETS = 2_500
PROBES = 30
SOURCES_AT_ONCE = 26  # rows of so many sources are a row group, as `summarize_probe_table` writes them
MAX_US_PER_ROW, MAX_RSS_MB = {False: 4.0, True: 8.0}, 1_000
PEER_LIMIT = "4GB"
HOUR = "20261121T220000Z"


def generate(directory: Path, sources: int, windows: int, probes: int) -> None:
    """Write the `pair_latency` of some windows. Sources differ by name only: one set is made, and written for each."""
    import numpy as np
    import polars as pl
    import pyarrow as pa

    from pingmesh_tasks.latency.summary import PAIR_ARROW, pair_writer, summarize_pairs
    from pingmesh_tasks.store.schemas import PROBE
    from pingmesh_tasks.windows import Window

    hosts = [f"node-{i:04d}.example" for i in range(TARGETS)]
    base_us = np.random.default_rng(1).lognormal(5.5, 0.6, TARGETS)
    for number in range(windows):
        window, rng = Window.parse(HOUR, 300).shifted(number), np.random.default_rng(100 + number)
        rtt = np.maximum(base_us[:, None] * rng.lognormal(0, 0.25, (TARGETS, probes)), 5).astype(np.uint32).ravel()
        lost = rng.random(len(rtt)) < 1e-3
        made = pl.DataFrame(
            {
                "ts": pl.Series([window.start]).new_from_index(0, len(rtt)),
                "dst": pl.Series(hosts).gather(np.repeat(np.arange(TARGETS), probes)),
                "rtt_us": pl.Series(np.where(lost, 0, rtt)).replace(0, None),
                "err_code": lost.astype(np.uint8),
            }
        ).with_columns(
            src=pl.lit(hosts[0]), src_ip=pl.lit(""), src_port=1, dst_ip=pl.lit(""), dst_port=1, msg_len=0,
            protocol=pl.lit("tcp"), scope=pl.lit("intra_dc"), retransmits=0,
        )  # fmt: skip
        rows = summarize_pairs(made.select(list(PROBE)).cast(dict(PROBE)), window)  # type: ignore[arg-type]
        with pair_writer(directory / f"{number:02d}.parquet") as writer:
            for first in range(0, sources, SOURCES_AT_ONCE):
                names = hosts[first : min(first + SOURCES_AT_ONCE, sources)]
                of_each = [rows.with_columns(src=pl.lit(name)).filter(pl.col("dst") != name) for name in names]
                table = pl.concat(of_each).to_arrow(compat_level=pl.CompatLevel.oldest())
                encoded = [
                    table[field.name].cast(pa.string()).dictionary_encode()
                    if pa.types.is_dictionary(field.type)
                    else table[field.name].cast(field.type)
                    for field in PAIR_ARROW
                ]
                writer.write_table(pa.table(encoded, schema=PAIR_ARROW).unify_dictionaries())


def ours(directory: Path) -> None:
    import pyarrow.parquet as pq

    from pingmesh_tasks.latency.rollup import COLUMNS, SourceRange, roll_up
    from pingmesh_tasks.windows import Window

    windows = []
    for path in sorted(directory.glob("[0-9]*.parquet")):
        file = pq.ParquetFile(path)
        column = file.metadata.schema.names.index("src")
        told = [file.metadata.row_group(group).column(column).statistics for group in range(file.num_row_groups)]
        read = [partial(_read, file, group, COLUMNS) for group in range(file.num_row_groups)]
        windows.append([SourceRange(span.min, span.max, one) for span, one in zip(told, read, strict=True)])
    roll_up(windows, Window.parse(HOUR, 3_600), directory / "ours.parquet")


def _read(file: Any, group: int, columns: tuple[str, ...]) -> Any:
    return file.read_row_group(group, columns=list(columns), use_threads=False)


PEER = """
copy (
  with
    pairs as (select * from read_parquet('{folder}/[0-9]*.parquet')),
    cells as (select src, dst, protocol, unnest(ladder_bucket) bucket, unnest(ladder_count) part from pairs),
    ladders as (select src, dst, protocol, bucket, sum(part) many from cells group by all),
    running as (
      select *, sum(many) over (partition by src, dst, protocol) clean,
        sum(many) over (partition by src, dst, protocol order by bucket) reached
      from ladders
    ),
    spread as (
      select src, dst, protocol,
        list(bucket order by bucket) ladder_bucket, list(many order by bucket) ladder_count, {quantiles}
      from running group by src, dst, protocol
    ),
    counts as (
      select src, dst, protocol, any_value(scope) scope, {sums},
        min(rtt_min_us) rtt_min_us, max(rtt_max_us) rtt_max_us,
        sum(rtt_mean_us * (answered - retransmitted)) / sum(answered - retransmitted) rtt_mean_us
      from pairs group by src, dst, protocol
    )
  select * from counts left join spread using (src, dst, protocol) order by src, dst, protocol
) to '{folder}/peer.parquet' (compression zstd)
"""
SUMS = ("sent", "answered", "lost", "retransmitted", "refused", "unreachable", "reset", "bad_reply", "local_error")
QUANTILES = {"rtt_p50_us": 0.5, "rtt_p90_us": 0.9, "rtt_p95_us": 0.95, "rtt_p99_us": 0.99}


def peer(directory: Path) -> None:
    import duckdb

    quantiles = [f"min(bucket) filter (reached >= ceil({q} * clean - 1e-9)) {name}" for name, q in QUANTILES.items()]
    sums = ", ".join(f"sum({name}) {name}" for name in SUMS)
    database = duckdb.connect(str(directory / "peer.duckdb"))
    database.execute(f"set memory_limit = '{PEER_LIMIT}'; set threads = 2")
    database.execute(PEER.format(folder=directory, quantiles=", ".join(quantiles), sums=sums))


def check(directory: Path, *, whole: bool) -> tuple[int, int]:
    """Hold both results against each other, where there are both; return how many rows became how many."""
    import numpy as np
    import polars as pl

    from pingmesh_tasks.latency.ladder import ladder_buckets

    rows = pl.scan_parquet(directory / "[0-9]*.parquet").select(pl.len()).collect().item()
    mine = pl.read_parquet(directory / "ours.parquet")
    if not whole:
        return int(rows), mine.height
    theirs = pl.read_parquet(directory / "peer.parquet")
    for name in (*SUMS, "rtt_min_us", "rtt_max_us", "ladder_count"):
        assert mine[name].equals(theirs[name].cast(mine[name].dtype)), name
    for name in QUANTILES:
        inside = (mine[name] > mine["rtt_min_us"]) & (mine[name] < mine["rtt_max_us"])  # the extremes clamp
        assert (ladder_buckets(mine[name].to_numpy()) == theirs[name].to_numpy())[inside.to_numpy()].all(), name
    assert np.allclose(mine["rtt_mean_us"], theirs["rtt_mean_us"], rtol=1e-5)
    return int(rows), mine.height


STEPS = {"roll_up": ours, "DuckDB group by": peer}


def measure(step: str, directory: Path) -> tuple[float, float, float] | None:
    """Run one step in a fresh process; return its seconds, CPU seconds and peak RSS in MB, None where it failed."""
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, __file__, "--dir", str(directory), "--step", step])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        return None
    return time.monotonic() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", type=int, default=250, help="hosts of the shard; each has 2,499 pairs")
    parser.add_argument("--windows", type=int, default=12)
    parser.add_argument("--day", action="store_true", help="merge 24 hours of 360 probes a pair instead")
    parser.add_argument("--dir", type=Path, help="where tables are kept; default a temporary directory")
    parser.add_argument("--step", choices=[*STEPS, "generate"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    windows, probes = (24, 12 * PROBES) if options.day else (options.windows, PROBES)
    if options.step == "generate":
        generate(options.dir, options.sources, windows, probes)
    elif options.step:
        STEPS[options.step](options.dir)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            directory = options.dir or Path(scratch)
            subprocess.run(
                [sys.executable, __file__, *sys.argv[1:], "--step", "generate", "--dir", directory], check=True
            )
            results = {step: found for step in STEPS if (found := measure(step, directory))}
            if len(results) < len(STEPS):
                print(f"failed: {', '.join(STEPS.keys() - results.keys())} (DuckDB may take {PEER_LIMIT})")
            report(results, *check(directory, whole=len(results) == len(STEPS)), day=options.day)


def report(results: dict[str, tuple[float, float, float]], rows: int, pairs: int, *, day: bool) -> None:
    base = next(iter(results.values()))
    print(f"{rows:,} rows of {'hours' if day else 'windows'} become {pairs:,}")
    print(f"{'':18}{'s':>8}{'CPU s':>8}{'µs/row':>8}{'RSS MB':>8}{'CPU ratio':>11}{'RSS ratio':>11}")
    for step, (seconds, cpu_s, rss_mb) in results.items():
        ratios = f"{cpu_s / base[1]:11.2f}{rss_mb / base[2]:11.2f}"
        print(f"{step:18}{seconds:8.1f}{cpu_s:8.1f}{cpu_s / rows * 1e6:8.2f}{rss_mb:8.0f}{ratios}")
    _, cpu_s, rss_mb = base
    bar_s = MAX_US_PER_ROW[day] * rows / 1e6 + 2
    verdict = "met" if cpu_s <= bar_s and rss_mb <= MAX_RSS_MB else "MISSED"
    print(f"bar: ≤ {bar_s:.0f} CPU s, ≤ {MAX_RSS_MB} MB: {verdict}")
    sys.exit(verdict != "met")


if __name__ == "__main__":
    main()
