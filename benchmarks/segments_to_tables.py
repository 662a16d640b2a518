"""Claim: 10 M probes of 2,500-target segments become `probe` and `pair_latency` in ≤ 6 CPU s and ≤ 400 MB.

    python benchmarks/segments_to_tables.py [--records 9975000] [--dir DIR]

One process does what the tasks build_probe_table and summarize_latency do, on segments that lie on disk: 133 hosts,
each 2,500 targets × 30 rounds in 30 chunks, made by the agent's own encoder (log-normal round trips per pair, 0.1 % of
them lost, 0.05 % retransmitted). CPU seconds are user + sys of the whole process and all its threads, interpreter and
imports included; RSS is its peak. The peer is what one would write first: Polars over the same probe table, group_by
with six quantiles. It makes no ladder and reads Parquet that is already there, so it is ahead by both.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "include" / "agent")]

TARGETS = 2_500
ROUNDS = 30
WINDOW_ID = "20261121T220500Z"
START_US = 1_795_298_700_000_000
MAX_CPU_S, MAX_RSS_MB = 6.0, 400


def generate(directory: Path, records: int) -> None:
    """Write the segments of as many hosts as make `records` probes."""
    from array import array

    import numpy as np
    from pingmesh_agent.chunk import COLUMN_TYPES, encode_chunk

    rng = np.random.default_rng(20261121)
    names = [f"node-{i:04d}.example" for i in range(TARGETS + 1)]
    for host in range(max(1, records // (TARGETS * ROUNDS))):
        table = [
            [name, f"10.20.{i >> 8}.{i & 255}", 8765, "tcp", "intra_tor" if i // 40 == host // 40 else "intra_dc", 0]
            for i, name in enumerate(names)
            if i != host
        ]
        base_us = rng.lognormal(5.5, 0.6, TARGETS)
        order = rng.permutation(TARGETS)
        chunks = []
        for chunk in range(ROUNDS):
            offsets = (np.arange(TARGETS) * 3_990 + rng.integers(0, 20_000, TARGETS)).astype(np.int32)
            rtts = np.maximum(base_us[order] * rng.lognormal(0, 0.25, TARGETS), 5).astype(np.uint32)
            lost, again = rng.random(TARGETS) < 1e-3, rng.random(TARGETS) < 5e-4
            columns = (
                offsets,
                order.astype(np.uint16),
                np.where(lost, 0, rtts).astype(np.uint32),
                (20_000 + (np.arange(TARGETS) + chunk * TARGETS) % 16_000).astype(np.uint16),
                lost.astype(np.uint8),
                (again | lost).astype(np.uint8),
            )
            header = {
                "host": names[host],
                "ip": f"10.20.{host >> 8}.{host & 255}",
                "window": WINDOW_ID,
                "window_s": 300,
                "chunk": chunk,
                "start_us": START_US + chunk * 10_000_000,
                "span_us": 10_000_000,
                "agent": "0123456789abcdef",
                "pinglist": "fedcba9876543210",
                "scheduled": TARGETS,
                "sent": TARGETS,
                "answered": TARGETS - int(lost.sum()),
                "lost": int(lost.sum()),
                "skipped": {},
            }
            arrays = [array(kind, column.tobytes()) for kind, column in zip(COLUMN_TYPES, columns, strict=True)]
            chunks.append(encode_chunk(header, table if chunk == 0 else None, *arrays))
        (directory / f"{names[host]}.pms").write_bytes(b"".join(chunks))


def ours(directory: Path) -> None:
    from pingmesh_tasks.latency.probe_table import write_probe_table
    from pingmesh_tasks.latency.summary import summarize_probe_table
    from pingmesh_tasks.windows import Window

    files = sorted(directory.glob("*.pms"))
    stats = write_probe_table(((file.stem, file.read_bytes()) for file in files), directory / "probe.parquet")
    assert not stats.damaged
    window = Window.parse(WINDOW_ID, 300)
    summary = summarize_probe_table(directory / "probe.parquet", window, None, directory / "pair_latency.parquet")
    assert (summary.probes, summary.outside) == (stats.rows, 0)


def peer(directory: Path) -> None:
    import polars as pl

    rtt = pl.col("rtt_us")
    pairs = (
        pl.scan_parquet(directory / "probe.parquet")
        .group_by("src", "dst", "protocol", "scope")
        .agg(
            pl.len().alias("sent"),
            *((pl.col("err_code") == code).sum().alias(f"code_{code}") for code in range(10)),
            rtt.min().alias("min"),
            *(rtt.quantile(q, "nearest").alias(f"p{q}") for q in (0.5, 0.9, 0.95, 0.99)),
            rtt.max().alias("max"),
            rtt.mean().alias("mean"),
        )
        .sort("src", "dst", "protocol")
    )
    pairs.sink_parquet(directory / "peer.parquet", engine="streaming")


def check(directory: Path) -> int:
    """Hold both results against each other where they must be equal; return the number of probes."""
    import polars as pl

    mine, theirs = (pl.read_parquet(directory / name) for name in ("pair_latency.parquet", "peer.parquet"))
    for name, other in {"sent": "sent", "lost": "code_1", "rtt_min_us": "min", "rtt_max_us": "max"}.items():
        assert mine[name].equals(theirs[other].cast(mine[name].dtype)), name
    return int(mine["sent"].sum())


STEPS = {"segments → probe + pair_latency": ours, "Polars group_by on the same probe": peer}


def measure(step: str, directory: Path) -> tuple[float, float]:
    """Run one step in a fresh process; return its CPU seconds and peak RSS in MB."""
    process = subprocess.Popen([sys.executable, __file__, "--dir", str(directory), "--step", step])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{step}: failed")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=133 * TARGETS * ROUNDS, help="a host makes 75,000 of them")
    parser.add_argument("--dir", type=Path, help="where segments and tables are kept; default a temporary directory")
    parser.add_argument("--step", choices=[*STEPS, "generate"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step == "generate":
        generate(options.dir, options.records)
    elif options.step:
        STEPS[options.step](options.dir)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            directory = options.dir or Path(scratch)
            subprocess.run(
                [sys.executable, __file__, "--step", "generate", "--dir", directory, "--records", str(options.records)],
                check=True,
            )
            report({step: measure(step, directory) for step in STEPS}, check(directory))


def report(results: dict[str, tuple[float, float]], records: int) -> None:
    base = next(iter(results.values()))[0]
    print(f"{records:,} probes")
    print(f"{'':36}{'CPU s':>8}{'µs/probe':>10}{'RSS MB':>8}{'CPU ratio':>11}")
    for step, (cpu_s, rss_mb) in results.items():
        print(f"{step:36}{cpu_s:8.2f}{cpu_s / records * 1e6:10.3f}{rss_mb:8.0f}{cpu_s / base:11.2f}")
    cpu_s, rss_mb = next(iter(results.values()))
    bar_s = MAX_CPU_S * max(1.0, records / 10e6)
    verdict = "met" if cpu_s <= bar_s and rss_mb <= MAX_RSS_MB else "MISSED"
    print(f"bar: ≤ {bar_s:.1f} CPU s, ≤ {MAX_RSS_MB} MB: {verdict}")
    sys.exit(verdict != "met")


if __name__ == "__main__":
    main()
