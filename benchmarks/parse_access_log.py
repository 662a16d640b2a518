"""Claim: 3 M lines of an access log become three tables in ≤ 6 CPU s and ≤ 350 MB, 30 M lines in the same memory.

    python benchmarks/parse_access_log.py [--lines 3000000] [--large] [--dir DIR] [--duckdb-python PYTHON]

The log: 8 % connection lines of 1 000 users, 91 % hook lines (six types, 4 000 nodes, 2 000 shots, the popular ones
often), 1 % garbage of four kinds, 10 % of all lines CR LF; seeded. Each way to read it is a fresh process; CPU is user
+ sys of it and all its threads, interpreter and imports included, RSS its peak. --large adds 10 M lines (wall ≤ 12 s on
two cores) and 30 M lines (RSS as for 3 M ± 15 %). The 30 000 lines of the older system's case are read in one process
after import, the best of five (≤ 0.15 s).

The peers write the same rows of `client` and `operation`, which is checked, and the same rejected lines. They are ahead
by what they leave out: byte offsets, reasons, names in any encoding, lines of any length, daylight saving (an offset of
hours is all they know), and memory that is bounded.
  python re   a line at a time, one regular expression a kind, dates read once a second; PyArrow writes batches
  DuckDB      read_csv, one struct of regexp_extract a kind, once into a temporary table, three COPY. `pip install
              duckdb`, or --duckdb-python for one that has it; left out where there is none
"""

# ruff: noqa: S608 (the statements are made of constants)
from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

SERVER, TIMEZONE, HOURS_EAST = "east", "Asia/Shanghai", 8
MAX_CPU_S, MAX_RSS_MB, MAX_WALL_10M_S, MAX_30K_S = 6.0, 350, 12.0, 0.15
OPERATION_FIELDS = ("pid", "hook_type", "tree", "shot", "node_path")
CLIENT_FIELDS = ("socket", "pid", "status", "user", "host", "address")
OPERATION_RE = (
    r"^([ -~]{24}) \(pid ([0-9]+)\) ([A-Za-z]+) called for tree=([!-+\--~]*), shot=(-?[0-9]+), node=([!-+\--~]*)"
)
CLIENT_RE = (
    r"^([ -~]{24}) \(([0-9]+)\) \(pid ([0-9]+)\) Connection (received|disconnected) from "
    r"([ -~]*)@([!-?A-~]+) \[([!-Z\\^-~]*)\]"
)


