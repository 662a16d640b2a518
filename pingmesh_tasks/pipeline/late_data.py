"""Late data are a fault too: the incident of a DAG whose run missed its deadline (`callbacks`).

Such a run opens an incident of its DAG; runs that end in time resolve it (`ended_in_time`, called
where the evaluation of a window is recorded, and `run_ended` by the last task of a DAG that
evaluates nothing). It is an incident like any other: notified once, repeated hourly, acknowledged
and silenced by the same form.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from pingmesh_tasks.alerting import AlertState, Policy, advance, outbox
from pingmesh_tasks.alerting.channel import Channel, ChannelError, Channels
from pingmesh_tasks.alerting.delivery import deliver
from pingmesh_tasks.alerting.incident import Notification, incident_id
from pingmesh_tasks.alerting.messages.message import AlertMessage
from pingmesh_tasks.alerting.messages.wording import LATE_DATA
from pingmesh_tasks.alerting.notification_table import write_notifications
from pingmesh_tasks.alerting.state_file import AlertFile
from pingmesh_tasks.detect.finding import Evaluation, Finding
from pingmesh_tasks.errors import StoreError
from pingmesh_tasks.pipeline.message_parts import MessageParts
from pingmesh_tasks.pipeline.run import Run
from pingmesh_tasks.store.objects import ObjectStore
from pingmesh_tasks.text import cut

log = logging.getLogger(__name__)


def late_data_finding(dag_id: str, run_id: str, allowed_s: float, now: datetime) -> Finding:
    """Return the finding of a run that missed its deadline, `allowed_s` after it was queued."""
    return Finding(
        rule=LATE_DATA,
        scope="server",
        subject=dag_id,
        severity="critical",  # a fault whose data do not come is seen by nobody
        value=allowed_s,
        unit="s",
        threshold=allowed_s,
        since=now - timedelta(seconds=allowed_s),
        detail=f"Run {cut(run_id, 100)} of DAG {dag_id} has not succeeded {allowed_s:.0f} s after "
        "it was queued: what it measures comes late, and so do alarms that need it.",
        advice="Look at the run in Airflow: is a task red or waiting, are the scheduler and the object store up?",
    )


def ended_in_time(store: ObjectStore, dag_id: str, policy: Policy, now: datetime) -> None:
    """Note that a run of a DAG ended; two in a row resolve its incident.

    Only reads where no incident of the DAG is open.
    """
    file = AlertFile(store)
    if any(file.load().open_of(dag_id)):
        clear = Evaluation(dag_id, "window", now, frozenset({LATE_DATA}))
        file.update(lambda state: advance(state, clear, policy, now))


def run_ended(run: Run, dag_id: str) -> None:
    """Note that a run of a DAG ended now, unless it only looked back."""
    if run.dispatches:
        ended_in_time(run.store, dag_id, Policy(), datetime.now(UTC))


def notify_late_data(
    store: ObjectStore,
    channels: Channels,
    finding: Finding,
    now: datetime,
    *,
    window_s: int,
    sender: str = LATE_DATA,
    ui_url: str | None = None,
) -> str:
    """Record that data are late and notify it; where the store is down too, notify it unrecorded.

    Args:
        store: The bucket.
        channels: The channels that are on, and why the others are off.
        finding: `late_data_finding`.
        now: The time.
        window_s: Length of the windows of the table of notifications, in seconds.
        sender: As in `notify.notify`.
        ui_url: As in `notify.notify`.

    Returns:
        What happened, for the log.
    """
    dag_id, policy, parts = finding.subject, Policy(), MessageParts(ui_url)
    late = Evaluation(dag_id, "window", now, frozenset({LATE_DATA}), (finding,))
    file = AlertFile(store)

    def change(before: AlertState) -> AlertState:
        opened = outbox.set_channels(before, channels.names, channels.off, now)
        return advance(opened, late, policy, now)

    try:
        state = file.update(change)
        incidents = [incident.id for incident in state.open_of(dag_id)]
        due = [one for one, _ in outbox.due(state, now, sender) if one.incident in incidents]
        write_notifications(store, due, window_s)
        counts = deliver(
            file,
            channels.on,
            parts.compose,
            policy,
            lambda: datetime.now(UTC),
            sender=sender,
            only=incidents,
        )
    except StoreError as error:
        log.warning("the alert state is out of reach: %s", error)
        message = parts.compose(_unrecorded(finding, now))
        sent = sum(_is_sent(channel, message) for channel in channels.on)
        return f"{sent} sent, the object store is down"
    return f"{counts['sent']} sent, {counts['failed']} to be tried again"


def _unrecorded(finding: Finding, now: datetime) -> Notification:
    """Return a notification whose id follows from the hour, so that repetitions have one id."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    incident = incident_id(finding.subject, finding.scope, finding.subject, hour)
    return Notification(
        f"{incident}-opened1",
        incident,
        "opened",
        now,
        finding.subject,
        finding,
        now,
        finding.since,
        "The object store cannot be reached either: this may be told again.",
    )


def _is_sent(channel: Channel, message: AlertMessage) -> bool:
    try:
        channel.send(message)
    except ChannelError as error:
        log.warning("%s did not take %s: %s", channel.name, message.id, error)
        return False
    return True
