"""What stands beside a heatmap: which hosts are gone, and the three worst of the other pairs.

A dead host makes all of its pairs look terrible; it is one finding, not n. So hosts come first, by name, and the
worst pairs are looked for among those that no host on the list explains.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pingmesh_tasks.render.mesh_cells import Bools, CodedPairs, Unsigned

#: From this share of unanswered probes on, a pair is bad for its loss, however fast its answers are.
LOSSY = 0.01
WORST = 3

Counts = NDArray[np.int64]
Values = NDArray[np.float32]


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
    no_data_pairs: int
    sent: int
    answered: int
    lost: int


def find(coded: CodedPairs, metric: str) -> Findings:
    """Return the findings of one window. Deterministic: ties go to the earlier source, then destination."""
    hosts = coded.axis.hosts.names
    out_all, out_empty, out_failed = _by_host(coded, coded.src)
    in_all, in_empty, in_failed = _by_host(coded, coded.dst)
    no_data = (out_all > 0) & (out_empty == out_all)
    unreachable = (in_failed > 0) & (in_failed == in_all - in_empty)
    cut_off = (out_failed > 0) & (out_failed == out_all - out_empty)
    explained = no_data | unreachable | cut_off
    return Findings(
        no_data=_named(hosts, no_data),
        unreachable=_named(hosts, unreachable),
        cut_off=_named(hosts, cut_off),
        worst=_worst(coded, coded.values[metric], explained),
        pairs=len(coded.src),
        failed=len(coded.failed),
        no_data_pairs=len(coded.no_data),
        sent=int(coded.sent.sum(dtype=np.int64)),
        answered=int(coded.answered.sum(dtype=np.int64)),
        lost=int(coded.lost.sum(dtype=np.int64)),
    )


def _worst(coded: CodedPairs, value: Values, explained: Bools) -> tuple[WorstPair, ...]:
    """Failed pairs first (by probes sent), then lossy ones (by share), then slow ones (against the scope's median)."""
    free = _free(coded, explained)
    scope = _scopes(coded)
    medians = _scope_medians(value, scope)
    failed = coded.failed[free[coded.failed]]
    picked = _top(coded, failed, coded.sent[failed].astype(np.float32), WORST)
    lossy = np.flatnonzero((coded.answered > 0) & (coded.answered < coded.sent))
    sent = coded.sent[lossy].astype(np.float32)
    unanswered = (sent - coded.answered[lossy]) / sent
    lossy, unanswered = lossy[unanswered >= LOSSY], unanswered[unanswered >= LOSSY]
    picked += _top(coded, lossy[free[lossy]], unanswered[free[lossy]], WORST - len(picked))
    if len(picked) < WORST:
        free[coded.failed] = free[lossy] = False
        times = np.full(len(value), np.nan, dtype=np.float32)
        for rows in coded.slices():
            np.divide(value[rows], medians[scope[rows]], out=times[rows], where=free[rows])
        picked += _top(coded, None, times, WORST - len(picked))
    return tuple(_worst_pair(coded, value, row, float(medians[scope[row]])) for row in picked)


def _free(coded: CodedPairs, explained: Bools) -> Bools:
    """Return which pairs sent something and have no explained host at either end; if none, all that sent something."""
    free = np.ones(len(coded.src), dtype=np.bool_)
    for rows in coded.slices():
        free[rows] = ~(explained[coded.src[rows]] | explained[coded.dst[rows]])
    free[coded.no_data] = False
    if not free.any():
        free[:] = True
        free[coded.no_data] = False
    return free


def _worst_pair(coded: CodedPairs, value: Values, row: int, median: float) -> WorstPair:
    sent, answered, lost = (int(column[row]) for column in (coded.sent, coded.answered, coded.lost))
    return WorstPair(
        src=int(coded.src[row]),
        dst=int(coded.dst[row]),
        value=float(value[row]),
        times=float(value[row]) / median,
        failed=answered == 0,
        unanswered=1 - answered / sent,
        loss=lost / sent,
        sent=sent,
    )


def _top(coded: CodedPairs, rows: Counts | None, badness: Values, count: int) -> list[int]:
    """Return the `count` of `rows` (None: all) with the highest badness, none where it is NaN.

    Ties go to the earlier source, then destination.
    """
    if count <= 0 or not len(badness):
        return []
    best = np.fmax.reduceat(badness, np.arange(0, len(badness), 1 + len(badness) // 2_000))
    best = np.sort(best[np.isfinite(best)])[-count:]
    if not len(best):
        return []
    floor = best[0] if len(best) == count else -np.inf  # so many blocks reach it, so no pair below is among the worst
    near = np.flatnonzero(badness >= floor)
    badness, rows = badness[near], near if rows is None else rows[near]
    order = np.lexsort((coded.dst[rows], coded.src[rows], -badness))[:count]
    return [int(row) for row in rows[order]]


def _scopes(coded: CodedPairs) -> NDArray[np.int8]:
    """Return the scope of each pair: 0 same ToR, 1 same DC, 2 between DCs."""
    tor, dc = coded.axis.hosts.tor, coded.axis.hosts.dc
    scope = np.empty(len(coded.src), dtype=np.int8)
    for rows in coded.slices():
        src, dst = coded.src[rows], coded.dst[rows]
        np.add(tor[src] != tor[dst], dc[src] != dc[dst], out=scope[rows], dtype=np.int8)
    return scope


def _scope_medians(value: Values, scope: NDArray[np.int8]) -> Values:
    """Return the median value of each scope, NaN where it has none or a median of 0."""
    values = pl.Series(value)
    medians = [values.filter(pl.Series(scope == s)).drop_nans().median() or np.nan for s in range(3)]
    return np.array(medians, dtype=np.float32)


def _named(hosts: tuple[str, ...], which: Bools) -> tuple[str, ...]:
    return tuple(hosts[i] for i in np.flatnonzero(which))


def _by_host(coded: CodedPairs, end: Unsigned) -> tuple[Counts, Counts, Counts]:
    """Return for each host how many pairs have it at this end, how many of them have no data, and how many failed."""
    most = len(coded.axis.hosts)
    pairs = np.zeros(most, dtype=np.int64)
    for rows in coded.slices():
        pairs += np.bincount(end[rows], minlength=most)
    return pairs, np.bincount(end[coded.no_data], minlength=most), np.bincount(end[coded.failed], minlength=most)
