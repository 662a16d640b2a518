"""Pieces become batches: when, in what order, and what happens while the object store is down."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from pingmesh_tasks.errors import StoreError
from pingmesh_tasks.pipeline import tail_hosts
from pingmesh_tasks.pipeline.tail_hosts import HotWriter, expire_step
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.hot_batch import HotPiece, decode_batch


def piece(number: int, size: int = 10, kind: str = "probe") -> HotPiece:
    return HotPiece(kind, "db-1", "20261121T220500Z", number, b"x" * size, 1_000 + number)


def batches(store) -> list[list[HotPiece]]:
    return [decode_batch(store.get(key), key) for key in store.keys(layout.HOT)]


async def wait_for(condition, patience_s: float = 5.0) -> None:
    async with asyncio.timeout(patience_s):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
async def writer(store):
    """A writer at work that writes quiet pieces after a tenth of a second."""
    writer = HotWriter(store, "0a0b0c0d", quiet_after_s=0.1)
    task = asyncio.create_task(writer.run())
    yield writer
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_quiet_pieces_are_gathered_in_one_batch_that_is_not_notable(store, writer):
    for number in range(3):
        writer.take(piece(number), notable=False)
    await wait_for(lambda: store.keys(layout.HOT))
    assert [[one.offset for one in batch] for batch in batches(store)] == [[0, 1, 2]]
    [key] = store.keys(layout.HOT)
    assert not key.endswith("n")


async def test_a_notable_piece_does_not_wait_for_the_quiet_ones(store):
    writer = HotWriter(store, "0a0b0c0d", quiet_after_s=60)
    task = asyncio.create_task(writer.run())
    writer.take(piece(0), notable=False)
    await asyncio.sleep(0.05)
    assert not store.keys(layout.HOT)
    writer.take(piece(1), notable=True)
    await wait_for(lambda: store.keys(layout.HOT), 2)
    [key] = store.keys(layout.HOT)
    assert key.endswith("n")
    assert [one.offset for one in batches(store)[0]] == [0, 1]
    task.cancel()


async def test_nothing_taken_is_nothing_written(store, writer):
    await asyncio.sleep(0.3)
    assert store.keys(layout.HOT) == []


async def test_more_than_a_batch_holds_becomes_several_in_order(store, writer, monkeypatch):
    monkeypatch.setattr(tail_hosts, "_BATCH_PIECES", 2)
    for number in range(5):
        writer.take(piece(number), notable=False)
    await wait_for(lambda: len(store.keys(layout.HOT)) == 3)
    assert [one.offset for batch in batches(store) for one in batch] == [0, 1, 2, 3, 4]


async def test_a_batch_is_bounded_in_bytes(store, writer, monkeypatch):
    monkeypatch.setattr(tail_hosts, "_BATCH_BYTES", 25)
    for number in range(4):
        writer.take(piece(number), notable=False)
    await wait_for(lambda: len(store.keys(layout.HOT)) == 2)
    assert [len(batch) for batch in batches(store)] == [3, 1]


async def test_while_the_store_is_down_the_oldest_pieces_beyond_the_bound_are_dropped(
    store, writer, monkeypatch, caplog
):
    put, down = store.put_async, True

    async def put_if_up(key: str, data: bytes) -> None:
        if down:
            raise StoreError("down")
        await put(key, data)

    monkeypatch.setattr(store, "put_async", put_if_up)
    monkeypatch.setattr(tail_hosts, "MAX_WAITING_BYTES", 30)
    writer.take(piece(0), notable=True)
    await asyncio.sleep(0.4)  # it is being put, and waits no more
    for number in range(1, 6):
        writer.take(piece(number), notable=False)
    assert writer.dropped == 2
    writer.take(piece(6, 0, "roster"), notable=False)
    down = False
    await wait_for(lambda: len(store.keys(layout.HOT)) == 2)
    first, second = batches(store)
    assert [one.offset for one in first] == [0]
    assert [one.offset for one in second] == [3, 4, 5, 6]
    assert second[-1].detail == "2 pieces were dropped: the object store took none for long"
    assert writer.dropped == 0
    assert "2 pieces were dropped while the object store took none" in caplog.text


async def test_a_put_that_is_tried_for_long_gets_a_new_key(store, writer, monkeypatch):
    keys: list[str] = []

    async def refuse_twice(key: str, data: bytes) -> None:
        keys.append(key)
        if len(keys) < 3:
            raise StoreError("down")

    monkeypatch.setattr(store, "put_async", refuse_twice)
    monkeypatch.setattr(tail_hosts, "_KEY_AGE_S", 0.7)
    writer.take(piece(0), notable=True)
    await wait_for(lambda: len(keys) == 3)
    assert keys[0] == keys[1] != keys[2], "retried after 0.5 s under its key, after 1.5 s under a new one"


async def test_hot_objects_that_are_too_old_are_deleted_and_the_others_stay(store):
    now_ms = tail_hosts._now_ms()
    old, young = (
        layout.hot_batch(now_ms - age_ms, "0a0b0c0d", number, notable=False)
        for number, age_ms in enumerate((7_300_000, 7_100_000))
    )
    for key in (old, young):
        store.put(key, b"x")
    assert await expire_step(store, 2) == 1
    assert store.keys(layout.HOT) == [young]
    assert await expire_step(store, 2) == 0


async def test_all_ends_when_one_part_fails_and_leaves_nothing_running():
    ended = []

    async def runs_on() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("on")

    async def fails() -> None:
        await asyncio.sleep(0.01)
        raise StoreError("bad")

    with pytest.raises(StoreError, match="bad"):
        await tail_hosts._all(runs_on(), fails())
    assert ended == ["on"]
