"""The alarm's memory on a real S3 server: races, crashes at every step, and what people then have read."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pingmesh_tasks.alerting import AlertState, Policy
from pingmesh_tasks.alerting.delivery import deliver
from pingmesh_tasks.alerting.messages.message import compose
from pingmesh_tasks.alerting.outbox import post, set_channels
from pingmesh_tasks.alerting.state_file import AlertFile
from pingmesh_tasks.errors import StoreError
from pingmesh_tasks.store import layout
from tests.support.notices import notice

pytestmark = pytest.mark.integration
DEAD = {"host04": (0, 2)}


@pytest.fixture(scope="module")
def steps():
    command = [sys.executable, "-m", "tests.support.alarm_step"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stdin=pipe, stdout=pipe, text=True) as process:
        yield process
        process.stdin.close()


@pytest.fixture
def alarm(steps, store, tmp_path):
    """Do some orders at once, each in a process of its own, and return how these ended."""
    given = {
        "access": asdict(store.access),
        "folder": str(tmp_path),
        "dead": DEAD,
        "source": "mesh",
        "from": 0,
        "to": 6,
    }

    def run(*orders: dict) -> list[int]:
        steps.stdin.write(json.dumps([given | order for order in orders]) + "\n")
        steps.stdin.flush()
        return json.loads(steps.stdout.readline())

    return run


def read_by_people(folder: Path) -> dict[str, int]:
    """Return the id of each message that arrived, with how often it did."""
    return {path.name: len(path.read_text().splitlines()) for path in folder.iterdir()}


def kinds(ids) -> list[str]:
    return sorted(name.partition("-")[2] for name in ids)


def test_an_object_is_replaced_only_by_who_has_seen_its_last_version(store):
    assert store.get_with_tag("x") is None
    tag = store.replace("x", b"1", None)
    assert store.get_with_tag("x") == (b"1", tag)
    assert store.replace("x", b"other", None) is None
    newer = store.replace("x", b"2", tag)
    assert newer not in (None, tag)
    assert store.replace("x", b"3", tag) is None
    assert store.get("x") == b"2"
    store.delete(["x"])
    assert store.replace("x", b"4", newer) is None


def test_of_many_writers_none_loses_what_it_had_to_add(store):
    file = AlertFile(store)
    with ThreadPoolExecutor(4) as pool:
        add = [lambda state, n=n: post(state, [notice(id=f"{n:012x}-opened1")]) for n in range(12)]
        list(pool.map(file.update, add))
    assert {entry.notification.id for entry in file.load().outbox} == {f"{n:012x}-opened1" for n in range(12)}


def test_a_change_that_changes_nothing_writes_nothing(store):
    file = AlertFile(store)
    file.update(lambda state: state)
    assert store.keys("") == []
    assert file.load() == AlertState()


def test_memory_that_somebody_damaged_is_an_error_and_stays_for_a_person_to_see(store):
    store.put(layout.alert_state(), b"{")
    with pytest.raises(StoreError, match="damaged"):
        AlertFile(store).update(lambda state: post(state, [notice()]))
    assert store.get(layout.alert_state()) == b"{"


def test_two_processes_that_look_at_two_sources_at_once_lose_no_alarm(alarm, store, tmp_path):
    mesh = {"do": "look", "dead": {"host04": (0, 9)}}
    server = {"do": "look", "dead": {"data1": (0, 9)}, "source": "data1"}
    assert alarm(mesh, server) == [0, 0]
    assert {i.lead.finding.subject for i in AlertFile(store).load().open} == {"host04", "data1"}
    assert alarm({"do": "deliver"}) == [0]
    assert kinds(read_by_people(tmp_path)) == ["opened1", "opened1"]


def test_two_processes_that_do_the_same_looks_make_one_alarm(alarm, store, tmp_path):
    assert alarm({"do": "look"}, {"do": "look"}) == [0, 0]
    assert alarm({"do": "deliver"}) == [0]
    assert kinds(read_by_people(tmp_path)) == ["opened1", "resolved2"]


@pytest.mark.parametrize("look_dies_at", ["loaded", "saved", None])
@pytest.mark.parametrize("delivery_dies_at", ["composed", "sent", "marked", None])
def test_whatever_is_killed_no_alarm_is_lost_and_none_has_two_ids(
    alarm, store, tmp_path, look_dies_at, delivery_dies_at
):
    killed = -signal.SIGKILL
    assert alarm({"do": "look", "die_at": look_dies_at, "to": 1}) == [killed if look_dies_at else 0]
    assert alarm({"do": "look"}) == [0]
    assert alarm({"do": "deliver", "die_at": delivery_dies_at}) == [killed if delivery_dies_at else 0]
    assert alarm({"do": "deliver"}) == [0]
    read = read_by_people(tmp_path)
    assert kinds(read) == ["opened1", "resolved2"]
    assert len({name.partition("-")[0] for name in read}) == 1
    if delivery_dies_at in ("composed", None):  # else something was sent and not yet marked: it comes again
        assert set(read.values()) == {1}
    assert AlertFile(store).load().outbox == ()


def test_what_a_sender_that_was_killed_had_claimed_another_sends_in_twenty_seconds(alarm, store, tmp_path):
    assert alarm({"do": "look"}) == [0]
    assert alarm({"do": "deliver", "die_at": "composed"}) == [-signal.SIGKILL]
    assert alarm({"do": "deliver", "sender": "other"}) == [0]
    assert read_by_people(tmp_path) == {}
    assert alarm({"do": "deliver", "sender": "other", "later_s": 20}) == [0]
    assert kinds(read_by_people(tmp_path)) == ["opened1", "resolved2"]


def test_what_one_sends_another_does_not_send_too(store):
    file, now = AlertFile(store), datetime.now(UTC)
    file.update(lambda state: post(set_channels(state, ["slow"], {}, now), [notice(at=now)]))
    sent = []

    class Slow:
        name = "slow"

        def send(self, message):
            sent.append(message.id)
            if len(sent) == 1:
                deliver(file, [self], compose, Policy(), lambda: now, sender="other")

    assert deliver(file, [Slow()], compose, Policy(), lambda: now, sender="one") == {"sent": 1}
    assert sent == [notice().id]


def test_an_alarm_survives_the_server_that_keeps_it(tmp_path):
    from pingmesh_tasks.demo.object_store import EmbeddedObjectStore

    server = EmbeddedObjectStore(tmp_path)
    store = server.start()
    file = AlertFile(store)
    file.update(lambda state: post(state, [notice(at=datetime.now(UTC))]))
    server.kill()
    with pytest.raises(StoreError):
        AlertFile(replace_timeouts(store)).load()
    server.start()
    try:
        assert [entry.notification.id for entry in file.load().outbox] == [notice().id]
    finally:
        server.stop()


def replace_timeouts(store):
    """The store, opened anew: a client that has seen the server die keeps no connection to it."""
    return type(store)(replace(store.access))
