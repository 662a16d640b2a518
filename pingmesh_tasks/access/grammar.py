"""Lines of a data server's log → the tables `client` and `operation`, and the lines that are neither, with the reason.

Every line ends up in one place: lines == client + operation + rejected + dropped, always; the log may be anything. Both
entry points read the log in pieces (`lines.cut_pieces`), two at a time. `parse_access_log` holds the result,
`write_access_tables` nothing but a few pieces, however long the log or a line of it is.

A kind of log is a module with a function `read(lines, timezone) -> Parts`, and its name in FORMATS.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from pingmesh_tasks.access import mdsip
from pingmesh_tasks.access.clock import check_timezone
from pingmesh_tasks.access.lines import MAX_LINE_BYTES, Piece, Source, cut_pieces, lines_of, safe
from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.store.schemas import CLIENT, OPERATION

FORMATS: dict[str, Callable[[pl.DataFrame, str], mdsip.Parts]] = {"mdsip": mdsip.read}

#: A line that is neither. `length` is its bytes before the newline, `line` the first of them as safe text.
REJECTED = pl.Schema(
    {
        "server": pl.String(),
        "offset": pl.UInt64(),
        "reason": pl.String(),
        "length": pl.UInt64(),
        "line": pl.String(),
    }
)
MAX_REJECTED_CHARS = 500
ROW_GROUP_ROWS = 1 << 17
WORKERS = 2


@dataclass(frozen=True, slots=True)
class AccessTables:
    """What the lines of a log are, in the log's order; `dropped` of them matched the drop filter."""

    client: pl.DataFrame
    operation: pl.DataFrame
    rejected: pl.DataFrame
    dropped: int
    lines: int


@dataclass(slots=True)
class AccessCounts:
    """How many lines became what; `reasons` of those rejected."""

    lines: int = 0
    client: int = 0
    operation: int = 0
    rejected: int = 0
    dropped: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, tables: AccessTables) -> None:
        self.lines += tables.lines
        self.client += len(tables.client)
        self.operation += len(tables.operation)
        self.rejected += len(tables.rejected)
        self.dropped += tables.dropped
        self.reasons.update(tables.rejected["reason"])


@dataclass(frozen=True, slots=True)
class AccessSinks:
    """Where the tables of a log go: two Parquet files and one of JSON lines. What is there is replaced."""

    client: Path
    operation: Path
    rejected: Path


def parse_access_log(
    source: Source, *, server: str, timezone: str, drop: Sequence[str] = (), format: str = "mdsip"
) -> AccessTables:
    """Return the tables of a log whose dates are local times of `timezone`.

    `drop` has regular expressions (Rust's) for lines that nobody wants, which are counted and in no table. Raises
    ConfigError for a time zone, format or expression that is none, OSError for a file that cannot be read.
    """
    parts = list(_parsed(source, _Parser(server, timezone, tuple(drop), format)))
    return AccessTables(
        client=pl.concat([CLIENT.to_frame(), *(part.client for part in parts)]),
        operation=pl.concat([OPERATION.to_frame(), *(part.operation for part in parts)]),
        rejected=pl.concat([REJECTED.to_frame(), *(part.rejected for part in parts)]),
        dropped=sum(part.dropped for part in parts),
        lines=sum(part.lines for part in parts),
    )


def write_access_tables(
    source: Source,
    sinks: AccessSinks,
    *,
    server: str,
    timezone: str,
    drop: Sequence[str] = (),
    format: str = "mdsip",
) -> AccessCounts:
    """Write the tables of a log, piece by piece. The same log gives the same bytes. Raises as `parse_access_log`."""
    parser = _Parser(server, timezone, tuple(drop), format)
    counts = AccessCounts()
    with ExitStack() as stack:
        client = stack.enter_context(_ParquetSink(sinks.client, CLIENT))
        operation = stack.enter_context(_ParquetSink(sinks.operation, OPERATION))
        rejected = stack.enter_context(sinks.rejected.open("wb"))
        for tables in _parsed(source, parser):
            client.write(tables.client)
            operation.write(tables.operation)
            tables.rejected.write_ndjson(rejected)
            counts.add(tables)
    return counts


