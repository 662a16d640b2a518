"""The numbering of hosts: which host has which position, and which ToR, podset and DC it is in.

The order is that of the inventory, by which every group stands together. Pictures, the page's maps, groups and
detection all use these positions, in this order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pingmesh_tasks.topology.inventory import Host, Inventory, canonical_json

#: Kinds of groups, from wide to narrow, and how many parts of a host's `tor_key` name one.
GROUPS = {"dc": 1, "podset": 2, "tor": 3}
_ID_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Span:
    """Neighbours on an axis: positions `start` … `stop` - 1 are one DC, podset or ToR.

    `name` is its full name, `label` its own.
    """

    name: str
    label: str
    start: int
    stop: int


@dataclass(frozen=True)
class HostAxis:
    """Hosts in the order of `Inventory.hosts`."""

    hosts: tuple[Host, ...]
    has_topology: bool

    @classmethod
    def of(cls, inventory: Inventory) -> HostAxis:
        return cls(inventory.hosts, inventory.has_topology)

    def __len__(self) -> int:
        return len(self.hosts)

    @cached_property
    def id(self) -> str:
        """Content hash: two plans with equal ids have equal hosts at equal places, in equal order."""
        places = [[host.name, *host.tor_key] for host in self.hosts]
        return hashlib.sha256(canonical_json([places, self.has_topology])).hexdigest()[:_ID_DIGITS]

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(host.name for host in self.hosts)

    @cached_property
    def host_type(self) -> pl.Enum:
        """The type of a column of host names: its physical values are positions."""
        return pl.Enum(self.names)

    @cached_property
    def position(self) -> dict[str, int]:
        return {name: at for at, name in enumerate(self.names)}

    @cached_property
    def spans(self) -> dict[str, tuple[Span, ...]]:
        """The groups of each kind, in order; together they cover the axis."""
        return {kind: tuple(_spans([host.tor_key[:depth] for host in self.hosts])) for kind, depth in GROUPS.items()}

    def group_names(self, kind: str) -> tuple[str, ...]:
        """Return the full names of the groups of a kind, in order."""
        return tuple(span.name for span in self.spans[kind])

    def member(self, kind: str) -> NDArray[np.int32]:
        """Return the number of each host's group of a kind: its place in `group_names`."""
        sizes = np.array([span.stop - span.start for span in self.spans[kind]], np.int64)
        return np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)

    @cached_property
    def tor(self) -> NDArray[np.int32]:
        """The number of each host's ToR."""
        return self.member("tor")

    @cached_property
    def podset(self) -> NDArray[np.int32]:
        """The number of each host's podset."""
        return self.member("podset")

    @cached_property
    def dc(self) -> NDArray[np.int32]:
        """The number of each host's DC."""
        return self.member("dc")

    @cached_property
    def tor_names(self) -> tuple[str, ...]:
        return self.group_names("tor")

    @cached_property
    def podset_names(self) -> tuple[str, ...]:
        return self.group_names("podset")

    @cached_property
    def dc_names(self) -> tuple[str, ...]:
        return self.group_names("dc")

    def document(self) -> dict[str, Any]:
        """Return the axis as plain values for JSON."""
        spans = {
            f"{kind}s": [{"name": s.name, "label": s.label, "start": s.start, "stop": s.stop} for s in found]
            for kind, found in self.spans.items()
        }
        addresses = [host.address for host in self.hosts]
        return {"axis": self.id, "topology": self.has_topology, "hosts": self.names, "addresses": addresses, **spans}


def _spans(places: Sequence[tuple[str, ...]]) -> list[Span]:
    starts = [at for at, place in enumerate(places) if at == 0 or place != places[at - 1]]
    return [
        Span("/".join(places[start]), places[start][-1], start, stop)
        for start, stop in pairwise([*starts, len(places)])
    ]
