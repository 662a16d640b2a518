"""A simulated Clos network under probes: what every agent would have seen, window by window, well or broken.

    mesh = Mesh(SHAPES[512], seed=7)
    seen = mesh.window(12, [SpineLoss(dc=0, spine=3, share=0.01)])      # see `mesh_faults`
    seen.pairs, seen.status                                             # what `MeshView` takes

It simulates packets, not detectors. Every probe is a connection with a source port of its own, so that each of its two
directions takes leaves and a spine of its own (ECMP), and its repeats take the same ones again. A fault sits in one
device or link and does one thing to the packets that cross it: delays them, loses some by chance (the repeat may get
through), or loses those with certain addresses or ports (no repeat does). What a window shows follows from that.

A healthy network is not silent: round trips have a mode for each path and each host, interrupts and queues, a Pareto
tail, a load that goes with the hour and jumps in a rack now and then; a few hosts are slow to answer; 1e-5 to 1e-4 of
all packets are lost; a host's segment is missing now and then. What was taken from where: drop rates from Pingmesh
(SIGCOMM 2015, §4.2), retransmits and shares of a fault from real probes in network namespaces (`test_lab_detection`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pingmesh_tasks.store.schemas import HOST_STATUS, PAIR_LATENCY
from pingmesh_tasks.topology.inventory import Host, Inventory
from pingmesh_tasks.topology.pinglist import PinglistPolicy, plan_pinglists, planned_pairs

START = datetime(2026, 11, 21, tzinfo=UTC)
BLOCK = 1 << 18  # pairs that are simulated at a time
COLUMNS = (
    *("src", "dst", "protocol", "scope", "sent", "answered", "lost", "retransmitted", "refused", "unreachable"),
    *("reset", "bad_reply", "local_error", "rtt_min_us", "rtt_p50_us", "rtt_p99_us", "rtt_mean_us"),
)
SCOPES = ("intra_tor", "intra_dc", "inter_dc")
SCOPE = pl.Enum(SCOPES)

# What became of a probe.
OK, LOST, REFUSED, UNREACHABLE, NOT_SENT = range(5)

MISSING_SEGMENTS = 5e-4  # of hosts and windows
SLOW_HOSTS = 0.03
RACK_BURSTS = 2e-3  # of racks and windows: a backup, a shuffle
LOST_AGAIN = 0.1  # of repeats, after a loss by chance: losses come in bursts


@dataclass(frozen=True, slots=True)
class Shape:
    """How many of what: DCs, podsets a DC, ToRs a podset, hosts a ToR, leaves a podset, spines a DC (2^n of both)."""

    dcs: int
    podsets: int
    tors: int
    per_tor: int
    leaves: int = 4
    spines: int = 8

    def inventory(self) -> Inventory:
        places = np.ndindex(self.dcs, self.podsets, self.tors, self.per_tor)
        return Inventory(
            tuple(
                Host(
                    f"d{d + 1}p{p + 1}t{t + 1:02}h{h + 1:02}",
                    f"10.{d * self.podsets + p}.{t}.{h + 1}",
                    f"dc{d + 1}",
                    f"podset{p + 1}",
                    f"tor{t + 1}",
                )
                for d, p, t, h in places
            ),
            has_topology=True,
        )


SHAPES = {
    64: Shape(1, 4, 4, 4, leaves=2, spines=4),
    512: Shape(2, 4, 8, 8, leaves=4, spines=8),
    2_500: Shape(2, 5, 10, 25, leaves=4, spines=16),
}


@dataclass(frozen=True, slots=True)
class Seen:
    """One window as it reaches detection: `pairs` (COLUMNS of PAIR_LATENCY) and `status` (HOST_STATUS)."""

    pairs: pl.DataFrame
    status: pl.DataFrame
    at: datetime


class Fault(Protocol):
    """Something broken. `strike` changes what becomes of probes, `mute` names the hosts that are not collected."""

    def strike(self, traffic: Traffic) -> None: ...

    def mute(self, mesh: Mesh) -> NDArray[np.intp]: ...


@dataclass
class Traffic:
    """The probes of some pairs in some part of a window: arrays of (pair, probe), changed in place by faults.

    `ports` stands for the hash of a probe's five-tuple: its bits choose the devices of both directions.
    `passes` is the probability that one try of the probe survives both directions.
    """

    mesh: Mesh
    src: NDArray[np.int32]
    dst: NDArray[np.int32]
    ports: NDArray[np.uint32]
    rtt_us: NDArray[np.float32]
    passes: NDArray[np.float32]
    outcome: NDArray[np.uint8]
    rng: np.random.Generator

    def during(self, begin: float, end: float) -> Traffic:
        """Return the part of the window between two shares of its length."""
        at = slice(round(begin * self.ports.shape[1]), round(end * self.ports.shape[1]))
        parts = {name: getattr(self, name)[:, at] for name in ("ports", "rtt_us", "passes", "outcome")}
        return replace(self, **parts)

    # ---- who crosses what

    def ends_at(self, hosts: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the pairs that begin or end at one of `hosts`."""
        member = np.zeros(len(self.mesh.tor), bool)
        member[hosts] = True
        return np.flatnonzero(member[self.src] | member[self.dst])

    def over_tor(self, tor: int) -> NDArray[np.intp]:
        return np.flatnonzero((self.mesh.tor[self.src] == tor) | (self.mesh.tor[self.dst] == tor))

    def leaving_tor(self, tor: int) -> NDArray[np.intp]:
        return np.flatnonzero((self.mesh.tor[self.src] == tor) ^ (self.mesh.tor[self.dst] == tor))

    def over_leaves(self, podset: int) -> NDArray[np.intp]:
        """Return the pairs that cross the leaves of a podset: all between its racks, and to and from other podsets."""
        mesh = self.mesh
        inside = (mesh.podset[self.src] == podset) | (mesh.podset[self.dst] == podset)
        return np.flatnonzero(inside & (mesh.tor[self.src] != mesh.tor[self.dst]))

    def leaving_podset(self, podset: int) -> NDArray[np.intp]:
        return np.flatnonzero((self.mesh.podset[self.src] == podset) ^ (self.mesh.podset[self.dst] == podset))

    def over_spines(self, dc: int) -> NDArray[np.intp]:
        mesh = self.mesh
        there = (mesh.dc[self.src] == dc) | (mesh.dc[self.dst] == dc)
        return np.flatnonzero(there & (mesh.podset[self.src] != mesh.podset[self.dst]))

    def by_spine(self, rows: NDArray[np.intp], dc: int, spine: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which probes of `rows` cross a spine on the way there, and on the way back.

        Between DCs a direction crosses a spine of either; within one, one.
        """
        ports, spines = self.ports[rows], self.mesh.shape.spines
        first = (self.mesh.dc[self.src[rows]] == dc)[:, None]
        there = np.where(first, ports, ports >> 4) % spines == spine
        back = np.where(first, ports >> 16, ports >> 20) % spines == spine
        return there, back

    def by_leaf(self, rows: NDArray[np.intp], podset: int, leaf: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which probes of `rows` cross a leaf of `podset` on the way there, and on the way back.

        In a podset there is one leaf between two racks, the one that the sender's ToR chose.
        """
        ports, leaves = self.ports[rows], self.mesh.shape.leaves
        first = (self.mesh.podset[self.src[rows]] == podset)[:, None]
        there = np.where(first, ports >> 8, ports >> 10) % leaves == leaf
        back = np.where(first, ports >> 24, ports >> 26) % leaves == leaf
        return there, back

    # ---- what happens to it

    def lose(self, rows: NDArray[np.intp], outcome: int = LOST, where: NDArray[np.bool_] | None = None) -> None:
        """Lose probes of `rows` (those `where` it is true) for good: every repeat meets the same end."""
        before = self.outcome[rows]
        hit = before != NOT_SENT if where is None else where & (before != NOT_SENT)
        self.outcome[rows] = np.where(hit, np.uint8(outcome), before)

    def lose_some(self, rows: NDArray[np.intp], share: float, crossings: NDArray[np.int64] | int = 2) -> None:
        """Lose a share of the packets of `rows` by chance; a try crosses the culprit so many times, there and back."""
        self.passes[rows] *= np.float32(1 - share) ** crossings

    def delay(self, rows: NDArray[np.intp], extra_us: NDArray[np.float64] | float) -> None:
        self.rtt_us[rows] += np.asarray(extra_us, np.float32)


@dataclass(frozen=True, slots=True)
class Active:
    """A fault in the part of a window in which it is there."""

    fault: Fault
    begin: float = 0.0
    end: float = 1.0


@dataclass
class Mesh:
    """A network with its hosts and their ping lists. The same shape and seed give the same windows.

    `full`: everybody probes everybody, else the lists of `plan_pinglists`. `probes` a pair and window: 30 is 10 s in
    5 min, 6 is the last minute of the hot lane.
    """

    shape: Shape
    seed: int
    full: bool = False
    probes: int = 30
    interval_s: float = 10.0
    inventory: Inventory = field(init=False)

    def __post_init__(self) -> None:
        self.inventory = self.shape.inventory()
        rng = np.random.default_rng([self.seed, 1])
        hosts = self.inventory.hosts
        self.names = [host.name for host in hosts]
        self.tor, self.podset, self.dc = (
            _codes([key[:depth] for key in (host.tor_key for host in hosts)]) for depth in (3, 2, 1)
        )
        self.src, self.dst = self._planned()
        self.scope = np.where(
            self.tor[self.src] == self.tor[self.dst], 0, np.where(self.dc[self.src] == self.dc[self.dst], 1, 2)
        ).astype(np.uint8)
        self.frame = self._who()
        # ---- what this network is like
        n, racks, dcs = len(hosts), self.tor.max() + 1, self.shape.dcs
        self.tries = int(rng.choice([2, 3]))  # within the timeout: an older and a newer kernel's SYN timers
        self.drop_rate = 10 ** rng.uniform(-5, -4)
        self.tail = 10 ** rng.uniform(-3.5, -2.7)
        host_us = rng.gamma(4, 2.5, n)  # each host's own stack
        self.slow = rng.random(n) < SLOW_HOSTS
        self.slow_us = rng.uniform(100, 800, n) * self.slow
        far_us = rng.uniform(500, 30_000, (dcs, dcs))
        far_us = np.triu(far_us, 1) + np.triu(far_us, 1).T
        hops = 1 + (self.tor[self.src] != self.tor[self.dst]) + 1.0 * (self.podset[self.src] != self.podset[self.dst])
        self.base_us = (host_us[self.src] + host_us[self.dst] + 12 * hops).astype(np.float32)
        self.base_us += far_us[self.dc[self.src], self.dc[self.dst]].astype(np.float32)
        # A mode a path: cables and chips differ, and one spine in eight sits a hall away.
        self.leaf_us = rng.uniform(0, 6, 256).astype(np.float32)
        self.spine_us = (rng.uniform(0, 8, 256) + 25 * (rng.random(256) < 0.125)).astype(np.float32)
        self.host_drops = rng.lognormal(-0.5, 1.0, n)  # mean 1
        self._racks = int(racks)

    def window(self, number: int, faults: Sequence[Fault | Active] = ()) -> Seen:
        """Return what the hosts saw in window `number` (from 0), with `faults` in force in all or part of it."""
        active = [fault if isinstance(fault, Active) else Active(fault) for fault in faults]
        rng = np.random.default_rng([self.seed, 2, number])
        span = timedelta(seconds=self.probes * self.interval_s)
        at = START + number * span
        hour = (at - START).total_seconds() / 86_400
        load = 1 + 0.5 * np.sin(2 * np.pi * hour)
        rack_load = load * rng.lognormal(0, 0.2, self._racks)
        rack_load[rng.random(self._racks) < RACK_BURSTS] *= 15
        missing = rng.random(len(self.names)) < MISSING_SEGMENTS
        unreached = np.zeros(len(self.names), bool)
        for each in active:
            unreached[each.fault.mute(self)] = True
        counted = [self._count(rows, rng, rack_load, missing | unreached, active) for rows in _blocks(len(self.src))]
        columns = {name: np.concatenate([part[name] for part in counted]) for name in counted[0]}
        return Seen(self._pairs(columns), self._status(at, missing, unreached), at + span)

    def _count(
        self,
        rows: slice,
        rng: np.random.Generator,
        rack_load: NDArray[np.float64],
        silent: NDArray[np.bool_],
        active: Sequence[Active],
    ) -> dict[str, NDArray[np.float64]]:
        """Send the probes of some pairs and count what came of them."""
        src, dst = self.src[rows], self.dst[rows]
        size = (len(src), self.probes)
        traffic = Traffic(
            self,
            src,
            dst,
            ports=rng.integers(0, 1 << 32, size, np.uint32),
            rtt_us=rng.standard_exponential(size, np.float32),
            passes=np.ones(size, np.float32),
            outcome=np.zeros(size, np.uint8),
            rng=rng,
        )
        self._queue(traffic, rows, rack_load)
        traffic.outcome[silent[src]] = NOT_SENT
        for each in active:
            each.fault.strike(traffic.during(each.begin, each.end))
        retransmitted = self._repeat(traffic)
        clean = (traffic.outcome == OK) & ~retransmitted
        n = clean.sum(axis=1)
        traffic.rtt_us[~clean] = 0
        mean = traffic.rtt_us.sum(axis=1, dtype=np.float64) / np.where(n, n, np.nan)
        traffic.rtt_us[~clean] = np.inf
        traffic.rtt_us.sort(axis=1)
        every = np.arange(len(src))

        def quantile(q: float) -> NDArray[np.float64]:
            rank = np.maximum(np.ceil(q * n - 1e-9).astype(np.intp) - 1, 0)
            return np.where(n > 0, np.rint(traffic.rtt_us[every, rank].astype(np.float64)), np.nan)

        outcome = {name: (traffic.outcome == code).sum(axis=1) for name, code in _COUNTED.items()}
        return {
            **outcome,
            "retransmitted": retransmitted.sum(axis=1),
            "sent": (traffic.outcome != NOT_SENT).sum(axis=1),
            "rtt_min_us": quantile(0),
            "rtt_p50_us": quantile(0.5),
            "rtt_p99_us": quantile(0.99),
            "rtt_mean_us": mean,
        }

    def _queue(self, traffic: Traffic, rows: slice, rack_load: NDArray[np.float64]) -> None:
        """Turn unit exponentials into round trips: base, path modes, queues, interrupts, slow hosts, the tail."""
        rng, src, dst, rtt = traffic.rng, traffic.src, traffic.dst, traffic.rtt_us
        rtt *= (3 * (rack_load[self.tor[src]] + rack_load[self.tor[dst]])).astype(np.float32)[:, None]
        rtt += self.base_us[rows, None]
        up = self.tor[src] != self.tor[dst]
        rtt += self.leaf_us[traffic.ports >> 8 & 255] * up[:, None]
        rtt += self.spine_us[traffic.ports & 255] * (self.podset[src] != self.podset[dst])[:, None]
        flat = rtt.reshape(-1)
        woken = rng.integers(0, flat.size, rng.binomial(flat.size, 0.04))
        flat[woken] += rng.uniform(20, 80, len(woken)).astype(np.float32)
        late = rng.integers(0, flat.size, rng.binomial(flat.size, self.tail))
        flat[late] += np.minimum(200 * rng.random(len(late)) ** (-1 / 1.5), 60_000).astype(np.float32)
        sluggish = np.flatnonzero(self.slow[dst] | self.slow[src])
        extra = (self.slow_us[dst] + self.slow_us[src])[sluggish, None]
        rtt[sluggish] += (extra * rng.gamma(2, 0.5, (len(sluggish), rtt.shape[1]))).astype(np.float32)

    def _repeat(self, traffic: Traffic) -> NDArray[np.bool_]:
        """Let every probe try until it gets through or time is up; return which did so only with a repeat."""
        rng, flat_outcome = traffic.rng, traffic.outcome.reshape(-1)
        retransmitted = np.zeros(flat_outcome.size, bool)
        chance = self.drop_rate * (self.host_drops[traffic.src] + self.host_drops[traffic.dst]) / 2
        probes = traffic.ports.shape[1]
        unlucky = np.flatnonzero(rng.poisson(chance * probes))
        at = unlucky * probes + rng.integers(0, probes, len(unlucky))
        again = rng.random((len(at), self.tries - 1)) < LOST_AGAIN
        _settle(flat_outcome, retransmitted, at, again.all(axis=1))

        passes = traffic.passes.reshape(-1)
        at = np.flatnonzero(passes < 1)
        lost = rng.random((len(at), self.tries)) >= passes[at, None]
        first = lost[:, 0]
        _settle(flat_outcome, retransmitted, at[first], lost[first].all(axis=1))
        return retransmitted.reshape(traffic.outcome.shape)

    def _planned(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        n = len(self.names)
        if self.full:
            src, dst = np.divmod(np.arange(n * n, dtype=np.int32), np.int32(n))
            return src[src != dst], dst[src != dst]
        plan = planned_pairs(plan_pinglists(self.inventory, PinglistPolicy(interval_s=self.interval_s)))
        number = pl.Enum(self.names)
        return tuple(plan[end].cast(number).to_physical().to_numpy().astype(np.int32) for end in ("src", "dst"))  # type: ignore[return-value]

    def _who(self) -> pl.DataFrame:
        """Return the four columns that are the same in every window."""
        names = pl.Series(self.names, dtype=pl.String)
        return pl.DataFrame(
            {
                "src": names.gather(self.src),
                "dst": names.gather(self.dst),
                "protocol": pl.Series(["tcp"]).new_from_index(0, len(self.src)),
                "scope": pl.Series(SCOPES).gather(self.scope),
            }
        )

    def _pairs(self, columns: dict[str, NDArray[np.float64]]) -> pl.DataFrame:
        zero = np.zeros(len(self.src), np.uint32)
        nothing = dict.fromkeys(("reset", "bad_reply", "local_error"), zero)
        counts = pl.DataFrame({**columns, **nothing}).with_columns(pl.col("^rtt_.*$").fill_nan(None))
        counts = counts.cast({name: PAIR_LATENCY[name] for name in counts.columns})  # type: ignore[misc]
        return self.frame.hstack(counts).select(COLUMNS)

    def _status(self, at: datetime, missing: NDArray[np.bool_], unreached: NDArray[np.bool_]) -> pl.DataFrame:
        outcome = np.where(unreached, "unreachable", np.where(missing, "timeout", "ok"))
        empty = {name: pl.lit(None, kind) for name, kind in HOST_STATUS.items()}
        rows = pl.DataFrame({"host": self.names, "outcome": outcome})
        known = {"window": pl.lit(at, HOST_STATUS["window"]), "stage": pl.lit("collect"), "detail": pl.lit("")}
        return rows.with_columns(**{n: e for n, e in (empty | known).items() if n not in rows.columns}).select(
            list(HOST_STATUS)
        )


_COUNTED = {"answered": OK, "lost": LOST, "refused": REFUSED, "unreachable": UNREACHABLE}


def _settle(
    outcome: NDArray[np.uint8], retransmitted: NDArray[np.bool_], at: NDArray[np.intp], for_good: NDArray[np.bool_]
) -> None:
    """File probes that lost their first packet, and perhaps all; those that met another end before keep it."""
    fresh = outcome[at] == OK
    at, for_good = at[fresh], for_good[fresh]
    retransmitted[at[~for_good]] = True
    outcome[at[for_good]] = LOST
    retransmitted[at[for_good]] = False


def _codes(keys: list[tuple[str, ...]]) -> NDArray[np.int32]:
    number = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    return np.array([number[key] for key in keys], np.int32)


def _blocks(rows: int) -> Iterator[slice]:
    for begin in range(0, rows, BLOCK):
        yield slice(begin, min(begin + BLOCK, rows))
