"""Which suspect contains which: a pair its hosts' ToRs, a ToR its podset, every path the mesh; and which are left."""

from __future__ import annotations

from collections.abc import Collection

from pingmesh_tasks.alerting.inhibition import Known, Suspect, Wider
from pingmesh_tasks.detect.catalogue import ACCESS_RULES
from pingmesh_tasks.detect.finding import MESH, Finding
from pingmesh_tasks.topology.inventory import Host, Inventory
from pingmesh_tasks.topology.placement import place_of

INTER_DC: Suspect = ("tier", "inter_dc")
_OF_DATA_SERVERS = {"no_data"} | {rule.name for rule in ACCESS_RULES}


def hierarchy_of(inventory: Inventory) -> Wider:
    """Return the function that names every suspect which contains a given one.

    A name that the inventory does not know (a host that left it) is contained in the mesh only. A pair is contained in
    the tiers that it crosses; a host in none, for a spine's fault is not the host's. A data server is where the host
    of its address is, and in the mesh anyway: all are read from one place.
    """
    hosts = {host.name: host for host in inventory.hosts}
    stand = {server.name: place_of(server, inventory) for server in inventory.log_servers}

    def wider(source: str, scope: str, subject: str) -> Collection[Suspect]:
        around: set[Suspect] = {("mesh", MESH)}
        if source != MESH:
            around |= {("server", source), *stand.get(source, {}).items()}
            return around - {(scope, subject)}
        if scope == "pair":
            ends = [hosts[name] for name in subject.split(">", 1) if name in hosts]
            around |= {place for host in ends for place in (("host", host.name), *_places(host))} | _crossed(ends)
        elif scope == "host" and subject in hosts:
            around |= set(_places(hosts[subject]))
        elif scope in ("tor", "podset", "tier"):
            around |= set(_above(subject))
        return around - {(scope, subject)}

    return wider


def members_of(inventory: Inventory) -> Known:
    """Return the function that says whether what a finding is about is in the inventory.

    A pair is while both of its hosts are, a ToR, podset or DC while it has a host, anything of a data server while that
    is; what an inventory does not list (a tier, a DAG) always is.
    """
    hosts = {host.name for host in inventory.hosts}
    places = {"/".join(host.tor_key[:depth]) for host in inventory.hosts for depth in (1, 2, 3)}
    servers = {server.name for server in inventory.log_servers}

    def known(source: str, finding: Finding) -> bool:
        if source != MESH:
            return source in servers or finding.rule not in _OF_DATA_SERVERS
        if finding.scope in ("host", "pair"):
            return hosts.issuperset(finding.subject.split(">", 1))
        return finding.scope not in ("tor", "podset", "dc") or finding.subject in places

    return known


def all_known(source: str, finding: Finding) -> bool:
    """The inventory where none is known."""
    return True


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
