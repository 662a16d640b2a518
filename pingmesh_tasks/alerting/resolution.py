"""Stage 5, resolve: whether an incident is over, and if not, which finding leads it now.

Missing data never resolve an incident. It is over once `clear_evaluations` evaluations in a row
judged its findings clear, once its suspect has left the inventory, or once its rule is off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pingmesh_tasks.alerting.conditions import Conditions
from pingmesh_tasks.alerting.incident import INVENTORY, RULES, Incident
from pingmesh_tasks.alerting.suspect import SEVERITY_RANK, urgency
from pingmesh_tasks.alerting.tracked_finding import TrackedFinding


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an incident is at the time of a transition.

    Attributes:
        incident: The incident, with the finding that leads it now.
        closed_by: Who ended it (`Incident.closed_by`); None while it is open.
        lead_removed_by: INVENTORY or RULES where that removed its former lead.
        waiting: Findings of an incident that ended which never reached their quorum: they wait.
    """

    incident: Incident
    closed_by: str | None = None
    lead_removed_by: str | None = None
    waiting: tuple[TrackedFinding, ...] = ()


def resolve(incident: Incident, conditions: Conditions) -> Outcome:
    """Return what an incident is now."""
    removed_by = _removed_by(incident.lead, conditions)
    cleared_by = incident.lead.cleared_by(conditions.policy, conditions.now)
    live = _live(incident, conditions)
    confirmed = [finding for finding in live if finding.confirmed]
    if not confirmed and _is_held(incident, conditions) and not removed_by:
        confirmed = [incident.lead]
    if not confirmed:
        return Outcome(incident, removed_by or cleared_by or "window", waiting=tuple(live))
    lead = _lead(incident.lead, confirmed)
    others = [finding.without_evidence() for finding in live if finding.key != lead.key]
    others.sort(key=lambda finding: urgency(finding.finding))
    since = min(incident.since, lead.finding.since)
    renewed = replace(incident, lead=lead, others=tuple(others), since=since)
    return Outcome(renewed, lead_removed_by=removed_by)


def _live(incident: Incident, conditions: Conditions) -> list[TrackedFinding]:
    """Return the findings of an incident that are not over.

    Where the hot path saw the lead end, what only windows saw is the past of the same fault.
    """
    policy, now = conditions.policy, conditions.now
    live = [
        finding
        for finding in incident.findings
        if _removed_by(finding, conditions) is None and finding.cleared_by(policy, now) is None
    ]
    if incident.lead.cleared_by(policy, now) == "hot":
        return [finding for finding in live if "hot" in finding.seen_by]
    return live


def _removed_by(finding: TrackedFinding, conditions: Conditions) -> str | None:
    """Return what ends a finding whether it is clear or not: INVENTORY, RULES, or nothing."""
    if finding.absent_count >= conditions.policy.absent_evaluations:
        return INVENTORY
    return RULES if finding.left_out == "off" else None


def _is_held(incident: Incident, conditions: Conditions) -> bool:
    """Whether an incident that flaps has not been clear for long enough."""
    hold_s = conditions.policy.hold_s(incident.returns)
    return conditions.age_s(incident.last_seen) < hold_s


def _lead(former: TrackedFinding, confirmed: Sequence[TrackedFinding]) -> TrackedFinding:
    """Return the finding that names the suspect now.

    The suspect stays while one of its findings is confirmed: then its most severe finding leads,
    the former lead among equals. Otherwise the most urgent finding leads.
    """
    same_suspect = [finding for finding in confirmed if finding.suspect == former.suspect]
    if not same_suspect:
        return min(confirmed, key=lambda finding: urgency(finding.finding))
    return min(
        same_suspect,
        key=lambda finding: (
            -SEVERITY_RANK[finding.finding.severity],
            finding.key != former.key,
        ),
    )
