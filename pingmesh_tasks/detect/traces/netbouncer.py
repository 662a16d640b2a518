"""Which device or link loses packets, from traced paths and the share of packets that came through each.

NetBouncer (Tan et al., NSDI 2019): devices that are bad as a whole are taken away first, then the success of every link
is what fits the success of all paths best. `rank_traces` names the worst. Where paths are not known, `detect.mesh.scan`
ranks suspects by the two ends of pairs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pingmesh_tasks.fleet.trace_paths import PathTrace

Ints = NDArray[np.integer]
Floats = NDArray[np.float64]


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


def netbouncer(
    paths: Ints, success: Floats, *, penalty: float = 0.01, rounds: int = 100, settled: float = 1e-6
) -> Floats:
    """Return the success probability of every link, 0…1; NaN for a link on no path.

    `paths`: one row a path, the numbers of its links, filled up with −1. `success` is the share of each path's probes
    that came through. Minimises Σ (yⱼ − Π xᵢ)² + λ Σ xᵢ(1 − xᵢ) one link at a time. NetBouncer (Tan et al., NSDI
    2019, algorithm 2). The second term drives links to 0 or 1. Where so little goes through a link's paths that the
    term outweighs the first, the parabola opens downwards and the better end of 0…1 is taken: the reference divides
    by about zero there. A link below 0.999 is a bad one; take devices that are bad as a whole away before
    (`bad_devices`).
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
