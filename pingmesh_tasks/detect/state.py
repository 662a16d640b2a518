"""The alarm's memory: which incidents are open, and what is left to say.

    advance(state, evaluation, policy, now) -> state with notices in its outbox

Pure: the same inputs give the same state and the same ids, so that a run which lost the race for the state's object
does its transition again on the winner's. An evaluation that is not newer than the last of its source and lane changes
nothing, so that no rerun says a thing twice. Every list is bounded: the JSON stays under about a megabyte.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from pingmesh_tasks.detect.finding import Evaluation
from pingmesh_tasks.detect.hierarchy import nothing_wider
from pingmesh_tasks.detect.incident import Incident, Notice, Policy, Silence, Symptom, Wider

MAX_OPEN, MAX_CLOSED, MAX_PENDING, MAX_SILENCES = 60, 60, 200, 100


@dataclass(frozen=True, slots=True)
class Delivery:
    """How it goes with one notice on one channel: sent, or tried `tries` times and due again at `next_try`."""

    sent_at: datetime | None = None
    tries: int = 0
    next_try: datetime | None = None
    error: str = ""
    given_up: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """A notice in the outbox, until every channel that is on has it or gave up."""

    notice: Notice
    deliveries: Mapping[str, Delivery] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ChannelHealth:
    """Whether a channel is on, how often it failed in a row, and whether the others have said so."""

    on: bool
    failures: int = 0
    since: datetime | None = None
    said: bool = False


@dataclass(frozen=True, slots=True)
class AlertState:
    """Everything that the alarm remembers. Incidents and notices are in the order in which they came.

    `looked_at` has the time of the last look by (source, lane). `hot_key` and `anomaly_keys` are the consumer's
    cursors: what it has evaluated already.
    """

    open: tuple[Incident, ...] = ()
    pending: tuple[Symptom, ...] = ()
    closed: tuple[Incident, ...] = ()
    silences: tuple[Silence, ...] = ()
    outbox: tuple[Entry, ...] = ()
    channels: Mapping[str, ChannelHealth] = field(default_factory=dict)
    looked_at: Mapping[tuple[str, str], datetime] = field(default_factory=dict)
    hot_key: str | None = None
    anomaly_keys: tuple[str, ...] = ()
    dropped_notices: int = 0

    def incident(self, incident_id: str) -> Incident | None:
        """Return an open or recently closed incident."""
        return next((incident for incident in (*self.open, *self.closed) if incident.id == incident_id), None)


def advance(
    state: AlertState,
    evaluation: Evaluation | None,
    policy: Policy,
    now: datetime,
    wider: Wider = nothing_wider,
) -> AlertState:
    """Return the state after one look (None: only time has passed), with what is to be said in its outbox.

    `wider` knows what contains what (`hierarchy.hierarchy_of(inventory)`); `now` is the time of the transition.
    """
    raise NotImplementedError


def acknowledge(state: AlertState, incident_id: str, by: str, now: datetime) -> AlertState:
    """Someone looks after it: no reminders until it escalates or ends. Raises ConfigError if it is not open."""
    raise NotImplementedError


def dismiss(state: AlertState, incident_id: str, by: str, now: datetime) -> AlertState:
    """End an incident by hand, e.g. of a host that has left the inventory; it says so."""
    raise NotImplementedError


def silence(state: AlertState, silence: Silence, now: datetime) -> AlertState:
    """Add a silence. Raises ConfigError for one that ends in the past or matches everything for good."""
    raise NotImplementedError


def unsilence(state: AlertState, silence_id: str) -> AlertState:
    """End a silence now; what it hid and is still there is said at the next look."""
    raise NotImplementedError


def with_cursors(state: AlertState, *, hot_key: str | None = None, anomaly_keys: Iterable[str] = ()) -> AlertState:
    """Note what was evaluated: the last hot key, and keys of `anomaly` objects (the newest 400 are kept)."""
    raise NotImplementedError
