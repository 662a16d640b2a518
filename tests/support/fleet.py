"""Real SSH hosts for tests of synchronous code: demo hosts on an event loop in a thread of their own."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pingmesh_tasks.demo.fleet import DemoFleet, DemoHost, demo_hosts
from pingmesh_tasks.fleet.connect import FanoutLimits, SshAccess
from pingmesh_tasks.topology.inventory import Host

PASSWORD = "correct horse; $(touch pwned) 'battery'"
#: Short times, so that a test of a sick host is quick.
LIMITS = FanoutLimits(host_timeout_s=15, retry_delay_s=0.05)


class LoopThread:
    """An event loop in a thread; `do` runs a coroutine there and waits for it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout=30)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(timeout=10)
        self.loop.close()


class FleetOfTest:
    """Demo hosts that run, and what the fleet's functions need to reach them."""

    def __init__(self, thread: LoopThread, fleet: DemoFleet, directory: Path) -> None:
        self._thread = thread
        self.demo = fleet
        self.access = SshAccess(
            username=fleet.user,
            port=fleet.ssh_port,
            private_key=directory / "keys" / "id_ed25519",
            known_hosts=directory / "keys" / "known_hosts",
            connect_timeout_s=3,
            login_timeout_s=5,
        )
        self.bootstrap = SshAccess(
            username=fleet.user, port=fleet.ssh_port, password=PASSWORD, known_hosts=directory / "unused"
        )
        self.hosts = [Host(h.name, h.address, h.dc, h.podset, h.tor) for h in fleet.hosts]

    def stop_host(self, name: str) -> None:
        self._thread.do(self.demo.stop_host(name))

    def start_host(self, name: str) -> None:
        self._thread.do(self.demo.start_host(name))

    def home(self, name: str) -> Path:
        return self.demo.home(name)


@contextmanager
def running_fleet(directory: Path, hosts: int | Sequence[DemoHost] = 2) -> Iterator[FleetOfTest]:
    """Start demo hosts below `directory`; nothing of them runs afterwards."""
    thread = LoopThread()
    chosen = demo_hosts(hosts) if isinstance(hosts, int) else tuple(hosts)
    fleet = DemoFleet(directory / "hosts", PASSWORD, chosen, ssh_port=free_port())
    try:
        thread.do(fleet.start())
        yield FleetOfTest(thread, fleet, directory)
    finally:
        thread.do(fleet.stop())
        thread.close()


def free_port() -> int:
    """A TCP port that nothing listens on, on any address."""
    with socket.socket() as sock:
        sock.bind(("0.0.0.0", 0))
        return int(sock.getsockname()[1])
