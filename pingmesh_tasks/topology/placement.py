"""Where a host or data server stands, by the names that a rule book asks for: host, ToR, podset, DC."""

from __future__ import annotations

from pingmesh_tasks.topology.axis import GROUPS
from pingmesh_tasks.topology.inventory import Host, Inventory, LogServer


def placement(host: Host) -> dict[str, str]:
    """Return the full names of a host and of the groups that it is in."""
    key = host.tor_key
    return {"host": host.name, **{kind: "/".join(key[:depth]) for kind, depth in GROUPS.items()}}


def place_of(server: LogServer, inventory: Inventory) -> dict[str, str]:
    """Return where a data server stands: nowhere (no names) unless it is a host of the mesh."""
    for host in inventory.hosts:
        if host.address == server.address:
            return placement(host)
    return {}
