"""The stages of the access logs, a data server at a time; each leaves its result in the object store.

    [collect_logs → build_access_tables → pair_sessions → summarize_usage] a server → render_usage

A window's raw object is written once, so every later stage can be run again and replaces what it wrote. Sessions follow
from the window before, so windows are worked on in their order.
"""

from __future__ import annotations

import logging
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from pingmesh_tasks.access.collect import CollectLimits, CollectOutcome, collect_log
from pingmesh_tasks.access.raw import read_raw, read_raw_header
from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.fleet import keys
from pingmesh_tasks.fleet.connect import HostOutcome, Session, for_each_host
from pingmesh_tasks.pipeline.fleet import HEALTHY
from pingmesh_tasks.pipeline.run import Run, load_run_inventory
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.objects import ObjectStore
from pingmesh_tasks.store.schemas import LOG_STATUS, UTC_US
from pingmesh_tasks.store.tables import newest_window, read_part, read_table, write_table
from pingmesh_tasks.topology.inventory import Host, Inventory, LogServer
from pingmesh_tasks.windows import Window, window_containing

log = logging.getLogger(__name__)
ACCESS, ERRORS = "access", "errors"
#: How far back the rows of sessions that are still open are looked for.
CARRIED_DAYS = 2
#: Windows that a day's report shows one by one; of more it shows the hours.
MOST_SPANS = 288
#: A log that has been read to its end: what is there is of this window, and silence means something.
CAUGHT_UP = {"first", "quiet", "grown", "rotated", "truncated", "replaced", "adopted"}


def server_names(run: Run) -> list[str]:
    """Return the data servers of the inventory."""
    return [server.name for server in load_run_inventory(run).log_servers]


def collect_logs(run: Run, name: str) -> dict[str, int]:
    """Bring what is new in the logs of a data server to `raw/`; return the new bytes, the backlog and what was lost."""
    server = server_called(load_run_inventory(run), name)
    host = Host(server.name, server.address, ssh_port=server.ssh_port, ssh_user=server.ssh_user)
    logs = [(ACCESS, server.path)] + [(ERRORS, server.errors_path)] * bool(server.errors_path)
    outcomes: list[CollectOutcome] = []

    async def collect(session: Session) -> HostOutcome:
        outcomes.clear()  # the work is repeated where the connection was lost
        for kind, path in logs:
            outcomes.append(await collect_log(session, server.name, kind, str(path), run.window, run.store, limits))
        return HostOutcome(host.name, "collect_logs", "ok")

    limits = CollectLimits(run_bytes=run.settings.log_mib_per_window * 2**20)
    [reached] = keys.ensure_keys([host], run.ssh, run.bootstrap, run.limits)
    if reached.outcome in HEALTHY:
        patience = replace(run.limits, host_timeout_s=run.limits.host_timeout_s + len(logs) * 2 * limits.run_s)
        [reached] = for_each_host([host], collect, run.ssh, patience, stage="collect_logs")
    done = {outcome.kind: outcome for outcome in outcomes}
    rows = []
    for kind, path in logs:
        outcome = done.get(kind) or CollectOutcome(name, kind, run.window.id, reached.outcome, reached.detail)
        log.info("%s log %s: %s %s", kind, path, outcome.happened, outcome.detail)
        counts = {what: getattr(outcome, what) for what in ("new_bytes", "backlog_bytes", "lost_bytes")}
        identity = {"window": run.window.start, "server": name, "kind": kind}
        rows.append(identity | {"outcome": outcome.happened, "detail": outcome.detail} | counts)
    status = pl.DataFrame(rows, schema=LOG_STATUS)
    write_table(run.store, "log_status", run.window, status, name)
    return {what: int(status[what].sum()) for what in ("new_bytes", "backlog_bytes", "lost_bytes")}


def build_access_tables(run: Run, name: str) -> dict[str, int]:
    """Split the window's lines into `client`, `operation` and quarantine; return how many became what."""
    from pingmesh_tasks.access.grammar import AccessSinks, write_access_tables

    server, window, store = server_called(load_run_inventory(run), name), run.window, run.store
    with tempfile.TemporaryDirectory() as folder:
        sinks = AccessSinks(*(Path(folder, table) for table in ("client", "operation", "rejected")))
        lines = _unpack(store, ACCESS, name, window, Path(folder))
        counts = write_access_tables(
            lines, sinks, server=name, timezone=server.timezone, drop=server.drop, format=server.format
        )
        store.put(layout.table("client", window, name), sinks.client)
        store.put(layout.table("operation", window, name), sinks.operation)
        store.put(layout.quarantined_lines(ACCESS, window, name), sinks.rejected)
    log.info("%d lines = %s; rejected: %s", counts.lines, counts, dict(counts.reasons))
    return {what: getattr(counts, what) for what in ("lines", "client", "operation", "rejected", "dropped")}


