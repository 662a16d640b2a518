"""The format of a chunk, the unit in which segments are written: encode, read back, check.

A chunk is `PMS1 | u32 length | header JSON | body | u32 CRC32 of all before`, little-endian. The
body is the target table, if the chunk has one, and then the columns, both compressed by zlib.
"""

from __future__ import annotations

import json
import struct
import sys
import time
import zlib
from array import array

TYPE_CHECKING = False  # importing typing would add a megabyte
if TYPE_CHECKING:
    from typing import Any, BinaryIO, Iterator

MAGIC = b"PMS1"
COLUMN_TYPES = "iHIHBB"  # offset_us, target, rtt_us, src_port, status, retransmits
MAX_HEADER_BYTES = 1 << 20
MAX_BODY_BYTES = 64 << 20


class Damaged(ValueError):
    """Bytes that are not whole chunks. The message names the chunk, its offset and the fault."""


def encode_chunk(
    header: dict[str, Any], table: list[list[Any]] | None, *columns: array[int]
) -> bytes:
    """Encode one chunk.

    Args:
        header: Its fields; `v`, `rows`, `table_bytes` and `body_bytes` are added here.
        table: `[[name, address, port, protocol, scope, payload_bytes], ...]`, or None if an earlier
            chunk of the file has the same table.
        columns: Six arrays of the types in COLUMN_TYPES, equally long: send time as an offset from
            the header's `start_us`, index into the table, RTT, source port, status, retransmits.
    """
    packed_columns = zlib.compress(b"".join(_little_endian(column) for column in columns), 1)
    packed_table = b""
    if table is not None:
        packed_table = zlib.compress(json.dumps(table, separators=(",", ":")).encode(), 1)
    body = packed_table + packed_columns
    rows, table_bytes = len(columns[0]), len(packed_table)
    sizes = {"v": 1, "rows": rows, "table_bytes": table_bytes, "body_bytes": len(body)}
    packed_header = json.dumps({**header, **sizes}, separators=(",", ":")).encode()
    chunk = MAGIC + struct.pack("<I", len(packed_header)) + packed_header + body
    return chunk + struct.pack("<I", zlib.crc32(chunk))


def read_chunks(file: BinaryIO) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Yield header and body of each chunk whose checksum is right.

    After each yield `file` is at the end of the chunk, so that a caller knows how much is sound.

    Raises:
        Damaged: At the first chunk that is cut short or was changed.
    """
    number = 0
    while True:
        start = file.tell()
        prefix = file.read(8)
        if not prefix:
            return
        try:
            header, body = _read_chunk(file, prefix)
        except (ValueError, TypeError, KeyError, RecursionError) as fault:
            raise Damaged(f"chunk {number} at byte {start}: {fault}") from fault
        yield header, body
        number += 1


def _read_chunk(file: BinaryIO, prefix: bytes) -> tuple[dict[str, Any], bytes]:
    if len(prefix) < 8 or prefix[:4] != MAGIC:
        raise ValueError("no chunk starts here")
    header_bytes = _bounded(struct.unpack("<I", prefix[4:])[0], MAX_HEADER_BYTES)
    packed_header = _read_exactly(file, header_bytes)
    header = json.loads(packed_header)
    body = _read_exactly(file, _bounded(header["body_bytes"], MAX_BODY_BYTES))
    checksum = struct.unpack("<I", _read_exactly(file, 4))[0]
    if zlib.crc32(prefix + packed_header + body) != checksum:
        raise ValueError("the checksum is wrong")
    return header, body


def decode_body(
    header: dict[str, Any], body: bytes
) -> tuple[list[list[Any]] | None, list[array[int]]]:
    """Return the target table (None if the chunk has none) and the six columns."""
    table_bytes = header["table_bytes"]
    table = json.loads(zlib.decompress(body[:table_bytes])) if table_bytes else None
    raw, at, columns = zlib.decompress(body[table_bytes:]), 0, []
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
