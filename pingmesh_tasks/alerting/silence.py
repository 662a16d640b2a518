"""Silences and acknowledgements: what a person does so that an incident is not notified."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from fnmatch import fnmatchcase

from pingmesh_tasks.alerting.alert_state import AlertState, Silence
from pingmesh_tasks.alerting.incident import Incident
from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.suggestions import did_you_mean
from pingmesh_tasks.text import cut

MAX_SILENCES = 100
LONGEST_SILENCE = timedelta(days=90)
_MAX_NAMED = 10


def silence_of(silences: Iterable[Silence], incident: Incident, now: datetime) -> Silence | None:
    """Return the silence that hides an incident, or None."""
    active = (silence for silence in silences if silence.until > now)
    return next((silence for silence in active if _matches(silence, incident)), None)


def acknowledge(state: AlertState, incident_id: str, by: str, now: datetime) -> AlertState:
    """Note who looks after an incident: no reminders until it gets worse or ends.

    Raises:
        ConfigError: The incident is not open.
    """
    incident = open_incident(state, incident_id)
    who = f"{cut(by, 100) or 'someone'} at {now:%H:%M} UTC"
    return state.with_open(replace(incident, acknowledged_by=who))


def silence(state: AlertState, wanted: Silence, now: datetime) -> AlertState:
    """Add a silence, or replace that of its id.

    Raises:
        ConfigError: It is over already, too long, one too many, or of an incident that is neither
            open nor ended lately.
    """
    if wanted.until <= now:
        end = f"{wanted.until:%Y-%m-%d %H:%M} UTC"
        raise ConfigError(f"a silence until {end} is over already; give a later end")
    if wanted.until - now > LONGEST_SILENCE:
        raise ConfigError(
            f"a silence until {wanted.until:%Y-%m-%d} hides faults for too long; "
            f"end it within {LONGEST_SILENCE.days} days, or switch the rule off"
        )
    if wanted.incident is not None and state.incident(wanted.incident) is None:
        instead = _instead(state, wanted.incident)
        raise ConfigError(f"there is no incident {wanted.incident!r}; {instead}")
    kept = [other for other in state.silences if other.until > now and other.id != wanted.id]
    if len(kept) >= MAX_SILENCES:
        raise ConfigError(f"there are {len(kept)} silences; end some, or use one with a wider glob")
    return replace(state, silences=(*kept, _bounded(wanted)))


def unsilence(state: AlertState, silence_id: str) -> AlertState:
    """End a silence now; the next evaluation notifies what it hid, if that is still there.

    Raises:
        ConfigError: There is no such silence.
    """
    kept = tuple(other for other in state.silences if other.id != silence_id)
    if len(kept) == len(state.silences):
        ids = ", ".join(other.id for other in state.silences)
        active = f"active are {ids}" if ids else "none is active"
        raise ConfigError(f"there is no silence {silence_id!r}; {active}")
    return replace(state, silences=kept)


def open_incident(state: AlertState, incident_id: str) -> Incident:
    """Return an open incident.

    Raises:
        ConfigError: It is not open.
    """
    incident = next((incident for incident in state.open if incident.id == incident_id), None)
    if incident is None:
        raise ConfigError(f"no incident {incident_id!r} is open; {_instead(state, incident_id)}")
    return incident


def _instead(state: AlertState, incident_id: str) -> str:
    """Return the open incident that was probably meant, or which incidents are open."""
    if similar := did_you_mean(incident_id, (incident.id for incident in state.open)):
        return similar
    listed = ", ".join(
        f"{one.id} ({' '.join(one.lead.suspect)})" for one in state.open[:_MAX_NAMED]
    )
    return f"open are {listed}" if listed else "none is open"


def _matches(silence: Silence, incident: Incident) -> bool:
    if silence.incident is not None:
        return silence.incident == incident.id
    finding = incident.lead.finding
    return (
        fnmatchcase(incident.source, silence.source)
        and fnmatchcase(finding.scope, silence.scope)
        and fnmatchcase(finding.subject, silence.subject)
        and fnmatchcase(finding.rule, silence.rule)
    )


def _bounded(silence: Silence) -> Silence:
    return replace(
        silence,
        id=cut(silence.id, 100),
        by=cut(silence.by, 100),
        reason=cut(silence.reason, 300),
        source=cut(silence.source, 200),
        scope=cut(silence.scope, 200),
        subject=cut(silence.subject, 200),
        rule=cut(silence.rule, 200),
    )
