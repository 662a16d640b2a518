"""The older system's case, 1 000 users × 20 operations, into tables: one process beside Spark on this machine.

    python benchmarks/access_spark.py [--lines 3000000]

The same raw object, some 30 000 lines, becomes the same three objects: by one Python process, as the task of the DAG
does it, and by `spark-submit --master local[2]`. Whole process: from the shell's call to its end, interpreter, imports
and the start of Spark included. Tables: reading, parsing and writing alone. Both run the same grammar, so what differs
is what it costs to have Spark hand the work out; with `--lines` the log is longer. Of three runs the median.
Needs `make spark` and Java 17.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

SERVER, TIMEZONE = "east", "Asia/Shanghai"
WINDOW_ID, NEXT_ID = "20261121T220500Z", "20261121T221000Z"
ROUNDS = 3


def keys() -> tuple[str, ...]:
    from pingmesh_tasks.store import layout
    from pingmesh_tasks.windows import Window

    window = Window.parse(WINDOW_ID, 300)
    return (
        layout.raw_log("access", SERVER, window),
        layout.table("client", window, SERVER),
        layout.table("operation", window, SERVER),
        layout.quarantined_lines("access", window, SERVER),
    )


def generate(root: Path, lines: int | None) -> None:
    """Write the raw object of the case, or of a log of so many lines."""
    from pingmesh_tasks.demo import access_log
    from tests.support.raw_objects import raw_object

    log = (
        access_log.generate(lines=lines, profile=access_log.BENCHMARK)
        if lines
        else access_log.generate(users=1_000, profile=access_log.HEADLINE)
    )
    chunks = list(log)
    piece = {"path": "log", "device": 1, "inode": 1, "start": 0, "end": sum(map(len, chunks)), "sha256": ""}
    path = root / keys()[0]
    path.parent.mkdir(parents=True)
    path.write_bytes(raw_object({"pieces": [piece]}, chunks))


def ours(root: Path) -> None:
    """What the task does, on files."""
    from pingmesh_tasks.access.grammar import AccessSinks, write_access_tables
    from pingmesh_tasks.access.raw import read_raw

    raw, *tables = (root / key for key in keys())
    started = time.perf_counter()
    for path in tables:
        path.parent.mkdir(parents=True, exist_ok=True)
    counts = write_access_tables(read_raw(raw), AccessSinks(*tables), server=SERVER, timezone=TIMEZONE)
    print(json.dumps({"objects": 1, "lines": counts.lines, "seconds": time.perf_counter() - started}))


def spark_command(root: Path, home: Path) -> list[str]:
    server = json.dumps({"name": SERVER, "timezone": TIMEZONE})
    return [
        *(str(home / "bin" / "spark-submit"), "--master", "local[2]", "--conf", "spark.ui.enabled=false"),
        *(str(ROOT / "spark_jobs" / "build_access_tables.py"), "--root", root.as_uri(), "--server", server),
        *("--from", WINDOW_ID, "--to", NEXT_ID),
    ]


def measure(command: list[str], environment: dict[str, str]) -> tuple[float, float, float, int]:
    """Run one engine; return wall s of the process, of the tables, CPU s of all its processes, and the lines."""
    started, before = time.perf_counter(), os.times()
    ended = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    wall_s, after = time.perf_counter() - started, os.times()
    if ended.returncode:
        sys.exit(f"{command[0]} ended with {ended.returncode}:\n{(ended.stdout + ended.stderr)[-3000:]}")
    sums = json.loads(next(line for line in ended.stdout.splitlines() if line.startswith('{"objects"')))
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return wall_s, sums["seconds"], cpu_s, sums["lines"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, help="length of the log; default the older system's case")
    parser.add_argument("--ours", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ours:
        return ours(options.ours)
    home = Path(os.environ.get("SPARK_HOME", ROOT / ".spark" / "pyspark"))
    if not (home / "bin" / "spark-submit").exists():
        return print(f"left out: there is no Spark in {home}; `make spark` installs one")
    environment = {"SPARK_HOME": str(home), "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    with tempfile.TemporaryDirectory() as directory:
        one, two = Path(directory, "one"), Path(directory, "two")
        for root in (one, two):
            generate(root, options.lines)
        commands = {
            "one process (Polars)": ([sys.executable, __file__, "--ours", str(one)], {}),
            "Spark local[2]": (spark_command(two, home), environment),
        }
        results = {
            engine: statistics.median_low(measure(*command) for _ in range(ROUNDS))
            for engine, command in commands.items()
        }
        assert [(one / key).read_bytes() for key in keys()] == [(two / key).read_bytes() for key in keys()]
    report(results)


def report(results: dict[str, tuple[float, float, float, int]]) -> None:
    base = next(iter(results.values()))
    lines = base[3]
    print(f"{lines:,} lines, equal tables")
    print(f"{'':22}{'process s':>10}{'ratio':>7}{'tables s':>10}{'ratio':>7}{'CPU s':>8}{'ratio':>7}")
    for engine, (wall_s, tables_s, cpu_s, _) in results.items():
        print(
            f"{engine:22}{wall_s:10.2f}{wall_s / base[0]:7.1f}{tables_s:10.3f}{tables_s / base[1]:7.1f}"
            f"{cpu_s:8.2f}{cpu_s / base[2]:7.1f}"
        )
    print("each engine in a new process; what one that is warm takes is the bar of parse_access_log.py")


if __name__ == "__main__":
    main()
