"""What is normal for a pair: where its median and p99 have been lately, how much they move, and what it loses.

    normal(w) = f(normal(w − 1), pairs(w)), one row a pair and protocol, of the same size for ever

Round trips have several modes and long tails, so no mean and no standard deviation of RTTs is asked. Each window's
quantiles are taken in logarithms; a centre follows them, and a deviation follows their distance from the centre. Both
take a step towards what is new that is clipped (Huber's ψ, 1964), so a window that is a hundred times slower moves
them no more than one that is a little slow: an hour of a fault does not become the normal. A pair whose paths differ
has a median that jumps between them, hence a wide deviation, and no alarm. The weight of a window is 1/w until there
are `MEMORY` windows and 1/MEMORY from then on; a day's rhythm is followed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pingmesh_tasks.detect.mesh.rows import Rows, code_keys, code_rows, keys_of, match
from pingmesh_tasks.store.schemas import NORMAL
from pingmesh_tasks.topology.axis import HostAxis
from pingmesh_tasks.topology.inventory import Inventory

#: Windows after which the past fades: six hours of five minutes.
MEMORY = 72
#: What is farther than so many deviations from the centre pulls no harder.
CLIP = 2.5
#: A deviation is never taken for less: 5 %.
LEAST_DEVIATION = 0.05
#: Of a pair with little history: 25 %.
FIRST_DEVIATION = 0.25
#: From a deviation of absolute distances to one of a normal distribution.
_TO_SIGMA = 1.2533
_WARM = 4

Floats = NDArray[np.float32]
_STATISTICS = ("p50_ln", "p50_dev", "p99_ln", "p99_dev", "loss")


@dataclass(frozen=True)
class Baseline:
    """The normal beside rows of pairs: NaN and 0 windows where there is none."""

    windows: NDArray[np.uint16]
    p50_ln: Floats
    p50_dev: Floats
    p99_ln: Floats
    p99_dev: Floats
    loss: Floats


def update_baseline(before: pl.DataFrame | None, pairs: pl.DataFrame, inventory: Inventory) -> pl.DataFrame:
    """Return rows of `normal` (NORMAL, sorted as `pairs` are) after the window of `pairs` (rows of `pair_latency`).

    A pair that sent nothing, or had no clean answer, keeps what it had; one that is planned no more is forgotten.
    """
    places = HostAxis.of(inventory)
    rows = code_rows(pairs, places)
    was = read_baseline(before, rows, places)
    seen = rows.sent > 0
    windows = np.minimum(was.windows.astype(np.int32) + seen, np.iinfo(np.uint16).max).astype(np.uint16)
    weight = (1 / np.clip(windows, 1, MEMORY)).astype(np.float32)
    statistics = {"p50": (was.p50_ln, was.p50_dev), "p99": (was.p99_ln, was.p99_dev)}
    columns: dict[str, Floats] = {}
    for name, (centre, deviation) in statistics.items():
        with np.errstate(divide="ignore"):
            new = np.log(getattr(rows, f"rtt_{name}_us")).astype(np.float32)
        columns[f"{name}_ln"], columns[f"{name}_dev"] = _follow(centre, deviation, new, weight, was.windows)
    dropped = rows.lost.astype(np.float32) + rows.unreachable + rows.retransmitted
    share = np.where(seen, dropped / np.maximum(rows.tries, 1), np.nan).astype(np.float32)
    columns["loss"] = _average(was.loss, np.minimum(share, 1), weight)
    known = pairs.filter(pl.col("src").is_in(places.names) & pl.col("dst").is_in(places.names))
    statistic = {name: pl.Series(columns[name], nan_to_null=True) for name in _STATISTICS}
    return known.select("src", "dst", "protocol").with_columns(windows=pl.Series(windows), **statistic).cast(NORMAL)


def read_baseline(normal: pl.DataFrame | None, rows: Rows, places: HostAxis) -> Baseline:
    """Return the normal of each of `rows`."""
    if normal is None or not len(normal):
        none = np.full(len(rows), np.nan, np.float32)
        return Baseline(np.zeros(len(rows), np.uint16), none, none, none, none, none)
    at = match(keys_of(rows, places), code_keys(normal, places))
    columns = {name: normal[name].fill_null(float("nan")).to_numpy() for name in _STATISTICS}
    windows = normal["windows"].to_numpy()
    if at is None:
        return Baseline(windows, **columns)
    unknown = at < 0
    picked = {name: np.where(unknown, np.float32(np.nan), column[at]) for name, column in columns.items()}
    return Baseline(np.where(unknown, np.uint16(0), windows[at]), **picked)


def _follow(
    centre: Floats, deviation: Floats, new: Floats, weight: Floats, windows: NDArray[np.uint16]
) -> tuple[Floats, Floats]:
    """Take a clipped step of centre and deviation towards `new` (NaN: stay)."""
    scale = np.maximum(deviation, LEAST_DEVIATION)
    scale = np.where(windows < _WARM, np.maximum(scale, FIRST_DEVIATION), scale)
    away = new - centre
    step = np.clip(away, -CLIP * scale, CLIP * scale)
    moved = centre + weight * step
    wider = deviation + weight * (np.abs(step) * np.float32(_TO_SIGMA) - deviation)
    first = np.isnan(centre)
    moved = np.where(first, new, moved)
    wider = np.where(first, np.where(np.isnan(new), np.nan, FIRST_DEVIATION), wider)
    stay = np.isnan(new)
    return (
        np.where(stay, centre, moved).astype(np.float32),
        np.where(stay, deviation, wider).astype(np.float32),
    )


def _average(before: Floats, new: Floats, weight: Floats) -> Floats:
    averaged = np.where(np.isnan(before), new, before + weight * (new - before))
    return np.where(np.isnan(new), before, averaged).astype(np.float32)
