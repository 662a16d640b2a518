"""Raw objects: what one window brought of one log, as the server wrote it, and where it came from.

A raw object is a zstd file. Its first frame is a skippable one (magic 0x184D2A50, u32 LE length) that holds the header,
JSON in UTF-8; ordinary frames with the log's bytes follow. So `zstd -d` of the object gives the log and nothing else:
whole lines, every one ended by a newline. Skippable frames: RFC 8878, 3.1.2.

Header, version 1: `v, server, kind, window, pieces, head, backlog_bytes, collected_at_us` and what `access.collect`
needs to go on from here (`since, marks, gaps`). `pieces` are byte ranges of files, in the order of the bytes:
`path, device, inode, start, end, sha256`; `oversized` is true where the range is a part of a line without an end,
`unterminated` where a newline that the file does not have was added after the range.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import zstandard

from pingmesh_tasks.errors import PingmeshError

VERSION = 1
_MAGIC = 0x184D2A50
_FRAME = struct.Struct("<II")
#: A header is a few kB; a longer one is no header of ours.
HEADER_LIMIT_BYTES = 1024 * 1024
_CHUNK_BYTES = 1024 * 1024
_LEVEL = 3


class RawObjectError(PingmeshError):
    """A raw object that is damaged or is none."""


def encode_header(header: Mapping[str, Any]) -> bytes:
    """Return the skippable frame. The header is often known only after the bytes: they are packed by `new_packer`."""
    text = json.dumps({"v": VERSION, **header}, separators=(",", ":")).encode()
    if len(text) > HEADER_LIMIT_BYTES:
        raise RawObjectError(f"the header would have {len(text)} bytes, more than {HEADER_LIMIT_BYTES}")
    return _FRAME.pack(_MAGIC, len(text)) + text


def new_packer() -> zstandard.ZstdCompressionObj:
    """Return a packer for the log's bytes: `compress` each chunk, `flush` at the end."""
    return zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compressobj()


def read_raw_header(source: bytes | Path) -> dict[str, Any]:
    """Return the header of a raw object; its first `HEADER_LIMIT_BYTES` + 8 bytes are enough. Raises RawObjectError."""
    with _opened(source) as file:
        return _read_header(file)


def read_raw(source: bytes | Path, chunk_bytes: int = _CHUNK_BYTES) -> Iterator[bytes]:
    """Yield the log's bytes in chunks of at most `chunk_bytes`, whatever the object unpacks to.

    Lines may be cut between chunks. Raises RawObjectError where the object is damaged or cut short.
    """
    with _opened(source) as file:
        missing = log_bytes(_read_header(file))
        unpacker = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        try:
            while chunk := unpacker.read(chunk_bytes):
                missing -= len(chunk)
                yield chunk
        except zstandard.ZstdError as error:
            raise RawObjectError(f"the raw object cannot be unpacked: {error}") from None
        if missing:  # the unpacker takes an object that was cut short for one that ends there
            raise RawObjectError(
                f"the raw object differs by {missing} bytes from what its header says; was it cut short?"
            )


def log_bytes(header: Mapping[str, Any]) -> int:
    """Return how many bytes of log an object with this header unpacks to."""
    try:
        return sum(p["end"] - p["start"] + bool(p.get("unterminated")) for p in header["pieces"])
    except (KeyError, TypeError):
        raise RawObjectError("the header of the raw object has no list of pieces") from None


def _read_header(file: BinaryIO) -> dict[str, Any]:
    start = file.read(_FRAME.size)
    magic, length = _FRAME.unpack(start) if len(start) == _FRAME.size else (0, 0)
    if magic != _MAGIC or length > HEADER_LIMIT_BYTES:
        raise RawObjectError("this is no raw object of an access log: it does not begin with our header frame")
    try:
        header = json.loads(file.read(length))
    except ValueError:
        raise RawObjectError("the header of the raw object is damaged or cut short") from None
    if not isinstance(header, dict) or header.get("v") != VERSION:
        raise RawObjectError(f"the raw object is not of version {VERSION}; read it with the release that wrote it")
    return header


def _opened(source: bytes | Path) -> BinaryIO:
    return source.open("rb") if isinstance(source, Path) else io.BytesIO(source)
