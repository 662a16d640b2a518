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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from pingmesh_tasks.latency.summary import BUCKETS_PER_DECADE, LADDER_BUCKETS, QUANTILES, nearest_rank
from pingmesh_tasks.matrix.build import METADATA
from pingmesh_tasks.store.schemas import GROUP_LATENCY, check_schema
from pingmesh_tasks.topology.axis import GROUPS, MapAxis, on_axis

COLUMNS = ["src", "dst", "sent", "answered", "lost", "rtt_min_us", "rtt_max_us", "ladder_bucket", "ladder_count"]
KINDS = ("mesh", *GROUPS, "host")
#: A kind whose groups make more pairs than this is left out: its ladders would take 240 MB.
MOST_ROWS = 250_000
ROW_GROUP = 1_024
#: Ladders of so few rows have eight bytes a bucket: a day of the whole mesh is more than four can count.
FEW_ROWS = 65_536
NO_RTT = np.iinfo(np.uint32).max

Ints = NDArray[np.int64]
_COUNTS = ("pairs", "failed", "missing", "sent", "answered", "lost")


@dataclass(frozen=True, slots=True)
class PairColumns:
    """Pairs as columns; to each belong the next `ladder_length` entries of `bucket` and `count`."""

    src: Ints
    dst: Ints
    sent: NDArray[Any]
    answered: NDArray[Any]
    lost: NDArray[Any]
    least: NDArray[np.uint32]
    greatest: NDArray[np.uint32]
    ladder_length: NDArray[Any]
    bucket: NDArray[Any]
    count: NDArray[Any]


@dataclass
class Tally:
    """Sums of one kind, by row: `counts` (rows, 6), `ladder` (rows, buckets), least and greatest round trip."""

    counts: NDArray[np.uint64]
    ladder: NDArray[Any]
    least: NDArray[np.uint32]
    greatest: NDArray[np.uint32]

    @classmethod
    def empty(cls, rows: int) -> Tally:
        return cls(
            np.zeros((rows, len(_COUNTS)), np.uint64),
            np.zeros((rows, LADDER_BUCKETS), np.uint64 if rows <= FEW_ROWS else np.uint32),
            np.full(rows, NO_RTT, np.uint32),
            np.zeros(rows, np.uint32),
        )

    def first(self, rows: int) -> Tally:
        return Tally(self.counts[:rows], self.ladder[:rows], self.least[:rows], self.greatest[:rows])

    def only(self, row: int) -> Tally:
        at = slice(row, row + 1)
        return Tally(self.counts[at], self.ladder[at], self.least[at], self.greatest[at])

    def folded(self, onto: Ints, rows: int) -> Tally:
        """Return the sums of a coarser kind: row i of this one is part of row `onto[i]`."""
        coarse = Tally.empty(rows)
        np.add.at(coarse.counts, onto, self.counts)
        np.add.at(coarse.ladder, onto, self.ladder)
        np.minimum.at(coarse.least, onto, self.least)
        np.maximum.at(coarse.greatest, onto, self.greatest)
        return coarse


class GroupBuilder:
    """Adds up parts of a window's `pair_latency` (with `COLUMNS`, in any order)."""

    def __init__(self, axis: MapAxis) -> None:
        self.axis = axis
        self._sizes = {kind: len(axis.spans[kind]) for kind in GROUPS}
        self._kinds = [kind for kind in GROUPS if self._sizes[kind] ** 2 <= MOST_ROWS]
        self._member = {kind: axis.member(kind) for kind in self._kinds[-1:]}
        self._tallies = {"host": Tally.empty(2 * len(axis.hosts))}
        self._tallies |= {kind: Tally.empty(self._sizes[kind] ** 2) for kind in self._member}

    def add(self, pairs: pl.DataFrame) -> None:
        known = on_axis(pairs, self.axis)
        lists = known["ladder_bucket"].to_arrow(), known["ladder_count"].to_arrow()
        bucket, count = (values.flatten().to_numpy(zero_copy_only=False) for values in lists)
        src, dst, sent, answered, lost = (known[name].to_numpy() for name in COLUMNS[:5])
        self.add_columns(
            PairColumns(
                src=src.astype(np.int64),
                dst=dst.astype(np.int64),
                sent=sent,
                answered=answered,
                lost=lost,
                least=known["rtt_min_us"].cast(pl.UInt32).fill_null(NO_RTT).to_numpy(),
                greatest=known["rtt_max_us"].cast(pl.UInt32).fill_null(0).to_numpy(),
                ladder_length=np.diff(lists[0].offsets.to_numpy()),
                bucket=bucket,
                count=count,
            )
        )

    def add_columns(self, pairs: PairColumns) -> None:
        """Add pairs that are columns of numbers already, `src` and `dst` positions on the axis."""
        _add(pairs, self._tallies["host"], [pairs.src, len(self.axis.hosts) + pairs.dst])
        for kind, of in self._member.items():
            _add(pairs, self._tallies[kind], [of[pairs.src] * self._sizes[kind] + of[pairs.dst]])

    def finish(self) -> dict[str, Tally]:
        """Return the sums of each kind. The narrow kinds are folded into the wide ones."""
        tallies = dict(self._tallies)
        for finer, kind in pairwise(reversed(self._kinds)):
            firsts = [span.start for span in self.axis.spans[finer]]
            above = self.axis.member(kind)[firsts]
            onto = (above[:, None] * self._sizes[kind] + above[None, :]).ravel()
            tallies[kind] = tallies[finer].folded(onto, self._sizes[kind] ** 2)
        hosts = len(self.axis.hosts)
        every = tallies[self._kinds[0]] if self._kinds else tallies["host"].first(hosts)
        tallies["mesh"] = every.folded(np.zeros(len(every.counts), np.int64), 1)
        return tallies


