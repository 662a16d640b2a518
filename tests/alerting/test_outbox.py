"""The outbox: at least once, never lost, and nobody is told twice that a channel is off."""

from __future__ import annotations

from datetime import timedelta

from pingmesh_tasks.alerting import AlertState, Policy
from pingmesh_tasks.alerting.messages.wording import title
from pingmesh_tasks.alerting.outbox import (
    CLAIM_S,
    MAX_ENTRIES,
    claim,
    due,
    mark_failed,
    mark_sent,
    post,
    set_channels,
)
from tests.support.notices import NOON, notice

POLICY = Policy(retry_s=15, retry_max_s=60, give_up_s=3600)
OPENED = notice()
BOTH = ("mail", "slack")


def state_of(*notices, on=BOTH) -> AlertState:
    return post(set_channels(AlertState(), on, {}, NOON), notices)


def later(seconds: float):
    return NOON + timedelta(seconds=seconds)


def told(state, now=NOON):
    return [(notice.id, channels) for notice, channels in due(state, now, "me")]


def test_a_notice_stays_until_every_channel_has_it():
    state = state_of(OPENED)
    assert told(state) == [(OPENED.id, ["mail", "slack"])]
    state = mark_sent(state, OPENED.id, "mail", NOON)
    assert told(state) == [(OPENED.id, ["slack"])]
    state = mark_sent(state, OPENED.id, "slack", NOON)
    assert state.outbox == ()
    assert mark_sent(state, OPENED.id, "slack", NOON).outbox == ()


def test_what_one_sender_has_claimed_another_sends_only_when_the_claim_has_ended():
    state = state_of(OPENED)
    state = claim(state, due(state, NOON, "me"), "me", NOON)
    assert due(state, later(CLAIM_S - 1), "you") == []
    assert due(state, later(1), "me") == due(state, later(CLAIM_S), "you") == [(OPENED, ["mail", "slack"])]
    assert told(mark_sent(state, OPENED.id, "mail", later(1)), later(CLAIM_S)) == [(OPENED.id, ["slack"])]


def test_a_channel_that_refused_what_was_claimed_is_tried_again_as_ever():
    state = state_of(OPENED, on=["mail"])
    state = claim(state, due(state, NOON, "me"), "me", NOON)
    state = mark_failed(state, OPENED.id, "mail", "no route", POLICY, NOON)
    assert due(state, later(14), "me") == []
    assert due(state, later(15), "you") == [(OPENED, ["mail"])]


def test_a_notice_that_is_there_already_is_not_posted_again():
    state = mark_sent(state_of(OPENED), OPENED.id, "mail", NOON)
    assert post(state, [OPENED]) == state


def test_a_channel_that_fails_is_tried_again_after_a_time_that_doubles_up_to_a_bound():
    state, at, waits = state_of(OPENED), 0.0, []
    for _ in range(5):
        state = mark_failed(state, OPENED.id, "slack", "no route", POLICY, later(at))
        wait = next(s for s in range(1, 1000) if (OPENED.id, ["mail", "slack"]) in told(state, later(at + s)))
        waits.append(wait)
        at += wait
    assert waits == [15, 30, 60, 60, 60]


def test_the_others_say_once_that_a_channel_fails_and_once_that_it_works_again():
    state = state_of(OPENED)
    for n in range(6):
        state = mark_failed(state, OPENED.id, "slack", "no route to <host>", POLICY, later(60 * n))
    said = [entry.notification for entry in state.outbox if entry.notification.source == "alarm"]
    assert [(n.kind, n.finding.rule, n.finding.subject) for n in said] == [("opened", "channel_failed", "slack")]
    assert "no route" in said[0].finding.detail
    assert dict(told(state, later(9999)))[said[0].id] == ["mail"]
    state = mark_sent(state, said[0].id, "mail", later(400))
    state, opened = mark_failed(state, OPENED.id, "slack", "no route", POLICY, later(500)), said[0]
    assert [entry.notification.id for entry in state.outbox] == [OPENED.id]
    state = mark_sent(state, OPENED.id, "slack", later(999))
    said = [entry.notification for entry in state.outbox if entry.notification.source == "alarm"]
    assert [(n.kind, n.incident) for n in said] == [("resolved", opened.incident)]
    assert [channels for _, channels in told(state, later(9999))][-1] == ["mail"]


