"""Stage 3, open: each finding joins the incident that explains it, opens one, or waits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from pingmesh_tasks.alerting.alert_state import AlertState
from pingmesh_tasks.alerting.conditions import Conditions
from pingmesh_tasks.alerting.incident import Incident, incident_id
from pingmesh_tasks.alerting.inhibition import Candidate
from pingmesh_tasks.alerting.inhibition_rule import inhibits
from pingmesh_tasks.alerting.storm import storm_of
from pingmesh_tasks.alerting.suspect import urgency
from pingmesh_tasks.alerting.tracked_finding import TrackedFinding

MAX_OPEN, MAX_PENDING = 60, 200


def open_or_join(
    state: AlertState, candidates: Iterable[Candidate], conditions: Conditions
) -> AlertState:
    """Return the state in which every candidate has its place."""
    candidates = tuple(candidates)
    placed = {candidate.finding.key for candidate in candidates}
    waiting = [finding for finding in state.pending if finding.key not in placed]
    for candidate in candidates:
        finding = candidate.finding
        if home := _home(state, finding, conditions):
            state = state.with_open(home.with_other(finding))
        elif not candidate.may_open:
            waiting.append(finding)
        elif len(state.open) < MAX_OPEN:
            state = _open(state, finding, conditions)
        else:
            state = _open_whole(state, finding, conditions)
    return replace(state, pending=_kept_waiting(waiting, conditions))


def _home(state: AlertState, finding: TrackedFinding, conditions: Conditions) -> Incident | None:
    """Return the open incident of the suspect of a finding, or one that explains it."""
    incidents = tuple(state.open_of(finding.source))
    same = (incident for incident in incidents if incident.lead.suspect == finding.suspect)
    explaining = (
        incident
        for incident in incidents
        if inhibits(finding.source, incident.lead.finding, finding.finding, conditions.containing)
    )
    return next(same, None) or next(explaining, None)


def _open(state: AlertState, finding: TrackedFinding, conditions: Conditions) -> AlertState:
    """Open an incident, or reopen that of the same suspect which ended a moment ago."""
    now = conditions.now
    newest_first = reversed(state.closed)
    earlier = next((i for i in newest_first if _is_back(i, finding, conditions)), None)
    if earlier is None:
        opened_id = incident_id(finding.source, *finding.suspect, now)
        since = finding.finding.since
        return state.with_open(Incident(opened_id, finding.source, now, since, finding, now))
    state = replace(state, closed=tuple(other for other in state.closed if other is not earlier))
    return state.with_open(
        replace(
            earlier,
            lead=finding,
            others=(),
            last_seen=now,
            last_notification=None,
            returns=earlier.returns + 1,
            closed_at=None,
            closed_by=None,
        )
    )


def _open_whole(state: AlertState, finding: TrackedFinding, conditions: Conditions) -> AlertState:
    """Let a finding for which there is no more room join what stands for its whole source.

    Nothing is dropped in silence: where no incident stands for the whole source, one is opened.
    """
    leads = (incident.lead.finding for incident in state.open_of(finding.source))
    whole = replace(finding, finding=storm_of(finding.source, [finding.finding, *leads]))
    if home := _home(state, whole, conditions):
        return state.with_open(home.with_other(finding))
    return _open(state, whole, conditions)


def _is_back(incident: Incident, finding: TrackedFinding, conditions: Conditions) -> bool:
    """Whether an incident of the suspect of a finding ended at most `reopen_s` ago."""
    return (
        incident.merged_into is None
        and (incident.source, incident.lead.suspect) == (finding.source, finding.suspect)
        and incident.closed_at is not None
        and conditions.age_s(incident.closed_at) <= conditions.policy.reopen_s
    )


def _kept_waiting(
    waiting: Iterable[TrackedFinding], conditions: Conditions
) -> tuple[TrackedFinding, ...]:
    """Return what still waits: what was seen lately, and the most urgent of too many."""
    longest_s = 2 * conditions.policy.stale_after_s
    recent = [
        finding
        for finding in waiting
        if finding.was_seen_lately() and conditions.age_s(finding.last_judged) < longest_s
    ]
    recent.sort(key=lambda finding: urgency(finding.finding))
    return tuple(finding.without_evidence() for finding in recent[:MAX_PENDING])
