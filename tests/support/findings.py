"""Findings, tracked findings and incidents as stages get them, for tests of one stage."""

from __future__ import annotations

from datetime import datetime, timedelta

from pingmesh_tasks.alerting.conditions import Conditions
from pingmesh_tasks.alerting.hierarchy import hierarchy_of, members_of
from pingmesh_tasks.alerting.incident import Incident
from pingmesh_tasks.alerting.policy import Policy
from pingmesh_tasks.alerting.tracked_finding import TrackedFinding
from pingmesh_tasks.detect.finding import MESH, Finding
from pingmesh_tasks.topology.inventory import Host, Inventory, LogServer
from tests.support.notices import NOON

#: Two DCs of two podsets of two ToRs of two hosts, `dc1/p1/t1` has d1p1t1h1; east stands at d1p1t1h1.
FABRIC = Inventory(
    tuple(
        Host(f"d{d}p{p}t{t}h{h}", f"10.{d}.{p}{t}.{h}", dc=f"dc{d}", podset=f"p{p}", tor=f"t{t}")
        for d in (1, 2)
        for p in (1, 2)
        for t in (1, 2)
        for h in (1, 2)
    ),
    has_topology=True,
    log_servers=(
        LogServer("east", "10.1.11.1", "/log", "UTC"),
        LogServer("west", "10.9.0.1", "/log", "UTC"),
    ),
)


def finding(rule: str, scope: str, subject: str, severity: str = "critical", **more) -> Finding:
    given = {"value": 1.0, "unit": "ratio", "threshold": 0.9, "since": NOON, "detail": "why"}
    return Finding(rule, scope, subject, severity, **(given | more))


def tracked(what: Finding, source: str = MESH, **more) -> TrackedFinding:
    """A confirmed finding that the hot path saw at noon."""
    given = {"observations": {"hot": "x"}, "judged_at": {"hot": NOON}, "seen_by": ("hot",)}
    return TrackedFinding(source, what, **({"confirmed": True} | given | more))


def incident(lead: TrackedFinding, name: str = "i1", **more) -> Incident:
    """An open incident of a finding since noon."""
    given = {"opened_at": NOON, "since": NOON, "last_seen": NOON}
    return Incident(name, lead.source, lead=lead, **(given | more))


def conditions(now: datetime | None = None, after_s: float = 0, **policy) -> Conditions:
    """The conditions of a transition `after_s` seconds after noon."""
    at = now or NOON + timedelta(seconds=after_s)
    return Conditions(Policy(**policy), at, hierarchy_of(FABRIC), members_of(FABRIC))
