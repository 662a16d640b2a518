"""The whole thing, as a newcomer and an operator meet it: `make demo` with real SSH, a real S3 server, real Airflow.

One story told in order, since every chapter needs minutes of real windows: the first pictures, two faults and their
mails, a second `up`, Airflow away for two windows and a backfill, hosts cleaned by hand, everything stopped.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import polars as pl
import pytest

from pingmesh_tasks.demo.run import (
    FIRST_ARTIFACTS_TIMEOUT_S,
    HAMMER_USER,
    KINDS,
    OUTAGE_HOST,
    WINDOW_S,
    Demo,
    Ports,
)
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.objects import ObjectStore
from pingmesh_tasks.store.tables import read_parts, read_table
from pingmesh_tasks.windows import Window, window_containing

pytestmark = pytest.mark.e2e
REPO = Path(__file__).parents[2]
PORTS = Ports(airflow=28080, s3=21333, ssh=2822, smtp=28025, inbox=28026)
#: Most that an e2e run may wait for a state; windows are a minute long.
PATIENCE_S = 300


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    """The demo below a folder that no other test session tidies away."""
    root = Path(tempfile.mkdtemp(prefix="pingmesh-demo-"))
    demo = Demo(root, PORTS)
    yield demo
    demo.stop(print)
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def store(demo: Demo) -> ObjectStore:
    return ObjectStore(demo.s3.access)


def command(demo: Demo, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    ports = {f"PINGMESH_DEMO_{name.upper()}_PORT": str(getattr(PORTS, name)) for name in asdict(PORTS)}
    return subprocess.run(
        [sys.executable, "-m", "pingmesh_tasks.cli", "demo", "--root", str(demo.root), "--no-outage", *words],
        env=os.environ | ports | {"PYTHONPATH": str(REPO)} | environment,
        capture_output=True,
        text=True,
        timeout=FIRST_ARTIFACTS_TIMEOUT_S + 300,
        check=False,
    )


def await_true(what: str, condition, patience_s: float = PATIENCE_S, *, demo: Demo | None = None):
    deadline = time.monotonic() + patience_s
    while not (answer := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not happen within {patience_s} s\n{unfinished(demo) if demo else ''}")
        time.sleep(1)
    return answer


def unfinished(demo: Demo) -> str:
    """What Airflow is at, for the report of a test that waited in vain."""
    lines = []
    with closing(demo.airflow.log_in()) as client:
        for run in demo.airflow.runs("pingmesh")[-6:]:
            url = f"/api/v2/dags/pingmesh/dagRuns/{run['dag_run_id']}/taskInstances"
            tasks = client.get(url).json()["task_instances"]
            states = [f"{task['task_id']} {task['state']} try {task['try_number']}" for task in tasks]
            shown = [state for state in states if " success" not in state]
            lines.append(f"{run['dag_run_id']} {run['state']} since {run['start_date']}: {'; '.join(shown)}")
    return "\n".join([*lines, demo.airflow.daemon.last_lines()])


def seconds(run: dict) -> float:
    start, end = (datetime.fromisoformat(run[name]) for name in ("start_date", "end_date"))
    return (end - start).total_seconds()


def drawn_windows(store: ObjectStore) -> list[str]:
    keys = store.keys(f"{layout.ARTIFACTS}/timeline/")
    return sorted({layout.window_id_of(key) for key in keys if key.endswith(".html")})


def test_a_port_that_is_taken_is_named_with_the_variable_that_moves_it(demo):
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", PORTS.airflow))
        stranger.listen()
        done = command(demo, "up")
    assert done.returncode == 1
    assert f"port {PORTS.airflow} on 127.0.0.1 is taken; set PINGMESH_DEMO_AIRFLOW_PORT to another" in done.stderr
    assert not demo.s3.is_running


def test_up_ends_with_the_first_pictures_the_address_the_login_and_how_to_stop(demo, store):
    done = command(demo, "up")
    assert done.returncode == 0, done.stdout + done.stderr
    for kind, extensions in KINDS.items():
        for extension in extensions:
            assert re.search(rf"artifacts/{kind}/date=\S+/\d+T\d+Z\.{extension}\n", done.stdout)
            assert len(store.get(layout.latest_artifact(kind, extension))) > 1000
    for part in (demo.airflow.url, demo.secrets.airflow_password, "make stop"):
        assert part in done.stdout


def test_every_pair_of_the_mesh_was_measured(store):
    pairs = read_table(store, "pair_latency", Window.parse(drawn_windows(store)[0], WINDOW_S))
    assert pairs["src"].n_unique() == 8
    assert pairs.filter(pl.col("answered") == 0).is_empty()
    assert pairs["rtt_p50_us"].max() < 100_000


def test_who_used_the_data_server_is_known(demo, store):
    keys = [key for day in days() for key in store.keys(layout.artifact_day_prefix("usage", day))]
    usage = [key for key in keys if key.endswith(".html")]
    assert usage
    window = Window.parse(layout.window_id_of(max(usage)), WINDOW_S)
    figures = read_table(store, "usage", window).filter(pl.col("dimension") == "all")
    values = dict(figures.select("measure", "value").iter_rows())
    assert values["operations"] == read_table(store, "operation", window).height > 0
    assert values["connects"] > 0
    assert set(read_table(store, "log_status", window)["outcome"]) <= {"first", "grown", "rotated"}
    runs = [run for run in demo.airflow.runs("access_logs") if run["state"] != "running"]
    assert {run["state"] for run in runs} == {"success"}


def test_a_run_from_start_to_last_artifact_takes_no_longer_than_its_window(demo):
    def good() -> list[dict]:
        return [run for run in demo.airflow.runs("pingmesh") if run["state"] == "success"]

    runs = await_true("a second good run", lambda: good() if len(good()) >= 2 else None)
    assert min(seconds(run) for run in runs) <= WINDOW_S


def told(demo: Demo, what: str) -> list[str]:
    """Subjects of the mails that the inbox got and that name `what`, oldest first."""
    messages = httpx.get(f"{demo.inbox_url}/messages.json", timeout=10).raise_for_status().json()["messages"]
    return [m["subject"] for m in reversed(messages) if m["channel"] == "email" and what in m["subject"]]


def test_a_healthy_start_alarms_nobody(demo):
    slow = "Data of "  # pingmesh are late: a first run on a busy machine
    assert [subject for subject in told(demo, "") if slow not in subject] == []


def test_a_flood_is_told_within_seconds_and_a_dead_host_too_and_both_are_told_to_be_over(demo, store):
    began = time.monotonic()
    assert command(demo, "fault", "hammer", "--seconds", "30").returncode == 0
    await_true("the mail about mallory", lambda: told(demo, HAMMER_USER), demo=demo)
    print(f"the flood was told after {time.monotonic() - began:.0f} s")
    assert command(demo, "fault", OUTAGE_HOST, "--seconds", "45").returncode == 0
    began = time.monotonic()
    await_true(f"the mail about {OUTAGE_HOST}", lambda: told(demo, OUTAGE_HOST), demo=demo)
    print(f"the dead host was told after {time.monotonic() - began:.0f} s")
    for what in (HAMMER_USER, OUTAGE_HOST):
        await_true(f"the end of {what}", lambda w=what: "Resolved" in told(demo, w)[-1], demo=demo)
    history = [read_parts(store, "notice", Window.parse(w, WINDOW_S)) for w in windows_of(store, "notice")]
    notices = pl.concat([frame for parts in history for frame in parts])
    of_host = notices.filter(pl.col("subject") == OUTAGE_HOST)
    assert of_host["incident"].n_unique() == 1, "one fault is one incident"
    assert of_host["notice"].is_unique().all()


def windows_of(store: ObjectStore, table: str) -> list[str]:
    keys = [key for day in days() for key in store.keys(layout.table_day_prefix(table, day))]
    return sorted({layout.window_id_of(key) for key in keys})


def days() -> tuple[datetime, datetime]:
    """Yesterday and today: this story may begin before midnight and end after it."""
    now = datetime.now(UTC)
    return now - timedelta(days=1), now


def test_up_again_changes_nothing_and_is_quick(demo):
    pid, began = demo.airflow.daemon.pid, time.monotonic()
    done = command(demo, "up")
    assert done.returncode == 0, done.stderr
    assert demo.airflow.daemon.pid == pid
    assert time.monotonic() - began < 30


def test_no_secret_is_in_a_log_of_airflow_or_an_object(demo, store):
    secrets = [demo.secrets.bootstrap_password, demo.secrets.s3_secret]
    secrets.append((demo.root / "ssh" / "id_ed25519").read_text().splitlines()[1])
    for log in (demo.root / "airflow").rglob("*.log"):
        text = log.read_text(errors="replace")
        assert not any(secret in text for secret in secrets), log
    for key in store.keys("control/"):
        assert not any(secret.encode() in store.get(key) for secret in secrets), key


def test_windows_that_airflow_slept_through_are_caught_up_by_a_backfill(demo, store):
    demo.airflow.stop()
    asleep = window_containing(datetime.now(UTC), WINDOW_S)
    missed = [asleep.shifted(step) for step in (1, 2)]
    time.sleep((missed[-1].end - datetime.now(UTC)).total_seconds() + 5)
    demo.airflow.start()
    demo.airflow.await_up()
    with closing(demo.airflow.log_in()) as client:
        span = {
            "dag_id": "pingmesh",
            "from_date": missed[0].start.isoformat(),
            "to_date": missed[-1].start.isoformat(),
            "reprocess_behavior": "none",
            "max_active_runs": 1,
        }

        def begun() -> bool:
            with suppress(httpx.TimeoutException):  # then it may have begun all the same: 409 says so
                return client.post("/api/v2/backfills", json=span).status_code in (200, 409)
            return False

        await_true("the backfill", begun)
        for window in missed:
            await_true(f"the timeline of {window.id}", lambda w=window: w.id in drawn_windows(store), demo=demo)
        runs = [run for run in demo.airflow.runs("pingmesh") if run["run_type"] == "backfill"]
        tasks = client.get(f"/api/v2/dags/pingmesh/dagRuns/{runs[0]['dag_run_id']}/taskInstances").json()
    states = {task["task_id"]: task["state"] for task in tasks["task_instances"]}
    assert states["shard.dispatch_agents"] == states["shard.ensure_keys"] == "skipped"
    assert states["shard.collect_segments"] == "success"
    for window in missed:
        pairs = read_table(store, "pair_latency", window)
        assert pairs["sent"].mean() >= 0.9 * WINDOW_S / 2, "agents went on while Airflow was away"
        assert pairs["sent"].min() >= 0.5 * WINDOW_S / 2


def test_a_dry_run_of_clean_hosts_changes_nothing_and_a_real_one_leaves_nothing(demo):
    homes = demo.root / "fleet" / "hosts"

    def idle() -> bool:
        return all(run["state"] != "running" for run in demo.airflow.runs("pingmesh"))

    def do(client, **conf) -> str:
        body = {"logical_date": None, "conf": {"action": "clean_hosts", **conf}}
        runs = "/api/v2/dags/fleet_admin/dagRuns"
        run = await_true("a run", lambda: asked(client.post(runs, json=body)).get("dag_run_id"))

        def ended() -> str | None:
            state = asked(client.get(f"{runs}/{run}")).get("state")
            return state if state in ("success", "failed") else None

        return await_true("fleet_admin", ended)

    with closing(demo.airflow.log_in()) as client:
        await_true("a moment between two runs", idle, demo=demo)  # a paused DAG does not finish its run
        await_true("a pause", lambda: client.patch("/api/v2/dags/pingmesh", json={"is_paused": True}).is_success)
        assert do(client) == "success"
        assert len(list(homes.glob("*/home/.pingmesh/agent.lock"))) == 8
        assert do(client, dry_run=False, remove_key=True) == "success"
    assert list(homes.glob("*/home/.pingmesh")) == []
    keys = "".join(file.read_text() for file in homes.glob("*/home/.ssh/authorized_keys"))
    assert keys.strip() == ""
    assert not agents_of(demo)


def asked(response: httpx.Response) -> dict:
    """What the API says; nothing where it fails, as it does now and then while SQLite is locked."""
    return response.json() if response.is_success else {}


def agents_of(demo: Demo) -> list[str]:
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if str(demo.root) in words and "--home" in words:
            found.append(words)
    return found


def test_stop_ends_every_process_and_frees_every_port(demo):
    done = command(demo, "stop")
    assert done.returncode == 0, done.stderr
    assert command(demo, "status").stdout.strip() == "down"
    assert not agents_of(demo)
    for address, port in (("127.0.0.1", PORTS.airflow), ("127.0.0.1", PORTS.s3), ("127.0.0.11", PORTS.ssh)):
        with socket.socket() as probe:
            assert probe.connect_ex((address, port)) != 0, f"{address}:{port} still listens"
