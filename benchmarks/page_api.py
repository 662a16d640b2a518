"""What the page's API costs at 2,500 hosts: making a window ready, each answer, and memory that must not grow.

The store is a real S3 server; the app runs in a process of its own under uvicorn, asked over loopback, one request at a
time and then four. "cold" is the first answer of each of the windows, "warm" the same again. The peer is what FastAPI
does with the same cells when one returns them: JSON of [row, column, µs] triples, at 1,000 hosts.

    python benchmarks/page_api.py [--hosts 2500] [--windows 6]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

REPO = Path(__file__).parents[1]
sys.path[:0] = [str(REPO), str(REPO / "plugins")]

#: Freed memory is given back a second after the last answer.
SETTLE_S = 2.0
BAR_S, BAR_GROWTH_MB, REQUESTS, PEER_HOSTS = 0.25, 50.0, 1_000, 1_000


@contextmanager
def s3_server() -> Iterator[None]:
    """A real S3 server of this run's own. The processes of the run find it by BENCH_STORE."""
    from pingmesh_tasks.demo.object_store import EmbeddedObjectStore

    with tempfile.TemporaryDirectory() as folder:
        store = EmbeddedObjectStore(Path(folder), secret_access_key=secrets.token_urlsafe(24))
        store.start()
        try:
            access = store.access
            told = {"key": access.access_key_id, "secret": access.secret_access_key, "endpoint": access.endpoint}
            os.environ["BENCH_STORE"] = json.dumps(told)
            yield
        finally:
            store.stop()


def filled(bucket: str, hosts: int, windows: int, *, pairs: bool = False, ended_s: int = 0) -> None:
    """Fill a bucket, in a process of its own; the newest window ended `ended_s` ago."""
    told = map(str, (hosts, windows, int(pairs), ended_s))
    subprocess.run([sys.executable, __file__, "fill", bucket, *told], check=True)


def opened(bucket: str) -> Any:
    from pingmesh_tasks.store.objects import ObjectStore, S3Access

    given = json.loads(os.environ["BENCH_STORE"])
    return ObjectStore(S3Access(bucket, given["key"], given["secret"], given["endpoint"]))


def fill(bucket: str, hosts: int, windows: int, pairs: bool, ended_s: int) -> None:
    from tests.support.page_data import fill

    store = opened(bucket)
    store.ensure_bucket()
    fill(store, hosts, windows, pairs=pairs, end=datetime.now(UTC) - timedelta(seconds=ended_s))


