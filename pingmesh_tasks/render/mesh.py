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
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pingmesh_tasks.fleet.inventory import Inventory
from pingmesh_tasks.render.theme import METRICS, Floats

NOT_PLANNED, MISSING, FAILED, UNCLEAN, MEASURED = range(5)
#: A host grid above this is unreadable; so is a ToR grid above the second.
MOST_HOSTS, MOST_GROUPS, BLOCKS = 200, 400, 50
ROWS_AT_ONCE = 400_000

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Positions = NDArray[np.unsignedinteger[Any]]


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


def columns_of(metric: str) -> list[str]:
    """Return the columns of `pair_latency` that a picture of `metric` reads; a caller may leave the others on disk."""
    return ["src", "dst", "sent", "answered", "lost", *([] if metric == "loss" else [metric])]


@dataclass(frozen=True)
class CodedPairs:
    """Rows of `pair_latency` between known hosts. `frame` has src, dst (positions in the inventory, unsigned), sent,
    answered, lost, value (f32, NaN: none); the arrays are its columns."""

    axis: Axis
    metric: str
    frame: pl.DataFrame
    strangers: int

    @cached_property
    def src(self) -> Positions:
        return self.frame["src"].to_numpy()

    @cached_property
    def dst(self) -> Positions:
        return self.frame["dst"].to_numpy()

    @cached_property
    def value(self) -> NDArray[np.float32]:
        return self.frame["value"].to_numpy()


def code_pairs(pairs: pl.DataFrame, axis: Axis, metric: str) -> CodedPairs:
    """Return `pairs` with hosts as integers; rows of hosts that left the inventory are counted, not kept."""
    if metric not in METRICS:
        raise ValueError(f"no metric {metric!r}; there are {', '.join(METRICS)}")
    value = pl.when(pl.col("sent") > 0).then(pl.col("lost") / pl.col("sent")) if metric == "loss" else pl.col(metric)
    frame = pairs.select(
        pl.col("src", "dst").cast(axis.host_type, strict=False).to_physical(),
        pl.col("sent", "answered", "lost"),
        value.cast(pl.Float32).fill_null(float("nan")).alias("value"),
    )
    known = frame.drop_nulls(["src", "dst"]) if frame["src"].null_count() or frame["dst"].null_count() else frame
    return CodedPairs(axis, metric, known, frame.height - known.height)


def fold(coded: CodedPairs) -> Mesh:
    """Return the matrix of these pairs. Rows of one cell (pooled, or two protocols) are summed up as METRICS says."""
    axis, metric, n = coded.axis, coded.metric, coded.axis.size
    member = axis.member.astype(np.int32)
    cells = member[coded.src]
    cells *= np.int32(n)
    cells += member[coded.dst]
    cell = pl.Series("cell", cells)
    value = pl.col("value").drop_nans()
    how = METRICS[metric][1]
    summary = {"median": value.median(), "worst": value.max(), "least": value.min(), "sum": value.max()}[how]
    frame = coded.frame.select("sent", "answered", "lost", "value", cell)
    rows = pl.concat(
        part.lazy()
        .group_by("cell")
        .agg(
            pl.len().alias("pairs"),
            ((pl.col("sent") > 0) & (pl.col("answered") == 0)).sum().alias("failed"),
            (pl.col("sent") == 0).sum().alias("missing"),
            pl.col("sent", "answered", "lost").sum().cast(pl.Int64),
            summary.alias("value"),
        )
        .collect()
        for part in _parts(frame, cells // np.int32(n))
    )
    where = rows["cell"].to_numpy()

    def matrix(column: str) -> Ints:
        flat = np.zeros(n * n, dtype=np.int64)
        flat[where] = rows[column].to_numpy()
        return flat.reshape(n, n)

    counts = {c: matrix(c) for c in ("pairs", "failed", "missing", "sent", "answered", "lost")}
    if metric == "loss":
        with np.errstate(invalid="ignore", divide="ignore"):
            values = counts["lost"] / np.where(counts["sent"] > 0, counts["sent"], np.nan)
    else:
        values = np.full(n * n, np.nan)
        values[where] = rows["value"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        values = values.reshape(n, n)
    answered = counts["answered"] > 0
    state = np.select(
        [answered & np.isfinite(values), answered, counts["failed"] > 0, counts["missing"] > 0],
        [MEASURED, UNCLEAN, FAILED, MISSING],
        NOT_PLANNED,
    ).astype(np.uint8)
    return Mesh(axis, metric, values, state, strangers=coded.strangers, **counts)


def _parts(frame: pl.DataFrame, row: NDArray[np.int32]) -> list[pl.DataFrame]:
    """Cut a frame whose cells come in order of their rows where a row begins: grouping a part takes less memory.

    Tables are sorted by source, so this is the rule; a frame in any other order is one part.
    """
    if len(row) <= ROWS_AT_ONCE or (np.diff(row) < 0).any():
        return [frame]
    firsts = np.searchsorted(row, row[np.arange(0, len(row), ROWS_AT_ONCE)])
    bounds = [*np.unique(firsts).tolist(), len(row)]
    return [frame.slice(a, b - a) for a, b in pairwise(bounds)]


def build_mesh(pairs: pl.DataFrame, axis: Axis, metric: str) -> Mesh:
    """Return `pairs` (rows of `pair_latency`, any order) as a matrix on `axis`."""
    return fold(code_pairs(pairs, axis, metric))


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
