"""The order of a map's rows and columns: the hosts of an inventory, neighbours in the topology beside each other."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pingmesh_tasks.topology.inventory import Host, Inventory, canonical_json

#: Kinds of groups, from wide to narrow, and how much of a host's place names one.
GROUPS = {"dc": 1, "podset": 2, "tor": 3}
_ID_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Span:
    """Hosts `start` … `stop` - 1 of the axis: one DC, podset or ToR. `name` is its full name, `label` its own."""

    name: str
    label: str
    start: int
    stop: int


@dataclass(frozen=True)
class MapAxis:
    """Hosts in the order of `Inventory.hosts`, by which every group stands together."""

    hosts: tuple[Host, ...]
    has_topology: bool

    @classmethod
    def of(cls, inventory: Inventory) -> MapAxis:
        return cls(inventory.hosts, inventory.has_topology)

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
        return pl.Enum(self.names)

    @cached_property
    def position(self) -> dict[str, int]:
        return {name: at for at, name in enumerate(self.names)}

    @cached_property
    def spans(self) -> dict[str, tuple[Span, ...]]:
        """The groups of each kind, in order; together they cover the axis."""
        return {kind: tuple(_spans([host.tor_key[:depth] for host in self.hosts])) for kind, depth in GROUPS.items()}

    def member(self, kind: str) -> NDArray[np.int64]:
        """Return the number of each host's group of a kind."""
        return np.repeat(np.arange(len(self.spans[kind])), [span.stop - span.start for span in self.spans[kind]])

    def document(self) -> dict[str, Any]:
        """Return the axis as plain values for JSON."""
        spans = {
            f"{kind}s": [{"name": s.name, "label": s.label, "start": s.start, "stop": s.stop} for s in found]
            for kind, found in self.spans.items()
        }
        addresses = [host.address for host in self.hosts]
        return {"axis": self.id, "topology": self.has_topology, "hosts": self.names, "addresses": addresses, **spans}


def on_axis(pairs: pl.DataFrame, axis: MapAxis) -> pl.DataFrame:
    """Return `pairs` with `src` and `dst` as positions on the axis; rows of hosts that are not on it are left out."""
    positions = pl.col("src", "dst").cast(axis.host_type, strict=False).to_physical().cast(pl.UInt32)
    return pairs.with_columns(positions).drop_nulls(["src", "dst"])


def _spans(places: Sequence[tuple[str, ...]]) -> list[Span]:
    starts = [at for at, place in enumerate(places) if at == 0 or place != places[at - 1]]
    stops = [*starts[1:], len(places)]
    return [
        Span("/".join(places[start]), places[start][-1], start, stop)
        for start, stop in zip(starts, stops, strict=True)
        if stop > start
    ]
