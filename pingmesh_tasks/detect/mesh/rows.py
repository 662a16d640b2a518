"""Pairs as columns of small integers: what every rule of the mesh reads.

Hosts become positions in the inventory, once; a row of a host that is not in it is left out. `tries` are the probes
that say something of the network: not those that the source itself failed to send (`local_error`), nor those that
the destination refused, which is an answer of its kernel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pingmesh_tasks.topology.placement import Places

Column = NDArray[Any]
PROTOCOLS = ("tcp", "tcp_echo", "udp", "icmp", "http")
COUNTS = ("sent", "answered", "lost", "retransmitted", "refused", "unreachable", "local_error")
TIMES = ("rtt_p50_us", "rtt_p99_us")
#: The columns that are read; a caller may leave the others on disk. A count that is not there is 0.
READ = ("src", "dst", "protocol", *COUNTS, *TIMES)
_AT_ONCE = 1 << 19


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


def code_rows(pairs: pl.DataFrame, places: Places) -> Rows:
    """Return rows of `pair_latency`, or of those of its columns that `Rows` has, as numbers."""
    hosts, protocols = pl.Enum(places.names), pl.Enum(PROTOCOLS)
    present = set(pairs.columns)
    parts: list[dict[str, Column]] = []
    for part in pairs.iter_slices(_AT_ONCE) if len(pairs) else [pairs]:
        coded = part.select(
            pl.col("src", "dst").cast(hosts, strict=False).to_physical().cast(pl.Int32),
            pl.col("protocol").cast(protocols, strict=False).to_physical().fill_null(len(PROTOCOLS)).cast(pl.UInt8),
            *(pl.col(name).fill_null(0).cast(pl.UInt32) for name in COUNTS if name in present),
            *(pl.col(name).cast(pl.Float32).fill_null(float("nan")) for name in TIMES),
        ).drop_nulls(["src", "dst"])
        parts.append({column.name: _narrow(column.to_numpy()) for column in coded})
    joined = {name: np.concatenate([part.pop(name) for part in parts]) for name in list(parts[0])}
    zero = np.zeros(len(joined["src"]), np.uint8)
    a, b = (joined.pop(name).astype(np.int32) for name in ("src", "dst"))
    protocol = joined.pop("protocol").astype(np.uint8)
    return Rows(a, b, protocol, **{name: joined.get(name, zero) for name in (*COUNTS, *TIMES)})


def code_keys(frame: pl.DataFrame, places: Places) -> NDArray[np.int64]:
    """Return one number for each row's (src, dst, protocol); -1 where a host is not in the inventory."""
    hosts, protocols = pl.Enum(places.names), pl.Enum(PROTOCOLS)
    coded = frame.select(
        pl.col("src", "dst").cast(hosts, strict=False).to_physical(),
        pl.col("protocol").cast(protocols, strict=False).to_physical().fill_null(len(PROTOCOLS)),
    )
    width, kinds = len(places.names), len(PROTOCOLS) + 1
    key = (pl.col("src").cast(pl.Int64) * width + pl.col("dst")) * kinds + pl.col("protocol")
    return coded.select(key.fill_null(-1).alias("key"))["key"].to_numpy()


def keys_of(rows: Rows, places: Places) -> NDArray[np.int64]:
    """Return the numbers that `code_keys` gives to the same pairs."""
    key = rows.a.astype(np.int64)
    key *= len(places.names)
    key += rows.b
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


def _narrow(column: Column) -> Column:
    """Return unsigned integers in the fewest bytes that hold them: thirty probes a window are one byte, not four."""
    if column.dtype.kind == "f":
        return column
    return column.astype(np.min_scalar_type(column.max(initial=0)), copy=False)
