"""The segments on disk, and the windows that are still open."""

from __future__ import annotations

from pingmesh_agent.chunk import Damaged, read_chunks, window_id
from pingmesh_agent.home import Home
from pingmesh_agent.limits import MAX_PENDING_WINDOWS
from pingmesh_agent.segment import Segment

TYPE_CHECKING = False  # importing typing would add a megabyte
if TYPE_CHECKING:
    from typing import Any, Callable

PART, FINISHED = ".part", ".pms"  # endings of a segment that grows, and of one that is finished


class Spool:
    """The spool of one home. Usually one window is open, at its end two.

    No method raises because the disk is full: rows wait in memory, up to a bound, and are in the
    next chunk that can be written.

    Attributes:
        identity: Header fields of every chunk.
        table: The target table of the current ping list.
        open: The open windows by id.
        current: The window of the last tick.
        fault: Why the last write failed, or None.
        step_us: By how much the wall clock was set since the last chunk.
        counts: Totals since the start.
    """

    def __init__(self, home: Home, log: Callable[[str], None]) -> None:
        self.home, self.log = home, log
        self.identity: dict[str, Any] = {}
        self.table: list[list[Any]] = []
        self.open: dict[str, Segment] = {}
        self.current: Segment | None = None
        self.fault: str | None = None
        self.step_us = 0
        self.counts = dict.fromkeys(
            (
                "scheduled", "sent", "answered", "lost", "skipped", "chunks", "write_errors",
                "segments_pruned", "rows_dropped",
            ),
            0,
        )  # fmt: skip

    def segments(self) -> list[tuple[str, int]]:
        """(file name, bytes) of every segment, oldest first."""
        segments = []
        for name in self.home.names("spool"):
            if name.endswith((FINISHED, PART)):
                status = self.home.stat("spool/" + name)
                if status:  # the collector may have removed it meanwhile
                    segments.append((name, status.st_size))
        return segments

    def recover(self, now_us: int) -> None:
        """Complete what the previous agent left: cut torn ends, close the windows that ended."""
        for name, size in self.segments():
            if not name.endswith(PART):
                continue
            window, part = name[: -len(PART)], "spool/" + name
            chunks, sound, header = survey(self.home, part)
            if sound < size:
                self.home.truncate(part, sound)
            over = chunks and window <= window_id(now_us - int(header["window_s"]) * 1_000_000)
            if over:
                self.home.rename(part, "spool/" + window + FINISHED)
            elif not chunks:
                self.home.remove(part)
            state = "closed" if over else "still open"
            self.log(f"found {name}: {chunks} chunks, cut {size - sound} bytes, {state}")

    def segment(self, now_us: int, window_s: int) -> Segment:
        """Return the segment of the window of `now_us`; open or continue it if necessary."""
        segment = self.current
        if segment and segment.start_us <= now_us < segment.end_us and segment.window_s == window_s:
            return segment
        window_us = window_s * 1_000_000
        start_us = now_us // window_us * window_us
        segment = self.open.get(window_id(start_us))
        if segment is None:
            segment = Segment(start_us, now_us)
            try:
                self._continue_file(segment)
            except OSError as fault:
                self.note_write_error(fault)
            self.open[segment.id] = segment
        segment.window_s, segment.end_us = window_s, start_us + window_us
        self.current = segment
        return segment

    def flush(self, segment: Segment, now_us: int) -> bool:
        """Append the chunk that is being filled; False if it could not be written and grows on."""
        step = {"clock_step_us": self.step_us} if self.step_us else {}
        try:
            chunk = segment.encode(now_us, self.identity, self.table, step)
            self.home.append(segment.path + PART, chunk)
        except OSError as fault:
            self.note_write_error(fault)
            return False
        self.counts["scheduled"] += segment.scheduled
        self.counts["sent"] += segment.sent
        self.counts["answered"] += segment.answered()
        self.counts["lost"] += segment.lost()
        self.counts["skipped"] += sum(segment.skipped.values())
        self.counts["chunks"] += 1
        self.step_us = 0
        segment.chunks += 1
        segment.table = self.table
        segment.begin_chunk(now_us)
        if self.fault:
            self.log(f"writing again, after: {self.fault}")
            self.fault = None
        return True

    def flush_due(self, now_us: int) -> None:
        """Append the chunks of all open windows, but none for a window that ended without rows."""
        for segment in list(self.open.values()):
            ended = segment.chunk_start_us >= min(now_us, segment.end_us)
            if not ended or segment.columns[0] or segment.scheduled:
                self.flush(segment, now_us)

    def close(self, segment: Segment, now_us: int) -> bool:
        """Write what is left of a window and give the file its final name; False if that failed."""
        rest = segment.columns[0] or segment.scheduled or not segment.chunks
        if rest and not self.flush(segment, now_us):
            return False
        try:
            self.home.rename(segment.path + PART, segment.path + FINISHED)
        except OSError as fault:
            self.note_write_error(fault)
            if not isinstance(fault, FileNotFoundError):
                return False
        self.open.pop(segment.id, None)
        skipped = f", skipped {segment.total_skipped}" if segment.total_skipped else ""
        self.log(f"closed {segment.id}: {segment.chunks} chunks{skipped}")
        return True

    def close_ended(self, now_us: int) -> bool:
        """Close the windows that ended and have no probe in flight. Returns whether any was."""
        closed = False
        for segment in list(self.open.values()):
            ended = not segment.start_us <= now_us < segment.end_us
            if ended and segment is not self.current and not segment.in_flight and not self.fault:
                closed |= self.close(segment, now_us)
        while len(self.open) > MAX_PENDING_WINDOWS:
            oldest = self.open.pop(min(self.open))
            self.counts["rows_dropped"] += len(oldest.columns[0])
            later = f"the disk is full and {MAX_PENDING_WINDOWS} later windows wait"
            self.log(f"dropped {oldest.id}: {later}")
        return closed

    def prune(self, now_us: int, keep_s: float, max_bytes: int) -> None:
        """Remove finished segments that are too old, and the oldest while the spool is too big."""
        try:
            segments = self.segments()
            total = sum(size for _, size in segments)
            oldest_kept = window_id(now_us - int(keep_s * 1e6))
            for name, size in segments:
                too_old = name < oldest_kept
                if name.endswith(FINISHED) and (too_old or total > max_bytes):
                    self.home.remove("spool/" + name)
                    total -= size
                    self.counts["segments_pruned"] += 1
                    reason = "too old" if too_old else "the spool is over its cap"
                    self.log(f"removed {name}: {reason}")
        except OSError as fault:
            self.note_write_error(fault)

    def note_write_error(self, fault: OSError) -> None:
        """Count an error of the disk; log the first of a series."""
        self.counts["write_errors"] += 1
        if not self.fault:
            self.log(f"cannot write: {fault}")
        self.fault = str(fault)

    def pending_rows(self) -> int:
        """Rows in memory."""
        return sum(len(segment.columns[0]) for segment in self.open.values())

    def _continue_file(self, segment: Segment) -> None:
        """Continue the window's file, if there is one: after a restart or a step of the clock."""
        if self.home.stat(segment.path + FINISHED):  # the clock was set back
            self.home.rename(segment.path + FINISHED, segment.path + PART)
        if self.home.stat(segment.path + PART):
            segment.chunks, sound, _ = survey(self.home, segment.path + PART)
            self.home.truncate(segment.path + PART, sound)


def survey(home: Home, name: str) -> tuple[int, int, dict[str, Any]]:
    """(sound chunks, bytes that they take, header of the last) of a segment that may be torn."""
    chunks, sound = 0, 0
    last: dict[str, Any] = {}
    with home.open(name) as file:
        try:
            for header, _ in read_chunks(file):
                chunks, sound, last = chunks + 1, file.tell(), header
        except Damaged:
            pass
    return chunks, sound, last
