"""The inventory as alerting sees it: which suspects contain which, and which are left in it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pingmesh_tasks.alerting.suspect import ContainingSuspects, IsMember, Suspect
from pingmesh_tasks.detect.catalogue import ACCESS_RULES
from pingmesh_tasks.detect.finding import MESH, Finding
from pingmesh_tasks.topology.inventory import Host, Inventory
from pingmesh_tasks.topology.placement import place_of

INTER_DC: Suspect = ("tier", "inter_dc")
_DATA_SERVER_RULES = {"no_data"} | {rule.name for rule in ACCESS_RULES}


def hierarchy_of(inventory: Inventory) -> ContainingSuspects:
    """Return the function that names every suspect which contains a given one.

    A name that the inventory does not have (a host that left it) is contained in the mesh only. A
    pair is contained in its hosts, in their components and in the tiers that it crosses; a host in
    no tier, for the fault of a spine is not the fault of the host. A data server is contained in
    the components of the host of its address, and in the mesh anyway: all are read from one
    machine.
    """
    hosts = {host.name: host for host in inventory.hosts}
    places = {server.name: place_of(server, inventory) for server in inventory.log_servers}

    def containing(source: str, scope: str, subject: str) -> Collection[Suspect]:
        around: set[Suspect] = {("mesh", MESH)}
        if source != MESH:
            around |= {("server", source), *places.get(source, {}).items()}
        elif scope == "pair":
            ends = [hosts[name] for name in subject.split(">", 1) if name in hosts]
            around |= {("host", host.name) for host in ends}
            around |= {component for host in ends for component in _components_of(host)}
            around |= _crossed_tiers(ends)
        elif scope == "host" and subject in hosts:
            around |= set(_components_of(hosts[subject]))
        elif scope in ("tor", "podset", "tier"):
            around |= set(_above(subject))
        return around - {(scope, subject)}

    return containing


def members_of(inventory: Inventory) -> IsMember:
    """Return the function that says whether the inventory has the subject of a finding.

    It has a pair while it has both hosts; a ToR, podset or DC while it has a host there; anything
    of a data server while it has the data server. What an inventory does not list (a tier, a DAG)
    it always has.
    """
    hosts = {host.name for host in inventory.hosts}
    components = {"/".join(host.tor_key[:depth]) for host in inventory.hosts for depth in (1, 2, 3)}
    servers = {server.name for server in inventory.log_servers}

    def is_member(source: str, finding: Finding) -> bool:
        if source != MESH:
            return source in servers or finding.rule not in _DATA_SERVER_RULES
        if finding.scope in ("host", "pair"):
            return hosts.issuperset(finding.subject.split(">", 1))
        return finding.scope not in ("tor", "podset", "dc") or finding.subject in components

    return is_member


def everything_is_member(source: str, finding: Finding) -> bool:
    """Return True: the inventory is not known."""
    return True


def nothing_contains(source: str, scope: str, subject: str) -> Collection[Suspect]:
    """Return no suspect: the inventory is not known."""
    return ()


def _components_of(host: Host) -> tuple[Suspect, ...]:
    tor = "/".join(host.tor_key)
    return (("tor", tor), *_above(tor))


def _above(path: str) -> tuple[Suspect, ...]:
    """Return what contains a path: `dc1/podset1/tor2` is in `dc1/podset1`, that in `dc1`."""
    parts = path.split("/")
    above: list[Suspect] = []
    if len(parts) > 2:
        above.append(("podset", "/".join(parts[:2])))
    if len(parts) > 1:
        above.append(("dc", parts[0]))
    return tuple(above)


def _crossed_tiers(ends: Sequence[Host]) -> set[Suspect]:
    """Return the tiers between two hosts: none within a podset or where a host is not known."""
    if len(ends) < 2 or ends[0].tor_key[:2] == ends[1].tor_key[:2]:
        return set()
    return {INTER_DC} if ends[0].dc != ends[1].dc else {("tier", f"{ends[0].dc}/spine")}
