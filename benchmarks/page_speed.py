"""How fast the page is: to the first heatmap, per frame, per step of play; its bytes and memory; and against its peers.

The page runs in headless Chromium against the made-up mesh of the tests, with answers that are ready in the server's
memory: what S3, Polars and Airflow add is the API's to measure. The peers draw the same 1 000 × 1 000 numbers, in
memory already, in the same browser: a heatmap series of ECharts and one of Plotly, fetched for this run with `npm
pack`; where npm or its registry is missing they are skipped.

    python benchmarks/page_speed.py [--quick]
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import http.server
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

REPO = Path(__file__).parents[1]
STATIC = REPO / "plugins" / "pingmesh_ui" / "static"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or ""
PEERS = {"echarts": ("echarts@6.1.0", "dist/echarts.min.js"),
         "plotly": ("plotly.js-cartesian-dist-min@4.1.1", "plotly-cartesian.min.js")}  # fmt: skip
BARS_MS = {8: 1500, 1000: 1800, 2500: 2500}
PROBES = (REPO / "benchmarks" / "page_probes.js").read_text().split("\n", 1)[1].strip()
SIZE = {"width": 1328, "height": 892}


@contextlib.contextmanager
def made_up_server(hosts: int) -> Iterator[str]:
    """The page of a made-up mesh in another process, its answers warm."""
    command = [
        sys.executable,
        "-m",
        "tests.support.made_up_mesh",
        "--hosts",
        str(hosts),
        "--windows",
        "12",
        "--port",
        "0",
    ]
    server = subprocess.Popen(command, cwd=REPO, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
    finally:
        server.terminate()
        server.wait()


def probe(name: str) -> str:
    """Return the expression of a function of page_probes.js."""
    return f"({PROBES}).{name}"


def matrix_bytes(address: str, lod: int) -> int:
    """Have every window's matrix made, so that no time is the made-up mesh's; return the bytes of the newest."""
    with urllib.request.urlopen(f"{address}api/v1/boot") as answer:  # noqa: S310
        windows = [window["id"] for window in json.load(answer)["windows"]]
    size = 0
    for window in windows:
        for query in (f"metric=p50&lod={lod}", f"metric=loss&lod={lod}" + ("&pool=mean" if lod else "")):
            url = f"{address}api/v1/matrix?window={window}&{query}"
            request = urllib.request.Request(url, headers={"accept-encoding": "zstd"})  # noqa: S310
            with urllib.request.urlopen(request) as answer:  # noqa: S310
                body = len(answer.read())
                size = body if "metric=p50" in query else size
    return size


def open_page(browser: Browser, address: str) -> Page:
    page = browser.new_context(viewport=SIZE).new_page()  # type: ignore[arg-type]
    page.set_default_timeout(120_000)
    page.goto(address)
    page.wait_for_selector("html[data-ready]", state="attached")
    return page


def first_heatmap_ms(browser: Browser, address: str) -> tuple[float, float]:
    """Return ms from the start of navigation to the first picture and to the full one."""
    page = browser.new_context(viewport=SIZE).new_page()  # type: ignore[arg-type]
    page.set_default_timeout(120_000)
    page.add_init_script(f"({PROBES}).watch()")
    page.goto(address)
    page.wait_for_selector("html[data-ready]", state="attached")
    page.wait_for_timeout(300)
    times = page.evaluate(probe("times"))
    page.context.close()
    return times[0] or times[1], times[1]


def renderer_mb() -> float:
    """Return the proportional memory of the renderers of this run's browser, their workers with them, in MB."""
    parents, renderers = {}, []
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
            parents[int(fields["Pid"])] = int(fields["PPid"])
            if "--type=renderer" in (status.parent / "cmdline").read_text():
                renderers.append(int(fields["Pid"]))
    total = 0
    for pid in renderers:
        ancestor = pid
        while ancestor not in (0, os.getpid()):
            ancestor = parents.get(ancestor, 0)
        if ancestor:
            with contextlib.suppress(OSError):
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
                total += int(rollup.split("Pss:", 1)[1].split()[0])
    return total / 1e3