def pair_sessions(run: Run, name: str) -> dict[str, int]:
    """Read the errors log, pair the window's connections into sessions and carry those that are open."""
    from pingmesh_tasks.access.errors_log import parse_errors_log
    from pingmesh_tasks.access.sessions import pair_sessions

    window, store = run.window, run.store
    status = read_part(store, "log_status", window, name)
    caught_up = {
        kind: outcome in CAUGHT_UP and backlog == 0
        for kind, outcome, backlog in status.select("kind", "outcome", "backlog_bytes").iter_rows()
    }
    with tempfile.TemporaryDirectory() as folder:
        lines = _unpack(store, ERRORS, name, window, Path(folder))
        until = _collected_at(store, name, window) or window.end
        since = _collected_at(store, name, window.shifted(-1))
        errors = parse_errors_log(lines, server=name, window=window, collected_from=since, collected_until=until).table
    write_table(store, "server_error", window, errors, name)
    sessions = pair_sessions(
        read_part(store, "client", window, name),
        _carried_sessions(store, window, name),
        window,
        operation=read_part(store, "operation", window, name),
        errors=errors if all(caught_up.values()) and len(caught_up) == 2 else None,
        caught_up=caught_up.get(ACCESS, False),
    )
    write_table(store, "session", window, sessions.table, name)
    return {"sessions": sessions.table.height, "unpaired": sessions.unpaired, "unattributed": sessions.unattributed}


def summarize_usage(run: Run, name: str) -> dict[str, int]:
    """Say in figures how the data server was used in the window."""
    from pingmesh_tasks.access.countries import Countries
    from pingmesh_tasks.access.grammar import REJECTED
    from pingmesh_tasks.access.usage import summarize_usage

    server, window, store = server_called(load_run_inventory(run), name), run.window, run.store
    rejected = store.find(layout.quarantined_lines(ACCESS, window, name))
    usage = summarize_usage(
        window,
        read_part(store, "client", window, name),
        read_part(store, "operation", window, name),
        read_part(store, "session", window, name),
        pl.read_ndjson(rejected, schema=dict(REJECTED)) if rejected else REJECTED.to_frame(),
        Countries(server.countries).of,
        server=name,
        errors=read_part(store, "server_error", window, name) if server.errors_path else None,
    )
    write_table(store, "usage", window, usage, name)
    return {"figures": usage.height}


def draw_usage(run: Run) -> list[str]:
    """Draw the report of the window, and of its day so far; return the keys."""
    window, store = run.window, run.store
    usage = read_table(store, "usage", window)
    if usage.is_empty():
        raise ConfigError(f"window {window.id} has no usage to draw; run summarize_usage first")
    day = window_containing(window.start, 86_400)
    ids = sorted({layout.window_id_of(key) for key in store.keys(layout.table_day_prefix("usage", day.start))})
    windows = [Window.parse(window_id, window.length_s) for window_id in ids if window_id <= window.id]
    online = pl.concat([_online(store, part, steps=4) for part in windows])
    return [
        *_draw(store, "usage", usage, _online(store, window), window),
        *_draw(store, "usage_day", _usage_of_day(store, windows), online, day),
    ]


def _draw(store: ObjectStore, kind: str, usage: pl.DataFrame, online: pl.DataFrame, window: Window) -> list[str]:
    from pingmesh_tasks.pipeline.pictures import keep
    from pingmesh_tasks.render.usage_report import render_usage, render_usage_html

    pictures = {"png": render_usage(usage, online, window), "html": render_usage_html(usage, online, window)}
    return keep(store, kind, window, pictures)


def _usage_of_day(store: ObjectStore, windows: list[Window]) -> pl.DataFrame:
    """Return the figures of a day's windows, merged into hours where the windows are too many to show."""
    from pingmesh_tasks.access.usage import merge_usage

    usage = pl.concat([read_table(store, "usage", window) for window in windows])
    if len(windows) <= MOST_SPANS:
        return usage
    hours = sorted({window_containing(window.start, 3600) for window in windows})
    of_hour = pl.col("window").is_between
    return pl.concat([merge_usage(usage.filter(of_hour(hour.start, hour.end, "left")), hour) for hour in hours])


def _online(store: ObjectStore, window: Window, steps: int = 60) -> pl.DataFrame:
    """Return who was online in each step of a window, a data server at a time: server, at, sessions, users."""
    from pingmesh_tasks.access.usage import online_over_time

    sessions = read_table(store, "session", window)
    frames = [pl.DataFrame(schema={"server": pl.String(), "at": UTC_US, "sessions": pl.Int64(), "users": pl.Int64()})]
    for (server,), of_one in sorted(sessions.group_by("server")):
        at = online_over_time(of_one, window, steps)
        frames.append(at.select(pl.lit(str(server)).alias("server"), pl.all()))
    return pl.concat(frames)


def server_called(inventory: Inventory, name: str) -> LogServer:
    """Return a data server of the inventory. Raises ConfigError where it has left it."""
    for server in inventory.log_servers:
        if server.name == name:
            return server
    raise ConfigError(f"the inventory has no log server {name!r} any more; start a new run")


def _unpack(store: ObjectStore, kind: str, name: str, window: Window, folder: Path) -> Path:
    """Return a file with the lines that the window brought; empty where it has no raw object."""
    packed, lines = folder / f"{kind}.zst", folder / f"{kind}.log"
    key = layout.raw_log(kind, name, window)
    with lines.open("wb") as file:
        if key in store.keys(key):
            store.download(key, packed)
            for piece in read_raw(packed):
                file.write(piece)
    return lines


def _collected_at(store: ObjectStore, name: str, window: Window) -> datetime | None:
    raw = store.find(layout.raw_log(ERRORS, name, window))
    return datetime.fromtimestamp(read_raw_header(raw)["collected_at_us"] / 1e6, UTC) if raw else None


def _carried_sessions(store: ObjectStore, window: Window, name: str) -> pl.DataFrame | None:
    """Return the rows of the newest window before this one that has any."""
    newest = newest_window(store, "session", window, name, CARRIED_DAYS)
    return read_part(store, "session", newest, name) if newest else None
