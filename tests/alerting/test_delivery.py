"""What is due reaches every channel in its order, and no channel holds up another."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from pingmesh_tasks.alerting import Policy, delivery
from pingmesh_tasks.alerting.delivery import deliver
from pingmesh_tasks.alerting.messages.message import compose
from pingmesh_tasks.alerting.outbox import CLAIM_S, claim, due, post, set_channels
from pingmesh_tasks.alerting.state_file import AlertFile
from tests.support.channels import MemoryChannel
from tests.support.memory_store import MemoryObjects
from tests.support.notices import NOON, notice

FIRST, SECOND = notice(), notice("resolved")
OTHER = notice(id="b2-opened1", incident="b2")


@pytest.fixture
def file() -> AlertFile:
    return AlertFile(MemoryObjects())


def put(file, *notifications, on=("mail", "slack")):
    file.update(lambda state: post(set_channels(state, on, {}, NOON), notifications))


def send(file, *channels, after_s=0.0, sender="one", **more):
    at = NOON + timedelta(seconds=after_s)
    return deliver(file, channels, compose, Policy(), lambda: at, sender=sender, **more)


def ids(channel: MemoryChannel) -> list[str]:
    return [message.id for message in channel.messages]


def test_every_channel_gets_every_message_in_order_once(file):
    put(file, FIRST, OTHER, SECOND)
    mail, slack = MemoryChannel("mail"), MemoryChannel("slack")
    assert send(file, mail, slack) == {"sent": 6}
    assert ids(mail) == ids(slack) == [FIRST.id, OTHER.id, SECOND.id]
    assert send(file, mail, slack) == {}
    assert file.load().outbox == ()


def test_a_channel_that_refuses_one_message_gets_no_more_of_them_in_this_delivery(file):
    put(file, FIRST, SECOND)
    mail, slack = MemoryChannel("mail"), MemoryChannel("slack", "no route")
    assert send(file, mail, slack) == {"sent": 2, "failed": 1}
    refused, unasked = (entry.deliveries["slack"] for entry in file.load().outbox)
    assert (refused.tries, refused.error) == (1, "no route")
    assert (unasked.tries, unasked.claimed_by) == (0, "one")


def test_a_bug_of_a_channel_is_a_refusal_with_its_name(file):
    class Broken:
        name = "slack"

        def send(self, message):
            raise KeyError("oops")

    put(file, FIRST)
    mail = MemoryChannel("mail")
    assert send(file, mail, Broken()) == {"sent": 1, "failed": 1}
    assert file.load().outbox[0].deliveries["slack"].error == "KeyError: 'oops'"
    assert ids(mail) == [FIRST.id]


def test_only_incidents_that_are_asked_for_and_channels_that_are_there_are_served(file):
    put(file, FIRST, OTHER)
    mail = MemoryChannel("mail")
    assert send(file, mail, only=["b2"]) == {"sent": 1}
    assert ids(mail) == [OTHER.id]
    assert send(file, mail) == {"sent": 1}
    assert [entry.notification.id for entry in file.load().outbox] == [FIRST.id, OTHER.id], "slack has none"


def test_what_another_sender_has_claimed_is_left_to_it_for_a_while(file):
    put(file, FIRST, on=["mail"])
    file.update(lambda state: claim(state, due(state, NOON, "other"), "other", NOON))
    mail = MemoryChannel("mail")
    assert send(file, mail, after_s=CLAIM_S - 1) == {}
    assert send(file, mail, after_s=CLAIM_S) == {"sent": 1}


def test_the_steps_of_a_delivery_come_in_their_order(file):
    put(file, FIRST, on=["mail"])
    steps = []
    send(file, MemoryChannel("mail"), step=steps.append)
    assert steps == ["composed", "sent", "marked"]
    steps.clear()
    put(file, SECOND, on=["mail"])
    send(file, MemoryChannel("mail", "down"), step=steps.append)
    assert steps == ["composed", "marked"]


def test_a_channel_that_hangs_is_not_waited_for_and_what_others_took_is_marked(file, monkeypatch):
    monkeypatch.setattr(delivery, "LONGEST_S", 0.2)
    released = threading.Event()

    class Hanging:
        name = "slack"

        def send(self, message):
            released.wait(30)

    put(file, FIRST)
    mail = MemoryChannel("mail")
    assert send(file, mail, Hanging()) == {"sent": 1}
    [left] = file.load().outbox
    assert (left.deliveries["mail"].sent_at, left.deliveries["slack"].sent_at) == (NOON, None)
    released.set()
