"""Draw a window's artifacts and point `artifacts/latest/` at the newest.

Each kind has its own way from tables to bytes in `_DRAW`; what they share is here: which windows are read, under which
keys the result is written, and that a backfill of an old window never replaces a newer `latest`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import polars as pl

from pingmesh_tasks.fleet.inventory import Inventory
from pingmesh_tasks.orchestration.stages import Part, Run, read_inventory
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.objects import ObjectStore
from pingmesh_tasks.store.schemas import PAIR_LATENCY
from pingmesh_tasks.store.tables import has_table, read_table
from pingmesh_tasks.windows import Window, window_containing

HISTORY_WINDOWS = 4
Pictures = dict[str, bytes]


def draw(kind: str, run: Run, part: Part) -> list[str]:
    """Draw the artifact `kind` of the run's window and return the keys it was written to."""
    written = []
    for extension, data in _DRAW[kind](run, read_inventory(run, part)).items():
        keys = [layout.artifact(kind, run.window, extension)]
        if is_newest(run.store, kind, run.window):
            keys.append(layout.latest_artifact(kind, extension))
        for key in keys:
            run.store.put(key, data)
        written += keys
    return written


def is_newest(store: ObjectStore, kind: str, window: Window) -> bool:
    """Whether no later window of the kind is drawn. Looks at the days from the window's to today."""
    last = max(window_containing(datetime.now(UTC), window.length_s), window)
    day, drawn = window.start, ""
    while day.date() <= last.start.date():
        prefix = layout.artifact_day_prefix(kind, day)
        drawn = max((layout.window_id_of(key) for key in store.keys(prefix)), default=drawn)
        day += timedelta(days=1)
    return drawn <= window.id


def _pairs(run: Run) -> pl.DataFrame:
    return read_table(run.store, "pair_latency", run.window)


def _last_windows(run: Run, count: int, *, ladders: bool = False) -> list[tuple[Window, pl.DataFrame]]:
    """The run's window and those before it that have a table, oldest first; `ladders` only for who draws from them."""
    columns = [name for name in PAIR_LATENCY if ladders or not name.startswith("ladder_")]
    windows = [run.window.shifted(step) for step in range(1 - count, 1)]
    return [
        (window, read_table(run.store, "pair_latency", window, columns))
        for window in windows
        if has_table(run.store, "pair_latency", window)
    ]


def _heatmap(run: Run, inventory: Inventory) -> Pictures:
    from pingmesh_tasks.render.heatmap import render_heatmap

    return {"png": render_heatmap(_pairs(run), inventory, run.window)}


def _history(run: Run, inventory: Inventory) -> Pictures:
    from pingmesh_tasks.render.heatmap import render_history

    return {"png": render_history(_last_windows(run, HISTORY_WINDOWS), inventory)}


def _cdf(run: Run, inventory: Inventory) -> Pictures:
    from pingmesh_tasks.render.cdf import render_cdf

    return {"png": render_cdf(_pairs(run), inventory, run.window)}


def _bars(run: Run, inventory: Inventory) -> Pictures:
    from pingmesh_tasks.render.bars import render_bars

    settings = run.settings
    windows = _last_windows(run, settings.timeline_windows, ladders=True)
    lines = {"slow_us": settings.latency_slow_us, "bad_us": settings.latency_bad_us}
    return {"png": render_bars(windows, inventory, **lines)}


def _timeline(run: Run, inventory: Inventory) -> Pictures:
    from pingmesh_tasks.render.timeline import render_timeline, render_timeline_html

    windows = _last_windows(run, run.settings.timeline_windows)
    return {"webp": render_timeline(windows, inventory), "html": render_timeline_html(windows, inventory)}


_DRAW: Mapping[str, Callable[[Run, Inventory], Pictures]] = {
    "heatmap": _heatmap,
    "history": _history,
    "cdf": _cdf,
    "bars": _bars,
    "timeline": _timeline,
}
#: What a whole run of `pingmesh` leaves under `artifacts/`, by kind.
EXTENSIONS = {"heatmap": ("png",), "history": ("png",), "cdf": ("png",), "bars": ("png",), "timeline": ("webp", "html")}
