"""From an object in the store to the first line of a task: our arrival trigger against Airflow's own S3KeySensor.

A real Airflow, with the settings and the pre-imports of the demo, and a real S3 server. Ours: a notable batch is put
under `hot/`; ArrivalTrigger, the watcher of an asset, starts a run of a DAG that is scheduled on the asset. The peer:
`S3KeySensor(mode="poke", poke_interval=1)` and a task after it, in a run that was started before the object was put;
the sensor holds a worker's slot for all that time, ours holds none. (The deferrable sensor needs aiobotocore, which is
not among Airflow's own requirements.) `--watch S` also says what the triggerer costs while nothing arrives.

    python benchmarks/alarm_start.py [--rounds 12] [--port 38080] [--watch 60]
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import httpx

from pingmesh_tasks.demo.airflow import DemoAirflow
from pingmesh_tasks.demo.object_store import EmbeddedObjectStore
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.hot_batch import HotPiece, encode_batch
from pingmesh_tasks.store.objects import ObjectStore

PATIENCE_S = 120
MEDIAN_BAR_S, WORST_BAR_S = 3.0, 8.0

DAGS = """
import os, time
from datetime import datetime, UTC
from pathlib import Path
from airflow.providers.amazon.aws.sensors.s3 import S3KeySensor
from airflow.sdk import Asset, AssetWatcher, dag, task
from pingmesh_tasks.orchestration.triggers import ArrivalTrigger

SEEN = Path(os.environ["BENCHMARK_SEEN"])
MORE = dict(start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False, max_active_runs=1)
"""
ARRIVAL = (
    DAGS.replace("from airflow.providers.amazon.aws.sensors.s3 import S3KeySensor\n", "")
    + """
HOT = Asset(name="hot", uri="hot", watchers=[AssetWatcher(name="arrival", trigger=ArrivalTrigger(heartbeat_s=3600.0))])

@dag(schedule=[HOT], **MORE)
def arrival():
    @task
    def begin(triggering_asset_events=None):
        began = time.time()
        events = [event.extra["payload"] for events in triggering_asset_events.values() for event in events]
        (SEEN / f"{began:.6f}").write_text(max(event["to"] for event in events))
    begin()
arrival()
"""
)
POKE = (
    DAGS
    + """
@dag(schedule=None, **MORE)
def poke():
    @task
    def begin(dag_run=None):
        (SEEN / f"{time.time():.6f}").write_text(dag_run.conf["key"])
    S3KeySensor(task_id="wait", bucket_name="pingmesh", bucket_key="{{ dag_run.conf['key'] }}", mode="poke",
                poke_interval=1, timeout=300) >> begin()
