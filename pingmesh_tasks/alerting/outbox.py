"""The outbox: what is left to say, to whom.

A notice enters it in the same put that changes the state, and leaves it when every channel that is on has it. Who
sends claims first, so that no two send the same; a channel is then asked, and marked afterwards, so a crash between the
two sends a notice again, with the same id: at least once, never lost. A claim ends after `CLAIM_S`, for its owner, who
may have died, at once. A channel that fails is tried again after a time that doubles; the others say that it fails, and
that it works again. Everything here is pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from pingmesh_tasks.alerting.alert_state import AlertState, ChannelHealth, Delivery, Entry
from pingmesh_tasks.alerting.incident import Kind, Notice, Policy, incident_id
from pingmesh_tasks.detect.finding import Finding
from pingmesh_tasks.text import cut

MAX_ENTRIES = 60
#: So long nobody else sends what a sender has claimed: longer than a channel takes for a message, and no longer than
#: an alarm may wait for a sender that died.
CLAIM_S = 20
#: The source of what the alarm says of itself.
ALARM = "alarm"
#: What a full outbox lets go first, of what no channel has or of what one has.
_DISPENSABLE: tuple[Kind, ...] = ("reminder", "resolved", "escalated", "opened")


def post(state: AlertState, notices: Iterable[Notice]) -> AlertState:
    """Return the state with notices in its outbox; one that is there already (by id) stays as it is.

    A full outbox first lets go what some channel has: one that fails must not cost the others a notice.
    """
    there = {entry.notice.id for entry in state.outbox}
    entries = [*state.outbox, *(Entry(notice) for notice in notices if notice.id not in there)]
    dropped = max(0, len(entries) - MAX_ENTRIES)
    for entry in sorted(entries, key=_worth)[:dropped]:
        entries.remove(entry)
    return replace(state, outbox=tuple(entries), dropped_notices=state.dropped_notices + dropped)


def set_channels(state: AlertState, on: Collection[str], off: Mapping[str, str], now: datetime) -> AlertState:
    """Note which channels are on, and which off and why. Channels that are newly off are said once, all in one notice.

    A channel that is off is not waited for. One that comes on later gets what is still in the outbox.
    """
    known = state.channels
    channels = {name: replace(known[name], on=True) if name in known else ChannelHealth(True) for name in sorted(on)}
    newly_off = [name for name in sorted(off) if name not in known or known[name].on]
    channels |= {name: ChannelHealth(False, since=now) for name in newly_off}
    channels |= {name: known[name] for name in off if name not in newly_off}
    state = _tidy(replace(state, channels=channels), now)
    if not newly_off or not on:
        return state
    reasons = "; ".join(f"{name}: {off[name]}" for name in newly_off)
    detail = f"No alarm goes to {' and '.join(newly_off)} ({reasons}). Alarms go to {' and '.join(sorted(on))}."
    advice = "Define the connection if you want the channel; this is said once."
    return post(state, [_of_itself("channel_off", ", ".join(newly_off), "opened", detail, advice, now, now)])


def due(state: AlertState, now: datetime, sender: str) -> list[tuple[Notice, list[str]]]:
    """Return what `sender` may send now, oldest first, with the channels that want it."""
    on = [name for name, health in state.channels.items() if health.on]
    wanted = [(entry.notice, [n for n in on if _wants(entry, n, now, sender)]) for entry in state.outbox]
    return [(notice, channels) for notice, channels in wanted if channels]


def claim(
    state: AlertState, wanted: Iterable[tuple[Notice, Collection[str]]], sender: str, now: datetime
) -> AlertState:
    """Note that `sender` is about to send some notices to some channels, and nobody else for a while."""
    entries, until = {entry.notice.id: entry for entry in state.outbox}, now + timedelta(seconds=CLAIM_S)
    for notice, channels in wanted:
        for channel in channels:
            delivery = entries[notice.id].deliveries.get(channel, Delivery())
            state = _deliver(state, notice.id, channel, replace(delivery, next_try=until, claimed_by=sender))
    return state


def mark_sent(state: AlertState, notice_id: str, channel: str, now: datetime) -> AlertState:
    """Note that a channel has a notice; if the others had to say that it fails, they say that it works again."""
    health = state.channels.get(channel, ChannelHealth(True))
    state = _deliver(state, notice_id, channel, Delivery(sent_at=now))
    state = replace(state, channels={**state.channels, channel: ChannelHealth(health.on)})
    if health.said and health.since:
        detail = f"The channel {channel} takes messages again; it had failed since {health.since:%H:%M} UTC."
        back = _of_itself("channel_failed", channel, "resolved", detail, "", health.since, now)
        state = _post_to_others(state, back, channel)
    return _tidy(state, now)


def mark_failed(
    state: AlertState, notice_id: str, channel: str, error: str, policy: Policy, now: datetime
) -> AlertState:
    """Note that a channel refused a notice, when to try again, and let the others say so once."""
    entry = next((entry for entry in state.outbox if entry.notice.id == notice_id), None)
    if entry is None:
        return state
    tries = entry.deliveries.get(channel, Delivery()).tries + 1
    wait_s = min(policy.retry_s * 2 ** min(tries - 1, 30), policy.retry_max_s)
    given_up = (now - entry.notice.at).total_seconds() >= policy.give_up_s
    error = cut(error, 300)
    delivery = Delivery(None, tries, now + timedelta(seconds=wait_s), error, given_up)
    state = _deliver(state, notice_id, channel, delivery)
    health = state.channels.get(channel, ChannelHealth(True))
    health = replace(health, failures=health.failures + 1, since=health.since or now)
    says = health.failures >= policy.failing_after and not health.said
    health = replace(health, said=health.said or says)
    state = replace(state, channels={**state.channels, channel: health})
    if says and health.since:
        detail = f"The channel {channel} has failed {health.failures} times in a row: {error}"
        kept = f"What it missed, up to {MAX_ENTRIES} messages, is kept and tried again for a day."
        advice = f"Check the connection of {channel}. {kept}"
        notice = _of_itself("channel_failed", channel, "opened", detail, advice, health.since, now)
        state = _post_to_others(state, notice, channel)
    return _tidy(state, now)


def _worth(entry: Entry) -> tuple[bool, int]:
    has_it = any(delivery.sent_at for delivery in entry.deliveries.values())
    return not has_it, _DISPENSABLE.index(entry.notice.kind)


def _wants(entry: Entry, channel: str, now: datetime, sender: str) -> bool:
    delivery = entry.deliveries.get(channel, Delivery())
    if delivery.sent_at or delivery.given_up:
        return False
    return delivery.claimed_by == sender or delivery.next_try is None or delivery.next_try <= now


def _deliver(state: AlertState, notice_id: str, channel: str, delivery: Delivery) -> AlertState:
    def delivered(entry: Entry) -> Entry:
        return replace(entry, deliveries={**entry.deliveries, channel: delivery})

    outbox = (delivered(entry) if entry.notice.id == notice_id else entry for entry in state.outbox)
    return replace(state, outbox=tuple(outbox))


def _post_to_others(state: AlertState, notice: Notice, but: str) -> AlertState:
    """Post a notice that the channel itself need not have."""
    return _deliver(post(state, [notice]), notice.id, but, Delivery(given_up=True))


def _tidy(state: AlertState, now: datetime) -> AlertState:
    """Drop what every channel that is on has, once there is one. Say what a full outbox let go, once it has room."""
    on = [name for name, health in state.channels.items() if health.on]
    if not on:
        return state
    left = tuple(entry for entry in state.outbox if not all(_is_done(entry, name) for name in on))
    state = replace(state, outbox=left)
    if not state.dropped_notices or len(left) > MAX_ENTRIES // 2:
        return state
    many = str(state.dropped_notices)
    detail = f"More than {MAX_ENTRIES} messages waited for a channel that took none; {many} of them were let go."
    advice = "The page shows what is open and what was; the table `notice` has what was said."
    said = _of_itself("messages_dropped", many, "opened", detail, advice, now, now)
    return post(replace(state, dropped_notices=0), [said])


def _is_done(entry: Entry, channel: str) -> bool:
    delivery = entry.deliveries.get(channel, Delivery())
    return delivery.sent_at is not None or delivery.given_up


def _of_itself(rule: str, subject: str, kind: Kind, detail: str, advice: str, since: datetime, now: datetime) -> Notice:
    """Return a notice of the alarm about itself. It is no incident of the state: its id follows from its start."""
    incident = incident_id(ALARM, "server", f"{rule} {subject}", since)
    finding = Finding(
        rule=rule,
        scope="server",
        subject=subject,
        severity="warning",
        value=0.0,
        unit="",
        threshold=0.0,
        since=since,
        detail=detail,
        advice=advice,
    )
    return Notice(f"{incident}-{kind}1", incident, kind, now, ALARM, finding, since, since)
