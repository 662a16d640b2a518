"""The state of alerting: incidents, findings that wait for their quorum, silences, the outbox."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from pingmesh_tasks.alerting.incident import Incident, Notification
from pingmesh_tasks.alerting.tracked_finding import TrackedFinding


@dataclass(frozen=True, slots=True)
class Silence:
    """Hides the notifications of what it matches until `until`.

    It matches one `incident`, or, where that is None, incidents whose suspect fits four globs.
    """

    id: str
    by: str
    made_at: datetime
    until: datetime
    reason: str = ""
    incident: str | None = None
    source: str = "*"
    scope: str = "*"
    subject: str = "*"
    rule: str = "*"


@dataclass(frozen=True, slots=True)
class DeliveryStatus:
    """How the delivery of one notification to one channel stands.

    Attributes:
        sent_at: When the channel took it.
        tries: How often the channel refused it.
        next_try: Before then only `claimed_by` may send it.
        error: Why the channel refused it last.
        given_up: Whether it is not sent to the channel any more.
        claimed_by: The sender that is about to send it.
    """

    sent_at: datetime | None = None
    tries: int = 0
    next_try: datetime | None = None
    error: str = ""
    given_up: bool = False
    claimed_by: str | None = None

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do: the channel has it, or it was given up."""
        return self.sent_at is not None or self.given_up


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """A notification, until every channel that is on has it or gave it up."""

    notification: Notification
    deliveries: Mapping[str, DeliveryStatus] = field(default_factory=dict)

    def delivery_to(self, channel: str) -> DeliveryStatus:
        """Return how its delivery to a channel stands; nothing was tried where none is noted."""
        return self.deliveries.get(channel, DeliveryStatus())


@dataclass(frozen=True, slots=True)
class ChannelHealth:
    """Whether a channel is on, and how it fails.

    Attributes:
        on: Whether its connection is defined.
        failures: How often it failed in a row.
        since: Since when it has failed, or has been off.
        reported: Whether the other channels have reported that it fails.
    """

    on: bool
    failures: int = 0
    since: datetime | None = None
    reported: bool = False


@dataclass(frozen=True, slots=True)
class AlertState:
    """Everything that alerting remembers between evaluations.

    Attributes:
        open: Incidents that are not over, in the order in which they were opened.
        pending: Findings that wait for their quorum.
        closed: Incidents that ended or were merged into others, the newest last.
        silences: What is hidden.
        outbox: Notifications that some channel does not have yet, the oldest first.
        channels: Health of each channel.
        last_evaluated: By `<path> <source>` the end of its newest evaluation.
        dropped_notifications: Count of those that a full outbox dropped, until it is reported.
    """

    open: tuple[Incident, ...] = ()
    pending: tuple[TrackedFinding, ...] = ()
    closed: tuple[Incident, ...] = ()
    silences: tuple[Silence, ...] = ()
    outbox: tuple[OutboxEntry, ...] = ()
    channels: Mapping[str, ChannelHealth] = field(default_factory=dict)
    last_evaluated: Mapping[str, datetime] = field(default_factory=dict)
    dropped_notifications: int = 0

    def incident(self, incident_id: str) -> Incident | None:
        """Return an open or recently closed incident."""
        known = (*self.open, *self.closed)
        return next((incident for incident in known if incident.id == incident_id), None)

    def open_of(self, source: str) -> Iterator[Incident]:
        """Yield the open incidents of a source."""
        return (incident for incident in self.open if incident.source == source)

    def with_open(self, incident: Incident) -> AlertState:
        """Return the state with an open incident in the place of that of its id, or at the end."""
        if any(other.id == incident.id for other in self.open):
            changed = tuple(incident if i.id == incident.id else i for i in self.open)
        else:
            changed = (*self.open, incident)
        return replace(self, open=changed)
