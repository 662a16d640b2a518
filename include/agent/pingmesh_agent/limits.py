"""Bounds that protect the host, and the pace of the agent."""

from __future__ import annotations

# Wake-ups are the agent's main cost: a tick of 20 ms costs a third more, 1 ms four times as much.
TICK_S = 0.04
CHUNK_US = 10_000_000  # of a segment
NICE = 10

MIN_INTERVAL_S = 10.0  # between two probes of a pair; a shorter one needs --lab
LATE_S = 0.25  # probes that are later than this are skipped: no burst after a pause
MAX_PROBES_PER_S = 1000  # 4 % of a core
MAX_TARGETS = 20_000
MAX_PINGLIST_BYTES = 16 << 20

MAX_IN_FLIGHT = 4096  # sockets that wait for an answer
RESERVED_FDS = 32
PORT_REST_MS = 1000  # before a source port is used again
DRAIN_S = 5.0  # the longest that a stop waits for answers of probes in flight

EVENTS_PER_TICK = 512
DATAGRAMS_PER_TICK = 256
ACCEPTS_PER_TICK = 64
MAX_CONNECTIONS = 128  # of the responder; the oldest is closed first
CONNECTION_S = 5.0

MEMORY_CAP_BYTES = 64 << 20
MEMORY_LADDER = (
    1.0,
    0.5,
    0.25,
    0.1,
)  # share of the probes that is sent; the agent stops at the cap
MAX_PENDING_ROWS = 100_000  # that wait in memory while the disk is full
MAX_PENDING_WINDOWS = 12
MAX_LOG_BYTES = 256 << 10


def require(condition: bool, fault: str) -> None:
    """Raise ValueError with the text `fault` unless `condition` holds."""
    if not condition:
        raise ValueError(fault)
