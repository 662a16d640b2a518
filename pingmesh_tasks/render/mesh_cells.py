"""From rows of `pair_latency` to a square matrix that fits on a screen.

The matrix has hosts for rows (source) and columns (destination) up to 200 hosts, ToRs above, podsets above 400 ToRs,
and blocks of equal size where the inventory has no topology. Pooling keeps count: a cell with one healthy pair is
MEASURED (`matrix.states`), however many of its pairs died; `failed` and `no_data` say how many, and the pictures mark
them, so that a single dead host survives pooling.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pingmesh_tasks.matrix.positions import Pairs, pair_table
from pingmesh_tasks.matrix.states import States, has_failed, has_no_data, states_of
from pingmesh_tasks.render.theme import METRICS, Floats
from pingmesh_tasks.topology.axis import HostAxis, Span
from pingmesh_tasks.topology.inventory import Inventory

#: A host grid above this is unreadable; so is a ToR grid above the second.
MOST_HOSTS, MOST_GROUPS, BLOCKS = 200, 400, 50
ROWS_AT_ONCE, ROWS_IN_CACHE = 400_000, 50_000
#: What a cell may be, beside a host: its title, and the kind of groups on the axis; from fine to coarse.
_LEVELS = {"ToR": "tor", "podset": "podset", "DC": "dc"}

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Unsigned = NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True)
class PictureAxis:
    """What the rows (and columns) of a picture are. `member[i]` is the row of host i.

    `brackets` go from fine to coarse; a level that would be one bracket around all is left out.
    """

    kind: str  # host, ToR, podset or block
    hosts: HostAxis
    labels: tuple[str, ...]
    member: NDArray[np.int32]
    brackets: tuple[tuple[Span, ...], ...]

    @property
    def size(self) -> int:
        return len(self.labels)


def axis_for(inventory: Inventory) -> PictureAxis:
    """Return the finest axis on which this inventory is readable."""
    hosts = HostAxis.of(inventory)
    levels = list(_LEVELS) if inventory.has_topology else []
    everyone = np.arange(len(hosts), dtype=np.int32)
    if len(hosts) <= MOST_HOSTS:
        return PictureAxis("host", hosts, hosts.names, everyone, _brackets(hosts, levels, everyone))
    for depth, kind in enumerate(levels):
        spans = hosts.spans[_LEVELS[kind]]
        if 2 <= len(spans) <= MOST_GROUPS:
            member = hosts.member(_LEVELS[kind])
            labels = tuple(span.label for span in spans)
            return PictureAxis(kind, hosts, labels, member, _brackets(hosts, levels[depth + 1 :], member))
    block = math.ceil(len(hosts) / BLOCKS)
    labels = tuple(_range_label(hosts.names[i : i + block]) for i in range(0, len(hosts), block))
    return PictureAxis("block", hosts, labels, everyone // block, ())


@dataclass(frozen=True)
class Mesh:
    """One window as a matrix. Arrays are (axis.size, axis.size), row = source; `value` is NaN where no RTT is.

    `state` is a `State` a cell; `pairs`, `failed`, `no_data` count pairs, `sent`, `answered`, `lost` probes.
    """

    axis: PictureAxis
    metric: str
    value: Floats
    state: States
    pairs: Ints
    failed: Ints
    no_data: Ints
    sent: Ints
    answered: Ints
    lost: Ints
    strangers: int

    @property
    def unanswered(self) -> Floats:
        """Share of the probes sent that got no answer, lost or refused: 0…1, NaN where none was sent."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(1.0 - self.answered / np.where(self.sent > 0, self.sent, np.nan), dtype=np.float64)


def columns_of(*metrics: str) -> list[str]:
    """Return the columns of `pair_latency` that a matrix of `metrics` reads; a caller may leave the others on disk."""
    return ["src", "dst", "sent", "answered", "lost", *(metric for metric in metrics if metric != "loss")]


@dataclass(frozen=True)
class CodedPairs:
    """Rows of `pair_latency` between hosts of the axis, as columns of the narrowest integers that hold them.

    `src`, `dst` are positions on `axis.hosts`; `values` has a column for each metric (f32, NaN: none).
    """

    axis: PictureAxis
    src: Unsigned
    dst: Unsigned
    sent: Unsigned
    answered: Unsigned
    lost: Unsigned
    values: dict[str, NDArray[np.float32]]
    strangers: int

    @cached_property
    def no_data(self) -> Ints:
        """Rows of pairs that were planned and sent nothing."""
        return np.flatnonzero(has_no_data(self.sent))

    @cached_property
    def failed(self) -> Ints:
        """Rows of pairs that sent probes and got no answer."""
        return np.flatnonzero(has_failed(self.sent, self.answered))

    def slices(self) -> Iterator[slice]:
        """Cut the rows so that what is worked out of a slice stays in the processor's cache."""
        return (slice(i, i + ROWS_IN_CACHE) for i in range(0, len(self.src), ROWS_IN_CACHE))


