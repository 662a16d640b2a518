"""The rows of one window that are not on disk yet."""

from __future__ import annotations

from array import array

from pingmesh_agent.chunk import COLUMN_TYPES, encode_chunk, window_id
from pingmesh_agent.outcomes import NO_ECHO, OK, TIMEOUT

TYPE_CHECKING = False  # importing typing would add a megabyte
if TYPE_CHECKING:
    from typing import Any


class Segment:
    """The probes that were sent in one window: the chunk that is being filled, and counts.

    Attributes:
        path: Path in the home directory, without its ending.
        chunks: How many chunks the file has.
        in_flight: Probes of this window that have no outcome yet.
        table: The target table that the file has last.
        scheduled, sent, skipped: Counts of the chunk that is being filled.
        total_skipped: Counts of the window by reason.
    """

    def __init__(self, start_us: int, now_us: int) -> None:
        self.id, self.start_us = window_id(start_us), start_us
        self.path = "spool/" + self.id
        self.window_s = self.end_us = 0
        self.chunks = 0
        self.in_flight = 0
        self.table: list[list[Any]] | None = None
        self.total_skipped: dict[str, int] = {}
        self.begin_chunk(now_us)

    def begin_chunk(self, now_us: int) -> None:
        """Start an empty chunk."""
        self.chunk_start_us = now_us
        self.columns = tuple(array(code) for code in COLUMN_TYPES)
        self.scheduled = self.sent = 0
        self.skipped: dict[str, int] = {}

    def skip(self, reason: str, count: int) -> None:
        """Count probes that came due and were not sent."""
        self.skipped[reason] = self.skipped.get(reason, 0) + count
        self.total_skipped[reason] = self.total_skipped.get(reason, 0) + count

    def add_row(
        self, sent_us: int, index: int, rtt_us: int, port: int, status: int, retransmits: int
    ) -> None:
        """Record the outcome of a probe that was in flight."""
        offsets, targets, rtts, ports, statuses, repeats = self.columns
        offsets.append(max(-0x80000000, min(0x7FFFFFFF, sent_us - self.chunk_start_us)))
        targets.append(index)
        rtts.append(rtt_us)
        ports.append(port)
        statuses.append(status)
        repeats.append(retransmits)
        self.in_flight -= 1

    def answered(self) -> int:
        return self.columns[4].count(OK)

    def lost(self) -> int:
        return self.columns[4].count(TIMEOUT) + self.columns[4].count(NO_ECHO)

    def encode(
        self, now_us: int, identity: dict[str, Any], table: list[list[Any]], more: dict[str, Any]
    ) -> bytes:
        """Encode the chunk that is being filled.

        Args:
            now_us: Its end, on the wall clock.
            identity: Header fields that name host, agent and ping list.
            table: The target table; it is left out if the file has it.
            more: Further header fields.
        """
        header: dict[str, Any] = {
            **identity,
            "window": self.id,
            "window_s": self.window_s,
            "chunk": self.chunks,
            "start_us": self.chunk_start_us,
            "span_us": max(0, now_us - self.chunk_start_us),
            "scheduled": self.scheduled,
            "sent": self.sent,
            "skipped": self.skipped,
            "answered": self.answered(),
            "lost": self.lost(),
        }
        statuses = self.columns[4]
        errors = {str(code): statuses.count(code) for code in sorted(set(statuses)) if code != OK}
        if errors:
            header["errors"] = errors
        new_table = table if self.table is not table else None
        return encode_chunk({**header, **more}, new_table, *self.columns)
