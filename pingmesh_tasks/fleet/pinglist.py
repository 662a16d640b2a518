"""Ping lists: who probes whom."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """One destination of one source. `scope` is intra_tor, intra_dc or inter_dc."""

    name: str
    address: str
    port: int
    protocol: str
    scope: str
    payload_bytes: int = 0


@dataclass(frozen=True, slots=True)
class PingList:
    """What one agent is told: all it needs to run."""

    host: str
    address: str
    probe_port: int
    interval_s: float
    window_s: int
    targets: tuple[Target, ...]