def code_pairs(pairs: Pairs, axis: PictureAxis, *metrics: str) -> CodedPairs:
    """Return `pairs` with hosts as positions; rows of hosts that left the inventory are counted, not kept.

    Raises ValueError for a metric that is not in METRICS.
    """
    if unknown := [metric for metric in metrics if metric not in METRICS]:
        raise ValueError(f"no metric {unknown[0]!r}; there are {', '.join(METRICS)}")
    values = [_value(metric).cast(pl.Float32).fill_null(float("nan")).alias(metric) for metric in metrics]
    table = pair_table(pairs, axis.hosts, "sent", "answered", "lost", *values)
    by_metric = {metric: table.columns.pop(metric) for metric in metrics}
    return CodedPairs(axis, **table.columns, values=by_metric, strangers=table.strangers)


def fold(coded: CodedPairs, metric: str) -> Mesh:
    """Return the matrix of these pairs. Rows of one cell (pooled, or two protocols) are summed up as METRICS says."""
    n = coded.axis.size
    folded = pl.concat(_fold_rows(coded, metric, rows) for rows in _whole_rows(coded))
    where = folded["cell"].to_numpy()

    def matrix(column: str) -> Ints:
        flat = np.zeros(n * n, dtype=np.int64)
        flat[where] = folded[column].to_numpy()
        return flat.reshape(n, n)

    counts = {c: matrix(c) for c in ("pairs", "sent", "answered", "lost")}
    for name, some in (("failed", coded.failed), ("no_data", coded.no_data)):
        counts[name] = np.bincount(_cells(coded, some), minlength=n * n).reshape(n, n)
    if metric == "loss":
        with np.errstate(invalid="ignore", divide="ignore"):
            values = counts["lost"] / np.where(counts["sent"] > 0, counts["sent"], np.nan)
    else:
        values = np.full(n * n, np.nan)
        values[where] = folded["value"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        values = values.reshape(n, n)
    state = states_of(counts["sent"], counts["answered"], np.isfinite(values), planned=counts["pairs"] > 0)
    return Mesh(coded.axis, metric, values, state, strangers=coded.strangers, **counts)


def build_mesh(pairs: Pairs, axis: PictureAxis, metric: str) -> Mesh:
    """Return `pairs` (rows of `pair_latency`, any order) as a matrix on `axis`."""
    return fold(code_pairs(pairs, axis, metric), metric)


def _fold_rows(coded: CodedPairs, metric: str, rows: slice) -> pl.DataFrame:
    """Return the sums and the value of each cell that some rows are of."""
    value = pl.col("value").drop_nans()
    how = METRICS[metric][1]
    summary = {"median": value.median(), "worst": value.max(), "least": value.min(), "sum": value.max()}[how]
    columns = {"sent": coded.sent, "answered": coded.answered, "lost": coded.lost, "value": coded.values[metric]}
    return (
        pl.LazyFrame({"cell": _cells(coded, rows), **{name: column[rows] for name, column in columns.items()}})
        .group_by("cell")
        .agg(pl.len().alias("pairs"), pl.col("sent", "answered", "lost").cast(pl.Int64).sum(), summary.alias("value"))
        .collect()
    )


def _cells(coded: CodedPairs, rows: slice | Ints) -> NDArray[np.int32]:
    """Return the cell of the picture that each of some rows is in. A picture has 160,000 cells at most: 32 bits."""
    member, size = coded.axis.member, np.int32(coded.axis.size)
    return member[coded.src[rows]] * size + member[coded.dst[rows]]


def _whole_rows(coded: CodedPairs) -> list[slice]:
    """Cut pairs that come in order of the matrix's rows where a row begins: grouping a part takes less memory.

    Tables are sorted by source, so this is the rule; pairs in any other order are one part.
    """
    row = coded.axis.member.astype(np.min_scalar_type(coded.axis.size))[coded.src]
    if len(row) <= ROWS_AT_ONCE or (row[1:] < row[:-1]).any():
        return [slice(0, len(row))]
    firsts = np.unique(np.searchsorted(row, row[::ROWS_AT_ONCE])).tolist()
    return [slice(a, b) for a, b in pairwise([*firsts, len(row)])]


def _value(metric: str) -> pl.Expr:
    return pl.when(pl.col("sent") > 0).then(pl.col("lost") / pl.col("sent")) if metric == "loss" else pl.col(metric)


def _brackets(hosts: HostAxis, levels: Sequence[str], member: NDArray[np.int32]) -> tuple[tuple[Span, ...], ...]:
    """Return the spans of each level over the rows of a picture; `member` is the row of each host."""
    rows = int(member[-1]) + 1 if len(member) else 0
    of = np.append(member, rows)
    out: list[tuple[Span, ...]] = []
    for kind in levels:
        spans = hosts.spans[_LEVELS[kind]]
        if 1 < len(spans) < rows or (kind == "DC" and len(spans) > 1):
            out.append(tuple(replace(span, start=int(of[span.start]), stop=int(of[span.stop])) for span in spans))
    return tuple(out)


def _range_label(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}"
