"""Source ports to probe from."""

from __future__ import annotations

import os
from array import array

from pingmesh_agent.limits import PORT_REST_MS


class SourcePorts:
    """Sweeps over the ephemeral ports, for routers choose a path by them: a fault on one of many paths is met now and
    then, not always or never. A port rests for a second."""

    def __init__(self, low: int, high: int) -> None:
        self.low, self.count = low, high - low + 1
        self.used_ms = array("q", [-PORT_REST_MS]) * self.count
        self.at = int.from_bytes(os.urandom(4), "big") % self.count

    def take(self, now_ms: int) -> int:
        """The next port, or 0 while all are resting."""
        at = self.at
        if now_ms - self.used_ms[at] < PORT_REST_MS:
            return 0
        self.used_ms[at] = now_ms
        self.at = at + 1 if at + 1 < self.count else 0
        return self.low + at


def ephemeral_ports() -> tuple[int, int]:
    """First and last port to send from: of the range where no service listens, at most 16,384."""
    try:
        with open("/proc/sys/net/ipv4/ip_local_port_range", "rb") as file:
            low, high = map(int, file.read().split())
    except (OSError, ValueError):
        low, high = 32768, 60999
    return low, min(high, low + 16_383)
