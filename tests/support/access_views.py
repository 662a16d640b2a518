"""Views of a data server as the alarm gets them, cut from whole logs: real ones, and made-up ones with their truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl

from pingmesh_tasks.access.grammar import AccessTables, parse_access_log
from pingmesh_tasks.access.sessions import pair_sessions
from pingmesh_tasks.demo.data_server import Profile, Truth, generate
from pingmesh_tasks.demo.population import Population, draw_population
from pingmesh_tasks.detect.access.evaluate import AccessView
from pingmesh_tasks.windows import Window, window_containing

SERVER = "data1"
TIMEZONE = "Asia/Shanghai"
START_S = 1_795_298_400  # 2026-11-21 22:00 UTC
START = datetime.fromtimestamp(START_S, UTC)


@dataclass(frozen=True)
class MadeUp:
    """Both logs of a busy server, and what is true of them."""

    access: bytes
    errors: bytes
    truth: Truth
    people: Population


@cache
def made_up_logs(seconds: int, *, mode: str = "multi", rate: float = 100.0, seed: int = 1, **profile: Any) -> MadeUp:
    """The logs of so many seconds from START on of a server that was there before, as the demo plays it."""
    settings = Profile(lines_per_s=rate, mode=mode, swing=0.0, reconnect_s=5.0, start_s=START_S, **profile)
    log = generate(seed=seed, profile=settings)
    blocks = []
    for block in log.blocks():
        blocks.append(block)
        if block.until_s >= START_S + seconds:
            break
    access, errors = (b"".join(getattr(block, name) for block in blocks) for name in ("access", "errors"))
    return MadeUp(access, errors, log.truth, draw_population(settings.users, seed))


@cache
def made_up(seconds: int, **options: Any) -> AccessTables:
    return read(made_up_logs(seconds, **options).access)


def read(log: bytes | Path, timezone: str = TIMEZONE) -> AccessTables:
    return parse_access_log(log, server=SERVER, timezone=timezone)


def dates(tables: AccessTables) -> pl.Series:
    """The dates of the log, without those that clients made up."""
    return tables.operation["link_time"] if len(tables.operation) else tables.client["link_time"]


def part_of(tables: AccessTables, since: datetime, until: datetime) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """`client`, `operation` and `rejected` of the lines written in [since, until): whole stretches of the log."""
    found = tables.operation if len(tables.operation) else tables.client
    inside = found.filter(pl.col("link_time").is_between(since, until, "left"))["offset"]
    following = found.filter(pl.col("link_time") >= until)["offset"]
    is_beginning = found.filter(pl.col("link_time") < since).is_empty()
    first, end = 0 if is_beginning else inside.min() or 0, following.min() or (1 << 62)
    if inside.is_empty():
        end = first = 0
    here = pl.col("offset").is_between(first, end, "left")
    return tables.client.filter(here), tables.operation.filter(here), tables.rejected.filter(here)


def hot_view(tables: AccessTables, at: datetime, span_s: float = 60.0, **more: Any) -> AccessView:
    """What the follower has at a moment: the lines of the last `span_s` seconds in the log's order."""
    parts = part_of(tables, at - timedelta(seconds=span_s), at)
    return AccessView(SERVER, at, span_s, "hot", *parts, **more)


def hot_views(tables: AccessTables, every_s: float = 10.0) -> Iterator[AccessView]:
    at, end = dates(tables).min(), dates(tables).max()
    while at <= end:
        at += timedelta(seconds=every_s)
        yield hot_view(tables, at)


def window_views(tables: AccessTables, window_s: int = 300, **more: Any) -> Iterator[tuple[Window, AccessView]]:
    """The windows of a log, with their sessions carried from one to the next."""
    carried = None
    window = window_containing(dates(tables).min(), window_s)
    while window.start <= dates(tables).max():
        client, operation, rejected = part_of(tables, window.start, window.end)
        carried = pair_sessions(client, carried, window, operation=operation).table
        parts = (client, operation, rejected, carried)
        yield window, AccessView(SERVER, window.end, window_s, "window", *parts, **more)
        window = window.shifted(1)
