"""The `probe` table: segments → Parquet, one segment after the other, in memory that does not grow with the fleet.

A segment becomes one row group, sorted by destination and protocol and, for each, in the order of the file; so a file
made of segments in the order of their hosts is sorted by (src, dst, protocol), a pair's rows stand together, and its
names cost a bit. Strings are dictionary pages, numbers that vary are deltas (encodings that every reader knows; 5.4
bytes a probe), statistics are kept where a reader skips by them: `src`, `ts`. The same segments give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pingmesh_tasks.errors import SegmentError
from pingmesh_tasks.latency.segment import SegmentColumns, read_columns

STRINGS = ("src", "src_ip", "dst", "dst_ip", "protocol", "scope")
VARYING = ("ts", "src_port", "rtt_us")
MAX_ROW_GROUP = 1 << 20

_NAME = pa.dictionary(pa.int32(), pa.string())

#: `PROBE` as it is handed to the Parquet writer; what it writes are plain strings. Only rtt_us may be null.
PROBE_ARROW = pa.schema(
    [
        pa.field(name, kind, nullable=name == "rtt_us")
        for name, kind in {
            "ts": pa.timestamp("us", "UTC"),
            "src": _NAME,
            "src_ip": _NAME,
            "src_port": pa.uint16(),
            "dst": _NAME,
            "dst_ip": _NAME,
            "dst_port": pa.uint16(),
            "protocol": _NAME,
            "scope": _NAME,
            "msg_len": pa.uint16(),
            "rtt_us": pa.uint32(),
            "err_code": pa.uint8(),
            "retransmits": pa.uint8(),
        }.items()
    ]
)


@dataclass(frozen=True, slots=True)
class ProbeTableStats:
    """What was written, and the segments that were not: `damaged` has the host and the reason of each."""

    segments: int
    rows: int
    damaged: tuple[tuple[str, SegmentError], ...]


def write_probe_table(segments: Iterable[tuple[str, bytes]], sink: Path | BinaryIO) -> ProbeTableStats:
    """Write the probes of `(host, segment)` pairs to one Parquet file of `PROBE`; one segment is held at a time.

    A damaged segment, or one that names another host than it was filed under, is left out and reported. Give the pairs
    in the order of the hosts' names for a file that is sorted as a whole.
    """
    written = rows = 0
    damaged = []
    with pq.ParquetWriter(
        sink,
        PROBE_ARROW,
        store_schema=False,  # or readers would see dictionaries instead of strings
        compression="zstd",
        use_dictionary=list(STRINGS),
        column_encoding=dict.fromkeys(VARYING, "DELTA_BINARY_PACKED"),
        write_statistics=["src", "ts"],
    ) as writer:
        for host, data in segments:
            try:
                columns = read_columns(data)
                if columns.host != host:
                    raise SegmentError(0, f"header: host is {columns.host}, but the segment was filed under {host}")
            except SegmentError as error:
                damaged.append((host, error))
                continue
            writer.write_table(probe_rows(columns), MAX_ROW_GROUP)
            written += 1
            rows += len(columns.target)
    return ProbeTableStats(written, rows, tuple(damaged))


def probe_rows(columns: SegmentColumns) -> pa.Table:
    """Return the segment's rows of `PROBE`, sorted by destination and protocol, then as settled."""
    targets = columns.targets
    by_name = pc.sort_indices(
        pa.table({"dst": targets.names, "protocol": targets.protocols}),
        [("dst", "ascending"), ("protocol", "ascending")],
    ).to_numpy()
    # A stable sort of 16-bit numbers is a radix sort, four times as fast as one of 32 bits.
    rank = np.empty(len(targets), np.uint16 if len(targets) <= 1 << 16 else np.uint32)
    rank[by_name] = np.arange(len(targets))
    order = rank.take(columns.target).argsort(kind="stable")
    target = columns.target.take(order)
    only = np.zeros(len(order), np.int32)
    arrays = {
        "ts": pa.array(columns.ts_us.take(order)).view(pa.timestamp("us", "UTC")),
        "src": pa.DictionaryArray.from_arrays(only, [columns.host]),
        "src_ip": pa.DictionaryArray.from_arrays(only, [columns.address]),
        "src_port": pa.array(columns.src_port.take(order)),
        "dst": _names(targets.names, target),
        "dst_ip": _names(targets.addresses, target),
        "dst_port": pa.array(np.array(targets.ports, np.uint16).take(target)),
        "protocol": _names(targets.protocols, target),
        "scope": _names(targets.scopes, target),
        "msg_len": pa.array(np.array(targets.payload_bytes, np.uint16).take(target)),
        "rtt_us": pa.array(columns.rtt_us.take(order), mask=~columns.clean.take(order)),
        "err_code": pa.array(columns.status.take(order)),
        "retransmits": pa.array(columns.retransmits.take(order)),
    }
    return pa.table(arrays, schema=PROBE_ARROW)


def _names(values: Sequence[str], index: NDArray[np.intp]) -> pa.DictionaryArray:
    """Return `values[index]` without touching a string twice."""
    encoded = pa.array(values, pa.string()).dictionary_encode()
    return pa.DictionaryArray.from_arrays(encoded.indices.to_numpy().take(index), encoded.dictionary, safe=False)
