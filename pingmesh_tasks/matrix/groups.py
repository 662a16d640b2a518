"""What a window says of groups: ToR to ToR, podset to podset, DC to DC, each host both ways, and the mesh as a whole.

Counts and ladders of pairs add up, so a group's quantiles are those of all its probes, to the ladder's 2.9 %; never an
average or a maximum of its pairs' quantiles. A kind is a part of the table `group_latency`, its rows dense in the order
of the axis, so that the row of a group is known without looking:

    dc, podset, tor   source group · groups + destination group
    host              source host, then hosts + destination host
    mesh              the one row
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from pingmesh_tasks.latency.ladder import Ladders, LadderSums
from pingmesh_tasks.latency.summary import QUANTILES
from pingmesh_tasks.matrix.build import METADATA
from pingmesh_tasks.matrix.positions import on_axis
from pingmesh_tasks.matrix.states import has_failed, has_no_data
from pingmesh_tasks.store.schemas import GROUP_LATENCY, check_schema
from pingmesh_tasks.topology.axis import GROUPS, HostAxis

COLUMNS = ["src", "dst", "sent", "answered", "lost", "rtt_min_us", "rtt_max_us", "ladder_bucket", "ladder_count"]
KINDS = ("mesh", *GROUPS, "host")
#: A kind whose groups make more pairs than this is left out: its ladders would take 240 MB.
MOST_ROWS = 250_000
ROW_GROUP = 1_024
#: Ladders of so few rows have eight bytes a bucket: a day of the whole mesh is more than four can count.
FEW_ROWS = 65_536

Ints = NDArray[np.int64]
_COUNTS = ("pairs", "failed", "missing", "sent", "answered", "lost")


@dataclass(frozen=True, slots=True)
class PairColumns:
    """Pairs as columns of equal length; `src` and `dst` are positions on the axis."""

    src: Ints
    dst: Ints
    sent: NDArray[Any]
    answered: NDArray[Any]
    lost: NDArray[Any]
    ladders: Ladders


@dataclass
class GroupSums:
    """Sums of one kind, by row: `counts` (rows, 6), in the order of `_COUNTS`, and ladders."""

    counts: NDArray[np.uint64]
    ladders: LadderSums

    @classmethod
    def empty(cls, rows: int) -> GroupSums:
        return cls(np.zeros((rows, len(_COUNTS)), np.uint64), LadderSums.empty(rows, _ladder_type(rows)))

    def rows(self, index: slice) -> GroupSums:
        return GroupSums(self.counts[index], self.ladders.rows(index))

    def folded(self, onto: Ints, rows: int) -> GroupSums:
        """Return the sums of a coarser kind: row i of this one is part of row `onto[i]`."""
        counts = np.zeros((rows, len(_COUNTS)), np.uint64)
        np.add.at(counts, onto, self.counts)
        return GroupSums(counts, self.ladders.folded(onto, rows, _ladder_type(rows)))


class GroupBuilder:
    """Adds up parts of a window's `pair_latency` (with `COLUMNS`, in any order)."""

    def __init__(self, axis: HostAxis) -> None:
        self.axis = axis
        self._sizes = {kind: len(axis.spans[kind]) for kind in GROUPS}
        self._kinds = [kind for kind in GROUPS if self._sizes[kind] ** 2 <= MOST_ROWS]
        self._member = {kind: axis.member(kind).astype(np.int64) for kind in self._kinds[-1:]}
        self._sums = {"host": GroupSums.empty(2 * len(axis.hosts))}
        self._sums |= {kind: GroupSums.empty(self._sizes[kind] ** 2) for kind in self._member}

    def add(self, pairs: pl.DataFrame) -> None:
        known = on_axis(pairs, self.axis)
        src, dst, sent, answered, lost = (known[name].to_numpy() for name in COLUMNS[:5])
        src, dst = src.astype(np.int64), dst.astype(np.int64)
        self.add_columns(PairColumns(src, dst, sent, answered, lost, Ladders.of_pairs(known)))

    def add_columns(self, pairs: PairColumns) -> None:
        """Add pairs that are columns of numbers already."""
        _add(pairs, self._sums["host"], [pairs.src, len(self.axis.hosts) + pairs.dst])
        for kind, of in self._member.items():
            _add(pairs, self._sums[kind], [of[pairs.src] * self._sizes[kind] + of[pairs.dst]])

    def finish(self) -> dict[str, GroupSums]:
        """Return the sums of each kind. The narrow kinds are folded into the wide ones."""
        sums = dict(self._sums)
        for finer, kind in pairwise(reversed(self._kinds)):
            firsts = [span.start for span in self.axis.spans[finer]]
            above = self.axis.member(kind).astype(np.int64)[firsts]
            onto = (above[:, None] * self._sizes[kind] + above[None, :]).ravel()
            sums[kind] = sums[finer].folded(onto, self._sizes[kind] ** 2)
        hosts = len(self.axis.hosts)
        every = sums[self._kinds[0]] if self._kinds else sums["host"].rows(slice(hosts))
        sums["mesh"] = every.folded(np.zeros(len(every.counts), np.int64), 1)
        return sums


