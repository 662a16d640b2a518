"""The stages of the access logs, a data server at a time; each leaves its result in the object store.

    [collect_logs → build_access_tables → pair_sessions → summarize_usage] a server → draw_usage

A window's raw object is written once, so every later stage can be run again and replaces what it wrote. Sessions
continue from the window before, so windows are processed in their order.
"""

from __future__ import annotations

import logging
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from pingmesh_tasks.access.collect import CollectLimits, CollectOutcome, collect_log
from pingmesh_tasks.access.raw import read_raw, read_raw_header
from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.fleet.connect import HostOutcome, Session
from pingmesh_tasks.pipeline.fleet import HEALTHY
from pingmesh_tasks.pipeline.history import newest_table
from pingmesh_tasks.pipeline.run import Run, load_run_inventory
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.objects import ObjectStore
from pingmesh_tasks.store.schemas import LOG_STATUS
from pingmesh_tasks.store.tables import read_part, write_table
from pingmesh_tasks.topology.inventory import Inventory, LogServer
from pingmesh_tasks.windows import Window

log = logging.getLogger(__name__)
ACCESS, ERRORS = "access", "errors"
STAGE = "collect_logs"
#: Outcomes of a log that was read to its end: its new bytes are all of this window, and no bytes mean no use.
CAUGHT_UP = frozenset({"first", "quiet", "grown", "rotated", "truncated", "replaced", "adopted"})
_COUNTS = ("new_bytes", "backlog_bytes", "lost_bytes")


def server_names(run: Run) -> list[str]:
    """Return the data servers of the inventory."""
    return [server.name for server in load_run_inventory(run).log_servers]


def collect_logs(run: Run, name: str) -> dict[str, int]:
    """Bring what is new in the logs of a data server to `raw/`; return the new bytes, the backlog and what was lost.

    A server or log that cannot be read is a row of `log_status`. Raises ConfigError where the server left the
    inventory, and StoreError.
    """
    server = server_called(load_run_inventory(run), name)
    logs = _log_paths(server)
    reached, outcomes = _collect_from(run, server, logs)
    rows = []
    for kind, path in logs.items():
        outcome = outcomes.get(kind) or CollectOutcome(name, kind, run.window.id, reached.outcome, reached.detail)
        log.info("%s log %s: %s %s", kind, path, outcome.happened, outcome.detail)
        row = {"window": run.window.start, "server": name, "kind": kind}
        row |= {"outcome": outcome.happened, "detail": outcome.detail}
        rows.append(row | {count: getattr(outcome, count) for count in _COUNTS})
    status = pl.DataFrame(rows, schema=LOG_STATUS)
    write_table(run.store, "log_status", run.window, status, name)
    return {count: int(status[count].sum()) for count in _COUNTS}


def _log_paths(server: LogServer) -> dict[str, str]:
    """Return the logs of a data server by their kind."""
    return {ACCESS: server.path} | ({ERRORS: server.errors_path} if server.errors_path else {})


def _collect_from(run: Run, server: LogServer, logs: dict[str, str]) -> tuple[HostOutcome, dict[str, CollectOutcome]]:
    """Collect the logs of one server; return whether it was reached, and the outcome of each log."""
    limits = CollectLimits(run_bytes=run.settings.log_mib_per_window * 2**20)
    outcomes: dict[str, CollectOutcome] = {}

    async def collect(session: Session) -> HostOutcome:
        outcomes.clear()  # the work is repeated where the connection was lost
        for kind, path in logs.items():
            outcomes[kind] = await collect_log(session, server.name, kind, path, run.window, run.store, limits)
        return HostOutcome(server.name, STAGE, "ok")

    [reached] = run.fleet.ensure_keys([server.as_host()])
    if reached.outcome in HEALTHY:
        extra_s = len(logs) * 2 * limits.run_s
        [reached] = run.fleet.do([server.as_host()], collect, stage=STAGE, extra_s=extra_s)
    return reached, outcomes


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
        newest_table(store, "session", window, name),
        window,
        operation=read_part(store, "operation", window, name),
        errors=errors if all(caught_up.values()) and len(caught_up) == 2 else None,
        caught_up=caught_up.get(ACCESS, False),
    )
    write_table(store, "session", window, sessions.table, name)
    return {"sessions": sessions.table.height, "unpaired": sessions.unpaired, "unattributed": sessions.unattributed}


def summarize_usage(run: Run, name: str) -> dict[str, int]:
    """Write the figures of how the data server was used in the window."""
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


def server_called(inventory: Inventory, name: str) -> LogServer:
    """Return the data server called `name`. Raises ConfigError where it left the inventory."""
    for server in inventory.log_servers:
        if server.name == name:
            return server
    raise ConfigError(f"the inventory no longer has the log server {name!r}; start a new run")


def _unpack(store: ObjectStore, kind: str, name: str, window: Window, folder: Path) -> Path:
    """Return a file with the lines of the window's raw object; an empty one where there is none."""
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
