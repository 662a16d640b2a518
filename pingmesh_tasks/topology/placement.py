"""Where every host stands, as numbers: what the rules on the mesh count by. And where a data server does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pingmesh_tasks.topology.inventory import Inventory, LogServer

Ints = NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class Places:
    """Where every host stands, as numbers: `tor`, `podset`, `dc` by host position, and the names of all four."""

    names: tuple[str, ...]
    tor: Ints
    podset: Ints
    dc: Ints
    tor_names: tuple[str, ...]
    podset_names: tuple[str, ...]
    dc_names: tuple[str, ...]

    @classmethod
    def of(cls, inventory: Inventory) -> Places:
        keys = [host.tor_key for host in inventory.hosts]
        codes, names = zip(*(_numbered(["/".join(key[:depth]) for key in keys]) for depth in (3, 2, 1)), strict=True)
        return cls(tuple(host.name for host in inventory.hosts), *codes, *names)


def place_of(server: LogServer, inventory: Inventory) -> dict[str, str]:
    """Return where a data server stands, as a rule book asks for it: nowhere unless it is a host of the mesh."""
    for host in inventory.hosts:
        if host.address == server.address:
            tor, podset, dc = ("/".join(host.tor_key[:depth]) for depth in (3, 2, 1))
            return {"host": host.name, "tor": tor, "podset": podset, "dc": dc}
    return {}


def _numbered(names: list[str]) -> tuple[Ints, tuple[str, ...]]:
    number = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return np.array([number[name] for name in names], np.int32), tuple(number)