def test_a_notice_that_a_channel_refuses_for_too_long_is_given_up_for_that_channel_alone():
    state = mark_failed(state_of(OPENED), OPENED.id, "slack", "gone", POLICY, later(3600))
    assert told(state, later(99_999)) == [(OPENED.id, ["mail"])]
    assert mark_sent(state, OPENED.id, "mail", later(3601)).outbox == ()


def test_channels_that_are_off_are_said_once_through_the_others():
    off = {
        "webhook": "there is no connection 'pingmesh_webhook'",
        "slack": "there is no connection 'pingmesh_slack'",
    }
    state = set_channels(AlertState(), ["mail"], off, NOON)
    assert [entry.notification.finding.subject for entry in state.outbox] == ["slack, webhook"]
    assert "there is no connection 'pingmesh_slack'" in state.outbox[0].notification.finding.detail
    state = mark_sent(state, state.outbox[0].notification.id, "mail", NOON)
    again = set_channels(state, ["mail"], off, later(60))
    assert again == state
    state = set_channels(state, ["mail", "slack"], {"webhook": "off"}, later(120))
    assert state.outbox == ()
    state = set_channels(state, ["mail"], off, later(180))
    assert [entry.notification.finding.subject for entry in state.outbox] == ["slack"]


def test_a_channel_that_is_off_is_not_waited_for():
    state = state_of(OPENED)
    state = set_channels(mark_sent(state, OPENED.id, "mail", NOON), ["mail"], {"slack": "no connection"}, NOON)
    assert OPENED.id not in dict(told(state))


def test_without_any_channel_notices_wait_for_one():
    state = post(set_channels(AlertState(), [], {"mail": "no connection"}, NOON), [OPENED])
    assert told(state) == []
    assert told(set_channels(state, ["mail"], {}, NOON)) == [(OPENED.id, ["mail"])]


def test_a_full_outbox_lets_reminders_go_before_alarms_and_counts_them():
    notices = [notice("opened" if n % 2 else "reminder", id=f"{n:012x}-x1") for n in range(2 * MAX_ENTRIES)]
    state = state_of(*notices)
    assert len(state.outbox) == MAX_ENTRIES
    assert {entry.notification.kind for entry in state.outbox} == {"opened"}
    assert state.dropped_notifications == MAX_ENTRIES


def test_a_dead_channel_with_a_full_outbox_costs_the_others_nothing():
    notices = [notice(id=f"{n:012x}-opened1") for n in range(MAX_ENTRIES)]
    state = state_of(*notices)
    for one in notices:
        state = mark_sent(state, one.id, "mail", NOON)
    over = notice("resolved")
    state = post(state, [over])
    assert told(state)[-1] == (over.id, ["mail", "slack"])
    assert len(state.outbox) == MAX_ENTRIES
    assert notices[0].id not in dict(told(state)), "the oldest that mail has"


def test_what_a_full_outbox_let_go_is_said_once_when_it_has_room_again():
    notices = [notice(id=f"{n:012x}-opened1") for n in range(MAX_ENTRIES + 7)]
    state = state_of(*notices, on=["mail"])
    for one in notices:
        state = mark_sent(state, one.id, "mail", later(60))
    [said] = [notice for notice, _ in due(state, later(60), "me")]
    assert title(said) == "Messages that did not reach every channel: 7"
    assert mark_sent(state, said.id, "mail", later(61)) == state_of(on=["mail"])


def test_that_a_channel_fails_is_kept_in_a_full_outbox_until_another_channel_has_it():
    state = state_of(OPENED)
    for n in range(2):
        state = mark_failed(state, OPENED.id, "slack", "no route", POLICY, later(n))
    state = post(state, [notice("reminder", id=f"{n:012x}-reminder1") for n in range(MAX_ENTRIES)])
    assert "channel_failed" in {entry.notification.finding.rule for entry in state.outbox}


