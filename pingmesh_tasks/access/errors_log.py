r"""The errors log of a data server (what `mdsip` prints on stderr) → the table `server_error`.

    Connected: alice                              a login that the hosts file lets in         mdsipshr/Connections.c
    Access denied: banned                         one that it does not                        mdsipshr/Connections.c
    dispatched client 127.0.0.1                   only where one process serves everybody     ioroutinesx.h
    GetMdsMsg shutdown connection -1: bad msg header, header.ndims=10, client_type=13         mdsipshr/GetMdsMsg.c
    send_bytes: Error sending data to remote server: Connection reset by peer                 other

The lines have no date and no process id. What is known of a line's time is the interval in which it was collected, and
of its place the offset; `sessions` ties a refusal to a session only where nothing else can be meant. A user's name is
what the client sent: with a line break in it, it is two lines here, of which nothing can tell that they are one.

Every line is a row or blank: lines == rows + blank, whatever the bytes are and however they arrive.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from pingmesh_tasks.access.lines import Source, cut_pieces, lines_of, safe
from pingmesh_tasks.access.mdsip import MAX_NAME_CHARS
from pingmesh_tasks.store.schemas import SERVER_ERROR
from pingmesh_tasks.windows import Window

MAX_TEXT_CHARS = 500
READ_COLUMNS = ("offset", "kind", "user", "address", "text")

# Of a line of bytes (a character each), without its newline. The groups are columns of the table.
KINDS = {
    "connected": r"^Connected: (?P<user>.*)$",
    "denied": r"^Access denied: (?P<user>.*)$",
    "dispatched": r"^dispatched client (?P<address>[!-~]+)$",
    "bad_header": r"^(?P<text>GetMdsMsg shutdown connection -?[0-9]+: bad msg header, .*)$",
    "other": r"^(?P<text>.*)$",
}


@dataclass(frozen=True, slots=True)
class ErrorLines:
    """Rows of `SERVER_ERROR` in the log's order, and how many lines there were, `blank` ones among them."""

    table: pl.DataFrame
    lines: int
    blank: int


def parse_errors_log(
    source: Source,
    *,
    server: str,
    window: Window,
    collected_from: datetime | None,
    collected_until: datetime,
) -> ErrorLines:
    """Return what the lines of a window's errors log say.

    They were written between `collected_from`, the last moment at which the log had been read to its end (None where
    that is not known), and `collected_until`, when these were read. Both are aware. Raises OSError for a file that
    cannot be read.
    """
    parts, lines = [SERVER_ERROR.to_frame().select(READ_COLUMNS)], 0
    for piece in cut_pieces(source):
        found = lines_of(piece)
        lines += len(found)
        parts.append(_read(found))
    rows = pl.concat(parts).with_columns(
        pl.lit(window.start).alias("window"),
        pl.lit(server).alias("server"),
        pl.lit(collected_from).alias("collected_from"),
        pl.lit(collected_until).alias("collected_until"),
    )
    return ErrorLines(rows.select(SERVER_ERROR.names()).cast(SERVER_ERROR), lines, lines - len(rows))


def _read(lines: pl.DataFrame) -> pl.DataFrame:
    """Return offset, kind, user, address and text of the lines that are not blank."""
    line = pl.col("line").str.strip_suffix("\n")
    kind: pl.Expr = pl.lit("other")
    for name, pattern in reversed(KINDS.items()):
        kind = pl.when(line.str.contains(f"(?s){pattern}")).then(pl.lit(name)).otherwise(kind)
    rows = lines.filter(~pl.col("line").is_in(["\n", "\r\n"])).with_columns(line.alias("line"), kind.alias("kind"))

    def group(column: str, limit: int) -> pl.Series:
        which = {name: pattern for name, pattern in KINDS.items() if f"(?P<{column}>" in pattern}
        taken = pl.coalesce(
            pl.when(pl.col("kind") == name).then(pl.col("line").str.extract(f"(?s){pattern}"))
            for name, pattern in which.items()
        )
        return safe(rows.select(taken).to_series(), limit).alias(column)

    columns = (group("user", MAX_NAME_CHARS), group("address", MAX_NAME_CHARS), group("text", MAX_TEXT_CHARS))
    return rows.select("offset", "kind").with_columns(columns).select(READ_COLUMNS)
