"""Incidents: what the alarm speaks of.

    finding ──looks──▶ symptom ──quorum──▶ incident (one suspect, all that it explains) ──▶ notices

A *symptom* is one rule's view of one subject over several looks; an *incident* is one suspect with every symptom that
it explains (`grouping`); a *notice* is one thing said of it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from pingmesh_tasks.alerting.inhibition import MAX_EVIDENCE_ROWS, Suspect, family_of, suspect_of
from pingmesh_tasks.detect.finding import Finding, Lane, LeftOut, Severity
from pingmesh_tasks.text import cut

Kind = Literal["opened", "escalated", "reminder", "resolved"]
Key = tuple[str, str, str, str]

#: Who closes an incident whose suspect has left the inventory, and one whose rule was switched off.
INVENTORY, RULES = "inventory", "rules"
_LOOKS_KEPT = 8
_MAX_EVIDENCE_BYTES = 2_500
_MAX_SUBJECT, _MAX_DETAIL, _MAX_ADVICE, _MAX_CELL, _MAX_COLUMNS = 200, 500, 400, 100, 12


@dataclass(frozen=True, slots=True)
class Quorum:
    """A symptom is a fault once `seen` of the last `of` looks of one lane saw it."""

    seen: int
    of: int


AT_ONCE, TWO_OF_THREE, THREE_OF_FOUR = Quorum(1, 1), Quorum(2, 3), Quorum(3, 4)


@dataclass(frozen=True, slots=True)
class Policy:
    """When to speak. Times are seconds.

    `clear_looks`: so many looks of a lane in a row without the fault end it. `reopen_s`: a fault that is back so soon
    is the same incident; from its `flap_limit`-th return on it ends only after `flap_hold_s` without a symptom, and
    twice as long with each further return (up to 16 times). `stale_after_s`: an incident that no look judged for so
    long says so. `echo_s`: after the hot lane has seen a fault end, the window that held its last moments does not
    open it again; give it the length of a window at least. `storm`: so many findings of one rule in one look that
    nothing explains are told one by one; more are one incident of the whole source, until a third is left.
    `gone_looks`: so many looks at the mesh in a row by an inventory without the suspect end it.
    `retry_s` (doubled up to `retry_max_s`) and `give_up_s` are the outbox's; a channel that failed `failing_after`
    times in a row is reported by the others.
    """

    repeat_s: float = 3600
    stale_after_s: float = 900
    reopen_s: float = 900
    flap_limit: int = 2
    flap_hold_s: float = 900
    echo_s: float = 600
    storm: int = 15
    gone_looks: int = 3
    clear_looks: Mapping[str, int] = field(default_factory=lambda: {"hot": 3, "window": 2})
    retry_s: float = 15
    retry_max_s: float = 900
    give_up_s: float = 86_400
    failing_after: int = 2

    def quorum(self, finding: Finding, lane: Lane) -> Quorum:
        """Return how often a look must see the finding.

        Findings of use (counted, not sampled: no noise) and critical ones speak at once; warnings about paths, and
        data that the hot lane alone misses, after two looks of three. A window's segment of one host is missing now
        and then (5e-4 of them, simulated): two of three would be a false message every fortnight at 512 hosts. A data
        server that starts anew is out of reach for a window or two.
        """
        family = family_of(finding.rule)
        if family == "use":
            return AT_ONCE
        if finding.rule == "no_data" and lane == "window" and finding.scope in ("host", "log"):
            return THREE_OF_FOUR
        if finding.severity == "critical" and not (family == "data" and lane == "hot"):
            return AT_ONCE
        return TWO_OF_THREE

    def hold_s(self, returns: int) -> float:
        """Return how long an incident that came back `returns` times must be quiet before it ends."""
        return self.flap_hold_s * 2 ** min(returns - self.flap_limit, 4) if returns >= self.flap_limit else 0.0


@dataclass(frozen=True, slots=True)
class Symptom:
    """One rule's view of one subject. `looks` has a letter a look and lane, newest last: `x` seen, `.` clear.

    `absent` counts the last looks at the mesh whose inventory did not have the subject. `left_out` says why the rule
    book kept a look from seeing it, and does so until one sees it again or has no data of it.
    """

    source: str
    finding: Finding
    looks: Mapping[str, str] = field(default_factory=dict)
    judged_at: Mapping[str, datetime] = field(default_factory=dict)
    seen_by: tuple[str, ...] = ()
    confirmed: bool = False
    absent: int = 0
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

    def looked(self, lane: Lane, finding: Finding | None, policy: Policy, now: datetime) -> Symptom:
        """Return the symptom after one more look that judged it, which saw `finding` or nothing."""
        looks = (self.looks.get(lane, "") + ("x" if finding else "."))[-_LOOKS_KEPT:]
        quorum = policy.quorum(finding or self.finding, lane)
        return replace(
            self,
            finding=finding or self.finding,
            looks={**self.looks, lane: looks},
            judged_at={**self.judged_at, lane: now},
            seen_by=(*self.seen_by, lane) if finding and lane not in self.seen_by else self.seen_by,
            confirmed=self.confirmed or looks[-quorum.of :].count("x") >= quorum.seen,
            left_out="" if finding else self.left_out,
        )

    def cleared_by(self, policy: Policy, now: datetime) -> Lane | None:
        """Return the lane that says it is over, or None.

        The hot lane decides where it has seen the fault and still looks: the window that holds a fault's last moments
        comes minutes later. Else the windowed lane decides.
        """
        hot, hot_at = self.looks.get("hot", ""), self.judged_at.get("hot")
        if "hot" in self.seen_by and hot_at is not None and (now - hot_at).total_seconds() < policy.stale_after_s:
            return "hot" if _ends_clear(hot, policy.clear_looks["hot"]) else None
        return "window" if _ends_clear(self.looks.get("window", ""), policy.clear_looks["window"]) else None


@dataclass(frozen=True, slots=True)
class Said:
    """What the last notice of an incident said."""

    at: datetime
    scope: str
    subject: str
    severity: Severity


@dataclass(frozen=True, slots=True)
class Incident:
    """One suspect and all that it explains: `lead` is the symptom that names it, `others` the rest, worst first.

    `unlisted` counts symptoms beyond those in the newest look. `said` is None until a notice has spoken of it;
    `notices` counts them and makes their ids. `absorbed` are incidents that turned out to be part of it, to
    be mentioned next time. `silenced` is whether it is hidden, by a silence or a maintenance. `closed_by` is the lane
    that saw the end, `inventory` where its suspect has left it, `rules` where its rule is off, or who dismissed it.
    """

    id: str
    source: str
    opened_at: datetime
    since: datetime
    lead: Symptom
    last_seen: datetime
    others: tuple[Symptom, ...] = ()
    unlisted: int = 0
    said: Said | None = None
    notices: int = 0
    returns: int = 0
    acknowledged_by: str | None = None
    silenced: bool = False
    stale_said: bool = False
    absorbed: tuple[str, ...] = ()
    closed_at: datetime | None = None
    closed_by: str | None = None
    merged_into: str | None = None

    @property
    def symptoms(self) -> tuple[Symptom, ...]:
        return (self.lead, *self.others)


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to be said, with its stable id. `note` says what changed, `members` what else is part of it.

    `closed_by` is the incident's, of a notice that says it is over.
    """

    id: str
    incident: str
    kind: Kind
    at: datetime
    source: str
    finding: Finding
    opened_at: datetime
    since: datetime
    note: str = ""
    members: tuple[str, ...] = ()
    more_members: int = 0
    acknowledged_by: str | None = None
    closed_by: str | None = None


