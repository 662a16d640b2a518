"""From rows of `pair_latency` to a square matrix that fits on a screen.

The matrix has hosts for rows (source) and columns (destination) up to 200 hosts, ToRs above, podsets above 400 ToRs,
and blocks of equal size where the inventory has no topology. A cell is in one of five states, and pooling keeps count:

    MEASURED     at least one clean answer; has a value
    UNCLEAN      answered, but only after retransmits: no RTT to trust
    FAILED       probes were sent, none was answered
    MISSING      planned, but nothing came: the source has no data
    NOT_PLANNED  never to be measured: the diagonal, the gaps of a ring

A cell with one healthy pair is MEASURED, however many of its pairs died; `failed` and `missing` say how many, and the
pictures mark them, so that a single dead host survives pooling.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, pairwise
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pingmesh_tasks.render.theme import METRICS, Floats
from pingmesh_tasks.store.schemas import PAIR_LATENCY
from pingmesh_tasks.topology.inventory import Inventory

NOT_PLANNED, MISSING, FAILED, UNCLEAN, MEASURED = range(5)
#: A host grid above this is unreadable; so is a ToR grid above the second.
MOST_HOSTS, MOST_GROUPS, BLOCKS = 200, 400, 50
ROWS_AT_ONCE, ROWS_IN_CACHE = 400_000, 50_000

#: Rows of `pair_latency` in any order: a frame, or its parts, of which one is in memory at a time.
Pairs = pl.DataFrame | Iterable[pl.DataFrame]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Unsigned = NDArray[np.unsignedinteger[Any]]
Column = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Span:
    """Neighbours on an axis that belong together: positions `start` … `stop` - 1."""

    start: int
    stop: int
    label: str


@dataclass(frozen=True)
class Axis:
    """What the rows (and columns) of a picture are. `member[i]` is the position of the inventory's host i.

    `brackets` go from fine to coarse; a level that would be one bracket around all is left out.
    """

    kind: str  # host, ToR, podset or block
    hosts: tuple[str, ...]
    labels: tuple[str, ...]
    member: Ints
    brackets: tuple[tuple[Span, ...], ...]
    scopes: Ints  # per host: (ToR code, DC code), shape (hosts, 2)

    @property
    def size(self) -> int:
        return len(self.labels)

    @cached_property
    def host_type(self) -> pl.Enum:
        return pl.Enum(self.hosts)


def axis_for(inventory: Inventory) -> Axis:
    """Return the finest axis on which this inventory is readable."""
    hosts = inventory.hosts
    dcs = _codes([(h.dc,) for h in hosts])
    podsets = _codes([(h.dc, h.podset) for h in hosts])
    tors = _codes([h.tor_key for h in hosts])
    names = tuple(h.name for h in hosts)
    scopes = np.stack([tors, dcs], axis=1)
    levels = [  # fine to coarse: name, code of each host, label of each host's group
        ("ToR", tors, [h.tor for h in hosts]),
        ("podset", podsets, [h.podset for h in hosts]),
        ("DC", dcs, [h.dc for h in hosts]),
    ]
    if len(hosts) <= MOST_HOSTS:
        brackets = _brackets(levels if inventory.has_topology else [], np.arange(len(hosts)))
        return Axis("host", names, names, np.arange(len(hosts)), brackets, scopes)
    for i, (kind, codes, labels) in enumerate(levels):
        count = int(codes.max()) + 1
        if inventory.has_topology and 2 <= count <= MOST_GROUPS:
            firsts = np.unique(codes, return_index=True)[1]
            return Axis(
                kind, names, tuple(labels[f] for f in firsts), codes, _brackets(levels[i + 1 :], firsts), scopes
            )
    block = math.ceil(len(hosts) / BLOCKS)
    member = np.arange(len(hosts)) // block
    labels_ = tuple(_range_label(names[i : i + block]) for i in range(0, len(names), block))
    return Axis("block", names, labels_, member, (), scopes)


@dataclass(frozen=True)
class Mesh:
    """One window as a matrix. Arrays are (axis.size, axis.size), row = source; `value` is NaN where no RTT is."""

    axis: Axis
    metric: str
    value: Floats
    state: NDArray[np.uint8]
    pairs: Ints
    failed: Ints
    missing: Ints
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
    """Rows of `pair_latency` between known hosts, as columns of the narrowest integers that hold them.

    `src`, `dst` are positions in the inventory; `values` has a column for each metric (f32, NaN: none).
    """

    axis: Axis
    src: Unsigned
    dst: Unsigned
    sent: Unsigned
    answered: Unsigned
    lost: Unsigned
    values: dict[str, NDArray[np.float32]]
    strangers: int

    @cached_property
    def silent(self) -> Ints:
        """Rows of pairs that were planned and sent nothing."""
        return np.flatnonzero(self.sent == 0)

    @cached_property
    def failed(self) -> Ints:
        """Rows of pairs that sent probes and got no answer."""
        return np.flatnonzero((self.sent > 0) & (self.answered == 0))

    def slices(self) -> Iterator[slice]:
        """Cut the rows so that what is worked out of a slice stays in the processor's cache."""
        return (slice(i, i + ROWS_IN_CACHE) for i in range(0, len(self.src), ROWS_IN_CACHE))


