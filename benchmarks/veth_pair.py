"""Two network namespaces joined by a veth, each answering for a /16 of addresses: a peer list as long as one likes.

Side `a` owns 10.77.0.0/16 and 10.76.0.1, side `b` owns 10.78.0.0/16 and 10.76.0.2. Needs root and iproute2.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

AGENT = Path(__file__).parent.parent / "include" / "agent" / "pingmesh_agent" / "__main__.py"
PORT = 8765
NETWORK = {"a": "10.77", "b": "10.78"}
OTHER = {"a": "b", "b": "a"}


def missing(*commands: str) -> str | None:
    """What this machine lacks for a measurement, as a sentence; None if it has all."""
    if os.geteuid() != 0:
        return "needs root, for network namespaces (or `unshare -Urmn`): not measured"
    absent = [command for command in ("ip", *commands) if shutil.which(command) is None]
    return f"needs {', '.join(absent)}: not measured" if absent else None


class Pair:
    """The two namespaces, by the names `a` and `b`."""

    def __init__(self) -> None:
        self.names = {side: f"pmbench{os.getpid()}{side}" for side in "ab"}

    def ip(self, side: str | None, *lines: str) -> None:
        where = ["-n", self.names[side]] if side else []
        subprocess.run(["ip", *where, "-batch", "-"], input="\n".join(lines) + "\n", text=True, check=True)

    def command(self, side: str, *words: str) -> list[str]:
        return ["ip", "netns", "exec", self.names[side], *words]

    def black_hole(self, on: bool) -> None:
        """Drop, or answer again, what is sent to the two /16 networks."""
        for side in "ab":
            route = "blackhole" if on else "local"
            self.ip(side, f"route del table local {'local' if on else 'blackhole'} {NETWORK[side]}.0.0/16",
                    f"route add table local {route} {NETWORK[side]}.0.0/16" + ("" if on else " dev lo"))  # fmt: skip


@contextlib.contextmanager
def veth_pair() -> Iterator[Pair]:
    pair = Pair()
    a, b = pair.names["a"], pair.names["b"]
    try:
        pair.ip(None, f"netns add {a}", f"netns add {b}",
                f"link add name v0 netns {a} type veth peer name v0 netns {b}")  # fmt: skip
        for side, number in (("a", 1), ("b", 2)):
            pair.ip(side, "link set lo up", f"addr add 10.76.0.{number}/30 dev v0", "link set v0 up",
                    f"route add table local local {NETWORK[side]}.0.0/16 dev lo",
                    f"route add {NETWORK[OTHER[side]]}.0.0/16 via 10.76.0.{3 - number}")  # fmt: skip
        time.sleep(0.3)
        yield pair
    finally:
        for name in (a, b):
            subprocess.run(["ip", "netns", "del", name], check=False, stderr=subprocess.DEVNULL)


def peers(side: str, count: int) -> list[str]:
    """`count` addresses that the other side answers for."""
    return [f"{NETWORK[OTHER[side]]}.{i // 250}.{i % 250 + 1}" for i in range(count)]


@contextlib.contextmanager
def running_agent(
    pair: Pair, side: str, home: Path, targets: list[list[object]], interval_s: float = 10.0
) -> Iterator[subprocess.Popen[bytes]]:
    """An agent in its namespace. Its address is not local, so it answers for the whole network of its side."""
    home.mkdir(parents=True, exist_ok=True)
    told = {
        "version": "bench", "host": side, "address": "198.51.100.1", "probe_port": PORT, "interval_s": interval_s,
        "window_s": 300, "timeout_s": 3, "lease_s": 3600, "spool_max_bytes": 1 << 30, "spool_keep_s": 86_400,
        "targets": targets,
    }  # fmt: skip
    (home / "pinglist.json").write_text(json.dumps(told))
    agent = [sys.executable, "-I", "-S", str(AGENT), "run", "--home", str(home), "--lab"]
    process = subprocess.Popen(pair.command(side, *agent), stdout=subprocess.DEVNULL)
    try:
        while not (home / "agent.json").exists():
            time.sleep(0.02)
            if process.poll() is not None:
                raise RuntimeError(f"the agent did not start: exit code {process.returncode}")
        yield process
    finally:
        process.terminate()
        process.wait()
