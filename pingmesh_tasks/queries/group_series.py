"""Figures of groups at a window, over time, and their distribution: from the parts of `group_latency`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import polars as pl

from pingmesh_tasks.latency.ladder import Ladders
from pingmesh_tasks.matrix.build import METADATA
from pingmesh_tasks.matrix.groups import KINDS, ROW_GROUP
from pingmesh_tasks.queries.group_names import number_of
from pingmesh_tasks.queries.page import Page
from pingmesh_tasks.queries.refusal import NoAnswer
from pingmesh_tasks.queries.window_index import MapWindow
from pingmesh_tasks.topology.axis import HostAxis

TABLE = "group_latency"
COUNTS = ["pairs", "failed", "missing", "sent", "answered", "lost"]
ROUND_TRIPS = {"p50_us": "rtt_p50_us", "p90_us": "rtt_p90_us", "p99_us": "rtt_p99_us", "max_us": "rtt_max_us"}
FIGURES = [*COUNTS, *ROUND_TRIPS.values()]
#: What a point of a series tells.
POINT = [*COUNTS, *ROUND_TRIPS, "loss", "unanswered"]
QUANTILES = {"p50_us": 0.5, "p90_us": 0.9, "p95_us": 0.95, "p99_us": 0.99, "p999_us": 0.999}
MOST_POINTS = 288


def groups(page: Page, at: MapWindow, of: str) -> dict[str, Any]:
    """Return the figures of every group of a kind that has planned pairs."""
    _check_kind(of)
    key = at.key(TABLE, of)
    frame = page.cache.get(
        (key, at.version),
        lambda: pl.read_parquet(page.read(key), columns=["src", "dst", *FIGURES]),
        lambda found: int(found.estimated_size()),
    )
    planned, sent = frame.filter(pl.col("pairs") > 0), pl.col("sent")
    told = planned.with_columns(
        loss=pl.when(sent > 0).then((pl.col("lost") / sent).round(6)),
        unanswered=pl.when(sent > 0).then((1 - pl.col("answered") / sent).round(6)),
    ).rename({column: name for name, column in ROUND_TRIPS.items()})
    rows = told.select("src", "dst", *POINT).to_dicts()
    return {"window": at.window.id, "of": of, "groups": rows}


def series(
    page: Page,
    of: str,
    src: str | None,
    dst: str | None,
    start: datetime,
    end: datetime,
    points: int,
    level: str = "window",
) -> dict[str, Any]:
    """Return a group's figures over time: of every window, or of every n-th where they are more than `points`."""
    _check_kind(of)
    _check_names(of, src, dst)
    windows, step, count = page.spread(start, end, points, level)

    def one(at: MapWindow) -> dict[str, Any] | None:
        return page.cache.get(("point", of, src, dst, at), lambda: _point(page, at, of, src, dst), lambda _: 500)

    found = [point for point in page.pool_map(one, windows) if point]
    return {"of": of, "src": src, "dst": dst, "step": step, "of_windows": count, "points": found}


def cdf(page: Page, at: MapWindow, of: str, src: str | None, dst: str | None) -> dict[str, Any]:
    """Return the distribution of a group's clean answers."""
    _check_kind(of)
    _check_names(of, src, dst)
    columns = ["rtt_min_us", "rtt_max_us", "ladder_bucket", "ladder_count"]
    row = _row(page, at, of, src, dst, columns)
    if row is None:
        raise NoAnswer("no_place", f"window {at.window.id} has no {of} {src or dst!r}")
    return {"window": at.window.id, "of": of, "src": src, "dst": dst, **distribution(row)}


def distribution(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return count, extremes, quantiles and the CDF [µs, share at or below] that a row's ladder holds."""
    least, greatest = row["rtt_min_us"], row["rtt_max_us"]
    if least is None or greatest is None or not row["ladder_count"]:
        return {"count": 0, "min_us": None, "max_us": None, "quantiles": dict.fromkeys(QUANTILES), "cdf": []}
    ladder = Ladders.of_one(row["ladder_bucket"], row["ladder_count"], least, greatest)
    return {
        "count": int(ladder.totals[0]),
        "min_us": least,
        "max_us": greatest,
        "quantiles": {name: int(us[0]) for name, us in ladder.quantiles_us(QUANTILES).items()},
        "cdf": [[int(us), round(float(share), 6)] for us, share in zip(*ladder.cdf(), strict=True)],
    }


def _point(page: Page, at: MapWindow, of: str, src: str | None, dst: str | None) -> dict[str, Any] | None:
    row = _row(page, at, of, src, dst, FIGURES)
    return None if row is None or not row["pairs"] else {"window": at.window.id, **_figures(row)}


def _row(
    page: Page, at: MapWindow, of: str, src: str | None, dst: str | None, columns: list[str]
) -> dict[str, Any] | None:
    """Return one group's row of a window: two requests, of a footer and of one small row group."""
    try:
        file = page.parquet(at.key(TABLE, of))
        number = _number(page.axis(str(file.note_json(METADATA)["plan"])), of, src, dst)
    except NoAnswer:
        return None
    group, inside = divmod(number, ROW_GROUP)
    found: dict[str, Any] = file.read([group], columns).slice(inside, 1).to_pylist()[0]
    return found


def _number(axis: HostAxis, of: str, src: str | None, dst: str | None) -> int:
    if of == "mesh":
        return 0
    if of == "host":
        return number_of(axis, of, src) if src else len(axis.hosts) + number_of(axis, of, str(dst))
    return number_of(axis, of, str(src)) * len(axis.spans[of]) + number_of(axis, of, str(dst))


def _figures(row: dict[str, Any]) -> dict[str, Any]:
    sent = row["sent"]
    return {
        **{name: row[name] for name in COUNTS},
        **{name: row[column] for name, column in ROUND_TRIPS.items()},
        "loss": round(row["lost"] / sent, 6) if sent else None,
        "unanswered": round(1 - row["answered"] / sent, 6) if sent else None,
    }


def _check_kind(of: str) -> None:
    if of not in KINDS:
        raise NoAnswer("no_kind", f"there are no groups {of!r}; take one of {', '.join(KINDS)}")


def _check_names(of: str, src: str | None, dst: str | None) -> None:
    given = (src is not None) + (dst is not None)
    wanted = {"mesh": 0, "host": 1}.get(of, 2)
    if given != wanted:
        how = {0: "neither src nor dst", 1: "either src or dst", 2: "src and dst"}[wanted]
        raise NoAnswer("bad_parameter", f"of={of} goes with {how}")
