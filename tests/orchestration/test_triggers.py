"""When the arrival trigger fires, without a server: which keys are new, and the pace of its events."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise

import pytest

from pingmesh_tasks.errors import StoreError
from pingmesh_tasks.orchestration import triggers
from pingmesh_tasks.orchestration.triggers import Arrivals, ArrivalTrigger, FollowTrigger
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.hot_batch import HotCursor
from tests.support.memory_store import MemoryObjects

NOW_MS = 1_795_298_700_000


def key(ago_ms: int, *, notable: bool = False, number: int = 1) -> str:
    return layout.hot_batch(NOW_MS - ago_ms, "0a0b0c0d", number, notable=notable)


@pytest.fixture
def arrivals() -> Arrivals:
    arrivals = Arrivals()
    arrivals.start("", NOW_MS)
    return arrivals


def test_without_a_cursor_it_begins_a_minute_ago(arrivals):
    assert arrivals.after == layout.hot_since(NOW_MS - 60_000)
    assert arrivals.started and not Arrivals().started


def test_with_a_recent_cursor_it_begins_there_and_with_an_old_one_a_minute_ago():
    recent, old = Arrivals(), Arrivals()
    recent.start(key(5_000), NOW_MS)
    old.start(key(500_000), NOW_MS)
    assert recent.after == key(5_000)
    assert old.after == layout.hot_since(NOW_MS - 60_000)


def test_an_event_tells_of_all_that_is_new_once(arrivals):
    arrivals.add([key(3_000), key(2_000, notable=True), "hot/what-is-this"], NOW_MS)
    assert arrivals.notable == 1
    wanted = {"from": key(3_000), "to": key(2_000, notable=True), "count": 2, "notable": 1}
    assert arrivals.take() == wanted
    arrivals.add([key(3_000), key(2_000, notable=True)], NOW_MS)
    assert not arrivals.new


def test_a_key_that_is_listed_late_is_new(arrivals):
    arrivals.add([key(1_000)], NOW_MS)
    arrivals.take()
    arrivals.add([key(30_000), key(1_000)], NOW_MS)
    assert arrivals.take()["from"] == key(30_000)


def test_it_lists_two_minutes_back_and_never_before_its_start(arrivals):
    start = arrivals.after
    arrivals.add([], NOW_MS + 60_000)
    assert arrivals.after == start
    arrivals.add([], NOW_MS + 500_000)
    assert arrivals.after == layout.hot_since(NOW_MS + 500_000 - 120_000)


def test_keys_that_are_told_are_forgotten_once_they_are_listed_no_more(arrivals):
    arrivals.add([key(1_000)], NOW_MS)
    arrivals.take()
    arrivals.add([key(-900_000)], NOW_MS + 1_000_000)
    arrivals.take()
    assert arrivals._told == {key(-900_000)}


@pytest.fixture
def pace(monkeypatch):
    """The pace of a trigger, and a clock that is set by hand."""
    clock = {"s": 1_000.0}
    monkeypatch.setattr(triggers.time, "monotonic", lambda: clock["s"])
    return triggers._Pace(ArrivalTrigger(heartbeat_s=30, min_gap_s=1, busy_gap_s=5)), clock


def fires(pace, clock, seconds: list[float], *, notable: bool) -> list[float]:
    fired = []
    for second in seconds:
        clock["s"] = 1_000.0 + second
        if pace.may_fire(notable=notable):
            fired.append(second)
    return fired


def test_quiet_batches_fire_once_a_heartbeat(pace):
    assert fires(*pace, [0, 10, 29, 30, 45, 60], notable=False) == [0, 30, 60]


def test_a_notable_batch_fires_at_once_and_then_more_and_more_slowly(pace):
    fired = fires(*pace, [n / 10 for n in range(300)], notable=True)
    gaps = [round(later - earlier, 1) for earlier, later in pairwise(fired)]
    assert gaps[0] == 1.0
    assert gaps == sorted(gaps)
    assert gaps[-1] == 5.0


def test_after_a_calm_the_next_notable_batch_does_not_wait(pace):
    fires(*pace, [n / 10 for n in range(200)], notable=True)
    assert fires(*pace, [60, 60.5, 61], notable=True) == [60, 61]


def test_the_consumer_may_ask_for_a_shorter_heartbeat_not_for_a_longer(pace):
    pace, clock = pace
    pace.wanted(10)
    assert fires(pace, clock, [0, 9, 10], notable=False) == [0, 10]
    pace.wanted(90)
    assert fires(pace, clock, [20, 39, 40], notable=False) == [40]
    pace.wanted(0.1)
    assert fires(pace, clock, [40.5, 41], notable=False) == [41]
    pace.wanted(None)
    assert fires(pace, clock, [70, 71], notable=False) == [71]


def test_the_cursor_is_asked_for_every_five_seconds(pace):
    pace, clock = pace
    assert pace.asks_for_cursor
    pace.wanted(None)
    clock["s"] += 4.9
    assert not pace.asks_for_cursor
    clock["s"] += 0.2
    assert pace.asks_for_cursor


async def next_event(trigger: ArrivalTrigger, patience_s: float = 5.0) -> dict:
    events = trigger.run()
    try:
        return (await asyncio.wait_for(anext(events), patience_s)).payload
    finally:
        await events.aclose()


@pytest.fixture
def store(monkeypatch):
    store = MemoryObjects()
    monkeypatch.setattr(triggers, "_open_store", lambda: store)
    return store


def put(store: MemoryObjects, ago_s: float, *, notable: bool = False) -> str:
    now_ms = triggers._now_ms()
    key = layout.hot_batch(now_ms - round(ago_s * 1000), "0a0b0c0d", 1, notable=notable)
    store.put(key, b"x")
    return key


async def test_a_batch_that_arrives_is_an_event(store):
    key = put(store, 1, notable=True)
    event = await next_event(ArrivalTrigger(poll_s=0.01))
    assert event == {"from": key, "to": key, "count": 1, "notable": 1}


async def test_after_a_restart_it_goes_on_after_the_cursor(store):
    evaluated, since = put(store, 9), put(store, 8)
    store.put(layout.hot_cursor(), HotCursor(evaluated, None).encode())
    assert (await next_event(ArrivalTrigger(poll_s=0.01)))["from"] == since


async def test_a_store_that_is_down_is_asked_again(store, monkeypatch, caplog):
    list_keys, failures = store.keys_after_async, iter([StoreError("down"), StoreError("down")])

    async def list_once_up(*args):
        for failure in failures:
            raise failure
        return await list_keys(*args)

    monkeypatch.setattr(store, "keys_after_async", list_once_up)
    key = put(store, 1, notable=True)
    assert (await next_event(ArrivalTrigger(poll_s=0.01)))["to"] == key
    assert "the object store cannot be asked for news: down" in caplog.text


async def test_tailing_that_cannot_start_is_tried_again_more_and_more_slowly(monkeypatch, caplog):
    pauses: list[float] = []

    class Enough(BaseException):
        pass

    async def fail(self) -> None:
        raise StoreError("no such host")

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 8:
            raise Enough

    monkeypatch.setattr(FollowTrigger, "_follow", fail)
    monkeypatch.setattr(triggers.asyncio, "sleep", sleep)
    with pytest.raises(Enough):
        await anext(FollowTrigger("hosts.csv").run())
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60]
    assert "no such host" in caplog.text


async def test_a_store_that_stays_down_is_asked_every_quarter_of_a_minute(store, monkeypatch):
    pauses: list[float] = []

    class Enough(BaseException):
        pass

    async def refuse(*args):
        raise StoreError("down")

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 8:
            raise Enough

    monkeypatch.setattr(store, "keys_after_async", refuse)
    monkeypatch.setattr(triggers.asyncio, "sleep", sleep)
    with pytest.raises(Enough):
        await anext(ArrivalTrigger(poll_s=0.5).run())
    assert pauses == [1, 2, 4, 8, 15, 15, 15, 15]


def test_times_are_of_this_machines_clock():
    assert abs(triggers._now_ms() / 1000 - time.time()) < 10
