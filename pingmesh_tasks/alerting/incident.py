"""Incidents: faults over time, each with one suspect and every finding that it explains.

finding ──evaluations──▶ tracked finding ──quorum──▶ incident ──▶ notifications
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from pingmesh_tasks.alerting.suspect import urgency
from pingmesh_tasks.alerting.tracked_finding import TrackedFinding
from pingmesh_tasks.detect.finding import Finding, Severity

Kind = Literal["opened", "escalated", "reminder", "resolved"]

#: `closed_by` where the suspect has left the inventory, and where its rule was switched off.
INVENTORY, RULES = "inventory", "rules"
MAX_OTHERS = 12


@dataclass(frozen=True, slots=True)
class LastNotification:
    """What the last notification of an incident named, and when it was made."""

    at: datetime
    scope: str
    subject: str
    severity: Severity


@dataclass(frozen=True, slots=True)
class Incident:
    """One suspect and every finding that it explains.

    Attributes:
        id: Twelve hexadecimal digits (`incident_id`).
        source: `mesh`, or the name of a data server.
        opened_at: When it was opened first.
        since: When its fault began, as far as findings say.
        lead: The finding that names the suspect.
        last_seen: When an evaluation last saw one of its findings.
        others: The other findings, most urgent first.
        unlisted: Count of findings of the newest evaluation that `others` has no room for.
        last_notification: None until a notification has named the incident.
        notification_count: Numbers its notifications, and so makes their ids.
        returns: How often it was opened again.
        acknowledged_by: Who looks after it, and since when.
        silenced: Whether a silence or a maintenance window hides it.
        stale_notified: Whether a notification has said that no evaluation judges it any more.
        merged_ids: Incidents that were merged into it since its last notification.
        closed_at: When it ended.
        closed_by: Who ended it: the path that saw it clear (`hot`, `window`), INVENTORY, RULES, or
            the person who dismissed it.
        merged_into: The incident that it was merged into.
    """

    id: str
    source: str
    opened_at: datetime
    since: datetime
    lead: TrackedFinding
    last_seen: datetime
    others: tuple[TrackedFinding, ...] = ()
    unlisted: int = 0
    last_notification: LastNotification | None = None
    notification_count: int = 0
    returns: int = 0
    acknowledged_by: str | None = None
    silenced: bool = False
    stale_notified: bool = False
    merged_ids: tuple[str, ...] = ()
    closed_at: datetime | None = None
    closed_by: str | None = None
    merged_into: str | None = None

    @property
    def findings(self) -> tuple[TrackedFinding, ...]:
        """The lead and the others."""
        return (self.lead, *self.others)

    def with_other(self, finding: TrackedFinding) -> Incident:
        """Return it with one more finding; of too many the least urgent is only counted."""
        by_key = {
            other.key: other for other in (*self.others, finding) if other.key != self.lead.key
        }
        ordered = sorted(by_key.values(), key=lambda other: urgency(other.finding))
        return replace(
            self,
            others=tuple(ordered[:MAX_OTHERS]),
            unlisted=self.unlisted + max(0, len(ordered) - MAX_OTHERS),
        )


@dataclass(frozen=True, slots=True)
class Notification:
    """One thing to tell of an incident, with an id that stays the same however often it is sent.

    Attributes:
        id: `<incident>-<kind><number>`.
        incident: The id of the incident.
        note: What changed since the last notification.
        members: The other findings of the incident, in words.
        more_members: Count of those that are not listed.
        closed_by: That of the incident, where this notification says that it is over.
    """

    id: str
    incident: str
    kind: Kind
    at: datetime
    source: str
    finding: Finding
    opened_at: datetime
    since: datetime
    note: str = ""
    members: tuple[str, ...] = ()
    more_members: int = 0
    acknowledged_by: str | None = None
    closed_by: str | None = None


def incident_id(source: str, scope: str, subject: str, opened_at: datetime) -> str:
    """Return the id of an incident: it follows from its first suspect and from when it opened."""
    text = json.dumps([source, scope, subject, opened_at.isoformat()])
    return hashlib.sha256(text.encode()).hexdigest()[:12]
