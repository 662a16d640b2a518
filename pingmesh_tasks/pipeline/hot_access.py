"""From hot pieces to what the rules on a data server read: its log lines of a span, as tables. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import polars as pl

from pingmesh_tasks.access.errors_log import parse_errors_log
from pingmesh_tasks.access.grammar import parse_access_log
from pingmesh_tasks.detect.finding import Evaluation
from pingmesh_tasks.pipeline.hot_batches import moment
from pingmesh_tasks.pipeline.hot_contacts import last_contacts, log_status
from pingmesh_tasks.store.hot_batch import HotPiece, Kind
from pingmesh_tasks.topology.inventory import LogServer
from pingmesh_tasks.windows import window_containing

#: How long (s) a session may be idle and still be the one that a pid in a hot line means.
IDLE_S = 3600.0
_WINDOW_S = 60  # the window of a span of hot data is a name only


@dataclass(frozen=True, slots=True)
class RecentAccess:
    """What one data server's logs brought in a span.

    Attributes:
        skipped_bytes: Bytes of its logs that were not read, because they grew too fast (`mark_gaps`).
        up: Whether tailing is in contact with the server; None if no tailing process says.
        silent_s: For how long (s) its access log brought nothing, or for how long there is no contact.
        status: A row of `LOG_STATUS` that says why there is no contact.
    """

    client: pl.DataFrame
    operation: pl.DataFrame
    rejected: pl.DataFrame
    errors: pl.DataFrame
    skipped_bytes: int = 0
    up: bool | None = None
    silent_s: float | None = None
    status: pl.DataFrame | None = None


def recent_access(pieces: Sequence[HotPiece], log_server: LogServer, since: datetime, until: datetime) -> RecentAccess:
    """Return the lines of one data server that were read in [since, until), as tables."""
    server = log_server.name
    span = [piece for piece in pieces if since <= moment(piece.read_at_us) < until and piece.source == server]
    access_lines, access_skipped = _joined(span, "access")
    tables = parse_access_log(
        access_lines, server=server, timezone=log_server.timezone, drop=log_server.drop, format=log_server.format
    )
    error_lines, errors_skipped = _joined(span, "errors")
    errors = parse_errors_log(
        error_lines,
        server=server,
        window=window_containing(until, _WINDOW_S),
        collected_from=since,
        collected_until=until,
    ).table
    recent = RecentAccess(tables.client, tables.operation, tables.rejected, errors, access_skipped + errors_skipped)
    contact = last_contacts(pieces, "log").get(server)
    if contact is None:
        return recent
    lines_us = [piece.read_at_us for piece in span if piece.kind == "access"]
    last_line_us = max(lines_us, default=contact.heard_us) if contact.connected else None
    return replace(
        recent,
        up=contact.connected,
        silent_s=(until - moment(last_line_us or contact.since_us)).total_seconds(),
        status=log_status(pieces, contact, until),
    )


def mark_gaps(evaluation: Evaluation, recent: RecentAccess) -> Evaluation:
    """Return an evaluation of a data server that says what it could not read: a log that grew too fast.

    Counts are then lower bounds, and what was not found may be there: such an evaluation resolves no incident.
    """
    if not recent.skipped_bytes:
        return evaluation
    gap = f"{recent.skipped_bytes:,} bytes of its logs grew too fast to be followed"
    findings = tuple(
        replace(finding, detail=f"{finding.detail} At least: {gap} and are not counted.")
        for finding in evaluation.findings
    )
    unjudged = {**evaluation.unjudged, ("server", evaluation.source): gap}
    return replace(evaluation, findings=findings, unjudged=unjudged)


def current_sessions(session: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Return the sessions that a line may belong to by its pid: open, and active in the last `IDLE_S` seconds.

    The line that says whose pid it is may be older than the tailing. Without the limit, a user whose session ended
    hours ago without a trace would be blamed for the new owner of the pid.
    """
    is_active = pl.col("last_time") >= now - timedelta(seconds=IDLE_S)
    return session.filter(pl.col("ended_by").is_null(), is_active)


def _joined(pieces: Iterable[HotPiece], kind: Kind) -> tuple[bytes, int]:
    """Return the lines of a log in their order, each once, and how many bytes between them were skipped."""
    of_log = sorted((piece for piece in pieces if piece.kind == kind), key=lambda p: (p.read_at_us, p.offset))
    ends: dict[str, int] = {}
    parts: list[bytes] = []
    for piece in of_log:
        end = ends.get(piece.stream, piece.offset)
        parts.append(piece.data[max(0, end - piece.offset) :])
        ends[piece.stream] = max(end, piece.offset + len(piece.data))
    return b"".join(parts), sum(piece.skipped_bytes for piece in of_log)
