"""One step of the alert state: what an evaluation changes, and what to notify of it.

    advance(state, evaluation, policy, now) -> state with notifications in its outbox

    observe ──▶ inhibit ──▶ open or join ──▶ group ──▶ resolve ──▶ notify ──▶ outbox

Pure: the same inputs give the same state and the same ids, so that a run which lost the race for
the object of the state does its transition again on the state of the winner. An evaluation that is
not newer than the last of its source and path changes nothing, so that a rerun notifies nothing
twice. Every list is bounded: the JSON of the state stays under about a megabyte.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from pingmesh_tasks.alerting.alert_state import AlertState
from pingmesh_tasks.alerting.conditions import Conditions
from pingmesh_tasks.alerting.grouping import group
from pingmesh_tasks.alerting.hierarchy import everything_is_member, nothing_contains
from pingmesh_tasks.alerting.incident import Incident, Notification
from pingmesh_tasks.alerting.inhibition import inhibit
from pingmesh_tasks.alerting.notification import notify
from pingmesh_tasks.alerting.observation import is_newer, observe
from pingmesh_tasks.alerting.opening import open_or_join
from pingmesh_tasks.alerting.outbox import post
from pingmesh_tasks.alerting.policy import Policy
from pingmesh_tasks.alerting.resolution import Outcome, resolve
from pingmesh_tasks.alerting.silence import open_incident
from pingmesh_tasks.alerting.suspect import ContainingSuspects, IsMember
from pingmesh_tasks.detect.finding import Evaluation

_MAX_CLOSED, _MAX_PATHS = 60, 400
_MIN_OTHERS, _MAX_OTHERS_IN_ALL = 2, 600


def advance(
    state: AlertState,
    evaluation: Evaluation | None,
    policy: Policy,
    now: datetime,
    containing: ContainingSuspects = nothing_contains,
    is_member: IsMember = everything_is_member,
) -> AlertState:
    """Return the state after one evaluation, with new notifications in its outbox.

    Args:
        state: The state before.
        evaluation: The evaluation; None where only time has passed.
        policy: When to notify.
        now: The time of the transition.
        containing: Which suspects contain one (`hierarchy_of(inventory)`).
        is_member: What the inventory of the evaluation has (`members_of(inventory)`).
    """
    conditions = Conditions(policy, now, containing, is_member)
    if evaluation is not None and is_newer(state, evaluation):
        observation = observe(state, evaluation, conditions)
        candidates = inhibit(observation, evaluation, conditions)
        state = open_or_join(observation.state, candidates, conditions)
        state = group(state, evaluation.source, conditions)
    outcomes = [resolve(incident, conditions) for incident in state.open]
    return _settled(state, outcomes, conditions)


def dismiss(state: AlertState, incident_id: str, by: str, now: datetime) -> AlertState:
    """End an incident by hand.

    Raises:
        ConfigError: The incident is not open.
    """
    conditions = Conditions(Policy(), now, nothing_contains, everything_is_member)
    outcome = Outcome(open_incident(state, incident_id), f"{by} closed it by hand.")
    return _settled(state, [outcome], conditions)


def _settled(state: AlertState, outcomes: Iterable[Outcome], conditions: Conditions) -> AlertState:
    """Return the bounded state after the outcomes of some incidents, and post what is due."""
    open_incidents = {incident.id: incident for incident in state.open}
    closed = list(state.closed)
    waiting = {finding.key: finding for finding in state.pending}
    notifications: list[Notification] = []
    for outcome in outcomes:
        incident, notification = notify(outcome, state.silences, conditions)
        if incident.closed_at is None:
            open_incidents[incident.id] = incident
        else:
            del open_incidents[incident.id]
            closed.append(incident)
        waiting |= {finding.key: finding.without_evidence() for finding in outcome.waiting}
        if notification:
            notifications.append(notification)
    newest = sorted(state.last_evaluated.items(), key=lambda item: item[1])[-_MAX_PATHS:]
    settled = replace(
        state,
        open=tuple(_listed(incident, len(open_incidents)) for incident in open_incidents.values()),
        pending=tuple(waiting.values()),
        closed=tuple(closed[-_MAX_CLOSED:]),
        silences=tuple(one for one in state.silences if one.until > conditions.now),
        last_evaluated=dict(newest),
    )
    return post(settled, notifications)


def _listed(incident: Incident, open_count: int) -> Incident:
    """Return an incident that lists the fewer other findings the more incidents are open."""
    most = max(_MIN_OTHERS, _MAX_OTHERS_IN_ALL // open_count)
    more = max(0, len(incident.others) - most)
    return replace(incident, others=incident.others[:most], unlisted=incident.unlisted + more)
