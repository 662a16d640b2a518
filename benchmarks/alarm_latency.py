"""How long from a fault to the e-mail that names it, on the running demo, and until it is told to be over.

Causes faults as `make fault` does, one after the other, watches what arrives at the demo's SMTP sink (its
`messages.json` has the moment in µs), waits for the messages that they are over, and begins again. The clock starts
- for `hammer` when the flood's first line is in the access log;
- for `host` when the order is given: SSH and the agent of the host are gone within a fifth of a second.
An e-mail counts when it opens an incident that names the suspect, and came after the fault began.

    make demo        (or: pingmesh demo --no-outage up, so that nothing else happens meanwhile)
    python benchmarks/alarm_latency.py [--fault host|hammer|both] [--runs 20] [--quick]

About two and a half minutes a round of both. Without a running demo it says so and ends.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import httpx

from pingmesh_tasks.demo.fleet import demo_data_server, demo_hosts
from pingmesh_tasks.demo.run import HAMMER_USER, OUTAGE_HOST, ROOT, Demo, Ports
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.objects import ObjectStore

POLL_S = 0.25  # when a mail came is what the sink says, not when it is seen here
PATIENCE_S = 120.0
RESOLVE_PATIENCE_S = 420.0
REST_S = 15.0  # between two rounds, so that no fault is part of the one before
BETWEEN_S = 5.0  # between the end of one fault and the next of the same round
NOTICE = re.compile(r"<(?P<id>(?P<incident>[0-9a-f]{12})-(?P<kind>opened|escalated|reminder|resolved)\d+)@")


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
    "hammer": Fault("a user floods a node", "hammer", HAMMER_USER, 12, 8, 15),
    "host": Fault("a host stops answering", OUTAGE_HOST, OUTAGE_HOST, 45, 25, 40),
}


@dataclass(frozen=True)
class Told:
    """One e-mail."""

    incident: str
    kind: str
    arrived_s: float
    suspects: frozenset[str]


def told_since(demo: Demo, since_s: float, limit: int = 100) -> list[Told]:
    """The alarm's e-mails that arrived since, oldest first; whom one suspects, the webhook's notice says."""
    answer = httpx.get(f"{demo.inbox_url}/messages.json", params={"limit": limit}).json()
    said: list[dict[str, Any]] = [m for m in answer["messages"] if m["arrived_us"] >= since_s * 1e6]
    notices = {m["payload"]["id"]: m["payload"] for m in said if _is_notice(m["payload"])}
    mails = []
    for mail in reversed(said):
        found = NOTICE.match(mail["headers"].get("Message-ID", "")) if mail["channel"] == "email" else None
        if found:
            suspects = _suspects(notices.get(found["id"], {}))
            mails.append(Told(found["incident"], found["kind"], mail["arrived_us"] / 1e6, suspects))
    return mails


def _is_notice(payload: Any) -> bool:
    return isinstance(payload, dict) and isinstance(payload.get("incident"), str)


def _suspects(notice: Mapping[str, Any]) -> frozenset[str]:
    """Whom a notice names: what it is about, and the users of its evidence, for a node too may be what it is about."""
    users = (row.get("user") for row in notice.get("evidence", ()))
    return frozenset(filter(None, (notice.get("subject"), *users)))


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


def await_opened(demo: Demo, fault: Fault) -> tuple[float, Told | None]:
    """Cause the fault; return when it began, and the e-mail that opens an incident about it, None if none comes."""
    data_server = demo_data_server(demo_hosts(), demo.root / "fleet" / "hosts")
    log = AccessLog(data_server.log)
    began_s = time.time()
    demo.cause(fault.what, fault.lasts_s)
    if fault.what == "hammer":
        began_s = log.await_line(f"from {fault.suspect}@".encode()) or began_s
    opened = await_mail(
        demo, began_s, lambda mail: mail.kind == "opened" and fault.suspect in mail.suspects, PATIENCE_S
    )
    return began_s, opened


def await_resolved(demo: Demo, opened: Told) -> Told | None:
    def over(mail: Told) -> bool:
        return mail.kind == "resolved" and mail.incident == opened.incident

    return await_mail(demo, opened.arrived_s, over, RESOLVE_PATIENCE_S)


def forget(demo: Demo) -> None:
    """Let the next fault be a first one: what is back within a quarter of an hour is flapping, and told otherwise."""
    ObjectStore(demo.s3.access).delete([layout.alert_state()])


@dataclass
class Tally:
    """What came of the runs of one fault: seconds to the e-mail, and from the fault's end to that it is over."""

    fault: Fault
    latencies: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    missed: int = 0
    unresolved: int = 0

    def add(self, began_s: float, opened: Told | None, resolved: Told | None) -> str:
        """Count one run; return it in words."""
        if opened is None:
            self.missed += 1
            return f"{self.fault.what}: no e-mail"
        self.latencies.append(opened.arrived_s - began_s)
        told = f"{self.fault.what}: {self.latencies[-1]:5.1f} s"
        if resolved is None:
            self.unresolved += 1
            return f"{told}, not told to be over"
        self.ends.append(resolved.arrived_s - began_s - self.fault.lasts_s)
        return f"{told}, over {self.ends[-1]:5.1f} s after its end"

    def row(self) -> tuple[str, bool]:
        """Return the table's row, and whether what was promised holds."""
        fault, runs = self.fault, len(self.latencies) + self.missed
        if not self.latencies:
            return f"{fault.name:24} no e-mail in {runs} runs", False
        median_s, worst_s = statistics.median(self.latencies), max(self.latencies)
        good = not self.missed and not self.unresolved
        good = good and median_s <= fault.median_bar_s and worst_s <= fault.worst_bar_s
        over = f"{statistics.median(self.ends):5.1f}" if self.ends else "    –"
        return (
            f"{fault.name:24} {runs:4} {self.missed:6} {median_s:7.1f} (≤ {fault.median_bar_s:2g}) "
            f"{worst_s:7.1f} (≤ {fault.worst_bar_s:2g}) {over:>7}  {self.unresolved:8}  {'ok' if good else 'NOT MET'}",
            good,
        )


def one_round(demo: Demo, tallies: Sequence[Tally]) -> str:
    """Cause each fault once, the next when the one before has been told, and wait until all are told to be over."""
    told = []
    for number, tally in enumerate(tallies):
        if number:
            time.sleep(max(0.0, told[-1][0] + tallies[number - 1].fault.lasts_s + BETWEEN_S - time.time()))
        told.append(await_opened(demo, tally.fault))
    resolved = [opened and await_resolved(demo, opened) for _, opened in told]
    return "; ".join(t.add(*o, r) for t, o, r in zip(tallies, told, resolved, strict=True))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fault", choices=[*FAULTS, "both"], default="both")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="three runs")
    parser.add_argument("--root", type=Path, default=ROOT)
    options = parser.parse_args()
    demo = Demo(options.root.resolve(), Ports.from_environment()) if options.root.exists() else None
    if demo is None or not demo.is_up():
        print("skipped: the demo does not run; start it with `make demo`")
        return 0
    tallies = [Tally(fault) for name, fault in FAULTS.items() if options.fault in (name, "both")]
    runs = 3 if options.quick else options.runs
    for number in range(1, runs + 1):
        forget(demo)
        print(f"  {number}/{runs} {one_round(demo, tallies)}", flush=True)
        time.sleep(REST_S)
    rows = [tally.row() for tally in tallies]
    print(f"{'seconds to the e-mail':24} runs missed  median          worst          over   not over")
    print("\n".join(row for row, _ in rows))
    return 0 if all(good for _, good in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
