"""Incidents: what the alarm speaks of, and which findings are one fault.

    finding ──looks──▶ symptom ──quorum──▶ incident (one suspect, its symptoms) ──▶ notices

A *symptom* is one rule's view of one subject over several looks; an *incident* is one suspect with all that it
explains. Which of two findings explains the other is `explains`: a ToR explains its hosts, a user the node that he
hammers. A less severe finding never explains a more severe one, so a slow DC cannot hide a dead host.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from pingmesh_tasks.detect.finding import MESH, Evaluation, Finding, Lane, Scope, Severity

Kind = Literal["opened", "escalated", "reminder", "resolved"]
Family = Literal["path", "use", "data"]
#: (scope, subject) of a suspect.
Suspect = tuple[str, str]
#: Names every wider suspect that contains one: `wider(source, scope, subject)`. See `hierarchy.hierarchy_of`.
Wider = Callable[[str, str, str], Collection[Suspect]]

RANK: Mapping[str, int] = {"warning": 1, "critical": 2}
#: How good a name for a fault a scope is; the first that fits is the suspect. A path's fault is named by the widest
#: thing that fails as a whole, a burden by who causes it.
ORDER = ("mesh", "dc", "tier", "podset", "tor", "host", "pair", "user", "client", "node", "server", "log")
FAMILIES: Mapping[str, Family] = {
    **dict.fromkeys(("no_data", "log_silent", "no_attribution"), "data"),
    **dict.fromkeys(
        (
            *("user_rate", "client_rate", "node_rate", "connect_rate", "concurrency", "heavy_reads"),
            *("refused_clients", "new_user", "new_client", "new_country", "rejected_lines"),
        ),
        "use",
    ),
}
MAX_EVIDENCE_ROWS = 20
_MAX_EVIDENCE_BYTES = 2_500
_MAX_SUBJECT, _MAX_DETAIL, _MAX_ADVICE, _MAX_CELL, _MAX_COLUMNS = 200, 500, 400, 100, 12


@dataclass(frozen=True, slots=True)
class Quorum:
    """A symptom is a fault once `seen` of the last `of` looks of one lane saw it."""

    seen: int
    of: int


AT_ONCE, TWO_OF_THREE = Quorum(1, 1), Quorum(2, 3)


@dataclass(frozen=True, slots=True)
class Policy:
    """When to speak. Times are seconds.

    `clear_looks`: so many looks of a lane in a row without the fault end it. `reopen_s`: a fault that is back so soon
    is the same incident; from its `flap_limit`-th return on it ends only after `flap_hold_s` without a symptom.
    `stale_after_s`: an incident that no look judged for so long says so. `echo_s`: after the hot lane has seen a fault
    end, the window that held its last moments does not open it again. `storm`: so many findings of one rule in one
    look that nothing explains are one incident of the whole source. `retry_s` (doubled up to `retry_max_s`) and
    `give_up_s` are the outbox's; a channel that failed `failing_after` times in a row is reported by the others.
    """

    repeat_s: float = 3600
    stale_after_s: float = 900
    reopen_s: float = 900
    flap_limit: int = 2
    flap_hold_s: float = 900
    echo_s: float = 600
    storm: int = 15
    clear_looks: Mapping[str, int] = field(default_factory=lambda: {"hot": 3, "window": 2})
    retry_s: float = 15
    retry_max_s: float = 900
    give_up_s: float = 86_400
    failing_after: int = 2

    def quorum(self, finding: Finding, lane: Lane) -> Quorum:
        """Return how often a look must see the finding.

        Critical findings and those of use (counted, not sampled: no noise) speak at once; warnings about paths, and
        missing data that only a moment has seen, after two looks of three.
        """
        family = family_of(finding.rule)
        if family == "use":
            return AT_ONCE
        if family == "data" and lane == "hot":
            return TWO_OF_THREE
        return AT_ONCE if finding.severity == "critical" else TWO_OF_THREE


@dataclass(frozen=True, slots=True)
class Symptom:
    """One rule's view of one subject. `looks` has a letter a look and lane, newest last: `x` seen, `.` clear."""

    source: str
    finding: Finding
    looks: Mapping[str, str]
    judged_at: Mapping[str, datetime]
    confirmed: bool = False

    @property
    def key(self) -> tuple[str, str, str, str]:
        return key_of(self.source, self.finding)

    @property
    def suspect(self) -> Suspect:
        return (self.finding.scope, self.finding.subject)

    def looked(self, lane: Lane, at: datetime, finding: Finding | None) -> Symptom:
        """Return the symptom after one more look that judged it, which saw `finding` or nothing."""
        looks = (self.looks.get(lane, "") + ("x" if finding else "."))[-_LOOKS_KEPT:]
        return replace(
            self,
            finding=finding or self.finding,
            looks={**self.looks, lane: looks},
            judged_at={**self.judged_at, lane: at},
        )

    def reaches(self, quorum: Quorum, lane: Lane) -> bool:
        return self.looks.get(lane, "")[-quorum.of :].count("x") >= quorum.seen

    def cleared_by(self, policy: Policy, now: datetime) -> str | None:
        """Return the lane that says it is over, or None: the hot lane, where it saw the fault and still looks."""
        hot, at = self.looks.get("hot", ""), self.judged_at.get("hot")
        hot_decides = "x" in hot or (set(hot) == {"."} and "window" not in self.looks)
        if hot_decides and at is not None and (now - at).total_seconds() < policy.stale_after_s:
            return "hot" if _ends_clear(hot, policy.clear_looks["hot"]) else None
        return "window" if _ends_clear(self.looks.get("window", ""), policy.clear_looks["window"]) else None


