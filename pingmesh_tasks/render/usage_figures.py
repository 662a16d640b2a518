"""What a usage report says, before anybody draws it: headline figures, lists, and curves over time.

Input are rows of `USAGE` of one window or of several, of one data server or of several. They are merged here by the
rule that their table states (counts add up, peaks are the greatest, what is online is of the newest window), because
`render` knows frames and not who made them. Over several data servers counts add up too; peaks do not: the greatest of
one server is all that is known.

Names come from logs that strangers write to. `legible` makes of each one line of visible characters.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from pingmesh_tasks.errors import StoreError
from pingmesh_tasks.render.theme import format_count, format_loss
from pingmesh_tasks.store.schemas import UTC_US, check_schema
from pingmesh_tasks.text import one_line
from pingmesh_tasks.windows import Window

ONLINE = pl.Schema({"server": pl.String(), "at": UTC_US, "sessions": pl.Int64(), "users": pl.Int64()})
#: Measures whose windows do not add up; all others are counts.
GREATEST = frozenset({"sessions_online_peak", "users_online_peak", "longest_online_s"})
NEWEST = frozenset({"sessions_online", "users_online"})
#: The key of operations on a whole tree: not a node that anybody wants.
NO_NODE = "N/A"
MOST_ROWS, MOST_SPANS, MOST_TYPES = 100, 288, 5
OTHER_TYPES = "other types"
_MOST_MARKS, _MOST_CHARS = 2, 1_000

Figures = dict[tuple[str, str], dict[str | None, int]]


@dataclass(frozen=True, slots=True)
class RankedList:
    """A list by one dimension: `columns` are (measure, heading), a row has a value for each, None where not known.

    Sorted by the first column, then the next. `rest` sums up what has no row, `note` says what was left out.
    """

    name: str
    title: str
    key: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str, tuple[int | None, ...]], ...]
    rest: tuple[int, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class TypesOverTime:
    """Operations by hook type in equal spans of time: `counts[type][span]`, the most frequent type first."""

    starts: tuple[datetime, ...]
    span_s: int
    types: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Curve:
    """Who was online at a data server, by step of equal length."""

    server: str
    at: tuple[datetime, ...]
    sessions: tuple[int, ...]
    users: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """A report of `servers` together. `totals` has each measure's figure; one that nobody measured is missing."""

    servers: tuple[str, ...]
    windows: int
    totals: dict[str, int]
    listings: dict[str, RankedList]
    types: TypesOverTime | None
    curves: tuple[Curve, ...]

    @property
    def is_empty(self) -> bool:
        """Nothing was logged, and nobody was there."""
        return not any(self.totals.values()) and not any(any(c.sessions) for c in self.curves)


#: The lists: name, title, heading of the key, dimension, and (measure, heading) of the columns.
LISTS: tuple[tuple[str, str, str, str, tuple[tuple[str, str], ...]], ...] = (
    (
        "users",
        "Users",
        "user",
        "user",
        (("operations", "operations"), ("connects", "connects"), ("refused", "refused")),
    ),
    (
        "countries",
        "Countries",
        "country",
        "country",
        (("connects", "connects"), ("operations", "operations"), ("users_online", "online")),
    ),
    ("longest", "Longest online", "user", "user", (("longest_online_s", "h:mm:ss"),)),
    ("nodes", "Most wanted signals", "node", "node", (("operations", "operations"),)),
    ("trees", "Trees", "tree", "tree", (("operations", "operations"),)),
    ("types", "Operations by type", "type", "hook_type", (("operations", "operations"),)),
    ("reasons", "Rejected lines by reason", "reason", "reason", (("rejected", "lines"),)),
    ("hosts", "Hosts", "host", "host", (("connects", "connects"), ("operations", "operations"))),
    ("shots", "Shots", "shot", "shot", (("operations", "operations"),)),
    ("ended", "How sessions ended", "ended by", "ended_by", (("sessions_ended", "sessions"),)),
)


