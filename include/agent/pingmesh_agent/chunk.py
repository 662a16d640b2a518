"""Chunks, the unit of a segment on disk: encode, read back, check."""

from __future__ import annotations

import json
import struct
import sys
import time
import zlib
from array import array

TYPE_CHECKING = False  # importing typing would cost a megabyte on every host
if TYPE_CHECKING:
    from typing import Any, BinaryIO, Iterator

MAGIC = b"PMS1"
COLUMN_TYPES = "iHIHBB"  # offset_us, target, rtt_us, src_port, status, retransmits
MAX_HEADER_BYTES = 1 << 20
MAX_BODY_BYTES = 64 << 20


class Damaged(ValueError):
    """Bytes that are not whole chunks. The message says which chunk, at which byte, and what is wrong."""


def encode_chunk(
    header: dict[str, Any],
    table: list[list[Any]] | None,
    offsets: array[int],
    targets: array[int],
    rtts: array[int],
    ports: array[int],
    statuses: array[int],
    retransmits: array[int],
) -> bytes:
    """One chunk of a segment: `PMS1 | u32 length | header JSON | body | u32 CRC32 of all before`, little-endian.

    `table` is `[[name, address, port, protocol, scope, payload_bytes], ...]`, or None where the file has it already.
    The columns are arrays of the types in COLUMN_TYPES, equally long. `v`, `rows`, `table_bytes` and `body_bytes` of
    the header are filled in here.
    """
    columns = b"".join(_little_endian(column) for column in (offsets, targets, rtts, ports, statuses, retransmits))
    packed_table = zlib.compress(json.dumps(table, separators=(",", ":")).encode(), 1) if table is not None else b""
    body = packed_table + zlib.compress(columns, 1)
    sizes = {
        "v": 1,
        "rows": len(offsets),
        "table_bytes": len(packed_table),
        "body_bytes": len(body),
    }
    packed_header = json.dumps({**header, **sizes}, separators=(",", ":")).encode()
    chunk = MAGIC + struct.pack("<I", len(packed_header)) + packed_header + body
    return chunk + struct.pack("<I", zlib.crc32(chunk))


def read_chunks(file: BinaryIO) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Yield header and body of each chunk, checked by its CRC; raise Damaged at the first byte that does not fit.

    After each yield `file` stands at the end of the chunk, so that a caller knows how much of a file is sound.
    """
    number = 0
    while True:
        start = file.tell()
        prefix = file.read(8)
        if not prefix:
            return
        try:
            if len(prefix) < 8 or prefix[:4] != MAGIC:
                raise ValueError("no chunk starts here")
            packed_header = _read_exactly(file, _bounded(struct.unpack("<I", prefix[4:])[0], MAX_HEADER_BYTES))
            header = json.loads(packed_header)
            body = _read_exactly(file, _bounded(header["body_bytes"], MAX_BODY_BYTES))
            if zlib.crc32(prefix + packed_header + body) != struct.unpack("<I", _read_exactly(file, 4))[0]:
                raise ValueError("the checksum does not fit")
        except (ValueError, TypeError, KeyError, RecursionError) as fault:
            raise Damaged(f"chunk {number} at byte {start}: {fault}") from fault
        yield header, body
        number += 1


def decode_body(header: dict[str, Any], body: bytes) -> tuple[list[list[Any]] | None, list[array[int]]]:
    """Target table (None where the chunk has none) and the six columns of a chunk."""
    size = header["table_bytes"]
    table = json.loads(zlib.decompress(body[:size])) if size else None
    raw, at, columns = zlib.decompress(body[size:]), 0, []
    for code in COLUMN_TYPES:
        column = array(code)
        column.frombytes(raw[at : at + header["rows"] * column.itemsize])
        at += len(column) * column.itemsize
        if sys.byteorder == "big":
            column.byteswap()
        columns.append(column)
    return table, columns


def window_id(start_us: int) -> str:
    """Name of the window that starts then, e.g. `20261121T220500Z`. Names sort as time does."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(start_us // 1_000_000))


def _little_endian(column: array[int]) -> bytes:
    if sys.byteorder == "big":
        column = column[:]
        column.byteswap()
    return column.tobytes()


def _read_exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise ValueError(f"ends after {len(data)} of {size} bytes")
    return data


def _bounded(size: int, limit: int) -> int:
    if not 0 <= size <= limit:
        raise ValueError(f"a length of {size} bytes")
    return size
