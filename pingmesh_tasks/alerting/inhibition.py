"""One fault, one message: which of two findings explains the other.

A ToR explains its hosts and their pairs, a user the node that he hammers, too many at once the whole. A less severe
finding never explains a more severe one, so that a slow DC cannot hide a dead host.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, Literal

from pingmesh_tasks.detect.finding import MESH, Finding, Scope

Family = Literal["path", "use", "data"]
#: (scope, subject) of a suspect.
Suspect = tuple[str, str]
#: Names every wider suspect that contains one: `wider(source, scope, subject)`. See `hierarchy.hierarchy_of`.
Wider = Callable[[str, str, str], Collection[Suspect]]
#: Whether what a finding of a source is about is still in the inventory. See `hierarchy.members_of`.
Known = Callable[[str, Finding], bool]

RANK: Mapping[str, int] = {"warning": 1, "critical": 2}
#: How good a name for a fault a scope is; the first that fits is the suspect. A path's fault is named by the widest
#: thing that fails as a whole, a burden by who causes it.
ORDER = ("mesh", "dc", "tier", "podset", "tor", "host", "pair", "user", "client", "node", "server", "log")
#: What a rule speaks of: data that are missing, the use of a data server; every other rule is about paths.
FAMILIES: Mapping[str, Family] = {
    **dict.fromkeys(("no_data", "log_silent"), "data"),
    **dict.fromkeys(
        (
            *("user_rate", "client_rate", "node_rate", "connect_rate", "concurrency", "heavy_reads"),
            *("refused_clients", "new_user", "new_client", "new_country", "rejected_lines", "no_attribution"),
        ),
        "use",
    ),
}
#: The unit of a storm: so many findings of one rule.
STORM_UNIT = "findings"
MAX_EVIDENCE_ROWS = 20


def family_of(rule: str) -> Family:
    return FAMILIES.get(rule, "path")


def suspect_of(finding: Finding) -> Suspect:
    return (finding.scope, finding.subject)


def whole_of(source: str) -> Scope:
    """Return the scope that stands for a whole source: the mesh, or a data server."""
    return "mesh" if source == MESH else "server"


def precedence(scope: str) -> int:
    """Return how good a name for a fault a scope is; smaller is better."""
    return ORDER.index(scope)


def urgency(finding: Finding) -> tuple[Any, ...]:
    """Sort key: the best suspect first."""
    return (
        -RANK[finding.severity],
        precedence(finding.scope),
        -finding.confidence,
        -finding.affected,
        finding.rule,
        finding.subject,
    )


def explains(source: str, cause: Finding, effect: Finding, wider: Wider) -> bool:
    """Whether `effect` is part of what `cause` says, so that one message does for both."""
    if RANK[cause.severity] < RANK[effect.severity]:
        return False
    if suspect_of(cause) == suspect_of(effect):
        return True
    families = family_of(cause.rule), family_of(effect.rule)
    if families == ("use", "use") and not (is_storm(cause) and cause.rule == effect.rule):
        return precedence(cause.scope) < precedence(effect.scope) and _name_each_other(cause, effect)
    if families[0] != families[1] and families[0] != "path":
        return False  # missing data explain no loss, but a dead ToR does explain missing data
    return suspect_of(cause) in wider(source, effect.scope, effect.subject)


def is_storm(finding: Finding) -> bool:
    return finding.unit == STORM_UNIT


def fold_storms(
    source: str,
    findings: Collection[Finding],
    causes: Collection[Finding],
    limits: Callable[[str], int],
    wider: Wider,
) -> list[Finding]:
    """Return the findings, with those of one rule that are too many to be told singly folded into one.

    What one of `causes` (leads of open incidents) or another finding explains does not count. `limits(rule)` is how
    many may be told singly.
    """
    by_suspect: dict[Suspect, list[Finding]] = {}
    for cause in (*causes, *(finding for finding in findings if finding.scope != "pair")):
        by_suspect.setdefault(suspect_of(cause), []).append(cause)
    opened = {suspect_of(cause) for cause in causes}

    def explained(finding: Finding) -> bool:
        around = wider(source, finding.scope, finding.subject)
        found = [cause for suspect in around for cause in by_suspect.get(suspect, ())]
        return suspect_of(finding) in opened or any(explains(source, cause, finding, wider) for cause in found)

    by_rule: dict[str, list[Finding]] = {}
    for finding in findings:
        by_rule.setdefault(finding.rule, []).append(finding)
    told: list[Finding] = []
    for rule, found in by_rule.items():
        limit = limits(rule)
        loose = [finding for finding in found if not explained(finding)] if len(found) > limit else []
        if len(loose) > limit:
            gone = set(map(id, loose))
            told += [storm_of(source, sorted(loose, key=urgency)), *(f for f in found if id(f) not in gone)]
        else:
            told += found
    return told


def _name_each_other(one: Finding, other: Finding) -> bool:
    return other.subject in _texts(one) or one.subject in _texts(other)


def _texts(finding: Finding) -> set[str]:
    cells = {value for row in finding.evidence for value in row.values() if isinstance(value, str)}
    return cells | {
        f"{row['tree']}/{row['node_path']}" for row in finding.evidence if {"tree", "node_path"} <= row.keys()
    }


def storm_of(source: str, found: list[Finding]) -> Finding:
    """Return the finding that stands for many of one source, the worst first."""
    names = ", ".join(finding.subject for finding in found[:3])
    scopes = "/".join(sorted({finding.scope for finding in found}))
    return replace(
        found[0],
        scope=whole_of(source),
        subject=source,
        value=float(len(found)),
        unit=STORM_UNIT,
        threshold=0.0,
        normal=None,
        since=min(finding.since for finding in found),
        affected=sum(finding.affected for finding in found),
        detail=f"{len(found)} findings at once ({scopes}): {names}, …",
        evidence=tuple(
            {"scope": f.scope, "subject": f.subject, "value": f.value, "unit": f.unit, "normal": f.normal}
            for f in found[:MAX_EVIDENCE_ROWS]
        ),
    )
