"""Cases for detection: a fault of each kind, drawn by seed, and whom a right answer names.

    for case in draw_cases(mesh, seed=1, count=20):
        for number, faults in case.windows():
            seen = mesh.window(number, faults)

What is drawn is which device fails, how badly, and when: a fault begins and ends anywhere in its first and last window.
A `Truth` is one fault as detection may name it: `suspects` are right answers (a slow detour may be told as a→b or b→a),
`hosts` are those who feel it, so that a finding about one of them is no invention, only not the culprit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from tests.support.mesh_clos import LOST, OK, REFUSED, UNREACHABLE, Active, Fault, Mesh
from tests.support.mesh_faults import (
    AddressBlackHole,
    AgentGone,
    CongestedLink,
    CongestedTor,
    FlappingPair,
    HostLoss,
    HostsGone,
    PodsetDown,
    PodsetSlow,
    PortBlackHole,
    SlowPair,
    SpineDead,
    SpineLoss,
    SpinesOverloaded,
    TorDown,
    TorLoss,
)

BEFORE, DURING, AFTER = 2, 6, 6  # windows


@dataclass(frozen=True, slots=True)
class Truth:
    """One fault, as it may be told."""

    suspects: frozenset[tuple[str, str]]
    hosts: frozenset[str]


@dataclass(frozen=True, slots=True)
class Case:
    kind: str
    first: int  # the first window of the case; the fault begins BEFORE windows later
    truths: tuple[Truth, ...]
    faults: tuple[Fault, ...]
    begins: float
    ends: float
    lasts: int = DURING

    def windows(self) -> Iterator[tuple[int, list[Active]]]:
        """Return each window's number with the faults that are in force in it."""
        for at in range(BEFORE + self.lasts + AFTER):
            since = at - BEFORE
            begin = self.begins if since == 0 else 0.0
            end = self.ends if since == self.lasts - 1 else 1.0
            here = 0 <= since < self.lasts
            yield self.first + at, [Active(fault, begin, end) for fault in self.faults] if here else []


Drawn = tuple[Fault, Truth]


def draw_cases(mesh: Mesh, seed: int, count: int, kinds: tuple[str, ...] = ()) -> list[Case]:
    """Return `count` cases on `mesh`, the kinds in turn."""
    chosen = kinds or tuple(KINDS)
    return [draw_case(mesh, chosen[i % len(chosen)], seed * 10_000 + i) for i in range(count)]


def draw_case(mesh: Mesh, kind: str, seed: int) -> Case:
    rng = np.random.default_rng([seed, 3])
    first = 100 + 20 * (seed % 10_000)
    begins, ends = rng.uniform(0, 0.9), rng.uniform(0.1, 1)
    if kind == "nothing":
        return Case(kind, first, (), (), 0, 1)
    if kind == "hosts_down":  # some at a time, each in a rack of its own: nothing that they share is broken
        racks = rng.choice(int(mesh.tor.max()) + 1, int(rng.integers(2, 5)), replace=False)
        hosts = [int(rng.choice(np.flatnonzero(mesh.tor == rack))) for rack in racks]
        truths = tuple(_host(mesh, host) for host in hosts)
        return Case(kind, first, truths, (HostsGone(tuple(hosts)),), begins, ends)
    if kind == "two_faults":
        while True:
            a, b = (KINDS[k](mesh, rng) for k in rng.choice(APART, 2))
            if not a[1].hosts & b[1].hosts:
                return Case(kind, first, (a[1], b[1]), (a[0], b[0]), begins, ends)
    fault, truth = KINDS[kind](mesh, rng)
    return Case(kind, first, (truth,), (fault,), begins, ends)


# ---- a fault of each kind


def _host_down(mesh: Mesh, rng: np.random.Generator) -> Drawn:
    host = _any(rng, len(mesh.names))
    return HostsGone((host,), answer=int(rng.choice([LOST, UNREACHABLE]))), _host(mesh, host)


def _agent_frozen(mesh: Mesh, rng: np.random.Generator) -> Drawn:
    host = _any(rng, len(mesh.names))
    return AgentGone(host, OK), _host(mesh, host)


