"""Late data are an alarm too: what is remembered and told of a run that missed its deadline (`callbacks`).

Such a run opens an incident of its DAG; runs that end in time close it (`ended_in_time`, called where a window's look
is remembered, and `run_ended` by the last task of a DAG that looks at nothing). It is an incident like any other: told
once, repeated hourly, acknowledged, silenced by the same form.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from pingmesh_tasks.alerting import Policy, advance, outbox
from pingmesh_tasks.alerting.channel import Channel, ChannelError
from pingmesh_tasks.alerting.delivery import deliver
from pingmesh_tasks.alerting.incident import Notification, incident_id
from pingmesh_tasks.alerting.messages.links import links_of
from pingmesh_tasks.alerting.messages.message import AlertMessage, compose
from pingmesh_tasks.alerting.messages.wording import LATE_DATA
from pingmesh_tasks.alerting.notification_table import write_notifications
from pingmesh_tasks.alerting.state_file import AlertFile
from pingmesh_tasks.detect.finding import Evaluation, Finding
from pingmesh_tasks.errors import StoreError
from pingmesh_tasks.pipeline.mesh import Run
from pingmesh_tasks.store.objects import ObjectStore
from pingmesh_tasks.text import cut

log = logging.getLogger(__name__)


def late_data(dag_id: str, run_id: str, allowed_s: float, now: datetime) -> Finding:
    """Return what a run that missed its deadline means."""
    return Finding(
        rule=LATE_DATA,
        scope="server",
        subject=dag_id,
        severity="critical",  # nobody sees a fault whose data do not come
        value=allowed_s,
        unit="s",
        threshold=allowed_s,
        since=now - timedelta(seconds=allowed_s),
        detail=f"Run {cut(run_id, 100)} of DAG {dag_id} has not succeeded {allowed_s:.0f} s after it was queued: "
        "what it measures comes late, and so do alarms that need it.",
        advice="Look at the run in Airflow: is a task red or waiting, are the scheduler and the object store up?",
    )


def ended_in_time(store: ObjectStore, dag_id: str, policy: Policy, now: datetime) -> None:
    """Note that a run of a DAG ended; two in a row end its incident. Reads only, unless one is open."""
    file = AlertFile(store)
    if any(incident.source == dag_id for incident in file.load().open):
        clear = Evaluation(dag_id, "window", now, frozenset({LATE_DATA}))
        file.update(lambda state: advance(state, clear, policy, now))


def run_ended(run: Run, dag_id: str) -> None:
    """Note that a run of a DAG ended now, unless it only looked back."""
    if run.dispatches:
        ended_in_time(run.store, dag_id, Policy(), datetime.now(UTC))


def tell_late(
    store: ObjectStore,
    channels: list[Channel],
    off: Mapping[str, str],
    finding: Finding,
    now: datetime,
    *,
    window_s: int,
    sender: str = LATE_DATA,
    ui_url: str | None = None,
) -> str:
    """Remember that data are late and tell it; where the store is down too, tell it without remembering.

    `sender` and `ui_url` are as in `tell.tell`, `window_s` how long the windows of the table `notice` are.
    """
    dag_id, policy = finding.subject, Policy()
    late = Evaluation(dag_id, "window", now, frozenset({LATE_DATA}), (finding,))
    on = [channel.name for channel in channels]
    file = AlertFile(store)

    def composed(notice: Notification) -> AlertMessage:
        return compose(notice, links_of(notice, ui_url))

    try:
        state = file.update(lambda before: advance(outbox.set_channels(before, on, off, now), late, policy, now))
        incidents = [incident.id for incident in state.open if incident.source == dag_id]
        due = [notice for notice, _ in outbox.due(state, now, sender) if notice.incident in incidents]
        write_notifications(store, due, window_s)
        counts = deliver(file, channels, composed, policy, lambda: datetime.now(UTC), sender=sender, only=incidents)
        return f"{counts['sent']} sent, {counts['failed']} to be tried again"
    except StoreError as error:
        log.warning("the alarm's memory is out of reach: %s", error)
        message = composed(_unremembered(finding, now))
        return f"{sum(_sent(channel, message) for channel in channels)} sent, the object store is down"


def _unremembered(finding: Finding, now: datetime) -> Notification:
    """Return a notice whose id follows from the hour, so that one that is told again and again is one."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    incident = incident_id(finding.subject, finding.scope, finding.subject, hour)
    note = "The object store cannot be reached either: this may be told again."
    return Notification(
        f"{incident}-opened1", incident, "opened", now, finding.subject, finding, now, finding.since, note
    )


def _sent(channel: Channel, message: AlertMessage) -> bool:
    try:
        channel.send(message)
    except ChannelError as error:
        log.warning("%s did not take %s: %s", channel.name, message.id, error)
        return False
    return True
