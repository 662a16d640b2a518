"""Hot batches: what the follower read in the last second or two, as one object under `hot/`.

    b"PMH1" | one zstd frame of: u32 header length (LE) | header, JSON | the data of all pieces, one after the other

The header has one object a piece, its fields as in `HotPiece`, `n` being the length of its data. A batch is written
once and never changed; its key says when, by whom, and whether anything in it is worth waking up for
(`layout.hot_batch`). What is in a batch may be there twice, in another one, after a follower was restarted: the
identity of a piece is (kind, source, stream, offset).

Bounds: a batch holds at most `MAX_PIECES` pieces and `MAX_BATCH_BYTES` unpacked; nothing larger is unpacked.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import zstandard

from pingmesh_tasks.errors import StoreError
from pingmesh_tasks.store import layout

MAGIC = b"PMH1"
MAX_PIECES = 4_096
MAX_BATCH_BYTES = 32 * 2**20
MAX_HEADER_BYTES = 4 * 2**20
_LENGTH = struct.Struct("<I")
_LEVEL = 1  # columns and tables of a segment are packed already, log lines pack well at any level

Kind = Literal["probe", "access", "errors", "lost_contact", "roster"]


@dataclass(frozen=True, slots=True)
class HotPiece:
    """Bytes that a host or data server wrote lately, or news of the contact with it. `read_at_us` is our clock, UTC.

    kind          source        stream                 data
    probe         host          window id              whole chunks, made a segment of their own (`latency.segment`)
    access        data server   which file it was      whole lines of its access log, from byte `offset` of that file
    errors        data server   which file it was      whole lines of its errors log
    lost_contact  either        `host` or `log`        none; `detail` says why
    roster        `follow`      writer's name          JSON: `fleet.tailing.Roster`, what is followed and how that goes

    `offset` of a probe piece is the number of its first chunk in the host's file. `skipped_bytes` were not read, just
    before this piece: the log grew faster than it is followed, or had a line without an end.
    """

    kind: Kind
    source: str
    stream: str
    offset: int
    data: bytes
    read_at_us: int
    clock_offset_us: int | None = None
    skipped_bytes: int = 0
    detail: str = ""

    @property
    def identity(self) -> tuple[str, str, str, int]:
        return (self.kind, self.source, self.stream, self.offset)


def encode_batch(pieces: Sequence[HotPiece]) -> bytes:
    """Return the object that holds `pieces`. Raises StoreError for more than a batch may hold."""
    size = sum(len(piece.data) for piece in pieces)
    if len(pieces) > MAX_PIECES or size > MAX_BATCH_BYTES:
        raise StoreError(f"a hot batch of {len(pieces)} pieces and {size} bytes is too large; write several")
    header = json.dumps([_fields(piece) for piece in pieces], separators=(",", ":")).encode()
    packer = zstandard.ZstdCompressor(level=_LEVEL, write_content_size=True)
    return MAGIC + packer.compress(b"".join([_LENGTH.pack(len(header)), header, *(piece.data for piece in pieces)]))


def decode_batch(data: bytes, key: str = "hot batch") -> list[HotPiece]:
    """Return the pieces of a batch. Raises StoreError that names `key` for anything `encode_batch` did not make."""
    try:
        return _decode(data)
    except (ValueError, TypeError, KeyError, struct.error, zstandard.ZstdError, RecursionError) as error:
        raise StoreError(f"{key} is no hot batch: {str(error)[:200]}; delete it, it is worth seconds only") from None


@dataclass(frozen=True, slots=True)
class HotCursor:
    """How far the hot batches were looked at, and how soon the consumer wants to look again at the latest.

    `heartbeat_s` None: as soon as the trigger's own heartbeat says.
    """

    key: str = ""
    heartbeat_s: float | None = None

    def encode(self) -> bytes:
        """Return the object `layout.hot_cursor()`."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, data: bytes | None) -> HotCursor:
        """Return what `encode` made; a cursor at nothing for anything else."""
        try:
            document = json.loads(data or b"{}")
            key, heartbeat_s = document["key"], document["heartbeat_s"]
        except (ValueError, TypeError, KeyError, RecursionError):
            return cls()
        known = isinstance(key, str) and layout.hot_facts(key)
        return cls(key if known else "", float(heartbeat_s) if isinstance(heartbeat_s, int | float) else None)


def _fields(piece: HotPiece) -> dict[str, Any]:
    found = asdict(piece)
    found["n"] = len(found.pop("data"))
    return found


def _decode(data: bytes) -> list[HotPiece]:
    if data[:4] != MAGIC:
        raise ValueError(f"begins with {data[:4]!r}, not {MAGIC!r}")
    size = zstandard.frame_content_size(data[4:])
    if not 4 <= size <= MAX_BATCH_BYTES + MAX_HEADER_BYTES + _LENGTH.size:
        raise ValueError(f"promises {size} bytes")
    plain = zstandard.ZstdDecompressor().decompress(data[4:], max_output_size=size)
    (header_bytes,) = _LENGTH.unpack_from(plain)
    if header_bytes > min(MAX_HEADER_BYTES, len(plain)):
        raise ValueError(f"a header of {header_bytes} bytes")
    at = _LENGTH.size + header_bytes
    header = json.loads(plain[_LENGTH.size : at])
    if type(header) is not list or len(header) > MAX_PIECES:
        raise ValueError("the header is no list of pieces")
    pieces = []
    for entry in header:
        if type(entry) is not dict:
            raise ValueError(f"a piece that is {entry!r:.40}")
        n = entry.pop("n")
        if type(n) is not int or not 0 <= n <= len(plain) - at:
            raise ValueError(f"a piece of {n!r:.20} bytes where {len(plain) - at} are left")
        piece = HotPiece(**entry, data=plain[at : at + n])
        _check(piece)
        pieces.append(piece)
        at += n
    if at != len(plain):
        raise ValueError(f"{len(plain) - at} bytes belong to no piece")
    return pieces


_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("source", "stream", "detail"), (str,)),
    **dict.fromkeys(("offset", "read_at_us", "skipped_bytes"), (int,)),
    "clock_offset_us": (int, type(None)),
    "data": (bytes,),
}


def _check(piece: HotPiece) -> None:
    if piece.kind not in get_args(Kind):
        raise ValueError(f"a piece of kind {piece.kind!r:.40}")
    for field in fields(piece):
        if field.name != "kind" and type(getattr(piece, field.name)) not in _TYPES[field.name]:
            raise ValueError(f"{field.name} is {getattr(piece, field.name)!r:.40}")
