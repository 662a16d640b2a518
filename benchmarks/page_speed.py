"""How fast the page is: to the first heatmap, per frame, per step of play; its bytes and memory; and against its peers.

The page runs in headless Chromium. Its server is the plugin's app in a process of its own over a real S3 server, on
loopback; Airflow's login is done and not measured. Every opening has an empty browser cache. The peers draw the same
1 000 × 1 000 numbers, in memory already, in the same browser: a heatmap series of ECharts and one of Plotly, fetched
for this run with `npm pack`; where npm or its registry is missing they are skipped.

    python benchmarks/page_speed.py [--quick] [open | frames | play | bytes | peers | live …]
"""

from __future__ import annotations

import argparse
import contextlib
import http.server
import math
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
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import page_api
from playwright.sync_api import Browser, Page, Playwright, Request, sync_playwright

REPO = Path(__file__).parents[1]
STATIC = REPO / "plugins" / "pingmesh_ui" / "static"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or ""
PEERS = {"echarts": ("echarts@6.1.0", "dist/echarts.min.js"),
         "plotly": ("plotly.js-cartesian-dist-min@4.1.1", "plotly-cartesian.min.js")}  # fmt: skip
PROBES = (REPO / "benchmarks" / "page_probes.js").read_text().split("\n", 1)[1].strip()
SIZE = {"width": 1328, "height": 892}
SECTIONS = ("open", "frames", "play", "bytes", "peers", "live")
OPEN_MS = {8: 1_500, 1_000: 1_800, 2_500: 2_500}
STEP_MS = {1_000: 20, 2_500: 40}
SLOWER = {"echarts": 50, "plotly": 5}
#: Windows that are made; play has more of them, by copying.
MADE, PLAYED = 3, 24
#: The newest window ended so long ago: room for those that arrive.
ENDED_S = 8 * 3_600
LIVE_HOSTS, LIVE_WINDOWS, LIVE_COMPRESSED, LIVE_MB = 2_500, 60, 25, 400
#: Longer than the page takes to look for a window (2 s) and to show it in full.
LIVE_PACE_S = 4.0
#: Flat: the most of the last quarter is at most so much above the most of the first. Garbage of a window is 70 MB.
LIVE_GROWTH_MB = 70


@dataclass
class Table:
    """What was measured, a row at a time, and whether all of it is within its bar."""

    missed: list[str] = field(default_factory=list)

    def row(self, what: str, value: float, unit: str, bar: float | None = None, *, least: bool = False) -> None:
        good = bar is None or (value >= bar if least else value <= bar)
        if not good:
            self.missed.append(what)
        told = "" if bar is None else f"{'≥' if least else '≤'} {bar:g} {unit}"
        print(f"{what:66} {value:9.1f} {unit:3} {told:>12} {'' if good else 'MISSED'}", flush=True)


def probe(name: str) -> str:
    """Return the expression of a function of page_probes.js."""
    return f"({PROBES}).{name}"


def new_page(browser: Browser) -> Page:
    page = browser.new_context(viewport=SIZE).new_page()  # type: ignore[arg-type]
    page.set_default_timeout(120_000)
    return page


@contextlib.contextmanager
def opened(browser: Browser, address: str) -> Iterator[Page]:
    """The page at rest."""
    page = new_page(browser)
    settle(page, address)
    yield page
    page.context.close()


def settle(page: Page, address: str) -> None:
    page.goto(address)
    page.wait_for_selector("html[data-ready]", state="attached")
    page.wait_for_selector("#loading", state="hidden")
    page.wait_for_timeout(1_500)


@dataclass(frozen=True)
class Opening:
    """One opening of the page, with an empty cache: ms to pictures, and bytes on the way."""

    first_ms: float
    full_ms: float
    first_bytes: int
    matrix_bytes: int


def open_once(browser: Browser, address: str) -> Opening:
    page, finished = new_page(browser), list[Request]()
    page.context.on("requestfinished", lambda request: finished.append(request))
    page.add_init_script(f"({PROBES}).watch()")
    settle(page, address)
    first, full = page.evaluate(probe("times"))
    first = first or full
    shown = page.evaluate("performance.timeOrigin") + first
    sizes = [(one, one.sizes()["responseBodySize"] + one.sizes()["responseHeadersSize"]) for one in finished]
    seen = sum(size for one, size in sizes if one.timing["startTime"] + one.timing["responseEnd"] <= shown)
    p50 = [size for one, size in sizes if "/matrix?" in one.url and "metric=p50" in one.url]
    page.context.close()
    return Opening(first, full, seen, max(p50))


