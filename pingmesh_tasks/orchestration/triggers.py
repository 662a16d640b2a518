"""Triggers that live in Airflow's triggerer: the follower, and the arrival of what it writes.

    hosts, logs ──FollowTrigger──▶ hot/ ──ArrivalTrigger──▶ asset HOT ──▶ anomaly_alerts

Both are attached to the asset by an AssetWatcher, so that Airflow runs one of each for as long as a DAG is scheduled on
the asset, in whichever triggerer lives, and starts it anew after a crash. What they are given is stored in Airflow's
database, so it is no secret. Connections are asked for in the triggerer, and what is needed is imported there, both in
a thread: they take seconds, and everybody's triggers share the event loop. The triggers never end and never raise: a
fault is logged and tried again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from pingmesh_tasks.store import layout
from pingmesh_tasks.store.hot_batch import HotCursor

if TYPE_CHECKING:
    from pingmesh_tasks.store.objects import ObjectStore

log = logging.getLogger(__name__)

_RETRY_MAX_S = 60.0
_CURSOR_EVERY_S = 5.0
#: Without a notable batch for so long, the next one is a fault of its own: no waiting.
_CALM_S = 20.0
#: A key may be listed so long after its time: put again and again while the store was slow, clocks that differ.
LATE_MS = 120_000


class FollowTrigger(BaseEventTrigger):
    """Follows the hosts and logs of an inventory and puts what is new under `hot/`. Never fires."""

    def __init__(self, inventory: str, max_hosts: int = 250, interval_s: float = 1.0, keep_h: int = 24) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.inventory, self.max_hosts, self.interval_s, self.keep_h = inventory, max_hosts, interval_s, keep_h

    def serialize(self) -> tuple[str, dict[str, Any]]:
        names = ("inventory", "max_hosts", "interval_s", "keep_h")
        return f"{__name__}.FollowTrigger", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        pause_s = 1.0
        while True:
            began = time.monotonic()
            try:
                await self._follow()
            except Exception as error:
                pause_s = 1.0 if time.monotonic() - began > _RETRY_MAX_S else min(pause_s * 2, _RETRY_MAX_S)
                log.warning("nothing is followed for %.0f s: %s", pause_s, error, exc_info=True)
            await asyncio.sleep(pause_s)
        yield  # what makes it a generator

    async def _follow(self) -> None:
        work = await asyncio.to_thread(self._prepare)
        await work()

    def _prepare(self) -> Callable[[], Coroutine[Any, Any, None]]:
        """Import, ask for connections, read rules: what takes its time, in a thread."""
        from pingmesh_tasks.fleet.tailing import FollowLimits
        from pingmesh_tasks.orchestration import connections
        from pingmesh_tasks.pipeline import rulebook
        from pingmesh_tasks.pipeline.tail_hosts import tail_into
        from pingmesh_tasks.settings import load_settings
        from pingmesh_tasks.topology.inventory import load_inventory

        settings = load_settings()
        store = connections.open_store(settings)
        return partial(
            tail_into,
            store,
            connections.ssh_access(settings, store),
            lambda: load_inventory(self.inventory, store.read_uri),
            home=settings.agent_home,
            keep_h=self.keep_h,
            limits=FollowLimits(max_hosts=self.max_hosts, interval_s=self.interval_s),
            notable=rulebook.notable_limits(settings, store),
        )


class ArrivalTrigger(BaseEventTrigger):
    """Fires for new batches under `hot/`: at once for a notable one, else every `heartbeat_s`.

    The event's payload is `{"from": key, "to": key, "count": n, "notable": n}`. Two events are at least `min_gap_s`
    apart, and up to `busy_gap_s` where notable batches keep coming, as in a fault that lasts: each event is a run. The
    consumer may ask for a shorter heartbeat (`store.hot_batch.HotCursor`). While the trigger runs every key is part of
    one event, also one that is listed late or out of order; after a restart it goes on where the consumer is, so that
    what nobody has looked at is told again.
    """

    def __init__(
        self, heartbeat_s: float = 30.0, poll_s: float = 0.5, min_gap_s: float = 1.0, busy_gap_s: float = 5.0
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.heartbeat_s, self.poll_s = heartbeat_s, poll_s
        self.min_gap_s, self.busy_gap_s = min_gap_s, busy_gap_s

    def serialize(self) -> tuple[str, dict[str, Any]]:
        names = ("heartbeat_s", "poll_s", "min_gap_s", "busy_gap_s")
        return f"{__name__}.ArrivalTrigger", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        store: ObjectStore | None = None
        arrivals, pace = Arrivals(), _Pace(self)
        pause_s = self.poll_s
        while True:
            try:
                if store is None:
                    store = await asyncio.to_thread(_open_store)
                if pace.asks_for_cursor:
                    cursor = HotCursor.decode(await store.find_async(layout.hot_cursor()))
                    pace.wanted(cursor.heartbeat_s)
                    if not arrivals.started:
                        arrivals.start(cursor.key, _now_ms())
                asked_ms = _now_ms()
                arrivals.add(await store.keys_after_async(layout.HOT, arrivals.after), asked_ms)
                pause_s = self.poll_s
            except Exception as error:
                log.warning("the object store cannot be asked for news: %s", error)
                pause_s = min(pause_s * 2, _RETRY_MAX_S / 4)
            if arrivals.new and pace.may_fire(notable=arrivals.notable > 0):
                yield TriggerEvent(arrivals.take())  # type: ignore[no-untyped-call]
            await asyncio.sleep(pause_s)


class _Pace:
    """When the next event may be: see ArrivalTrigger."""

    def __init__(self, trigger: ArrivalTrigger) -> None:
        self._trigger = trigger
        self._heartbeat_s = trigger.heartbeat_s
        self._gap_s = trigger.min_gap_s
        self._last = self._last_notable = self._asked = float("-inf")

    @property
    def asks_for_cursor(self) -> bool:
        return time.monotonic() - self._asked >= _CURSOR_EVERY_S

    def wanted(self, heartbeat_s: float | None) -> None:
        """The consumer was asked, and wants this."""
        self._asked = time.monotonic()
        own_s = self._trigger.heartbeat_s
        self._heartbeat_s = own_s if heartbeat_s is None else max(self._trigger.min_gap_s, min(own_s, heartbeat_s))

    def may_fire(self, *, notable: bool) -> bool:
        """Whether an event may be fired now; if so, it is taken as fired."""
        now = time.monotonic()
        if now - self._last < (min(self._gap_s, self._heartbeat_s) if notable else self._heartbeat_s):
            return False
        if notable:
            lasts = now - self._last_notable < _CALM_S
            self._gap_s = min(self._gap_s * 1.5, self._trigger.busy_gap_s) if lasts else self._trigger.min_gap_s
            self._last_notable = now
        self._last = now
        return True


class Arrivals:
    """Which keys are new. Pure: the clock is given, in ms since the epoch."""

    def __init__(self) -> None:
        self.after = ""  # what to list from: far enough back for keys that come late
        self.new: set[str] = set()
        self._told: set[str] = set()
        self._start = ""

    @property
    def started(self) -> bool:
        return bool(self._start)

    def start(self, cursor: str, now_ms: int) -> None:
        """Begin after the key that the consumer has got to; without one (""), or with an old one, a minute ago."""
        self.after = self._start = max(cursor, layout.hot_since(now_ms - LATE_MS // 2))

    def add(self, listed: list[str], asked_ms: int) -> None:
        """Take in what was listed `after`, in whatever order; names that are no batch's are passed over."""
        self.new.update(key for key in listed if key not in self._told and layout.hot_facts(key))
        self.after = max(self._start, layout.hot_since(asked_ms - LATE_MS))

    @property
    def notable(self) -> int:
        return sum(key.endswith("n") for key in self.new)

    def take(self) -> dict[str, Any]:
        """Return the event that tells of all that is new, which is new no longer."""
        event = {"from": min(self.new), "to": max(self.new), "count": len(self.new), "notable": self.notable}
        self._told = {key for key in self._told | self.new if key > self.after}
        self.new = set()
        return event


def _open_store() -> ObjectStore:
    from pingmesh_tasks.orchestration import connections
    from pingmesh_tasks.settings import load_settings

    return connections.open_store(load_settings())


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
