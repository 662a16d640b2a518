"""What is usual at a data server: the table `access_normal`, carried from window to window.

    normal(window) = update_access_normal(normal(window before), view of the window)

For every user, client, country, node and for the server itself (`all`), the busiest minute of each of the last RECENT
windows in which it was seen, their median and 90th percentile. Quantiles of windows, not means: use comes in bursts.
A window of a flood must not make floods usual, so a value enters as at most twice the 90th percentile; a lasting change
is learned in a few windows, a peak in none.

Bounded: of users, clients, countries and nodes each the MOST_KEYS that were seen in the most windows, the latest first;
what was not seen for FORGET_DAYS goes, and is new when it returns. So names that somebody makes up displace each other
and not those who come every day.
"""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from pingmesh_tasks.detect.access.rates import most_at_once, spans_of
from pingmesh_tasks.detect.access.reads import BURST
from pingmesh_tasks.detect.access.signs import NO_COUNTRY, NO_LOG, rejected_counts, with_country
from pingmesh_tasks.detect.access.view import AccessView, Dimension, PreparedLog, busiest, total
from pingmesh_tasks.detect.rules import DEFAULT_RULES
from pingmesh_tasks.errors import StoreError
from pingmesh_tasks.store.schemas import ACCESS_NORMAL, UTC_US, check_schema
from pingmesh_tasks.windows import Window

RECENT = 48
MOST_KEYS = 5_000
FORGET_DAYS = 90
#: From so many windows on, a value is held to twice what is usual; one below LEAST moves nothing that matters.
_HOLD_AFTER, _HOLD_TIMES, _LEAST = 6, 2.0, 10.0

#: What is measured of each dimension: lines in the busiest minute, unless said otherwise.
MEASURES: dict[str, tuple[str, ...]] = {
    # gap_s: the longest time without a line; sessions: the most at once; new_…: how many were never seen before
    "all": ("operations", "connects", "rejected", "gap_s", "sessions", "new_user", "new_client", "new_country"),
    "user": ("operations", "connects", "sessions"),
    "client": ("operations", "connects", "sessions"),
    "country": ("connects",),
    "node": ("operations", "reads", "burst"),  # burst: reads in the busiest BURST
}
_ROW = {name: ACCESS_NORMAL[name] for name in ("dimension", "key", "measure")} | {"value": pl.Float64()}


def update_access_baseline(before: pl.DataFrame | None, view: AccessView, window: Window) -> pl.DataFrame:
    """Return the rows of `access_normal` after one more window, sorted.

    `view` has the window's lines (lane window). Rows of other servers are left out. A window whose log could not be
    read teaches nothing: the rows are those of before. Raises StoreError for a frame that is not of its schema, or that
    already knows this window.
    """
    before = ACCESS_NORMAL.to_frame() if before is None else before
    check_schema("access_normal", before)
    before = before.filter(pl.col("server") == view.server)
    newest = before["last_seen"].max()
    if newest is not None and newest > window.start:  # type: ignore[operator]
        raise StoreError(
            f"access_normal of {view.server} knows window {window.id} already; pass that of a window before"
        )
    if _was_not_read(view):
        return _sorted(before)
    keys = ["dimension", "key", "measure"]
    seen = measures_of(view, before)
    joined = before.join(seen, on=keys, how="full", coalesce=True, nulls_equal=True)
    held = pl.max_horizontal(pl.col("upper") * _HOLD_TIMES, pl.lit(_LEAST))
    bounded = pl.col("measure").is_in(["operations", "reads", "burst", "connects", "rejected", "sessions"])
    value = (
        pl.when(bounded & (pl.col("windows") >= _HOLD_AFTER)).then(pl.min_horizontal("value", held)).otherwise("value")
    )
    was_there = pl.col("value").is_not_null()
    now = pl.lit(window.end).cast(UTC_US)
    recent = pl.concat_list(pl.col("recent").fill_null(pl.lit([], pl.List(pl.Float32))), value.cast(pl.Float32))
    rows = joined.with_columns(
        server=pl.lit(view.server),
        windows=pl.col("windows").fill_null(0) + was_there.cast(pl.UInt32),
        first_seen=pl.col("first_seen").fill_null(pl.lit(window.start)),
        last_seen=pl.when(was_there).then(now).otherwise("last_seen"),
        recent=pl.when(was_there).then(recent.list.tail(RECENT)).otherwise("recent"),
    ).with_columns(
        median=pl.col("recent").list.median().cast(pl.Float64),
        upper=pl.col("recent").list.eval(pl.element().quantile(0.9, "nearest")).list.first().cast(pl.Float64),
    )
    return _sorted(_bounded(rows.select(ACCESS_NORMAL.names()).cast(ACCESS_NORMAL), window))


