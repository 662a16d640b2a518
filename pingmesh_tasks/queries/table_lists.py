"""Lists of the page that come straight from tables: findings, the fleet's state, use of the data servers, incidents."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from pingmesh_tasks.alerting.alert_state import Silence
from pingmesh_tasks.alerting.incident import Incident
from pingmesh_tasks.alerting.state_file import from_json
from pingmesh_tasks.alerting.trace_store import read_traces
from pingmesh_tasks.alerting.tracked_finding import TrackedFinding
from pingmesh_tasks.queries.page import Page
from pingmesh_tasks.queries.refusal import NoAnswer
from pingmesh_tasks.queries.window_index import DAY_S
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.objects import StoredObject
from pingmesh_tasks.store.schemas import SCHEMAS
from pingmesh_tasks.store.tables import newest_window
from pingmesh_tasks.windows import Window, window_containing

#: Objects that one list reads at most: two days of windows and data servers.
MOST_OBJECTS = 1_200
MOST_ROWS = 20_000
LIST_S = 2.0
BACK_DAYS = 7
FINDING = [
    *("rule", "scope", "subject", "severity", "value", "unit", "threshold", "normal", "confidence", "affected"),
    *("detail", "advice"),
]
#: What an incident's row in a file tells.
INCIDENT = [
    *("id", "state", "source", *FINDING, "opened_at", "since", "last_seen", "closed_at", "closed_by"),
    *("acknowledged_by", "silenced", "stale", "notices", "returns"),
]


def anomalies(
    page: Page, start: datetime | None, end: datetime | None, limit: int, keep: dict[str, str | None]
) -> dict[str, Any]:
    """Return the newest `limit` findings whose look ended in the windows start <= window < end, newest first.

    `keep` are columns and the value that is wanted of each (None: any). Reads whole days of windows from the newest
    on until there are enough.
    """
    end = end or datetime.now(UTC) + timedelta(seconds=page.settings.window_s)
    start = start or end - timedelta(days=1)
    wanted = [pl.col(column) == value for column, value in keep.items() if value is not None]
    entries = sorted(_entries_between(page, "anomaly", start, end), key=lambda entry: entry.key, reverse=True)
    found: list[pl.DataFrame] = [SCHEMAS["anomaly"].to_frame()]
    rows = 0
    read = entries[:MOST_OBJECTS]
    for at in range(0, len(read), 64):
        batch = [frame.filter(*wanted) for frame in page.pool_map(lambda entry: _part(page, entry), read[at : at + 64])]
        found += batch
        rows += sum(frame.height for frame in batch)
        if rows > limit:
            break
    told = pl.concat(found).sort("at", "severity", "subject", descending=[True, False, False])
    listed = [row | {"evidence": json.loads(row["evidence"] or "[]")} for row in _plain(told.head(limit))]
    return {"anomalies": listed, "more": told.height > limit or len(entries) > MOST_OBJECTS}


def fleet(page: Page, window_id: str | None) -> dict[str, Any]:
    """Return each host's outcome of each stage of a window (the newest that has any), and how often each occurred."""
    window, frame = _of_window(page, "host_status", window_id)
    counts: dict[str, dict[str, int]] = {}
    for stage, outcome, count in frame.group_by("stage", "outcome").len().sort("stage", "outcome").iter_rows():
        counts.setdefault(stage, {})[outcome] = count
    frame = frame.drop("window").sort("host", "stage")
    return {"window": window, "hosts": _plain(frame.head(MOST_ROWS)), "outcomes": counts}


def usage(page: Page, window_id: str | None) -> dict[str, Any]:
    """Return the figures of every data server of a window."""
    window, frame = _of_window(page, "usage", window_id)
    servers = frame["server"].unique().sort().to_list()
    return {"window": window, "servers": servers, "figures": _plain(frame.drop("window").head(MOST_ROWS))}


def sessions(page: Page, window_id: str | None, limit: int) -> dict[str, Any]:
    """Return the sessions of a window that are online at its end or ended in it, the longest first."""
    window, frame = _of_window(page, "session", window_id)
    frame = frame.with_columns(duration_s=(pl.col("duration_us") / 1e6).round(3)).drop("window", "duration_us")
    frame = frame.sort("duration_s", "server", "session", descending=[True, False, False], nulls_last=True)
    return {"window": window, "sessions": _plain(frame.head(limit)), "more": frame.height > limit}


def logs(page: Page, window_id: str | None) -> dict[str, Any]:
    """Return how the collection of each data server's logs went."""
    window, frame = _of_window(page, "log_status", window_id)
    return {"window": window, "logs": _plain(frame.drop("window").head(MOST_ROWS))}


