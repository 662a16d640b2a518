"""Segments: what one agent measured in one window, as it comes from the host.

A segment is a sequence of chunks, each written whole (little-endian):

    b"PMS1" | u32 header length | header, JSON | target table, zlib | columns, zlib | u32 CRC-32 of all before it

The columns of N probes, one after the other: send offset from the chunk's start in µs (i32), index into the target
table (u16), round trip in µs (u32), source port (u16), status (u8), retransmits (u8). The target table holds
`[name, address, port, protocol, scope, payload_bytes]` a row; a chunk without one goes on with the last one.

Bytes from a host are hostile input: every length is bounded before it is believed, every value checked before it
becomes part of a table or a key, and the only error raised is SegmentError, which names the chunk. A segment is read
whole or not at all. What cannot be seen here: a file that was cut exactly between two chunks is a shorter segment.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pingmesh_tasks.errors import ConfigError, SegmentError
from pingmesh_tasks.store.schemas import PROBE
from pingmesh_tasks.windows import Window

MAGIC = b"PMS1"
COLUMN_TYPES = ("<i4", "<u2", "<u4", "<u2", "u1", "u1")
ROW_BYTES = sum(np.dtype(kind).itemsize for kind in COLUMN_TYPES)

# What one segment may cost its reader. The largest that an agent writes: 10,000 targets every 10 s for an hour.
MAX_CHUNKS = 10_000
MAX_HEADER_BYTES = 1 << 16
MAX_TABLE_BYTES = 1 << 22
MAX_TARGETS = 1 << 18
MAX_ROWS = 4_000_000

_MAX_COUNT = 1 << 32
_MAX_START_US = 1 << 52  # the year 2112
_PREFIX = struct.Struct("<4sI")
_CRC = struct.Struct("<I")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_ADDRESS = re.compile(r"[0-9A-Fa-f:.]{2,45}")
_WORD = re.compile(r"[a-z][a-z0-9_]{0,15}")
_VERSION = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TEXTS = ("host", "ip", "window", "agent", "pinglist")
_COUNTS = ("rows", "table_bytes", "body_bytes", "scheduled", "sent")
_HEADER_TYPES: dict[str, type] = {
    **dict.fromkeys(_TEXTS, str),
    **dict.fromkeys(("v", "window_s", "chunk", "start_us", *_COUNTS), int),
    "skipped": dict,
}
_TABLE_TYPES = {"name": str, "address": str, "port": int, "protocol": str, "scope": str, "payload_bytes": int}


@dataclass(frozen=True, slots=True)
class Targets:
    """The destinations of a segment, column by column; a probe's `target` indexes them."""

    names: tuple[str, ...]
    addresses: tuple[str, ...]
    ports: tuple[int, ...]
    protocols: tuple[str, ...]
    scopes: tuple[str, ...]
    payload_bytes: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, slots=True)
class SegmentSummary:
    """What the headers say. `skipped` counts, by reason, the probes that were scheduled and not sent."""

    host: str
    address: str
    window: Window
    chunks: int
    rows: int
    scheduled: int
    sent: int
    skipped: dict[str, int]
    agent: str
    pinglist: str
    targets: Targets


@dataclass(frozen=True, slots=True)
class SegmentColumns:
    """The probes of a segment as arrays of one length, in the order in which they were settled.

    `ts_us` is the send time, UTC µs since the epoch, by the host's clock. `rtt_us` means something where `clean`.
    """

    host: str
    address: str
    window: Window
    targets: Targets
    ts_us: NDArray[np.int64]
    target: NDArray[np.intp]
    rtt_us: NDArray[np.uint32]
    src_port: NDArray[np.uint16]
    status: NDArray[np.uint8]
    retransmits: NDArray[np.uint8]

    @property
    def clean(self) -> NDArray[np.bool_]:
        """The probes whose round trip is one of the network: answered, and no segment sent twice."""
        clean: NDArray[np.bool_] = (self.status | self.retransmits) == 0
        return clean