def openings(table: Table, browser: Browser, hosts: int, address: str, times: int, sections: set[str]) -> None:
    runs = [open_once(browser, address) for _ in range(times + 1)]
    name = f"{hosts:,} hosts"
    if "open" in sections:
        table.row(f"{name}: open to first heatmap, server just started", runs[0].first_ms, "ms")
        middle = statistics.median(run.first_ms for run in runs[1:])
        table.row(f"{name}: open to first heatmap, median of {times}", middle, "ms", OPEN_MS[hosts])
        table.row(f"{name}: … to the full one", statistics.median(run.full_ms for run in runs[1:]), "ms")
    if "bytes" in sections and hosts == max(OPEN_MS):
        table.row(f"{name}: bytes to the first picture", max(run.first_bytes for run in runs) / 1e6, "MB", 1.0)
        table.row(f"{name}: the full matrix of p50", max(run.matrix_bytes for run in runs) / 1e6, "MB", 9.5)
        table.row("JavaScript, all that there is, as it is sent", script_bytes(address) / 1e3, "kB", 350)


def script_bytes(address: str) -> int:
    """Return the bytes that the server sends of every script of the page, to a browser that takes gzip only."""
    sent = 0
    for path in STATIC.rglob("*.js"):
        url = f"{address}static/@/{path.relative_to(STATIC).as_posix()}"
        request = urllib.request.Request(url, headers={"accept-encoding": "gzip"})  # noqa: S310
        with urllib.request.urlopen(request) as answer:  # noqa: S310
            sent += len(answer.read())
    return sent


def frames(table: Table, page: Page, times: int) -> None:
    runs = [page.evaluate(probe("frames")) for _ in range(times)]

    def middle(key: str) -> float:
        return statistics.median(run[key] for run in runs)

    table.row("2,500 hosts: zoom and pan, frame to frame", middle("gap"), "ms", 17)
    table.row("2,500 hosts: … p95", middle("gap95"), "ms")
    table.row("2,500 hosts: … work of a frame (p95 in the next line)", middle("work"), "ms")
    table.row("2,500 hosts: … p95", middle("work95"), "ms")


def play(table: Table, page: Page, hosts: int, times: int) -> None:
    runs = [page.evaluate(probe("steps"), [4, 15]) for _ in range(min(times, 3))]
    page.wait_for_selector("#loading", state="hidden")
    steps = statistics.median(run["median"] for run in runs)
    table.row(f"{hosts:,} hosts: step of play, to the end of its frame", steps, "ms", STEP_MS[hosts])
    table.row(f"{hosts:,} hosts: … p95", statistics.median(run["p95"] for run in runs), "ms")
    table.row(f"{hosts:,} hosts: … steps a second (asked for 5)", statistics.median(run["rate"] for run in runs), "/s")


def arrive(store: Any, window: Any, like: Any) -> None:
    """Put a window into the store that looks like another; metrics that are not looked at are that of `sent`."""
    from pingmesh_tasks.matrix.codes import METRICS
    from pingmesh_tasks.store import layout

    for key in store.keys(layout.table_prefix("group_latency", like)):
        store.put(layout.table("group_latency", window, Path(key).stem), store.get(key))
    for metric in METRICS:
        same = metric if metric in ("p50", "loss") else "sent"
        store.put(layout.table("mesh_map", window, metric), store.get(layout.table("mesh_map", like, same)))


def windows_of(store: Any) -> list[Any]:
    from pingmesh_tasks.queries.page import Page as Answers
    from pingmesh_tasks.settings import load_settings

    answers = Answers(store, load_settings({"PINGMESH_INVENTORY": "unused"}))
    return [answers.parse(window["id"]) for window in answers.boot()["windows"]]


def live(table: Table, playwright: Playwright, address: str, bucket: str, times: int) -> None:
    """Follow windows as they arrive; the page asks for new ones LIVE_COMPRESSED times as often.

    In a browser of its own that nobody debugs meanwhile: for a debugger Chromium's renderer keeps what it was sent.
    """
    store, count = page_api.opened(bucket), LIVE_WINDOWS if times > 1 else 8
    made = windows_of(store)
    with lonely_browser() as (endpoint, pid):
        with attached(playwright, endpoint) as browser:
            page = browser.contexts[0].new_page()
            page.add_init_script(f"({PROBES}).compress({LIVE_COMPRESSED})")
            settle(page, address)
        time.sleep(2)
        held = [renderer_mb(pid)]
        table.row(f"{LIVE_HOSTS:,} hosts: memory of the renderer, opened", held[0], "MB", LIVE_MB)
        newest, quarter = made[-1], list[float]()
        for number in range(1, count + 1):
            newest = newest.shifted(1)
            arrive(store, newest, made[number % MADE])
            time.sleep(LIVE_PACE_S)
            quarter.append(renderer_mb(pid))
            if number * 4 % count == 0:
                held.append(max(quarter))
                quarter.clear()
                table.row(f"{LIVE_HOSTS:,} hosts: … most until window {number} of live mode", held[-1], "MB", LIVE_MB)
                with attached(playwright, endpoint) as browser:
                    page = next(one for one in browser.contexts[0].pages if one.url.startswith(address))
                    seen = page.locator("#clock").text_content() or ""
                if f"{newest.start:%H:%M}" not in seen:
                    table.missed.append(f"live mode shows {seen}, {newest.id} is the newest")
    growth = held[-1] - held[1]
    table.row(f"{LIVE_HOSTS:,} hosts: … the last quarter's most above the first's", growth, "MB", LIVE_GROWTH_MB)


