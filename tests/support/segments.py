"""Segments as the agent writes them, made from rows; the encoder is the agent's own."""

from __future__ import annotations

import json
import struct
import zlib
from array import array
from collections.abc import Iterable, Sequence
from typing import Any

from pingmesh_agent.chunk import COLUMN_TYPES, encode_chunk

WINDOW_ID = "20261121T220500Z"
START_US = 1_795_298_700_000_000  # the same moment

#: [name, address, port, protocol, scope, payload_bytes]
TABLE: list[list[Any]] = [
    ["db-2", "10.0.0.2", 8765, "tcp", "intra_tor", 0],
    ["db-2", "10.0.0.2", 8765, "udp", "intra_tor", 64],
    ["db-3", "10.0.0.3", 8765, "tcp", "intra_dc", 0],
]

#: offset_us, target, rtt_us, src_port, status, retransmits
Row = tuple[int, int, int, int, int, int]


def header(chunk: int = 0, **changes: Any) -> dict[str, Any]:
    fields = {
        "host": "db-1",
        "ip": "10.0.0.1",
        "window": WINDOW_ID,
        "window_s": 300,
        "chunk": chunk,
        "start_us": START_US + chunk * 10_000_000,
        "span_us": 10_000_000,
        "agent": "0123456789abcdef",
        "pinglist": "fedcba9876543210",
        "scheduled": 0,
        "sent": 0,
        "answered": 0,
        "lost": 0,
        "skipped": {},
    }
    return fields | changes


def chunk(rows: Iterable[Row], table: list[list[Any]] | None = None, number: int = 0, **changes: Any) -> bytes:
    """One chunk of `rows`; its header counts each of them as scheduled and sent unless `changes` say otherwise."""
    rows = list(rows)
    columns = (
        [array(kind, column) for kind, column in zip(COLUMN_TYPES, zip(*rows, strict=True), strict=True)]
        if rows
        else [array(kind) for kind in COLUMN_TYPES]
    )
    counts = {"scheduled": len(rows), "sent": len(rows)}
    return encode_chunk(header(number, **(counts | changes)), table, *columns)


def segment(chunks: Sequence[Iterable[Row]], table: list[list[Any]] = TABLE, **changes: Any) -> bytes:
    """A file of chunks, the first with the target table."""
    return b"".join(chunk(rows, table if i == 0 else None, i, **changes) for i, rows in enumerate(chunks))


def forged_chunk(fields: dict[str, Any] | bytes, table: bytes = b"", columns: bytes = zlib.compress(b"")) -> bytes:
    """A chunk with a good checksum around whatever a hostile host puts inside; sizes are true unless `fields` lie."""
    if not isinstance(fields, bytes):
        sizes = {"v": 1, "rows": 0, "table_bytes": len(table), "body_bytes": len(table) + len(columns)}
        fields = json.dumps(sizes | fields).encode()
    body = b"PMS1" + struct.pack("<I", len(fields)) + fields + table + columns
    return body + struct.pack("<I", zlib.crc32(body))


def packed(table: Any) -> bytes:
    return zlib.compress(json.dumps(table).encode())
