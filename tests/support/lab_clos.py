"""A laboratory with a small Clos network between the hosts: two podsets of two ToRs, two leaves each, two spines.

    with clos() as lab, lab.fault("", "numgen random mod 100 < 5 drop", router="spine1"):
        lab.run("host111", "ping", "-c9", lab.address("host211"))

Host `host<podset><tor><number>` has the address 10.P.T.H, its ToR `tor<P><T>` 10.252.P.T, leaf `leaf<P><L>` 10.253.P.L
and spine `spine<S>` 10.254.0.S: one address each, on `lo`, so that a router answers a trace with its own name. Between
two podsets there are eight ways of six hops: ToR, leaf, spine, leaf, ToR, host.

Routers choose among equal ways by a hash of addresses, ports and protocol, each with a seed of its own. The kernel's
usual choice (`fib_multipath_hash_policy` 1) takes the sender's socket hash where sender and router share a kernel: a
packet that is sent again would take another way, and all routers would choose alike.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.lab import SYSCTLS, Lab

PODSETS = TORS = LEAVES = SPINES = 2
HASHING = {"fib_multipath_hash_policy": 3, "fib_multipath_hash_fields": 0x37}
SEED = "fib_multipath_hash_seed"


@contextmanager
def clos(hosts_per_tor: int = 1, *, as_root: bool | None = None) -> Iterator[ClosLab]:
    """Build it, give it, and end everything in it. Skips the test where `laboratory` would, or on an old kernel."""
    if not Path("/proc/sys/net/ipv4", SEED).exists():
        pytest.skip(f"this kernel has no {SEED} (Linux 6.11): all routers would choose the same ways")
    lab = ClosLab(hosts_per_tor, as_root=os.geteuid() == 0 if as_root is None else as_root)
    try:
        lab.start_world()
        lab.build_network()
        yield lab
    finally:
        lab.end()


class ClosLab(Lab):
    """A `Lab` whose routers are many: `routers` has their addresses, `fault(…, router=…)` makes one of them sick."""

    def __init__(self, hosts_per_tor: int, *, as_root: bool) -> None:
        podsets, tors = range(1, PODSETS + 1), range(1, TORS + 1)
        self._tor_hosts = {
            (p, t): [f"host{p}{t}{h}" for h in range(1, hosts_per_tor + 1)] for p in podsets for t in tors
        }
        hosts = {f"host{p}{t}{h}": f"10.{p}.{t}.{h}" for p, t in self._tor_hosts for h in range(1, hosts_per_tor + 1)}
        super().__init__(hosts, as_root=as_root)
        self.routers = {f"tor{p}{t}": f"10.252.{p}.{t}" for p in podsets for t in tors}
        self.routers |= {f"leaf{p}{n}": f"10.253.{p}.{n}" for p in podsets for n in range(1, LEAVES + 1)}
        self.routers |= {f"spine{n}": f"10.254.0.{n}" for n in range(1, SPINES + 1)}

    def build_network(self) -> None:
        everyone = self.routers | self.addresses
        self._ip(None, [f"netns add {name}" for name in everyone])
        for number, name in enumerate(everyone):
            wanted = {**SYSCTLS, **HASHING, SEED: 1000 + number, "conf/all/rp_filter": 0, "conf/default/rp_filter": 0}
            settings = "\n".join(f"echo {value} >/proc/sys/net/ipv4/{key}" for key, value in wanted.items())
            self.run(name, "sh", "-ec", settings)
        links = list(self._links())
        self._ip(None, [f"link add {b} netns {a} type veth peer name {a} netns {b}" for a, b in links])
        for name, address in everyone.items():
            ends = [b if name == a else a for a, b in links if name in (a, b)]
            lines = ["link set dev lo up", f"addr add {address}/32 dev lo", *(f"link set dev {end} up" for end in ends)]
            self._ip(name, lines + [f"route add {route}" for route in self._routes(name)])

    def _links(self) -> Iterator[tuple[str, str]]:
        for (p, t), hosts in self._tor_hosts.items():
            yield from ((host, f"tor{p}{t}") for host in hosts)
            yield from ((f"tor{p}{t}", f"leaf{p}{n}") for n in range(1, LEAVES + 1))
        yield from (
            (f"leaf{p}{n}", f"spine{s}")
            for p in range(1, PODSETS + 1)
            for n in range(1, LEAVES + 1)
            for s in range(1, SPINES + 1)
        )

    def _routes(self, name: str) -> list[str]:
        """The routes of one host or router; an interface is called after who is at its other end."""
        if name in self.addresses:
            tor = f"tor{name[4:6]}"
            return [f"default via {self.routers[tor]} dev {tor} onlink src {self.addresses[name]}"]
        if name.startswith("tor"):
            p, t = name[3:5]
            hosts = [f"{self.addresses[host]}/32 dev {host}" for host in self._tor_hosts[int(p), int(t)]]
            return [*hosts, self._over("default", [f"leaf{p}{n}" for n in range(1, LEAVES + 1)])]
        if name.startswith("leaf"):
            p = name[4]
            tors = [f"tor{p}{t}" for t in range(1, TORS + 1)]
            down = [self._over(f"10.{p}.{tor[4]}.0/24", [tor]) for tor in tors]
            down += [self._over(f"{self.routers[tor]}/32", [tor]) for tor in tors]
            return [*down, self._over("default", [f"spine{s}" for s in range(1, SPINES + 1)])]
        routes = []
        for p in range(1, PODSETS + 1):
            leaves = [f"leaf{p}{n}" for n in range(1, LEAVES + 1)]
            routes += [self._over(f"10.{p}.0.0/16", leaves), self._over(f"10.252.{p}.0/24", leaves)]
            routes += [self._over(f"{self.routers[leaf]}/32", [leaf]) for leaf in leaves]
        return routes

    def _over(self, network: str, routers: list[str]) -> str:
        hops = [f"via {self.routers[router]} dev {router} onlink" for router in routers]
        return f"{network} {hops[0]}" if len(hops) == 1 else network + "".join(f" nexthop {hop}" for hop in hops)
