"""What a heatmap looks like, in one word: the patterns that an operator knows by sight.

    normal          all green
    podset_down     a white cross: rows and columns of a podset without data
    podset_failure  a red cross: there, but slow
    spine_failure   green squares on the diagonal, red (or white) elsewhere
    host_down       a thin white cross

The patterns and colours are those of Pingmesh (SIGCOMM 2015, figure 8): p99 below 4 ms is green, above 5 ms red, no
data white. One window is enough, no history is asked: this says what a picture shows, `evaluate` says what is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pingmesh_tasks.detect.mesh.components import sum_by_host
from pingmesh_tasks.detect.mesh.rows import Rows, code_rows
from pingmesh_tasks.topology.axis import HostAxis
from pingmesh_tasks.topology.inventory import Inventory

Pattern = Literal["normal", "podset_down", "podset_failure", "spine_failure", "host_down"]

#: p99 above this is red; between DCs distance alone may take so long, so only the second is.
RED_US, RED_INTER_DC_US = 5_000, 300_000
#: Shares of a cross (or of what is off the diagonal) that must be white, or red; and of the rest that may be.
WHITE, RED, REST = 0.9, 0.8, 0.2
_HOST_PAIRS = 2

Matrix = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class HeatmapPattern:
    """What a heatmap shows. `suspects`: podsets `dc1/podset2`, spines `dc1/spine`, or hosts; empty if it is normal.

    `white` and `red` are shares of all pairs: without any answer, and slow.
    """

    name: Pattern
    suspects: tuple[str, ...]
    white: float
    red: float


def classify_heatmap(pairs: pl.DataFrame, inventory: Inventory) -> HeatmapPattern:
    """Return the pattern of a window's `pair_latency` (any order; of its columns, `rows.Rows` names those needed)."""
    axis = HostAxis.of(inventory)
    return classify_rows(code_rows(pairs, axis), axis)


def classify_rows(rows: Rows, axis: HostAxis) -> HeatmapPattern:
    """Return the pattern of rows, of which the ends, `answered` and `rtt_p99_us` count.

    Where several hold, the widest is named: podsets that are down, spines, podsets that are slow, hosts.
    """
    white = rows.answered == 0
    between_dcs = axis.dc[rows.a] != axis.dc[rows.b]
    red = rows.rtt_p99_us > np.where(between_dcs, RED_INTER_DC_US, RED_US)
    shares = [float(colour.mean()) if len(rows) else 0.0 for colour in (white, red)]

    def pattern(name: Pattern, suspects: list[str]) -> HeatmapPattern:
        return HeatmapPattern(name, tuple(suspects), *shares)

    down = _podsets_down(axis, rows, white)
    if down.any():
        return pattern("podset_down", [axis.podset_names[p] for p in np.flatnonzero(down).tolist()])
    if spines := _spines(axis, rows, white | red):
        return pattern("spine_failure", spines)
    if slow := _podsets_slow(axis, rows, red, ~white):
        return pattern("podset_failure", slow)
    hosts = _hosts_down(axis, rows, white)
    return pattern("host_down" if hosts else "normal", hosts)


def _podsets_down(axis: HostAxis, rows: Rows, white: Bools) -> Bools:
    """Return which podsets' rows and columns are white. A podset of one host is a host."""
    total, lost = _by_podset(axis, rows, np.ones(len(rows), bool)), _by_podset(axis, rows, white)
    several = np.bincount(axis.podset, minlength=len(axis.podset_names)) > 1
    return (_cross(total) > 0) & (_cross(lost) >= WHITE * _cross(total)) & several


def _spines(axis: HostAxis, rows: Rows, bad: Bools) -> list[str]:
    """Return the spines of DCs in which pairs between podsets are bad and pairs within one are well."""
    total, sick = _by_podset(axis, rows, np.ones(len(rows), bool)), _by_podset(axis, rows, bad)
    dc_of = np.zeros(len(axis.podset_names), np.int64)
    dc_of[axis.podset] = axis.dc
    found = []
    for dc, name in enumerate(axis.dc_names):
        there = np.ix_(dc_of == dc, dc_of == dc)
        n, k = total[there], sick[there]
        across, within = n.sum() - n.trace(), n.trace()
        if across and k.sum() - k.trace() >= RED * across and k.trace() <= REST * within:
            found.append(f"{name}/spine")
    return found


def _podsets_slow(axis: HostAxis, rows: Rows, red: Bools, answered: Bools) -> list[str]:
    """Return the podsets whose cross is red while the rest is not. Pairs within a rack do not cross a podset's leaves.

    With two podsets every pair between them is in both crosses, so a podset whose own inside is well is not at fault.
    """
    counted = answered & (axis.tor[rows.a] != axis.tor[rows.b])
    if not counted.any():  # racks are all there is
        counted = answered
    total, slow = _by_podset(axis, rows, counted), _by_podset(axis, rows, red & counted)
    found: list[int] = []
    for podset in range(len(total)):
        rest_total, rest_slow = (m.sum() - _cross(m)[podset] for m in (total, slow))
        cross_total, cross_slow = _cross(total)[podset], _cross(slow)[podset]
        inside_well = total[podset, podset] > 0 and slow[podset, podset] <= REST * total[podset, podset]
        if cross_total and cross_slow >= RED * cross_total and rest_slow <= REST * rest_total and not inside_well:
            found.append(podset)
    if len(axis.podset_names) > 1 and len(found) == len(axis.podset_names):
        return []  # everything is red: no podset stands out
    return [axis.podset_names[podset] for podset in found]


def _hosts_down(axis: HostAxis, rows: Rows, white: Bools) -> list[str]:
    """Return the hosts whose rows and columns are white."""
    total, lost = (
        sum_by_host(axis, rows.a, weights) + sum_by_host(axis, rows.b, weights)
        for weights in (np.ones(len(rows)), white)
    )
    return [axis.names[h] for h in np.flatnonzero((total >= _HOST_PAIRS) & (lost >= WHITE * total)).tolist()]


def _by_podset(axis: HostAxis, rows: Rows, counted: Bools) -> Matrix:
    """Count rows by (podset of the source, podset of the destination)."""
    size = len(axis.podset_names)
    cell = axis.podset.astype(np.int64)[rows.a[counted]] * size + axis.podset[rows.b[counted]]
    return np.bincount(cell, minlength=size * size).reshape(size, size).astype(np.float64)


def _cross(matrix: Matrix) -> Matrix:
    """Return the sum of each row and column, the square in which they meet counted once."""
    return np.asarray(matrix.sum(0) + matrix.sum(1) - matrix.diagonal())
