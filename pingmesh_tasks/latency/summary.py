"""The `pair_latency` table: what a window's probes say about each pair, as numbers that can be compared and added.

- A probe counts in the window that its send time falls in, `start <= ts < end`, and in no other, however late its
  answer was; rows outside (a clock that was set) are left out and counted.
- `sent` is the number of rows and the sum of its parts: answered, lost, refused, unreachable, reset, bad_reply,
  local_error. Quantiles are exact: the nearest rank among the clean answers (answered, no retransmit).
  `jitter_us` is p95 − p50. A pair that was planned and gave nothing is a row with `sent` 0.
- The ladder counts the clean answers in fixed logarithmic buckets (`latency.ladder`).

`summarize_pairs` works on a frame in memory, `summarize_probe_table` on a Parquet file of any size; both are the same
few NumPy passes over the pair numbers and round trips of `_summarize`: one sort, no group-by, no string compared twice.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pingmesh_tasks.errors import StoreError
from pingmesh_tasks.latency.ladder import ladder_buckets, nearest_rank
from pingmesh_tasks.store.schemas import PAIR_LATENCY, check_schema
from pingmesh_tasks.windows import Window

QUANTILES = {"rtt_p50_us": 0.50, "rtt_p90_us": 0.90, "rtt_p95_us": 0.95, "rtt_p99_us": 0.99}
PLAN_COLUMNS = ("src", "dst", "protocol", "scope")

#: The count that each err_code adds to; a code that is not listed is a local_error.
CODES = {"answered": (0,), "lost": (1, 8), "refused": (2,), "unreachable": (3, 4), "reset": (5,), "bad_reply": (6,)}
OUTCOMES = (*CODES, "local_error")

_KEYS = ("src", "dst", "protocol")
_READ = ("ts", *PLAN_COLUMNS, "rtt_us", "err_code", "retransmits")
_NAME = pa.dictionary(pa.int32(), pa.string())
#: `PAIR_LATENCY` as Arrow: names as dictionaries, which spares memory and comparing them.
PAIR_ARROW = pa.schema(
    [("window", pa.timestamp("us", "UTC")), *((name, _NAME) for name in PLAN_COLUMNS)]
    + [(name, pa.uint32()) for name in ("sent", "answered", "lost", "retransmitted", *OUTCOMES[2:])]
    + [(name, pa.uint32()) for name in ("rtt_min_us", *QUANTILES, "rtt_max_us")]
    + [("rtt_mean_us", pa.float32()), ("jitter_us", pa.uint32())]
    + [
        (name, pa.list_(pa.field("element", kind, nullable=False)))
        for name, kind in {"ladder_bucket": pa.uint8(), "ladder_count": pa.uint32()}.items()
    ]
)
_PACKED = {"ts": pa.timestamp("us", "UTC"), **dict.fromkeys(PLAN_COLUMNS, _NAME), "rtt_us": pa.uint32()}
_NO_PROBES = pa.schema([*(_PACKED | {"err_code": pa.uint8(), "retransmits": pa.uint8()}).items()]).empty_table()
_DELTAS = [field.name for field in PAIR_ARROW if pa.types.is_uint32(field.type)]
_DELTAS += ["ladder_bucket.list.element", "ladder_count.list.element"]
_ROW_GROUP = 1 << 16
_OUTCOME_OF_CODE = np.full(256, OUTCOMES.index("local_error"), np.uint8)
for _outcome, _codes in CODES.items():
    _OUTCOME_OF_CODE[list(_codes)] = OUTCOMES.index(_outcome)


@dataclass(frozen=True, slots=True)
class SummaryStats:
    """What a summary was made of. `silent` pairs were planned and gave nothing; `outside` rows were of another time."""

    pairs: int
    silent: int
    probes: int
    outside: int

    def __add__(self, other: SummaryStats) -> SummaryStats:
        return SummaryStats(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


def summarize_pairs(probes: pl.DataFrame, window: Window, planned: pl.DataFrame | None = None) -> pl.DataFrame:
    """Return the rows of `PAIR_LATENCY` for rows of `PROBE`, sorted by src, dst, protocol.

    `planned` (columns src, dst, protocol, scope) adds the pairs that should have been heard of and were not.
    Raises StoreError where `probes` is no `PROBE` table.
    """
    check_schema("probe", probes)
    pairs, _ = _summarize(_to_arrow(probes.select(_READ)), _to_arrow(_sorted_plan(planned)), window)
    return pl.DataFrame(pairs).cast(PAIR_LATENCY)


def summarize_rows(rows: Sequence[pa.Table], window: Window, planned: pl.DataFrame | None = None) -> pl.DataFrame:
    """Return what `summarize_pairs` does for rows of `probe_rows`, whose strings are packed."""
    plan = _to_arrow(_sorted_plan(planned))
    probes = pa.concat_tables([table.select(_READ) for table in rows]) if rows else _NO_PROBES
    pairs, _ = _summarize(probes, plan, window)
    return pl.DataFrame(pairs).cast(PAIR_LATENCY)


def summarize_probe_table(
    source: Path | BinaryIO, window: Window, planned: pl.DataFrame | None, sink: Path | BinaryIO
) -> SummaryStats:
    """Summarise a Parquet file of `PROBE` into one of `PAIR_LATENCY`: the rows that `summarize_pairs` would return.

    Memory is that of the source with the most probes: row groups are read source by source, as their statistics tell.
    A file that mixes sources in its row groups is read right as well, but in one piece.
    """
    plan = _sorted_plan(planned)
    plan_arrow, plan_done = _to_arrow(plan), 0
    total, waiting = SummaryStats(0, 0, 0, 0), []
    with pq.ParquetFile(source, read_dictionary=list(PLAN_COLUMNS)) as file, pair_writer(sink) as writer:
        for row_groups, last in [
            *_by_source(file.metadata),
            ([], None),
        ]:  # at last, the plan's sources beyond the file's
            until = len(plan) if last is None else bisect_right(plan["src"], last)
            probes = file.read_row_groups(row_groups, columns=list(_READ), use_threads=False)
            pairs, stats = _summarize(probes, plan_arrow.slice(plan_done, until - plan_done), window)
            plan_done, total = until, total + stats
            waiting.append(pairs)
            if last is None or sum(map(len, waiting)) >= _ROW_GROUP:
                writer.write_table(pa.concat_tables(waiting).unify_dictionaries())
                waiting.clear()
    return total


def _summarize(probes: pa.Table, plan: pa.Table, window: Window) -> tuple[pa.Table, SummaryStats]:
    """Summarise rows of `_READ` columns and planned pairs, strings dictionary-encoded, into `PAIR_ARROW` rows."""
    for name in _READ:
        if name != "rtt_us" and probes[name].null_count:
            raise StoreError(f"table probe: column {name} has {probes[name].null_count} nulls; only rtt_us may be null")
    start_us, end_us = (int(moment.timestamp()) * 1_000_000 for moment in (window.start, window.end))
    ts_us = probes["ts"].cast(pa.int64()).to_numpy()
    if len(ts_us) and (ts_us.min() < start_us or ts_us.max() >= end_us):
        probes = probes.filter(pa.array((ts_us >= start_us) & (ts_us < end_us)))
    keys = {name: pa.chunked_array([*probes[name].chunks, *plan[name].chunks], _NAME) for name in PLAN_COLUMNS}
    keys = {name: column.unify_dictionaries().combine_chunks() for name, column in keys.items()}
    pair, first = _number_pairs(keys)
    pair, pairs = pair[: len(probes)], len(first)

    counts = _outcomes(pair, probes["err_code"].to_numpy(), probes["retransmits"].to_numpy(), pairs)
    clean = probes["rtt_us"].is_valid().to_numpy()
    rtt_us = probes["rtt_us"].drop_null().to_numpy()
    columns = {
        "window": pa.repeat(pa.scalar(start_us, pa.timestamp("us", "UTC")), pairs),
        **{name: keys[name].take(pa.array(first)) for name in PLAN_COLUMNS},
        **counts,
        **_distribution(pair[clean], rtt_us, pairs),
    }
    silent = int(np.count_nonzero(counts["sent"] == 0))
    stats = SummaryStats(pairs, silent, len(probes), len(ts_us) - len(probes))
    return pa.table([columns[name] for name in PAIR_ARROW.names], schema=PAIR_ARROW), stats


def _number_pairs(keys: dict[str, pa.DictionaryArray]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number the distinct (src, dst, protocol) in their order; return each row's number and each number's first row.

    Strings are compared once a run of equal keys, so that a table in which pairs stand together costs one pass.
    """
    columns = [keys[name] for name in _KEYS]
    starts = _run_starts(*(column.indices.to_numpy() for column in columns))
    code = np.zeros(len(starts), np.int64)
    for column in columns:
        rank = np.empty(len(column.dictionary), np.int64)
        rank[pc.sort_indices(column.dictionary).to_numpy()] = np.arange(len(rank))
        code = code * len(rank) + rank[column.indices.to_numpy()[starts]]
    _, first, number = np.unique(code, return_index=True, return_inverse=True)
    return np.repeat(number, np.diff(starts, append=len(columns[0]))), starts[first]


