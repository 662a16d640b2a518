"""What a heatmap costs, from the `pair_latency` object to the PNG, against plain `imshow` of the same hosts.

Every case runs in a process of its own that reads the columns that the picture needs, from Parquet in parts of 500
hosts. "Render s" is from a frame in memory to the PNG, after import; "peak MB" is the whole process's peak in a second
run, in which the parts are read one by one while they are drawn, as a task does it: interpreter, libraries, table and
all; "over frame" is what drawing from a frame adds to a process that holds it. The peer draws one cell a host pair of
2,500 hosts (it names, groups, marks and pools nothing) from a matrix that is ready in memory, so it starts ahead.

    python benchmarks/render_heatmap.py
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

sys.path.insert(0, str(Path(__file__).parents[1]))

#: name -> hosts, arguments of the inventory, arguments of the frame, bars: seconds and MB (None: shown for what it is)
CASES = {
    "2,500 hosts, full mesh": (2_500, {"podsets": 5, "per_tor": 40}, {"full": True}, 1.0, 500.0),
    "2,500 hosts, three levels": (2_500, {"podsets": 5, "per_tor": 40}, {}, 1.0, 500.0),
    "10,000 hosts by ToR": (10_000, {"dcs": 1, "podsets": 10, "per_tor": 40}, {}, 2.0, 500.0),
}
REPEATS, HOSTS_A_PART = 5, 500


def prepare(case: str, path: str) -> dict[str, float]:
    from tests.support.mesh_frames import Faults, inventory_of, mesh_frame

    hosts, place, mesh, _, _ = CASES[case]
    inventory = inventory_of(hosts, **place)
    faults = Faults(dead=[inventory.hosts[hosts // 3].name])
    frame = mesh_frame(inventory, faults=faults, ladder=False, **mesh)
    for number, first in enumerate(range(0, hosts, HOSTS_A_PART)):
        names = [host.name for host in inventory.hosts[first : first + HOSTS_A_PART]]
        part = frame.filter(frame["src"].is_in(names))
        part.write_parquet(Path(path, f"{number:03}.parquet"), compression="zstd")
    return {"pairs": frame.height}


def measure(case: str, path: str) -> dict[str, float]:
    import polars as pl

    from pingmesh_tasks.render.heatmap import render_heatmap
    from tests.support.mesh_frames import WINDOW, inventory_of

    hosts, place, _, _, _ = CASES[case]
    inventory = inventory_of(hosts, **place)
    start = time.perf_counter()
    pairs = pl.concat(read_parts(path))
    held = resident_mb("VmRSS")
    read, cpu = time.perf_counter(), time.process_time()
    png = render_heatmap(pairs, inventory, WINDOW)
    end = time.perf_counter()
    return {
        "read_s": read - start,
        "render_s": end - read,
        "cpu_s": time.process_time() - cpu,
        "kb": len(png) / 1e3,
        "over_mb": resident_mb("VmHWM") - held,
    }


def by_parts(case: str, path: str) -> dict[str, float]:
    from pingmesh_tasks.render.heatmap import render_heatmap
    from tests.support.mesh_frames import WINDOW, inventory_of

    hosts, place, _, _, _ = CASES[case]
    render_heatmap(read_parts(path), inventory_of(hosts, **place), WINDOW)
    return {"mb": resident_mb("VmHWM")}


def read_parts(path: str) -> Iterator[pl.DataFrame]:
    import polars as pl

    from pingmesh_tasks.render.mesh_cells import columns_of

    return (pl.read_parquet(part, columns=columns_of("rtt_p50_us")) for part in sorted(Path(path).iterdir()))


def imshow(_: str, __: str) -> dict[str, float]:
    import io

    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    matrix = np.random.default_rng(0).lognormal(5, 1, (2_500, 2_500)).astype(np.float32)
    start, cpu = time.perf_counter(), time.process_time()
    figure = Figure(figsize=(18, 14), dpi=100)
    FigureCanvasAgg(figure)
    figure.colorbar(figure.add_subplot().imshow(matrix, norm=LogNorm()))
    out = io.BytesIO()
    figure.savefig(out, format="png")
    took = {"render_s": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}
    return {"read_s": 0.0, **took, "kb": out.tell() / 1e3, "over_mb": 0.0, "mb": resident_mb("VmHWM")}


def resident_mb(which: str) -> float:
    """Return what of this process is in memory: `VmRSS` now, `VmHWM` at most so far."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(which))
    return int(line.split()[1]) * 1024 / 1e6


def in_a_process(step: str, case: str, path: Path) -> dict[str, float]:
    command = [sys.executable, __file__, step, case, str(path)]
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def fastest(step: str, case: str, path: Path) -> dict[str, float]:
    """Return the fastest run: what else the machine does can only add to a time."""
    return min((in_a_process(step, case, path) for _ in range(REPEATS)), key=lambda run: run["render_s"])


def show(case: str, pairs: str, run: dict[str, float], bar_s: object, bar_mb: object, note: str = "") -> None:
    took = f"{run['read_s']:>9.2f}{run['render_s']:>10.2f}{run['cpu_s']:>7.2f}{bar_s:>7}"
    print(
        f"{case:<28}{pairs:>11}{took}{run['over_mb']:>12.0f}{run['mb']:>9.0f}{bar_mb:>8}{run['kb']:>8.0f}  {note}",
        flush=True,
    )


def main() -> int:
    failed = False
    heads = f"{'read s':>9}{'render s':>10}{'CPU s':>7}{'bar s':>7}{'over frame':>12}"
    heads += f"{'peak MB':>9}{'bar MB':>8}{'PNG kB':>8}"
    print(f"{'case':<28}{'pairs':>11}{heads}")
    with tempfile.TemporaryDirectory() as folder:
        peer = fastest("imshow", "", Path(folder))
        show("imshow of 2,500 × 2,500", "", peer, "", "")
        for number, (case, (_, _, _, bar_s, bar_mb)) in enumerate(CASES.items()):
            path = Path(folder, str(number))
            path.mkdir()
            pairs = int(in_a_process("prepare", case, path)["pairs"])
            run = fastest("measure", case, path) | in_a_process("by_parts", case, path)
            show(
                case,
                f"{pairs:,}",
                run,
                bar_s or "–",
                bar_mb or "–",
                f"{run['render_s'] / peer['render_s']:.2f} × imshow",
            )
            failed |= (bar_s is not None and run["render_s"] > bar_s) or (bar_mb is not None and run["mb"] > bar_mb)
    print("over a bar" if failed else f"all within their bars (fastest of {REPEATS} processes each)")
    return int(failed)


if __name__ == "__main__":
    steps = {"prepare": prepare, "measure": measure, "by_parts": by_parts, "imshow": imshow}
    if len(sys.argv) == 4:
        print(json.dumps(steps[sys.argv[1]](sys.argv[2], sys.argv[3])))
    else:
        sys.exit(main())
