"""Draw a window's artifacts and point `artifacts/latest/` at the newest.

Each kind has its own way from tables to bytes in `_DRAW`; what they share is here: which windows are read, under which
keys the result is written, and that a backfill of an old window never replaces a newer `latest`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta

import polars as pl

from pingmesh_tasks.pipeline.plan import read_inventory
from pingmesh_tasks.pipeline.run import Part, Run
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.objects import ObjectStore
from pingmesh_tasks.store.tables import has_table, read_parts, read_table
from pingmesh_tasks.topology.inventory import Inventory
from pingmesh_tasks.windows import Window, window_containing

HISTORY_WINDOWS = 4
Pictures = dict[str, bytes]


def draw(kind: str, run: Run, part: Part) -> list[str]:
    """Draw the artifact `kind` of the run's window and return the keys it was written to."""
    return keep(run.store, kind, run.window, _DRAW[kind](run, read_inventory(run, part)))


def keep(store: ObjectStore, kind: str, window: Window, pictures: Pictures) -> list[str]:
    """Write a window's pictures of a kind, by file ending, and `latest` where none is newer; return the keys."""
    written = []
    newest = is_newest(store, kind, window)
    for extension, data in pictures.items():
        keys = [layout.artifact(kind, window, extension)] + [layout.latest_artifact(kind, extension)] * newest
        for key in keys:
            store.put(key, data)
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


def _pairs(run: Run, columns: list[str], window: Window | None = None) -> Iterator[pl.DataFrame]:
    """Read these columns of a window's pairs, one shard at a time, so that a full mesh need not fit in memory."""
    return read_parts(run.store, "pair_latency", window or run.window, columns)


def _last_windows(run: Run, count: int, columns: list[str]) -> list[tuple[Window, Iterator[pl.DataFrame]]]:
    """The run's window and those before it that have a table, oldest first; each is read when it is drawn, once."""
    windows = [run.window.shifted(step) for step in range(1 - count, 1)]
    return [(w, _pairs(run, columns, w)) for w in windows if has_table(run.store, "pair_latency", w)]


def _heatmap(run: Run, inventory: Inventory) -> Pictures:
    from pingmesh_tasks.render.heatmap import render_heatmap
    from pingmesh_tasks.render.mesh_cells import columns_of

    return {"png": render_heatmap(_pairs(run, columns_of("rtt_p50_us")), inventory, run.window)}


def _history(run: Run, inventory: Inventory) -> Pictures:
    from pingmesh_tasks.render.heatmap import render_history
    from pingmesh_tasks.render.mesh_cells import columns_of

    return {"png": render_history(_last_windows(run, HISTORY_WINDOWS, columns_of("rtt_p50_us")), inventory)}


def _cdf(run: Run, inventory: Inventory) -> Pictures:
    from pingmesh_tasks.render.cdf import COLUMNS, render_cdf

    return {"png": render_cdf(read_table(run.store, "pair_latency", run.window, COLUMNS), inventory, run.window)}


def _bars(run: Run, inventory: Inventory) -> Pictures:
    from pingmesh_tasks.render.bars import COLUMNS, render_bars

    settings = run.settings
    windows = _last_windows(run, settings.timeline_windows, COLUMNS)
    lines = {"slow_us": settings.latency_slow_us, "bad_us": settings.latency_bad_us}
    return {"png": render_bars(windows, inventory, **lines)}


def _timeline(run: Run, inventory: Inventory) -> Pictures:
    from pingmesh_tasks.render.mesh_cells import columns_of
    from pingmesh_tasks.render.timeline import PAGE_METRICS, render_timeline, render_timeline_html

    count = run.settings.timeline_windows
    frames = render_timeline(_last_windows(run, count, columns_of("rtt_p50_us")), inventory)
    page = render_timeline_html(_last_windows(run, count, columns_of(*PAGE_METRICS)), inventory)
    return {"webp": frames, "html": page}


_DRAW: Mapping[str, Callable[[Run, Inventory], Pictures]] = {
    "heatmap": _heatmap,
    "history": _history,
    "cdf": _cdf,
    "bars": _bars,
    "timeline": _timeline,
}
#: What a whole run of `pingmesh` leaves under `artifacts/`, by kind.
EXTENSIONS = {"heatmap": ("png",), "history": ("png",), "cdf": ("png",), "bars": ("png",), "timeline": ("webp", "html")}