def build_report(usage: pl.DataFrame, online: pl.DataFrame, window: Window, server: str | None = None) -> Report:
    """Return the report of all the data servers in `usage` and `online` (schema ONLINE) together, or of `server` alone.

    Who is online is known of those servers that have rows of the newest window of all. Raises StoreError for a frame of
    another schema and for rows outside of `window`.
    """
    check_usage(usage, online, window)
    stale = pl.col("measure").is_in(NEWEST) & (pl.col("window") < pl.col("window").max())
    usage = usage.filter(~stale)
    if server is not None:
        usage, online = usage.filter(server=server), online.filter(server=server)
    servers = servers_of(usage, online)
    figures = _merged(usage)
    totals = {m: values[None] for (m, dimension), values in figures.items() if dimension == "all" and None in values}
    listings = {spec[0]: _listing(figures, *spec) for spec in LISTS}
    if len(servers) > 1:
        listings["servers"] = _by_server(usage)
    curves = []
    for (server,), rows in online.sort("server", "at").group_by("server", maintain_order=True):
        columns = (tuple(rows[name].to_list()) for name in ("at", "sessions", "users"))
        curves.append(Curve(legible(str(server)), *columns))
    names = tuple(legible(server) for server in servers)
    return Report(names, usage["window"].n_unique(), totals, listings, _types_over_time(usage, window), tuple(curves))


def check_usage(usage: pl.DataFrame, online: pl.DataFrame, window: Window) -> None:
    check_schema("usage", usage)
    if online.schema != ONLINE:
        raise StoreError(f"users online: the columns are {dict(online.schema)}, not {dict(ONLINE)}")
    for name, times in (("usage", usage["window"]), ("users online", online["at"])):
        if len(times) and not (window.start <= times.min() and times.max() < window.end):  # type: ignore[operator]
            raise StoreError(f"{name}: rows are not of window {window.id} ({window.length_s} s); filter them first")


def servers_of(usage: pl.DataFrame, online: pl.DataFrame) -> list[str]:
    return sorted({*usage["server"].to_list(), *online["server"].to_list()})


def attribution(totals: dict[str, int]) -> str:
    """Return in words how much of the operations the figures by user, host and country hold."""
    operations, untied = totals.get("operations", 0), totals.get("operations_untied", 0)
    if not operations:
        return ""
    if not untied:
        return "Every operation is tied to the session of a user."
    if untied >= operations:
        return "No operation could be tied to a session: by user, host and country only connects are known."
    return (
        f"{format_loss(untied / operations)} of the operations ({format_count(untied)}) could not be tied to a "
        "session: figures by user, host and country are without them."
    )


def lines_of(totals: dict[str, int]) -> int:
    """Return the lines of the log that were read: each is a connection, an operation or rejected."""
    return sum(totals.get(measure, 0) for measure in ("connects", "disconnects", "operations", "rejected"))


def format_hms(seconds: int) -> str:
    """Return `1:02:05`; hours have no end, so that lengths compare at a glance."""
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def legible(name: str) -> str:
    r"""Return `name` as a picture can show it: characters that do not print are `\uNNNN`.

    No more than two combining marks stay on one letter: fifty would climb over the lines above. A name of blanks only
    is put in quotes.
    """
    shown: list[str] = []
    marks = 0
    for char in name:
        marks = marks + 1 if unicodedata.category(char) in {"Mn", "Me"} else 0
        if marks <= _MOST_MARKS:
            shown.append(char)
    return one_line("".join(shown), _MOST_CHARS) if name.strip(" ") else f'"{name}"'


def _merged(usage: pl.DataFrame) -> Figures:
    """Merge over windows and servers rows of which the stale ones are gone."""
    by = ["measure", "dimension", "key"]
    greatest = pl.col("measure").is_in(GREATEST)
    value = pl.when(greatest.first()).then(pl.col("value").max()).otherwise(pl.col("value").sum()).alias("value")
    figures: Figures = {}
    for measure, dimension, key, total in usage.group_by(by).agg(value).sort(by).iter_rows():
        figures.setdefault((measure, dimension), {})[key] = total
    return figures