_LOOKS_KEPT = 8


@dataclass(frozen=True, slots=True)
class Said:
    """What the last notice of an incident said."""

    at: datetime
    scope: str
    subject: str
    severity: Severity


@dataclass(frozen=True, slots=True)
class Incident:
    """One suspect and all that it explains; `lead` is the symptom that names it, `others` the rest.

    `said` is None until a notice has spoken of it (it may be silenced). `notices` counts them and makes their ids.
    `absorbed` are the incidents that turned out to be part of it since the last notice.
    """

    id: str
    source: str
    opened_at: datetime
    since: datetime
    lead: Symptom
    others: tuple[Symptom, ...] = ()
    unlisted: int = 0
    said: Said | None = None
    notices: int = 0
    returns: int = 0
    last_seen: datetime | None = None
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
    """One thing to be said, with its stable id. `note` says what changed, `members` what else is part of it."""

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


def family_of(rule: str) -> Family:
    return FAMILIES.get(rule, "path")


def key_of(source: str, finding: Finding) -> tuple[str, str, str, str]:
    return (source, finding.rule, finding.scope, finding.subject)


def incident_id(source: str, scope: str, subject: str, opened_at: datetime) -> str:
    """Return the id of an incident: twelve hex digits that follow from what it is about and when it opened."""
    text = json.dumps([source, scope, subject, opened_at.isoformat()])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def explains(source: str, cause: Finding, effect: Finding, wider: Wider) -> bool:
    """Whether `effect` is part of what `cause` says, so that one message does for both."""
    if RANK[cause.severity] < RANK[effect.severity]:
        return False
    if (cause.scope, cause.subject) == (effect.scope, effect.subject):
        return True
    families = family_of(cause.rule), family_of(effect.rule)
    if families == ("use", "use") and not (cause.scope == whole_of(source) and cause.rule == effect.rule):
        return precedence(cause) < precedence(effect) and _name_each_other(cause, effect)
    if families[0] != families[1] and families[0] != "path":
        return False  # missing data explain no loss, but a dead ToR does explain missing data
    return (cause.scope, cause.subject) in wider(source, effect.scope, effect.subject)


def precedence(finding: Finding) -> int:
    """Return how good a name for a fault the finding is; smaller is better."""
    return ORDER.index(finding.scope)