def code_pairs(pairs: Pairs, axis: Axis, *metrics: str) -> CodedPairs:
    """Return `pairs` with hosts as integers; rows of hosts that left the inventory are counted, not kept."""
    if unknown := [metric for metric in metrics if metric not in METRICS]:
        raise ValueError(f"no metric {unknown[0]!r}; there are {', '.join(METRICS)}")
    values = [_value(metric).cast(pl.Float32).fill_null(float("nan")).alias(metric) for metric in metrics]
    parts: list[dict[str, Column]] = []
    strangers = 0
    slices = (rows for part in parts_of(pairs) for rows in part.iter_slices(ROWS_AT_ONCE))
    for rows in chain([pl.DataFrame(schema=PAIR_LATENCY)], slices):  # the first gives columns to an empty window
        coded = rows.select(
            pl.col("src", "dst").cast(axis.host_type, strict=False).to_physical(), "sent", "answered", "lost", *values
        )
        coded = coded.drop_nulls(["src", "dst"])
        strangers += rows.height - coded.height
        parts.append({column.name: _narrow(column.to_numpy()) for column in coded})
    joined = {name: np.concatenate([part.pop(name) for part in parts]) for name in list(parts[0])}
    columns = {metric: joined.pop(metric) for metric in metrics}
    return CodedPairs(axis, **joined, values=columns, strangers=strangers)


def fold(coded: CodedPairs, metric: str) -> Mesh:
    """Return the matrix of these pairs. Rows of one cell (pooled, or two protocols) are summed up as METRICS says."""
    axis, n = coded.axis, coded.axis.size
    member = axis.member.astype(np.int32)

    def cells(rows: slice | Ints) -> NDArray[np.int32]:
        return member[coded.src[rows]] * np.int32(n) + member[coded.dst[rows]]

    value = pl.col("value").drop_nans()
    how = METRICS[metric][1]
    summary = {"median": value.median(), "worst": value.max(), "least": value.min(), "sum": value.max()}[how]
    columns = {"sent": coded.sent, "answered": coded.answered, "lost": coded.lost, "value": coded.values[metric]}
    folded = pl.concat(
        pl.LazyFrame({"cell": cells(rows), **{name: column[rows] for name, column in columns.items()}})
        .group_by("cell")
        .agg(pl.len().alias("pairs"), pl.col("sent", "answered", "lost").cast(pl.Int64).sum(), summary.alias("value"))
        .collect()
        for rows in _whole_rows(coded)
    )
    where = folded["cell"].to_numpy()

    def matrix(column: str) -> Ints:
        flat = np.zeros(n * n, dtype=np.int64)
        flat[where] = folded[column].to_numpy()
        return flat.reshape(n, n)

    counts = {c: matrix(c) for c in ("pairs", "sent", "answered", "lost")}
    for name, some in (("failed", coded.failed), ("missing", coded.silent)):
        counts[name] = np.bincount(cells(some), minlength=n * n).reshape(n, n)
    if metric == "loss":
        with np.errstate(invalid="ignore", divide="ignore"):
            values = counts["lost"] / np.where(counts["sent"] > 0, counts["sent"], np.nan)
    else:
        values = np.full(n * n, np.nan)
        values[where] = folded["value"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        values = values.reshape(n, n)
    answered = counts["answered"] > 0
    state = np.select(
        [answered & np.isfinite(values), answered, counts["failed"] > 0, counts["missing"] > 0],
        [MEASURED, UNCLEAN, FAILED, MISSING],
        NOT_PLANNED,
    ).astype(np.uint8)
    return Mesh(axis, metric, values, state, strangers=coded.strangers, **counts)


def _whole_rows(coded: CodedPairs) -> list[slice]:
    """Cut pairs that come in order of the matrix's rows where a row begins: grouping a part takes less memory.

    Tables are sorted by source, so this is the rule; pairs in any other order are one part.
    """
    row = coded.axis.member.astype(np.min_scalar_type(coded.axis.size))[coded.src]
    if len(row) <= ROWS_AT_ONCE or (row[1:] < row[:-1]).any():
        return [slice(0, len(row))]
    firsts = np.unique(np.searchsorted(row, row[::ROWS_AT_ONCE])).tolist()
    return [slice(a, b) for a, b in pairwise([*firsts, len(row)])]


def parts_of(pairs: Pairs) -> Iterable[pl.DataFrame]:
    return [pairs] if isinstance(pairs, pl.DataFrame) else pairs


def _value(metric: str) -> pl.Expr:
    return pl.when(pl.col("sent") > 0).then(pl.col("lost") / pl.col("sent")) if metric == "loss" else pl.col(metric)


def _narrow(column: Column) -> Column:
    """Return unsigned integers in the fewest bytes that hold them: thirty probes a window are one byte, not four."""
    return column if column.dtype.kind == "f" else column.astype(np.min_scalar_type(column.max(initial=0)), copy=False)


def build_mesh(pairs: Pairs, axis: Axis, metric: str) -> Mesh:
    """Return `pairs` (rows of `pair_latency`, any order) as a matrix on `axis`."""
    return fold(code_pairs(pairs, axis, metric), metric)


def _codes(keys: Sequence[tuple[str, ...]]) -> Ints:
    """Number the keys in the order of their first appearance."""
    seen: dict[tuple[str, ...], int] = {}
    return np.array([seen.setdefault(k, len(seen)) for k in keys], dtype=np.int64)


def _brackets(levels: list[tuple[str, Ints, list[str]]], firsts: Ints) -> tuple[tuple[Span, ...], ...]:
    """Return the spans of each level over the positions whose first hosts are `firsts`."""
    out: list[tuple[Span, ...]] = []
    for kind, codes, labels in levels:
        of = codes[firsts]
        if not len(of):
            continue
        starts = np.flatnonzero(np.r_[True, of[1:] != of[:-1]])
        stops = np.r_[starts[1:], len(of)]
        spans = tuple(Span(int(a), int(b), labels[firsts[a]]) for a, b in zip(starts, stops, strict=True))
        if 1 < len(spans) < len(of) or (kind == "DC" and len(spans) > 1):
            out.append(spans)
    return tuple(out)


def _range_label(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}"
