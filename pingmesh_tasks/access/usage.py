"""The `usage` table: how a data server was used in a window, as figures that can be drawn, compared and added.

A row is one figure: a `measure` for one `key` of a `dimension` (`connects` by `country`, key `CN`: 17). A null key
stands for everything that no other row of the measure and dimension names: all of it in dimension `all`, else the rest
beyond the TOP keys. So a table is bounded whatever the log holds, and its sums are true:

    the rows of connects and operations by any dimension add up to dimension `all`, but that operations by user, host
    and country need a session: what none could be tied to is `operations_untied`, the missing part

MEASURES says how a measure merges over windows. `sum`: hours and days are sums; a key that was among the rest in some
windows is too low by that, the total never. `max`: peaks; users online at once do not add up. `last`: what is so at the
end of the newest window.

Online is who has a session that has not ended. A session with a process of its own writes no disconnect line: it is
online from its first line to its last, and still so at the window's end if that is no older than QUIET_S. Log times are
whole seconds and sessions may be shorter: those of one second count once in a peak, which may so be too low, never
too high.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Literal

import polars as pl

from pingmesh_tasks.access.sessions import OWN_PROCESS_SOCKET
from pingmesh_tasks.errors import StoreError
from pingmesh_tasks.store.schemas import USAGE, UTC_US, check_schema
from pingmesh_tasks.windows import Window

#: Keys that a measure and dimension has rows for; the rest is one row with a null key.
TOP = 100
QUIET_S = 300

#: How each measure merges over windows.
MEASURES: dict[str, Literal["sum", "max", "last"]] = {
    "connects": "sum",  # connections received: all, user, host, country
    "disconnects": "sum",  # disconnect lines: all
    "disconnects_unpaired": "sum",  # those that ended no session: all
    "operations": "sum",  # all, hook_type, tree, shot, node; and user, host, country where a session is known
    "operations_untied": "sum",  # operations of no known session: all
    "rejected": "sum",  # lines that are neither: all, reason
    "refused": "sum",  # refusals in the errors log: all, user
    "bad_headers": "sum",  # connections that spoke something else, from the errors log: all
    "sessions_ended": "sum",  # all, ended_by
    "sessions_online_peak": "max",  # all
    "users_online_peak": "max",  # all
    "longest_online_s": "max",  # of the sessions online at the end: all, user (the TOP; there is no rest)
    "sessions_online": "last",  # at the end: all
    "users_online": "last",  # at the end, distinct names: all, country (who is in two counts in both)
}
#: The key of operations on a whole tree in dimension `node`; a node's path begins with a backslash.
NO_NODE = "N/A"

_REFUSED = pl.col("ended_by").eq_missing("refusal")

CountryOf = Callable[[Sequence[str]], Sequence[str]]


def summarize_usage(
    window: Window,
    client: pl.DataFrame,
    operation: pl.DataFrame,
    sessions: pl.DataFrame,
    rejected: pl.DataFrame,
    country_of: CountryOf,
    *,
    server: str,
    errors: pl.DataFrame | None = None,
    top: int = TOP,
) -> pl.DataFrame:
    """Return the rows of `USAGE` for one data server's window, sorted by measure, dimension, value and key.

    `client`, `operation`, `rejected` (column `reason`) and `errors` (`SERVER_ERROR`) are of the window's lines,
    `sessions` the window's `SESSION` rows. `country_of` gets distinct addresses (`countries.Countries.of`). Every
    measure has its row of dimension `all`, be it 0; those of the errors log only where there is one. Raises StoreError
    for a frame that is not of its schema.
    """
    check_schema("client", client)
    check_schema("operation", operation)
    check_schema("session", sessions)
    countries = _countries(client, sessions, country_of)
    received = client.filter(pl.col("status") == "ON").join(countries, on="address", how="left")
    sessions = sessions.join(countries, on="address", how="left")
    tied = sessions.select("user", "host", "country", value="window_operations").filter(pl.col("value") > 0)
    disconnects = len(client) - len(received)
    ended = sessions.drop_nulls("ended_by")
    paired = len(ended.filter(pl.col("ended_by") == "disconnect"))

    figures = [
        _count("connects", received, ["user", "host", "country"], top),
        _all("disconnects", disconnects),
        _all("disconnects_unpaired", disconnects - paired),
        _count("operations", _named(operation), ["hook_type", "tree", "shot", "node"], top),
        *(_by("operations", name, tied.select(name, "value"), top) for name in ("user", "host", "country")),
        _all("operations_untied", len(operation) - int(tied["value"].sum())),
        _count("rejected", rejected, ["reason"], top),
        _count("sessions_ended", ended, ["ended_by"], top),
        *_online(sessions, client, operation, window, top),
    ]
    if errors is not None:
        check_schema("server_error", errors)
        figures.append(_count("refused", errors.filter(pl.col("kind") == "denied"), ["user"], top))
        figures.append(_all("bad_headers", len(errors.filter(pl.col("kind") == "bad_header"))))
    rows = pl.concat(figures).with_columns(
        pl.lit(window.start).cast(UTC_US).alias("window"), pl.lit(server).alias("server")
    )
    return _sorted(rows)


def merge_usage(parts: pl.DataFrame, window: Window, *, top: int = TOP) -> pl.DataFrame:
    """Return the rows of `USAGE` of a longer window (an hour, a day) from those of the windows in it, as MEASURES says.

    `parts` may be merged rows themselves and of several servers. Raises StoreError for rows outside of `window`.
    """
    check_schema("usage", parts)
    if len(parts.filter((pl.col("window") < window.start) | (pl.col("window") >= window.end))):
        raise StoreError(f"table usage: rows to merge are not of window {window.id} ({window.length_s} s)")
    how = pl.col("measure").replace_strict(MEASURES, default=None, return_dtype=pl.String)
    by = ["server", "measure", "dimension", "key"]
    sums = parts.filter(how == "sum").group_by(by).agg(pl.col("value").sum())
    peaks = parts.filter(how == "max").group_by(by).agg(pl.col("value").max())
    last = parts.filter((how == "last") & (pl.col("window") == pl.col("window").max())).select(*by, "value")
    rows = [USAGE.to_frame().select(*by, "value")]
    for (measure, dimension), group in pl.concat([sums, last]).group_by("measure", "dimension"):
        bounded = [
            _by(str(measure), str(dimension), of_one.select("key", "value"), top).with_columns(server=pl.lit(server))
            for (server,), of_one in group.group_by("server")
        ]
        rows += [frame.select(*by, "value") for frame in bounded]
    kept = pl.struct(-pl.col("value"), "key").rank("ordinal").over("server", "measure", "dimension") <= top
    rows.append(peaks.filter(kept).select(*by, "value"))
    return _sorted(pl.concat(rows).with_columns(pl.lit(window.start).cast(UTC_US).alias("window")))


def online_over_time(sessions: pl.DataFrame, window: Window, steps: int = 60) -> pl.DataFrame:
    """Return for each of the equal `steps` of a window how many were online at some moment of it.

    Columns: `at` (the step's start, UTC µs), `sessions` and `users` (distinct names), Int64. `sessions` are rows of
    `SESSION` of this window, of one data server or of several.
    """
    check_schema("session", sessions)
    spans = _spans(sessions, window).filter(~_REFUSED).select("user", "start_time", "until")
    step = (window.end - window.start) / steps
    rows = []
    for at in (window.start + step * number for number in range(steps)):
        there = spans.filter(pl.col("start_time") < at + step, pl.col("until") >= at)
        rows.append((at, len(there), there["user"].n_unique()))
    return pl.DataFrame(rows, schema={"at": UTC_US, "sessions": pl.Int64, "users": pl.Int64}, orient="row")


def _sorted(rows: pl.DataFrame) -> pl.DataFrame:
    order = ["server", "measure", "dimension", "value", "key"]
    return (
        rows.select(USAGE.names())
        .cast(USAGE)
        .sort(order, descending=[False, False, False, True, False], nulls_last=True)
    )


def _countries(client: pl.DataFrame, sessions: pl.DataFrame, country_of: CountryOf) -> pl.DataFrame:
    addresses = pl.concat([client["address"], sessions["address"]]).unique().drop_nulls().sort()
    return pl.DataFrame(
        {"address": addresses, "country": pl.Series(list(country_of(addresses.to_list())), dtype=pl.String)}
    )


def _named(operation: pl.DataFrame) -> pl.DataFrame:
    return operation.select(
        "hook_type", "tree", pl.col("shot").cast(pl.String), node=pl.col("node_path").fill_null(NO_NODE)
    )


def _all(measure: str, value: int) -> pl.DataFrame:
    return _rows(measure, "all", pl.DataFrame({"key": [None], "value": [value]}))


def _count(measure: str, frame: pl.DataFrame, dimensions: Sequence[str], top: int) -> pl.DataFrame:
    """Count the rows of a frame: all, and by each of its columns `dimensions`."""
    figures = [_all(measure, len(frame))]
    for dimension in dimensions:
        counted = frame.group_by(dimension).agg(pl.len().alias("value"))
        figures.append(_by(measure, dimension, counted, top))
    return pl.concat(figures)


def _by(measure: str, dimension: str, values: pl.DataFrame, top: int) -> pl.DataFrame:
    """Return the `top` keys (first column) with the greatest sums of `value`, and the rest under the null key."""
    key = values.columns[0]
    sums = (
        values.group_by(pl.col(key).cast(pl.String).alias("key"))
        .agg(pl.col("value").cast(pl.Int64).sum())
        .sort("value", "key", descending=[True, False], nulls_last=True)
    )
    named = sums.drop_nulls("key")
    rest = int(sums["value"].sum()) - int(named.head(top)["value"].sum())
    others = pl.DataFrame({"key": [None], "value": [rest]}) if rest or dimension == "all" else None
    figures = [_rows(measure, dimension, named.head(top))]
    return pl.concat(figures + ([_rows(measure, dimension, others)] if others is not None else []))


def _rows(measure: str, dimension: str, figures: pl.DataFrame) -> pl.DataFrame:
    return figures.select(
        pl.lit(measure).alias("measure"),
        pl.lit(dimension).alias("dimension"),
        pl.col("key").cast(pl.String),
        pl.col("value").cast(pl.Int64),
    )


def _online(
    sessions: pl.DataFrame, client: pl.DataFrame, operation: pl.DataFrame, window: Window, top: int
) -> list[pl.DataFrame]:
    """Return the figures of who is online at the window's end and who was in it."""
    spans = _spans(sessions, window)
    own = pl.col("socket").eq_missing(OWN_PROCESS_SOCKET)
    alive = pl.col("ended_by").is_null()
    quiet = own & (pl.lit(window.end) - pl.col("last_time") > timedelta(seconds=QUIET_S))
    now = spans.filter(alive & ~quiet)
    longest = now.select("user", value=(pl.col("until") - pl.col("start_time")).dt.total_seconds())
    by_user = longest.group_by(pl.col("user").alias("key")).agg(pl.col("value").max())
    by_user = by_user.sort("value", "key", descending=[True, False]).head(top)
    users = now.select("user", "country").unique()

    times = [frame["link_time"].min() for frame in (client, operation)]
    since = min([window.start, *(time for time in times if time is not None)])
    there = (pl.col("until") > since) | (pl.col("start_time") >= since)
    online = spans.filter(there, ~_REFUSED).select("user", "until", start="start_time")
    return [
        _all("sessions_online", len(now)),
        _all("users_online", users["user"].n_unique()),
        _by("users_online", "country", users.group_by("country").agg(pl.len().alias("value")), top),
        _all("longest_online_s", longest.select(pl.col("value").max().fill_null(0)).item()),
        _rows("longest_online_s", "user", by_user),
        _all("sessions_online_peak", _peak(online)),
        _all("users_online_peak", _peak(_united(online))),
    ]


def _spans(sessions: pl.DataFrame, window: Window) -> pl.DataFrame:
    """Add `until`: the moment up to which a session is known, or not known not, to be online."""
    own = pl.col("socket").eq_missing(OWN_PROCESS_SOCKET)
    at_end = pl.max_horizontal(pl.lit(window.end).cast(UTC_US), "last_time")
    until = pl.when(pl.col("ended_by").is_not_null()).then("end_time").when(own).then("last_time").otherwise(at_end)
    return sessions.with_columns(until.alias("until"))


def _united(spans: pl.DataFrame) -> pl.DataFrame:
    """Unite the spans of each user that overlap or touch."""
    before = pl.col("until").cum_max().shift(1).over("user")
    return (
        spans.sort("user", "start", "until")
        .with_columns(new=(pl.col("start") > before).fill_null(True))
        .group_by("user", pl.col("new").cum_sum())
        .agg(pl.col("start").min(), pl.col("until").max())
    )


def _peak(spans: pl.DataFrame) -> int:
    """Return how many spans [start, until) hold one moment at most; those without a length add 1 to theirs."""
    steps = pl.concat(
        [
            spans.select(at="start", step=1, short=(pl.col("start") == pl.col("until")).cast(pl.Int32)),
            spans.select(at="until", step=-1, short=0),
        ]
    )
    depth = steps.group_by("at").agg(pl.col("step").sum(), pl.col("short").max()).sort("at")
    return int(depth.select((pl.col("step").cum_sum() + pl.col("short")).max()).item() or 0)
