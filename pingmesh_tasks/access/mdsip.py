r"""The log of an MDSplus data server (`mdsip`): its connection lines, and the lines of the hook library.

    Sat Nov 21 22:49:07 2026 (4) (pid 7953) Connection received from carol@pc7.lab.example [10.1.0.7]\r\n
    Sat Nov 21 22:49:07 2026 (pid 7953) GetData called for tree=EAST, shot=138001, node=\EAST::TOP.MAGNETICS:FLUX\n
    Sat Nov 21 22:49:07 2026 (pid 7953) OpenTree called for tree=EAST, shot=-1, node=N/A, nid=0, thread=79, client=N/A\n

The first is printed by mdsip (ioroutinesx.h), `disconnected` at the end of some sessions; older servers leave out the
socket's number. The user's name is whatever the client sent, so such a line is split from the right: the last ` [`, and
the last `@` before it. A name that holds a line break and looks like lines of a log is lines of the log: nothing there
can tell. The others come from our library (include/mdsplus), the last one in its extended form.

Lines that are neither are rejected with a reason:

    too_long          over MAX_LINE_BYTES; the first bytes are kept
    empty             nothing in it
    glued             a second line begins inside it: two processes wrote at once
    undated_template  the line of MDSplus' own hook template, without date and process
    partial           begins like a line of ours, or ends like one, or is the middle of one, but is not whole
    malformed         has both ends of a line of ours, but a field of it is impossible, such as a blank in a node's path
    stray_text        something else: libraries print to the same file; or a scrap that could be anything's
    bad_date          a whole line whose date is none: hour 25, the wrong day of the week
    no_such_time      a whole line in the hour that is left out when clocks go forward
    bad_number        a whole line with a number too large for what it is
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import polars as pl

from pingmesh_tasks.access.clock import CTIME, CTIME_CHARS, ctime_to_utc
from pingmesh_tasks.access.lines import safe

MAX_NAME_CHARS = 256

# What follows the date. ASCII classes: they are several times as fast as \d and \S.
OPERATION_TAIL = (
    r"^ \(pid (?P<pid>[0-9]+)\) (?P<hook_type>[A-Za-z]+) called for "
    r"tree=(?P<tree>[!-+\--~]*), shot=(?P<shot>-?[0-9]+), node=(?P<node_path>[!-+\--~]*)"
    r"(?:, nid=(?P<node_id>-?[0-9]+), thread=(?P<thread>[0-9]+), client=(?P<client_address>[!-+\--~]*))?\r?\n$"
)
CLIENT_TAIL = (
    r"^ (?:\((?P<socket>[0-9]+)\) )?\(pid (?P<pid>[0-9]+)\) Connection (?P<status>received|disconnected) from "
    r"(?P<user>.*)@(?P<host>[!-?A-~]+) \[(?P<address>[!-Z\\^-~]*)\]\r?\n$"
)
OPERATION_NUMBERS = {"pid": pl.UInt32(), "shot": pl.Int64(), "node_id": pl.Int64(), "thread": pl.UInt64()}
CLIENT_NUMBERS = {"socket": pl.UInt64(), "pid": pl.UInt32()}
NOT_THERE = "N/A"
NODE_TYPES = ["GetData", "GetNci", "PutData", "PutNci"]

# Of a line that is neither, without its line break: the first that is found in it is the reason.
REASONS = {
    "empty": r"^$",
    "glued": rf".{CTIME} \((?:[0-9]+\) \()?pid ",
    "undated_template": r"^[A-Za-z]+ hook called for tree=.*, shot=-?[0-9]+, node=",
    "malformed": rf"^{CTIME} \(.*(?: called for tree=.*, shot=.*, node=.|"
    r" Connection (?:received|disconnected) from .*@.* \[.*\]$)",
    "partial": r"^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) |"
    r" called for tree=|=(?:N/A|\\[!-~]+)$|^\\?[0-9A-Z_]*::[!-~]+$|"
    r"Connection (?:received|disconnected) from |@[!-~]+ \[[!-~]*\]$",
}


class Parts(NamedTuple):
    """Rows of `client` and `operation` (all columns but `server`), and `rejected`: offset, length, line, reason."""

    client: pl.DataFrame
    operation: pl.DataFrame
    rejected: pl.DataFrame


def read(lines: pl.DataFrame, timezone: str) -> Parts:
    """Take lines apart; each becomes one row of one part."""
    hooks, others = _divide(lines, pl.col("line").str.contains(" called for tree=", literal=True))
    operation, faulty_operation, no_operation = _match(hooks, OPERATION_TAIL, OPERATION_NUMBERS, timezone)
    if len(no_operation):  # a user's name may say so too
        others = pl.concat([others, no_operation]).sort("offset")
    client, faulty_client, neither = _match(others, CLIENT_TAIL, CLIENT_NUMBERS, timezone)
    rejected = pl.concat([faulty_operation, faulty_client, neither.with_columns(_reason().alias("reason"))])
    return Parts(_as_client(client), _as_operation(operation), rejected.sort("offset"))


def _divide(frame: pl.DataFrame, condition: pl.Expr) -> tuple[pl.DataFrame, pl.DataFrame]:
    chosen = frame.select(condition).to_series()
    if chosen.all():
        return frame, frame.clear()
    return frame.filter(chosen), frame.filter(~chosen)


def _match(
    lines: pl.DataFrame, tail: str, numbers: Mapping[str, pl.DataType], timezone: str
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Return the lines that a date and `tail` match, with columns for its groups, `link_time` and the `numbers`; those
    that match but whose date or numbers cannot be, with the reason; and those that do not match."""
    line = pl.col("line")
    found = lines.with_columns(line.str.slice(CTIME_CHARS).str.extract_groups(tail).alias("groups")).unnest("groups")
    matched, other = _divide(found, pl.col("pid").is_not_null())
    times = ctime_to_utc(matched.select(line.str.slice(0, CTIME_CHARS)).to_series(), timezone)
    cast = matched.select(pl.col(name).cast(kind, strict=False) for name, kind in numbers.items())
    too_large = [cast[name].is_null() & matched[name].is_not_null() for name in numbers]
    whole = matched.with_columns(*cast, *times).with_columns(
        reason=pl.coalesce("time_fault", pl.when(pl.any_horizontal(too_large)).then(pl.lit("bad_number")))
    )
    good, faulty = _divide(whole, pl.col("reason").is_null())
    return good, faulty.select(*lines.columns, "reason"), other.select(lines.columns)


def _reason() -> pl.Expr:
    line = pl.col("line").str.strip_suffix("\n").str.strip_suffix("\r")
    reason: pl.Expr = pl.lit("stray_text")
    for name, pattern in reversed(REASONS.items()):
        reason = pl.when(line.str.contains(f"(?s){pattern}")).then(pl.lit(name)).otherwise(reason)
    return reason


def _as_client(found: pl.DataFrame) -> pl.DataFrame:
    return found.with_columns(
        pl.col("status").replace_strict({"received": "ON", "disconnected": "OFF"}, return_dtype=pl.String()),
        *(safe(found[name], MAX_NAME_CHARS) for name in ("user", "host", "address")),
    )


def _as_operation(found: pl.DataFrame) -> pl.DataFrame:
    there = [pl.when(pl.col(name) != NOT_THERE).then(name).alias(name) for name in ("node_path", "client_address")]
    of_a_node = pl.col("hook_type").is_in(NODE_TYPES)  # else the hook says 0, which is the number of node TOP
    return found.with_columns(*there, pl.when(of_a_node).then("node_id").alias("node_id"))
