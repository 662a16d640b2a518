"""Pairs of hosts as numbers: each host by its position on the axis, each pair by its cell.

    src, dst      positions on a `HostAxis`, 0 … hosts - 1
    cell          src · hosts + dst: the place of the pair in a flat matrix

Rows of hosts that are not on the axis (they left the inventory) are left out and counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pingmesh_tasks.store.schemas import PAIR_LATENCY
from pingmesh_tasks.topology.axis import HostAxis

#: What is coded at a time: so many rows beside the table.
ROWS_AT_ONCE = 400_000

#: Rows of `pair_latency` in any order: a frame, or its parts, of which one is in memory at a time.
Pairs = pl.DataFrame | Iterable[pl.DataFrame]
Column = NDArray[Any]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class PairTable:
    """Rows of pairs between hosts of an axis. `columns` has `src` and `dst` (positions) and what else was asked for.

    Whole numbers have the narrowest unsigned type that holds them. `strangers` counts the rows that were left out.
    """

    columns: dict[str, Column]
    strangers: int


def positions(axis: HostAxis) -> pl.Expr:
    """Return the expression of `src` and `dst` as positions on the axis; null where a host is not on it."""
    return pl.col("src", "dst").cast(axis.host_type, strict=False).to_physical()


def on_axis(pairs: pl.DataFrame, axis: HostAxis) -> pl.DataFrame:
    """Return `pairs` with `src` and `dst` as positions; rows of hosts that are not on the axis are left out."""
    return pairs.with_columns(positions(axis).cast(pl.UInt32)).drop_nulls(["src", "dst"])


def cells_of(src: Column, dst: Column, hosts: int) -> Ints:
    """Return the cell of each pair in a matrix of `hosts` rows."""
    cells = src.astype(np.int64)
    cells *= hosts
    cells += dst
    return cells


def pair_table(pairs: Pairs, axis: HostAxis, *columns: pl.Expr | str) -> PairTable:
    """Return the positions of `pairs` and these columns, as arrays; nothing else is held of a part."""
    parts: list[dict[str, Column]] = []
    strangers = 0
    slices = (rows for part in parts_of(pairs) for rows in part.iter_slices(ROWS_AT_ONCE))
    for rows in chain([pl.DataFrame(schema=PAIR_LATENCY)], slices):  # the first gives columns to an empty window
        coded = rows.select(positions(axis), *columns).drop_nulls(["src", "dst"])
        strangers += rows.height - coded.height
        parts.append({column.name: _narrow(column.to_numpy()) for column in coded})
    joined = {name: np.concatenate([part.pop(name) for part in parts]) for name in list(parts[0])}
    return PairTable(joined, strangers)


def parts_of(pairs: Pairs) -> Iterable[pl.DataFrame]:
    return [pairs] if isinstance(pairs, pl.DataFrame) else pairs


def _narrow(column: Column) -> Column:
    """Return unsigned integers in the fewest bytes that hold them: thirty probes a window are one byte, not four."""
    return column if column.dtype.kind == "f" else column.astype(np.min_scalar_type(column.max(initial=0)), copy=False)
