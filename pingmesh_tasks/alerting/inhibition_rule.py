"""The inhibition rule: which finding inhibits another, because one fault explains both.

A ToR inhibits its hosts and their pairs, a user the node that he hammers, too many findings at once
the whole. A less severe finding never inhibits a more severe one: a slow DC must not hide a dead
host.
"""

from __future__ import annotations

from pingmesh_tasks.alerting.suspect import (
    SEVERITY_RANK,
    ContainingSuspects,
    family_of,
    is_storm,
    precedence,
    suspect_of,
)
from pingmesh_tasks.detect.finding import Finding


def inhibits(source: str, cause: Finding, effect: Finding, containing: ContainingSuspects) -> bool:
    """Whether `effect` is part of what `cause` reports, so that one notification does for both."""
    if SEVERITY_RANK[cause.severity] < SEVERITY_RANK[effect.severity]:
        return False
    if suspect_of(cause) == suspect_of(effect):
        return True
    families = family_of(cause.rule), family_of(effect.rule)
    if families == ("use", "use") and not (is_storm(cause) and cause.rule == effect.rule):
        is_better_name = precedence(cause.scope) < precedence(effect.scope)
        return is_better_name and _name_each_other(cause, effect)
    if families[0] != families[1] and families[0] != "path":
        return False  # missing data explain no loss, but a dead ToR does explain missing data
    return suspect_of(cause) in containing(source, effect.scope, effect.subject)


def _name_each_other(one: Finding, other: Finding) -> bool:
    return other.subject in _names_in(one) or one.subject in _names_in(other)


def _names_in(finding: Finding) -> set[str]:
    """Return the texts of the evidence, and the nodes that it names by tree and path."""
    cells = {text for row in finding.evidence for text in row.values() if isinstance(text, str)}
    nodes = {
        f"{row['tree']}/{row['node_path']}"
        for row in finding.evidence
        if {"tree", "node_path"} <= row.keys()
    }
    return cells | nodes