def measures_of(view: AccessView, before: pl.DataFrame) -> pl.DataFrame:
    """Return what a window had: dimension, key (null for all), measure, value. `before` tells who was known."""
    log = PreparedLog.at(view, DEFAULT_RULES)
    operation, connects = log.operation, log.connects
    node = operation.drop_nulls("node_path")
    reads = node.filter(pl.col("hook_type") == "GetData")
    in_bursts = pl.col("link_time").dt.truncate(BURST)
    came = connects.with_columns(client="address")
    rows = [
        *(_measure(name, "operations", busiest(operation.drop_nulls(name), [name])) for name in ("user", "client")),
        *(_measure(name, "connects", busiest(came, [name])) for name in ("user", "client")),
        _measure("node", "operations", _by_node(node)),
        _measure("node", "reads", _by_node(reads)),
        _measure("node", "burst", _by_node(reads.with_columns(minute=in_bursts))),
        _all("operations", int(total(operation.filter(~pl.col("alone")))["value"].sum())),
        _all("connects", int(total(connects)["value"].sum())),
        _all("rejected", sum(rejected_counts(view.rejected).values()) * 60 / max(view.span_s, 60.0)),
        _all("gap_s", _longest_gap_s(view)),
    ]
    if view.session is not None:
        spans = spans_of(view.session, view.at)
        rows += [_measure("user", "sessions", most_at_once(spans, "user"))]
        rows += [_measure("client", "sessions", most_at_once(spans, "address"))]
        rows += [_all("sessions", int(most_at_once(spans, None)["value"].sum()))]
    if view.country_of is not None:
        placed = with_country(came, view.country_of).filter(~pl.col("country").is_in(NO_COUNTRY))
        rows += [_measure("country", "connects", busiest(placed, ["country"]))]
    seen = pl.concat(rows)
    for dimension in ("user", "client", "country"):
        names = seen.filter(pl.col("dimension") == dimension)["key"].unique()
        known = before.filter(pl.col("dimension") == dimension)["key"].unique()
        new = names.filter(~names.is_in(known.implode()))
        seen = pl.concat([seen, _all(f"new_{dimension}", len(new))])
    return seen


def _by_node(lines: pl.DataFrame) -> pl.DataFrame:
    counts = busiest(lines, ["tree", "node_path"])
    return counts.select(pl.concat_str("tree", pl.lit("/"), "node_path").alias("node"), "value")


def _measure(dimension: Dimension, measure: str, counts: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of counts whose first column is the key."""
    key, value = pl.col(counts.columns[0]), pl.col("value").cast(pl.Float64)
    named = counts.drop_nulls(counts.columns[0])
    return named.select(dimension=pl.lit(dimension), key=key, measure=pl.lit(measure), value=value)


def _all(measure: str, value: float) -> pl.DataFrame:
    return pl.DataFrame([("all", None, measure, float(value))], schema=_ROW, orient="row")


def _longest_gap_s(view: AccessView) -> float:
    """Return the longest time without a line between two lines, or the span where there are fewer than two."""
    dates = pl.concat([frame["link_time"] for frame in (view.client, view.operation)]).sort()
    longest = dates.diff().max()
    return longest.total_seconds() if isinstance(longest, timedelta) else view.span_s


def _was_not_read(view: AccessView) -> bool:
    if view.log_status is None:
        return False
    outcomes = view.log_status.filter(pl.col("kind") == "access")["outcome"].to_list()
    lines = len(view.client) + len(view.operation)
    return any(outcome in NO_LOG for outcome in outcomes) or not lines


def _bounded(rows: pl.DataFrame, window: Window) -> pl.DataFrame:
    """Leave out what was not seen for long, and the keys beyond MOST_KEYS of each dimension."""
    fresh = rows.filter(pl.col("last_seen") > window.start - timedelta(days=FORGET_DAYS))
    keys = fresh.group_by("dimension", "key").agg(pl.col("windows", "last_seen").max())
    order = pl.struct(-pl.col("windows").cast(pl.Int64), -pl.col("last_seen").to_physical(), "key")
    kept = keys.filter(order.rank("ordinal").over("dimension") <= MOST_KEYS)
    return fresh.join(kept, on=["dimension", "key"], how="semi", nulls_equal=True)


def _sorted(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.sort("server", "dimension", "measure", "key")
