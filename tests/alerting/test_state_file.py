"""The stored state: its keys outlive renamed attributes, its object is replaced by who read its last version."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pingmesh_tasks.alerting import AlertState, Policy, advance
from pingmesh_tasks.alerting import state_file as module
from pingmesh_tasks.alerting.alert_state import ChannelHealth
from pingmesh_tasks.alerting.outbox import due, post
from pingmesh_tasks.alerting.state_file import AlertFile, from_json, to_json
from pingmesh_tasks.errors import StoreError
from pingmesh_tasks.store import layout
from tests.support.memory_store import MemoryObjects
from tests.support.notices import notice

#: Written before the attributes of the state were renamed: four open incidents, one of them hidden by a silence, one
#: acknowledged; merged incidents; a pending finding; notices that wait for a channel which fails.
RECORDED = Path(__file__).parent / "recorded" / "state-v1.json"


@pytest.fixture
def file() -> AlertFile:
    return AlertFile(MemoryObjects())


def test_a_recorded_state_is_read_and_written_back_key_for_key():
    recorded = RECORDED.read_bytes()
    assert json.loads(to_json(from_json(recorded))) == json.loads(recorded)


def test_an_upgrade_keeps_open_incidents_what_was_told_of_them_and_what_waits():
    state = from_json(RECORDED.read_bytes())
    rack, other, user, host = state.open
    assert rack.lead.suspect == ("tor", "dc1/p0/t0")
    assert rack.lead.observations == {"hot": "xxxxxxx", "window": "x"}
    assert (rack.last_notification.subject, rack.notification_count, rack.returns) == ("dc1/p0/t0", 5, 1)
    assert (rack.acknowledged_by, rack.stale_notified, len(rack.others)) == ("eve at 12:02 UTC", True, 1)
    assert (user.silenced, host.lead.absent_count) == (True, 1)
    assert user.lead.finding.evidence[0]["looks"] == "evidence keeps its names"
    assert [one.merged_into for one in state.closed] == [rack.id, other.id, other.id]
    assert [one.finding.subject for one in state.pending] == ["host050"]
    assert sorted(state.last_evaluated) == ["hot data1", "hot mesh", "window mesh"]
    assert (state.channels["slack"].reported, state.channels["webhook"].on) == (True, False)
    assert (len(state.silences), state.dropped_notifications) == (2, 3)
    assert len(due(state, datetime(2027, 1, 1, tzinfo=UTC), "me")) == len(state.outbox) == 5


def test_an_upgraded_state_goes_on_where_it_was():
    state = from_json(RECORDED.read_bytes())
    at = max(state.last_evaluated.values())
    assert [one.id for one in advance(state, None, Policy(), at).open] == [one.id for one in state.open]


def test_a_channel_may_be_called_like_a_stored_key():
    health = ChannelHealth(True, reported=True)
    state = AlertState(channels={"said": health, "reported": health})
    assert from_json(to_json(state)) == state


def test_a_change_is_done_again_on_what_another_writer_left(file):
    seen = []

    def change(state: AlertState) -> AlertState:
        seen.append(len(state.outbox))
        if len(seen) == 1:
            file.update(lambda before: post(before, [notice(id="other-opened1")]))
        return post(state, [notice(id="mine-opened1")])

    after = file.update(change)
    assert seen == [0, 1]
    assert [entry.notification.id for entry in after.outbox] == ["other-opened1", "mine-opened1"]
    assert file.load() == after


def test_who_loses_every_race_gives_up_and_says_so(monkeypatch):
    store, tries = MemoryObjects(), []
    monkeypatch.setattr(module, "_LONGEST_PAUSE_S", 0.001)
    monkeypatch.setattr(store, "replace", lambda key, data, tag: tries.append(key))
    with pytest.raises(StoreError, match=r"control/alerts/state.json' was changed by others 12 times in a row"):
        AlertFile(store).update(lambda state: post(state, [notice()]))
    assert tries == [layout.alert_state()] * 12


def test_a_store_that_refuses_is_not_asked_again(monkeypatch):
    store, tries = MemoryObjects(), []

    def refuse(*_):
        tries.append(1)
        raise StoreError("no")

    monkeypatch.setattr(store, "replace", refuse)
    with pytest.raises(StoreError, match="no"):
        AlertFile(store).update(lambda state: post(state, [notice()]))
    assert tries == [1]


def test_a_state_that_is_too_large_is_not_written(monkeypatch, file):
    size = len(to_json(post(AlertState(), [notice()])))
    monkeypatch.setattr(module, "MAX_BYTES", size - 1)
    with pytest.raises(StoreError, match=f"has {size} bytes, more than {size - 1}"):
        file.update(lambda state: post(state, [notice()]))
    assert file.load() == AlertState()
    monkeypatch.setattr(module, "MAX_BYTES", size)
    assert file.update(lambda state: post(state, [notice()])).outbox


def test_a_change_that_changes_nothing_writes_nothing():
    store = MemoryObjects()
    AlertFile(store).update(lambda state: state)
    assert store.keys("") == []
