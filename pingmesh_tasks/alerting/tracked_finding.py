"""A finding over several evaluations: which of them saw it, and whether it is confirmed."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from pingmesh_tasks.alerting.policy import Policy
from pingmesh_tasks.alerting.suspect import Suspect, suspect_of
from pingmesh_tasks.detect.finding import Finding, Lane, LeftOut
from pingmesh_tasks.text import cut

Key = tuple[str, str, str, str]

SEEN, CLEAR = "x", "."
MAX_EVIDENCE_ROWS = 20
_MAX_OBSERVATIONS = 8
_MAX_EVIDENCE_BYTES = 2_500
_MAX_SUBJECT, _MAX_DETAIL, _MAX_ADVICE, _MAX_CELL, _MAX_COLUMNS = 200, 500, 400, 100, 12


@dataclass(frozen=True, slots=True)
class TrackedFinding:
    """What one rule reports of one subject, over several evaluations.

    Attributes:
        source: `mesh`, or the name of a data server.
        finding: The finding as the newest evaluation that saw it reported it.
        observations: By path SEEN or CLEAR for each evaluation that judged it, newest last.
        judged_at: By path when an evaluation last judged it.
        seen_by: The paths that have seen it.
        confirmed: Whether it has reached the quorum of the policy.
        absent_count: How many evaluations of the mesh in a row lacked its subject in the inventory.
        left_out: Why the rule book kept the last evaluation from seeing it; empty if it did not.
    """

    source: str
    finding: Finding
    observations: Mapping[str, str] = field(default_factory=dict)
    judged_at: Mapping[str, datetime] = field(default_factory=dict)
    seen_by: tuple[str, ...] = ()
    confirmed: bool = False
    absent_count: int = 0
    left_out: LeftOut = ""

    @property
    def key(self) -> Key:
        return key_of(self.source, self.finding)

    @property
    def suspect(self) -> Suspect:
        return suspect_of(self.finding)

    @property
    def last_judged(self) -> datetime:
        return max(self.judged_at.values())

    def judged(
        self, lane: Lane, finding: Finding | None, policy: Policy, now: datetime
    ) -> TrackedFinding:
        """Return it after one more evaluation, which saw `finding` (None: saw it clear)."""
        letters = self.observations.get(lane, "") + (SEEN if finding else CLEAR)
        letters = letters[-_MAX_OBSERVATIONS:]
        quorum = policy.quorum(finding or self.finding, lane)
        is_new_path = finding is not None and lane not in self.seen_by
        return replace(
            self,
            finding=finding or self.finding,
            observations={**self.observations, lane: letters},
            judged_at={**self.judged_at, lane: now},
            seen_by=(*self.seen_by, lane) if is_new_path else self.seen_by,
            confirmed=self.confirmed or letters[-quorum.of :].count(SEEN) >= quorum.seen,
            left_out="" if finding else self.left_out,
        )

    def cleared_by(self, policy: Policy, now: datetime) -> Lane | None:
        """Return the path whose evaluations say that it is over, or None.

        The hot path decides where it has seen the fault and still judges it: the window that holds
        a fault's last moments is evaluated minutes later. Otherwise the windows decide.
        """
        if "hot" in self.seen_by:
            age_s = (now - self.judged_at["hot"]).total_seconds()
            if age_s < policy.stale_after_s:
                return "hot" if self._ends_clear("hot", policy) else None
        return "window" if self._ends_clear("window", policy) else None

    def was_seen_lately(self) -> bool:
        """Whether one of the last three evaluations of a path saw it."""
        return any(SEEN in letters[-3:] for letters in self.observations.values())

    def without_evidence(self) -> TrackedFinding:
        """Return it with a short detail only, for findings that are listed or wait."""
        short = replace(self.finding, evidence=(), advice="", detail=cut(self.finding.detail, 120))
        return replace(self, finding=short)

    def _ends_clear(self, lane: Lane, policy: Policy) -> bool:
        needed = policy.clear_evaluations[lane]
        return self.observations.get(lane, "").endswith(CLEAR * needed)


def key_of(source: str, finding: Finding) -> Key:
    """Return what makes findings of different evaluations the same."""
    return (source, finding.rule, finding.scope, finding.subject)


def trimmed(finding: Finding) -> Finding:
    """Return the finding with texts and evidence cut (about 4 kB of JSON), numbers finite."""
    rows: list[Mapping[str, Any]] = []
    size = 0
    for row in finding.evidence[:MAX_EVIDENCE_ROWS]:
        columns = list(row.items())[:_MAX_COLUMNS]
        cells = {cut(str(name), 40): _cell(value) for name, value in columns}
        size += len(json.dumps(cells))
        if size > _MAX_EVIDENCE_BYTES:
            break
        rows.append(cells)
    return replace(
        finding,
        rule=cut(finding.rule, 60),
        unit=cut(finding.unit, 40),
        subject=distinct(finding.subject),
        detail=cut(finding.detail, _MAX_DETAIL),
        advice=cut(finding.advice, _MAX_ADVICE),
        value=_finite(finding.value),
        threshold=_finite(finding.threshold),
        normal=None if finding.normal is None else _finite(finding.normal),
        evidence=tuple(rows),
    )


def distinct(subject: str) -> str:
    """Return the subject, cut so that subjects which differ still do."""
    if len(subject) <= _MAX_SUBJECT:
        return cut(subject, _MAX_SUBJECT)
    mark = hashlib.sha256(subject.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{cut(subject, _MAX_SUBJECT - 10)}{mark}"


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return cut(str(value), _MAX_CELL)