poke()
"""
)


def wait_for(what: str, there: Callable[[], object]) -> object:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := there()):
        if time.monotonic() > deadline:
            raise SystemExit(f"no {what} within {PATIENCE_S} s")
        time.sleep(0.05)
    return found


def started_for(seen: Path, key: str) -> float | None:
    """When a task began that knew of `key`, s since the epoch."""
    times = [float(file.name) for file in seen.iterdir() if file.read_text() >= key]
    return min(times, default=None)


def ours(store: ObjectStore, seen: Path, number: int) -> float:
    put_s = time.time()
    key = layout.hot_batch(round(put_s * 1000), "be9c4a11", number, notable=True)
    store.put(key, encode_batch([HotPiece("roster", "follow", "be9c4a11", 0, b"{}", round(put_s * 1e6))]))
    return float(wait_for("start", lambda: started_for(seen, key))) - put_s  # type: ignore[arg-type]


def peer(airflow: DemoAirflow, store: ObjectStore, seen: Path, number: int) -> float:
    key = f"poke/{number:06d}"
    with closing(airflow.log_in()) as client:
        run = client.post("/api/v2/dags/poke/dagRuns", json={"logical_date": None, "conf": {"key": key}})
        run_id = run.raise_for_status().json()["dag_run_id"]
        state = f"/api/v2/dags/poke/dagRuns/{run_id}/taskInstances/wait"
        wait_for("sensor", lambda: client.get(state).json().get("state") == "running")
    time.sleep(3)  # it pokes
    put_s = time.time()
    store.put(key, b"")
    return float(wait_for("start", lambda: started_for(seen, key))) - put_s  # type: ignore[arg-type]


def triggerer_ticks(group: int) -> int:
    """CPU ticks that the triggerer's processes in the group have used."""
    ticks = 0
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[2]) == group and b"triggerer" in (entry / "cmdline").read_bytes():
                ticks += int(fields[11]) + int(fields[12])
        except (OSError, IndexError, ValueError):
            continue
    return ticks


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--port", type=int, default=38080)
    parser.add_argument("--watch", type=float, default=60.0, help="seconds to measure an idle triggerer")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="alarm-start-") as folder:
        root = Path(folder)
        dags, seen, seen_by_peer = (root / name for name in ("dags", "seen", "seen-by-peer"))
        for made in (dags, seen, seen_by_peer):
            made.mkdir()
        (dags / "arrival.py").write_text(ARRIVAL)
        (dags / "poke.py").write_text(POKE.replace("BENCHMARK_SEEN", "BENCHMARK_SEEN_BY_PEER"))
        s3 = EmbeddedObjectStore(root / "s3")
        store = s3.start()
        login = {"conn_type": "aws", "login": s3.access_key_id, "password": s3.secret_access_key}
        endpoint = {"endpoint_url": s3.access.endpoint, "region_name": "us-east-1"}
        airflow = DemoAirflow(
            root / "airflow",
            options.port,
            secrets.token_urlsafe(12),
            secrets.token_urlsafe(64),
            {
                "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
                "PINGMESH_INVENTORY": "unused",
                "PINGMESH_S3_ENDPOINT": str(s3.access.endpoint),
                "AIRFLOW_CONN_PINGMESH_S3": json.dumps(login),
                "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(login | {"extra": endpoint}),
                "BENCHMARK_SEEN": str(seen),
                "BENCHMARK_SEEN_BY_PEER": str(seen_by_peer),
            },
        )
        try:
            airflow.start()
            airflow.await_up()
            wait_for("DAGs", lambda: both_known(airflow))
            ours(store, seen, 0)  # the first one also waits for the triggerer to come up
            cpu = 0.0
            if options.watch:
                time.sleep(5)
                group = airflow.daemon.pid or 0
                before = triggerer_ticks(group)
                time.sleep(options.watch)
                cpu = (triggerer_ticks(group) - before) / os.sysconf("SC_CLK_TCK") / options.watch
            found: dict[str, list[float]] = {"arrival trigger (asset watcher)": [], "S3KeySensor, poke": []}
            for number in range(1, options.rounds + 1):
                time.sleep(2)
                found["arrival trigger (asset watcher)"].append(ours(store, seen, number))
                found["S3KeySensor, poke"].append(peer(airflow, store, seen_by_peer, number))
        finally:
            airflow.stop()
            s3.stop()
    print(f"{'put to first line of the task':<34} {'median s':>9} {'worst s':>9} {'least s':>9}")
    for name, times in found.items():
        print(f"{name:<34} {statistics.median(times):>9.2f} {max(times):>9.2f} {min(times):>9.2f}")
    mine, theirs = (statistics.median(times) for times in found.values())
    print(f"ratio of medians {mine / theirs:.2f}; idle triggerer {cpu:.1%} of a core")
    return 0 if mine <= MEDIAN_BAR_S and max(found["arrival trigger (asset watcher)"]) <= WORST_BAR_S else 1


def both_known(airflow: DemoAirflow) -> bool:
    try:
        with closing(airflow.log_in()) as client:
            known = {dag["dag_id"] for dag in client.get("/api/v2/dags").raise_for_status().json()["dags"]}
    except httpx.HTTPError:
        return False
    return {"arrival", "poke"} <= known


if __name__ == "__main__":
    sys.exit(main())
