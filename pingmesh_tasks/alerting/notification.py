"""Stage 6, notify: what is new about an incident, if anything is, becomes a notification."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from pingmesh_tasks.alerting.alert_state import Silence
from pingmesh_tasks.alerting.conditions import Conditions
from pingmesh_tasks.alerting.figures import span
from pingmesh_tasks.alerting.incident import (
    INVENTORY,
    RULES,
    Incident,
    Kind,
    LastNotification,
    Notification,
)
from pingmesh_tasks.alerting.resolution import Outcome
from pingmesh_tasks.alerting.silence import silence_of
from pingmesh_tasks.alerting.suspect import SEVERITY_RANK, precedence
from pingmesh_tasks.alerting.tracked_finding import TrackedFinding
from pingmesh_tasks.detect.finding import MESH, Finding
from pingmesh_tasks.text import cut

#: How an incident ended, by `closed_by`; for another value that value is the text.
_ENDS = {
    "hot": "the last looks found it clear.",
    "window": "the last windows were clear.",
    RULES: "its rule is off now.",
}
#: What became of a former suspect, by what removed it.
_FORMER_SUSPECT = {
    None: "is well again",
    INVENTORY: "is no longer in the inventory",
    RULES: "is left out by the rules",
}
_STILL_THERE = "A silence or a maintenance is over, and this is still there."


@dataclass(frozen=True, slots=True)
class _News:
    kind: Kind
    notes: tuple[str, ...]


def notify(
    outcome: Outcome, silences: Iterable[Silence], conditions: Conditions
) -> tuple[Incident, Notification | None]:
    """Return an incident, open or closed, and the notification that is due for it."""
    is_silenced = silence_of(silences, outcome.incident, conditions.now) is not None
    if outcome.closed_by is not None:
        return _end(outcome.incident, outcome.closed_by, is_silenced, conditions)
    if is_silenced or outcome.incident.lead.left_out == "maintenance":
        return replace(outcome.incident, silenced=True), None
    return _update(outcome, conditions)


def _end(
    incident: Incident, closed_by: str, is_silenced: bool, conditions: Conditions
) -> tuple[Incident, Notification | None]:
    """Close an incident; its end is told where its beginning was, unless it is silenced."""
    closed = replace(incident, others=(), closed_at=conditions.now, closed_by=closed_by)
    notification = None
    if closed.last_notification and not is_silenced:
        lasted = _lasting(conditions.age_s(closed.since))
        note = f"It lasted {lasted}; {_end_note(closed, closed_by)}"
        closed, notification = _notified(closed, "resolved", note, conditions)
    lead = closed.lead.without_evidence()
    return replace(closed, lead=lead, last_notification=None, acknowledged_by=None), notification


def _end_note(incident: Incident, closed_by: str) -> str:
    if closed_by != INVENTORY:
        return _ENDS.get(closed_by, closed_by)
    left = incident.lead.finding.subject if incident.source == MESH else incident.source
    return f"{cut(left, 120)} {_FORMER_SUSPECT[INVENTORY]}."


def _update(outcome: Outcome, conditions: Conditions) -> tuple[Incident, Notification | None]:
    """Notify what is new about an open incident that nothing hides."""
    was_silenced = outcome.incident.silenced
    incident = replace(outcome.incident, silenced=False)
    stale_s = conditions.age_s(max(finding.last_judged for finding in incident.findings))
    is_stale = stale_s >= conditions.policy.stale_after_s
    former = _FORMER_SUSPECT[outcome.lead_removed_by]
    news = _news(incident, was_silenced, stale_s if is_stale else None, former, conditions)
    if news is None:
        return replace(incident, stale_notified=is_stale), None
    if news.kind == "escalated":
        incident = replace(incident, acknowledged_by=None)
    note = " ".join(filter(None, news.notes))
    incident, notification = _notified(incident, news.kind, note, conditions)
    return replace(incident, stale_notified=is_stale, merged_ids=()), notification


def _news(
    incident: Incident,
    was_silenced: bool,
    stale_s: float | None,
    former: str,
    conditions: Conditions,
) -> _News | None:
    """Return what is new about an incident since its last notification.

    Args:
        incident: An open incident.
        was_silenced: Whether something hid it until now.
        stale_s: For how long no evaluation has judged it, if that is too long.
        former: What became of its former suspect, if it has another one now.
        conditions: Policy and time.
    """
    last, finding = incident.last_notification, incident.lead.finding
    merged = _merged_note(incident)
    if last is None:
        return _News(
            "opened", (_STILL_THERE if was_silenced else "", _back_note(incident, conditions))
        )
    if worse := _worse(last, finding):
        return _News("escalated", (*worse, merged))
    if (last.scope, last.subject) != incident.lead.suspect:
        left = f"what is left is {finding.scope} {finding.subject}."
        return _News("reminder", (f"{last.scope} {last.subject} {former}; {left}",))
    if was_silenced:
        return _News("reminder", (_STILL_THERE,))
    if stale_s is not None and not incident.stale_notified:
        return _News("reminder", (_stale_note(stale_s),))
    is_due = conditions.age_s(last.at) >= conditions.policy.repeat_s
    if is_due and not incident.acknowledged_by:
        unjudged = (
            "" if stale_s is None else f"It cannot be judged: no data for {_lasting(stale_s)}."
        )
        return _News("reminder", (unjudged, merged))
    return None


def _notified(
    incident: Incident, kind: Kind, note: str, conditions: Conditions
) -> tuple[Incident, Notification]:
    """Return the incident after a notification of a kind, and the notification."""
    finding, number = incident.lead.finding, incident.notification_count + 1
    notification = Notification(
        id=f"{incident.id}-{kind}{number}",
        incident=incident.id,
        kind=kind,
        at=conditions.now,
        source=incident.source,
        finding=finding,
        opened_at=incident.opened_at,
        since=incident.since,
        note=note,
        members=tuple(map(_member, incident.others)),
        more_members=incident.unlisted,
        acknowledged_by=incident.acknowledged_by,
        closed_by=incident.closed_by,
    )
    last = LastNotification(conditions.now, finding.scope, finding.subject, finding.severity)
    return replace(incident, last_notification=last, notification_count=number), notification


def _worse(last: LastNotification, finding: Finding) -> list[str]:
    """Return how a finding is worse than the last one notified: more severe, or wider."""
    changes = []
    if SEVERITY_RANK[finding.severity] > SEVERITY_RANK[last.severity]:
        changes.append(f"It was a {last.severity}; now it is {finding.severity}.")
    if precedence(finding.scope) < precedence(last.scope):
        now = f"now it is {finding.scope} {finding.subject}."
        changes.append(f"The suspect was {last.scope} {last.subject}; {now}")
    return changes


def _back_note(incident: Incident, conditions: Conditions) -> str:
    if not incident.returns:
        return ""
    since = f"{incident.opened_at:%H:%M} UTC"
    note = f"It is back: {_plural(incident.returns, 'return')} since {since}."
    hold_s = conditions.policy.hold_s(incident.returns)
    if not hold_s:
        return note
    return f"{note} It flaps: it counts as over once it was quiet for {_lasting(hold_s)}."


def _merged_note(incident: Incident) -> str:
    if not incident.merged_ids:
        return ""
    return f"It takes in {_plural(len(incident.merged_ids), 'earlier incident')}."


def _stale_note(stale_s: float) -> str:
    lasts = f"for {_lasting(stale_s)} now"
    return f"It cannot be judged any more: no data say whether it is over, {lasts}."


def _member(finding: TrackedFinding) -> str:
    scope, subject = finding.suspect
    return f"{scope} {subject}: {finding.finding.rule.replace('_', ' ')}"


def _lasting(seconds: float) -> str:
    """Return a span in whole seconds: a note does not read `2.5 s`."""
    return span(int(seconds))


def _plural(count: int, thing: str) -> str:
    return f"{count} {thing}{'s' * (count != 1)}"
