"""Delivery: what is in the outbox goes to the channels, and the results are marked.

Each channel has a thread of its own, so that a dead one holds up no other. A channel gets its
messages in their order, and no more in this delivery once it has refused one. Claimed first, then
sent, then marked: what a crash cuts off in between is sent again, with the same id.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from queue import Empty, SimpleQueue
from time import monotonic

from pingmesh_tasks.alerting import outbox
from pingmesh_tasks.alerting.alert_state import AlertState
from pingmesh_tasks.alerting.channel import Channel, ChannelError
from pingmesh_tasks.alerting.incident import Notification
from pingmesh_tasks.alerting.messages.message import AlertMessage
from pingmesh_tasks.alerting.policy import Policy
from pingmesh_tasks.alerting.state_file import AlertFile

log = logging.getLogger(__name__)
#: A delivery takes no longer (s): what is left is sent by the next one.
LONGEST_S = 60.0

Step = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Result:
    notification: str
    channel: str
    error: str | None


def deliver(
    file: AlertFile,
    channels: Sequence[Channel],
    compose: Callable[[Notification], AlertMessage],
    policy: Policy,
    clock: Callable[[], datetime],
    *,
    sender: str,
    only: Collection[str] | None = None,
    step: Step = lambda name: None,
) -> Counter[str]:
    """Send what is due and return how many messages were `sent` and `failed`.

    Call `outbox.set_channels` before. A fault of a channel is counted, not raised.

    Args:
        file: The state in the bucket.
        channels: The channels that are on.
        compose: Makes the message of a notification.
        policy: When to try again, and when to give up.
        clock: Returns the time.
        sender: Who sends. Another try under the same name goes on with what the last one claimed.
        only: Ids of incidents, where only their notifications are to be sent.
        step: Called with `composed`, `sent` and `marked` between the steps: tests end the process
            there.

    Raises:
        StoreError: The store refuses.
    """
    now, by_name = clock(), {channel.name: channel for channel in channels}

    def wanted(state: AlertState) -> list[tuple[Notification, list[str]]]:
        return [
            (one, names)
            for one, on in outbox.due(state, now, sender)
            if (names := [name for name in on if name in by_name])
            and (only is None or one.incident in only)
        ]

    state = file.update(lambda before: outbox.claim(before, wanted(before), sender, now))
    work = _messages_of_channels(wanted(state), compose)
    step("composed")
    results: SimpleQueue[_Result | None] = SimpleQueue()
    for name, messages in work.items():
        arguments = (by_name[name], messages, results, step)
        threading.Thread(target=_send_all, args=arguments, daemon=True).start()
    counts: Counter[str] = Counter()
    for batch in _batches(results, len(work)):
        file.update(partial(_mark, batch=batch, policy=policy, now=clock()))
        step("marked")
        counts.update("failed" if result.error else "sent" for result in batch)
    return counts


def _messages_of_channels(
    wanted: Sequence[tuple[Notification, Sequence[str]]],
    compose: Callable[[Notification], AlertMessage],
) -> Mapping[str, list[AlertMessage]]:
    messages: dict[str, list[AlertMessage]] = {}
    for notification, names in wanted:
        message = compose(notification)
        for name in names:
            messages.setdefault(name, []).append(message)
    return messages


def _send_all(
    channel: Channel,
    messages: Sequence[AlertMessage],
    results: SimpleQueue[_Result | None],
    step: Step,
) -> None:
    """Send the messages of one channel until it refuses one; put the results, then None."""
    try:
        for message in messages:
            error = _send(channel, message)
            if error is None:
                step("sent")
                log.info("%s took %s: %s", channel.name, message.id, message.subject)
            results.put(_Result(message.id, channel.name, error))
            if error is not None:
                return
    finally:
        results.put(None)


def _send(channel: Channel, message: AlertMessage) -> str | None:
    """Return why a channel refused a message, None where it took it."""
    try:
        channel.send(message)
    except ChannelError as error:
        log.warning("%s did not take %s: %s", channel.name, message.id, error)
        return str(error)
    except Exception as error:  # a bug of ours must not stop the other channels, nor the next try
        log.exception("%s failed on %s", channel.name, message.id)
        return f"{type(error).__name__}: {error}"
    return None


def _batches(results: SimpleQueue[_Result | None], workers: int) -> Iterator[list[_Result]]:
    """Yield the results that are there, until every worker is done or LONGEST_S have passed."""
    end = monotonic() + LONGEST_S
    while workers:
        try:
            arrived = [results.get(timeout=max(0.0, end - monotonic()))]
        except Empty:
            late = "%d channels take more than %.0f s; the next delivery goes on"
            log.warning(late, workers, LONGEST_S)
            return
        while not results.empty():
            arrived.append(results.get())
        workers -= arrived.count(None)
        if batch := [result for result in arrived if result is not None]:
            yield batch


def _mark(state: AlertState, batch: Sequence[_Result], policy: Policy, now: datetime) -> AlertState:
    for result in batch:
        one, channel = result.notification, result.channel
        if result.error is None:
            state = outbox.mark_sent(state, one, channel, now)
        else:
            state = outbox.mark_failed(state, one, channel, result.error, policy, now)
    return state