def _parsed(source: Source, parser: _Parser) -> Iterator[AccessTables]:
    """Parse the pieces of a log in their order; Polars lets go of the interpreter, so that threads are enough."""
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="parse") as pool:
        pending: deque[Future[AccessTables]] = deque()
        for piece in cut_pieces(source):
            pending.append(pool.submit(parser, piece))
            if len(pending) > WORKERS:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


@dataclass(frozen=True, slots=True)
class _Parser:
    """Parses a piece of a log; what it needs to know is checked when it is made."""

    server: str
    timezone: str
    drop: tuple[str, ...]
    format: str

    def __post_init__(self) -> None:
        check_timezone(self.timezone)
        if self.format not in FORMATS:
            raise ConfigError(f"{self.format!r} is no format of an access log; there are {', '.join(FORMATS)}")
        for pattern in self.drop:
            try:
                pl.Series([""]).str.contains(_byte_pattern(pattern))
            except pl.exceptions.ComputeError as error:
                raise ConfigError(f"drop filter {pattern!r} is no regular expression: {error}") from None

    def __call__(self, piece: Piece) -> AccessTables:
        everything = lines_of(piece)
        lines, dropped = self._without_dropped(everything)
        too_long = lines.filter(pl.col("length") > MAX_LINE_BYTES)
        if len(too_long):
            lines = lines.filter(pl.col("length") <= MAX_LINE_BYTES)
        client, operation, rejected = FORMATS[self.format](lines, self.timezone)
        if len(too_long):
            rejected = pl.concat([rejected, too_long.with_columns(reason=pl.lit("too_long"))]).sort("offset")
        tables = AccessTables(
            self._rows(client, CLIENT),
            self._rows(operation, OPERATION),
            self._rows(rejected.with_columns(_kept(rejected["line"])), REJECTED),
            dropped,
            len(everything),
        )
        found = len(tables.client) + len(tables.operation) + len(tables.rejected) + dropped
        if found != tables.lines:
            raise RuntimeError(f"{self.format} made {found} rows of {tables.lines} lines at byte {piece.offset}")
        return tables

    def _without_dropped(self, lines: pl.DataFrame) -> tuple[pl.DataFrame, int]:
        if not self.drop:
            return lines, 0
        text = pl.col("line").str.strip_suffix("\n").str.strip_suffix("\r")
        unwanted = pl.any_horizontal(text.str.contains(_byte_pattern(pattern)) for pattern in self.drop)
        kept = lines.filter(~unwanted)
        return kept, len(lines) - len(kept)

    def _rows(self, found: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
        return found.with_columns(server=pl.lit(self.server)).select(schema.names())


def _byte_pattern(pattern: str) -> str:
    """Lines are a character a byte, so an expression has to be too."""
    return pattern.encode().decode("latin-1")


def _kept(lines: pl.Series) -> pl.Series:
    return safe(lines.str.strip_suffix("\n").str.strip_suffix("\r"), MAX_REJECTED_CHARS)


class _ParquetSink:
    """A Parquet file of row groups that all have ROW_GROUP_ROWS rows but the last, however the rows come."""

    def __init__(self, path: Path, schema: pl.Schema) -> None:
        self._pending: list[pa.Table] = []
        self._rows = 0
        arrow = schema.to_frame().to_arrow().schema
        strings = [name for name, kind in schema.items() if kind == pl.String]
        self._writer = pq.ParquetWriter(
            path,
            arrow,
            store_schema=False,
            compression="zstd",
            use_dictionary=strings,
            column_encoding={name: "DELTA_BINARY_PACKED" for name in schema if name not in strings},
            write_statistics=["link_time"],
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if error is None and self._rows:
                self._writer.write_table(pa.concat_tables(self._pending), ROW_GROUP_ROWS)
        finally:
            self._writer.close()

    def write(self, frame: pl.DataFrame) -> None:
        self._pending.append(frame.to_arrow())
        self._rows += len(frame)
        if self._rows >= ROW_GROUP_ROWS:
            held = pa.concat_tables(self._pending)
            whole = self._rows // ROW_GROUP_ROWS * ROW_GROUP_ROWS
            self._writer.write_table(held.slice(0, whole), ROW_GROUP_ROWS)
            self._pending = [held.slice(whole)]
            self._rows -= whole