def _listing(
    figures: Figures, name: str, title: str, key: str, dimension: str, columns: tuple[tuple[str, str], ...]
) -> RankedList:
    measured = [column for column in columns if (column[0], dimension) in figures]
    columns = tuple(measured) or columns[:1]  # a measure that nobody has a figure of is no column of zeros
    known = [dict(figures.get((measure, dimension), {})) for measure, _ in columns]
    note = "Of the sessions that were open when a window ended." if name == "longest" else ""
    if name == "nodes" and (whole := known[0].pop(NO_NODE, 0)):
        note = f"{format_count(whole)} operations were on a whole tree, on no node."
    rests = [values.pop(None, 0) for values in known]
    absent = [None if rest or measure in GREATEST else 0 for rest, (measure, _) in zip(rests, columns, strict=True)]
    rows = [
        (k, tuple(values.get(k, none) for values, none in zip(known, absent, strict=True)))
        for k in {k for values in known for k in values if k is not None}
    ]
    rows.sort(key=lambda row: ([-(v if v is not None else -1) for v in row[1]], row[0]))
    beyond = rows[MOST_ROWS:]
    rest = tuple(rest + sum(row[1][i] or 0 for row in beyond) for i, rest in enumerate(rests))
    if columns[0][0] in GREATEST:
        rest = tuple(0 for _ in rest)
    return RankedList(name, title, key, columns, tuple((legible(k), v) for k, v in rows[:MOST_ROWS]), rest, note)


def _by_server(usage: pl.DataFrame) -> RankedList:
    columns = (("operations", "operations"), ("connects", "connects"), ("users_online_peak", "peak users"))
    rows = []
    for (server,), part in usage.sort("server").group_by("server", maintain_order=True):
        figures = _merged(part)
        rows.append((str(server), tuple(figures.get((measure, "all"), {}).get(None) for measure, _ in columns)))
    rows.sort(key=lambda row: ([-(v if v is not None else -1) for v in row[1]], row[0]))
    shown = tuple((legible(server), values) for server, values in rows[:MOST_ROWS])
    rest = tuple(sum(row[1][i] or 0 for row in rows[MOST_ROWS:]) for i in range(2))
    return RankedList("servers", "Data servers", "server", columns, shown, (*rest, 0))


def _types_over_time(usage: pl.DataFrame, window: Window) -> TypesOverTime | None:
    """Return operations by type over the windows that the rows are of, or None where they are of one."""
    starts = usage["window"].unique().sort().to_list()
    if len(starts) < 2:
        return None
    offsets = [int((start - window.start).total_seconds()) for start in starts]
    span_s = math.gcd(window.length_s, *offsets)
    while window.length_s > span_s * MOST_SPANS:
        span_s *= 2
    count = -(-window.length_s // span_s)
    rows = usage.filter(measure="operations", dimension="hook_type").select(
        pl.col("key").fill_null(OTHER_TYPES),
        span=(pl.col("window") - window.start).dt.total_seconds() // span_s,
        value="value",
    )
    totals = rows.group_by("key").agg(pl.col("value").sum()).sort("value", "key", descending=[True, False])
    frequent = [key for key in totals["key"].to_list() if key != OTHER_TYPES][:MOST_TYPES]
    rows = rows.with_columns(pl.when(pl.col("key").is_in(frequent)).then("key").otherwise(pl.lit(OTHER_TYPES)))
    if OTHER_TYPES in rows["key"]:
        frequent.append(OTHER_TYPES)
    counts = {key: [0] * count for key in frequent}
    for key, span, value in rows.group_by("key", "span").agg(pl.col("value").sum()).iter_rows():
        counts[key][span] = value
    moments = tuple(window.start + (window.end - window.start) * i * span_s / window.length_s for i in range(count))
    return TypesOverTime(
        moments, span_s, tuple(legible(k) for k in frequent), tuple(tuple(counts[k]) for k in frequent)
    )


__all__: Sequence[str] = [
    "ONLINE",
    "Curve",
    "RankedList",
    "Report",
    "TypesOverTime",
    "attribution",
    "build_report",
    "format_hms",
    "legible",
    "lines_of",
    "servers_of",
]