def build(bucket: str) -> dict[str, float]:
    """Run the stage on the newest window's `pair_latency`."""
    from pingmesh_tasks.fleet.connect import SshAccess
    from pingmesh_tasks.pipeline.mesh_matrix import build_mesh_map
    from pingmesh_tasks.pipeline.run import Part, Run
    from pingmesh_tasks.queries.page import Page
    from pingmesh_tasks.settings import load_settings

    store, settings = opened(bucket), load_settings({"PINGMESH_INVENTORY": "unused"})
    page = Page(store, settings)
    newest = page.boot()["newest"]
    window = page.parse(newest["id"])
    nobody = SshAccess("nobody", private_key=Path("none"), known_hosts=Path("none"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    start = time.perf_counter()
    told = build_mesh_map(Run(window, settings, store, nobody), Part(newest["plan"], "000-of-001"))
    took = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {"s": took, "peak_mb": peak, "before_mb": before, "written_mb": told["bytes"] / 1e6}


def serve(bucket: str) -> None:
    from fastapi import FastAPI
    from pingmesh_ui.app import create_app  # first, as in the api-server: it says where Arrow's memory comes from

    from pingmesh_tasks.matrix.codes import decode
    from pingmesh_tasks.queries.page import Page
    from pingmesh_tasks.settings import load_settings
    from tests.support.page_api_server import QuietHost, serving

    settings = load_settings({"PINGMESH_INVENTORY": "unused"})
    outer = FastAPI()

    @outer.get("/triples")
    def triples(bucket: str, window: str) -> list[tuple[int, int, float]]:
        page = Page(opened(bucket), settings)
        codes, _ = page.full(page.window(window), "p99")
        us = decode(codes, "log")
        return [(i, j, float(v)) for i, row in enumerate(us) for j, v in enumerate(row) if v == v]

    outer.mount("/pingmesh", create_app(lambda: Page(opened(bucket), settings), [], QuietHost()))
    with serving(outer) as url:
        print(url, flush=True)
        sys.stdin.read()


@contextmanager
def server(bucket: str) -> Iterator[tuple[str, int]]:
    command = [sys.executable, __file__, "serve", bucket]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdin
        yield process.stdout.readline().strip(), process.pid
        process.stdin.close()


def pss_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith("Pss:"))


def questions(url: str, client: Any) -> dict[str, list[str]]:
    """Return what the page asks, by kind: a path for each window."""
    boot = client.get(f"{url}/pingmesh/api/v1/boot").json()
    axis = client.get(f"{url}/pingmesh/api/v1/axis/{boot['newest']['plan']}").json()
    a, b = axis["hosts"][1], axis["hosts"][-2]
    tor, other = axis["tors"][0]["name"], axis["tors"][-1]["name"]
    ids = [window["id"] for window in boot["windows"]]
    span = f"from={ids[0]}"
    at = {
        "matrix, full": "matrix?window={w}&metric=p99",
        "matrix, lod 2": "matrix?window={w}&metric=p90&lod=2",
        "matrix, lod 2, mean": "matrix?window={w}&metric=loss&lod=2&pool=mean",
        "worst cells": "worst?window={w}&metric=p99",
        "groups: ToR to ToR": "groups?window={w}&of=tor",
        "groups: hosts": "groups?window={w}&of=host",
        "CDF of two ToRs": f"cdf?window={{w}}&of=tor&src={tor}&dst={other}",
        "fleet": "fleet?window={w}",
        "use": "usage?window={w}",
    }
    once = {
        "boot": ["boot"],
        "axis": [f"axis/{boot['newest']['plan']}"],
        "one pair": [f"pair?window={ids[-1]}&src={a}&dst={b}", f"pair?window={ids[-1]}&src={b}&dst={a}"],
        "series: host": [f"series?of=host&src={a}&{span}", f"series?of=host&dst={b}&{span}"],
        "series: ToR pair": [f"series?of=tor&src={tor}&dst={other}&{span}"],
        "series: pair": [f"series?of=pair&src={a}&dst={b}&{span}", f"series?of=pair&src={b}&dst={a}&{span}"],
        "findings": ["anomalies"],
        "incidents": ["incidents"],
    }
    asked = {name: [path.format(w=w) for w in ids] for name, path in at.items()} | once
    return {name: [f"{url}/pingmesh/api/v1/{path}" for path in paths] for name, paths in asked.items()}


def timed(ask: Callable[[], Any]) -> tuple[float, int]:
    start = time.perf_counter()
    answer = ask()
    took = time.perf_counter() - start
    assert answer.status_code == 200, answer.text[:300]
    return took, int(answer.headers.get("content-length", 0))


def p95(values: list[float]) -> float:
    return sorted(values)[max(0, -(-len(values) * 95 // 100) - 1)]


def measure(bucket: str, peer_bucket: str) -> bool:
    import httpx

    good = True
    # no decoding here: a browser does that in a worker
    with server(bucket) as (url, pid), httpx.Client(timeout=300, headers={"accept-encoding": "gzip, zstd"}) as client:

        def ask(path: str) -> tuple[float, int]:
            def raw() -> Any:
                with client.stream("GET", path) as answer:
                    for _ in answer.iter_raw(1 << 20):
                        pass
                    return answer

            return timed(raw)

        began = pss_mb(pid)
        kinds = questions(url, client)
        for paths in kinds.values():  # what is imported and cached for the first answer of each kind is no growth
            ask(paths[-1])
        time.sleep(SETTLE_S)
        before = pss_mb(pid)
        print(f"{'answer':24} {'cold ms':>9} {'warm ms':>9} {'p95 ms':>9} {'kB':>9}")
        for name, paths in kinds.items():
            cold = [ask(path) for path in paths]
            warm = [ask(path)[0] for _ in range(max(2, 20 // len(paths))) for path in paths]
            slowest = p95([took for took, _ in cold] + warm)
            fine = slowest <= BAR_S
            good &= fine
            middle = (statistics.median(took for took, _ in cold) * 1e3, statistics.median(warm) * 1e3)
            size = statistics.median(size for _, size in cold) / 1e3
            print(
                f"{name:24} {middle[0]:9.1f} {middle[1]:9.1f} {slowest * 1e3:9.1f} {size:9.1f}",
                "" if fine else "  over the bar",
            )

        every = [path for paths in kinds.values() for path in paths]
        with ThreadPoolExecutor(4) as pool:
            took = [one for one, _ in pool.map(ask, [every[i % len(every)] for i in range(REQUESTS)])]
        busy = pss_mb(pid)
        time.sleep(SETTLE_S)
        after = pss_mb(pid)
        fine = after - before <= BAR_GROWTH_MB
        good &= fine
        middle_ms, slowest_ms = statistics.median(took) * 1e3, p95(took) * 1e3
        print(f"\n{REQUESTS} requests, four at a time: median {middle_ms:.0f} ms, p95 {slowest_ms:.0f} ms")
        print(
            f"memory of the server: {began:.0f} MB before it is asked; {before:.0f} MB after one answer of each kind,",
            f"{busy:.0f} MB after all, {after:.0f} MB {SETTLE_S:.0f} s later: {after - before:+.0f} MB",
            f"(bar: + {BAR_GROWTH_MB:.0f} MB)" + ("" if fine else "  over the bar"),
        )

    with server(peer_bucket) as (url, _), httpx.Client(timeout=300, headers={"accept-encoding": "zstd"}) as client:
        newest = client.get(f"{url}/pingmesh/api/v1/boot").json()["newest"]["id"]
        ours = [timed(lambda: client.get(f"{url}/pingmesh/api/v1/matrix?window={newest}&metric=p99")) for _ in range(5)]
        theirs = [timed(lambda: client.get(f"{url}/triples?bucket={peer_bucket}&window={newest}")) for _ in range(3)]
    mine, peer = (statistics.median(took for took, _ in found) for found in (ours, theirs))
    print(f"\n{PEER_HOSTS:,} hosts, all cells of p99: {mine * 1e3:.0f} ms, {ours[0][1] / 1e6:.1f} MB")
    print(f"FastAPI's JSON of triples: {peer * 1e3:.0f} ms, {theirs[0][1] / 1e6:.1f} MB: {peer / mine:.0f} × slower")
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=2500)
    parser.add_argument("--windows", type=int, default=6)
    given = parser.parse_args()

    with s3_server():
        filled("page", given.hosts, given.windows, pairs=True)
        filled("peer", PEER_HOSTS, 1)
        ended = subprocess.run([sys.executable, __file__, "build", "page"], check=True, capture_output=True, text=True)
        made = json.loads(ended.stdout.splitlines()[-1])
        print(f"{given.hosts:,} hosts, from pair_latency to map and groups: {made['s']:.1f} s", end=", ")
        print(f"{made['written_mb']:.1f} MB; peak {made['peak_mb']:.0f} MB ({made['before_mb']:.0f} MB before)\n")
        good = measure("page", "peer")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["fill", bucket, hosts, windows, pairs, ended_s]:
            fill(bucket, int(hosts), int(windows), bool(int(pairs)), int(ended_s))
        case ["build", bucket]:
            print(json.dumps(build(bucket)))
        case ["serve", bucket]:
            serve(bucket)
        case _:
            main()
