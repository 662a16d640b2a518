"""From hot batches to what the rules look at: the pairs of the last minute, and the lines of a data server's logs.

    hot/ ──read_recent──▶ pieces ──recent_pairs──▶ pairs, hosts not heard of ──▶ MeshView
                                 └─recent_access─▶ client, operation, …      ──▶ AccessView

All but the functions that take a store are pure. A piece that is there twice counts once. What cannot be read (a
garbled batch, a chunk that is none) is passed over: the windowed lane reads the same bytes from the raw objects.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pingmesh_tasks.access.errors_log import parse_errors_log
from pingmesh_tasks.access.grammar import parse_access_log
from pingmesh_tasks.detect.finding import Evaluation
from pingmesh_tasks.detect.mesh.recent import last_changes
from pingmesh_tasks.detect.rules import RuleBook
from pingmesh_tasks.errors import SegmentError, StoreError
from pingmesh_tasks.fleet.notable import NotableLimits
from pingmesh_tasks.fleet.tailing import SILENT_CHUNKS, Contact, Roster
from pingmesh_tasks.latency.probe_table import probe_rows
from pingmesh_tasks.latency.segment import SegmentColumns, Targets, read_columns
from pingmesh_tasks.latency.summary import summarize_rows
from pingmesh_tasks.pipeline.rulebook import read_rules
from pingmesh_tasks.settings import Settings
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.hot_batch import HotCursor, HotPiece, Kind, decode_batch
from pingmesh_tasks.store.objects import ObjectStore
from pingmesh_tasks.store.schemas import HOST_STATUS, LOG_STATUS
from pingmesh_tasks.topology.inventory import Inventory, LogServer
from pingmesh_tasks.windows import Window, window_containing

log = logging.getLogger(__name__)

#: So long may a session be silent and still be the one that a pid means, in a hot look.
IDLE_S = 3600.0
STAGE, NO_DATA_YET = "follow", "no_data_yet"
_READERS = 8
#: What nobody looked at, because a task hung or its scheduler was gone, is looked at later, so far back and so often.
MAX_BACK_S, BACK_STEP_S = 300.0, 15.0
_CHUNK_S = 10.0
_PER_PROBE = ("ts_us", "target", "rtt_us", "src_port", "status", "retransmits")
_WINDOW_S = 60  # whatever the windows are: the window of a span of hot data is a name only


@dataclass(frozen=True, slots=True)
class Unheard:
    """A host that gave no probe in the span. `age_s` is for how long it has been as `reason` says, if that is known.

    lost_contact (no SSH; `detail` says why), silent (SSH, and no chunk), starting (followed since a moment ago),
    not_followed (beyond the number of hosts that are), unknown (no follower is at work).
    """

    host: str
    reason: str
    detail: str = ""
    age_s: float | None = None


@dataclass(frozen=True, slots=True)
class RecentAccess:
    """What one data server's logs said in the span. `up`: whether we are in contact with it, None if nobody tells.

    `silent_s` is for how long its access log has said nothing while we were, or for how long we are not; then `status`
    has a row of `LOG_STATUS` that says why. `skipped_bytes` is what was passed over of its logs (`with_gaps`).
    """

    client: pl.DataFrame
    operation: pl.DataFrame
    rejected: pl.DataFrame
    errors: pl.DataFrame
    skipped_bytes: int = 0
    up: bool | None = None
    silent_s: float | None = None
    status: pl.DataFrame | None = None


def moments_to_look_at(last: datetime | None, now: datetime, horizon: timedelta) -> list[datetime]:
    """Return when looks are due: now, and before that each `BACK_STEP_S` of what the `last` look and this leave out."""
    if last is None or now - last <= horizon:
        return [now]
    steps = int(min((now - last).total_seconds(), MAX_BACK_S) // BACK_STEP_S)
    return [now - timedelta(seconds=BACK_STEP_S) * step for step in range(steps, -1, -1)]


def read_recent(store: ObjectStore, since: datetime, until: datetime) -> tuple[list[HotPiece], str | None]:
    """Return the pieces of the batches written in [since, until), each once, and the newest of their keys."""
    first, end = (layout.hot_since(round(moment.timestamp() * 1000)) for moment in (since, until))
    keys = [key for key in store.keys_after(layout.HOT, first) if key < end and layout.hot_facts(key)]
    with ThreadPoolExecutor(_READERS, thread_name_prefix="hot") as pool:
        batches = list(pool.map(lambda key: _read(store, key), keys))
    return unique(piece for batch in batches for piece in batch), max(keys, default=None)


def _read(store: ObjectStore, key: str) -> list[HotPiece]:
    data = store.find(key)
    if data is None:  # expired a moment ago
        return []
    try:
        return decode_batch(data, key)
    except StoreError as error:
        log.warning("%s", error)
        return []


def unique(pieces: Iterable[HotPiece]) -> list[HotPiece]:
    """Return each piece of bytes once, in the order in which they were read. News of a contact are all kept."""
    kept: dict[object, HotPiece] = {}
    for piece in sorted(pieces, key=lambda piece: piece.read_at_us):
        is_news = piece.kind in ("lost_contact", "roster")
        kept.setdefault((piece.identity, piece.read_at_us) if is_news else piece.identity, piece)
    return list(kept.values())


def recent_pairs(
    pieces: Sequence[HotPiece],
    inventory: Inventory,
    since: datetime,
    until: datetime,
    planned: pl.DataFrame | None = None,
) -> tuple[pl.DataFrame, list[Unheard]]:
    """Return rows of `PAIR_LATENCY` for the probes sent in [since, until) by our clock, and the hosts that gave none.

    `planned` as for `summarize_pairs`. The column `window` has no meaning here.
    """
    window = window_containing(until, _WINDOW_S)
    from_us, to_us = (round(moment.timestamp() * 1e6) for moment in (since, until))
    probes = []
    for piece in unique(piece for piece in pieces if piece.kind == "probe"):
        try:
            columns = read_columns(piece.data)
        except SegmentError as error:
            log.warning("a hot piece of %s is passed over: %s", piece.source, error)
            continue
        probes.append(replace(columns, ts_us=columns.ts_us - (piece.clock_offset_us or 0)))
    starts = _starts(probes, from_us, to_us)
    by_list: dict[tuple[str, Targets], list[SegmentColumns]] = {}
    for columns in probes:
        start_us = np.array([starts.get(name, from_us) for name in columns.targets.names], np.int64)
        inside = (columns.ts_us >= start_us[columns.target]) & (columns.ts_us < to_us)
        if inside.any():
            by_list.setdefault((columns.host, columns.targets), []).append(_part(columns, inside, window))
    rows = [probe_rows(_whole(parts)) for parts in by_list.values()]
    heard = {host for host, _ in by_list}
    unheard = _unheard(pieces, [host.name for host in inventory.hosts if host.name not in heard], until)
    return summarize_rows(rows, window, planned), unheard


def _starts(probes: Sequence[SegmentColumns], from_us: int, to_us: int) -> dict[str, int]:
    """Return, for the hosts that died or came back in the span, since when their probes tell of now
    (`detect.mesh.recent`).

    Only probes to hosts that failed somebody are looked at: in good health that is next to none.
    """
    failing = {
        columns.targets.names[target]
        for columns in probes
        for target in np.unique(columns.target[columns.status != 0]).tolist()
    }
    parts = []
    for columns in probes:
        names = columns.targets.names
        of_failing = np.array([name in failing for name in names], bool)
        keep = of_failing[columns.target] & (columns.ts_us >= from_us) & (columns.ts_us < to_us)
        if keep.any():
            dst = pl.Series(names, dtype=pl.String).gather(columns.target[keep])
            part = {"ts": columns.ts_us[keep], "dst": dst, "answered": columns.status[keep] == 0}
            parts.append(pl.DataFrame(part).with_columns(src=pl.lit(columns.host)))
    return dict(last_changes(pl.concat(parts)).iter_rows()) if parts else {}


def _part(columns: SegmentColumns, inside: NDArray[np.bool_], window: Window) -> SegmentColumns:
    """Return the probes that are `inside`, all at the start of `window`: only that they are in the span matters."""
    kept: dict[str, Any] = {name: getattr(columns, name)[inside] for name in _PER_PROBE}
    kept["ts_us"] = np.full(len(kept["ts_us"]), int(window.start.timestamp()) * 1_000_000)
    return replace(columns, **kept)


def _whole(parts: Sequence[SegmentColumns]) -> SegmentColumns:
    """Return the probes of several chunks of one host and target table as one."""
    joined: dict[str, Any] = {name: np.concatenate([getattr(p, name) for p in parts]) for name in _PER_PROBE}
    return replace(parts[0], **joined)


def status_rows(unheard: Iterable[Unheard], at: datetime, known: Collection[str]) -> pl.DataFrame:
    """Return rows of `HOST_STATUS` for hosts that gave no probe, as the rules on hosts take them.

    A host is missed only if it is followed and has given data before (`known`): one that was never set up, or that
    nobody follows, is for the windowed lane to judge.
    """
    rows = [
        {
            **dict.fromkeys(HOST_STATUS),
            "window": at,
            "host": host.host,
            "stage": STAGE,
            "outcome": _outcome(host) if host.host in known else NO_DATA_YET,
            "detail": host.detail,
        }
        for host in unheard
    ]
    return pl.DataFrame(rows, schema=HOST_STATUS, orient="row")


def _outcome(host: Unheard) -> str:
    if host.reason == "lost_contact":
        return host.detail.partition(":")[0] or "unreachable"
    return "no_segment" if host.reason == "silent" else NO_DATA_YET


def recent_access(pieces: Sequence[HotPiece], log_server: LogServer, since: datetime, until: datetime) -> RecentAccess:
    """Return what the lines of one data server that were read in [since, until) are."""
    server = log_server.name
    span = [piece for piece in pieces if since <= _moment(piece.read_at_us) < until and piece.source == server]
    access, skipped = _joined(span, "access")
    tables = parse_access_log(
        access, server=server, timezone=log_server.timezone, drop=log_server.drop, format=log_server.format
    )
    errors_log, errors_skipped = _joined(span, "errors")
    errors = parse_errors_log(
        errors_log,
        server=server,
        window=window_containing(until, _WINDOW_S),
        collected_from=since,
        collected_until=until,
    ).table
    contact = _contacts(pieces, "log").get(server)
    silent_s = None
    if contact:
        lines_us = [piece.read_at_us for piece in span if piece.kind == "access"]
        heard_us = max(lines_us, default=contact.heard_us) if contact.connected else None
        silent_s = (until - _moment(heard_us or contact.since_us)).total_seconds()
    return RecentAccess(
        tables.client,
        tables.operation,
        tables.rejected,
        errors,
        skipped + errors_skipped,
        contact.connected if contact else None,
        silent_s,
        _log_status(pieces, contact, until) if contact else None,
    )


def _log_status(pieces: Sequence[HotPiece], contact: Contact, until: datetime) -> pl.DataFrame | None:
    """Return why there is no contact with a data server. None: there is, there was none yet, or there is with nobody.

    Whoever follows and reaches nobody has a fault of his own, and tells nothing of any server.
    """
    if contact.connected or not contact.why:
        return None
    everybody = [other for kind in ("host", "log") for other in _contacts(pieces, kind).values()]
    if len(everybody) > 1 and not any(other.connected for other in everybody):
        return None
    outcome, _, detail = contact.why.partition(": ")
    known = {"window": until, "server": contact.name, "kind": "access", "outcome": outcome, "detail": detail}
    return pl.DataFrame([dict.fromkeys(LOG_STATUS) | known], schema=LOG_STATUS, orient="row")


def with_gaps(evaluation: Evaluation, recent: RecentAccess) -> Evaluation:
    """Return a look at a data server that says what it did not see: a log that grew faster than it is followed.

    What was counted is then the least that there was, and what was not found may be there: nothing ends by such a look.
    """
    if not recent.skipped_bytes:
        return evaluation
    told = f"{recent.skipped_bytes:,} bytes of its logs grew too fast to be followed"
    findings = tuple(
        replace(finding, detail=f"{finding.detail} At least: {told} and are not counted.")
        for finding in evaluation.findings
    )
    unjudged = {**evaluation.unjudged, ("server", evaluation.source): told}
    return replace(evaluation, findings=findings, unjudged=unjudged)


def present(session: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Return the sessions that lines may be tied to by their pid: open, and heard of in the last `IDLE_S`.

    The line that says who has a pid now may be missing here: the follower began after it. Then whoever had the pid
    hours ago, and left no trace of going, would be accused.
    """
    lately = pl.col("last_time") >= now - timedelta(seconds=IDLE_S)
    return session.filter(pl.col("ended_by").is_null(), lately)