def _agent_died(mesh: Mesh, rng: np.random.Generator) -> Drawn:
    host = _any(rng, len(mesh.names))
    return AgentGone(host, REFUSED), _host(mesh, host)


def _tor_down(mesh: Mesh, rng: np.random.Generator) -> Drawn:
    tor = _any(rng, mesh.tor.max() + 1)
    return TorDown(tor, out_of_band=bool(rng.random() < 0.5), uplinks=bool(rng.random() < 0.3)), _tor(mesh, tor)


def _podset_down(mesh: Mesh, rng: np.random.Generator) -> Drawn:
    podset = _any(rng, mesh.podset.max() + 1)
    uplinks = bool(rng.random() < 0.4)
    return PodsetDown(podset, out_of_band=bool(rng.random() < 0.5), uplinks=uplinks), _podset(mesh, podset)


def _podset_slow(mesh: Mesh, rng: np.random.Generator) -> Drawn:
    podset = _any(rng, mesh.podset.max() + 1)
    return PodsetSlow(podset, rng.uniform(6_000, 20_000)), _podset(mesh, podset)


def _spine_dead(mesh: Mesh, rng: np.random.Generator) -> Drawn:
    dc = _any(rng, mesh.shape.dcs)
    return SpineDead(dc, _any(rng, mesh.shape.spines)), _spines(mesh, dc)


def _spines_overloaded(mesh: Mesh, rng: np.random.Generator) -> Drawn:
    dc = _any(rng, mesh.shape.dcs)
    return SpinesOverloaded(dc, rng.uniform(6_000, 15_000), 10 ** rng.uniform(-3, -2)), _spines(mesh, dc)


def _spine_loss(share: float) -> Callable[[Mesh, np.random.Generator], Drawn]:
    def draw(mesh: Mesh, rng: np.random.Generator) -> Drawn:
        dc = _any(rng, mesh.shape.dcs)
        return SpineLoss(dc, _any(rng, mesh.shape.spines), share), _spines(mesh, dc)

    return draw


def _tor_loss(mesh: Mesh, rng: np.random.Generator) -> Drawn:
    tor = _any(rng, mesh.tor.max() + 1)
    return TorLoss(tor, rng.uniform(0.01, 0.05)), _tor(mesh, tor)


def _host_loss(mesh: Mesh, rng: np.random.Generator) -> Drawn:
    host = _any(rng, len(mesh.names))
    return HostLoss(host, rng.uniform(0.02, 0.1)), _host(mesh, host)


def _address_black_hole(mesh: Mesh, rng: np.random.Generator) -> Drawn:
    tor = _any(rng, mesh.tor.max() + 1)
    return AddressBlackHole(tor, rng.uniform(0.05, 0.25), _any(rng, 1 << 30)), _tor(mesh, tor)


def _port_black_hole(mesh: Mesh, rng: np.random.Generator) -> Drawn:
    tor = _any(rng, mesh.tor.max() + 1)
    return PortBlackHole(tor, 1 / 2 ** rng.uniform(3, 5)), _tor(mesh, tor)


def _slow_pair(mesh: Mesh, rng: np.random.Generator) -> Drawn:
    a, b = _probed_pair(mesh, rng)
    return SlowPair(a, b, rng.uniform(6_000, 20_000)), _pair(mesh, a, b)


def _flapping_pair(mesh: Mesh, rng: np.random.Generator) -> Drawn:
    a, b = _probed_pair(mesh, rng)
    return FlappingPair(a, b, up=rng.uniform(0.2, 0.6), turn=int(rng.integers(2, 5))), _pair(mesh, a, b)


def _congested_tor(mesh: Mesh, rng: np.random.Generator) -> Drawn:
    tor = _any(rng, mesh.tor.max() + 1)
    return CongestedTor(tor, rng.uniform(10_000, 40_000), 10 ** rng.uniform(-3, -2)), _tor(mesh, tor)


