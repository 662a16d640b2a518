"""Bounds that protect the host, and the pace of the agent."""

from __future__ import annotations

TICK_S = 0.04  # wake-ups are what an agent costs: 20 ms is a third dearer, 1 ms four times
MIN_INTERVAL_S = 10.0  # per pair; less only with --lab
LATE_S = 0.25  # a probe that is later than this (a stall) is skipped: no burst after a pause
MAX_PROBES_PER_S = 1000  # 4 % of a core
MAX_TARGETS = 20_000
MAX_PINGLIST_BYTES = 16 << 20
MAX_IN_FLIGHT = 4096  # sockets that wait for an answer
MAX_CONNECTIONS = 128  # that the responder holds; the oldest goes first
CONNECTION_S = 5.0
EVENTS_PER_TICK = 512
DATAGRAMS_PER_TICK = 256
ACCEPTS_PER_TICK = 64
RESERVED_FDS = 32
MEMORY_CAP_BYTES = 64 << 20
MEMORY_LADDER = (
    1.0,
    0.5,
    0.25,
    0.1,
)  # share of the probes that is sent; never silent, and at the cap: stop
MAX_PENDING_ROWS = 100_000  # that wait for a disk that is full
MAX_PENDING_WINDOWS = 12
MAX_LOG_BYTES = 256 << 10
NICE = 10
DRAIN_S = 5.0  # what a stop waits for the answers of probes that are under way
PORT_REST_MS = 1000  # before a source port is used again
CHUNK_US = 10_000_000
TRACE_S = 3.0


def check(condition: bool, fault: str) -> None:
    if not condition:
        raise ValueError(fault)
