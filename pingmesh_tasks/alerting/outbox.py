"""The outbox: which notification each channel still has to get.

A notification enters it in the same put that changes the state, and leaves it when every channel
that is on has it. A sender first claims, so that no two send the same, then asks the channel, and
marks the result afterwards; a crash in between sends a notification again, with the same id: at
least once, never lost. A claim ends after `CLAIM_S`, and at once for its owner, who may have died.
A channel that fails is tried again after a time that doubles; the other channels report that it
fails, and that it works again. Everything here is pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from pingmesh_tasks.alerting.alert_state import (
    AlertState,
    ChannelHealth,
    DeliveryStatus,
    OutboxEntry,
)
from pingmesh_tasks.alerting.incident import Kind, Notification, incident_id
from pingmesh_tasks.alerting.policy import Policy
from pingmesh_tasks.detect.finding import Finding
from pingmesh_tasks.text import cut

MAX_ENTRIES = 60
#: So long (s) no other sender sends what one has claimed: longer than a channel takes for a
#: message, and no longer than a notification may wait for a sender that died.
CLAIM_S = 20
#: The source of what alerting reports about itself.
ALARM = "alarm"
#: Kinds in the order in which a full outbox drops them.
_DROP_ORDER: tuple[Kind, ...] = ("reminder", "resolved", "escalated", "opened")


def post(state: AlertState, notifications: Iterable[Notification]) -> AlertState:
    """Return the state with notifications in its outbox; one that is there already (by id) stays.

    A full outbox first drops what some channel has: a channel that fails must not cost the others a
    notification.
    """
    there = {entry.notification.id for entry in state.outbox}
    new = (OutboxEntry(one) for one in notifications if one.id not in there)
    entries = [*state.outbox, *new]
    excess = max(0, len(entries) - MAX_ENTRIES)
    for entry in sorted(entries, key=_worth)[:excess]:
        entries.remove(entry)
    dropped = state.dropped_notifications + excess
    return replace(state, outbox=tuple(entries), dropped_notifications=dropped)


def set_channels(
    state: AlertState, on: Collection[str], off: Mapping[str, str], now: datetime
) -> AlertState:
    """Note which channels are on, and which are off and why.

    Channels that are newly off are reported once, all in one notification. A channel that is off is
    not waited for; one that comes on later gets what is still in the outbox.
    """
    known = state.channels
    channels = {
        name: replace(known[name], on=True) if name in known else ChannelHealth(True)
        for name in sorted(on)
    }
    newly_off = [name for name in sorted(off) if name not in known or known[name].on]
    channels |= {name: ChannelHealth(False, since=now) for name in newly_off}
    channels |= {name: known[name] for name in off if name not in newly_off}
    state = _tidy(replace(state, channels=channels), now)
    if not newly_off or not on:
        return state
    reasons = "; ".join(f"{name}: {off[name]}" for name in newly_off)
    silent, loud = " and ".join(newly_off), " and ".join(sorted(on))
    detail = f"No alarm goes to {silent} ({reasons}). Alarms go to {loud}."
    advice = "Define the connection if you want the channel; this is said once."
    subject = ", ".join(newly_off)
    return post(state, [_own("channel_off", subject, "opened", detail, advice, now, now)])


def due(state: AlertState, now: datetime, sender: str) -> list[tuple[Notification, list[str]]]:
    """Return what `sender` may send now, the oldest first, with the channels that need it."""
    on = [name for name, health in state.channels.items() if health.on]
    wanted = (
        (entry.notification, [name for name in on if _may_send(entry, name, now, sender)])
        for entry in state.outbox
    )
    return [(notification, channels) for notification, channels in wanted if channels]


def claim(
    state: AlertState,
    wanted: Iterable[tuple[Notification, Collection[str]]],
    sender: str,
    now: datetime,
) -> AlertState:
    """Note that `sender` is about to send notifications to channels, and no other sender may."""
    entries = {entry.notification.id: entry for entry in state.outbox}
    until = now + timedelta(seconds=CLAIM_S)
    for notification, channels in wanted:
        for channel in channels:
            before = entries[notification.id].delivery_to(channel)
            claimed = replace(before, next_try=until, claimed_by=sender)
            state = _with_delivery(state, notification.id, channel, claimed)
    return state


def mark_sent(state: AlertState, notification_id: str, channel: str, now: datetime) -> AlertState:
    """Note that a channel took a notification.

    If the others had to report that it fails, they report that it works again.
    """
    health = state.channels.get(channel, ChannelHealth(True))
    state = _with_delivery(state, notification_id, channel, DeliveryStatus(sent_at=now))
    state = replace(state, channels={**state.channels, channel: ChannelHealth(health.on)})
    if health.reported and health.since:
        since = f"{health.since:%H:%M} UTC"
        detail = f"The channel {channel} takes messages again; it had failed since {since}."
        back = _own("channel_failed", channel, "resolved", detail, "", health.since, now)
        state = _post_to_others(state, back, channel)
    return _tidy(state, now)


def mark_failed(
    state: AlertState,
    notification_id: str,
    channel: str,
    error: str,
    policy: Policy,
    now: datetime,
) -> AlertState:
    """Note that a channel refused a notification, and when to try again.

    After `policy.failing_after` failures in a row the others report the channel, once.
    """
    entry = next((one for one in state.outbox if one.notification.id == notification_id), None)
    if entry is None:
        return state
    error = cut(error, 300)
    refused = _refused(entry, channel, error, policy, now)
    state = _with_delivery(state, notification_id, channel, refused)
    health = state.channels.get(channel, ChannelHealth(True))
    failures, since = health.failures + 1, health.since or now
    reports_now = failures >= policy.failing_after and not health.reported
    health = replace(
        health, failures=failures, since=since, reported=health.reported or reports_now
    )
    state = replace(state, channels={**state.channels, channel: health})
    if reports_now:
        detail = f"The channel {channel} has failed {failures} times in a row: {error}"
        kept = f"What it missed, up to {MAX_ENTRIES} messages, is kept and tried again for a day."
        advice = f"Check the connection of {channel}. {kept}"
        report = _own("channel_failed", channel, "opened", detail, advice, since, now)
        state = _post_to_others(state, report, channel)
    return _tidy(state, now)


def _worth(entry: OutboxEntry) -> tuple[bool, int]:
    """Return a sort key: what a full outbox drops first is smallest."""
    has_it = any(delivery.sent_at for delivery in entry.deliveries.values())
    return not has_it, _DROP_ORDER.index(entry.notification.kind)


def _may_send(entry: OutboxEntry, channel: str, now: datetime, sender: str) -> bool:
    delivery = entry.delivery_to(channel)
    if delivery.is_done:
        return False
    is_own = delivery.claimed_by == sender
    return is_own or delivery.next_try is None or delivery.next_try <= now


def _refused(
    entry: OutboxEntry, channel: str, error: str, policy: Policy, now: datetime
) -> DeliveryStatus:
    """Return how a delivery stands after one more refusal."""
    tries = entry.delivery_to(channel).tries + 1
    wait_s = min(policy.retry_s * 2 ** min(tries - 1, 30), policy.retry_max_s)
    age_s = (now - entry.notification.at).total_seconds()
    return DeliveryStatus(
        tries=tries,
        next_try=now + timedelta(seconds=wait_s),
        error=error,
        given_up=age_s >= policy.give_up_s,
    )


def _with_delivery(
    state: AlertState, notification_id: str, channel: str, delivery: DeliveryStatus
) -> AlertState:
    def changed(entry: OutboxEntry) -> OutboxEntry:
        if entry.notification.id != notification_id:
            return entry
        return replace(entry, deliveries={**entry.deliveries, channel: delivery})

    return replace(state, outbox=tuple(map(changed, state.outbox)))


def _post_to_others(state: AlertState, notification: Notification, but: str) -> AlertState:
    """Post a notification that the channel `but` does not get."""
    skipped = DeliveryStatus(given_up=True)
    return _with_delivery(post(state, [notification]), notification.id, but, skipped)


def _tidy(state: AlertState, now: datetime) -> AlertState:
    """Remove what every channel that is on has, if there is one.

    Once the outbox has room again, report how many notifications it dropped.
    """
    on = [name for name, health in state.channels.items() if health.on]
    if not on:
        return state
    left = tuple(
        entry for entry in state.outbox if not all(entry.delivery_to(name).is_done for name in on)
    )
    state = replace(state, outbox=left)
    if not state.dropped_notifications or len(left) > MAX_ENTRIES // 2:
        return state
    many = str(state.dropped_notifications)
    waited = f"More than {MAX_ENTRIES} messages waited for a channel that took none"
    detail = f"{waited}; {many} of them were let go."
    advice = "The page shows what is open and what was; the table `notice` has what was said."
    report = _own("messages_dropped", many, "opened", detail, advice, now, now)
    return post(replace(state, dropped_notifications=0), [report])


def _own(
    rule: str,
    subject: str,
    kind: Kind,
    detail: str,
    advice: str,
    since: datetime,
    now: datetime,
) -> Notification:
    """Return a notification of alerting about itself.

    It belongs to no incident of the state: its id follows from its rule, subject and start.
    """
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
    return Notification(f"{incident}-{kind}1", incident, kind, now, ALARM, finding, since, since)