def _congested_link(mesh: Mesh, rng: np.random.Generator) -> Drawn:
    """A link between two tiers: either end of it is a right answer."""
    podset = _any(rng, mesh.podset.max() + 1)
    leaf, spine = _any(rng, mesh.shape.leaves), _any(rng, mesh.shape.spines)
    truth = _podset(mesh, podset)
    either = truth.suspects | _spines(mesh, int(mesh.dc[mesh.podset == podset][0])).suspects
    fault = CongestedLink(podset, leaf, spine, rng.uniform(15_000, 60_000), 10 ** rng.uniform(-2, -1))
    return fault, Truth(either, truth.hosts)


def _drawn_elsewhere(mesh: Mesh, rng: np.random.Generator) -> Drawn:
    raise AssertionError("draw_case makes this one")


KINDS: dict[str, Callable[[Mesh, np.random.Generator], Drawn]] = {
    "host_down": _host_down,
    "agent_frozen": _agent_frozen,
    "agent_died": _agent_died,
    "hosts_down": _drawn_elsewhere,
    "tor_down": _tor_down,
    "podset_down": _podset_down,
    "podset_slow": _podset_slow,
    "spine_dead": _spine_dead,
    "spines_overloaded": _spines_overloaded,
    "spine_loss_1%": _spine_loss(0.01),
    "spine_loss_0.1%": _spine_loss(0.001),
    "tor_loss": _tor_loss,
    "host_loss": _host_loss,
    "address_black_hole": _address_black_hole,
    "port_black_hole": _port_black_hole,
    "slow_pair": _slow_pair,
    "flapping_pair": _flapping_pair,
    "congested_tor": _congested_tor,
    "congested_link": _congested_link,
    "two_faults": _drawn_elsewhere,
    "nothing": _drawn_elsewhere,
}
#: What the bar of recall leaves out: at 0.1 % on one of many spines, many windows hold too few drops for a verdict.
FAINT = ("spine_loss_0.1%",)
#: Faults of one place, so that two of them can be drawn apart.
APART = (
    *("host_down", "agent_died", "tor_down", "podset_down", "podset_slow", "tor_loss", "host_loss"),
    *("address_black_hole", "port_black_hole", "slow_pair", "flapping_pair", "congested_tor"),
)


def _host(mesh: Mesh, host: int) -> Truth:
    return Truth(frozenset({("host", mesh.names[host])}), frozenset({mesh.names[host]}))


def _tor(mesh: Mesh, tor: int) -> Truth:
    hosts = np.flatnonzero(mesh.tor == tor)
    return Truth(frozenset({("tor", place(mesh, hosts[0], 3))}), _names(mesh, hosts))


def _podset(mesh: Mesh, podset: int) -> Truth:
    hosts = np.flatnonzero(mesh.podset == podset)
    return Truth(frozenset({("podset", place(mesh, hosts[0], 2))}), _names(mesh, hosts))


def _spines(mesh: Mesh, dc: int) -> Truth:
    hosts = np.flatnonzero(mesh.dc == dc)
    return Truth(frozenset({("tier", f"{place(mesh, hosts[0], 1)}/spine")}), _names(mesh, hosts))


def _pair(mesh: Mesh, a: int, b: int) -> Truth:
    names = mesh.names[a], mesh.names[b]
    return Truth(frozenset({("pair", f"{names[0]}>{names[1]}"), ("pair", f"{names[1]}>{names[0]}")}), frozenset(names))


def place(mesh: Mesh, host: int, depth: int) -> str:
    """Return the name of a host's DC (depth 1), podset (2) or ToR (3), as findings write it."""
    return "/".join(mesh.inventory.hosts[int(host)].tor_key[:depth])


def _names(mesh: Mesh, hosts: np.ndarray) -> frozenset[str]:
    return frozenset(mesh.names[i] for i in hosts)


def _any(rng: np.random.Generator, count: int) -> int:
    return int(rng.integers(count))


def _probed_pair(mesh: Mesh, rng: np.random.Generator) -> tuple[int, int]:
    near = np.flatnonzero(mesh.dc[mesh.src] == mesh.dc[mesh.dst])
    pair = int(rng.choice(near))
    return int(mesh.src[pair]), int(mesh.dst[pair])
