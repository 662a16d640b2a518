"""The rows of one window, until they are a chunk on disk."""

from __future__ import annotations

from array import array

from pingmesh_agent.chunk import COLUMN_TYPES, encode_chunk, window_id
from pingmesh_agent.outcomes import NO_ECHO, OK, TIMEOUT

TYPE_CHECKING = False  # importing typing would cost a megabyte on every host
if TYPE_CHECKING:
    from typing import Any


class Segment:
    """The probes of one window, filed by when they were sent: the rows of the chunk that is being filled."""

    def __init__(self, start_us: int, now_us: int) -> None:
        self.id, self.start_us = window_id(start_us), start_us
        self.path = "spool/" + self.id  # and its ending
        self.window_s = self.end_us = 0
        self.chunks = 0  # that the file has
        self.in_flight = 0
        self.table: list[list[Any]] | None = None  # the one that the file has last
        self.total_skipped: dict[str, int] = {}
        self.begin(now_us)

    def begin(self, now_us: int) -> None:
        """Start the next chunk."""
        self.chunk_start_us = now_us
        self.columns = tuple(array(code) for code in COLUMN_TYPES)
        self.scheduled = self.sent = 0
        self.skipped: dict[str, int] = {}

    def skip(self, reason: str, count: int) -> None:
        self.skipped[reason] = self.skipped.get(reason, 0) + count
        self.total_skipped[reason] = self.total_skipped.get(reason, 0) + count

    def file(self, sent_us: int, index: int, rtt_us: int, port: int, status: int, repeats: int) -> None:
        offset = max(-0x80000000, min(0x7FFFFFFF, sent_us - self.chunk_start_us))
        offsets, targets, rtts, ports, statuses, retransmits = self.columns
        offsets.append(offset)
        targets.append(index)
        rtts.append(rtt_us)
        ports.append(port)
        statuses.append(status)
        retransmits.append(repeats)
        self.in_flight -= 1

    def chunk(self, now_us: int, identity: dict[str, Any], table: list[list[Any]], more: dict[str, Any]) -> bytes:
        statuses = self.columns[4]
        header = {
            **identity, "window": self.id, "window_s": self.window_s, "chunk": self.chunks,
            "start_us": self.chunk_start_us, "span_us": max(0, now_us - self.chunk_start_us),
            "scheduled": self.scheduled, "sent": self.sent, "skipped": self.skipped,
            "answered": statuses.count(OK), "lost": statuses.count(TIMEOUT) + statuses.count(NO_ECHO),
        }  # fmt: skip
        errors = {str(code): statuses.count(code) for code in sorted(set(statuses)) if code != OK}
        if errors:
            header["errors"] = errors
        return encode_chunk({**header, **more}, table if self.table is not table else None, *self.columns)
