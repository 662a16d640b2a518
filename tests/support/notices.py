"""Notices as the alarm makes them, for tests of what messages look like."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pingmesh_tasks.alerting.incident import Kind, Notification
from pingmesh_tasks.alerting.messages.message import Links, MessageTrace
from pingmesh_tasks.detect.finding import Finding

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
LINKS = Links(
    page="http://localhost:8080/plugin/pingmesh/pingmesh/#tab=alarms&inc=10b73f252367",
    heatmap="http://localhost:8080/plugin/pingmesh/pingmesh/#w=20261122T115500Z",
    object="artifacts/heatmap/date=2026-11-22/hour=11/20261122T115500Z.png",
    admin="http://localhost:8080/dags/alert_admin",
)
HOSTILE = '<img src=x onerror="alert(1)"> </td>{{ 7*7 }} ```<!channel> & \u202eevil\n<script>x</script>' + "A" * 300


def pair_rows(count: int) -> tuple[dict[str, Any], ...]:
    return tuple(
        {"src": f"host{n:02d}", "dst": "host04", "loss": 1.0 - n / 400, "sent": 6, "rtt_p50_us": None if n else 412}
        for n in range(1, count + 1)
    )


HOST_DOWN = Finding(
    rule="host_down",
    scope="host",
    subject="host04",
    severity="critical",
    value=1.0,
    unit="ratio",
    threshold=0.9,
    since=NOON - timedelta(seconds=38),
    detail="None of 15 peers got an answer from host04 in the last 60 s; its agent is not heard either.",
    advice="Is the machine on? Log in by its console; then look at its ToR port (dc1/podset1/tor2).",
    normal=0.0,
    confidence=0.98,
    affected=30,
    evidence=pair_rows(6),
)
FLOOD = Finding(
    rule="user_rate",
    scope="user",
    subject="bob",
    severity="warning",
    value=1204,
    unit="operations/min",
    threshold=600,
    since=NOON - timedelta(seconds=6),
    detail=r"bob (10.20.3.7) does 1,204 operations a minute, 98 % of them on tree/\EFIT::TOP.RESULTS:Q95",
    advice="Ask whether a script polls where it could wait for the shot's event.",
    normal=14,
    affected=1204,
    evidence=({"tree": "efit", "node_path": r"\EFIT::TOP.RESULTS.GEQDSK:Q95", "per_min": 1181},),
)
TRACE = MessageTrace(
    "host01",
    "host04",
    "3 of 16 ports stop after 10.1.0.2: a black hole in that router or behind it.",
    (
        {"hop": 1, "router": "10.0.1.1", "ports": 16, "stop_here": 0, "sent_beyond": 64, "loss_beyond": 0.19},
        {"hop": 2, "router": "10.1.0.2", "ports": 7, "stop_here": 3, "sent_beyond": 28, "loss_beyond": 0.43},
    ),
    after="10.1.0.2",
)


def notice(kind: Kind = "opened", finding: Finding = HOST_DOWN, source: str = "mesh", **changes: Any) -> Notification:
    made = Notification(f"10b73f252367-{kind}1", "10b73f252367", kind, NOON, source, finding, NOON, finding.since)
    return replace(made, **changes)


ESCALATED = notice(
    "escalated",
    replace(
        HOST_DOWN,
        rule="tor_down",
        scope="tor",
        subject="dc1/podset1/tor2",
        detail="No host of dc1/podset1/tor2 is reached from outside of it; its hosts reach each other.",
        advice="The ToR's uplinks: both leaves see them down at once, so look at the ToR itself first.",
        affected=488,
        evidence=pair_rows(20),
    ),
    note="The suspect was host host04; now it is tor dc1/podset1/tor2. It takes in 1 earlier incident.",
    members=("host host04: host down", "host host05: host down", "host host06: host down", "pair host01>host04: loss"),
    more_members=31,
)
RESOLVED = notice("resolved", note="It lasted 12 min; the last looks found it clear.", at=NOON + timedelta(minutes=12))
EVIL = notice(
    finding=replace(
        FLOOD,
        subject=HOSTILE,
        detail=f"{HOSTILE} does 9,999 operations a minute",
        advice=HOSTILE,
        evidence=tuple({"tree": HOSTILE, "node_path": HOSTILE, HOSTILE: 3, "per_min": n} for n in range(3)),
    ),
    source="data1",
    note=HOSTILE,
    members=(HOSTILE, HOSTILE),
    acknowledged_by=HOSTILE,
)