def test_a_refusal_and_a_delivery_are_noted_of_that_notification_alone():
    state = state_of(OPENED, notice("resolved"))
    state = mark_failed(state, notice("resolved").id, "slack", "no route", POLICY, NOON)
    first, second = state.outbox
    assert (dict(first.deliveries), second.deliveries["slack"].tries) == ({}, 1)
    state = mark_sent(state, notice("resolved").id, "mail", NOON)
    assert "mail" not in state.outbox[0].deliveries
    assert mark_failed(state, "gone", "slack", "no route", POLICY, NOON) == state


def test_a_channel_of_which_nothing_was_noted_counts_as_on():
    sent = mark_sent(post(AlertState(), [OPENED]), OPENED.id, "mail", NOON)
    assert sent.channels["mail"].on and sent.outbox == ()
    failed = mark_failed(post(AlertState(), [OPENED]), OPENED.id, "mail", "no route", POLICY, NOON)
    assert (failed.channels["mail"].on, failed.channels["mail"].failures) == (True, 1)


def test_a_channel_that_works_again_starts_counting_anew_and_stays_off_if_it_is():
    state = state_of(OPENED)
    state = mark_failed(state, OPENED.id, "slack", "x" * 500, POLICY, NOON)
    assert len(state.outbox[0].deliveries["slack"].error) == 300
    state = mark_sent(state, OPENED.id, "slack", NOON)
    assert state.channels["slack"].failures == 0
    off = set_channels(state_of(OPENED), ["mail"], {"slack": "none"}, NOON)
    assert not mark_sent(off, OPENED.id, "slack", NOON).channels["slack"].on


def test_a_channel_comes_on_with_the_failures_that_it_had():
    state = mark_failed(state_of(OPENED), OPENED.id, "slack", "no route", POLICY, NOON)
    assert set_channels(state, BOTH, {}, later(60)).channels == state.channels


def test_a_channel_is_reported_after_two_failures_in_a_row_since_the_first():
    state = mark_failed(state_of(OPENED), OPENED.id, "slack", "no route", POLICY, NOON)
    assert len(state.outbox) == 1
    state = mark_failed(state, OPENED.id, "slack", "no route", POLICY, later(60))
    report = state.outbox[1].notification
    assert (report.since, report.at, report.source) == (NOON, later(60), "alarm")
    assert report.finding.detail == "The channel slack has failed 2 times in a row: no route"


def test_a_channel_that_is_newly_off_is_off_since_then():
    state = set_channels(state_of(OPENED), ["mail"], {"slack": "none"}, later(9))
    assert (state.channels["slack"].on, state.channels["slack"].since) == (False, later(9))
    again = set_channels(state, ["mail"], {"slack": "none"}, later(99))
    assert again.channels["slack"].since == later(9)
    nobody = set_channels(AlertState(), [], {"slack": "none"}, NOON)
    assert nobody.outbox == (), "there is nobody to report it"


def test_of_notifications_that_no_channel_has_a_full_outbox_drops_the_oldest_of_a_kind():
    state = state_of(*(notice(id=f"{n:012x}-opened1") for n in range(MAX_ENTRIES + 2)))
    assert state.outbox[0].notification.id == f"{2:012x}-opened1"
    kinds = ["opened", "escalated", "resolved", "reminder"]
    state = state_of(*(notice(kind, id=f"{n:012x}-{kind}") for n in range(20) for kind in kinds))
    assert {entry.notification.kind for entry in state.outbox} == {"opened", "escalated", "resolved"}
    for dropped in ("resolved", "escalated"):
        more = [notice(id=f"{dropped}{n:012x}") for n in range(20)]
        state = post(state, more)
        assert dropped not in {entry.notification.kind for entry in state.outbox}


def test_the_count_of_dropped_notifications_is_reported_once_the_outbox_is_half_empty():
    state = state_of(*(notice(id=f"{n:012x}-opened1") for n in range(MAX_ENTRIES + 7)), on=["mail"])
    ids = [entry.notification.id for entry in state.outbox]
    for one in ids[: MAX_ENTRIES // 2 - 1]:
        state = mark_sent(state, one, "mail", later(60))
    assert state.dropped_notifications == 7
    state = mark_sent(state, ids[MAX_ENTRIES // 2 - 1], "mail", later(60))
    assert state.dropped_notifications == 0
    assert title(state.outbox[-1].notification) == "Messages that did not reach every channel: 7"
