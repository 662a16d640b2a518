"""Bytes of a log → lines, in bounded pieces, whatever the bytes are; and text of a log → text that is safe to keep.

A log is bytes: users' names come in any encoding or none. Polars' text is UTF-8, so a line is held as one character a
byte (Latin-1): nothing is lost, positions are byte positions, and a regular expression sees bytes. What is kept of it
goes through `text.safe_bytes`, which reads the bytes as UTF-8 again.

Pieces are cut by content alone (at the last newline of the next PIECE_BYTES), so how the bytes arrive changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from pingmesh_tasks.text import safe_bytes

PIECE_BYTES = 4 << 20
MAX_LINE_BYTES = 64 << 10

#: A log: a file, its bytes, or its bytes as they come.
Source = Path | bytes | Iterable[bytes]


@dataclass(frozen=True, slots=True)
class Piece:
    """Whole lines, each with its newline. `offset` is where they begin in the log.

    A line that does not end within PIECE_BYTES is a piece of its own, of which the first MAX_LINE_BYTES + 1 bytes are
    here and `left_out` are not.
    """

    offset: int
    data: bytes
    left_out: int = 0


def cut_pieces(source: Source) -> Iterator[Piece]:
    """Cut a log into pieces; a last line without a newline gets one. Raises OSError for a file that cannot be read."""
    held, offset = bytearray(), 0
    head, skipped = b"", 0  # of a line without an end: its beginning, and how much of it has gone by
    for block in _blocks(source):
        held += block
        while head or len(held) >= PIECE_BYTES:
            end = held.find(b"\n") + 1 if head else held.rfind(b"\n", 0, PIECE_BYTES) + 1
            if head and end:
                yield Piece(offset, head + b"\n", skipped + end - 1 - len(head))
                offset += skipped + end
                head, skipped = b"", 0
            elif end:
                yield Piece(offset, bytes(memoryview(held)[:end]))
                offset += end
            elif head:
                skipped += len(held)
                held.clear()
                break
            else:
                head = bytes(held[: MAX_LINE_BYTES + 1])
            del held[:end]
    if head:
        yield Piece(offset, head + b"\n", skipped - len(head))
    elif held:
        yield Piece(offset, bytes(held) if held.endswith(b"\n") else bytes(held) + b"\n")


def _blocks(source: Source) -> Iterator[memoryview]:
    """Yield the bytes of a log, at most PIECE_BYTES at a time; a block is good until the next is asked for."""
    if isinstance(source, Path):
        block = memoryview(bytearray(PIECE_BYTES))
        with source.open("rb", buffering=0) as file:
            while size := file.readinto(block):
                yield block[:size]
        return
    for chunk in (source,) if isinstance(source, bytes) else source:
        view = memoryview(chunk)
        for start in range(0, len(view), PIECE_BYTES):
            yield view[start : start + PIECE_BYTES]


def lines_of(piece: Piece) -> pl.DataFrame:
    """Return the lines of a piece: `offset` and `length` (bytes, UInt64; the newline not counted) and `line`, a
    character a byte, with its newline."""
    ends = _ends(piece.data)
    starts = np.concatenate([[0], ends[:-1]])
    text, bounds = piece.data, ends
    if not text.isascii():
        text = text.decode("latin-1").encode()
        bounds = _ends(text)
    lines = pa.LargeStringArray.from_buffers(
        len(bounds), pa.py_buffer(np.concatenate([[0], bounds])), pa.py_buffer(text)
    )
    return pl.DataFrame(
        {
            "offset": (starts + piece.offset).astype(np.uint64),
            "length": (ends - starts - 1 + piece.left_out).astype(np.uint64),
            "line": pl.Series(lines),
        }
    )


def _ends(data: bytes) -> NDArray[np.int64]:
    return np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1


def safe(column: pl.Series, limit: int) -> pl.Series:
    """Return lines' text, a character a byte, as `text.safe_bytes`: most of it is safe as it is."""
    plain = column.str.contains(r"^[ -\[\]-~]*$") & (column.str.len_bytes() <= limit)
    if plain.all():
        return column
    odd = column.filter(~plain).unique()
    return column.replace(
        odd, pl.Series([safe_bytes(text.encode("latin-1"), limit) for text in odd], dtype=pl.String())
    )