def incidents(page: Page, state: str) -> dict[str, Any]:
    """Return what the alarm remembers: incidents that are `open`, `closed` or `all`; silences; health of channels.

    An incident has the traces that its messages showed.
    """
    data = page.store.find(layout.alert_state())
    if data is None:
        return {"incidents": [], "silences": [], "channels": [], "looked_at": {}}
    memory = from_json(data)
    chosen = [("open", one) for one in memory.open] if state != "closed" else []
    chosen += [("closed", one) for one in memory.closed] if state != "open" else []
    chosen.sort(key=lambda item: item[1].opened_at, reverse=True)
    traces = read_traces(page.store) if chosen else {}
    return {
        "incidents": [_incident(name, one) | {"traces": traces.get(one.id, [])} for name, one in chosen],
        "silences": [_silence(one) for one in memory.silences],
        "channels": [
            {"channel": name, "on": health.on, "failures": health.failures, "since": _told(health.since)}
            for name, health in sorted(memory.channels.items())
        ],
        "looked_at": {look: _told(at) for look, at in memory.last_evaluated.items()},
    }


def _incident(state: str, incident: Incident) -> dict[str, Any]:
    lead = _tracked(incident.lead)
    return {
        "id": incident.id,
        "state": state,
        **lead,
        "opened_at": _told(incident.opened_at),
        "since": _told(incident.since),
        "last_seen": _told(incident.last_seen),
        "closed_at": _told(incident.closed_at),
        "closed_by": incident.closed_by,
        "acknowledged_by": incident.acknowledged_by,
        "silenced": incident.silenced,
        "stale": incident.stale_notified,
        "notices": incident.notification_count,
        "returns": incident.returns,
        "merged_into": incident.merged_into,
        "evidence": [dict(row) for row in incident.lead.finding.evidence],
        "symptoms": [_tracked(one) for one in incident.others],
        "unlisted": incident.unlisted,
    }


def _tracked(tracked: TrackedFinding) -> dict[str, Any]:
    finding = tracked.finding
    return {"source": tracked.source} | {name: getattr(finding, name) for name in FINDING}


def _silence(silence: Silence) -> dict[str, Any]:
    return {
        "id": silence.id,
        "by": silence.by,
        "made_at": _told(silence.made_at),
        "until": _told(silence.until),
        "reason": silence.reason,
        "incident": silence.incident,
        "source": silence.source,
        "scope": silence.scope,
        "subject": silence.subject,
        "rule": silence.rule,
    }


def _of_window(page: Page, table: str, window_id: str | None) -> tuple[str | None, pl.DataFrame]:
    """Return a window's id and its rows of a table; without an id the newest that has any, else (None, no rows)."""
    length_s = page.settings.window_s
    if window_id is None:
        later = window_containing(datetime.now(UTC), length_s).shifted(2)
        newest: Window | None = page.cache.get(
            ("newest", table), lambda: newest_window(page.store, table, later, days=BACK_DAYS), lambda _: 0, LIST_S
        )
        if newest is None:
            return None, SCHEMAS[table].to_frame()
        window = newest
    else:
        window = page.parse(window_id)
    entries = page.store.entries(layout.table_prefix(table, window))
    if window_id is not None and not entries:
        raise NoAnswer("no_window", f"window {window.id} has no table {table}")
    frames = page.pool_map(lambda entry: _part(page, entry), entries)
    return window.id, pl.concat([SCHEMAS[table].to_frame(), *frames])


def _entries_between(page: Page, table: str, start: datetime, end: datetime) -> list[StoredObject]:
    found: list[StoredObject] = []
    day = window_containing(end - timedelta(microseconds=1), DAY_S)
    first, last = f"{start:%Y%m%dT%H%M%SZ}", f"{end:%Y%m%dT%H%M%SZ}"
    while day.end > start:
        prefix = layout.table_day_prefix(table, day.start)
        entries: Sequence[StoredObject] = page.cache.get(
            ("entries", prefix), _lister(page, prefix), lambda there: 300 * len(there), LIST_S
        )
        found += [entry for entry in entries if first <= layout.window_id_of(entry.key) < last]
        day = day.shifted(-1)
    return found


def _lister(page: Page, prefix: str) -> Callable[[], list[StoredObject]]:
    return lambda: page.store.entries(prefix)


def _part(page: Page, entry: StoredObject) -> pl.DataFrame:
    return page.cache.get(
        ("part", entry.key, entry.tag),
        lambda: pl.read_parquet(io.BytesIO(page.store.get(entry.key))),
        lambda frame: int(frame.estimated_size()) + 2_000,
    )


def _plain(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Return rows of plain values; moments as ISO 8601 in UTC, numbers that are none as null."""
    moments = [name for name, kind in frame.schema.items() if isinstance(kind, pl.Datetime)]
    floats = [name for name, kind in frame.schema.items() if kind.is_float()]
    return frame.with_columns(
        pl.col(moments).dt.strftime("%Y-%m-%dT%H:%M:%S%.fZ"),
        *(pl.when(pl.col(name).is_finite()).then(pl.col(name)).alias(name) for name in floats),
    ).to_dicts()


def _told(moment: datetime | None) -> str | None:
    return f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}" if moment else None
