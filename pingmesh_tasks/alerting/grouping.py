"""Stage 4, group: an incident whose suspect explains that of another one takes it in."""

from __future__ import annotations

from dataclasses import replace

from pingmesh_tasks.alerting.alert_state import AlertState
from pingmesh_tasks.alerting.conditions import Conditions
from pingmesh_tasks.alerting.incident import Incident
from pingmesh_tasks.alerting.inhibition_rule import inhibits
from pingmesh_tasks.alerting.suspect import urgency

_MAX_MERGED_IDS = 10


def group(state: AlertState, source: str, conditions: Conditions) -> AlertState:
    """Return the state in which no open incident of a source explains another one."""
    for cause in sorted(state.open_of(source), key=lambda one: urgency(one.lead.finding)):
        for effect in tuple(state.open_of(source)):
            still_open = {incident.id: incident for incident in state.open}
            if cause.id == effect.id or not {cause.id, effect.id} <= still_open.keys():
                continue
            if inhibits(source, cause.lead.finding, effect.lead.finding, conditions.containing):
                state, cause = _merge(state, still_open[cause.id], effect, conditions)
    return state


def _merge(
    state: AlertState, cause: Incident, effect: Incident, conditions: Conditions
) -> tuple[AlertState, Incident]:
    """Return the state in which one incident stands for two, and that incident.

    Its id is that of the older one of those that were notified, so that the messages of one fault
    stay together; the other one is closed as merged.
    """
    kept, gone = _kept_and_gone(cause, effect)
    merged_ids = [*kept.merged_ids, *gone.merged_ids]
    if gone.last_notification:
        merged_ids.append(gone.id)
    merged = replace(
        kept,
        lead=cause.lead,
        others=(),
        since=min(cause.since, effect.since),
        last_seen=max(cause.last_seen, effect.last_seen),
        merged_ids=tuple(dict.fromkeys(merged_ids))[-_MAX_MERGED_IDS:],
    )
    for finding in (*cause.others, *effect.findings):
        merged = merged.with_other(finding)
    closed = replace(
        gone,
        others=(),
        closed_at=conditions.now,
        merged_into=merged.id,
        lead=gone.lead.without_evidence(),
    )
    others = tuple(one for one in state.open if one.id not in (cause.id, effect.id))
    return replace(state, open=(*others, merged), closed=(*state.closed, closed)), merged


def _kept_and_gone(cause: Incident, effect: Incident) -> tuple[Incident, Incident]:
    """Return which of two incidents keeps its id: the one opened first of those notified."""
    notified = [incident for incident in (cause, effect) if incident.last_notification]
    kept = min(notified, key=lambda incident: incident.opened_at, default=cause)
    return kept, effect if kept is cause else cause
