"""The inventory: which servers there are and where each one stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

DEFAULT_PROBE_PORT = 8765


@dataclass(frozen=True, slots=True)
class Host:
    """One server. `address` is an IPv4 or IPv6 literal; `ssh_port` and `ssh_user` None: the SSH connection decides."""

    name: str
    address: str
    dc: str = "dc1"
    podset: str = "podset1"
    tor: str = "tor1"
    ssh_port: int | None = None
    ssh_user: str | None = None
    probe_port: int = DEFAULT_PROBE_PORT
    labels: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def tor_key(self) -> tuple[str, str, str]:
        """The ToR's full name: ToR names repeat between podsets, and podsets between DCs."""
        return (self.dc, self.podset, self.tor)


@dataclass(frozen=True, slots=True)
class Inventory:
    """All hosts, sorted by (dc, podset, tor, name) with numbers in names compared as numbers."""

    hosts: tuple[Host, ...]
    has_topology: bool = False
