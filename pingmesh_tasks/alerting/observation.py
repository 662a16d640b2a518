"""Stage 1, observe: what one evaluation saw is noted in the findings that are tracked already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pingmesh_tasks.alerting.alert_state import AlertState
from pingmesh_tasks.alerting.conditions import Conditions
from pingmesh_tasks.alerting.incident import Incident
from pingmesh_tasks.alerting.storm import fold_storms
from pingmesh_tasks.alerting.suspect import Suspect, is_storm, urgency, whole_of
from pingmesh_tasks.alerting.tracked_finding import Key, TrackedFinding, distinct, key_of, trimmed
from pingmesh_tasks.detect.finding import MESH, Evaluation, Finding

Seen = Mapping[Key, Finding]


@dataclass(frozen=True, slots=True)
class Observation:
    """The state after an evaluation was noted, and the findings that no open incident has yet.

    `new` were not tracked before; `waiting` were pending, and this evaluation saw them again.
    """

    state: AlertState
    new: tuple[TrackedFinding, ...]
    waiting: tuple[TrackedFinding, ...]


def is_newer(state: AlertState, evaluation: Evaluation) -> bool:
    """Whether an evaluation is newer than the last of its source and path."""
    last = state.last_evaluated.get(_path_of(evaluation))
    return last is None or evaluation.at > last


def observe(state: AlertState, evaluation: Evaluation, conditions: Conditions) -> Observation:
    """Note an evaluation in the findings of the open incidents and in those that wait."""
    evaluated = {**state.last_evaluated, _path_of(evaluation): evaluation.at}
    state = replace(state, last_evaluated=evaluated)
    if evaluation.source == MESH:  # every evaluation of the mesh is one of the inventory
        state = _count_absences(state, conditions)
    seen = _seen(state, evaluation, conditions)
    state = replace(
        state,
        open=tuple(_noted(incident, evaluation, seen, conditions) for incident in state.open),
        pending=tuple(
            _judged(finding, evaluation, seen, conditions)
            if finding.source == evaluation.source
            else finding
            for finding in state.pending
        ),
    )
    tracked = {finding.key for finding in state.pending}
    tracked |= {
        finding.key
        for incident in state.open_of(evaluation.source)
        for finding in incident.findings
    }
    new = (TrackedFinding(evaluation.source, seen[key]) for key in seen if key not in tracked)
    return Observation(
        state,
        tuple(_judged(finding, evaluation, seen, conditions) for finding in new),
        tuple(finding for finding in state.pending if finding.key in seen),
    )


def _path_of(evaluation: Evaluation) -> str:
    return f"{evaluation.lane} {evaluation.source}"


def _count_absences(state: AlertState, conditions: Conditions) -> AlertState:
    """Count for each finding of the open incidents how often the inventory lacked its subject."""

    def counted(finding: TrackedFinding) -> TrackedFinding:
        is_member = conditions.is_member(finding.source, finding.finding)
        return replace(finding, absent_count=0 if is_member else finding.absent_count + 1)

    return replace(
        state,
        open=tuple(
            replace(i, lead=counted(i.lead), others=tuple(map(counted, i.others)))
            for i in state.open
        ),
    )


def _seen(state: AlertState, evaluation: Evaluation, conditions: Conditions) -> Seen:
    """Return the findings of an evaluation: bounded, each suspect once a rule, storms folded."""
    source, policy = evaluation.source, conditions.policy
    urgent_last = sorted(map(trimmed, evaluation.findings), key=urgency, reverse=True)
    findings = {key_of(source, finding): finding for finding in urgent_last}
    leads = [incident.lead.finding for incident in state.open_of(source)]
    stormy = {lead.rule for lead in leads if is_storm(lead)}
    folded = fold_storms(
        source,
        list(findings.values()),
        [lead for lead in leads if not is_storm(lead)],
        lambda rule: policy.storm // 3 if rule in stormy else policy.storm,
        conditions.containing,
    )
    return {key_of(source, finding): finding for finding in folded}


def _noted(
    incident: Incident, evaluation: Evaluation, seen: Seen, conditions: Conditions
) -> Incident:
    """Return an incident with its findings judged; one of another source stays as it is."""
    if incident.source != evaluation.source:
        return incident
    lead, *others = (
        _judged(finding, evaluation, seen, conditions) for finding in incident.findings
    )
    is_seen = any(finding.key in seen for finding in incident.findings)
    last_seen = max(conditions.now, incident.last_seen) if is_seen else incident.last_seen
    return replace(incident, lead=lead, others=tuple(others), unlisted=0, last_seen=last_seen)


def _judged(
    tracked: TrackedFinding, evaluation: Evaluation, seen: Seen, conditions: Conditions
) -> TrackedFinding:
    """Return a finding after an evaluation that saw it, saw it clear, or could not judge it."""
    finding = seen.get(tracked.key)
    if finding is None:
        left_out = evaluation.left_out(tracked.finding)
        if left_out or not _can_judge(evaluation, tracked, conditions):
            return replace(tracked, left_out=left_out)
    return tracked.judged(evaluation.lane, finding, conditions.policy, conditions.now)


def _can_judge(evaluation: Evaluation, tracked: TrackedFinding, conditions: Conditions) -> bool:
    """Whether an evaluation that did not see a finding would have seen it."""
    finding = tracked.finding
    if finding.rule not in evaluation.judged:
        return False
    if not conditions.is_member(tracked.source, finding):
        return False
    ends = finding.subject.split(">", 1) if finding.scope == "pair" else ()
    needed: set[Suspect] = {
        (finding.scope, finding.subject),
        (finding.scope, "*"),
        (whole_of(tracked.source), tracked.source),
        *(("host", end) for end in ends),
    }
    return not needed & {(scope, distinct(subject)) for scope, subject in evaluation.unjudged}
