"""Tailing at work: from hosts and logs into `hot/`, until it is cancelled.

Pieces are gathered and put as one object: notable ones within a fifth of a second, the rest every two seconds. While
the object store is slow or down they wait, up to `MAX_WAITING_BYTES`; then the oldest are dropped, which is logged and
noted in the next roster's `detail`: the batch path collects them. A batch keeps its key while its put is retried, for
half a minute; then it gets a new one, so that a key is never much older than the moment it can be listed.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from typing import Any

from pingmesh_tasks.errors import PingmeshError, StoreError
from pingmesh_tasks.fleet.connect import SshAccess
from pingmesh_tasks.fleet.notable import NotableLimits
from pingmesh_tasks.fleet.tailing import Follower, FollowLimits
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.hot_batch import HotPiece, encode_batch
from pingmesh_tasks.store.objects import ObjectStore
from pingmesh_tasks.topology.inventory import Inventory

log = logging.getLogger(__name__)

NOTABLE_AFTER_S = 0.2
QUIET_AFTER_S = 2.0
MAX_WAITING_BYTES = 64 * 2**20
INVENTORY_EVERY_S = 60.0
EXPIRY_EVERY_S = 60.0
_BATCH_BYTES = 8 * 2**20
_BATCH_PIECES = 2_000
_KEY_AGE_S = 30.0
_EXPIRED_A_STEP = 1_000


class HotWriter:
    """Puts pieces under `hot/`. `take` never waits; `run` writes until it is cancelled."""

    def __init__(self, store: ObjectStore, writer: str, *, quiet_after_s: float = QUIET_AFTER_S) -> None:
        self._store, self._writer, self._quiet_after_s = store, writer, quiet_after_s
        self._waiting: deque[tuple[HotPiece, bool]] = deque()
        self._bytes = 0
        self._number = 0
        self._some, self._urgent = asyncio.Event(), asyncio.Event()
        self.dropped = 0

    def take(self, piece: HotPiece, notable: bool) -> None:
        """Queue a piece. What waits is bounded: beyond `MAX_WAITING_BYTES` the oldest pieces are dropped."""
        if self.dropped and piece.kind == "roster":
            piece = replace(piece, detail=f"{self.dropped} pieces were dropped: the object store took none for long")
        self._waiting.append((piece, notable))
        self._bytes += len(piece.data)
        while self._bytes > MAX_WAITING_BYTES:
            self._bytes -= len(self._waiting.popleft()[0].data)
            self.dropped += 1
        self._some.set()
        if notable:
            self._urgent.set()

    async def run(self) -> None:
        while True:
            await self._some.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._quiet_after_s):
                    await self._urgent.wait()
                    await asyncio.sleep(NOTABLE_AFTER_S)
            batch = self._next()
            if batch:
                await self._put([piece for piece, _ in batch], any(notable for _, notable in batch))

    def _next(self) -> list[tuple[HotPiece, bool]]:
        batch: list[tuple[HotPiece, bool]] = []
        size = 0
        while self._waiting and len(batch) < _BATCH_PIECES and size < _BATCH_BYTES:
            batch.append(self._waiting.popleft())
            size += len(batch[-1][0].data)
        self._bytes -= size
        if not self._waiting:
            self._some.clear()
        if not any(notable for _, notable in self._waiting):
            self._urgent.clear()
        return batch

    async def _put(self, pieces: list[HotPiece], notable: bool) -> None:
        data = await asyncio.to_thread(encode_batch, pieces)
        key, made, pause_s = "", 0.0, 0.5
        while True:
            if not key or time.monotonic() - made > _KEY_AGE_S:
                self._number += 1
                key, made = layout.hot_batch(_now_ms(), self._writer, self._number, notable=notable), time.monotonic()
            try:
                await self._store.put_async(key, data)
            except StoreError as error:
                log.warning("%s; tried again in %.1f s", error, pause_s)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, 10.0)
                continue
            if self.dropped:
                log.warning("%s pieces were dropped while the object store took none", self.dropped)
                self.dropped = 0
            return


async def tail_into(
    store: ObjectStore,
    access: SshAccess,
    load: Callable[[], Inventory],
    *,
    home: str,
    keep_h: float,
    limits: FollowLimits | None = None,
    notable: NotableLimits | None = None,
) -> None:
    """Tail the hosts and logs of the inventory that `load` reads, now and every minute, into `store`. Never returns.

    Without a usable key nothing is tailed until there is one.

    Args:
        home: The agent's directory on the hosts.
        keep_h: Age in hours at which hot objects are deleted.

    Raises:
        InventoryError: From the first `load`; later faults are logged, and the hosts stay as they are.
    """
    inventory = await asyncio.to_thread(load)
    writer_name = secrets.token_hex(4)
    writer = HotWriter(store, writer_name)
    follower = Follower(writer_name, access, writer.take, limits, notable, home=home)
    await _all(follower.run(inventory), writer.run(), _reload(follower, inventory, load), _expire(store, keep_h))


async def _reload(follower: Follower, inventory: Inventory, load: Callable[[], Inventory]) -> None:
    while True:
        await asyncio.sleep(INVENTORY_EVERY_S)
        try:
            now = await asyncio.to_thread(load)
        except PingmeshError as error:
            log.warning("the inventory cannot be read, the hosts that are tailed stay the same: %s", error)
            continue
        if now != inventory:
            inventory = now
            follower.change(inventory)


async def _expire(store: ObjectStore, keep_h: float) -> None:
    """Delete hot objects older than `keep_h`, the oldest first, a thousand a minute at most."""
    while True:
        try:
            await expire_step(store, keep_h)
        except StoreError as error:
            log.warning("old hot objects stay for now: %s", error)
        await asyncio.sleep(EXPIRY_EVERY_S)


async def expire_step(store: ObjectStore, keep_h: float) -> int:
    """Delete up to a thousand objects under `hot/` that are older than `keep_h`; return how many were."""
    too_old = layout.hot_since(_now_ms() - round(keep_h * 3_600_000))
    oldest = await store.keys_after_async(layout.HOT, layout.HOT, _EXPIRED_A_STEP)
    expired = [key for key in oldest if key < too_old]
    if expired:
        await store.delete_async(expired)
    return len(expired)


async def _all(*work: Coroutine[Any, Any, None]) -> None:
    """Run all until one raises or this task is cancelled; then cancel the others and wait for them."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
