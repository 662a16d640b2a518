"""The source ports of probes."""

from __future__ import annotations

import os
from array import array

from pingmesh_agent.limits import PORT_REST_MS

MAX_PORTS = 16_384
DEFAULT_RANGE = (32768, 60999)  # of Linux


class SourcePorts:
    """Sweeps over a range of ports; a port rests for a second before it is used again.

    Routers choose a path by the ports. With a sweep a fault on one of many paths hits some probes
    of every pair, instead of all probes of one pair and none of another.
    """

    def __init__(self, low: int, high: int) -> None:
        self.low, self.count = low, high - low + 1
        self.used_ms = array("q", [-PORT_REST_MS]) * self.count
        self.at = int.from_bytes(os.urandom(4), "big") % self.count

    def take(self, now_ms: int) -> int:
        """Return the next port, or 0 if it still rests."""
        at = self.at
        if now_ms - self.used_ms[at] < PORT_REST_MS:
            return 0
        self.used_ms[at] = now_ms
        self.at = at + 1 if at + 1 < self.count else 0
        return self.low + at


def ephemeral_ports() -> tuple[int, int]:
    """First and last source port: of the range where no service listens, at most MAX_PORTS."""
    try:
        with open("/proc/sys/net/ipv4/ip_local_port_range", "rb") as file:
            low, high = map(int, file.read().split())
    except (OSError, ValueError):
        low, high = DEFAULT_RANGE
    return low, min(high, low + MAX_PORTS - 1)
