"""A small Clos network of network namespaces: hosts, ToRs, leaves and spines, with real ECMP between them.

    with clos_laboratory() as lab:                 # 2 podsets x 2 ToRs x 4 hosts, 2 leaves a podset, 2 spines
        with lab.fault("ip protocol tcp", "drop", router="spine1"):
            ...

Every namespace has one address on `lo` and unnumbered links. Routers choose among equal paths by a hash of addresses,
ports and protocol that they compute themselves (policy 3) with a seed each: by policy 1 the hash of the sender's socket
travels with the packet between namespaces of one kernel, so that leaves would choose alike and repeats take new paths.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from pingmesh_tasks.topology.inventory import Host, Inventory
from tests.support.lab import SYSCTLS, Lab, opened

PODSETS, TORS, PER_TOR, LEAVES, SPINES = 2, 2, 4, 2, 2
ECMP = {"fib_multipath_hash_policy": 3, "fib_multipath_hash_fields": 0x37}
REVERSE_PATH = {"conf/all/rp_filter": 0, "conf/default/rp_filter": 0}


@contextmanager
def clos_laboratory(*, as_root: bool | None = None) -> Iterator[ClosLab]:
    """Build it, give it, end everything in it; skips the test where `laboratory` does."""
    with opened(ClosLab(as_root=os.geteuid() == 0 if as_root is None else as_root)) as lab:
        yield lab


class ClosLab(Lab):
    """Hosts `p1t1h1` …, routers `tor1-1` (podset, ToR), `leaf1-1` (podset, leaf), `spine1` …

    A ToR's links are `up1`, `up2` to its leaves; a leaf's `up1`, `up2` to the spines.
    """

    def __init__(self, *, as_root: bool) -> None:
        hosts = [(p, t, h) for p in _to(PODSETS) for t in _to(TORS) for h in _to(PER_TOR)]
        super().__init__({f"p{p}t{t}h{h}": f"10.{p}.{t}.{h}" for p, t, h in hosts}, as_root=as_root)
        self.routers = {f"tor{p}-{t}": f"10.252.{p}.{t}" for p in _to(PODSETS) for t in _to(TORS)}
        self.routers |= {f"leaf{p}-{n}": f"10.253.{p}.{n}" for p in _to(PODSETS) for n in _to(LEAVES)}
        self.routers |= {f"spine{n}": f"10.254.0.{n}" for n in _to(SPINES)}
        places = {f"p{p}t{t}h{h}": (f"podset{p}", f"tor{t}") for p, t, h in hosts}
        self.inventory = Inventory(
            tuple(Host(name, self.addresses[name], "dc1", *place) for name, place in places.items()), has_topology=True
        )

    def build_network(self) -> None:
        routers, every = self.routers, {**self.addresses, **self.routers}
        links, routes = self._plan()
        self._ip(None, [f"netns add {name}" for name in every])
        self._ip(None, [f"link add {i} netns {a} type veth peer name {k} netns {b}" for a, i, b, k in links])
        ends: dict[str, list[str]] = {name: ["lo"] for name in every}
        for a, i, b, k in links:
            ends[a].append(i)
            ends[b].append(k)
        for seed, (name, address) in enumerate(every.items(), 1):
            up = [f"link set dev {interface} up" for interface in ends[name]]
            self._ip(name, [f"addr add {address}/32 dev lo", *up, *(f"route add {route}" for route in routes[name])])
            if name in routers:
                values = {**SYSCTLS, **ECMP, "fib_multipath_hash_seed": seed, **REVERSE_PATH}
                lines = [f"echo {value} >/proc/sys/net/ipv4/{key}" for key, value in values.items()]
                # conf/all does not reach interfaces that are there already
                lines.append("for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 >$f; done")
                self.run(name, "sh", "-ec", "\n".join(lines))

    def _plan(self) -> tuple[list[tuple[str, str, str, str]], dict[str, list[str]]]:
        """Return links (namespace, interface, namespace, interface) and the routes of each namespace."""
        links, routes = [], {name: [] for name in (*self.addresses, *self.routers)}
        for host in self.inventory.hosts:
            p, t, h = host.address.split(".")[1:]
            tor = f"tor{p}-{t}"
            links.append((host.name, "eth0", tor, f"h{h}"))
            routes[host.name].append(f"default via {self.routers[tor]} dev eth0 onlink src {host.address}")
            routes[tor].append(f"{host.address}/32 dev h{h}")
        for p in _to(PODSETS):
            leaves = {n: f"leaf{p}-{n}" for n in _to(LEAVES)}
            for t in _to(TORS):
                tor = f"tor{p}-{t}"
                links += [(tor, f"up{n}", leaf, f"t{t}") for n, leaf in leaves.items()]
                routes[tor].append("default" + self._any({f"up{n}": leaf for n, leaf in leaves.items()}))
                for leaf in leaves.values():
                    routes[leaf].append(f"10.{p}.{t}.0/24 via {self.routers[tor]} dev t{t} onlink")
            for leaf in leaves.values():
                links += [(leaf, f"up{s}", f"spine{s}", leaf) for s in _to(SPINES)]
                routes[leaf].append("default" + self._any({f"up{s}": f"spine{s}" for s in _to(SPINES)}))
            for s in _to(SPINES):
                routes[f"spine{s}"].append(f"10.{p}.0.0/16" + self._any({leaf: leaf for leaf in leaves.values()}))
        return links, routes

    def _any(self, hops: dict[str, str]) -> str:
        """Return the equal next hops of a route, by interface."""
        return "".join(f" nexthop via {self.routers[router]} dev {link} onlink" for link, router in hops.items())


def _to(count: int) -> range:
    return range(1, count + 1)
