"""One pair: its exact figures at a window, from `pair_latency`, and its codes over time, from the maps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow.compute as pc

from pingmesh_tasks.matrix.build import METADATA, SOURCES_PER_GROUP
from pingmesh_tasks.matrix.codes import METRICS, decode, state_of
from pingmesh_tasks.matrix.states import State
from pingmesh_tasks.queries.group_names import number_of
from pingmesh_tasks.queries.group_series import distribution
from pingmesh_tasks.queries.page import Page
from pingmesh_tasks.queries.refusal import NoAnswer
from pingmesh_tasks.queries.window_index import MapWindow
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.pieces import ParquetObject
from pingmesh_tasks.store.schemas import PAIR_LATENCY

MOST_POINTS = 60
SERIES = ("p50", "p99", "loss", "sent")
POINT = ["p50_us", "p99_us", "loss", "sent", "state"]
NORMAL = ["normal_p50_us", "normal_windows"]
FIGURES = [name for name in PAIR_LATENCY if name not in ("window", "src", "dst", "ladder_bucket", "ladder_count")]
#: What is told of a protocol, as a file has it.
COLUMNS = [*FIGURES, *NORMAL]


def pair(page: Page, at: MapWindow, src: str, dst: str) -> dict[str, Any]:
    """Return the exact figures of a pair, a protocol at a time. Raises NoAnswer where it was not planned."""
    axis = page.axis(str(page.identity(at)["plan"]))
    number_of(axis, "host", dst)
    place = number_of(axis, "host", src) / len(axis.hosts)
    for key in _likely_parts(page, at, place):
        if rows := _rows(page.parquet(key), src, dst, list(PAIR_LATENCY)):
            usual = _usual(page, at, src, dst)
            told = [_told(row) | usual.get(row["protocol"], dict.fromkeys(NORMAL)) for row in rows]
            return {"window": at.window.id, "src": src, "dst": dst, "protocols": told}
    raise NoAnswer("no_pair", f"{src} was not to probe {dst} in window {at.window.id}")


def pair_series(
    page: Page, src: str, dst: str, start: datetime, end: datetime, points: int, level: str = "window"
) -> dict[str, Any]:
    """Return a pair's p50, p99, loss and probes over time, to the 0.25 % of the codes."""
    windows, step, count = page.spread(start, end, min(points, MOST_POINTS), level)

    def one(at: MapWindow) -> dict[str, Any] | None:
        return page.cache.get(("point", "pair", src, dst, at), lambda: _point(page, at, src, dst), lambda _: 500)

    found = [point for point in page.pool_map(one, windows) if point]
    return {"of": "pair", "src": src, "dst": dst, "step": step, "of_windows": count, "points": found}


def _point(page: Page, at: MapWindow, src: str, dst: str) -> dict[str, Any] | None:
    try:
        codes = {metric: _code(page, at, metric, src, dst) for metric in SERIES}
    except NoAnswer:
        return None
    if codes["p50"] in (None, State.NOT_PLANNED):
        return None
    values = {metric: float(decode(np.array([code]), METRICS[metric].kind)[0]) for metric, code in codes.items()}

    def whole(metric: str, digits: int) -> float | None:
        return round(values[metric], digits) if np.isfinite(values[metric]) else None

    return {
        "window": at.window.id,
        "p50_us": whole("p50", 1),
        "p99_us": whole("p99", 1),
        "loss": whole("loss", 4),
        "sent": whole("sent", 0),
        "state": state_of(codes["p50"] or State.NOT_PLANNED).label,
    }


def _code(page: Page, at: MapWindow, metric: str, src: str, dst: str) -> int | None:
    """Return one cell's code: two requests, of a footer and of a row group."""
    file = page.footer(at, metric)
    told = file.note_json(METADATA)
    axis = page.axis(str(told["plan"]))
    row, column = axis.position.get(src), axis.position.get(dst)
    if row is None or column is None:
        return None
    group, inside = divmod(row, SOURCES_PER_GROUP)
    return int(file.read([group], ["code"])["code"][inside * len(axis.hosts) + column].as_py())


def _likely_parts(page: Page, at: MapWindow, place: float) -> Iterator[str]:
    """Yield the keys of `pair_latency`, that of the shard in which the source stands (0…1 of the axis) first."""
    keys = page.store.keys(at.prefix("pair_latency"))
    at_first = min(int(place * len(keys)), max(len(keys) - 1, 0))
    yield from sorted(keys, key=lambda key: abs(keys.index(key) - at_first))


def _rows(file: ParquetObject, src: str, dst: str, columns: list[str]) -> list[dict[str, Any]]:
    """Return a pair's rows of a table that is sorted by source and destination."""
    held = set(file.groups_with("dst", dst))
    where = [group for group in file.groups_with("src", src) if group in held]
    if not where:
        return []
    rows = file.read(where, columns)
    found = rows.filter(pc.and_(pc.equal(rows["src"], src), pc.equal(rows["dst"], dst)))
    return list(found.to_pylist())


def _usual(page: Page, at: MapWindow, src: str, dst: str) -> dict[str, dict[str, Any]]:
    """Return a pair's normal by protocol: that of before the window, which its map was held against, if it is left."""
    window_id = page.footer(at, "sent").note_json(METADATA).get("normal")
    if not window_id:
        return {}
    file = ParquetObject.find(page.store, layout.table("normal", page.parse(window_id)))
    if file is None:
        return {}
    rows = _rows(file, src, dst, ["src", "dst", "protocol", "windows", "p50_ln"])
    return {
        row["protocol"]: {"normal_p50_us": round(math.exp(row["p50_ln"]), 1), "normal_windows": row["windows"]}
        for row in rows
        if row["p50_ln"] is not None
    }


def _told(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in FIGURES} | {"cdf": distribution(row)["cdf"]}