@dataclass(frozen=True, slots=True)
class Silence:
    """Say nothing of what matches until `until`: one incident, or globs on the suspect (`*` matches anything)."""

    id: str
    by: str
    made_at: datetime
    until: datetime
    reason: str = ""
    incident: str | None = None
    source: str = "*"
    scope: str = "*"
    subject: str = "*"
    rule: str = "*"


def key_of(source: str, finding: Finding) -> Key:
    return (source, finding.rule, finding.scope, finding.subject)


def incident_id(source: str, scope: str, subject: str, opened_at: datetime) -> str:
    """Return the id of an incident: twelve hex digits that follow from what it is about and when it opened."""
    text = json.dumps([source, scope, subject, opened_at.isoformat()])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def trimmed(finding: Finding) -> Finding:
    """Return the finding with every text and the evidence cut to a bound (about 4 kB of JSON), numbers finite."""
    rows: list[Mapping[str, Any]] = []
    size = 0
    for row in finding.evidence[:MAX_EVIDENCE_ROWS]:
        cells = {cut(str(name), 40): _cell(value) for name, value in list(row.items())[:_MAX_COLUMNS]}
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


def only_named(symptom: Symptom) -> Symptom:
    """Return a symptom that names and counts, for those that only join or wait."""
    finding = symptom.finding
    return replace(symptom, finding=replace(finding, evidence=(), advice="", detail=cut(finding.detail, 120)))


def _ends_clear(looks: str, count: int) -> bool:
    return len(looks) >= count and set(looks[-count:]) == {"."}


def distinct(subject: str) -> str:
    """Return the subject, cut so that two which differ still do."""
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
