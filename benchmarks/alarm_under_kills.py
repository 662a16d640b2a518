"""Does an alarm get lost, or told twice under two ids, when everything around it is killed? On the running demo.

Faults follow one another (a host down, a user who floods a node) while a task, its worker, the triggerer, the
scheduler, the S3 server or the inbox gets a kill -9 at random moments. Airflow's processes come back by themselves;
the S3 server and the inbox are started again after a few seconds. In the end each fault must have been told, under one
id, and have been told to be over. A mail that comes twice with the same id is what at-least-once means, and is counted.

    make demo        (or: pingmesh demo --no-outage up)
    python benchmarks/alarm_under_kills.py [--kills 50] [--seed 1]

About a quarter of an hour for 50 kills. Without a running demo it says so and ends.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import httpx
from alarm_latency import Told, told_since

from pingmesh_tasks.alerting.state_file import AlertFile
from pingmesh_tasks.demo.daemon import Daemon
from pingmesh_tasks.demo.fleet import demo_hosts
from pingmesh_tasks.demo.run import HAMMER_USER, ROOT, Demo, Ports
from pingmesh_tasks.errors import PingmeshError
from pingmesh_tasks.store.objects import ObjectStore

FAULT_S, BETWEEN_FAULTS_S = 60.0, 100.0
DOWN_S = 4.0
WAIT_S = 10.0  # for a task to be there
PATIENCE_S = 1_200.0  # a suspect that comes back again and again is held for a quarter of an hour
UUID = "[0-9a-f]{8}-"


@dataclass(frozen=True)
class Caused:
    """One fault that was caused, and when (seconds since the epoch)."""

    suspect: str
    at_s: float


def airflows(demo: Demo) -> dict[int, str]:
    """Pid and title of all of Airflow's processes; a task is in a session of its own, so parents are followed."""
    parents, titles = {}, {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            pid = int(entry.name)
            parents[pid] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            titles[pid] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    found = {demo.airflow.daemon.pid}
    while more := {pid for pid, parent in parents.items() if parent in found and pid not in found}:
        found |= more
    return {pid: titles[pid] for pid in found if pid in titles}


def kill_airflows(demo: Demo, title: str) -> bool:
    """Kill -9 one process of Airflow whose title fits the pattern `title`; say whether there was one soon."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        pids = [pid for pid, is_called in airflows(demo).items() if re.search(title, is_called)]
        if pids:
            with suppress(ProcessLookupError):
                os.kill(random.choice(pids), signal.SIGKILL)
            return True
        time.sleep(0.05)
    return False


def kill_daemon(daemon: Daemon, start: Callable[[], object]) -> bool:
    """Kill -9 a server, and start it again a little later."""
    pid = daemon.pid
    if pid is None:
        return False
    os.killpg(pid, signal.SIGKILL)
    time.sleep(DOWN_S)
    start()
    return True


def victims(demo: Demo) -> dict[str, Callable[[], bool]]:
    return {
        "task": lambda: kill_airflows(demo, f"^airflow worker -- {UUID}"),
        "worker": lambda: kill_airflows(demo, f"^airflow worker -- LocalExecutor: {UUID}"),
        "triggerer": lambda: kill_airflows(demo, r"^\S+ \S+airflow triggerer\s*$"),
        "scheduler": lambda: kill_airflows(demo, r"^\S+ \S+airflow scheduler\s*$"),
        "S3 server": lambda: kill_daemon(demo.s3.daemon, demo.s3.start),
        "inbox": lambda: kill_daemon(demo.inbox, demo.start_inbox),
    }


def torment(demo: Demo, kills: int) -> tuple[list[Caused], Counter[str]]:
    """Cause faults and kill until `kills` are done; return what was caused and who was killed."""
    hosts = [host.name for host in demo_hosts()]
    suspects = [name for pair in zip(hosts, [HAMMER_USER] * len(hosts), strict=True) for name in pair]
    caused: list[Caused] = []
    killed: Counter[str] = Counter()
    due = time.monotonic()
    while killed.total() < kills or time.monotonic() < due:
        if time.monotonic() >= due and killed.total() < kills:
            suspect = suspects[len(caused) % len(suspects)]
            demo.cause("hammer" if suspect == HAMMER_USER else suspect, FAULT_S)
            caused.append(Caused(suspect, time.time()))
            due = time.monotonic() + BETWEEN_FAULTS_S
        time.sleep(random.uniform(2, 15))
        name, kill = random.choice(list(victims(demo).items()))
        if killed.total() < kills and kill():
            killed[name] += 1
            print(f"  {time.strftime('%H:%M:%S')} killed the {name} ({killed.total()} of {kills})", flush=True)
    return caused, killed


def mails(demo: Demo, since_s: float) -> list[Told]:
    while True:
        with suppress(httpx.HTTPError):
            return told_since(demo, since_s, limit=10_000)
        time.sleep(1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--root", type=Path, default=ROOT)
    options = parser.parse_args()
    demo = Demo(options.root.resolve(), Ports.from_environment()) if options.root.exists() else None
    if demo is None or not demo.is_up():
        print("skipped: the demo does not run; start it with `make demo`")
        return 0
    random.seed(options.seed)
    began_s = time.time()
    caused, killed = torment(demo, options.kills)
    print("killed: " + ", ".join(f"{name} {count}" for name, count in sorted(killed.items())))
    file = AlertFile(ObjectStore(demo.s3.access))
    deadline = time.monotonic() + PATIENCE_S
    while (state := file.load()).open or state.outbox:
        if time.monotonic() > deadline:
            print(f"not over: {[incident.lead.suspect for incident in state.open]}, to say: {len(state.outbox)}")
            break
        time.sleep(5)
    told = mails(demo, began_s)
    lost = doubled = 0
    for fault in caused:
        ours = [mail for mail in told if fault.suspect in mail.suspects and mail.arrived_s >= fault.at_s]
        first = next((mail for mail in ours if mail.kind in ("opened", "escalated", "reminder")), None)
        lost += first is None
        after = f"told after {first.arrived_s - fault.at_s:.0f} s" if first else "LOST"
        print(f"  {fault.suspect:10} {after}")
    for suspect in {fault.suspect for fault in caused}:
        opened = Counter(mail.incident for mail in told if suspect in mail.suspects and mail.kind == "opened")
        faults = sum(fault.suspect == suspect for fault in caused)
        doubled += max(0, len(opened) - faults)
    print(f"{len(caused)} faults, {killed.total()} kills: {lost} lost, {doubled} told under a second id")
    return 1 if lost or doubled or file.load().open else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except PingmeshError as error:
        sys.exit(f"alarm_under_kills: {error}")
