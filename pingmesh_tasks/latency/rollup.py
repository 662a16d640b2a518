"""Hours and days: the rows of `pair_latency` of many windows, merged into those of one longer window.

- Counts and ladders are sums, the extremes are exact. Quantiles are read from the merged ladder (`latency.ladder`),
  within 2.9 % of those of all the round trips, and never made of other quantiles: their mean or maximum says nothing
  of the whole (Pingmesh, SIGCOMM 2015, keeps histograms for this reason).
- The mean weighs each window by its clean answers. `jitter_us` is p95 − p50. A pair's scope is that of its last window.
- Merging is a sum: windows → hours → days says what windows → days says (the mean: to the seventh digit, its storage).

`roll_up` reads ranges of sources of sorted tables, so that a mesh of any size takes the memory of one
batch: 1 kB a pair of it.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pingmesh_tasks.errors import StoreError
from pingmesh_tasks.latency.ladder import Ladders, LadderSums
from pingmesh_tasks.latency.summary import OUTCOMES, PAIR_ARROW, PLAN_COLUMNS, QUANTILES, pair_writer
from pingmesh_tasks.windows import Window

COUNTS = ("sent", "retransmitted", *OUTCOMES)
#: What is read of a table: the other columns follow from these.
COLUMNS = (*PLAN_COLUMNS, *COUNTS, "rtt_min_us", "rtt_max_us", "rtt_mean_us", "ladder_bucket", "ladder_count")

_NAME_BITS = 21
Ints = NDArray[np.int64]
A = TypeVar("A", bound=NDArray[Any])


@dataclass(frozen=True, slots=True)
class SourceRange:
    """Rows of one table that can be read apart, as a row group: their sources are `first` <= src <= `last`."""

    first: str
    last: str
    read: Callable[[], pa.Table]


@dataclass(frozen=True, slots=True)
class RollupStats:
    """What was merged: `rows` of windows became `pairs`, of which `silent` sent nothing in any window."""

    pairs: int = 0
    silent: int = 0
    rows: int = 0

    def __add__(self, other: RollupStats) -> RollupStats:
        return RollupStats(self.pairs + other.pairs, self.silent + other.silent, self.rows + other.rows)


class PairSums:
    """Sums by pair over any number of tables, each of which has a pair at most once. 1 kB a pair.

    A pair is a number made of those of its names; `_pairs` are sorted, and row i of every array is the i-th of them.
    """

    def __init__(self) -> None:
        self._names: dict[str, int] = {}
        self._pairs: Ints = np.empty(0, np.int64)
        self._counts = np.zeros((0, len(COUNTS)), np.uint32)
        self._ladders = LadderSums.empty(0, np.uint32)
        self._total_us = np.empty(0, np.float64)
        self._scope = np.empty(0, np.int64)

    def add(self, table: pa.Table) -> None:
        """Add rows with `COLUMNS`. Raises StoreError where a pair is there twice."""
        names = {name: self._numbers(table[name]) for name in PLAN_COLUMNS}
        rows = self._rows_of((names["src"] << 2 * _NAME_BITS) | (names["dst"] << _NAME_BITS) | names["protocol"])
        ladders = Ladders.of_pairs(table)
        self._ladders.add_once(rows, ladders)  # no row is there twice, as no pair is
        for at, name in enumerate(COUNTS):
            self._counts[rows, at] += _plain(table[name])
        self._total_us[rows] += _plain(table["rtt_mean_us"]).astype(np.float64) * ladders.totals
        self._scope[rows] = names["scope"]

    def finish(self, window: Window) -> tuple[pa.Table, RollupStats]:
        """Return the sums as rows of `PAIR_ARROW`, sorted by src, dst, protocol."""
        names = pa.array(list(self._names), pa.string())
        rank = np.empty(len(names), np.int64)
        rank[pc.sort_indices(names).to_numpy()] = np.arange(len(names))
        mask = (1 << _NAME_BITS) - 1
        parts = {
            "src": self._pairs >> 2 * _NAME_BITS,
            "dst": (self._pairs >> _NAME_BITS) & mask,
            "protocol": self._pairs & mask,
        }
        order = np.lexsort([rank[parts[name]] for name in ("protocol", "dst", "src")])
        parts["scope"] = self._scope
        counts = dict(zip(COUNTS, self._counts[order].T, strict=True))
        columns: dict[str, Any] = {
            "window": pa.repeat(pa.scalar(window.start, pa.timestamp("us", "UTC")), len(order)),
            **{name: pa.DictionaryArray.from_arrays(pa.array(parts[name][order], pa.int32()), names) for name in parts},
            **counts,
            **self._distribution(order),
        }
        silent = int(np.count_nonzero(counts["sent"] == 0))
        table = pa.table([columns[name] for name in PAIR_ARROW.names], schema=PAIR_ARROW)
        return table, RollupStats(len(order), silent)

    def _distribution(self, order: Ints) -> dict[str, pa.Array]:
        """Return the columns that describe round trips, in `order`."""
        ladders = self._ladders.rows(order).ladders()
        clean = ladders.totals
        none = clean == 0
        ranked: dict[str, NDArray[np.uint32]] = {
            name: np.nan_to_num(us).astype(np.uint32) for name, us in ladders.quantiles_us(QUANTILES).items()
        }
        ranked |= {"rtt_min_us": ladders.min_us, "rtt_max_us": ladders.max_us}
        ranked["jitter_us"] = ranked["rtt_p95_us"] - ranked["rtt_p50_us"]
        mean = (self._total_us[order] / np.maximum(clean, 1)).astype(np.float32)
        offsets = ladders.offsets.astype(np.int32)
        entries = {"ladder_bucket": ladders.bucket, "ladder_count": ladders.count}
        return {
            **{name: pa.array(values, pa.uint32(), mask=none) for name, values in ranked.items()},
            "rtt_mean_us": pa.array(mean, pa.float32(), mask=none),
            **{
                name: pa.ListArray.from_arrays(offsets, pa.array(values), PAIR_ARROW.field(name).type)
                for name, values in entries.items()
            },
        }

    def _numbers(self, column: pa.ChunkedArray) -> Ints:
        """Return the number of each name; a new name gets the next one."""
        encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        encoded = encoded.unify_dictionaries().combine_chunks()
        known = self._names
        number = np.array([known.setdefault(name, len(known)) for name in encoded.dictionary.to_pylist()], np.int64)
        if len(known) >> _NAME_BITS:
            raise StoreError(f"a roll-up knows {1 << _NAME_BITS} names at most; make its batches smaller")
        return number[encoded.indices.to_numpy()] if len(number) else np.empty(0, np.int64)

    def _rows_of(self, pairs: Ints) -> Ints:
        """Return the row of each pair; there is room for new ones from now on."""
        known = np.union1d(self._pairs, pairs)
        if len(known) > len(self._pairs):
            at = np.searchsorted(known, self._pairs)
            self._counts = _widened(self._counts, at, len(known))
            self._total_us = _widened(self._total_us, at, len(known))
            self._scope = _widened(self._scope, at, len(known))
            self._ladders = self._ladders.widened(at, len(known))
            self._pairs = known
        rows = np.searchsorted(known, pairs)
        if len(rows) and np.bincount(rows).max() > 1:
            twice = {number: name for name, number in self._names.items()}
            pair = int(known[np.argmax(np.bincount(rows))])
            src, dst = twice[pair >> 2 * _NAME_BITS], twice[(pair >> _NAME_BITS) & ((1 << _NAME_BITS) - 1)]
            raise StoreError(f"table pair_latency: {src} > {dst} is there twice in one part; build the window anew")
        return rows


def roll_up(
    windows: Sequence[Sequence[SourceRange]],
    window: Window,
    sink: Path | BinaryIO,
    seen: Callable[[pa.Table], None] = lambda _: None,
) -> RollupStats:
    """Merge the ranges of each of `windows`, oldest first, into one Parquet file of `PAIR_LATENCY`.

    A batch of sources is written at a time, and handed to `seen`. A batch ends where a range of the
    window with the most ranges does. The next range is read while one is added.

    Raises StoreError where a pair is twice in one table.
    """
    total = RollupStats()
    with pair_writer(sink) as writer, ThreadPoolExecutor(1, "rollup-read") as reader:
        for low, high in _batches(windows):
            sums = PairSums()
            rows = 0
            for table in _ahead(reader, _readers(windows, low, high)):
                sums.add(table)
                rows += len(table)
            merged, stats = sums.finish(window)
            writer.write_table(merged)
            seen(merged)
            total += stats + RollupStats(rows=rows)
    return total


def only_sources(piece: SourceRange, wanted: Callable[[str], bool] | Container[str]) -> SourceRange:
    """Return `piece` without the rows of sources that are not wanted."""
    wants = wanted if callable(wanted) else wanted.__contains__
    return SourceRange(piece.first, piece.last, lambda: _filtered(piece.read(), wants))


def _batches(windows: Sequence[Sequence[SourceRange]]) -> list[tuple[str, str | None]]:
    """Return spans of sources, low < src <= high, that cover all; the last has no end."""
    most: Sequence[SourceRange] = max(windows, key=len, default=())
    ends = sorted({piece.last for piece in most})[:-1]
    return list(zip(["", *ends], [*ends, None], strict=True))


def _readers(windows: Sequence[Sequence[SourceRange]], low: str, high: str | None) -> Iterator[Callable[[], pa.Table]]:
    for pieces in windows:
        for piece in pieces:
            if piece.last > low and (high is None or piece.first <= high):
                inside = piece.first > low and (high is None or piece.last <= high)
                yield piece.read if inside else only_sources(piece, lambda src: _within(src, low, high)).read


def _within(src: str, low: str, high: str | None) -> bool:
    return src > low and (high is None or src <= high)


def _ahead(reader: ThreadPoolExecutor, readers: Iterable[Callable[[], pa.Table]]) -> Iterator[pa.Table]:
    """Yield what each of `readers` returns, in order; the next is read meanwhile."""
    waiting = None
    for read in readers:
        following = reader.submit(read)
        if waiting:
            yield waiting.result()
        waiting = following
    if waiting:
        yield waiting.result()


def _filtered(table: pa.Table, wants: Callable[[str], bool]) -> pa.Table:
    column = table["src"]
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    encoded = encoded.unify_dictionaries().combine_chunks()
    wanted = np.array([wants(name) for name in encoded.dictionary.to_pylist()], np.bool_)
    return table.filter(pa.array(wanted[encoded.indices.to_numpy()])) if len(wanted) else table


def _plain(column: pa.ChunkedArray) -> NDArray[Any]:
    return np.asarray(column.fill_null(0).to_numpy())


def _widened(before: A, at: Ints, rows: int) -> A:
    """Return `rows` zeros, of which those at `at` are the rows of `before`."""
    after = np.zeros((rows, *before.shape[1:]), before.dtype)
    after[at] = before
    return after  # type: ignore[return-value]
