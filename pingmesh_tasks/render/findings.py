"""What stands beside a heatmap: which hosts are gone, and the three worst of the other pairs.

A dead host makes all of its pairs look terrible; it is one finding, not n. So hosts come first, by name, and the
worst pairs are looked for among those that no host on the list explains.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
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
    silent = coded.sent == 0
    failed = (coded.answered == 0) & ~silent
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
    free = ~(silent | explained[coded.src] | explained[coded.dst])
    if not free.any():
        free = ~silent
    times = np.asarray(coded.value / _scope_medians(coded), dtype=np.float32)
    sent = coded.sent.astype(np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):
        unanswered = np.asarray((sent - coded.answered.astype(np.float32)) / sent, dtype=np.float32)
    lossy = (unanswered >= LOSSY) & ~failed
    picked = _top(coded, free & failed, sent, WORST)
    picked += _top(coded, free & lossy, unanswered, WORST - len(picked))
    picked += _top(coded, free & ~(failed | lossy), times, WORST - len(picked))
    return tuple(
        WorstPair(
            src=int(coded.src[i]),
            dst=int(coded.dst[i]),
            value=float(coded.value[i]),
            times=float(times[i]),
            failed=bool(failed[i]),
            unanswered=1 - int(coded.answered[i]) / int(coded.sent[i]),
            loss=float(coded.lost[i] / coded.sent[i]),
            sent=int(coded.sent[i]),
        )
        for i in picked
    )


def _top(coded: CodedPairs, group: Bools, badness: NDArray[np.float32], count: int) -> list[int]:
    """Return the `count` rows of `group` with the highest badness; ties go to the earlier source, then destination."""
    count = min(count, int(group.sum()))
    if not count:
        return []
    rows = np.flatnonzero(group)
    score = np.fmax(badness[rows], np.float32(0))
    near = score >= np.partition(score, len(score) - count)[len(score) - count]
    rows, score = rows[near], score[near]
    order = np.lexsort((coded.dst[rows], coded.src[rows], -score))[:count]
    return [int(row) for row in rows[order]]


def _scope_medians(coded: CodedPairs) -> NDArray[np.float32]:
    """Return for each pair the median value of its scope: same ToR, same DC or between DCs."""
    tor, dc = (coded.axis.scopes[:, i].astype(np.int32) for i in (0, 1))
    scope = (tor[coded.src] != tor[coded.dst]).astype(np.int8) + (dc[coded.src] != dc[coded.dst])
    medians = np.full(3, np.nan, dtype=np.float32)
    for s in range(3):
        values = coded.value[scope == s]
        values = values[np.isfinite(values)]
        if values.size and (median := float(np.median(values))) > 0:
            medians[s] = median
    return np.asarray(medians[scope], dtype=np.float32)


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