def urgency(finding: Finding) -> tuple[Any, ...]:
    """Sort key: the best suspect first."""
    return (
        -RANK[finding.severity],
        precedence(finding),
        -finding.confidence,
        -finding.affected,
        finding.rule,
        finding.subject,
    )


def whole_of(source: str) -> Scope:
    """Return the scope that stands for a whole source: the mesh, or a data server."""
    return "mesh" if source == MESH else "server"


def fold_storms(
    evaluation: Evaluation, stormy: Collection[str], explained: Callable[[Finding], bool], policy: Policy
) -> tuple[Finding, ...]:
    """Return the findings, with those of one rule that are too many to be told singly folded into one.

    `stormy` are the rules whose storm is open already: it lasts until a third of the number is left.
    """
    loose: dict[str, list[Finding]] = {}
    for finding in evaluation.findings:
        if not explained(finding):
            loose.setdefault(finding.rule, []).append(finding)
    folded = {
        rule: sorted(found, key=urgency)
        for rule, found in loose.items()
        if len(found) > (policy.storm // 3 if rule in stormy else policy.storm)
    }
    gone = {id(finding) for found in folded.values() for finding in found}
    kept = [finding for finding in evaluation.findings if id(finding) not in gone]
    return (*kept, *(_storm(evaluation.source, found) for found in folded.values()))


def trimmed(finding: Finding) -> Finding:
    """Return the finding with every text and the evidence cut to a bound (about 4 kB of JSON)."""
    rows: list[Mapping[str, Any]] = []
    size = 0
    for row in finding.evidence[:MAX_EVIDENCE_ROWS]:
        cells = {_cut(str(name), 40): _cell(value) for name, value in list(row.items())[:_MAX_COLUMNS]}
        size += len(json.dumps(cells))
        if size > _MAX_EVIDENCE_BYTES:
            break
        rows.append(cells)
    return replace(
        finding,
        rule=_cut(finding.rule, 60),
        unit=_cut(finding.unit, 40),
        subject=_distinct(finding.subject),
        detail=_cut(finding.detail, _MAX_DETAIL),
        advice=_cut(finding.advice, _MAX_ADVICE),
        evidence=tuple(rows),
    )


def without_evidence(symptom: Symptom) -> Symptom:
    """Return a symptom that names and counts, for those that only join."""
    finding = symptom.finding
    return replace(symptom, finding=replace(finding, evidence=(), advice="", detail=_cut(finding.detail, 120)))


def texts_of(evidence: Iterable[Mapping[str, Any]]) -> set[str]:
    return {value for row in evidence for value in row.values() if isinstance(value, str)}


def _name_each_other(one: Finding, other: Finding) -> bool:
    return other.subject in texts_of(one.evidence) or one.subject in texts_of(other.evidence)


def _storm(source: str, found: list[Finding]) -> Finding:
    worst = found[0]
    scopes = sorted({finding.scope for finding in found})
    names = ", ".join(finding.subject for finding in found[:3])
    return replace(
        worst,
        scope=whole_of(source),
        subject=source,
        value=float(len(found)),
        unit="findings",
        threshold=0.0,
        normal=None,
        since=min(finding.since for finding in found),
        affected=sum(finding.affected for finding in found),
        detail=f"{len(found)} findings at once ({'/'.join(scopes)}): {names}, …",
        evidence=tuple(
            {"scope": f.scope, "subject": f.subject, "value": f.value, "unit": f.unit, "normal": f.normal}
            for f in found[:MAX_EVIDENCE_ROWS]
        ),
    )


def _ends_clear(looks: str, count: int) -> bool:
    return len(looks) >= count and set(looks[-count:]) == {"."}


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _distinct(subject: str) -> str:
    """Return the subject, cut so that two which differ still do."""
    if len(subject) <= _MAX_SUBJECT:
        return subject
    mark = hashlib.sha256(subject.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{subject[: _MAX_SUBJECT - 10]}…{mark}"


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    return _cut(str(value), _MAX_CELL)
