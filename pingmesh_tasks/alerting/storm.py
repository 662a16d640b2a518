"""Storms: too many findings of one rule in one evaluation are folded into one of the source."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace

from pingmesh_tasks.alerting.inhibition_rule import inhibits
from pingmesh_tasks.alerting.suspect import (
    STORM_UNIT,
    ContainingSuspects,
    Suspect,
    suspect_of,
    urgency,
    whole_of,
)
from pingmesh_tasks.alerting.tracked_finding import MAX_EVIDENCE_ROWS
from pingmesh_tasks.detect.finding import Finding


def fold_storms(
    source: str,
    findings: Collection[Finding],
    leads: Collection[Finding],
    limit_of: Callable[[str], int],
    containing: ContainingSuspects,
) -> list[Finding]:
    """Return the findings, with those of a rule that are too many folded into one.

    Args:
        source: The source of the evaluation.
        findings: The findings of the evaluation.
        leads: Leads of the open incidents of the source. What they or another finding inhibit
            does not count.
        limit_of: How many findings of a rule stay single.
        containing: Which suspects contain one.
    """
    causes = _by_suspect([*leads, *findings])
    open_suspects = {suspect_of(lead) for lead in leads}
    by_rule: dict[str, list[Finding]] = {}
    for finding in findings:
        by_rule.setdefault(finding.rule, []).append(finding)
    folded: list[Finding] = []
    for rule, of_rule in by_rule.items():
        limit = limit_of(rule)
        loose = [
            finding
            for finding in (of_rule if len(of_rule) > limit else ())
            if suspect_of(finding) not in open_suspects
            and not _is_inhibited(source, finding, causes, containing)
        ]
        if len(loose) > limit:
            inside = set(map(id, loose))
            folded.append(storm_of(source, sorted(loose, key=urgency)))
            folded += [finding for finding in of_rule if id(finding) not in inside]
        else:
            folded += of_rule
    return folded


def storm_of(source: str, findings: list[Finding]) -> Finding:
    """Return the finding that stands for many of one source, the most urgent of them first."""
    names = ", ".join(finding.subject for finding in findings[:3])
    scopes = "/".join(sorted({finding.scope for finding in findings}))
    return replace(
        findings[0],
        scope=whole_of(source),
        subject=source,
        value=float(len(findings)),
        unit=STORM_UNIT,
        threshold=0.0,
        normal=None,
        since=min(finding.since for finding in findings),
        affected=sum(finding.affected for finding in findings),
        detail=f"{len(findings)} findings at once ({scopes}): {names}, …",
        evidence=tuple(
            {
                "scope": finding.scope,
                "subject": finding.subject,
                "value": finding.value,
                "unit": finding.unit,
                "normal": finding.normal,
            }
            for finding in findings[:MAX_EVIDENCE_ROWS]
        ),
    )


def _by_suspect(findings: Iterable[Finding]) -> Mapping[Suspect, list[Finding]]:
    """Return findings by their suspect, without those of pairs: a pair contains none."""
    by_suspect: dict[Suspect, list[Finding]] = {}
    for finding in findings:
        if finding.scope != "pair":
            by_suspect.setdefault(suspect_of(finding), []).append(finding)
    return by_suspect


def _is_inhibited(
    source: str,
    finding: Finding,
    causes: Mapping[Suspect, list[Finding]],
    containing: ContainingSuspects,
) -> bool:
    around = containing(source, finding.scope, finding.subject)
    return any(
        inhibits(source, cause, finding, containing)
        for suspect in around
        for cause in causes.get(suspect, ())
    )
