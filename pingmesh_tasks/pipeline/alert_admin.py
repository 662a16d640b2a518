"""What `alert_admin` does to the alert state by hand: acknowledge, dismiss, silence, end a silence, list."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from pingmesh_tasks.alerting import AlertState, silence, transition
from pingmesh_tasks.alerting.alert_state import Silence
from pingmesh_tasks.alerting.state_file import AlertFile
from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.pipeline.incidents import incident_counts
from pingmesh_tasks.pipeline.run import Run

log = logging.getLogger(__name__)
DEFAULT_SILENCE_H = 4.0


def administer(run: Run, form: Mapping[str, Any]) -> dict[str, int]:
    """Do what the form of `alert_admin` asks for; log what is open and silenced; return the counts.

    Raises ConfigError for an unknown action, a missing or unknown incident or silence, and a
    silence that the alerting rules refuse.
    """
    now = datetime.now(UTC)
    wanted = _silence(form, now)
    after = AlertFile(run.store).update(lambda before: _changed(before, form, wanted, now))
    _log_state(after)
    return incident_counts(after)


def _changed(before: AlertState, form: Mapping[str, Any], wanted: Silence, now: datetime) -> AlertState:
    match form["action"]:
        case "acknowledge":
            return silence.acknowledge(before, _incident_id(form), wanted.by, now)
        case "dismiss":
            return transition.dismiss(before, _incident_id(form), wanted.by, now)
        case "silence":
            return silence.silence(before, wanted, now)
        case "unsilence":
            return silence.unsilence(before, str(form.get("silence_id") or ""))
        case "list":
            return before
    raise ConfigError(
        f"the action {form['action']!r} is not known; choose list, acknowledge, silence, unsilence or dismiss"
    )


def _silence(form: Mapping[str, Any], now: datetime) -> Silence:
    """Return the silence that the form describes, whether or not its action makes one."""
    return Silence(
        id=secrets.token_hex(4),
        by=str(form.get("by") or "someone"),
        made_at=now,
        until=now + timedelta(hours=float(form.get("hours") or DEFAULT_SILENCE_H)),
        reason=str(form.get("comment") or ""),
        incident=form.get("incident") or None,
        **{name: str(form.get(name) or "*") for name in ("source", "scope", "subject", "rule")},
    )


def _incident_id(form: Mapping[str, Any]) -> str:
    if not form.get("incident"):
        raise ConfigError("no incident is named; its id is in the notification and in the log of the action list")
    return str(form["incident"])


def _log_state(state: AlertState) -> None:
    for incident in state.open:
        finding = incident.lead.finding
        acknowledged = f" (acknowledged by {incident.acknowledged_by})" if incident.acknowledged_by else ""
        log.info("open: %s %s %s: %s%s", incident.id, incident.source, finding.rule, finding.detail, acknowledged)
    for one in state.silences:
        what = one.incident or f"{one.source} {one.scope} {one.subject} {one.rule}"
        log.info("silence: %s of %s until %s by %s: %s", one.id, what, one.until, one.by, one.reason)
