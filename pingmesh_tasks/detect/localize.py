"""Whose fault it is: from which probes suffered to the device that most likely made them.

    paths unknown  rank_suspects   greatest likelihood over hosts, ToRs, podsets, spines: which one explains the most
                   screen_tors     racks whose edges to many other racks are bad, in, out or both
    paths known    vote_007        links voted for by the flows that lost something
                   netbouncer      the success of every link, from that of many paths; `rank_traces` names the worst

Paths are not in a probe, but in a Clos network its two ends say which tiers it crossed: same ToR, same podset (the
leaves of it), same DC (its spines), or several DCs. Pure NumPy on positions and counts; nothing here knows a threshold
of an alarm. A host is a position in `Places.names`, a pair two of them; "bad" counts the probes of a pair that
suffered, whatever the caller means by it (lost, sent again, slow).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pingmesh_tasks.detect.finding import Scope
from pingmesh_tasks.fleet.inventory import Inventory
from pingmesh_tasks.fleet.paths import PathTrace

Ints = NDArray[np.integer]
Floats = NDArray[np.float64]

#: A suspect must explain what it does so much better than chance: nats, beyond the logarithm of how many were asked.
LEAST_SCORE = 10.0
#: Above this variance/mean of its pairs a suspect's damage is uneven (a black hole): its pairs say nothing of others.
EVEN = 3.0


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


@dataclass(frozen=True, slots=True)
class RankedSuspect:
    """One suspect, told by what `Finding` calls it. `pairs` cross it; `bad` of the `sent` probes on them suffered.

    `expected` of them would have without it. `score` is the gain of log likelihood, in nats; `confidence` (0…1) that
    it is this one and no other; `explained` is its share of all probes that suffered.
    """

    scope: Scope
    subject: str
    score: float
    confidence: float
    pairs: int
    sent: int
    bad: int
    expected: float
    explained: float


@dataclass(frozen=True, slots=True)
class TorScreen:
    """A rack under suspicion. `downside`: what goes in is bad, `upside`: what comes out; shares of its edges, 0…1."""

    tor: str
    side: Literal["downside", "upside", "both"]
    score: float
    in_share: float
    out_share: float
    inside_bad: bool


def rank_suspects(
    places: Places,
    src: Ints,
    dst: Ints,
    sent: Ints,
    bad: Ints,
    *,
    baseline: float | Floats = 1e-4,
    most: int = 8,
    least_score: float = LEAST_SCORE,
) -> list[RankedSuspect]:
    """Return the suspects that best explain `bad` of `sent` probes a pair, those that explain most first.

    `baseline` is the share that suffers when all is well, one for all or one a pair. Greedy, as 007's loop (NSDI 2018)
    and Flock (CoNEXT 2023) do it: of all hosts, ToRs, podsets (their leaves), spines of a DC, links between DCs and
    suffering pairs, take the one whose crossing probes are least likely under what is known so far
    (Poisson: k ln(k/E) − (k − E)); then what it explains is expected, and the rest is asked again. A host and its ToR
    carry the same bad probes where only the host is at fault: the host wins, since less was expected of it. A suspect
    whose damage is uneven takes its pairs with it, for they tell nothing about the other things on their way. In the
    end all are asked once more, from narrow to wide: what its parts explain does not speak against the whole.
    """
    src, dst = np.asarray(src, np.int64), np.asarray(dst, np.int64)
    probes, hurt = np.asarray(sent, np.float64), np.asarray(bad, np.float64)
    ordinary = np.broadcast_to(np.asarray(baseline, np.float64), probes.shape)
    rate = ordinary.copy()
    total = float(hurt.sum())
    live = probes > 0
    racks = len(places.tor_names)
    edge = places.tor[src] * racks + places.tor[dst]
    pools = _pools(places, src, dst, hurt)
    least = least_score + math.log(sum(len(pool.names) for pool in pools))

    def crossing(pool: int, number: int) -> NDArray[np.bool_]:
        rows = pools[pool].rows_of(number)
        return rows[edge] if pools[pool].of_edges else rows

    def scores(weight: Floats) -> list[Floats]:
        by_pair = (np.where(weight > 0, hurt, 0.0), weight * rate)
        by_edge = tuple(np.bincount(edge, values, racks * racks) for values in by_pair)
        return [pool.score(*(by_edge if pool.of_edges else by_pair)) for pool in pools]

    chosen: list[tuple[int, int]] = []
    while len(chosen) < most:
        scored = scores(np.where(live, probes, 0.0))
        pool = max(range(len(pools)), key=lambda i: scored[i].max(initial=0.0))
        number = int(scored[pool].argmax()) if len(scored[pool]) else 0
        if not len(scored[pool]) or scored[pool][number] < least:
            break
        chosen.append((pool, number))
        rows = crossing(pool, number) & live
        rate[rows] = _with_share(rate[rows], probes[rows], hurt[rows])
        mean = probes[rows] * rate[rows]
        if ((hurt[rows] - mean) ** 2).sum() > EVEN * max(mean.sum(), 1e-9):
            live &= ~rows

    def explain(suspects: Sequence[tuple[int, int]]) -> Floats:
        """Return the rates that are to be expected with these suspects, asked from narrow to wide."""
        expected = ordinary.copy()
        for suspect in sorted(suspects):
            rows = crossing(*suspect)
            expected[rows] = _with_share(expected[rows], probes[rows], hurt[rows])
        return expected

    found: list[RankedSuspect] = []
    for suspect in sorted(chosen):
        rate = explain([other for other in chosen if other < suspect])
        if scores(probes)[suspect[0]][suspect[1]] < least:
            chosen.remove(suspect)
    for pool, number in chosen:
        rate = explain([other for other in chosen if other != (pool, number)])
        rows = crossing(pool, number)
        found.append(_suspect(pools[pool], number, scores(probes), pool, rows, src, probes, hurt, probes * rate, total))
    return sorted(found, key=lambda suspect: -suspect.score)


def screen_tors(
    places: Places,
    src: Ints,
    dst: Ints,
    degraded: NDArray[np.bool_],
    severity: Floats | None = None,
    *,
    share: float = 0.6,
) -> list[TorScreen]:
    """Return the racks whose edges are bad for most of their peers, worst first; needs no paths.

    An edge is all pairs from one ToR to another; it is bad where at least half of them are `degraded`. A ToR is
    suspected if `share` of its edges in (or out) are bad and its own inside is bad or unseen (or its targets are well
    when others ask); a bad edge between two racks that are well otherwise is a path, and names no rack. `severity`
    (0…1, one a pair) weighs in. After the analyzer design of yuuki/rpingmesh, `docs/design`: score = 0.5 max(in, out)
    + 0.2 inside + 0.3 severity, times 1 − 1/(1 + racks that see it).
    """
    racks = len(places.tor_names)
    edge = places.tor[src].astype(np.int64) * racks + places.tor[dst]
    pairs = np.bincount(edge, minlength=racks * racks).reshape(racks, racks)
    share_bad = np.bincount(edge, degraded, racks * racks).reshape(racks, racks) / np.maximum(pairs, 1)
    bad = (share_bad >= 0.5) & (pairs > 0)
    worst = np.zeros((racks, racks))
    np.maximum.at(
        worst.reshape(-1), edge, np.asarray(degraded if severity is None else severity * degraded, np.float64)
    )
    across = ~np.eye(racks, dtype=bool) & (pairs > 0)
    into, out = (
        (bad & across).sum(0) / np.maximum(across.sum(0), 1),
        (bad & across).sum(1) / np.maximum(across.sum(1), 1),
    )
    inside = bad.diagonal()
    unseen = pairs.diagonal() == 0
    screens = []
    for tor in np.flatnonzero((into >= share) | (out >= share)):
        others = across[:, across[tor]].copy()
        others[tor] = False
        targets_well = 1 - (bad[:, across[tor]] & others).sum() / max(others.sum(), 1) > 0.5
        down = into[tor] >= share and (inside[tor] or unseen[tor] or out[tor] >= share)
        up = out[tor] >= share and targets_well
        if not (down or up):
            continue
        hit = np.concatenate([worst[tor][bad[tor]], worst[:, tor][bad[:, tor]]])
        seen_by = int((bad[:, tor] | bad[tor]).sum())
        score = 0.5 * max(into[tor], out[tor]) + 0.2 * inside[tor] + 0.3 * float(np.mean(hit) if len(hit) else 0)
        score *= 1 - 1 / (1 + seen_by)
        side: Literal["downside", "upside", "both"] = "both" if down and up else "downside" if down else "upside"
        screens.append(
            TorScreen(places.tor_names[tor], side, score, float(into[tor]), float(out[tor]), bool(inside[tor]))
        )
    return sorted(screens, key=lambda screen: -screen.score)


def vote_007(paths: Ints, *, theta: float = 0.0025, most: int = 32) -> list[tuple[int, float]]:
    """Return (link, votes) in the order of blame, from the paths of the flows that lost a packet.

    `paths`: one row a flow, the numbers of its links, filled up with −1. Each link on a flow's path of h links gets
    1/h; the link with most votes is blamed if it has at least `theta` of all, its flows are taken away, and the rest
    votes again. 007 (Arzani et al., NSDI 2018); `theta` as in the authors' code.
    """
    paths = np.asarray(paths, np.int64)
    length = (paths >= 0).sum(axis=1)
    if not len(paths) or not length.any():
        return []
    each = np.where(length > 0, 1 / np.maximum(length, 1), 0.0)
    blamed: list[tuple[int, float]] = []
    while len(blamed) < most and len(paths):
        on = paths >= 0
        votes = np.bincount(paths[on], np.broadcast_to(each[:, None], paths.shape)[on])
        top = int(votes.argmax()) if len(votes) else 0
        if not len(votes) or votes[top] <= 0 or votes[top] < theta * votes.sum():
            break
        blamed.append((top, float(votes[top])))
        rest = ~(paths == top).any(axis=1)
        paths, each = paths[rest], each[rest]
    return blamed


def netbouncer(
    paths: Ints, success: Floats, *, penalty: float = 0.01, rounds: int = 100, settled: float = 1e-6
) -> Floats:
    """Return the success probability of every link, 0…1; NaN for a link on no path.

    `paths` as for `vote_007`; `success` is the share of each path's probes that came through. Minimises
    Σ (yⱼ − Π xᵢ)² + λ Σ xᵢ(1 − xᵢ) one link at a time. NetBouncer (Tan et al., NSDI 2019, algorithm 2). The second
    term drives links to 0 or 1. Where so little goes through a link's paths that the term outweighs the first, the
    parabola opens downwards and the better end of 0…1 is taken: the reference divides by about zero there. A link
    below 0.999 is a bad one; take devices that are bad as a whole away before (`bad_devices`).
    """
    paths, success = np.asarray(paths, np.int64), np.asarray(success, np.float64)
    links = int(paths.max(initial=-1)) + 1
    on = [np.flatnonzero((paths == link).any(axis=1)) for link in range(links)]
    x = np.array([success[rows].mean() if len(rows) else np.nan for rows in on] + [1.0])  # x[-1] fills up paths

    def error() -> float:
        residual = ((success - x[paths].prod(axis=1)) ** 2).sum()
        return float(residual + penalty * np.nansum(x[:-1] * (1 - x[:-1])))

    before = error()
    for _ in range(rounds):
        for link, rows in enumerate(on):
            if not len(rows):
                continue
            x[link] = 1.0
            others = x[paths[rows]].prod(axis=1)
            x[link] = _best(float((others**2).sum()), float((others * success[rows]).sum()), penalty)
        now = error()
        if abs(before - now) < settled:
            break
        before = now
    return x[:-1]


def bad_devices(paths: Ints, success: Floats, *, share: float = 0.2, lossy: float = 0.999) -> list[int]:
    """Return the devices more than `share` of whose paths lose packets, worst first.

    `paths` here are numbers of devices, in the order of the way. NetBouncer's RemoveBadDevices, with two changes for
    small networks, where a quarter of a good leaf's paths cross one bad spine: the worst is taken, and its paths with
    it, before the next is judged; and a device whose losing paths all come from one neighbour, or go to one, is left
    to `netbouncer`, which blames that link.
    """
    paths, losing = np.asarray(paths, np.int64), np.asarray(success, np.float64) < lossy
    found: list[int] = []
    while losing.any():
        on = paths >= 0
        crossing = np.bincount(paths[on])
        hit = np.bincount(paths[on], np.broadcast_to(losing[:, None], paths.shape)[on], minlength=len(crossing))
        shares = hit / np.maximum(crossing, 1)
        candidates = [int(device) for device in np.lexsort((hit, shares))[::-1] if shares[device] > share]
        worst = next((device for device in candidates if not _is_one_link(paths[losing], device)), None)
        if worst is None:
            break
        found.append(worst)
        rest = ~(paths == worst).any(axis=1)
        paths, losing = paths[rest], losing[rest]
    return found


def rank_hops(paths: Sequence[Sequence[str]], success: Sequence[float]) -> list[tuple[str, float]]:
    """Return (device, or link `a→b`; loss 0…1), worst first, from traced paths and the share that came through each.

    Each path names its hops in order; repeat a path for every port. Devices that are bad as a whole come first, then
    what NetBouncer says of the links of the others.
    """
    y = np.asarray(success, np.float64)
    devices, device_names = _padded([list(path) for path in paths])
    guilty = bad_devices(devices, y)
    rest = np.asarray(~np.isin(devices, guilty).any(axis=1))
    ranked = [(device_names[d], float(1 - y[(devices == d).any(axis=1)].mean())) for d in guilty]
    pairs = [[f"{a}→{b}" for a, b in pairwise(path)] for path, kept in zip(paths, rest.tolist(), strict=True) if kept]
    if pairs:
        links, link_names = _padded(pairs)
        x = netbouncer(links, y[rest])
        worst = [(link_names[i], float(1 - x[i])) for i in np.argsort(x, kind="stable") if 1 - x[i] >= 0.001]
        ranked += worst
    return ranked


def rank_traces(traces: Iterable[PathTrace]) -> list[tuple[str, float]]:
    """Return what `rank_hops` says of all ways that traces found whole, between any hosts and in both directions.

    Source ports that took the same way count as one; its success is that of the packets meant for the target. A port
    that stops on the way has no way: `hops.find_loss` says where it stops.
    """
    packets: dict[tuple[str, ...], list[int]] = {}
    for trace in traces:
        for path in trace.paths:
            routers = [hop.router for hop in path.hops[:-1]]
            if not path.reached or None in routers:
                continue
            way = (trace.source, *(router for router in routers if router), trace.destination)
            counts = packets.setdefault(way, [0, 0])
            for hop in (path.hops[-1], path.directly):
                if hop is not None:
                    counts[0], counts[1] = counts[0] + hop.sent, counts[1] + hop.answered
    known = {way: answered / sent for way, (sent, answered) in packets.items() if sent}
    return rank_hops(list(known), list(known.values()))


# ---- pools of pairs that cross one thing


@dataclass(frozen=True, slots=True)
class _Pool:
    """Things of one kind. A pair crosses `a` and, where it is another one, `b`; `len(names)` stands for none.

    `of_edges`: the rows are not pairs of hosts but pairs of racks, racks² of them, which is all that such a thing
    depends on.
    """

    scope: Scope
    names: Sequence[str]
    a: Ints
    b: Ints | None = None
    of_edges: bool = True

    def score(self, bad: Floats, expected: Floats) -> Floats:
        """Return the log likelihood ratio of every thing: how much better it is to say that it adds something."""
        k, e = self._sum(bad), np.maximum(self._sum(expected), 1e-9)
        gain = np.where(k > e, k * np.log(np.maximum(k, 1e-9) / e) - (k - e), 0.0)
        return np.asarray(gain)

    def rows_of(self, number: int) -> NDArray[np.bool_]:
        first = np.asarray(self.a == number)
        return first if self.b is None else np.asarray(first | (self.b == number))

    def _sum(self, values: Floats) -> Floats:
        count = len(self.names)
        summed = np.bincount(self.a, values, count + 1)
        if self.b is not None:
            summed += np.bincount(self.b, values, count + 1)
        return np.asarray(summed[:count], np.float64)


def _pools(places: Places, src: Ints, dst: Ints, bad: Floats) -> list[_Pool]:
    """Return the candidates. On a tie the first wins, so they go from narrow to wide."""
    racks = len(places.tor_names)
    podset_of, dc_of = np.zeros(racks, np.int64), np.zeros(racks, np.int64)
    podset_of[places.tor], dc_of[places.tor] = places.podset, places.dc
    a, b = np.divmod(np.arange(racks * racks), racks)

    def pool(scope: Scope, names: Sequence[str], of: Ints, crossed: NDArray[np.bool_]) -> _Pool:
        nothing = len(names)
        first, second = np.where(crossed, of[a], nothing), np.where(crossed & (of[a] != of[b]), of[b], nothing)
        return _Pool(scope, names, first, second)

    spines = [f"{dc}/spine" for dc in places.dc_names]
    return [
        _suffering_pairs(places, src, dst, bad),
        _Pool("host", places.names, src, np.where(src == dst, len(places.names), dst), of_edges=False),
        pool("tor", places.tor_names, np.arange(racks), np.full(racks * racks, True)),
        pool("podset", places.podset_names, podset_of, a != b),
        pool("tier", spines, dc_of, np.asarray(podset_of[a] != podset_of[b])),
        _Pool("tier", ["inter_dc"], np.where(dc_of[a] != dc_of[b], 0, 1)),
    ]


def _suffering_pairs(places: Places, src: Ints, dst: Ints, bad: Floats) -> _Pool:
    """Return the pairs that suffer in either direction, as one thing each: it is one wire."""
    key = np.minimum(src, dst) * len(places.names) + np.maximum(src, dst)
    known = np.unique(key[bad > 0])
    low, high = np.divmod(known, len(places.names))
    names = [f"{places.names[a]}>{places.names[b]}" for a, b in zip(low.tolist(), high.tolist(), strict=True)]
    at = np.searchsorted(known, key)
    known = np.append(known, -1)
    return _Pool("pair", names, np.where(known[at] == key, at, len(names)), of_edges=False)


def _with_share(rate: Floats, sent: Floats, bad: Floats) -> Floats:
    """Return the rates of pairs that cross something which adds what they suffer beyond them."""
    free = float((sent * (1 - rate)).sum())
    share = min(max(float(bad.sum() - (sent * rate).sum()) / max(free, 1e-9), 0.0), 1.0)
    return np.asarray(1 - (1 - rate) * (1 - share))


def _suspect(
    pool: _Pool,
    number: int,
    scored: list[Floats],
    at: int,
    rows: NDArray[np.bool_],
    src: Ints,
    sent: Floats,
    bad: Floats,
    expected: Floats,
    total: float,
) -> RankedSuspect:
    """Return the winner of a round. Confidence: its lead over the best other one, and how many hosts bear witness."""
    best = float(scored[at][number])
    runner_up = max(
        float(np.delete(scores, number).max(initial=0.0)) if i == at else float(scores.max(initial=0.0))
        for i, scores in enumerate(scored)
    )
    lead = 1 / (1 + math.exp(min(runner_up - best, 50.0)))
    witnesses = len(np.unique(src[rows & (bad > 0)]))
    return RankedSuspect(
        pool.scope,
        pool.names[number],
        best,
        lead * (1 - 1 / (1 + witnesses)),
        int(rows.sum()),
        int(sent[rows].sum()),
        int(bad[rows].sum()),
        float(expected[rows].sum()),
        float(bad[rows].sum() / max(total, 1.0)),
    )


def _is_one_link(losing: Ints, device: int) -> bool:
    """Tell whether all losing paths through a device share the link by which they come to it, or leave it."""
    rows, columns = np.nonzero(losing == device)
    fenced = np.pad(losing, ((0, 0), (1, 1)), constant_values=-1)
    before, after = fenced[rows, columns], fenced[rows, columns + 2]
    return any(len(np.unique(side)) == 1 and side[0] >= 0 for side in (before, after))


def _best(squares: float, products: float, penalty: float) -> float:
    """Return the x in 0…1 with the least squares·x² − 2·products·x + penalty·x(1 − x)."""
    if squares > penalty:
        return min(max((2 * products - penalty) / (2 * (squares - penalty)), 0.0), 1.0)
    return 1.0 if squares - 2 * products < 0 else 0.0


def _padded(paths: list[list[str]]) -> tuple[Ints, list[str]]:
    """Return paths of names as rows of numbers, filled up with −1, and the names."""
    number = {name: i for i, name in enumerate(dict.fromkeys(name for path in paths for name in path))}
    rows = np.full((len(paths), max(map(len, paths), default=0)), -1)
    for i, path in enumerate(paths):
        rows[i, : len(path)] = [number[name] for name in path]
    return rows, list(number)


def _numbered(names: list[str]) -> tuple[Ints, tuple[str, ...]]:
    number = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return np.array([number[name] for name in names], np.int32), tuple(number)