def generate(log: Path, count: int, seed: int = 20261121) -> None:
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(seed)
    trees = ["EAST", "PCS_EAST", "EFIT_EAST", "EAST_1", "MPI_EAST", "TRANSP"]
    parts = ["MAGNETICS", "DENSITY", "ECE", "RAW.DIAG"]
    nodes = pl.DataFrame(
        {
            "tree": [trees[i % 6] for i in range(4000)],
            "node": [rf"\{trees[i % 6]}::TOP.{parts[i % 4]}:SIG{i:04d}" for i in range(4000)],
        }
    )
    clients = pl.DataFrame(
        {
            "user": [f"user{i:04d}" for i in range(1000)],
            "host": [f"pc{i % 300:03d}.lab.example.org" for i in range(1000)],
            "address": [f"10.1.{i % 300 // 200}.{i % 300 % 200 + 1}" for i in range(1000)],
        }
    )
    hooks = pl.Series(["GetNci", "GetData", "OpenTree", "PutData", "CloseTree", "PutNci"])
    garbage = pl.Series(
        [
            "this is not yet supported",
            "OpenTree hook called for tree=EAST, shot=1, node=N/A",
            "Sat Nov 21 22:41:54 2026 (pid 13Sat Nov 21 22:41:54 2026 (pid 1347) GetNci called",
            r"3:10 2026 (pid 99) GetData called for tree=EAST, shot=138001, node=\EAST::X",
        ]
    )

    def popular(of: int, size: int) -> np.ndarray:
        return (rng.random(size) ** 2.5 * of).astype(np.int64)

    path = pl.when(pl.col("hook").str.ends_with("Tree")).then(pl.lit("N/A")).otherwise("node")
    hook_fields = ("date", "pid", "hook", "tree", "shot", path)
    hook_line = pl.format("{} (pid {}) {} called for tree={}, shot={}, node={}", *hook_fields)
    status = pl.when("on").then(pl.lit("received")).otherwise(pl.lit("disconnected"))
    connection_fields = ("date", "socket", "pid", status, "user", "host", "address")
    connection = pl.format("{} ({}) (pid {}) Connection {} from {}@{} [{}]", *connection_fields)
    with log.open("wb") as file:
        for start in range(0, count, 500_000):
            size = min(500_000, count - start)
            second = (np.arange(start, start + size) // 150 + 1_795_305_600) * 1_000_000
            frame = pl.DataFrame(
                {
                    "date": pl.Series(second).cast(pl.Datetime("us")).dt.strftime("%a %b %e %H:%M:%S %Y"),
                    "kind": rng.choice(3, size, p=[0.91, 0.08, 0.01]),
                    "pid": rng.integers(300, 32_768, size),
                    "hook": hooks.gather(rng.choice(6, size, p=[0.42, 0.42, 0.06, 0.03, 0.05, 0.02])),
                    "shot": 138_000 - (rng.random(size) ** 3 * 2000).astype(int),
                    "socket": rng.integers(0, 200, size),
                    "on": rng.random(size) < 0.5,
                    "garbage": garbage.gather(rng.integers(0, 4, size)),
                    "cr": np.where(rng.random(size) < 0.1, "\r", ""),
                }
            ).hstack(nodes[popular(4000, size)]).hstack(clients[popular(1000, size)])  # fmt: skip
            kind = pl.col("kind")
            line = pl.when(kind == 0).then(hook_line).when(kind == 1).then(connection).otherwise("garbage")
            frame.select(pl.concat_str(line, "cr")).write_csv(file, include_header=False, quote_style="never")


def ours(log: Path, out: Path) -> None:
    from pingmesh_tasks.access.grammar import AccessSinks, write_access_tables

    sinks = AccessSinks(out / "client.parquet", out / "operation.parquet", out / "rejected.ndjson")
    write_access_tables(log, sinks, server=SERVER, timezone=TIMEZONE)


def python_re(log: Path, out: Path) -> None:
    import re
    from datetime import UTC, datetime, timedelta

    import pyarrow as pa
    import pyarrow.parquet as pq

    operation = re.compile((OPERATION_RE + r"\r?\n?$").encode()).match
    client = re.compile((CLIENT_RE + r"\r?\n?$").encode()).match
    time_type = pa.timestamp("us", "UTC")
    number = {"pid": pa.uint32(), "shot": pa.int64(), "socket": pa.uint64()}
    schemas = [
        pa.schema([("link_time", time_type), *((name, number.get(name, pa.string())) for name in names)])
        for names in (OPERATION_FIELDS, CLIENT_FIELDS)
    ]
    writers = [pq.ParquetWriter(out / f"{name}.parquet", schema, compression="zstd")
               for name, schema in zip(("operation", "client"), schemas, strict=True)]  # fmt: skip
    batches: list[list[tuple]] = [[], []]

    def flush(which: int) -> None:
        columns: Iterable = zip(*batches[which], strict=True)
        arrays = []
        for values, field in zip(columns, schemas[which], strict=True):
            if pa.types.is_integer(field.type):
                values = map(int, values)
            arrays.append(pa.array(values, pa.binary() if field.type == pa.string() else field.type).cast(field.type))
        if arrays:
            writers[which].write_table(pa.Table.from_arrays(arrays, schema=schemas[which]))
        batches[which].clear()

    times: dict[bytes, datetime] = {}
    with log.open("rb") as file, (out / "rejected").open("wb") as rejected:
        for line in file:
            which, found = 0, operation(line)
            if not found:
                which, found = 1, client(line)
            if not found:
                rejected.write(line)
                continue
            date, *fields = found.groups()
            moment = times.get(date)
            if moment is None:
                local = datetime.strptime(date.decode(), "%a %b %d %H:%M:%S %Y").replace(tzinfo=UTC)
                moment = times[date] = local - timedelta(hours=HOURS_EAST)
            batches[which].append((moment, *fields))
            if len(batches[which]) == 1 << 17:
                flush(which)
    for which, writer in enumerate(writers):
        flush(which)
        writer.close()


def duckdb(log: Path, out: Path) -> None:
    import duckdb as db

    def struct(pattern: str, names: tuple[str, ...]) -> str:
        return f"regexp_extract(line, '{pattern}\\r?$', ['date', {', '.join(map(repr, names))}])"

    def columns(kind: str, names: tuple[str, ...]) -> str:
        types = {"pid": "UINTEGER", "shot": "BIGINT", "socket": "UBIGINT"}
        return ", ".join(f"TRY_CAST({kind}.{name} AS {types.get(name, 'VARCHAR')}) AS {name}" for name in names)

    connection = db.connect()
    connection.execute(f"""
        CREATE TEMP TABLE parsed AS SELECT line, contains(line, ' called for tree=') AS hook,
            CASE WHEN hook THEN {struct(OPERATION_RE, OPERATION_FIELDS)} END AS operation,
            CASE WHEN NOT hook THEN {struct(CLIENT_RE, CLIENT_FIELDS)} END AS client,
            try_strptime(line[1:24], '%a %b %d %H:%M:%S %Y') - INTERVAL {HOURS_EAST} HOUR AS link_time
        FROM read_csv('{log}', columns = {{'line': 'VARCHAR'}}, header = false, delim = '\x01', quote = '', escape = '',
                      new_line = '\\r\\n', auto_detect = false, strict_mode = false, max_line_size = 1000000)""")
    for kind, names in (("operation", OPERATION_FIELDS), ("client", CLIENT_FIELDS)):
        connection.execute(f"""
            COPY (SELECT link_time, {columns(kind, names)} FROM parsed WHERE {kind}.pid != '' AND link_time IS NOT NULL)
            TO '{out / kind}.parquet' (COMPRESSION zstd)""")
    connection.execute(f"""
        COPY (SELECT line FROM parsed WHERE coalesce(operation.pid, client.pid) = '' OR link_time IS NULL)
        TO '{out / "rejected"}.parquet'""")


STEPS = {"ours": ours, "DuckDB": duckdb, "python re": python_re}


def check(mine: Path, theirs: Path) -> None:
    """The rows of both must be the same, in whatever order."""
    import polars as pl

    for table, names in (("operation", OPERATION_FIELDS), ("client", CLIENT_FIELDS)):
        left, right = (pl.scan_parquet(path / f"{table}.parquet") for path in (mine, theirs))
        left = left.select("link_time", *names)
        right = right.select(pl.col("link_time").cast(pl.Datetime("us", "UTC")), *names)
        if "status" in names:
            right = right.with_columns(pl.col("status").replace({"received": "ON", "disconnected": "OFF"}))
        else:
            right = right.with_columns(node_path=pl.when(pl.col("node_path") != "N/A").then("node_path"))
        sums = [
            frame.select(pl.struct(pl.all()).hash(seed=1).sum(), pl.len().alias("n")).collect().row(0)
            for frame in (left, right)
        ]
        assert sums[0] == sums[1], f"{table}: {theirs} differs"


def measure(step: str, log: Path, out: Path, python: str = sys.executable) -> tuple[float, float, float]:
    """Run one step in a fresh process; return its wall seconds, CPU seconds and peak RSS in MB."""
    out.mkdir(exist_ok=True)
    start = time.perf_counter()
    process = subprocess.Popen([python, __file__, "--step", step, "--log", str(log), "--dir", str(out)])
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    if os.waitstatus_to_exitcode(status):
        sys.exit(f"{step}: failed")
    process.returncode = 0
    return wall, usage.ru_utime + usage.ru_stime, float((out / "peak_mb").read_text())


def peak_mb() -> float:
    """The peak of this process; ru_maxrss would begin with that of the process it was forked from."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def after_import(log: Path, out: Path) -> float:
    """Best wall seconds of five, in this process, once Polars is there."""
    from pingmesh_tasks.access import grammar  # noqa: F401

    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        ours(log, out)
        best = min(best, time.perf_counter() - start)
    return best


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=3_000_000)
    parser.add_argument("--large", action="store_true", help="10 M and 30 M lines as well (4.4 GB of disk)")
    parser.add_argument("--dir", type=Path, help="where logs and tables are kept; default a temporary directory")
    parser.add_argument("--duckdb-python", default=sys.executable, help="an interpreter that has DuckDB")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--log", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        STEPS[options.step](options.log, options.dir)
        (options.dir / "peak_mb").write_text(str(peak_mb()))
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        return report(options, options.dir or Path(scratch))


def report(options: argparse.Namespace, folder: Path) -> int:
    def log_of(count: int) -> Path:
        log = folder / f"{count}.log"
        if not log.exists():
            generate(log, count)
        return log

    failed = []

    def bar(name: str, value: float, limit: float) -> None:
        if value > limit:
            failed.append(f"{name}: {value:.2f} > {limit}")

    folder.mkdir(exist_ok=True)
    log = log_of(options.lines)
    has_duckdb = not subprocess.run([options.duckdb_python, "-c", "import duckdb"], capture_output=True).returncode
    print(f"{options.lines:,} lines, {log.stat().st_size / 1e6:,.0f} MB\n")
    print(f"{'':24}{'wall s':>8}{'CPU s':>8}{'lines/CPU s':>14}{'RSS MB':>8}{'CPU ratio':>11}")
    own = (0.0, 0.0, 0.0)
    for step in STEPS:
        if step == "DuckDB" and not has_duckdb:
            print(f"{step:24}  not installed")
            continue
        python = options.duckdb_python if step == "DuckDB" else sys.executable
        wall, cpu, rss = measure(step, log, folder / step.replace(" ", "_"), python)
        own = own if any(own) else (wall, cpu, rss)
        print(f"{step:24}{wall:8.2f}{cpu:8.2f}{options.lines / cpu:14,.0f}{rss:8.0f}{cpu / own[1]:10.1f}×")
        if step != "ours":
            check(folder / "ours", folder / step.replace(" ", "_"))
            if own[1] >= cpu or own[0] >= wall:
                failed.append(f"{step} is faster")
    if options.lines == 3_000_000:
        bar("CPU s", own[1], MAX_CPU_S)
        bar("RSS MB", own[2], MAX_RSS_MB)
    small = after_import(log_of(30_000), folder / "ours")
    print(f"\n30,000 lines, after import: {small:.3f} s")
    bar("30,000 lines, s", small, MAX_30K_S)
    for count in (10_000_000, 30_000_000) if options.large else ():
        wall, cpu, rss = measure("ours", log_of(count), folder / "ours")
        print(f"{count:,} lines: wall {wall:.2f} s, CPU {cpu:.2f} s, RSS {rss:.0f} MB")
        if count == 10_000_000:
            bar("10 M lines, wall s", wall, MAX_WALL_10M_S)
        else:
            bar("RSS of 30 M lines ÷ RSS of 3 M", rss / own[2], 1.15)
    print("\n" + ("\n".join(failed) if failed else "every bar held"))
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