def tally_groups(parts: Iterable[pl.DataFrame], axis: MapAxis) -> dict[str, Tally]:
    """Return the sums of each kind over the parts of a window."""
    builder = GroupBuilder(axis)
    for part in parts:
        builder.add(part)
    return builder.finish()


def group_rows(kind: str, tally: Tally, axis: MapAxis) -> pl.DataFrame:
    """Return the rows of `GROUP_LATENCY` of a kind."""
    names: list[tuple[str | None, str | None]]
    if kind == "host":
        names = [(name, None) for name in axis.names] + [(None, name) for name in axis.names]
    elif kind == "mesh":
        names = [(None, None)]
    else:
        of = [span.name for span in axis.spans[kind]]
        names = [(src, dst) for src in of for dst in of]
    some = pl.Series(tally.ladder.any(axis=1))
    none = pl.Series([None], dtype=pl.UInt32)
    counts = {name: tally.counts[:, at] for at, name in enumerate(_COUNTS)}
    quantiles = {name: _quantile(tally, q) for name, q in QUANTILES.items()}
    figures = {"rtt_min_us": tally.least, **quantiles, "rtt_max_us": tally.greatest}
    row, bucket = np.nonzero(tally.ladder)
    offsets = np.searchsorted(row, np.arange(len(tally.ladder) + 1)).astype(np.int64)

    def ladder(values: NDArray[Any]) -> pl.Series:
        return pl.Series(pl.from_arrow(pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values))))

    frame = pl.DataFrame({"src": [src for src, _ in names], "dst": [dst for _, dst in names]}, schema=_NAMES)
    frame = frame.with_columns(
        *(pl.Series(name, values) for name, values in counts.items()),
        *(pl.Series(name, values).zip_with(some, none) for name, values in figures.items()),
        ladder_bucket=ladder(bucket.astype(np.uint8)),
        ladder_count=ladder(tally.ladder[row, bucket].astype(np.uint64)),
    ).cast(dict(GROUP_LATENCY))  # type: ignore[arg-type]
    check_schema("group_latency", frame)
    return frame


def group_parts(tallies: Mapping[str, Tally], axis: MapAxis, **metadata: Any) -> Iterator[tuple[str, bytes]]:
    """Yield each kind's name and Parquet, in small row groups; `metadata` (plain values) go with it."""
    for kind, tally in tallies.items():
        data = io.BytesIO()
        group_rows(kind, tally, axis).write_parquet(
            data,
            compression="zstd",
            compression_level=3,
            row_group_size=ROW_GROUP,
            statistics=False,
            metadata={METADATA: json.dumps({**metadata, "axis": axis.id, "hosts": len(axis.hosts), "kind": kind})},
        )
        yield kind, data.getvalue()


_NAMES = {"src": pl.String, "dst": pl.String}
_LOW, _HIGH = (10 * 10 ** ((np.arange(LADDER_BUCKETS) - step) / BUCKETS_PER_DECADE) for step in (1, 0))


def _add(pairs: PairColumns, tally: Tally, keys: Sequence[Ints]) -> None:
    sent, answered = pairs.sent, pairs.answered
    counts = [np.ones(len(sent)), (sent > 0) & (answered == 0), sent == 0, sent, answered, pairs.lost]
    rows = len(tally.counts)
    for key in keys:
        for at, values in enumerate(counts):
            tally.counts[:, at] += np.bincount(key, weights=values, minlength=rows).astype(np.uint64)
        np.minimum.at(tally.least, key, pairs.least)
        np.maximum.at(tally.greatest, key, pairs.greatest)
        cell = np.repeat(key * LADDER_BUCKETS, pairs.ladder_length) + pairs.bucket
        low, high = (int(cell.min()), int(cell.max())) if len(cell) else (0, 0)
        flat = tally.ladder.reshape(-1)[low : high + 1]
        flat += np.bincount(cell - low, weights=pairs.count, minlength=high - low + 1).astype(flat.dtype)


def _quantile(tally: Tally, q: float) -> NDArray[np.uint32]:
    """Return the q-quantile of each row's ladder, as `latency.summary.quantile_from_ladder` estimates it."""
    reached = np.cumsum(tally.ladder, axis=1, dtype=np.uint64)
    rank = nearest_rank(q, np.maximum(reached[:, -1], 1).astype(np.int64))
    bucket = np.minimum((reached <= rank[:, None].astype(np.uint64)).sum(axis=1), LADDER_BUCKETS - 1)
    estimate = 2 * _LOW[bucket] * _HIGH[bucket] / (_LOW[bucket] + _HIGH[bucket])
    estimate = np.clip(estimate, tally.least, tally.greatest)
    estimate = np.where(bucket == 0, tally.least, np.where(bucket == LADDER_BUCKETS - 1, tally.greatest, estimate))
    return np.asarray(np.rint(estimate), np.uint32)
