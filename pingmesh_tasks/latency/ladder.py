"""The latency ladder: counts of round trips in fixed logarithmic buckets, and what is read from them.

    bucket 0        below 10 µs
    bucket 1 … 240  40 buckets a decade from 10 µs to 10 s
    bucket 241      10 s and more

Ladders of pairs, hosts and windows add up, quantiles never do: an average of quantiles was off by up to 161 % on an
hour of real probes. A quantile read from a ladder is within 2.9 % of the exact nearest rank, plus half a µs, because
it is rounded to whole µs as round trips are. The exact extremes are kept beside each ladder and bound every answer;
below 10 µs and from 10 s on they are the answer. Every figure of more than one pair and window comes from here:
groups of the page, hours and days, CDF and bars.

`Ladders` are read, `LadderSums` are added to.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import ArrayLike, DTypeLike, NDArray

BUCKETS_PER_DECADE = 40
#: Lower edge of bucket 1 … 241 in µs. Round trips are whole µs, so the edges `10 · 10^(b/40)` are
#: rounded up to whole µs: bucket b holds `edges[b-1] <= rtt_us < edges[b]`.
LADDER_EDGES_US: NDArray[np.uint32] = np.array(
    [math.ceil(10 * 10 ** (b / BUCKETS_PER_DECADE) - 1e-6) for b in range(6 * BUCKETS_PER_DECADE + 1)], np.uint32
)
LADDER_BUCKETS = len(LADDER_EDGES_US) + 1
#: The least round trip of a ladder that counts none.
NO_RTT = int(np.iinfo(np.uint32).max)

_BUCKET_BELOW_65_MS = np.searchsorted(LADDER_EDGES_US, np.arange(1 << 16), side="right").astype(np.uint8)
_LOW_US, _HIGH_US = (10 * 10 ** ((np.arange(LADDER_BUCKETS) - step) / BUCKETS_PER_DECADE) for step in (1, 0))
#: The estimate of a bucket [a, b) is 2ab/(a+b): the one whose greatest relative error, (b−a)/(b+a), is
#: least (DDSketch, Masson et al., VLDB 2019). The open ends are estimated by the extremes that bound them.
_ESTIMATE_US = 2 * _LOW_US * _HIGH_US / (_LOW_US + _HIGH_US)
_ESTIMATE_US[0], _ESTIMATE_US[-1] = 0, np.inf

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def ladder_buckets(rtt_us: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """Return the bucket, 0…241, of each round trip."""
    buckets = _BUCKET_BELOW_65_MS.take(rtt_us, mode="clip")
    slow = rtt_us >= len(_BUCKET_BELOW_65_MS)
    buckets[slow] = np.searchsorted(LADDER_EDGES_US, rtt_us[slow], side="right")
    return buckets


def nearest_rank(q: float, n: Any) -> Any:
    """Return the index, from 0, of the q-quantile among `n` >= 1 sorted values (`n` may be an array)."""
    return np.maximum(np.ceil(q * n - 1e-9).astype(np.int64) - 1, 0)


@dataclass(frozen=True, slots=True)
class Ladders:
    """The ladders of some pairs or groups.

    Ladder i has the entries `offsets[i]` … `offsets[i + 1]` - 1 of `bucket` (ascending) and `count`, and the exact
    extremes `min_us[i]`, `max_us[i]` (NO_RTT and 0 where nothing is counted).
    """

    offsets: Ints
    bucket: NDArray[Any]
    count: NDArray[Any]
    min_us: NDArray[np.uint32]
    max_us: NDArray[np.uint32]

    @classmethod
    def of_one(cls, bucket: ArrayLike, count: ArrayLike, min_us: int, max_us: int) -> Ladders:
        """Return one ladder."""
        bucket, count = np.asarray(bucket, np.int64), np.asarray(count, np.int64)
        ends = (np.array([us], np.uint32) for us in (min_us, max_us))
        return cls(np.array([0, len(bucket)]), bucket, count, *ends)

    @classmethod
    def of_pairs(cls, pairs: pl.DataFrame | pa.Table) -> Ladders:
        """Return the ladders of rows of `pair_latency` (ladder_bucket, ladder_count, rtt_min_us, rtt_max_us)."""
        names = ("ladder_bucket", "ladder_count", "rtt_min_us", "rtt_max_us")
        if isinstance(pairs, pl.DataFrame):
            pairs = pairs.select(names).to_arrow(compat_level=pl.CompatLevel.oldest())
        buckets, counts = (pairs[name].combine_chunks() for name in names[:2])
        offsets = buckets.offsets.to_numpy().astype(np.int64)
        bucket, count = (lists.flatten().to_numpy(zero_copy_only=False) for lists in (buckets, counts))
        ends = (
            pairs[name].cast(pa.uint32()).fill_null(none).to_numpy()
            for name, none in zip(names[2:], (NO_RTT, 0), strict=True)
        )
        return cls(offsets - offsets[0], bucket, count, *ends)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Ints:
        """How many entries each ladder has."""
        return np.diff(self.offsets)

    @property
    def totals(self) -> Ints:
        """How many round trips each ladder counts."""
        return np.diff(self._reached()[self.offsets])

    def quantiles_us(self, quantiles: Mapping[str, float]) -> dict[str, Floats]:
        """Return, by name, these quantiles of each ladder in whole µs; NaN where nothing is counted."""
        reached = self._reached()
        before, total = reached[self.offsets[:-1]], np.diff(reached[self.offsets])
        found = {}
        for name, q in quantiles.items():
            at = np.searchsorted(reached, before + nearest_rank(q, np.maximum(total, 1)), side="right") - 1
            at = np.minimum(at, len(self.bucket) - 1)
            estimate = _ESTIMATE_US[self.bucket[at]] if len(self.bucket) else np.zeros(len(self))
            bounded = np.clip(estimate, self.min_us, self.max_us)
            found[name] = np.where(total > 0, np.rint(bounded), np.nan)
        return found

    def cdf(self, at: int = 0) -> tuple[Ints, Floats]:
        """Return (µs, share of the round trips at or below) of one ladder; empty where nothing is counted.

        The points are the minimum with share 0, then both edges of each bucket in use, at which the
        share is known exactly. The maximum bounds the edges.
        """
        entries = slice(*self.offsets[at : at + 2])
        bucket = self.bucket[entries].astype(np.int64)[self.count[entries] > 0]
        count = self.count[entries][self.count[entries] > 0]
        if not len(count):
            return np.empty(0, np.int64), np.empty(0)
        edges = np.array([self.min_us[at], *LADDER_EDGES_US, self.max_us[at]], np.int64)
        edges = np.clip(edges, self.min_us[at], self.max_us[at])
        share = np.append(0, np.cumsum(count, dtype=np.int64)) / count.sum(dtype=np.int64)
        us = np.stack([edges[bucket], edges[bucket + 1]], axis=1).ravel()
        new = np.append(True, us[1:] > us[:-1])
        new[1::2] = True  # of equal edges the upper one of a bucket and the lower one of the next are one point
        return us[new], np.stack([share[:-1], share[1:]], axis=1).ravel()[new]

    def _reached(self) -> Ints:
        return np.append(0, np.cumsum(self.count, dtype=np.int64))


@dataclass(slots=True)
class LadderSums:
    """Ladders by row, to be added to: `counts` (rows, 242) of any integer type, exact extremes in µs."""

    counts: NDArray[Any]
    min_us: NDArray[np.uint32]
    max_us: NDArray[np.uint32]

    @classmethod
    def empty(cls, rows: int, dtype: DTypeLike = np.uint64) -> LadderSums:
        """Return `rows` ladders that count nothing."""
        return cls(
            np.zeros((rows, LADDER_BUCKETS), dtype),
            np.full(rows, NO_RTT, np.uint32),
            np.zeros(rows, np.uint32),
        )

    def __len__(self) -> int:
        return len(self.counts)

    def add(self, rows: Ints, ladders: Ladders) -> None:
        """Add each of `ladders` to the row that `rows` names for it; a row may be named any number of times."""
        np.minimum.at(self.min_us, rows, ladders.min_us)
        np.maximum.at(self.max_us, rows, ladders.max_us)
        cell = np.repeat(rows * LADDER_BUCKETS, ladders.lengths) + ladders.bucket
        low, high = (int(cell.min()), int(cell.max())) if len(cell) else (0, -1)
        flat = self.counts.reshape(-1)[low : high + 1]
        flat += np.bincount(cell - low, weights=ladders.count, minlength=len(flat)).astype(flat.dtype)

    def add_once(self, rows: Ints, ladders: Ladders) -> None:
        """Do what `add` does where no row is named twice: the same sums in a third of the time."""
        self.min_us[rows] = np.minimum(self.min_us[rows], ladders.min_us)
        self.max_us[rows] = np.maximum(self.max_us[rows], ladders.max_us)
        cell = np.repeat(rows * LADDER_BUCKETS, ladders.lengths) + ladders.bucket
        self.counts.reshape(-1)[cell] += ladders.count.astype(self.counts.dtype, copy=False)

    def rows(self, index: slice | Ints) -> LadderSums:
        """Return the chosen rows."""
        return LadderSums(self.counts[index], self.min_us[index], self.max_us[index])

    def folded(self, onto: Ints, rows: int, dtype: DTypeLike = np.uint64) -> LadderSums:
        """Return `rows` sums: row i of this one is a part of row `onto[i]`."""
        coarse = LadderSums.empty(rows, dtype)
        np.add.at(coarse.counts, onto, self.counts)
        np.minimum.at(coarse.min_us, onto, self.min_us)
        np.maximum.at(coarse.max_us, onto, self.max_us)
        return coarse

    def widened(self, at: Ints, rows: int) -> LadderSums:
        """Return `rows` sums, of which row `at[i]` is row i of this one and the others are empty."""
        wide = LadderSums.empty(rows, self.counts.dtype)
        wide.counts[at], wide.min_us[at], wide.max_us[at] = self.counts, self.min_us, self.max_us
        return wide

    def ladders(self) -> Ladders:
        """Return the sums as ladders to read from."""
        filled = np.flatnonzero(self.counts)
        offsets = np.searchsorted(filled, np.arange(len(self) + 1) * LADDER_BUCKETS)
        count = self.counts.reshape(-1)[filled]
        return Ladders(offsets, (filled % LADDER_BUCKETS).astype(np.uint8), count, self.min_us, self.max_us)
