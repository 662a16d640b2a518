"""The triggers in an event loop, against the real S3 server: no key is missed, none is told twice."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from pingmesh_tasks.demo.object_store import EmbeddedObjectStore
from pingmesh_tasks.fleet.keys import ensure_keys
from pingmesh_tasks.orchestration.triggers import LATE_MS, Arrivals, ArrivalTrigger, FollowTrigger
from pingmesh_tasks.pipeline import hot_batches
from pingmesh_tasks.pipeline.tail_hosts import HotWriter, expire_step
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.hot_batch import HotPiece, decode_batch, encode_batch
from pingmesh_tasks.store.objects import ObjectStore
from tests.support.fleet import LIMITS, running_fleet
from tests.support.segments import TABLE, chunk

pytestmark = pytest.mark.integration

PATIENCE_S = 60


@pytest.fixture
def hot_store(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """The store as the triggers find it: by settings and connections."""
    login = {"conn_type": "aws", "login": store.access.access_key_id, "password": store.access.secret_access_key}
    monkeypatch.setenv("AIRFLOW_CONN_PINGMESH_S3", json.dumps(login))
    monkeypatch.setenv("PINGMESH_S3_ENDPOINT", str(store.access.endpoint))
    monkeypatch.setenv("PINGMESH_S3_BUCKET", store.access.bucket)
    monkeypatch.setenv("PINGMESH_INVENTORY", "unused.txt")
    return store


def key(ago_ms: int = 0, number: int = 0, *, notable: bool = False, writer: str = "0123abcd") -> str:
    return layout.hot_batch(time.time_ns() // 1_000_000 - ago_ms, writer, number, notable=notable)


async def put_all(store: ObjectStore, keys: Iterable[str]) -> None:
    slots = asyncio.Semaphore(32)

    async def put(name: str) -> None:
        async with slots:
            await store.put_async(name, b"")

    await asyncio.gather(*map(put, keys))


@dataclass
class Fired:
    """What a trigger fired so far, and when."""

    events: list[dict[str, Any]] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)

    @property
    def count(self) -> int:
        return sum(event["count"] for event in self.events)

    async def until(self, count: int) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while self.count < count:
            assert time.monotonic() < deadline, f"{self.count} of {count} keys were told"
            await asyncio.sleep(0.02)

    async def until_key(self, newest: str) -> None:
        """Wait for the event whose last key is `newest`."""
        deadline = time.monotonic() + PATIENCE_S
        while not self.events or self.events[-1]["to"] != newest:
            assert time.monotonic() < deadline, f"the key {newest} was not told"
            await asyncio.sleep(0.02)


@dataclass
class Polls:
    """How often the store was asked for new keys."""

    done: int = 0

    async def pass_by(self, count: int) -> None:
        """Wait until so many polls have ended from now on; the first may have begun before."""
        until, deadline = self.done + count, time.monotonic() + PATIENCE_S
        while self.done < until:
            assert time.monotonic() < deadline, "the trigger no longer asks the store"
            await asyncio.sleep(0.02)


@pytest.fixture
def polls(monkeypatch: pytest.MonkeyPatch) -> Polls:
    polls, ask = Polls(), ObjectStore.keys_after_async

    async def counted(*args: Any, **options: Any) -> list[str]:
        keys = await ask(*args, **options)
        polls.done += 1
        return keys

    monkeypatch.setattr(ObjectStore, "keys_after_async", counted)
    return polls


@asynccontextmanager
async def running(trigger: BaseEventTrigger, into: Fired | None = None) -> AsyncIterator[Fired]:
    """Run a trigger as the triggerer does; at the end it is cancelled, as when the triggerer stops."""
    fired = into or Fired()

    async def run() -> None:
        event: TriggerEvent
        async for event in trigger.run():
            fired.events.append(event.payload)
            fired.times_s.append(time.monotonic())

    task = asyncio.create_task(run())
    try:
        yield fired
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not others, "a cancelled trigger leaves nothing running"


async def test_a_notable_batch_fires_at_once_and_a_quiet_one_with_the_next_heartbeat(
    hot_store: ObjectStore, polls: Polls
):
    async with running(ArrivalTrigger(heartbeat_s=3600, poll_s=0.05, min_gap_s=0)) as fired:
        await hot_store.put_async(first := key(), b"")
        await fired.until(1)  # the first of all does not wait
        await hot_store.put_async(second := key(number=2), b"")
        await polls.pass_by(3)
        assert fired.count == 1
        await hot_store.put_async(third := key(number=3, notable=True), b"")
        await fired.until(3)
    assert fired.events == [
        {"from": first, "to": first, "count": 1, "notable": 0},
        {"from": second, "to": third, "count": 2, "notable": 1},
    ]


async def test_five_thousand_keys_in_any_order_are_told_once_each(hot_store: ObjectStore):
    keys = [key(ago_ms=random.randrange(20_000), number=n, writer=f"{n % 7:08x}", notable=True) for n in range(5_000)]
    async with running(ArrivalTrigger(heartbeat_s=1, poll_s=0.05, min_gap_s=0.2, busy_gap_s=1)) as fired:
        await put_all(hot_store, keys)
        await fired.until(5_000)
        keys.append(key(ago_ms=-1_000, number=5_000, notable=True))
        await hot_store.put_async(keys[-1], b"")
        # Whatever was found twice comes with the newest key, or before it.
        await fired.until_key(keys[-1])
    assert fired.count == len(set(keys))
    assert len(fired.events) < 100, "keys that come together are one event"
    assert min(e["from"] for e in fired.events) == min(keys) and max(e["to"] for e in fired.events) == max(keys)


async def test_events_keep_a_distance(hot_store: ObjectStore):
    async with running(ArrivalTrigger(heartbeat_s=3600, poll_s=0.02, min_gap_s=0.5, busy_gap_s=0.5)) as fired:
        for number in range(20):
            await hot_store.put_async(key(number=number, notable=True), b"")
            await asyncio.sleep(0.05)
        await fired.until(20)
    gaps = [b - a for a, b in zip(fired.times_s, fired.times_s[1:], strict=False)]
    assert gaps and min(gaps) >= 0.35  # they are timed where they arrive


async def test_a_fault_that_lasts_is_told_less_and_less_often(hot_store: ObjectStore):
    async with running(ArrivalTrigger(heartbeat_s=3600, poll_s=0.02, min_gap_s=0.1, busy_gap_s=0.6)) as fired:
        for number in range(60):
            await hot_store.put_async(key(number=number, notable=True), b"")
            await asyncio.sleep(0.05)
        await fired.until(60)
    gaps = [b - a for a, b in zip(fired.times_s, fired.times_s[1:], strict=False)]
    assert max(gaps) >= 0.55 and len(fired.events) <= 30


async def test_the_consumer_may_ask_for_a_shorter_heartbeat(hot_store: ObjectStore):
    hot_batches.save_cursor(hot_store, key(ago_ms=5_000), heartbeat_s=0.2)
    async with running(ArrivalTrigger(heartbeat_s=3600, poll_s=0.05, min_gap_s=0)) as fired:
        for number in range(3):
            await hot_store.put_async(key(number=number), b"")
            await fired.until(number + 1)


async def test_a_restart_goes_on_where_the_consumer_is(hot_store: ObjectStore):
    keys = [key(ago_ms=30_000 - n, number=n, notable=True) for n in range(600)]
    fired = Fired()
    for batch in range(6):
        async with running(ArrivalTrigger(heartbeat_s=1, poll_s=0.05, min_gap_s=0), fired):
            await put_all(hot_store, keys[batch * 100 : batch * 100 + 100])
            await fired.until(batch * 100 + 100)
        hot_batches.save_cursor(hot_store, max(event["to"] for event in fired.events))
    assert fired.count == 600
    assert (min(e["from"] for e in fired.events), max(e["to"] for e in fired.events)) == (keys[0], keys[-1])


async def test_what_nobody_looked_at_before_a_crash_is_told_again(hot_store: ObjectStore):
    looked_at, not_yet = key(ago_ms=9_000), key(ago_ms=8_000, notable=True)
    await put_all(hot_store, [looked_at, not_yet])
    async with running(ArrivalTrigger(poll_s=0.05)) as fired:
        await fired.until(2)
    hot_batches.save_cursor(hot_store, looked_at)
    async with running(ArrivalTrigger(poll_s=0.05)) as fired:
        await fired.until(1)
    assert fired.events == [{"from": not_yet, "to": not_yet, "count": 1, "notable": 1}]


async def test_a_cursor_that_is_garbage_or_old_means_the_last_minute(hot_store: ObjectStore):
    hot_store.put(layout.hot_cursor(), b"\xff{")
    await put_all(hot_store, [key(ago_ms=LATE_MS), recent := key(ago_ms=1_000)])
    async with running(ArrivalTrigger(poll_s=0.05)) as fired:
        await fired.until(1)
    assert fired.events[0]["from"] == recent


async def test_a_store_that_is_down_for_a_while_only_delays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    server = EmbeddedObjectStore(tmp_path)
    store = server.start()
    login = {"conn_type": "aws", "login": store.access.access_key_id, "password": store.access.secret_access_key}
    monkeypatch.setenv("AIRFLOW_CONN_PINGMESH_S3", json.dumps(login))
    monkeypatch.setenv("PINGMESH_S3_ENDPOINT", str(store.access.endpoint))
    monkeypatch.setenv("PINGMESH_INVENTORY", "unused.txt")
    try:
        async with running(ArrivalTrigger(heartbeat_s=3600, poll_s=0.1, min_gap_s=0)) as fired:
            await store.put_async(key(notable=True), b"")
            await fired.until(1)
            server.kill()
            writer = HotWriter(store, "89abcdef", quiet_after_s=0.1)
            writing = asyncio.create_task(writer.run())
            writer.take(HotPiece("lost_contact", "host01", "host", 0, b"", 1), True)
            await asyncio.sleep(1)
            EmbeddedObjectStore(tmp_path, server.port, secret_access_key=server.secret_access_key).start()
            await fired.until(2)
            writing.cancel()
            with suppress(asyncio.CancelledError):
                await writing
    finally:
        server.stop()


def test_listings_in_any_order_with_late_and_strange_names_give_each_key_once():
    chance, arrivals, told = random.Random(3), Arrivals(), 0
    now_ms = 1_795_298_700_000
    arrivals.start("", now_ms)
    stored: set[str] = set()
    for step in range(400):
        now_ms += 500
        for number in range(chance.randrange(4)):
            late_ms = chance.choice([0, 0, 0, chance.randrange(LATE_MS // 2)])
            stored.add(
                layout.hot_batch(now_ms - late_ms, "0123abcd", step * 10 + number, notable=chance.random() < 0.1)
            )
        listed = [name for name in stored if name > arrivals.after] + ["hot/strange", "hot/0-0-0-n"]
        chance.shuffle(listed)
        arrivals.add(listed, now_ms)
        if arrivals.notable:
            told += arrivals.take()["count"]
    told += len(arrivals.new)
    assert told == sum(name > layout.hot_since(1_795_298_700_000 - LATE_MS // 2) for name in stored)


def test_triggers_of_equal_arguments_are_one_and_say_nothing_secret():
    for make in (lambda: ArrivalTrigger(heartbeat_s=10.0), lambda: FollowTrigger("inventory.yaml", max_hosts=7)):
        classpath, arguments = make().serialize()
        assert BaseEventTrigger.hash(*make().serialize()) == BaseEventTrigger.hash(classpath, arguments)
        assert not {"password", "login", "secret", "key"} & set(arguments)
    assert ArrivalTrigger(heartbeat_s=10.0).serialize() != ArrivalTrigger(heartbeat_s=30.0).serialize()


async def test_the_follow_trigger_brings_chunks_and_never_holds_the_loop(
    hot_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with running_fleet(tmp_path) as fleet:
        await asyncio.to_thread(ensure_keys, fleet.hosts, fleet.access, fleet.bootstrap, LIMITS)
        spool = fleet.home("host01") / ".pingmesh" / "spool"
        spool.mkdir(parents=True)
        rows = [(0, 0, 100, 1, 0, 0), (1, 1, 0, 2, 1, 0), (2, 1, 0, 3, 1, 0)]
        part = chunk(rows, TABLE, 0, host="host01", lost=2, errors={"1": 2})
        (spool / "20261121T220500Z.part").write_bytes(part)
        inventory = tmp_path / "inventory.csv"
        lines = [f"{host.name},{host.address}" for host in fleet.hosts]
        inventory.write_text("\n".join(["name,address", *lines]))
        ssh = {"conn_type": "ssh", "login": fleet.access.username, "port": fleet.access.port}
        files = {"key_file": str(fleet.access.private_key), "known_hosts": str(fleet.access.known_hosts)}
        monkeypatch.setenv("AIRFLOW_CONN_PINGMESH_SSH", json.dumps(ssh | {"extra": files}))
        async with running(FollowTrigger(str(inventory), interval_s=0.1)) as fired:
            deadline = time.monotonic() + PATIENCE_S
            while not (found := [k for k in hot_store.keys(layout.HOT) if k.endswith("n")]):
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)
        assert not fired.events
    pieces = [piece for name in found for piece in decode_batch(hot_store.get(name), name)]
    assert [(p.source, p.offset) for p in pieces if p.kind == "probe"] == [("host01", 0)]


async def test_old_batches_are_deleted_and_young_ones_stay(hot_store: ObjectStore):
    old = [key(ago_ms=3_600_000 + n, number=n) for n in range(150)]
    young = [key(number=n) for n in range(20)]
    await put_all(hot_store, [*old, *young])
    assert await expire_step(hot_store, keep_h=1) == 150
    assert hot_store.keys(layout.HOT) == sorted(young)
    assert await expire_step(hot_store, keep_h=1) == 0


async def test_a_writer_whose_store_takes_nothing_drops_the_oldest_and_says_so(hot_store: ObjectStore):
    writer = HotWriter(hot_store, "89abcdef", quiet_after_s=0.05)
    for number in range(80):
        writer.take(HotPiece("access", "data1", "1:1.0", number << 20, bytes(1 << 20), number), False)
    writer.take(HotPiece("roster", "follow", "89abcdef", 0, b"{}", 81), False)
    writing = asyncio.create_task(writer.run())
    deadline = time.monotonic() + PATIENCE_S
    pieces: list[HotPiece] = []
    while not any(piece.kind == "roster" for piece in pieces):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
        pieces = [piece for name in hot_store.keys(layout.HOT) for piece in decode_batch(hot_store.get(name), name)]
    writing.cancel()
    with suppress(asyncio.CancelledError):
        await writing
    assert len(pieces) == 81 - 17, "64 MiB are kept"
    assert min(piece.read_at_us for piece in pieces) == 17, "the oldest went"


def test_a_batch_that_is_garbage_is_passed_over_when_the_last_minute_is_read(store: ObjectStore):
    piece = HotPiece("lost_contact", "host01", "host", 0, b"", 1, detail="unreachable: gone")
    good, bad = key(number=1), key(number=2, notable=True)
    store.put(good, encode_batch([piece, piece]))
    store.put(bad, b"PMH1 garbage")
    now = datetime.now(UTC)
    pieces, newest = hot_batches.read_recent(store, now - timedelta(seconds=60), now + timedelta(seconds=5))
    assert pieces == [piece] and newest == max(good, bad)
