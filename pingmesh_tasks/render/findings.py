"""What stands beside a heatmap: which hosts are gone, and the three worst of the other pairs.

A dead host makes all of its pairs look terrible; it is one finding, not n. So hosts come first, by name, and the
worst pairs are looked for among those that no host on the list explains.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pingmesh_tasks.render.mesh import Bools, CodedPairs
from pingmesh_tasks.render.theme import Floats

#: From this share of unanswered probes on, a pair is bad for its loss, however fast its answers are.
LOSSY = 0.01
WORST = 3


@dataclass(frozen=True, slots=True)
class WorstPair:
    """One ringed pair. `src`, `dst`: positions in the inventory; `times`: the value against its scope's median."""

    src: int
    dst: int
    value: float
    times: float
    failed: bool
    unanswered: float
    loss: float
    sent: int


@dataclass(frozen=True)
class Findings:
    """Hosts that reported nothing (`no_data`), answered nobody (`unreachable`) or got no answer (`cut_off`); totals."""

    no_data: tuple[str, ...]
    unreachable: tuple[str, ...]
    cut_off: tuple[str, ...]
    worst: tuple[WorstPair, ...]
    pairs: int
    failed: int
    missing: int
    sent: int
    answered: int
    lost: int


def find(coded: CodedPairs) -> Findings:
    """Return the findings of one window. Deterministic: ties go to the earlier source, then destination."""
    hosts = coded.axis.hosts
    silent = coded.sent == 0
    failed = ~silent & (coded.answered == 0)
    out_all, in_all = _count(coded.src, ~silent, len(hosts)), _count(coded.dst, ~silent, len(hosts))
    no_data = (_count(coded.src, silent, len(hosts)) > 0) & (out_all == 0)
    unreachable = (in_all > 0) & (_count(coded.dst, failed, len(hosts)) == in_all)
    cut_off = (out_all > 0) & (_count(coded.src, failed, len(hosts)) == out_all)
    explained = no_data | unreachable | cut_off
    return Findings(
        no_data=_named(hosts, no_data),
        unreachable=_named(hosts, unreachable),
        cut_off=_named(hosts, cut_off),
        worst=_worst(coded, failed, silent, explained),
        pairs=len(coded.src),
        failed=int(failed.sum()),
        missing=int(silent.sum()),
        sent=int(coded.sent.sum(dtype=np.int64)),
        answered=int(coded.answered.sum(dtype=np.int64)),
        lost=int(coded.lost.sum(dtype=np.int64)),
    )


def _worst(coded: CodedPairs, failed: Bools, silent: Bools, explained: Bools) -> tuple[WorstPair, ...]:
    """Failed pairs first (by probes sent), then lossy ones (by share), then slow ones (against the scope's median)."""
    free = ~silent & ~(explained[coded.src] | explained[coded.dst])
    if not free.any():
        free = ~silent
    times = coded.value / _scope_medians(coded)
    with np.errstate(invalid="ignore", divide="ignore"):
        unanswered = 1.0 - coded.answered / np.where(silent, 1, coded.sent)
    score = np.minimum(np.nan_to_num(times, nan=0.0, posinf=0.0), 1e5)
    score = np.where(unanswered >= LOSSY, 1e6 * (1 + unanswered), score)
    score = np.where(failed, 1e8 + coded.sent, score)
    score[~free] = -1.0
    count = min(WORST, int(free.sum()))
    if not count:
        return ()
    floor = np.partition(score, len(score) - count)[len(score) - count]
    near = np.flatnonzero(score >= floor)
    order = np.lexsort((coded.dst[near], coded.src[near], -score[near]))[:count]
    return tuple(
        WorstPair(
            src=int(coded.src[i]),
            dst=int(coded.dst[i]),
            value=float(coded.value[i]),
            times=float(times[i]),
            failed=bool(failed[i]),
            unanswered=float(unanswered[i]),
            loss=float(coded.lost[i] / coded.sent[i]),
            sent=int(coded.sent[i]),
        )
        for i in near[order]
    )


def _scope_medians(coded: CodedPairs) -> Floats:
    """Return for each pair the median value of its scope: same ToR, same DC or between DCs."""
    tor, dc = coded.axis.scopes[:, 0], coded.axis.scopes[:, 1]
    scope = np.where(tor[coded.src] == tor[coded.dst], 0, np.where(dc[coded.src] == dc[coded.dst], 1, 2))
    medians = np.full(3, np.nan)
    usable = np.isfinite(coded.value)
    for s in range(3):
        values = coded.value[usable & (scope == s)]
        if values.size and (median := float(np.median(values))) > 0:
            medians[s] = median
    return np.asarray(medians[scope], dtype=np.float64)


def _named(hosts: tuple[str, ...], which: Bools) -> tuple[str, ...]:
    return tuple(hosts[i] for i in np.flatnonzero(which))


def _count(ends: NDArray[np.int64], which: Bools, hosts: int) -> NDArray[np.int64]:
    return np.asarray(np.bincount(ends[which], minlength=hosts), dtype=np.int64)
