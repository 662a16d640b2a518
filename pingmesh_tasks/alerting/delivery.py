"""Delivery: what is in the outbox goes to the channels, and what went is marked.

Each channel has a thread of its own, so that a dead one holds nobody up; each gets its notices in their order, and no
more of them in this delivery once it has refused one. First claimed, then sent, then marked: what a crash cuts off in
between is sent again, with the same id.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from queue import Empty, SimpleQueue
from time import monotonic

from pingmesh_tasks.alerting import outbox
from pingmesh_tasks.alerting.alert_state import AlertState
from pingmesh_tasks.alerting.channel import Channel, ChannelError
from pingmesh_tasks.alerting.incident import Notice, Policy
from pingmesh_tasks.alerting.messages.message import Message
from pingmesh_tasks.alerting.state_file import AlertFile

log = logging.getLogger(__name__)
#: A delivery takes no longer: what is left is sent by the next one.
LONGEST_S = 60.0


@dataclass(frozen=True, slots=True)
class _Result:
    notice: str
    channel: str
    error: str | None


def deliver(
    file: AlertFile,
    channels: Sequence[Channel],
    compose: Callable[[Notice], Message],
    policy: Policy,
    clock: Callable[[], datetime],
    *,
    sender: str,
    only: Collection[str] | None = None,
    step: Callable[[str], None] = lambda name: None,
) -> Counter[str]:
    """Send what is due and return how many were `sent` and `failed`. Raises StoreError; a channel's fault is no error.

    Call `outbox.set_channels` before. `sender` names who sends: another try under the same name goes on with what the
    last one had claimed. `only` limits it to notices of these incidents. `step` is called with `composed`, `sent` and
    `marked` between the steps: tests end the process there.
    """
    now, by_name = clock(), {channel.name: channel for channel in channels}

    def wanted(state: AlertState) -> list[tuple[Notice, list[str]]]:
        due = outbox.due(state, now, sender)
        mine = [(notice, [name for name in names if name in by_name]) for notice, names in due]
        return [(notice, names) for notice, names in mine if names and (only is None or notice.incident in only)]

    state = file.update(lambda before: outbox.claim(before, wanted(before), sender, now))
    work: dict[str, list[Message]] = {}
    for notice, names in wanted(state):
        message = compose(notice)
        for name in names:
            work.setdefault(name, []).append(message)
    step("composed")
    results: SimpleQueue[_Result | None] = SimpleQueue()
    for name, messages in work.items():
        worker = threading.Thread(target=_send_all, args=(by_name[name], messages, results, step), daemon=True)
        worker.start()
    counts: Counter[str] = Counter()
    for batch in _batches(results, len(work)):
        file.update(partial(_mark, batch=batch, policy=policy, now=clock()))
        step("marked")
        counts.update("failed" if result.error else "sent" for result in batch)
    return counts


def _send_all(
    channel: Channel, messages: Sequence[Message], results: SimpleQueue[_Result | None], step: Callable[[str], None]
) -> None:
    try:
        for message in messages:
            try:
                channel.send(message)
            except ChannelError as error:
                log.warning("%s did not take %s: %s", channel.name, message.id, error)
                results.put(_Result(message.id, channel.name, str(error)))
                return
            except Exception as error:  # a fault of ours must not silence the other channels, nor the retry
                log.exception("%s failed on %s", channel.name, message.id)
                results.put(_Result(message.id, channel.name, f"{type(error).__name__}: {error}"))
                return
            step("sent")
            log.info("%s took %s: %s", channel.name, message.id, message.subject)
            results.put(_Result(message.id, channel.name, None))
    finally:
        results.put(None)


def _batches(results: SimpleQueue[_Result | None], workers: int) -> Iterator[list[_Result]]:
    """Yield what has come in, all that is there at a time, until every worker is done or time is up."""
    end = monotonic() + LONGEST_S
    while workers:
        try:
            found = [results.get(timeout=max(0.0, end - monotonic()))]
        except Empty:
            log.warning("%d channels take more than %.0f s; the next delivery goes on", workers, LONGEST_S)
            return
        while not results.empty():
            found.append(results.get())
        workers -= found.count(None)
        if batch := [result for result in found if result is not None]:
            yield batch


def _mark(state: AlertState, batch: Sequence[_Result], policy: Policy, now: datetime) -> AlertState:
    for result in batch:
        if result.error is None:
            state = outbox.mark_sent(state, result.notice, result.channel, now)
        else:
            state = outbox.mark_failed(state, result.notice, result.channel, result.error, policy, now)
    return state