def decode_segment(data: bytes) -> pl.DataFrame:
    """Return the probes of a segment, rows of `PROBE` in the order of the file. Raises SegmentError."""
    columns = read_columns(data)
    targets = columns.targets
    table = pl.DataFrame(
        {
            "dst": targets.names,
            "dst_ip": targets.addresses,
            "dst_port": targets.ports,
            "protocol": targets.protocols,
            "scope": targets.scopes,
            "msg_len": targets.payload_bytes,
        },
        schema={name: PROBE[name] for name in ("dst", "dst_ip", "dst_port", "protocol", "scope", "msg_len")},
    )
    return table[columns.target].select(
        pl.Series("ts", columns.ts_us).cast(PROBE["ts"]),
        pl.lit(columns.host).alias("src"),
        pl.lit(columns.address).alias("src_ip"),
        pl.Series("src_port", columns.src_port),
        *("dst", "dst_ip", "dst_port", "protocol", "scope", "msg_len"),
        pl.when(pl.Series(columns.clean)).then(pl.Series(columns.rtt_us)).alias("rtt_us"),
        pl.Series("err_code", columns.status),
        pl.Series("retransmits", columns.retransmits),
    )


def verify_segment(data: bytes) -> SegmentSummary:
    """Check framing, checksums, headers and target tables; the columns stay packed. Raises SegmentError."""
    chunks = list(_walk(data))
    headers = [chunk.header for chunk in chunks]
    skipped: Counter[str] = Counter()
    for header in headers:
        skipped.update(header.skipped)
    return SegmentSummary(
        host=headers[0].host,
        address=headers[0].ip,
        window=chunks[0].window,
        chunks=len(headers),
        rows=sum(header.rows for header in headers),
        scheduled=sum(header.scheduled for header in headers),
        sent=sum(header.sent for header in headers),
        skipped=dict(sorted(skipped.items())),
        agent=headers[-1].agent,
        pinglist=headers[-1].pinglist,
        targets=_join_tables(chunks)[0],
    )


def read_columns(data: bytes) -> SegmentColumns:
    """Decode a segment into arrays. Raises SegmentError."""
    chunks = list(_walk(data))
    targets, stretches = _join_tables(chunks)
    rows = sum(chunk.header.rows for chunk in chunks)
    ts_us, target = np.empty(rows, np.int64), np.empty(rows, np.intp)
    plain = [np.empty(rows, kind) for kind in COLUMN_TYPES[2:]]
    at = 0
    for chunk, stretch in zip(chunks, stretches, strict=True):
        here = slice(at, at := at + chunk.header.rows)
        offset_us, index, *others = _unpack_columns(chunk)
        if index.size and int(index.max()) >= len(stretch):
            raise SegmentError(chunk.index, f"target {index.max()} of a table of {len(stretch)}")
        np.add(offset_us, np.int64(chunk.header.start_us), out=ts_us[here])
        np.add(index, np.intp(stretch.start), out=target[here])
        for column, values in zip(plain, others, strict=True):
            column[here] = values
    header = chunks[0].header
    return SegmentColumns(header.host, header.ip, chunks[0].window, targets, ts_us, target, *plain)


@dataclass(frozen=True, slots=True)
class _Header:
    """The fields of a chunk's header that a reader needs, named as they are there."""

    v: int
    host: str
    ip: str
    window: str
    window_s: int
    chunk: int
    start_us: int
    agent: str
    pinglist: str
    rows: int
    table_bytes: int
    body_bytes: int
    scheduled: int
    sent: int
    skipped: dict[str, int]


@dataclass(frozen=True, slots=True)
class _SegmentChunk:
    index: int
    window: Window
    header: _Header
    table: memoryview
    columns: memoryview


def _walk(data: bytes) -> Iterator[_SegmentChunk]:
    """Yield the chunks of a file, each with its checksum and header checked and its body still packed."""
    view = memoryview(data)
    first: _SegmentChunk | None = None
    at = index = rows = 0
    while at < len(data) or first is None:
        if index == MAX_CHUNKS:
            raise SegmentError(index, f"more than {MAX_CHUNKS} chunks in a segment")
        chunk, at = _read_chunk(view, at, index, first)
        rows += chunk.header.rows
        if rows > MAX_ROWS:
            raise SegmentError(index, f"more than {MAX_ROWS} probes in a segment")
        first = first or chunk
        yield chunk
        index += 1


