"""Draw who used the data servers: the report of a window, and of its day so far."""

from __future__ import annotations

import polars as pl

from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.pipeline.pictures import keep
from pingmesh_tasks.pipeline.run import Run
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.objects import ObjectStore
from pingmesh_tasks.store.schemas import UTC_US
from pingmesh_tasks.store.tables import read_table
from pingmesh_tasks.windows import Window, window_containing

#: Most windows that a day's report shows one by one; of more it shows the hours.
MAX_SPANS = 288
#: Steps in which a window's users online are counted, in its own report and in the day's.
STEPS_OF_WINDOW, STEPS_OF_DAY = 60, 4


def draw_usage(run: Run) -> list[str]:
    """Draw the report of the window, and of its day so far; return the keys of the pictures.

    Raises ConfigError where the window has no usage, and StoreError.
    """
    window, store = run.window, run.store
    usage = read_table(store, "usage", window)
    if usage.is_empty():
        raise ConfigError(f"window {window.id} has no usage to draw; run summarize_usage first")
    day = window_containing(window.start, 86_400)
    ids = sorted({layout.window_id_of(key) for key in store.keys(layout.table_day_prefix("usage", day.start))})
    windows = [Window.parse(window_id, window.length_s) for window_id in ids if window_id <= window.id]
    online = pl.concat([_online(store, part, STEPS_OF_DAY) for part in windows])
    return [
        *_draw(store, "usage", usage, _online(store, window, STEPS_OF_WINDOW), window),
        *_draw(store, "usage_day", _usage_of_day(store, windows), online, day),
    ]


def _draw(store: ObjectStore, kind: str, usage: pl.DataFrame, online: pl.DataFrame, window: Window) -> list[str]:
    from pingmesh_tasks.render.usage_report import render_usage, render_usage_html

    pictures = {"png": render_usage(usage, online, window), "html": render_usage_html(usage, online, window)}
    return keep(store, kind, window, pictures)


def _usage_of_day(store: ObjectStore, windows: list[Window]) -> pl.DataFrame:
    """Return the figures of a day's windows, merged into hours where the windows are too many to show."""
    from pingmesh_tasks.access.usage import merge_usage

    usage = pl.concat([read_table(store, "usage", window) for window in windows])
    if len(windows) <= MAX_SPANS:
        return usage
    hours = sorted({window_containing(window.start, 3600) for window in windows})
    of_hour = pl.col("window").is_between
    return pl.concat([merge_usage(usage.filter(of_hour(hour.start, hour.end, "left")), hour) for hour in hours])


def _online(store: ObjectStore, window: Window, steps: int) -> pl.DataFrame:
    """Return how many were online in each step of a window: server, at, sessions, users; server by server."""
    from pingmesh_tasks.access.usage import online_over_time

    sessions = read_table(store, "session", window)
    frames = [pl.DataFrame(schema={"server": pl.String(), "at": UTC_US, "sessions": pl.Int64(), "users": pl.Int64()})]
    for (server,), its_sessions in sorted(sessions.group_by("server")):
        at = online_over_time(its_sessions, window, steps)
        frames.append(at.select(pl.lit(str(server)).alias("server"), pl.all()))
    return pl.concat(frames)
