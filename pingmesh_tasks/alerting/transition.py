"""The alarm's memory: which incidents are open, and what is left to say.

    advance(state, evaluation, policy, now) -> state with notices in its outbox

Pure: the same inputs give the same state and the same ids, so that a run which lost the race for the state's object
does its transition again on the winner's. An evaluation that is not newer than the last of its source and lane changes
nothing, so that no rerun says a thing twice. Every list is bounded: the JSON stays under about a megabyte.

Silence of data ends nothing: an incident is over when looks that judged it found it clear (`Policy.clear_looks`), or
when what it is about has left the inventory (`Policy.gone_looks`).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from pingmesh_tasks.alerting.alert_state import AlertState, ChannelHealth, Delivery, Entry
from pingmesh_tasks.alerting.hierarchy import all_known, hierarchy_of, members_of, nothing_wider
from pingmesh_tasks.alerting.incident import Incident, Notice, Policy, Silence, Symptom
from pingmesh_tasks.alerting.inhibition import Known, Wider
from pingmesh_tasks.alerting.observation import Turn
from pingmesh_tasks.alerting.outbox import due, mark_failed, mark_sent, post, set_channels
from pingmesh_tasks.alerting.silence import acknowledge, open_incident, silence, unsilence
from pingmesh_tasks.detect.finding import Evaluation

__all__ = [
    "AlertState",
    "ChannelHealth",
    "Delivery",
    "Entry",
    "Incident",
    "Notice",
    "Policy",
    "Silence",
    "Symptom",
    "acknowledge",
    "advance",
    "dismiss",
    "due",
    "hierarchy_of",
    "mark_failed",
    "mark_sent",
    "members_of",
    "post",
    "set_channels",
    "silence",
    "unsilence",
]

_MAX_SOURCES = 400


def advance(
    state: AlertState,
    evaluation: Evaluation | None,
    policy: Policy,
    now: datetime,
    wider: Wider = nothing_wider,
    known: Known = all_known,
) -> AlertState:
    """Return the state after one look (None: only time has passed), with what is to be said in its outbox.

    `wider` knows what contains what (`hierarchy_of(inventory)`), `known` what the inventory of the look has
    (`members_of(inventory)`); `now` is the time of the transition.
    """
    turn = Turn(state, policy, now, wider, known)
    if evaluation is not None:
        turn.look(evaluation)
    turn.settle()
    after = turn.state()
    newest = sorted(after.looked_at.items(), key=lambda item: item[1])[-_MAX_SOURCES:]
    return post(replace(after, looked_at=dict(newest)), turn.notices)


def dismiss(state: AlertState, incident_id: str, by: str, now: datetime) -> AlertState:
    """End an incident by hand. Raises ConfigError if it is not open."""
    turn = Turn(state, Policy(), now, nothing_wider)
    turn.close_by_hand(open_incident(state, incident_id), by)
    return post(turn.state(), turn.notices)
