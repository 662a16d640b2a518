"""What a trace found: plain values that the fleet fills and detection reads. No I/O here.

A trace asks many source ports, since routers choose a way by them: a `PortPath` is the way of one. A hop that is
silent is not a fault: routers limit how often they answer. Only packets that do not reach the *target* are lost.
"""

from __future__ import annotations

from dataclasses import dataclass

#: The target itself answered: it listens, refuses a connect, or says that the UDP port is closed.
FINAL = frozenset({"open", "refused", "closed"})
HOP, SILENT = "hop", "silent"


@dataclass(frozen=True, slots=True)
class Hop:
    """One distance of one way. `what` is `hop`, `silent`, one of FINAL, `icmp TYPE/CODE`, or `this host: …`.

    `router` is who answered and `rtt_us` when, as the tracing program saw it (userland: not a latency to publish);
    both None for `silent`. `sent` and `answered` count packets.
    """

    ttl: int
    router: str | None
    rtt_us: int | None
    what: str
    sent: int
    answered: int


@dataclass(frozen=True, slots=True)
class PortPath:
    """The way of one source port, hops by growing distance. `directly` asked the target with a TTL for all the way."""

    source_port: int
    reached: bool
    hops: tuple[Hop, ...]
    directly: Hop | None = None


@dataclass(frozen=True, slots=True)
class PathTrace:
    """The trace from one host (by name) to another's probe port. `reason` says why there is none, or not all of it."""

    source: str
    destination: str
    protocol: str = "tcp"
    port: int = 0
    paths: tuple[PortPath, ...] = ()
    reason: str | None = None
    complete: bool = True
    took_ms: int = 0
