"""What is new about an incident, what is said of it, and when nothing is."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from pingmesh_tasks.alerting.alert_state import Silence
from pingmesh_tasks.alerting.incident import LastNotification
from pingmesh_tasks.alerting.notification import notify
from pingmesh_tasks.alerting.resolution import Outcome
from tests.support.findings import conditions, finding, incident, tracked
from tests.support.notices import NOON

HOST = tracked(finding("host_down", "host", "d1p1t1h1"))
TOR = tracked(finding("tor_down", "tor", "dc1/p1/t1"))
TOLD = LastNotification(NOON, "host", "d1p1t1h1", "critical")
SILENCE = Silence("s1", "eve", NOON, NOON + timedelta(days=9))


def news(one, silences=(), after_s=60, closed_by=None, lead_removed_by=None, **policy):
    """Return the incident after a transition, and the kind and note of its notification."""
    outcome = Outcome(one, closed_by, lead_removed_by)
    after, notification = notify(outcome, silences, conditions(after_s=after_s, **policy))
    return after, (notification.kind, notification.note) if notification else None


def told(lead=HOST, **more):
    fresh = replace(lead, judged_at={"hot": NOON + timedelta(days=2)})
    return incident(fresh, **({"last_notification": TOLD, "notification_count": 1} | more))


def test_a_new_incident_is_opened_and_its_notification_is_numbered_and_remembered():
    after, _ = news(incident(HOST, others=(TOR,), unlisted=3, since=NOON - timedelta(hours=1)))
    _, notification = notify(Outcome(incident(HOST, others=(TOR,), unlisted=3)), (), conditions(after_s=60))
    assert (notification.id, notification.kind, notification.note) == ("i1-opened1", "opened", "")
    assert (notification.members, notification.more_members) == (("tor dc1/p1/t1: tor down",), 3)
    assert after.last_notification == replace(TOLD, at=NOON + timedelta(seconds=60))
    assert after.notification_count == 1


def test_an_incident_about_which_nothing_is_new_is_not_notified():
    assert news(told()) == (told(), None)


def test_a_reminder_comes_after_an_hour_unless_somebody_looks_after_it():
    assert news(told(), after_s=3_599)[1] is None
    assert news(told(), after_s=3_600)[1] == ("reminder", "")
    assert news(told(acknowledged_by="eve"), after_s=3_600)[1] is None


def test_a_more_severe_or_wider_suspect_escalates_and_ends_an_acknowledgement():
    slow = replace(TOLD, severity="warning")
    after, said = news(told(last_notification=slow, acknowledged_by="eve"))
    assert said == ("escalated", "It was a warning; now it is critical.")
    assert after.acknowledged_by is None
    wider = "The suspect was host d1p1t1h1; now it is tor dc1/p1/t1."
    assert news(told(TOR))[1] == ("escalated", wider)
    both = told(TOR, last_notification=slow, merged_ids=("i2", "i3"))
    after, said = news(both)
    assert said == ("escalated", f"It was a warning; now it is critical. {wider} It takes in 2 earlier incidents.")
    assert after.merged_ids == ()


def test_a_less_severe_finding_of_the_same_suspect_is_no_news():
    milder = replace(HOST, finding=replace(HOST.finding, severity="warning"))
    assert news(told(milder))[1] is None


@pytest.mark.parametrize(
    ("removed_by", "became"),
    [(None, "is well again"), ("inventory", "is no longer in the inventory"), ("rules", "is left out by the rules")],
)
def test_a_narrower_or_equal_suspect_is_what_is_left_of_the_former(removed_by, became):
    of_tor = replace(TOLD, scope="tor", subject="dc1/p1/t1")
    said = ("reminder", f"tor dc1/p1/t1 {became}; what is left is host d1p1t1h1.")
    assert news(told(last_notification=of_tor), lead_removed_by=removed_by)[1] == said
    assert news(told(last_notification=replace(TOLD, subject="other")))[1][0] == "reminder"


def test_what_comes_back_says_how_often_and_from_the_second_time_that_it_flaps():
    back = "It is back: 1 return since 12:00 UTC."
    assert news(incident(HOST, returns=1))[1] == ("opened", back)
    flaps = "It is back: 2 returns since 12:00 UTC. It flaps: it counts as over once it was quiet for 15 min."
    assert news(incident(HOST, returns=2))[1] == ("opened", flaps)


def test_a_silence_and_a_maintenance_hide_an_incident_and_its_news_until_they_are_over():
    in_maintenance = incident(replace(HOST, left_out="maintenance"))
    for hidden, silences in ((incident(HOST), [SILENCE]), (in_maintenance, [])):
        after, said = news(hidden, silences)
        assert (after.silenced, said) == (True, None)
    still = "A silence or a maintenance is over, and this is still there."
    after, said = news(incident(HOST, silenced=True))
    assert (after.silenced, said) == (False, ("opened", still))
    assert news(told(silenced=True))[1] == ("reminder", still)
    assert news(incident(replace(HOST, left_out="off")))[1][0] == "opened"


def test_what_nobody_judges_any_more_is_told_once_by_the_path_that_judged_it_last():
    judged = {"hot": NOON - timedelta(days=1), "window": NOON}
    old = incident(replace(HOST, judged_at=judged), last_notification=TOLD)
    assert news(old, after_s=899)[1] is None
    after, said = news(old, after_s=900)
    assert said == ("reminder", "It cannot be judged any more: no data say whether it is over, for 15 min now.")
    assert after.stale_notified
    assert news(after, after_s=901)[1] is None
    assert news(after, after_s=4_500)[1] == ("reminder", "It cannot be judged: no data for 75 min.")
    assert not news(replace(told(), stale_notified=True))[0].stale_notified


def test_an_incident_is_judged_while_one_of_its_findings_is():
    old = replace(HOST, judged_at={"hot": NOON - timedelta(days=1)})
    both = incident(old, others=(TOR,), last_notification=TOLD)
    assert news(both, after_s=899)[1] is None


@pytest.mark.parametrize(
    ("closed_by", "why"),
    [
        ("hot", "the last looks found it clear."),
        ("window", "the last windows were clear."),
        ("rules", "its rule is off now."),
        ("inventory", "d1p1t1h1 is no longer in the inventory."),
        ("eve closed it by hand.", "eve closed it by hand."),
    ],
)
def test_the_end_says_how_long_it_lasted_and_who_ended_it(closed_by, why):
    one = told(others=(TOR,), acknowledged_by="ann")
    after, said = news(one, closed_by=closed_by, after_s=7.9)
    assert said == ("resolved", f"It lasted 7 s; {why}")
    assert (after.closed_by, after.closed_at) == (closed_by, NOON + timedelta(seconds=7.9))
    assert (after.others, after.acknowledged_by, after.last_notification) == ((), None, None)
    _, notification = notify(Outcome(one, closed_by), (), conditions())
    assert (notification.closed_by, notification.members, notification.acknowledged_by) == (closed_by, (), "ann")


def test_the_end_of_what_left_the_inventory_names_the_data_server_of_a_user():
    user = tracked(finding("user_rate", "user", "bob"), "east")
    assert news(told(user), closed_by="inventory")[1][1].endswith("; east is no longer in the inventory.")


def test_the_end_of_what_was_never_told_or_is_silenced_is_not_told():
    assert news(incident(HOST), closed_by="hot")[1] is None
    after, said = news(told(), [SILENCE], closed_by="hot")
    assert (said, after.closed_by) == (None, "hot")


def test_the_name_of_what_left_the_inventory_is_cut():
    long = tracked(finding("host_down", "host", "h" * 130))
    note = news(told(long), closed_by="inventory")[1][1]
    assert note == f"It lasted 60 s; {'h' * 119}… is no longer in the inventory."
