"""A follower for tests: in a thread with its pieces at hand, or as a process that can be killed.

As a process, `python -m tests.support.follow '{"hosts": …, "logs": …, …}'` prints a JSON line for each piece.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pingmesh_tasks.fleet.connect import SshAccess
from pingmesh_tasks.fleet.notable import NotableLimits
from pingmesh_tasks.fleet.tailing import Follower, FollowLimits
from pingmesh_tasks.store.hot_batch import HotPiece
from pingmesh_tasks.topology.inventory import Host, Inventory, LogServer
from tests.support.fleet import LoopThread

#: Short times, so that a test is quick.
QUICK = FollowLimits(interval_s=0.1, idle_s=0.3, answer_s=3, retry_s=0.2, retry_max_s=1, roster_s=0.5)


@dataclass
class Following:
    """What was handed over so far. `until` waits for something to be so."""

    pieces: list[tuple[HotPiece, bool]] = field(default_factory=list)
    follower: Follower | None = None

    def of(self, kind: str, source: str | None = None) -> list[HotPiece]:
        return [p for p, _ in list(self.pieces) if p.kind == kind and source in (None, p.source)]

    def lines(self, server: str, kind: str = "access") -> list[str]:
        return b"".join(piece.data for piece in self.of(kind, server)).decode().splitlines()

    def until(self, there: Callable[[], Any], patience_s: float = 30) -> Any:
        deadline = time.monotonic() + patience_s
        while not (found := there()):
            seen = [(p.kind, p.source, p.stream, p.offset, len(p.data), p.detail) for p, _ in self.pieces[-20:]]
            assert time.monotonic() < deadline, f"it did not come; the last pieces are {seen}"
            time.sleep(0.02)
        return found

    def contact(self, name: str) -> Any:
        assert self.follower
        return next(contact for contact in self.follower.roster.contacts if contact.name == name)


@contextmanager
def following(
    inventory: Inventory,
    access: SshAccess,
    limits: FollowLimits = QUICK,
    notable: NotableLimits | None = None,
) -> Iterator[Following]:
    """Follow in a thread of its own until the block ends."""
    seen, thread = Following(), LoopThread()

    async def run() -> None:
        seen.follower = Follower("0123abcd", access, lambda *piece: seen.pieces.append(piece), limits, notable)
        await seen.follower.run(inventory)

    task = asyncio.run_coroutine_threadsafe(run(), thread.loop)
    try:
        seen.until(lambda: seen.of("roster"))
        yield seen
    finally:
        task.cancel()
        with suppress(BaseException):
            task.exception(timeout=10)
        thread.do(_rest())
        thread.close()


async def _rest() -> None:
    """Let what was cancelled end."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=10)


def _main(plan: dict[str, Any]) -> None:
    directory = Path(plan["directory"])
    access = SshAccess(
        plan["username"],
        directory / "known_hosts",
        plan.get("port", 22),
        directory / plan.get("key", "id_ed25519"),
    )
    hosts = tuple(Host(name, address) for name, address in plan["hosts"].items())
    logs = tuple(LogServer(name, address, path, "UTC") for name, address, path in plan["logs"])

    def show(piece: HotPiece, notable: bool) -> None:
        print(json.dumps([piece.kind, piece.source, len(piece.data), piece.detail, notable]), flush=True)

    limits = FollowLimits(**plan.get("limits", {}))

    async def run() -> None:
        await Follower("0123abcd", access, show, limits).run(Inventory(hosts, log_servers=logs))

    asyncio.run(run())


def command(plan: dict[str, Any]) -> Sequence[str]:
    return (sys.executable, "-m", "tests.support.follow", json.dumps(plan))


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