@contextlib.contextmanager
def lonely_browser() -> Iterator[tuple[str, int]]:
    """A Chromium that runs without Playwright; yields where it can be attached to, and its process."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        size = f"--window-size={SIZE['width']},{SIZE['height']}"
        command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", size, f"--user-data-dir={folder}"]
        process = subprocess.Popen([*command, "--remote-debugging-port=0", "about:blank"], stderr=subprocess.DEVNULL)
        try:
            told = Path(folder) / "DevToolsActivePort"
            while not (told.exists() and told.read_text().strip()):
                time.sleep(0.1)
            yield f"http://127.0.0.1:{told.read_text().split()[0]}", process.pid
        finally:
            process.terminate()
            process.wait()


@contextlib.contextmanager
def attached(playwright: Playwright, endpoint: str) -> Iterator[Browser]:
    browser = playwright.chromium.connect_over_cdp(endpoint)
    yield browser
    browser.close()


def renderer_mb(browser: int) -> float:
    """Return the proportional memory of the renderers of a browser's process, their workers with them, in MB."""
    parents, renderers = {}, []
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
            parents[int(fields["Pid"])] = int(fields["PPid"])
            if "--type=renderer" in (status.parent / "cmdline").read_text():
                renderers.append(int(fields["Pid"]))
    total = 0.0
    for pid in renderers:
        ancestor = pid
        while ancestor not in (0, browser):
            ancestor = parents.get(ancestor, 0)
        if ancestor:
            with contextlib.suppress(OSError):
                total += page_api.pss_mb(pid)
    return total


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


def median_of(times: int, measure: Callable[[], float]) -> float:
    return statistics.median(measure() for _ in range(times))


def peers(table: Table, browser: Browser, address: str, times: int) -> None:
    with opened(browser, address) as page:
        ours = median_of(times, lambda: float(page.evaluate(probe("ours"), [address, 1_000])))
    table.row("1 000 × 1 000 in memory to first paint: the map", ours, "ms")
    with tempfile.TemporaryDirectory() as folder:
        for name, script in fetch_peers(Path(folder)).items():
            (script.parent / "peer.html").write_text(f"<!doctype html><script src='{script.name}'></script><body>")
            with plain_server(script.parent) as home:
                page = new_page(browser)
                page.set_default_timeout(300_000)
                page.goto(home + "peer.html")
                page.evaluate(probe(name), 20)
                took = median_of(min(times, 3), lambda page=page, name=name: float(page.evaluate(probe(name), 1_000)))  # type: ignore[misc]
                page.context.close()
            table.row(f"1 000 × 1 000 in memory to first paint: {name}", took, "ms")
            table.row(f"… times the map: {name}", math.floor(took / ours), "×", SLOWER[name], least=True)


def hosts_for(sections: set[str]) -> list[int]:
    """Return the sizes of mesh that the sections need."""
    wanted = {"open": {8, 1_000, 2_500}, "frames": {2_500}, "play": {1_000, 2_500}, "bytes": {2_500}, "peers": {8}}
    return sorted(set().union(*(wanted.get(section, {LIVE_HOSTS}) for section in sections)))


def measure(table: Table, playwright: Playwright, browser: Browser, hosts: int, sections: set[str], times: int) -> None:
    """Measure what the sections want of one size of mesh."""
    bucket = f"hosts-{hosts}"
    page_api.filled(bucket, hosts, MADE, ended_s=ENDED_S)
    with page_api.server(bucket) as (url, _):
        address = f"{url}/pingmesh/"
        if sections & {"open", "bytes"}:
            openings(table, browser, hosts, address, times, sections)
        if hosts == 8 and "peers" in sections:
            peers(table, browser, address, times)
        if hosts == LIVE_HOSTS and "live" in sections:
            live(table, playwright, address, bucket, times)
        if hosts == 2_500 and "frames" in sections:
            with opened(browser, address) as page:
                frames(table, page, times)
        if hosts in STEP_MS and "play" in sections:
            store = page_api.opened(bucket)
            there = windows_of(store)
            for number in range(len(there), PLAYED):
                arrive(store, there[-1].shifted(number - len(there) + 1), there[number % MADE])
            with opened(browser, address) as page:
                play(table, page, hosts, times)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], help="all without any")
    parser.add_argument(
        "--quick", action="store_true", help="one run each instead of the median of five; 8 live windows"
    )
    given = parser.parse_args()
    sections, times = set(given.sections or SECTIONS), 1 if given.quick else 5
    table, started = Table(), time.perf_counter()
    with page_api.s3_server(), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for hosts in hosts_for(sections):
            measure(table, playwright, browser, hosts, sections, times)
        browser.close()
    print(
        f"{time.perf_counter() - started:.0f} s;", f"MISSED: {', '.join(table.missed)}" if table.missed else "all good"
    )
    return 1 if table.missed else 0


if __name__ == "__main__":
    sys.exit(main())
