"""What every agent test needs: a ping list, agents under a clock of the test, and their rows."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pingmesh_agent.agent import Agent
from pingmesh_agent.chunk import decode_body, read_chunks
from pingmesh_agent.clock import Clock

START_US = 1_795_298_700_000_000  # 20261121T220500Z, the start of a window of 60 and of 300 s


class HandClock(Clock):
    """Stands still unless the test moves it. The wall clock can be stepped by itself."""

    def __init__(self) -> None:
        self.elapsed_us = 0
        self.start_us = START_US

    def monotonic_s(self) -> float:
        return 1000 + self.elapsed_us / 1e6

    def wall_us(self) -> int:
        return self.start_us + self.elapsed_us


class Mesh:
    """Agents in this process, ticked together; real sockets on 127.0.0.x, no real time."""

    def __init__(self, root: Path) -> None:
        self.root, self.clock, self.agents = root, HandClock(), []

    def add(self, told: dict[str, Any], lab: bool = True) -> Agent:
        home = self.root / told["host"]
        tell(home, told)
        agent = Agent(str(home), lab, self.clock)
        self.agents.append(agent)
        return agent

    def pass_time(self, seconds: float, tick_s: float = 0.02) -> None:
        for _ in range(round(seconds / tick_s)):
            self.clock.elapsed_us += round(tick_s * 1e6)
            for agent in self.agents:
                agent.tick()
            if any(agent.prober.in_flight for agent in self.agents):
                time.sleep(0.0005)  # the kernel's part is done in real time

    def close(self) -> None:
        for agent in self.agents:
            agent.finish()
        self.agents = []


def tell(home: Path, told: dict[str, Any]) -> None:
    """Replace the ping list atomically, as the dispatcher does."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "new").write_text(json.dumps(told))
    (home / "new").replace(home / "pinglist.json")


@pytest.fixture
def mesh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mesh]:
    monkeypatch.setattr(
        "pingmesh_agent.agent.resident_bytes", lambda: 10 << 20
    )  # not that of the test runner
    mesh = Mesh(tmp_path)
    yield mesh
    mesh.close()


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def pinglist(free_port: int) -> Callable[..., dict[str, Any]]:
    """A valid ping list of host `a` on 127.0.0.21, with what the test wants different."""

    def make(**changes: Any) -> dict[str, Any]:
        return {
            "version": "0123456789abcdef",
            "host": "a",
            "address": "127.0.0.21",
            "probe_port": free_port,
            "interval_s": 1.0,
            "window_s": 60,
            "timeout_s": 1.0,
            "lease_s": 900,
            "spool_max_bytes": 10_000_000,
            "spool_keep_s": 86_400,
            "targets": [],
            **changes,
        }

    return make


@pytest.fixture
def records() -> Callable[[Path], tuple[list[dict[str, Any]], list[dict[str, Any]]]]:
    """(headers of the chunks, rows) of every segment under a home, the open one too."""

    def read(home: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        headers, rows = [], []
        for path in sorted((home / "spool").iterdir()):
            table: list[Any] = []
            with path.open("rb") as file:
                for header, body in read_chunks(file):
                    new_table, columns = decode_body(header, body)
                    table = new_table if new_table is not None else table
                    headers.append(header)
                    for offset, index, rtt, port, status, retransmits in zip(*columns, strict=True):
                        rows.append(
                            {
                                "window": header["window"],
                                "sent_us": header["start_us"] + offset,
                                "name": table[index][0],
                                "protocol": table[index][3],
                                "rtt_us": rtt,
                                "port": port,
                                "status": status,
                                "retransmits": retransmits,
                            }
                        )
        return headers, rows

    return read


def totals(headers: list[dict[str, Any]]) -> tuple[int, int, dict[str, int]]:
    """(scheduled, sent, skipped by reason) over all chunks."""
    skipped: dict[str, int] = {}
    for header in headers:
        for reason, count in header["skipped"].items():
            skipped[reason] = skipped.get(reason, 0) + count
    return sum(h["scheduled"] for h in headers), sum(h["sent"] for h in headers), skipped


@pytest.fixture(name="totals")
def totals_fixture() -> Callable[..., Any]:
    return totals


@pytest.fixture(name="tell")
def tell_fixture() -> Callable[..., None]:
    return tell
