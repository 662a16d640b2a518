"""The pingmesh agent: one file, standard library only, Python >= 3.8, Linux, no root."""

from __future__ import annotations

import struct
import sys
import zlib
from array import array

TYPE_CHECKING = False  # typing itself would cost a megabyte on every host
if TYPE_CHECKING:
    from typing import Any

MAGIC = b"PMS1"
COLUMN_TYPES = "iHIHBB"  # offset_us, target, rtt_us, src_port, status, retransmits


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
    The columns are arrays of the types in COLUMN_TYPES, equally long. `v`, `rows`, `table_bytes` and `body_bytes` of the
    header are filled in here.
    """
    import json

    columns = b"".join(_little_endian(column) for column in (offsets, targets, rtts, ports, statuses, retransmits))
    packed_table = zlib.compress(json.dumps(table, separators=(",", ":")).encode(), 1) if table is not None else b""
    body = packed_table + zlib.compress(columns, 1)
    sizes = {"v": 1, "rows": len(offsets), "table_bytes": len(packed_table), "body_bytes": len(body)}
    packed_header = json.dumps({**header, **sizes}, separators=(",", ":")).encode()
    chunk = MAGIC + struct.pack("<I", len(packed_header)) + packed_header + body
    return chunk + struct.pack("<I", zlib.crc32(chunk))


def _little_endian(column: array[int]) -> bytes:
    if sys.byteorder == "big":
        column = column[:]
        column.byteswap()
    return column.tobytes()
