"""Notify: what is due in the outbox is traced, composed and delivered.

outbox ──due──▶ collect (traces, heatmap, links) ──▶ compose ──▶ deliver ──▶ outbox, marked
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from pingmesh_tasks.alerting import AlertState, Policy, outbox
from pingmesh_tasks.alerting.channel import Channels
from pingmesh_tasks.alerting.delivery import deliver
from pingmesh_tasks.alerting.notification_table import write_notifications
from pingmesh_tasks.alerting.state_file import AlertFile
from pingmesh_tasks.alerting.trace_store import write_traces
from pingmesh_tasks.errors import NotificationError
from pingmesh_tasks.pipeline.message_parts import collect_parts
from pingmesh_tasks.pipeline.run import Run

log = logging.getLogger(__name__)


def notify(run: Run, channels: Channels, ui_url: str | None = None, sender: str = "notify") -> dict[str, int]:
    """Send what is due.

    Args:
        run: The run; its window is not used.
        channels: The channels that are on, and why the others are off.
        ui_url: Where Airflow's UI is, for the links of messages.
        sender: The same for every try of one task, and of no other task (`deliver`).

    Returns:
        How many messages were `sent` and `failed`; nothing where nothing was due.

    Raises:
        NotificationError: Messages wait and every channel fails. A retry must not hide that: it
            finds nothing due yet.
        StoreError: The store refuses.
    """
    for name, reason in channels.off.items():
        log.info("channel %s is off: %s", name, reason)
    file, now = AlertFile(run.store), datetime.now(UTC)
    state = file.update(lambda before: outbox.set_channels(before, channels.names, channels.off, now))
    due = [notification for notification, _ in outbox.due(state, now, sender)]
    if not due:
        _check_waiting(state, channels)
        return {}
    write_notifications(run.store, due, run.settings.window_s)
    parts = collect_parts(run, due, ui_url, now)
    counts = deliver(file, channels.on, parts.compose, Policy(), lambda: datetime.now(UTC), sender=sender)
    traced = {one.incident: parts.traces[one.id] for one in due if parts.traces.get(one.id)}
    write_traces(run.store, traced)
    if counts["failed"] and not counts["sent"]:
        raise NotificationError("no channel took a message; they wait in the outbox; the log above says why")
    return dict(counts)


def _check_waiting(state: AlertState, channels: Channels) -> None:
    """Raise NotificationError if notifications wait while every channel that is on fails."""
    waiting = len(state.outbox)
    if not waiting:
        return
    if not channels.on:
        log.warning("%d notices wait in the outbox: no channel is on", waiting)
    elif all(state.channels[name].failures for name in channels.names):
        raise NotificationError(f"no channel takes messages; {waiting} wait in the outbox")
