"""One look at the mesh, made ready for the rules: rows as numbers, places, limits, and how a finding is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pingmesh_tasks.detect.finding import Finding, Lane, Scope, Severity
from pingmesh_tasks.detect.mesh.baseline import Baseline
from pingmesh_tasks.detect.mesh.rows import Rows
from pingmesh_tasks.detect.mesh.scan import Suspect
from pingmesh_tasks.detect.rules import Place, RuleBook
from pingmesh_tasks.topology.axis import HostAxis
from pingmesh_tasks.topology.placement import placement

EVIDENCE_ROWS = 5


@dataclass
class PreparedMesh:
    """What the rules read. `normal` is None where there is none; `outcome` is what collection said of a host."""

    places: HostAxis
    topology: bool
    rows: Rows
    rules: RuleBook
    at: datetime
    span_s: float
    lane: Lane
    normal: Baseline | None
    outcome: Mapping[str, str] = field(default_factory=dict)

    @property
    def since(self) -> datetime:
        return self.at - timedelta(seconds=self.span_s)

    @cached_property
    def host_places(self) -> list[Place]:
        """Where each host is, as a rule book asks for it."""
        return [placement(host) for host in self.places.hosts]

    def place(self, scope: Scope, subject: str) -> dict[str, Any]:
        """Return where a suspect is: a pair is at both of its hosts' places."""
        if scope == "pair":
            ends = [self.host_places[self._position[name]] for name in subject.split(">")]
            return {kind: [str(end[kind]) for end in ends] for kind in ends[0]}
        if scope == "host":
            return dict(self.host_places[self._position[subject]])
        parts = subject.split("/")
        levels = {"dc": parts[0], "podset": "/".join(parts[:2]), "tor": "/".join(parts[:3])}
        depth = {"dc": 1, "tier": 1, "podset": 2, "tor": 3}.get(scope, 0)
        return {kind: levels[kind] for kind in ("dc", "podset", "tor")[:depth]}

    def limit(self, rule: str, limit: str, scope: Scope, subject: str) -> float:
        return self.rules.limit(rule, limit, **self.place(scope, subject))

    def pair_limits(self, rule: str, limit: str) -> NDArray[np.float32] | np.float32:
        """Return a limit for each row: that of the end which has one of its own, the higher one where both have."""
        values = self.rules.limits(rule, limit, self.host_places) if self.rules.overrides else None
        usual = self.rules.limit(rule, limit)
        if values is None or (values == usual).all():
            return np.float32(usual)
        own = np.where(values == usual, np.nan, values).astype(np.float32)
        either = np.fmax(own[self.rows.a], own[self.rows.b])
        return np.where(np.isnan(either), np.float32(usual), either)

    def finding(
        self,
        rule: str,
        suspect: Suspect,
        severity: Severity,
        value: float,
        unit: str,
        threshold: float,
        detail: str,
        advice: str,
        normal: float | None = None,
        worst: NDArray[Any] | None = None,
    ) -> Finding:
        """Return the finding of a suspect. `worst` ranks its rows for the evidence; None: by their failures."""
        return Finding(
            rule=rule,
            scope=suspect.scope,
            subject=suspect.subject,
            severity=severity,
            value=float(value),
            unit=unit,
            threshold=float(threshold),
            since=self.since,
            detail=detail,
            advice=advice,
            normal=None if normal is None or not np.isfinite(normal) else float(normal),
            confidence=round(suspect.confidence, 3),
            affected=len(suspect.rows),
            evidence=tuple(self._evidence(suspect.rows, worst)),
        )

    def _evidence(self, rows: NDArray[Any], worst: NDArray[Any] | None) -> Iterable[Mapping[str, Any]]:
        r, names = self.rows, self.places.names
        if worst is None:
            worst = (r.sent[rows].astype(np.float32) - r.answered[rows]) / np.maximum(r.sent[rows], 1)
            worst = worst + r.retransmitted[rows] / np.maximum(r.sent[rows], 1)
        for row in rows[np.argsort(-worst, kind="stable")[:EVIDENCE_ROWS]]:
            shown = {"src": names[r.a[row]], "dst": names[r.b[row]], "sent": int(r.sent[row])}
            counts = ("lost", "unreachable", "refused", "retransmitted")
            shown |= {name: int(count) for name in counts if (count := getattr(r, name)[row])}
            for name, us in {"p50_us": r.rtt_p50_us[row], "p99_us": r.rtt_p99_us[row]}.items():
                if np.isfinite(us):
                    shown[name] = round(float(us))
            yield shown

    @cached_property
    def _position(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.places.names)}