def _run_starts(*columns: NDArray[Any]) -> NDArray[np.int64]:
    """Return where each run of rows that are equal in all columns begins."""
    begins = np.zeros(len(columns[0]), np.bool_)
    begins[:1] = True
    for column in columns:
        begins[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(begins)


def _outcomes(
    pair: NDArray[np.int64], err_code: NDArray[np.uint8], retransmits: NDArray[np.uint8], pairs: int
) -> dict[str, NDArray[np.int64]]:
    """Return `sent`, `retransmitted` and a count for each of OUTCOMES, by pair. Looks closer at failures only."""
    sent = np.bincount(pair, minlength=pairs)
    failed = np.flatnonzero(err_code)
    failures = pair[failed] * len(OUTCOMES) + _OUTCOME_OF_CODE[err_code[failed]]
    counts = np.bincount(failures, minlength=pairs * len(OUTCOMES)).reshape(pairs, len(OUTCOMES))
    counts[:, OUTCOMES.index("answered")] = sent - counts.sum(axis=1)
    again = np.flatnonzero(retransmits)
    retransmitted = np.bincount(pair[again[err_code[again] == 0]], minlength=pairs)
    return {"sent": sent, "retransmitted": retransmitted, **dict(zip(OUTCOMES, counts.T, strict=True))}


def _distribution(pair: NDArray[np.int64], rtt_us: NDArray[np.uint32], pairs: int) -> dict[str, pa.Array]:
    """Return the columns of `PAIR_LATENCY` that describe the round trips `rtt_us` of pairs 0…`pairs`−1."""
    key = pair << 32 | rtt_us
    key.sort(kind="stable")  # rows of a pair stand together already: three times as fast as a quicksort here
    rtt_us, pair = key.astype(np.uint32), key >> 32
    n = np.bincount(pair, minlength=pairs)
    some = np.flatnonzero(n)
    none = n == 0
    begin = (np.cumsum(n) - n)[some]

    def column(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
        full = np.zeros(pairs, values.dtype)
        full[some] = values
        return pa.array(full, kind, mask=none)

    ranked = {name: rtt_us[begin + nearest_rank(q, n[some])] for name, q in QUANTILES.items()}
    ranked |= {"rtt_min_us": rtt_us[begin], "rtt_max_us": rtt_us[begin + n[some] - 1]}
    ranked["jitter_us"] = ranked["rtt_p95_us"] - ranked["rtt_p50_us"]
    mean = np.add.reduceat(rtt_us, begin, dtype=np.float64) / n[some] if len(some) else np.empty(0)

    bucket = ladder_buckets(rtt_us)
    cells = _run_starts(pair, bucket)
    offsets = np.append(0, np.cumsum(np.bincount(pair[cells], minlength=pairs))).astype(np.int32)
    ladder = {"ladder_bucket": bucket[cells], "ladder_count": np.diff(cells, append=len(bucket)).astype(np.uint32)}
    return {
        **{name: column(values, pa.uint32()) for name, values in ranked.items()},
        "rtt_mean_us": column(mean.astype(np.float32), pa.float32()),
        **{
            name: pa.ListArray.from_arrays(offsets, pa.array(values), PAIR_ARROW.field(name).type)
            for name, values in ladder.items()
        },
    }


def _by_source(metadata: pq.FileMetaData) -> list[tuple[list[int], str | None]]:
    """Return sets of row groups that share no source, in the order of their sources, each with its last source's name.

    The name is None where the file does not say.
    """
    column = metadata.schema.names.index("src")
    spans = []
    for group in range(metadata.num_row_groups):
        statistics = metadata.row_group(group).column(column).statistics
        if statistics is None or not statistics.has_min_max:
            return [(list(range(metadata.num_row_groups)), None)]
        spans.append((statistics.min, statistics.max, group))
    sets: list[tuple[list[int], str | None]] = []
    for low, high, group in sorted(spans):
        if sets and low <= sets[-1][1]:
            groups, last = sets[-1]
            sets[-1] = ([*groups, group], max(last, high))
        else:
            sets.append(([group], high))
    return sets


def _sorted_plan(planned: pl.DataFrame | None) -> pl.DataFrame:
    if planned is None:
        return pl.DataFrame(schema=dict.fromkeys(PLAN_COLUMNS, pl.String))
    return planned.select(pl.col(PLAN_COLUMNS).cast(pl.String)).sort(_KEYS)


def _to_arrow(frame: pl.DataFrame) -> pa.Table:
    """Return `frame` with its strings dictionary-encoded, as they come from `probe` Parquet."""
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    for i, field in enumerate(table.schema):
        if pa.types.is_large_string(field.type):
            encoded = table[field.name].dictionary_encode().combine_chunks()
            names = pa.DictionaryArray.from_arrays(encoded.indices, encoded.dictionary.cast(pa.string()))
            table = table.set_column(i, field.name, names)
    return table


def pair_writer(sink: Path | BinaryIO) -> pq.ParquetWriter:
    """Return a writer of rows of `PAIR_ARROW`: each table that it is given becomes a row group."""
    return pq.ParquetWriter(
        sink,
        PAIR_ARROW,
        store_schema=False,  # or readers would see dictionaries instead of strings
        compression="zstd",
        use_dictionary=[*PLAN_COLUMNS, "window"],
        column_encoding=dict.fromkeys(_DELTAS, "DELTA_BINARY_PACKED"),
        write_statistics=["window", "src", "dst"],
    )
