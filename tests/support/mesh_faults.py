"""What can be wrong in a simulated Clos network: each fault sits in one device or link and does one thing to packets.

    mesh = Mesh(SHAPES[512], seed=7)
    seen = mesh.window(12, [SpineLoss(dc=0, spine=3, share=0.01)])

Devices and hosts are told by number, as in the arrays of `Mesh`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.support.mesh_clos import LOST, OK, Mesh, Traffic


@dataclass(frozen=True, slots=True)
class _Healthy:
    """A base for faults that lose no host's data."""

    def mute(self, mesh: Mesh) -> NDArray[np.intp]:
        return np.empty(0, np.intp)


@dataclass(frozen=True, slots=True)
class HostsGone:
    """Hosts without power, or whose kernel hangs. `answer`: nobody says so (LOST), or a router does (UNREACHABLE)."""

    hosts: tuple[int, ...]
    answer: int = LOST

    def strike(self, traffic: Traffic) -> None:
        traffic.lose(traffic.ends_at(np.array(self.hosts)), self.answer)

    def mute(self, mesh: Mesh) -> NDArray[np.intp]:
        return np.array(self.hosts)


@dataclass(frozen=True, slots=True)
class AgentGone:
    """An agent that is frozen (the kernel goes on shaking hands for it) or has died (the kernel refuses)."""

    host: int
    answer: int = OK

    def strike(self, traffic: Traffic) -> None:
        if self.answer != OK:
            traffic.lose(np.flatnonzero(traffic.dst == self.host), self.answer)

    def mute(self, mesh: Mesh) -> NDArray[np.intp]:
        return np.array([self.host])


@dataclass(frozen=True, slots=True)
class TorDown:
    """A ToR that forwards nothing, or (`uplinks`) nothing beyond its rack.

    `out_of_band`: its hosts' data still arrive, over a network of their own.
    """

    tor: int
    out_of_band: bool = False
    uplinks: bool = False

    def strike(self, traffic: Traffic) -> None:
        traffic.lose(traffic.leaving_tor(self.tor) if self.uplinks else traffic.over_tor(self.tor))

    def mute(self, mesh: Mesh) -> NDArray[np.intp]:
        return np.empty(0, np.intp) if self.out_of_band else np.flatnonzero(mesh.tor == self.tor)


@dataclass(frozen=True, slots=True)
class PodsetDown:
    """A podset without power, or (`uplinks`) cut off from the rest; `out_of_band` as for a ToR."""

    podset: int
    out_of_band: bool = False
    uplinks: bool = False

    def strike(self, traffic: Traffic) -> None:
        inside = np.flatnonzero(traffic.mesh.podset == self.podset)
        traffic.lose(traffic.leaving_podset(self.podset) if self.uplinks else traffic.ends_at(inside))

    def mute(self, mesh: Mesh) -> NDArray[np.intp]:
        there = np.flatnonzero(mesh.podset == self.podset)
        return np.empty(0, np.intp) if self.uplinks and self.out_of_band else there


@dataclass(frozen=True, slots=True)
class PodsetSlow(_Healthy):
    """Leaves that queue: every packet through them waits, about `extra_us` a round trip."""

    podset: int
    extra_us: float

    def strike(self, traffic: Traffic) -> None:
        rows = traffic.over_leaves(self.podset)
        traffic.delay(rows, traffic.rng.gamma(4, self.extra_us / 4, (len(rows), traffic.ports.shape[1])))


@dataclass(frozen=True, slots=True)
class SpineDead(_Healthy):
    """A spine that takes packets and forwards none, while its neighbours still send it their share."""

    dc: int
    spine: int

    def strike(self, traffic: Traffic) -> None:
        rows = traffic.over_spines(self.dc)
        there, back = traffic.by_spine(rows, self.dc, self.spine)
        traffic.lose(rows, where=there | back)


@dataclass(frozen=True, slots=True)
class SpinesOverloaded(_Healthy):
    """Half the spines are gone, routing knows, the rest is too small: queues everywhere between podsets, and drops."""

    dc: int
    extra_us: float
    share: float

    def strike(self, traffic: Traffic) -> None:
        rows = traffic.over_spines(self.dc)
        traffic.delay(rows, traffic.rng.gamma(3, self.extra_us / 3, (len(rows), traffic.ports.shape[1])))
        traffic.lose_some(rows, self.share)


@dataclass(frozen=True, slots=True)
class SpineLoss(_Healthy):
    """A spine that loses a share of all packets by chance, silently."""

    dc: int
    spine: int
    share: float

    def strike(self, traffic: Traffic) -> None:
        rows = traffic.over_spines(self.dc)
        there, back = traffic.by_spine(rows, self.dc, self.spine)
        traffic.lose_some(rows, self.share, there.astype(np.int64) + back)


