"""The shapes of the alarm's memory: what is open, what was closed, what is silenced, what is left to say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from pingmesh_tasks.alerting.incident import Incident, Notice, Silence, Symptom


@dataclass(frozen=True, slots=True)
class Delivery:
    """How it goes with one notice on one channel: sent, given up, or tried `tries` times and due at `next_try`.

    Until then only `claimed_by` may send it, where somebody does.
    """

    sent_at: datetime | None = None
    tries: int = 0
    next_try: datetime | None = None
    error: str = ""
    given_up: bool = False
    claimed_by: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A notice in the outbox, until every channel that is on has it or gave up."""

    notice: Notice
    deliveries: Mapping[str, Delivery] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ChannelHealth:
    """Whether a channel is on, how often it failed in a row and since when, and whether the others have said so."""

    on: bool
    failures: int = 0
    since: datetime | None = None
    said: bool = False


@dataclass(frozen=True, slots=True)
class AlertState:
    """Everything that the alarm remembers. Incidents and notices are in the order in which they came.

    `looked_at` has the end of the last look by `<lane> <source>`. `dropped_notices` counts those that a full outbox had
    to let go, until that is said.
    """

    open: tuple[Incident, ...] = ()
    pending: tuple[Symptom, ...] = ()
    closed: tuple[Incident, ...] = ()
    silences: tuple[Silence, ...] = ()
    outbox: tuple[Entry, ...] = ()
    channels: Mapping[str, ChannelHealth] = field(default_factory=dict)
    looked_at: Mapping[str, datetime] = field(default_factory=dict)
    dropped_notices: int = 0

    def incident(self, incident_id: str) -> Incident | None:
        """Return an open or recently closed incident."""
        return next((incident for incident in (*self.open, *self.closed) if incident.id == incident_id), None)
