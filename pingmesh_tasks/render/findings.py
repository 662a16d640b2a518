"""What stands beside a heatmap: which hosts are gone, and the three worst of the other pairs.

A dead host makes all of its pairs look terrible; it is one finding, not n. So hosts come first, by name, and the
worst pairs are looked for among those that no host on the list explains.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pingmesh_tasks.render.mesh import Bools, CodedPairs, Positions

#: From this share of unanswered probes on, a pair is bad for its loss, however fast its answers are.
LOSSY = 0.01
WORST = 3

Counts = NDArray[np.int64]


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
    sent, answered = pl.col("sent"), pl.col("answered")
    columns = coded.frame.select(
        silent=sent == 0,
        failed=(sent > 0) & (answered == 0),
        unanswered=((sent - answered).cast(pl.Float32) / sent.cast(pl.Float32)),
    )
    silent, failed, unanswered = (columns[c].to_numpy() for c in ("silent", "failed", "unanswered"))
    totals = coded.frame.select(pl.col("sent", "answered", "lost").cast(pl.Int64).sum()).row(0)
    out_all, out_silent, out_failed = _by_host(coded, coded.src, silent, failed)
    in_all, in_silent, in_failed = _by_host(coded, coded.dst, silent, failed)
    no_data = (out_all > 0) & (out_silent == out_all)
    unreachable = (in_failed > 0) & (in_failed == in_all - in_silent)
    cut_off = (out_failed > 0) & (out_failed == out_all - out_silent)
    explained = no_data | unreachable | cut_off
    return Findings(
        no_data=_named(hosts, no_data),
        unreachable=_named(hosts, unreachable),
        cut_off=_named(hosts, cut_off),
        worst=_worst(coded, failed, silent, unanswered, explained),
        pairs=len(coded.src),
        failed=int(failed.sum()),
        missing=int(silent.sum()),
        sent=totals[0],
        answered=totals[1],
        lost=totals[2],
    )


def _worst(
    coded: CodedPairs, failed: Bools, silent: Bools, unanswered: NDArray[np.float32], explained: Bools
) -> tuple[WorstPair, ...]:
    """Failed pairs first (by probes sent), then lossy ones (by share), then slow ones (against the scope's median)."""
    free = ~(silent | explained[coded.src] | explained[coded.dst])
    if not free.any():
        free = ~silent
    scope = _scopes(coded)
    medians = _scope_medians(coded, scope)
    lossy = (unanswered >= LOSSY) & ~failed
    rows = np.flatnonzero(free & failed)
    picked = _top(coded, rows, coded.frame["sent"].gather(rows).to_numpy().astype(np.float32), WORST)
    rows = np.flatnonzero(free & lossy)
    picked += _top(coded, rows, unanswered[rows], WORST - len(picked))
    if len(picked) < WORST:
        times = medians[scope]
        np.divide(coded.value, times, out=times)
        times[~free | failed | lossy] = np.nan
        picked += _top(coded, None, times, WORST - len(picked))
    return tuple(_worst_pair(coded, row, float(medians[scope[row]])) for row in picked)


def _worst_pair(coded: CodedPairs, row: int, median: float) -> WorstPair:
    of = coded.frame.row(row, named=True)
    return WorstPair(
        src=of["src"],
        dst=of["dst"],
        value=of["value"],
        times=of["value"] / median,
        failed=of["answered"] == 0,
        unanswered=1 - of["answered"] / of["sent"],
        loss=of["lost"] / of["sent"],
        sent=of["sent"],
    )


def _top(coded: CodedPairs, rows: Counts | None, badness: NDArray[np.float32], count: int) -> list[int]:
    """Return the `count` of `rows` (None: all) with the highest badness, none where it is NaN.

    Ties go to the earlier source, then destination.
    """
    count = min(count, int(np.isfinite(badness).sum()))
    if count <= 0:
        return []
    floor = -np.partition(-badness, count - 1)[count - 1]  # NaN sorts last
    near = np.flatnonzero(badness >= floor)
    badness, rows = badness[near], near if rows is None else rows[near]
    order = np.lexsort((coded.dst[rows], coded.src[rows], -badness))[:count]
    return [int(row) for row in rows[order]]


def _scopes(coded: CodedPairs) -> NDArray[np.int8]:
    """Return the scope of each pair: 0 same ToR, 1 same DC, 2 between DCs."""
    tor, dc = (coded.axis.scopes[:, i].astype(np.int32) for i in (0, 1))
    scope: NDArray[np.int8] = (tor[coded.src] != tor[coded.dst]).astype(np.int8)
    scope += dc[coded.src] != dc[coded.dst]
    return scope


def _scope_medians(coded: CodedPairs, scope: NDArray[np.int8]) -> NDArray[np.float32]:
    """Return the median value of each scope, NaN where it has none or a median of 0."""
    medians = np.full(3, np.nan, dtype=np.float32)
    for s in range(3):
        values = coded.value[scope == s]
        values = values[np.isfinite(values)]
        if values.size and (median := float(np.median(values))) > 0:
            medians[s] = median
    return medians


def _named(hosts: tuple[str, ...], which: Bools) -> tuple[str, ...]:
    return tuple(hosts[i] for i in np.flatnonzero(which))


def _by_host(coded: CodedPairs, end: Positions, silent: Bools, failed: Bools) -> tuple[Counts, Counts, Counts]:
    """Return for each host how many pairs have it at this end, how many of them are silent, and how many failed."""
    most = len(coded.axis.hosts)
    return (
        np.bincount(end, minlength=most),
        np.bincount(end[silent], minlength=most),
        np.bincount(end[failed], minlength=most),
    )