@dataclass(frozen=True, slots=True)
class TorLoss(_Healthy):
    tor: int
    share: float

    def strike(self, traffic: Traffic) -> None:
        traffic.lose_some(traffic.over_tor(self.tor), self.share)


@dataclass(frozen=True, slots=True)
class HostLoss(_Healthy):
    """A bad cable or card."""

    host: int
    share: float

    def strike(self, traffic: Traffic) -> None:
        traffic.lose_some(traffic.ends_at(np.array([self.host])), self.share)


@dataclass(frozen=True, slots=True)
class AddressBlackHole(_Healthy):
    """Type 1: a ToR drops every packet whose (source, destination) falls into a broken part of its table.

    A connection needs both directions, so a pair is dead if either of them is hit.
    """

    tor: int
    share: float
    salt: int

    def strike(self, traffic: Traffic) -> None:
        rows = traffic.over_tor(self.tor)
        a, b = traffic.src[rows].astype(np.uint64), traffic.dst[rows].astype(np.uint64)
        hit = (_hash(a, b, self.salt) < self.share) | (_hash(b, a, self.salt) < self.share)
        traffic.lose(rows[hit])


@dataclass(frozen=True, slots=True)
class PortBlackHole(_Healthy):
    """Type 2: a ToR drops what falls into a broken part of its table by addresses and ports."""

    tor: int
    share: float

    def strike(self, traffic: Traffic) -> None:
        rows = traffic.over_tor(self.tor)
        bucket = (traffic.ports[rows] * np.uint32(2_654_435_761)) >> np.uint32(12)
        traffic.lose(rows, where=bucket < self.share * (1 << 20))


@dataclass(frozen=True, slots=True)
class SlowPair(_Healthy):
    """Two hosts with a detour between them. It is the same for whoever began the connection."""

    a: int
    b: int
    extra_us: float

    def strike(self, traffic: Traffic) -> None:
        rows = _between(traffic, self.a, self.b)
        traffic.delay(rows, traffic.rng.gamma(20, self.extra_us / 20, (len(rows), traffic.ports.shape[1])))


@dataclass(frozen=True, slots=True)
class FlappingPair(_Healthy):
    """Two hosts that hear of each other `up` of the time, in turns of `turn` probes."""

    a: int
    b: int
    up: float
    turn: int

    def strike(self, traffic: Traffic) -> None:
        rows, n = _between(traffic, self.a, self.b), traffic.ports.shape[1]
        down = traffic.rng.random(n // self.turn + 1).repeat(self.turn)[:n] >= self.up
        traffic.lose(rows, where=np.broadcast_to(down, (len(rows), n)))


@dataclass(frozen=True, slots=True)
class CongestedTor(_Healthy):
    """The uplinks of a ToR are full, from the rack upwards: latency first, loss second."""

    tor: int
    queue_us: float
    share: float

    def strike(self, traffic: Traffic) -> None:
        rows = traffic.leaving_tor(self.tor)
        full = traffic.rng.beta(2, 2, (len(rows), traffic.ports.shape[1]))
        traffic.delay(rows, full * self.queue_us)
        traffic.lose_some(rows, self.share, 1)


@dataclass(frozen=True, slots=True)
class CongestedLink(_Healthy):
    """One link from a leaf up to a spine is full: the few flows that the hashes send there wait, and lose a little."""

    podset: int
    leaf: int
    spine: int
    queue_us: float
    share: float

    def strike(self, traffic: Traffic) -> None:
        mesh = traffic.mesh
        rows = traffic.leaving_podset(self.podset)
        dc = int(mesh.dc[mesh.podset == self.podset][0])
        spine, leaf = traffic.by_spine(rows, dc, self.spine), traffic.by_leaf(rows, self.podset, self.leaf)
        begins = (mesh.podset[traffic.src[rows]] == self.podset)[:, None]
        up = np.where(begins, spine[0] & leaf[0], spine[1] & leaf[1])
        traffic.delay(rows, up * traffic.rng.beta(2, 2, up.shape) * self.queue_us)
        traffic.lose_some(rows, self.share, up.astype(np.int64))


def _between(traffic: Traffic, a: int, b: int) -> NDArray[np.intp]:
    forward = (traffic.src == a) & (traffic.dst == b)
    return np.flatnonzero(forward | ((traffic.src == b) & (traffic.dst == a)))


def _hash(a: NDArray[np.uint64], b: NDArray[np.uint64], salt: int) -> NDArray[np.float64]:
    """Return a number in 0…1 for each ordered pair (splitmix64's finaliser)."""
    x = a * np.uint64(1_000_003) + b + np.uint64(salt * 0x9E3779B97F4A7C15 % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(11)) / 2**53
