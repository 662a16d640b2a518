"""Suspects: what a finding blames, which suspects contain which, and which is the better name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal

from pingmesh_tasks.detect.finding import MESH, Finding, Scope

Family = Literal["path", "use", "data"]
#: (scope, subject).
Suspect = tuple[str, str]
#: Returns every suspect that contains one: `containing(source, scope, subject)`.
#: See `hierarchy.hierarchy_of`.
ContainingSuspects = Callable[[str, str, str], Collection[Suspect]]
#: Whether the inventory has the subject of a finding: `is_member(source, finding)`.
#: See `hierarchy.members_of`.
IsMember = Callable[[str, Finding], bool]

#: The unit of a finding that stands for many (`storm`); its value is their count.
STORM_UNIT = "findings"
SEVERITY_RANK: Mapping[str, int] = {"warning": 1, "critical": 2}
#: Scopes in the order in which they name a fault: that of a path by the widest component that
#: fails as a whole, a load by who causes it.
SCOPE_ORDER = (
    *("mesh", "dc", "tier", "podset", "tor", "host", "pair"),
    *("user", "client", "node", "server", "log"),
)
#: What a rule is about: missing data, or the use of a data server. Every other rule is about paths.
FAMILIES: Mapping[str, Family] = {
    **dict.fromkeys(("no_data", "log_silent"), "data"),
    **dict.fromkeys(
        (
            *("user_rate", "client_rate", "node_rate", "connect_rate", "concurrency"),
            *("heavy_reads", "refused_clients", "new_user", "new_client", "new_country"),
            *("rejected_lines", "no_attribution"),
        ),
        "use",
    ),
}


def family_of(rule: str) -> Family:
    """Return what a rule is about."""
    return FAMILIES.get(rule, "path")


def suspect_of(finding: Finding) -> Suspect:
    """Return the suspect that a finding names."""
    return (finding.scope, finding.subject)


def is_storm(finding: Finding) -> bool:
    """Whether a finding stands for many."""
    return finding.unit == STORM_UNIT


def whole_of(source: str) -> Scope:
    """Return the scope that stands for a whole source: the mesh, or a data server."""
    return "mesh" if source == MESH else "server"


def precedence(scope: str) -> int:
    """Return the place of a scope in SCOPE_ORDER; the smaller, the better a name for a fault."""
    return SCOPE_ORDER.index(scope)


def urgency(finding: Finding) -> tuple[Any, ...]:
    """Return a sort key that puts the most urgent finding first."""
    return (
        -SEVERITY_RANK[finding.severity],
        precedence(finding.scope),
        -finding.confidence,
        -finding.affected,
        finding.rule,
        finding.subject,
    )
