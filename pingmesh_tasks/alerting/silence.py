"""Growing quiet when told: silences, acknowledgements, and closing by hand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from fnmatch import fnmatchcase

from pingmesh_tasks.alerting.alert_state import AlertState
from pingmesh_tasks.alerting.incident import Incident, Silence
from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.text import cut

MAX_SILENCES = 100
LONGEST_SILENCE = timedelta(days=90)


def silenced(silences: Iterable[Silence], incident: Incident, now: datetime) -> Silence | None:
    """Return the silence that hides an incident, or None."""
    return next((silence for silence in silences if silence.until > now and _matches(silence, incident)), None)


def acknowledge(state: AlertState, incident_id: str, by: str, now: datetime) -> AlertState:
    """Someone looks after it: no reminders until it gets worse or ends. Raises ConfigError if it is not open."""
    incident = open_incident(state, incident_id)
    done = replace(incident, acknowledged_by=f"{cut(by, 100) or 'someone'} at {now:%H:%M} UTC")
    return replace(state, open=tuple(done if other is incident else other for other in state.open))


def silence(state: AlertState, wanted: Silence, now: datetime) -> AlertState:
    """Add a silence, or replace that of its id. Raises ConfigError for one that cannot be meant."""
    if wanted.until <= now:
        raise ConfigError(f"a silence until {wanted.until:%Y-%m-%d %H:%M} UTC is over already; give a later end")
    if wanted.until - now > LONGEST_SILENCE:
        raise ConfigError(
            f"a silence until {wanted.until:%Y-%m-%d} hides faults for too long; "
            f"end it within {LONGEST_SILENCE.days} days, or switch the rule off"
        )
    if wanted.incident is not None and state.incident(wanted.incident) is None:
        raise ConfigError(f"there is no incident {wanted.incident!r}; {_known(state)}")
    kept = [other for other in state.silences if other.until > now and other.id != wanted.id]
    if len(kept) >= MAX_SILENCES:
        raise ConfigError(f"there are {len(kept)} silences; end some, or use one with a wider glob")
    return replace(state, silences=(*kept, _bounded(wanted)))


def unsilence(state: AlertState, silence_id: str) -> AlertState:
    """End a silence now; what it hid is said at the next look if it is still there. Raises ConfigError."""
    kept = tuple(other for other in state.silences if other.id != silence_id)
    if len(kept) == len(state.silences):
        known = ", ".join(other.id for other in state.silences) or "none is active"
        raise ConfigError(f"there is no silence {silence_id!r}; {known}")
    return replace(state, silences=kept)


def open_incident(state: AlertState, incident_id: str) -> Incident:
    incident = next((incident for incident in state.open if incident.id == incident_id), None)
    if incident is None:
        raise ConfigError(f"no incident {incident_id!r} is open; {_known(state)}")
    return incident


def _known(state: AlertState) -> str:
    known = ", ".join(f"{incident.id} ({' '.join(incident.lead.suspect)})" for incident in state.open[:10])
    return f"open are {known}" if known else "none is open"


def _matches(wanted: Silence, incident: Incident) -> bool:
    if wanted.incident is not None:
        return wanted.incident == incident.id
    finding = incident.lead.finding
    return (
        fnmatchcase(incident.source, wanted.source)
        and fnmatchcase(finding.scope, wanted.scope)
        and fnmatchcase(finding.subject, wanted.subject)
        and fnmatchcase(finding.rule, wanted.rule)
    )


def _bounded(wanted: Silence) -> Silence:
    return replace(
        wanted,
        id=cut(wanted.id, 100),
        by=cut(wanted.by, 100),
        reason=cut(wanted.reason, 300),
        source=cut(wanted.source, 200),
        scope=cut(wanted.scope, 200),
        subject=cut(wanted.subject, 200),
        rule=cut(wanted.rule, 200),
    )
