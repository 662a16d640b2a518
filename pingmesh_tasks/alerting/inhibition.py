"""Stage 2, inhibit: which findings must not open an incident, because something else explains them.

A finding that an open incident of its own source explains is no matter of this stage: it joins that
incident (`opening`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from pingmesh_tasks.alerting.alert_state import AlertState
from pingmesh_tasks.alerting.conditions import Conditions
from pingmesh_tasks.alerting.incident import INVENTORY, Incident
from pingmesh_tasks.alerting.inhibition_rule import inhibits
from pingmesh_tasks.alerting.observation import Observation
from pingmesh_tasks.alerting.suspect import urgency
from pingmesh_tasks.alerting.tracked_finding import TrackedFinding
from pingmesh_tasks.detect.finding import MESH, Evaluation

#: Rules of the mesh whose fault leaves a machine without contact.
_CUT_OFF_RULES = {"host_down", "tor_down", "podset_down", "network_down", "no_data"}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A finding that joins an incident, opens one if it `may_open`, or waits."""

    finding: TrackedFinding
    may_open: bool


def inhibit(
    observation: Observation, evaluation: Evaluation, conditions: Conditions
) -> tuple[Candidate, ...]:
    """Return what to do with the findings of an observation, the most urgent first."""
    state = observation.state
    new = (f for f in observation.new if not _is_echo(state, evaluation, f, conditions))
    ordered = sorted((*new, *observation.waiting), key=lambda one: urgency(one.finding))
    return tuple(
        Candidate(one, one.confirmed and not _is_cut_off(state, one, conditions)) for one in ordered
    )


def _is_echo(
    state: AlertState, evaluation: Evaluation, finding: TrackedFinding, conditions: Conditions
) -> bool:
    """Whether a window reports what the hot path saw end, or what has left the inventory since."""
    if evaluation.lane != "window":
        return False
    ended = _closed_since(state, evaluation.at, conditions)
    return any(
        incident.source == evaluation.source
        and incident.closed_by in ("hot", INVENTORY)
        and _explains(incident, finding, conditions)
        for incident in ended
    )


def _is_cut_off(state: AlertState, finding: TrackedFinding, conditions: Conditions) -> bool:
    """Whether a data server gives no data because an incident of the mesh cuts off its machine.

    That holds for `echo_s` after the end of the incident too: contact comes back a little later.
    """
    if finding.source == MESH or finding.finding.rule != "no_data":
        return False
    ended = _closed_since(state, conditions.now, conditions)
    lately = (incident for incident in ended if not incident.merged_into)
    return any(
        incident.source == MESH
        and incident.lead.finding.rule in _CUT_OFF_RULES
        and _explains(incident, finding, conditions)
        for incident in (*state.open, *lately)
    )


def _closed_since(
    state: AlertState, moment: datetime, conditions: Conditions
) -> Iterator[Incident]:
    """Yield the incidents that ended at most `echo_s` before a moment."""
    echo = timedelta(seconds=conditions.policy.echo_s)
    return (i for i in state.closed if i.closed_at is not None and moment <= i.closed_at + echo)


def _explains(incident: Incident, finding: TrackedFinding, conditions: Conditions) -> bool:
    return inhibits(finding.source, incident.lead.finding, finding.finding, conditions.containing)