def _read_chunk(view: memoryview, start: int, index: int, first: _SegmentChunk | None) -> tuple[_SegmentChunk, int]:
    """Return the chunk that begins at `start`, and where it ends. `first` is the file's first chunk."""

    at = start

    def take(size: int, what: str) -> memoryview:
        nonlocal at
        if size > len(view) - at:
            raise SegmentError(index, f"cut short: {what} is {size} bytes and {len(view) - at} are left")
        at += size
        return view[at - size : at]

    magic, header_bytes = _PREFIX.unpack(take(_PREFIX.size, "the beginning"))
    if magic != MAGIC:
        raise SegmentError(index, f"begins with {magic!r}, not {MAGIC!r}")
    if header_bytes > MAX_HEADER_BYTES:
        raise SegmentError(index, f"a header of {header_bytes} bytes; the limit is {MAX_HEADER_BYTES}")
    header = _parse_header(bytes(take(header_bytes, "the header")), index)
    table = take(header.table_bytes, "the target table")
    columns = take(header.body_bytes - header.table_bytes, "the body")
    computed = zlib.crc32(view[start:at])
    (stored,) = _CRC.unpack(take(_CRC.size, "the checksum"))
    if stored != computed:
        raise SegmentError(index, f"checksum is {stored:08x}, the bytes give {computed:08x}")
    if first is None:
        window = _parse_window(header, index)
    else:
        window, opening = first.window, first.header
        for name in ("host", "ip", "window", "window_s"):
            here, there = getattr(header, name), getattr(opening, name)
            if here != there:
                raise SegmentError(index, f"{name} is {here!r}, chunk 0 says {there!r}")
    return _SegmentChunk(index, window, header, table, columns), at


def _parse_header(packed: bytes, index: int) -> _Header:
    raw = _parse_json(packed, "header", index)
    if not isinstance(raw, dict):
        raise SegmentError(index, "header is no JSON object")
    if raw.get("v") != 1:
        raise SegmentError(index, f"format version {raw.get('v')!r:.40}; this reader knows version 1")
    for name, kind in _HEADER_TYPES.items():
        if type(raw.get(name)) is not kind:
            raise SegmentError(index, f"header field {name} is {raw.get(name)!r:.40}, not of type {kind.__name__}")
    header = _Header(**{name: raw[name] for name in _HEADER_TYPES})
    counts = {name: getattr(header, name) for name in _COUNTS} | header.skipped
    faults = [
        *_misfits(_NAME, "host", [header.host]),
        *_misfits(_ADDRESS, "ip", [header.ip]),
        *_misfits(_VERSION, "version", [header.agent, header.pinglist]),
        *_misfits(_WORD, "reason", header.skipped),
        *(f"{name} is {n!r:.40}" for name, n in counts.items() if type(n) is not int or not 0 <= n <= _MAX_COUNT),
    ]
    if header.chunk != index:
        faults.append(f"says it is chunk {header.chunk!r:.40}")
    if not 0 <= header.start_us <= _MAX_START_US:
        faults.append(f"start_us is {header.start_us!r:.40}, not a time of this century")
    if header.table_bytes > header.body_bytes:
        faults.append(f"table of {header.table_bytes} bytes in a body of {header.body_bytes}")
    if faults:
        raise SegmentError(index, f"header: {faults[0]}")
    if header.scheduled != header.sent + sum(header.skipped.values()):
        count = f"{header.scheduled} scheduled, {header.sent} sent, {sum(header.skipped.values())} skipped"
        raise SegmentError(index, f"header: {count}: that is no sum")
    return header


def _parse_window(header: _Header, index: int) -> Window:
    try:
        window = Window.parse(header.window, header.window_s)
    except ConfigError as error:
        raise SegmentError(index, f"header: {error}") from None
    if window.id != header.window:
        raise SegmentError(index, f"header: window {header.window!r:.40} is spelt {window.id}")
    return window