def save_cursor(store: ObjectStore, key: str, heartbeat_s: float | None = None) -> None:
    """Note that all batches up to `key` were looked at: the arrival trigger begins after it when it is started anew.

    `heartbeat_s` asks it to be told of quiet batches that often from now on, as while a fault is open.
    """
    store.put(layout.hot_cursor(), HotCursor(key, heartbeat_s).encode())


def notable_limits(settings: Settings, store: ObjectStore) -> NotableLimits:
    """Return what is worth waking up for: half of the limits of the rules in force. Raises ConfigError."""
    return half_of(read_rules(settings, store))


def half_of(rules: RuleBook) -> NotableLimits:
    """Return half of the lowest limits of `rules`, as far as they are of kinds that bytes and counts can tell.

    Of a burst it is three quarters: a run begins a second or two after what it is started by, and one that looks too
    early is in the way of the next.
    """

    def half(rule: str, limit: str) -> int:
        return max(1, round(rules.lowest(rule, limit) / 2))

    def most(rule: str, limit: str) -> int:
        return max(1, round(rules.lowest(rule, limit) * 0.75))

    return NotableLimits(
        same_read_of_pid=half("heavy_reads", "process_per_min"),
        same_read_of_pid_burst=most("heavy_reads", "process_burst"),
        same_read=half("heavy_reads", "server_per_min"),
        same_read_burst=most("heavy_reads", "server_burst"),
        lines_of_pid=half("user_rate", "operations_per_min"),
        connects_of_client=half("connect_rate", "user_per_min"),
        connects=half("connect_rate", "server_per_min"),
        rejected=half("rejected_lines", "per_min"),
        denied=half("refused_clients", "user_per_min"),
        silent_after_s=half("log_silent", "least_s"),
    )