def group_rows(kind: str, sums: GroupSums, axis: HostAxis) -> pl.DataFrame:
    """Return the rows of `GROUP_LATENCY` of a kind."""
    names: list[tuple[str | None, str | None]]
    if kind == "host":
        names = [(name, None) for name in axis.names] + [(None, name) for name in axis.names]
    elif kind == "mesh":
        names = [(None, None)]
    else:
        of = axis.group_names(kind)
        names = [(src, dst) for src in of for dst in of]
    ladders = sums.ladders.ladders()
    some = pl.Series(ladders.totals > 0)
    none = pl.Series([None], dtype=pl.UInt32)
    counts = {name: sums.counts[:, at] for at, name in enumerate(_COUNTS)}
    quantiles = {name: np.nan_to_num(us).astype(np.uint32) for name, us in ladders.quantiles_us(QUANTILES).items()}
    figures = {"rtt_min_us": ladders.min_us, **quantiles, "rtt_max_us": ladders.max_us}

    def lists(values: NDArray[Any]) -> pl.Series:
        return pl.Series(pl.from_arrow(pa.LargeListArray.from_arrays(pa.array(ladders.offsets), pa.array(values))))

    frame = pl.DataFrame({"src": [src for src, _ in names], "dst": [dst for _, dst in names]}, schema=_NAMES)
    frame = frame.with_columns(
        *(pl.Series(name, values) for name, values in counts.items()),
        *(pl.Series(name, values).zip_with(some, none) for name, values in figures.items()),
        ladder_bucket=lists(ladders.bucket),
        ladder_count=lists(ladders.count.astype(np.uint64)),
    ).cast(dict(GROUP_LATENCY))  # type: ignore[arg-type]
    check_schema("group_latency", frame)
    return frame


def group_parts(sums: Mapping[str, GroupSums], axis: HostAxis, **metadata: Any) -> Iterator[tuple[str, bytes]]:
    """Yield each kind's name and Parquet, in small row groups; `metadata` (plain values) go with it."""
    for kind, of_kind in sums.items():
        data = io.BytesIO()
        group_rows(kind, of_kind, axis).write_parquet(
            data,
            compression="zstd",
            compression_level=3,
            row_group_size=ROW_GROUP,
            statistics=False,
            metadata={METADATA: json.dumps({**metadata, "axis": axis.id, "hosts": len(axis.hosts), "kind": kind})},
        )
        yield kind, data.getvalue()


_NAMES = {"src": pl.String, "dst": pl.String}


def _ladder_type(rows: int) -> type[np.unsignedinteger[Any]]:
    return np.uint64 if rows <= FEW_ROWS else np.uint32


def _add(pairs: PairColumns, sums: GroupSums, keys: Sequence[Ints]) -> None:
    sent, answered = pairs.sent, pairs.answered
    counts = [np.ones(len(sent)), has_failed(sent, answered), has_no_data(sent), sent, answered, pairs.lost]
    for key in keys:
        for at, values in enumerate(counts):
            sums.counts[:, at] += np.bincount(key, weights=values, minlength=len(sums.counts)).astype(np.uint64)
        sums.ladders.add(key, pairs.ladders)
