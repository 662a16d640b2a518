"""An agent on a host of the laboratory: the real package, started and asked by its own command line.

peer = LabAgent(lab, "peer", tmp_path / "peer")
peer.start()                                           # answers; probes nobody
prober = LabAgent(lab, "prober", tmp_path / "prober")
prober.start([peer.target("tcp")], interval_s=0.2)
...
prober.stop()
prober.probes()                                        # rows of `probe`
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl

from pingmesh_tasks.latency.segment import SegmentSummary, decode_segment, verify_segment
from tests.support.lab import Lab

AGENT = Path(__file__).parents[2] / "include/agent/pingmesh_agent/__main__.py"
PROBE_PORT = 8765
SETTINGS = {
    "probe_port": PROBE_PORT,
    "interval_s": 0.2,
    "window_s": 60,
    "timeout_s": 3.0,
    "lease_s": 900,
    "spool_max_bytes": 64 << 20,
    "spool_keep_s": 86_400,
}


def ping_list(host: str, address: str, targets: Iterable[list[Any]], **settings: Any) -> str:
    """What an agent is told, pinglist.json: `targets` as rows, `settings` beside SETTINGS."""
    content = {"host": host, "address": address, "targets": list(targets), **SETTINGS, **settings}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return json.dumps({**content, "version": hashlib.sha256(canonical.encode()).hexdigest()[:16]})


class LabAgent:
    """One agent. `home` is its directory, a path of this machine; `pid` is its process in the laboratory."""

    def __init__(self, lab: Lab, host: str, home: Path) -> None:
        self.lab, self.host, self.home = lab, host, home
        self.pid = 0

    def target(self, protocol: str, payload_bytes: int = 0, *, name: str = "", port: int = PROBE_PORT) -> list[Any]:
        """A row of another agent's ping list: this agent, by `protocol`."""
        return [name or self.host, self.lab.address(self.host), port, protocol, "intra_tor", payload_bytes]

    def start(self, targets: Iterable[list[Any]] = (), *limits: str, **settings: Any) -> None:
        """Write the ping list, start the agent detached. `limits`: a command around it, e.g. `prlimit --nofile=64`."""
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        document = ping_list(self.host, self.lab.address(self.host), targets, **settings)
        (self.home / "pinglist.json").write_text(document)
        (self.home / "lease").touch()
        self.pid = json.loads(self._command("run", "--detach", "--lab", limits=limits))["pid"]

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._command("status"))
        return answer

    def stop(self) -> None:
        self._command("stop")

    def signal(self, name: str) -> None:
        self.lab.signal(name, self.pid)

    def probes(self) -> pl.DataFrame:
        """All that its spool holds, rows of `probe`."""
        return pl.concat([decode_segment(data) for data in self._segments()])

    def summaries(self) -> list[SegmentSummary]:
        """The counts of its segments, oldest first."""
        return [verify_segment(data) for data in self._segments()]

    def cpu_s(self) -> float:
        """CPU time since its start, user and system, as the scheduler counts it."""
        nanoseconds, _, _ = self.lab.run(None, "cat", f"/proc/{self.pid}/schedstat").split()
        return int(nanoseconds) / 1e9

    def rss_bytes(self) -> int:
        status = dict(line.split(":", 1) for line in self.lab.run(None, "cat", f"/proc/{self.pid}/status").splitlines())
        return int(status["VmRSS"].split()[0]) << 10

    def open_files(self) -> int:
        return len(self.lab.run(None, "ls", f"/proc/{self.pid}/fd").split())

    def said(self) -> str:
        """Its log, for a failure message."""
        log = self.home / "agent.log"
        return log.read_text() if log.exists() else "(no agent.log)"

    def _command(self, command: str, *options: str, limits: Iterable[str] = ()) -> str:
        python = [sys.executable, "-I", "-S", str(AGENT), command, "--home", str(self.home), *options]
        return self.lab.run(self.host, *limits, *python)

    def _segments(self) -> list[bytes]:
        return [
            path.read_bytes() for path in sorted((self.home / "spool").iterdir()) if path.suffix in (".part", ".pms")
        ]
