"""Which suspect contains which: a pair its hosts' ToRs, a ToR its podset, every path the mesh."""

from __future__ import annotations

from collections.abc import Collection

from pingmesh_tasks.alarm.grouping import Suspect, Wider
from pingmesh_tasks.detect.finding import MESH
from pingmesh_tasks.fleet.inventory import Host, Inventory

INTER_DC: Suspect = ("tier", "inter_dc")


def hierarchy_of(inventory: Inventory) -> Wider:
    """Return the function that names every suspect which contains a given one.

    A name that the inventory does not know (a host that left it) is contained in the mesh only. A pair is contained in
    the tiers that it crosses; a host in none, for a spine's fault is not the host's.
    """
    hosts = {host.name: host for host in inventory.hosts}

    def wider(source: str, scope: str, subject: str) -> Collection[Suspect]:
        if source != MESH:
            return {("server", source)} - {(scope, subject)}
        around: set[Suspect] = {("mesh", MESH)}
        if scope == "pair":
            ends = [hosts[name] for name in subject.split(">", 1) if name in hosts]
            around |= {place for host in ends for place in (("host", host.name), *_places(host))} | _crossed(ends)
        elif scope == "host" and subject in hosts:
            around |= set(_places(hosts[subject]))
        elif scope in ("tor", "podset", "tier"):
            around |= set(_above(subject))
        return around - {(scope, subject)}

    return wider


def nothing_wider(source: str, scope: str, subject: str) -> Collection[Suspect]:
    """The hierarchy where none is known."""
    return ()


def _places(host: Host) -> tuple[Suspect, ...]:
    tor = "/".join(host.tor_key)
    return (("tor", tor), *_above(tor))


def _above(path: str) -> tuple[Suspect, ...]:
    """`dc1/podset1/tor2` is in podset `dc1/podset1` and DC `dc1`; `dc1/spine` in `dc1`."""
    parts = path.split("/")
    above: list[Suspect] = [("dc", parts[0])] if len(parts) > 1 else []
    return (("podset", "/".join(parts[:2])), *above) if len(parts) > 2 else tuple(above)


def _crossed(ends: list[Host]) -> set[Suspect]:
    if len(ends) < 2 or ends[0].tor_key[:2] == ends[1].tor_key[:2]:
        return set()
    return {INTER_DC} if ends[0].dc != ends[1].dc else {("tier", f"{ends[0].dc}/spine")}
