"""Pairs as columns of small integers: what every rule of the mesh reads.

Hosts are positions on the axis (`matrix.positions`); a row of a host that is not on it is left out.
`tries` are the probes that say something of the network: not those that the source itself failed to
send (`local_error`), nor those that the destination refused, which is an answer of its kernel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pingmesh_tasks.matrix.positions import cells_of, pair_table, positions
from pingmesh_tasks.topology.axis import HostAxis

Column = NDArray[Any]
PROTOCOLS = ("tcp", "tcp_echo", "udp", "icmp", "http")
COUNTS = ("sent", "answered", "lost", "retransmitted", "refused", "unreachable", "local_error")
TIMES = ("rtt_p50_us", "rtt_p99_us")
#: The columns that are read; a caller may leave the others on disk. A count that is not there is 0.
READ = ("src", "dst", "protocol", *COUNTS, *TIMES)


@dataclass(frozen=True)
class Rows:
    """Columns of the same length; times are µs in f32, NaN where there was no clean answer."""

    a: NDArray[np.int32]
    b: NDArray[np.int32]
    protocol: NDArray[np.uint8]
    sent: Column
    answered: Column
    lost: Column
    retransmitted: Column
    refused: Column
    unreachable: Column
    local_error: Column
    rtt_p50_us: NDArray[np.float32]
    rtt_p99_us: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.a)

    @property
    def tries(self) -> NDArray[np.float32]:
        tries = self.sent.astype(np.float32)
        tries -= self.local_error
        tries -= self.refused
        return tries

    def where(self, keep: NDArray[np.bool_]) -> Rows:
        return replace(self, **{name: getattr(self, name)[keep] for name in self.__dataclass_fields__})


def code_rows(pairs: pl.DataFrame, axis: HostAxis) -> Rows:
    """Return rows of `pair_latency`, or of those of its columns that `Rows` has, as numbers."""
    present = [name for name in COUNTS if name in pairs.columns]
    columns = pair_table(
        pairs,
        axis,
        _protocol_number().cast(pl.UInt8),
        *(pl.col(name).fill_null(0).cast(pl.UInt32) for name in present),
        *(pl.col(name).cast(pl.Float32).fill_null(float("nan")) for name in TIMES),
    ).columns
    zero = np.zeros(len(columns["src"]), np.uint8)
    a, b = (columns.pop(name).astype(np.int32) for name in ("src", "dst"))
    protocol = columns.pop("protocol").astype(np.uint8)
    return Rows(a, b, protocol, **{name: columns.get(name, zero) for name in (*COUNTS, *TIMES)})


def code_keys(frame: pl.DataFrame, axis: HostAxis) -> NDArray[np.int64]:
    """Return one number for each row's (src, dst, protocol); -1 where a host is not on the axis."""
    coded = frame.select(positions(axis).cast(pl.Int64), _protocol_number())
    key = (pl.col("src") * len(axis) + pl.col("dst")) * (len(PROTOCOLS) + 1) + pl.col("protocol")
    return coded.select(key.fill_null(-1).alias("key"))["key"].to_numpy()


def keys_of(rows: Rows, axis: HostAxis) -> NDArray[np.int64]:
    """Return the numbers that `code_keys` gives to the same pairs."""
    key = cells_of(rows.a, rows.b, len(axis))
    key *= len(PROTOCOLS) + 1
    key += rows.protocol
    return key


def match(wanted: NDArray[np.int64], known: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Return where each of `wanted` is in `known`, -1 where it is not; None: they are the same, in the same order."""
    if len(wanted) == len(known) and np.array_equal(wanted, known):
        return None
    if not len(known):
        return np.full(len(wanted), -1)
    order = np.argsort(known, kind="stable")
    at = order[np.minimum(np.searchsorted(known, wanted, sorter=order), len(known) - 1)]
    at[known[at] != wanted] = -1
    return at


def _protocol_number() -> pl.Expr:
    """Return the expression of a protocol's place in PROTOCOLS; one that is not there is the number after the last."""
    return pl.col("protocol").cast(pl.Enum(PROTOCOLS), strict=False).to_physical().fill_null(len(PROTOCOLS))
