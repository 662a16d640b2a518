"""What one look at the mesh costs: 2,500 hosts, every pair of them, one window, with a normal to compare with.

Every case runs in a process of its own that reads both tables from Parquet, in parts of 500 hosts as they are stored.
"Look s" is `evaluate_mesh`, from frames in memory to findings; "peak MB" is the whole process's (VmHWM): interpreter,
libraries, both tables and all. "update s" is `update_baseline`, which each window does once.

The peer is NetOpsBench's rule (mean ± 3σ and least effects, `_detector_analysis.py`) written as straight Polars: a join
with the history and one group-by for each of pairs, hosts, racks, podsets and DCs. It names every group that is over
its limit and explains nothing: "named" counts what each says of one window with a rack down and a slow podset.

    python benchmarks/detect_mesh.py
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

    from pingmesh_tasks.topology.inventory import Inventory

sys.path.insert(0, str(Path(__file__).parents[1]))

#: name -> hosts, arguments of the inventory, of the frame; bars: seconds and MB (None: shown for what it is)
CASES: dict[str, tuple[int, dict[str, Any], dict[str, Any], float | None, float | None]] = {
    "2,500 hosts, full mesh": (2_500, {"podsets": 5, "per_tor": 40}, {"full": True}, 10.0, 2_000.0),
    "2,500 hosts, three levels": (2_500, {"podsets": 5, "per_tor": 40}, {}, None, None),
    "512 hosts, three levels": (512, {"podsets": 4, "per_tor": 8}, {}, None, None),
}
REPEATS, HOSTS_A_PART, WINDOWS = 3, 500, 8


def prepare(case: str, path: str) -> dict[str, float]:
    """Write the normal of some well windows, and a window with two faults."""
    from pingmesh_tasks.detect.mesh.baseline import update_baseline
    from tests.support.mesh_frames import Faults, mesh_frame

    inventory, mesh = inventory_of(case)
    normal = None
    for number in range(2):
        window = mesh_frame(inventory, seed=number, ladder=False, **mesh)
        start = time.perf_counter()
        normal = update_baseline(normal, window, inventory)
        update_s = time.perf_counter() - start
    assert normal is not None
    normal = normal.with_columns(windows=(normal["windows"] * 0 + WINDOWS).cast(normal.schema["windows"]))
    last, rack = inventory.hosts[-1], inventory.hosts[0].tor_key
    dead = [host.name for host in inventory.hosts if host.tor_key == rack]
    frame = slow_podset(mesh_frame(inventory, seed=9, faults=Faults(dead=dead), ladder=False, **mesh), inventory, last)
    for name, table in {"pairs": frame, "normal": normal}.items():
        for number, first in enumerate(range(0, len(inventory.hosts), HOSTS_A_PART)):
            names = [host.name for host in inventory.hosts[first : first + HOSTS_A_PART]]
            table.filter(table["src"].is_in(names)).write_parquet(Path(path, f"{name}-{number:03}.parquet"))
    return {"pairs": frame.height, "update_s": update_s}


def look(case: str, path: str) -> dict[str, Any]:
    from pingmesh_tasks.detect.mesh.evaluate import MeshView, evaluate_mesh
    from tests.support.mesh_frames import WINDOW

    inventory, _ = inventory_of(case)
    pairs, normal = read(path, "pairs"), read(path, "normal")
    held = resident_mb("VmRSS")
    start, cpu = time.perf_counter(), time.process_time()
    evaluation = evaluate_mesh(MeshView(pairs, inventory, WINDOW.end, 300, "window", normal))
    took = {"s": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}
    named = [f"{finding.rule} {finding.subject}" for finding in evaluation.findings]
    return took | {"mb": resident_mb("VmHWM"), "held_mb": held, "named": len(named), "first": named[:3]}


def peer(case: str, path: str) -> dict[str, Any]:
    """Judge pairs and every kind of group by its mean against mean + 3σ of history, and by a fixed limit of loss."""
    import polars as pl

    inventory, _ = inventory_of(case)
    pairs, normal = read(path, "pairs"), read(path, "normal")
    start, cpu = time.perf_counter(), time.process_time()
    hosts = pl.DataFrame(
        {
            "src": [host.name for host in inventory.hosts],
            "tor": ["/".join(host.tor_key) for host in inventory.hosts],
            "podset": [f"{host.dc}/{host.podset}" for host in inventory.hosts],
            "dc": [host.dc for host in inventory.hosts],
        }
    )
    mean, sigma = pl.col("p50_ln").exp(), pl.col("p50_ln").exp() * pl.col("p50_dev")
    joined = (
        pairs.lazy()
        .join(normal.lazy(), on=["src", "dst", "protocol"])
        .join(hosts.lazy(), on="src")
        .with_columns(usual=mean, top=pl.max_horizontal(mean + 3 * sigma, mean + 2_000, 1.3 * mean))
        .collect()
    )
    named = 0
    for keys in (["src", "dst"], ["src"], ["dst"], ["tor"], ["podset"], ["dc"]):
        groups = (
            joined.lazy()
            .group_by(keys)
            .agg(
                loss=pl.col("lost").sum() / pl.col("sent").sum(),
                p50=pl.col("rtt_p50_us").mean(),
                top=pl.col("top").mean(),
            )
        )
        named += groups.filter((pl.col("loss") >= 0.05) | (pl.col("p50") > pl.col("top"))).collect().height
    took = {"s": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}
    return took | {"mb": resident_mb("VmHWM"), "named": named}


def inventory_of(case: str) -> tuple[Inventory, dict[str, Any]]:
    from tests.support import mesh_frames

    hosts, place, mesh, _, _ = CASES[case]
    return mesh_frames.inventory_of(hosts, **place), mesh


def slow_podset(frame: pl.DataFrame, inventory: Inventory, like: Any) -> pl.DataFrame:
    """Return `frame` with 8 ms more on every pair that crosses the leaves of the podset of `like`."""
    import polars as pl

    inside = [host.name for host in inventory.hosts if (host.dc, host.podset) == (like.dc, like.podset)]
    crosses = (pl.col("src").is_in(inside) | pl.col("dst").is_in(inside)) & (pl.col("scope") != "intra_tor")
    more = [pl.when(crosses).then(pl.col(name) + 8_000).otherwise(pl.col(name)).alias(name) for name in _TIMES]
    return frame.with_columns(more)


_TIMES = ("rtt_p50_us", "rtt_p99_us")


def read(path: str, table: str) -> pl.DataFrame:
    """Read a table as a task does: part by part, the columns that a look needs."""
    import polars as pl

    from pingmesh_tasks.detect.mesh.rows import READ

    columns = list(READ) if table == "pairs" else None
    return pl.concat([pl.read_parquet(part, columns=columns) for part in sorted(Path(path).glob(f"{table}-*"))])


def resident_mb(kind: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith(kind))


def in_process(task: str, case: str, path: str) -> dict[str, Any]:
    answer = subprocess.run([sys.executable, __file__, task, case, path], check=True, capture_output=True, text=True)
    return dict(json.loads(answer.stdout))


def main() -> None:
    failed = []
    print(f"{'':27}{'pairs':>10}{'update s':>10}{'look s':>8}{'cpu s':>7}{'peak MB':>9}{'tables MB':>11}{'named':>7}")
    for case, (_, _, _, bar_s, bar_mb) in CASES.items():
        with tempfile.TemporaryDirectory() as path:
            made = in_process("prepare", case, path)
            looks = sorted((in_process("look", case, path) for _ in range(REPEATS)), key=lambda m: m["s"])
            ours, other = looks[REPEATS // 2], in_process("peer", case, path)
        peak = max(one["mb"] for one in looks)
        print(
            f"{case:27}{made['pairs']:>10,.0f}{made['update_s']:>10.2f}{ours['s']:>8.2f}{ours['cpu_s']:>7.2f}"
            f"{peak:>9,.0f}{ours['held_mb']:>11,.0f}{ours['named']:>7}  {', '.join(ours['first'])}"
        )
        print(
            f"{'  peer: mean + 3σ a group':27}{'':>10}{'':>10}{other['s']:>8.2f}{other['cpu_s']:>7.2f}"
            f"{other['mb']:>9,.0f}{'':>11}{other['named']:>7,}"
        )
        if bar_s and ours["s"] > bar_s:
            failed.append(f"{case}: {ours['s']:.1f} s, bar {bar_s:.0f}")
        if bar_mb and peak > bar_mb:
            failed.append(f"{case}: {peak:,.0f} MB, bar {bar_mb:,.0f}")
    if failed:
        raise SystemExit("over the bar: " + "; ".join(failed))


if __name__ == "__main__":
    if len(sys.argv) == 4:
        print(json.dumps({"prepare": prepare, "look": look, "peer": peer}[sys.argv[1]](sys.argv[2], sys.argv[3])))
    else:
        main()