def _contacts(pieces: Iterable[HotPiece], kind: str) -> dict[str, Contact]:
    """Return the last that is known of the contact with each host, or data server (`log`)."""
    found: dict[str, Contact] = {}
    for piece in sorted(pieces, key=lambda piece: piece.read_at_us):
        if piece.kind == "roster":
            try:
                contacts = Roster.decode(piece.data).contacts
            except (KeyError, TypeError, ValueError):
                continue
            found = {contact.name: contact for contact in contacts if contact.kind == kind}
        elif piece.kind == "lost_contact" and piece.stream == kind and piece.source in found:
            was = found[piece.source]
            since_us = piece.read_at_us if was.connected else was.since_us
            found[piece.source] = Contact(piece.source, kind, since_us, False, was.heard_us, piece.detail)
    return found


def _unheard(pieces: Sequence[HotPiece], hosts: Sequence[str], until: datetime) -> list[Unheard]:
    contacts = _contacts(pieces, "host")
    found = []
    for host in hosts:
        contact = contacts.get(host)
        if contact is None:
            found.append(Unheard(host, "not_followed" if contacts else "unknown"))
            continue
        age_s = (until - _moment(contact.since_us)).total_seconds()
        if not contact.connected:
            found.append(Unheard(host, "lost_contact" if contact.why else "starting", contact.why, age_s))
        elif contact.heard_us is None and age_s < SILENT_CHUNKS * _CHUNK_S:
            found.append(Unheard(host, "starting", "", age_s))
        else:
            heard = _moment(contact.heard_us or contact.since_us)
            found.append(Unheard(host, "silent", contact.why, (until - heard).total_seconds()))
    return found


def _joined(pieces: Iterable[HotPiece], kind: Kind) -> tuple[bytes, int]:
    """Return the lines of a log in their order, each once, and how many bytes between them were passed over."""
    ours = sorted((p for p in pieces if p.kind == kind), key=lambda p: (p.read_at_us, p.offset))
    ends: dict[str, int] = {}
    parts: list[bytes] = []
    for piece in ours:
        known = ends.get(piece.stream, piece.offset)
        parts.append(piece.data[max(0, known - piece.offset) :])
        ends[piece.stream] = max(known, piece.offset + len(piece.data))
    return b"".join(parts), sum(piece.skipped_bytes for piece in ours)


def _moment(us: int) -> datetime:
    return datetime.fromtimestamp(us / 1e6, UTC)