def follow_windows(page: Page, times: int) -> None:
    """Do what live mode does, without its waits: one window after another, in full."""
    for i in range(times):
        page.locator("#back" if i // 10 % 2 == 0 else "#next").click()
        page.wait_for_selector("#loading", state="hidden")


def median_of(times: int, measure: Callable[[], float]) -> float:
    return statistics.median(measure() for _ in range(times))


def fetch_peers(folder: Path) -> dict[str, Path]:
    """Return the scripts of the peers that npm gives; an empty dict where it gives none."""
    found: dict[str, Path] = {}
    for name, (package, script) in PEERS.items():
        try:
            command = ["npm", "pack", "--silent", package]
            packed = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=120)
        except (OSError, subprocess.SubprocessError) as error:
            print(f"peer {name}: skipped, npm does not give {package} ({type(error).__name__})")
            continue
        with tarfile.open(folder / packed.stdout.split()[-1]) as archive:
            archive.extractall(folder / name, filter="data")
        found[name] = folder / name / "package" / script
    return found


@contextlib.contextmanager
def plain_server(folder: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


def javascript_kb() -> tuple[float, float]:
    """Return kB of our own JavaScript and of the vendored, both gzip -6."""
    sizes = {p: len(gzip.compress(p.read_bytes(), 6)) / 1e3 for p in STATIC.rglob("*.js")}
    vendored = sum(size for path, size in sizes.items() if "vendor" in path.parts)
    return sum(sizes.values()) - vendored, vendored


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="one run each instead of the median of five")
    times = 1 if parser.parse_args().quick else 5
    own, vendored = javascript_kb()
    print(f"JavaScript, gzip: {own:.0f} kB ours + {vendored:.0f} kB vendored = {own + vendored:.0f} kB (bar 350)")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        ours = 0.0
        for hosts, bar in BARS_MS.items():
            with made_up_server(hosts) as address:
                lod = 0 if hosts <= 900 else math.ceil(math.log2(hosts / 900))
                pooled, whole = matrix_bytes(address, lod), matrix_bytes(address, 0) if hosts > 900 else 0
                warm = open_page(browser, address)
                warm.wait_for_selector("#loading", state="hidden")
                warm.context.close()
                runs = [first_heatmap_ms(browser, address) for _ in range(times)]
                first, full = (statistics.median(run[i] for run in runs) for i in (0, 1))
                print(f"{hosts} hosts: open to first heatmap {first:.0f} ms (bar {bar}), in full {full:.0f} ms")
                print(f"  matrix for the first picture {pooled / 1e6:.2f} MB, whole {(whole or pooled) / 1e6:.2f} MB")
                page = open_page(browser, address)
                page.wait_for_selector("#loading", state="hidden")
                page.wait_for_timeout(1000)
                frames = page.evaluate(probe("frames"))
                print(f"  zoom and pan: {frames['work']:.1f} ms a frame (p95 {frames['work95']:.1f}); "
                      f"between frames {frames['gap']:.1f} ms (p95 {frames['gap95']:.1f}; bar 17)")  # fmt: skip
                steps = page.evaluate(probe("steps"))
                print(
                    f"  play: {steps['steps']} steps, {steps['median'] or 0:.1f} ms to the next frame, "
                    f"longest task {steps['long']:.0f} ms"
                )
                page.wait_for_selector("#loading", state="hidden")
                before = renderer_mb()
                follow_windows(page, 60 if times > 1 else 20)
                print(f"  memory of the renderer: {before:.0f} MB; {renderer_mb():.0f} MB after live mode (bar 400)")
                if hosts == 1000:
                    ours = median_of(times, lambda page=page, home=address: page.evaluate(probe("ours"), [home, 1000]))  # type: ignore[misc]
                    print(f"  1 000 × 1 000 in memory to first paint: {ours:.0f} ms")
                page.context.close()
        peers = fetch_peers(Path(folder))
        for name, script in peers.items():
            html = script.parent / "peer.html"
            html.write_text(f"<!doctype html><script src='{script.name}'></script><body>")
            with plain_server(script.parent) as address:
                page = browser.new_page(viewport=SIZE)  # type: ignore[arg-type]
                page.set_default_timeout(300_000)
                page.goto(address + "peer.html")
                page.evaluate(probe(name), 20)
                took = float(page.evaluate(probe(name), 1000))
                print(f"{name}: 1 000 × 1 000 to first paint {took:.0f} ms = {took / ours:.0f} × the map")
                page.close()
        browser.close()


if __name__ == "__main__":
    started = time.perf_counter()
    main()
    print(f"{time.perf_counter() - started:.0f} s")
