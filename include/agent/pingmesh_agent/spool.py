"""The segments on disk."""

from __future__ import annotations

from pingmesh_agent.chunk import Damaged, read_chunks, window_id
from pingmesh_agent.home import Home
from pingmesh_agent.limits import MAX_PENDING_WINDOWS
from pingmesh_agent.outcomes import NO_ECHO, OK, TIMEOUT
from pingmesh_agent.segment import Segment

TYPE_CHECKING = False  # importing typing would cost a megabyte on every host
if TYPE_CHECKING:
    from typing import Any, Callable


class Spool:
    """The segments on disk, and the one or two windows that are still open. Never raises for a disk that is full:
    rows wait in memory, up to a bound, and the next chunk carries them."""

    def __init__(self, home: Home, log: Callable[[str], None]) -> None:
        self.home, self.log = home, log
        self.identity: dict[str, Any] = {}
        self.table: list[list[Any]] = []
        self.open: dict[str, Segment] = {}
        self.current: Segment | None = None
        self.fault: str | None = None
        self.step_us = 0  # by which the clock was set since the last chunk
        self.counts = {"scheduled": 0, "sent": 0, "answered": 0, "lost": 0, "skipped": 0, "chunks": 0,
                       "write_errors": 0, "segments_pruned": 0, "rows_dropped": 0}  # fmt: skip

    def segments(self) -> list[tuple[str, int]]:
        """(file name, bytes) of all that is in the spool, oldest first."""
        found = []
        for name in self.home.names("spool"):
            if name.endswith((".pms", ".part")):
                there = self.home.stat("spool/" + name)
                if there:  # the collector may remove what it has
                    found.append((name, there.st_size))
        return found

    def recover(self, now_us: int) -> None:
        """Finish what a predecessor left: cut a torn tail, and close the windows that are over."""
        for name, size in self.segments():
            if not name.endswith(".part"):
                continue
            part = "spool/" + name
            chunks, sound, header = survey(self.home, part)
            if sound < size:
                self.home.truncate(part, sound)
            over = chunks and name[:-5] <= window_id(now_us - int(header["window_s"]) * 1_000_000)
            if over:
                self.home.rename(part, part[:-5] + ".pms")
            elif not chunks:
                self.home.remove(part)
            self.log(f"found {name}: {chunks} chunks, cut {size - sound} bytes, {'closed' if over else 'goes on'}")

    def segment(self, now_us: int, window_s: int) -> Segment:
        """The segment of this moment's window; opened, or taken up again, when it is not the current one."""
        segment = self.current
        if segment and segment.start_us <= now_us < segment.end_us and segment.window_s == window_s:
            return segment
        start_us = now_us // (window_s * 1_000_000) * (window_s * 1_000_000)
        segment = self.open.get(window_id(start_us))
        if segment is None:
            segment = Segment(start_us, now_us)
            try:
                if self.home.stat(segment.path + ".pms"):  # the clock went back
                    self.home.rename(segment.path + ".pms", segment.path + ".part")
                if self.home.stat(segment.path + ".part"):
                    segment.chunks, sound, _ = survey(self.home, segment.path + ".part")
                    self.home.truncate(segment.path + ".part", sound)
            except OSError as fault:
                self.trouble(fault)
            self.open[segment.id] = segment
        segment.window_s, segment.end_us = window_s, start_us + window_s * 1_000_000
        self.current = segment
        return segment

    def flush(self, segment: Segment, now_us: int) -> bool:
        """Append the chunk that is being filled; on failure it goes on filling. Returns whether all is on disk."""
        try:
            step = {"clock_step_us": self.step_us} if self.step_us else {}
            self.home.append(segment.path + ".part", segment.chunk(now_us, self.identity, self.table, step))
        except OSError as fault:
            self.trouble(fault)
            return False
        statuses = segment.columns[4]
        for key, count in (("scheduled", segment.scheduled), ("sent", segment.sent), ("answered", statuses.count(OK)),
                           ("lost", statuses.count(TIMEOUT) + statuses.count(NO_ECHO)),
                           ("skipped", sum(segment.skipped.values())), ("chunks", 1)):  # fmt: skip
            self.counts[key] += count
        self.step_us = 0
        segment.chunks += 1
        segment.table = self.table
        segment.begin(now_us)
        if self.fault:
            self.log(f"writing again, after: {self.fault}")
            self.fault = None
        return True

    def close(self, segment: Segment, now_us: int) -> bool:
        """Write what is left of a window and give the file its final name."""
        if (segment.columns[0] or segment.scheduled or not segment.chunks) and not self.flush(segment, now_us):
            return False
        try:
            self.home.rename(segment.path + ".part", segment.path + ".pms")
        except OSError as fault:
            self.trouble(fault)
            if not isinstance(fault, FileNotFoundError):
                return False
        self.open.pop(segment.id, None)
        skipped = f", skipped {segment.total_skipped}" if segment.total_skipped else ""
        self.log(f"closed {segment.id}: {segment.chunks} chunks{skipped}")
        return True

    def close_finished(self, now_us: int) -> bool:
        """Close the windows that are over and have no probe under way. Returns whether one was closed."""
        closed = False
        for segment in list(self.open.values()):
            over = segment is not self.current and not segment.start_us <= now_us < segment.end_us
            if over and not segment.in_flight and not self.fault:
                closed |= self.close(segment, now_us)
        while len(self.open) > MAX_PENDING_WINDOWS:
            oldest = self.open.pop(min(self.open))
            self.counts["rows_dropped"] += len(oldest.columns[0])
            self.log(f"gave up {oldest.id}: the disk is full and {MAX_PENDING_WINDOWS} later windows wait")
        return closed

    def prune(self, now_us: int, keep_s: float, max_bytes: int) -> None:
        """Remove finished segments that are too old, and the oldest ones while the spool is over its cap."""
        try:
            found = self.segments()
            total = sum(size for _, size in found)
            too_old = window_id(now_us - int(keep_s * 1e6))
            for name, size in found:
                if name.endswith(".pms") and (total > max_bytes or name < too_old):
                    self.home.remove("spool/" + name)
                    total -= size
                    self.counts["segments_pruned"] += 1
                    self.log(f"removed {name}: {'the spool is over its cap' if name >= too_old else 'too old'}")
        except OSError as fault:
            self.trouble(fault)

    def trouble(self, fault: OSError) -> None:
        self.counts["write_errors"] += 1
        if not self.fault:
            self.log(f"cannot write: {fault}")
        self.fault = str(fault)

    def pending_rows(self) -> int:
        return sum(len(segment.columns[0]) for segment in self.open.values())


def survey(home: Home, name: str) -> tuple[int, int, dict[str, Any]]:
    """(sound chunks, bytes they take, header of the last) of a segment that may be torn."""
    chunks, sound = 0, 0
    last: dict[str, Any] = {}
    with home.open(name) as file:
        try:
            for header, _ in read_chunks(file):
                chunks, sound, last = chunks + 1, file.tell(), header
        except Damaged:
            pass
    return chunks, sound, last