def _join_tables(chunks: Iterable[_SegmentChunk]) -> tuple[Targets, list[range]]:
    """Return all target tables as one, a repeated one once, and the stretch of it that each chunk's indices mean."""
    tables: list[list[Sequence[Any]]] = []
    known: dict[bytes, range] = {}
    stretches: list[range] = []
    size = 0
    for chunk in chunks:
        if chunk.table:
            packed = bytes(chunk.table)
            if packed not in known:
                tables.append(_unpack_table(packed, chunk.index))
                known[packed] = range(size, size := size + len(tables[-1][0]))
            stretches.append(known[packed])
        elif stretches:
            stretches.append(stretches[-1])
        else:
            raise SegmentError(chunk.index, "no target table in the first chunk")
        if size > MAX_TARGETS:
            raise SegmentError(chunk.index, f"more than {MAX_TARGETS} targets in a segment")
    columns = zip(*tables, strict=True)
    return Targets(*(tuple(chain.from_iterable(parts)) for parts in columns)), stretches


def _unpack_table(packed: bytes, index: int) -> list[Sequence[Any]]:
    """Return the six columns of a target table."""
    rows = _parse_json(_inflate(packed, MAX_TABLE_BYTES, "target table", index), "target table", index)
    if rows == []:
        return [()] * len(_TABLE_TYPES)
    if type(rows) is not list or set(map(type, rows)) != {list} or set(map(len, rows)) != {len(_TABLE_TYPES)}:
        raise SegmentError(index, f"target table is no list of rows of {len(_TABLE_TYPES)}")
    columns: list[Sequence[Any]] = list(zip(*rows, strict=True))
    for (name, kind), column in zip(_TABLE_TYPES.items(), columns, strict=True):
        if set(map(type, column)) != {kind}:
            raise SegmentError(index, f"target table: a {name} that is not of type {kind.__name__}")
    names, addresses, ports, protocols, scopes, sizes = columns
    faults = [
        *_misfits(_NAME, "name", names),
        *_misfits(_ADDRESS, "address", addresses),
        *_misfits(_WORD, "protocol", set(protocols)),
        *_misfits(_WORD, "scope", set(scopes)),
    ]
    if not (0 <= min(ports) <= max(ports) <= 0xFFFF and 0 <= min(sizes) <= max(sizes) <= 0xFFFF):
        faults.append("a port or a payload that is not in 0…65535")
    if faults:
        raise SegmentError(index, f"target table: {faults[0]}")
    return columns


def _unpack_columns(chunk: _SegmentChunk) -> list[NDArray[Any]]:
    rows = chunk.header.rows
    unpacked = _inflate(chunk.columns, rows * ROW_BYTES, "columns", chunk.index)
    if len(unpacked) != rows * ROW_BYTES:
        raise SegmentError(chunk.index, f"columns of {len(unpacked)} bytes, not of {rows} rows of {ROW_BYTES}")
    columns, at = [], 0
    for kind in map(np.dtype, COLUMN_TYPES):
        columns.append(np.frombuffer(unpacked, kind, rows, at))
        at += rows * kind.itemsize
    return columns


def _inflate(packed: bytes | memoryview, limit: int, what: str, index: int) -> bytes:
    """Decompress to at most `limit` bytes, whatever the input promises."""
    stream = zlib.decompressobj()
    try:
        unpacked = stream.decompress(packed, limit + 1)  # one more, so that the stream's end is reached at the limit
    except zlib.error as error:
        raise SegmentError(index, f"{what}: {error}") from None
    if len(unpacked) > limit:
        raise SegmentError(index, f"{what}: more than {limit} bytes when unpacked")
    if not stream.eof or stream.unused_data:
        raise SegmentError(index, f"{what}: its compressed bytes are {'too many' if stream.eof else 'cut short'}")
    return unpacked


def _parse_json(text: bytes, what: str, index: int) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SegmentError(index, f"{what} is no JSON: {error!s:.80}") from None


def _misfits(pattern: re.Pattern[str], what: str, words: Collection[str]) -> list[str]:
    """Say which of `words` does not match, if one does not."""
    if all(map(pattern.fullmatch, words)):
        return []
    word = next(word for word in words if not pattern.fullmatch(word))
    return [f"{what} {word!r:.80} does not match {pattern.pattern}"]
