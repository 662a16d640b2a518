"""How long from a fault to the e-mail that names it, on the running demo, and until it is told to be over.

Causes a fault as `make fault` does, watches what arrives at the demo's SMTP sink (its `messages.json` has the moment in
µs), waits for the message that it is over, and begins again. The clock starts
- for `hammer` when the flood's first line is in the access log;
- for `host` when the order is given: SSH and the agent of the host are gone within a fifth of a second.
An e-mail counts when it opens an incident that names the suspect, and came after the fault began.

    make demo        (or: python -m pingmesh_tasks.demo.run up --no-outage, so that nothing else happens meanwhile)
    python benchmarks/alarm_latency.py [--fault host|hammer|both] [--runs 20] [--quick]

About two minutes a run. Without a running demo it says so and ends.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import httpx

from pingmesh_tasks.demo.airflow import REPO
from pingmesh_tasks.demo.fleet import demo_data_server, demo_hosts
from pingmesh_tasks.demo.run import HAMMER_USER, OUTAGE_HOST, Demo, Ports
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.objects import ObjectStore

POLL_S = 0.05
PATIENCE_S = 120.0
RESOLVE_PATIENCE_S = 420.0
REST_S = 20.0  # between two faults, so that none is part of the one before
NOTICE = re.compile(r"<([0-9a-f]{12})-(opened|escalated|reminder|resolved)\d+@")


@dataclass(frozen=True)
class Fault:
    """A fault, how long it lasts, and what was promised: median and worst seconds to the e-mail."""

    name: str
    what: str
    suspect: str
    lasts_s: float
    median_bar_s: float
    worst_bar_s: float


FAULTS = {
    "hammer": Fault("a user floods a node", "hammer", HAMMER_USER, 30, 8, 15),
    "host": Fault("a host stops answering", OUTAGE_HOST, OUTAGE_HOST, 60, 25, 40),
}


@dataclass(frozen=True)
class Told:
    """One e-mail."""

    incident: str
    kind: str
    arrived_s: float
    about: str


def told_since(demo: Demo, since_s: float) -> list[Told]:
    """The alarm's e-mails that arrived since, oldest first; what each is about is all that any channel said of it."""
    said: list[dict[str, Any]] = httpx.get(f"{demo.inbox_url}/messages.json", params={"limit": 500}).json()["messages"]
    said = [message for message in said if message["arrived_us"] >= since_s * 1e6]
    details = {m["payload"]["incident"]: json.dumps(m["payload"]) for m in said if _is_notice(m["payload"])}
    mails = []
    for mail in reversed(said):
        found = NOTICE.match(mail["headers"].get("Message-ID", "")) if mail["channel"] == "email" else None
        if found:
            about = " ".join((mail["subject"], mail["text"], details.get(found[1], "")))
            mails.append(Told(found[1], found[2], mail["arrived_us"] / 1e6, about))
    return mails


def _is_notice(payload: Any) -> bool:
    return isinstance(payload, dict) and isinstance(payload.get("incident"), str)


def await_mail(demo: Demo, since_s: float, wanted: Callable[[Told], bool], patience_s: float) -> Told | None:
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        found = next((mail for mail in told_since(demo, since_s) if wanted(mail)), None)
        if found:
            return found
        time.sleep(POLL_S)
    return None


class AccessLog:
    """The end of the data server's log, as far as it grows from now on; a rotation in between is followed."""

    def __init__(self, path: Path) -> None:
        self.path, self.file = path, path.open("rb")
        self.file.seek(0, 2)

    def await_line(self, part: bytes, patience_s: float = 10.0) -> float | None:
        """When `part` was there, seconds since the epoch; None if it does not come."""
        deadline, seen = time.monotonic() + patience_s, b""
        while time.monotonic() < deadline:
            seen = seen[-len(part) :] + self.file.read()
            if part in seen:
                return time.time()
            if os.fstat(self.file.fileno()).st_ino != self.path.stat().st_ino:
                self.file = self.path.open("rb")
            time.sleep(0.01)
        return None


def one_run(demo: Demo, fault: Fault) -> tuple[float | None, float | None]:
    """(seconds to the e-mail, seconds from the fault's end to the e-mail that it is over); None: none came."""
    data_server = demo_data_server(demo_hosts(), demo.root / "fleet" / "hosts")
    log = AccessLog(data_server.log)
    began_s = time.time()
    demo.cause(fault.what, fault.lasts_s)
    ends_s = began_s + fault.lasts_s
    if fault.what == "hammer":
        began_s = log.await_line(f"from {fault.suspect}@".encode()) or began_s
    opened = await_mail(demo, began_s, lambda mail: mail.kind == "opened" and fault.suspect in mail.about, PATIENCE_S)
    if opened is None:
        return None, None
    resolved = await_mail(
        demo, began_s, lambda mail: mail.kind == "resolved" and mail.incident == opened.incident, RESOLVE_PATIENCE_S
    )
    return opened.arrived_s - began_s, resolved.arrived_s - ends_s if resolved else None


def forget(demo: Demo) -> None:
    """Let the next fault be a first one: what is back within a quarter of an hour is flapping, and told otherwise."""
    ObjectStore(demo.s3.access).delete([layout.alert_state()])


def measure(demo: Demo, fault: Fault, runs: int) -> bool:
    """Print a line a run and the table's row; return whether what was promised holds."""
    latencies, ends, missed, unresolved = [], [], 0, 0
    for number in range(1, runs + 1):
        latency_s, end_s = one_run(demo, fault)
        missed += latency_s is None
        unresolved += latency_s is not None and end_s is None
        latencies += [latency_s] if latency_s is not None else []
        ends += [end_s] if end_s is not None else []
        shown = "no e-mail" if latency_s is None else f"{latency_s:5.1f} s"
        over = "not told to be over" if end_s is None else f"over {end_s:5.1f} s after its end"
        print(f"  {fault.what} {number}/{runs}: {shown}, {over}", flush=True)
        time.sleep(REST_S)
        forget(demo)
    if not latencies:
        print(f"{fault.name:24} no e-mail in {runs} runs")
        return False
    median_s, worst_s = statistics.median(latencies), max(latencies)
    good = not missed and not unresolved and median_s <= fault.median_bar_s and worst_s <= fault.worst_bar_s
    over = f"{statistics.median(ends):5.1f}" if ends else "    –"
    print(
        f"{fault.name:24} {runs:4} {missed:6} {median_s:7.1f} (≤ {fault.median_bar_s:2g}) {worst_s:7.1f} "
        f"(≤ {fault.worst_bar_s:2g}) {over:>7}  {unresolved:8}  {'ok' if good else 'NOT MET'}"
    )
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fault", choices=[*FAULTS, "both"], default="both")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="three runs")
    parser.add_argument("--root", type=Path, default=REPO / ".demo")
    options = parser.parse_args()
    demo = Demo(options.root.resolve(), Ports.from_environment()) if options.root.exists() else None
    if demo is None or not demo.is_up():
        print("skipped: the demo does not run; start it with `make demo`")
        return 0
    chosen = FAULTS.values() if options.fault == "both" else [FAULTS[options.fault]]
    print(f"{'seconds to the e-mail':24} runs missed  median          worst          over   not over")
    kept = [measure(demo, fault, 3 if options.quick else options.runs) for fault in chosen]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
