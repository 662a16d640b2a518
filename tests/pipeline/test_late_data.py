"""A run that misses its deadline opens the incident of its DAG, and runs that end in time resolve it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pingmesh_tasks.alerting import Policy
from pingmesh_tasks.alerting.channel import Channels
from pingmesh_tasks.alerting.outbox import post
from pingmesh_tasks.alerting.state_file import AlertFile
from pingmesh_tasks.errors import StoreError
from pingmesh_tasks.pipeline.late_data import ended_in_time, late_data_finding, notify_late_data
from tests.support.channels import MemoryChannel
from tests.support.memory_store import MemoryObjects
from tests.support.notices import NOON, notice

LATE = late_data_finding("pingmesh", "run 1", 600, NOON)


@pytest.fixture
def store() -> MemoryObjects:
    return MemoryObjects()


def test_the_finding_names_run_dag_and_deadline_since_the_run_was_queued():
    assert (LATE.subject, LATE.value, LATE.threshold) == ("pingmesh", 600, 600)
    assert LATE.since == NOON - timedelta(seconds=600)
    long = late_data_finding("pingmesh", "r" * 101, 600, NOON)
    assert long.detail.startswith(f"Run {'r' * 99}… of DAG")
    assert LATE.detail.startswith("Run run 1 of DAG pingmesh has not succeeded 600 s after it was queued")


def test_late_data_are_notified_once_and_nothing_else_is_sent_then(store):
    AlertFile(store).update(lambda state: post(state, [notice()]))
    mail = MemoryChannel()
    channels = Channels([mail], {})
    assert notify_late_data(store, channels, LATE, NOON, window_s=300) == "1 sent, 0 to be tried again"
    assert [m.subject for m in mail.messages] == ["[Critical] Data of pingmesh are late"]
    again = NOON + timedelta(seconds=60)
    assert notify_late_data(store, channels, LATE, again, window_s=300) == "0 sent, 0 to be tried again"
    assert [entry.notification.id for entry in AlertFile(store).load().outbox] == [notice().id]


def test_two_runs_that_end_in_time_resolve_it_and_those_of_another_dag_do_not(store):
    notify_late_data(store, Channels([MemoryChannel()], {}), LATE, NOON, window_s=300)
    for minutes in (1, 2, 3):
        ended_in_time(store, "access_logs", Policy(), NOON + timedelta(minutes=minutes))
    assert len(AlertFile(store).load().open) == 1
    ended_in_time(store, "pingmesh", Policy(), NOON + timedelta(minutes=4))
    assert len(AlertFile(store).load().open) == 1
    ended_in_time(store, "pingmesh", Policy(), NOON + timedelta(minutes=5))
    assert AlertFile(store).load().open == ()


def test_a_run_in_time_writes_nothing_where_no_incident_is_open(store):
    ended_in_time(store, "pingmesh", Policy(), NOON)
    assert store.keys("") == []


def test_where_the_store_is_down_too_it_is_notified_under_an_id_of_the_hour(store, monkeypatch):
    def refuse(*_):
        raise StoreError("down")

    monkeypatch.setattr(store, "get_with_tag", refuse)
    mail = MemoryChannel()
    channels = Channels([mail, MemoryChannel("slack", "no route")], {})
    for minutes in (0, 59, 60):
        at = NOON + timedelta(minutes=minutes)
        said = notify_late_data(store, channels, LATE, at, window_s=300)
        assert said == "1 sent, the object store is down"
    first, same_hour, later = (m.id for m in mail.messages)
    assert first == same_hour != later
    assert "this may be told again" in mail.messages[0].text
