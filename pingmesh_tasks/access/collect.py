"""Collect: bring what a log has grown by into the raw object of a window, every complete line once.

The order of the steps makes it so. The cursor says how far each file of the log was read. What is new is fetched by
byte range and packed into a file beside us; the raw object is created with all of it, and with the new cursor in its
header, only if the window has none yet; then the cursor's own object follows. Killed before the creation, nothing
happened; killed after it, the next run finds a raw object younger than the cursor and takes the cursor from its
header. A window that has a raw object is never collected again, and none is collected that is older than the youngest.

Every piece that is fetched overlaps what we have by up to `TAIL_BYTES`, and the overlap is compared: a file that is
overwritten while it is read is noticed, the rest of it is left to the next run.

What no collector can bring: bytes destroyed before a run saw them, such as a line written between copytruncate's copy
and its truncation. A `Gap` tells of every file that went away unfinished.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from pingmesh_tasks.access.logfiles import (
    TAIL_BYTES,
    Listing,
    LogDamaged,
    LogMoved,
    LogUnreadable,
    Shell,
    fetch,
    list_files,
    look_at,
)
from pingmesh_tasks.access.raw import encode_header, log_bytes, new_packer, read_raw_header
from pingmesh_tasks.access.rotation import MARKS_KEPT, Cursor, Fingerprint, Gap, Mark, Reading, ReadPlan, decide
from pingmesh_tasks.errors import ConfigError, StoreError
from pingmesh_tasks.store import layout
from pingmesh_tasks.windows import Window

log = logging.getLogger(__name__)

_LISTINGS = 4  # a log that rotates while we look is listed again
_PIECE_S = 2.0
_PACKED_PIECES = 8  # a packed file is unpacked from its beginning for every piece: take fewer, larger ones
_DAYS_LISTED = 7


class LogStore(Protocol):
    """The object store, as far as it is needed here."""

    def find(self, key: str) -> bytes | None: ...
    def keys(self, prefix: str) -> list[str]: ...
    def put(self, key: str, data: bytes) -> None: ...
    def create(self, key: str, data: bytes | Path) -> bool: ...


@dataclass(frozen=True, slots=True)
class CollectLimits:
    """What one run may take of one log; the rest is backlog, brought by the next runs.

    `run_s` is checked between pieces, which are made as large as comes in some 2 s: stay below the SSH time for a host.
    A line longer than `line_bytes` is shipped as it comes, in pieces marked oversized.
    """

    run_bytes: int = 64 * 2**20
    run_s: float = 20.0
    first_piece_bytes: int = 2**20
    piece_bytes: int = 2 * 2**20
    line_bytes: int = 2**20

    def __post_init__(self) -> None:
        if min(self.run_bytes, self.first_piece_bytes, self.piece_bytes, self.line_bytes) <= 0:
            raise ConfigError("the limits of a collection must be positive")
        if self.line_bytes * 2 > self.run_bytes:
            raise ConfigError(
                f"a run of {self.run_bytes} bytes never gets past a line of {self.line_bytes}; allow more"
            )


@dataclass(frozen=True, slots=True)
class CollectOutcome:
    """What became of one window of one log.

    `happened`: first (contact), quiet, grown, rotated, truncated, replaced, missing, unreadable, adopted (the window
    was collected before, or by a faster twin) or late (a later window was: this one stays without an object).
    `backlog_bytes` are known and not fetched yet, without a last line that is still being written. `lost_bytes` were
    seen in an earlier run and are gone; any gap may hide more. `key` is empty where the window has no raw object.
    """

    server: str
    kind: str
    window: str
    happened: str
    detail: str = ""
    key: str = ""
    new_bytes: int = 0
    backlog_bytes: int = 0
    gaps: tuple[Gap, ...] = ()

    @property
    def lost_bytes(self) -> int:
        return sum(gap.lost_bytes for gap in self.gaps)


async def collect_log(
    session: Shell,
    server: str,
    kind: str,
    path: str,
    window: Window,
    store: LogStore,
    limits: CollectLimits | None = None,
) -> CollectOutcome:
    """Bring what is new in the log at `path` of a server into the raw object of `window`.

    `kind` is `access` or `errors`. A log that is missing or unreadable is an outcome; what the session or the store
    raise passes through, and nothing has happened then. Runs of one log must not overlap but with a twin of the same
    window, as a retry may: the window has one winner. Of two overlapping windows the later one is refused where it
    can be told.
    """
    limits = limits or CollectLimits()
    chain = _Chain(store, server, kind)
    cursor, youngest = await asyncio.to_thread(chain.position, window)
    if youngest >= window.id:
        return await asyncio.to_thread(chain.adopted, window, youngest)
    listing, plan = await _plan(session, path, cursor)
    if (plan.unreadable or listing.why_no_log) and not any(r.look.size > r.start for r in plan.readings):
        happened = "missing" if listing.missing and not plan.unreadable else "unreadable"
        return CollectOutcome(server, kind, window.id, happened, plan.unreadable or listing.why_no_log)
    with tempfile.TemporaryDirectory(prefix="pingmesh-collect-") as directory:
        body = Path(directory) / "body"
        with body.open("wb") as file:
            run = _Run(plan, _Packed(file), limits)
            await run.read_all(session)
        header = run.header(server, kind, window, cursor, listing)
        whole = Path(directory) / "raw"
        await asyncio.to_thread(_join, encode_header(header), body, whole)
        return await asyncio.to_thread(chain.extend, window, youngest, header, whole, _outcome(header, plan, listing))


async def _plan(session: Shell, path: str, cursor: Cursor | None) -> tuple[Listing, ReadPlan]:
    """List and look until there is a plan; a file that moves meanwhile begins it anew."""
    inodes = [mark.inode for mark in cursor.marks] if cursor else []
    moved: LogMoved | None = None
    for _ in range(_LISTINGS):
        listing = await list_files(session, path, inodes)
        looks: dict[Any, Any] = {}
        try:
            while not isinstance(plan := decide(cursor, listing.files, looks), ReadPlan):
                for file, offset in plan:
                    try:
                        looks[file, offset] = await look_at(session, file, offset)
                    except (LogUnreadable, LogDamaged) as error:
                        looks[file, offset] = error
        except LogMoved as error:
            moved = error
            continue
        return listing, plan
    nothing = ReadPlan((), cursor.marks if cursor else (), (), "grown", unreadable=f"{moved}, again and again")
    return listing, nothing


def _join(start: bytes, rest: Path, to: Path) -> None:
    with to.open("wb") as whole, rest.open("rb") as body:
        whole.write(start)
        shutil.copyfileobj(body, whole, 2**20)


class _Packed:
    """The log's bytes, packed into a file as they come."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._packer = new_packer()

    def write(self, data: bytes) -> None:
        self._file.write(self._packer.compress(data))

    def close(self) -> None:
        self._file.write(self._packer.flush())


class LineCutter:
    """Takes the bytes of one file as they come, ships whole lines and says which ranges it shipped.

    What follows the last newline is held back; once it is longer than `line_bytes` it is shipped as it comes, as an
    oversized piece up to and with the line's newline. Memory: one piece and `line_bytes`.
    """

    def __init__(self, reading: Reading, sink: _Packed, line_bytes: int) -> None:
        self._reading, self._sink, self._line_bytes = reading, sink, line_bytes
        self._held = b""
        self._hole = reading.hole
        self._inside = reading.mark is not None and reading.mark.inside
        self._digest = hashlib.sha256()
        self._tail = reading.look.tail
        self.offset = reading.start
        self.pieces: list[dict[str, Any]] = []

    def feed(self, data: bytes) -> None:
        if self._hole:
            rest = data.lstrip(b"\0")
            self._pass_over(data[: len(data) - len(rest)])
            self._hole, data = not rest, rest
        if self._inside:
            end = data.find(b"\n") + 1
            self._ship(data[:end] if end else data, oversized=True)
            if not end:
                return
            self._inside, data = False, data[end:]
        data = self._held + data
        end = data.rfind(b"\n") + 1
        self._ship(data[:end], oversized=False)
        self._held = data[end:]
        if len(self._held) > self._line_bytes:
            self._ship(self._held, oversized=True)
            self._held, self._inside = b"", True

    def finish(self) -> Mark:
        """Say how far the file was read. A line that is open, and shipped, gets a newline that the file has not."""
        if self._reading.final and self._held and self.offset + len(self._held) == self._reading.look.size:
            self._ship(self._held, oversized=False)
            self._held, unterminated = b"", True
        else:
            unterminated = self._inside and bool(self.pieces)
        if unterminated:
            self._sink.write(b"\n")
            self.pieces[-1]["unterminated"] = True
        self._close_piece()
        file, look = self._reading.file, self._reading.look
        return Mark(
            file.path,
            file.device,
            file.inode,
            file.birth,
            self.offset,
            look.size,
            file.mtime,
            file.unpacker,
            Fingerprint.of(look.head[: self.offset]),
            Fingerprint.of(self._tail[-min(TAIL_BYTES, self.offset) :] if self.offset else b""),
            rotated=not file.current,
            inside=self._inside,
        )

    def _pass_over(self, data: bytes) -> None:
        self.offset += len(data)
        self._tail = (self._tail + data[-TAIL_BYTES:])[-TAIL_BYTES:]

    def _ship(self, data: bytes, *, oversized: bool) -> None:
        if not data:
            return
        if not self.pieces or self.pieces[-1].get("oversized", False) != oversized:
            self._close_piece()
            file = self._reading.file
            self.pieces.append(
                {"path": file.path, "device": file.device, "inode": file.inode, "start": self.offset, "end": 0}
            )
            if oversized:
                self.pieces[-1]["oversized"] = True
        self._digest.update(data)
        self._sink.write(data)
        self._pass_over(data)
        self.pieces[-1]["end"] = self.offset

    def _close_piece(self) -> None:
        if self.pieces and "sha256" not in self.pieces[-1]:
            self.pieces[-1]["sha256"] = self._digest.hexdigest()
        self._digest = hashlib.sha256()


class _Run:
    """The readings of one run, within its limits; afterwards what they came to."""

    def __init__(self, plan: ReadPlan, sink: _Packed, limits: CollectLimits) -> None:
        self._plan, self._sink, self._limits = plan, sink, limits
        self._budget = limits.run_bytes
        self._deadline = time.monotonic() + limits.run_s
        self._piece_bytes = limits.first_piece_bytes
        self._marks = list(plan.kept)
        self._pieces: list[dict[str, Any]] = []
        self._backlog = 0
        self._complete = True

    async def read_all(self, session: Shell) -> None:
        for reading in self._plan.readings:
            if self._complete:
                await self._read(session, reading)
            else:
                self._backlog += reading.look.size - reading.start
                if reading.mark:
                    self._marks.append(reading.mark)
        await asyncio.to_thread(self._sink.close)

    async def _read(self, session: Shell, reading: Reading) -> None:
        cutter = LineCutter(reading, self._sink, self._limits.line_bytes)
        position, before = reading.start, reading.look.tail
        while position < reading.look.size:
            if self._budget <= 0 or time.monotonic() > self._deadline:
                self._complete = False
                break
            piece = self._piece_bytes * (_PACKED_PIECES if reading.file.unpacker else 1)
            size = min(piece, self._budget, reading.look.size - position)
            began = time.monotonic()
            try:
                data = await fetch(session, reading.file, position - len(before), len(before) + size)
            except (LogMoved, LogUnreadable) as error:
                log.warning("%s; the rest of it is left to the next run", error)
                data = b""
            new = data[len(before) :]
            if data[: len(before)] != before or not new:
                self._complete = False  # overwritten, cut off or moved since we looked: the next run sorts it out
                break
            await asyncio.to_thread(cutter.feed, new)
            position += len(new)
            self._budget -= len(new)
            before = (before + new[-TAIL_BYTES:])[-TAIL_BYTES:]
            if not reading.file.unpacker:
                self._pace(len(new), time.monotonic() - began)
        self._backlog += reading.look.size - position
        self._marks.append(await asyncio.to_thread(cutter.finish))
        self._pieces += cutter.pieces

    def _pace(self, size: int, took_s: float) -> None:
        """Take the next piece as large as comes in some seconds, so that the time limit is kept on a slow line."""
        fitting = int(size * _PIECE_S / max(took_s, 1e-3))
        least = min(self._limits.first_piece_bytes, self._limits.piece_bytes) // 8 or 1
        self._piece_bytes = max(least, min(fitting, self._piece_bytes * 2, self._limits.piece_bytes))

    def header(self, server: str, kind: str, window: Window, before: Cursor | None, listing: Listing) -> dict[str, Any]:
        """Return the header of the raw object, the cursor that follows it within."""
        current = next((file for file in listing.files if file.current), None)
        since = before.since if before else ""
        if current and not self._plan.unreadable and (self._complete or not before):
            since = current.mtime
        marks = sorted(self._marks, key=lambda mark: mark.mtime, reverse=True)
        marks.sort(key=lambda mark: mark.rotated)
        cursor = Cursor(window.id, since, tuple(marks[:MARKS_KEPT])).to_document()
        return {
            "server": server,
            "kind": kind,
            **cursor,
            "pieces": self._pieces,
            "head": cursor["marks"][0]["head"] if marks else None,
            "backlog_bytes": self._backlog,
            "gaps": [asdict(gap) for gap in self._plan.gaps],
            "collected_at_us": time.time_ns() // 1000,
        }


def _outcome(header: dict[str, Any], plan: ReadPlan, listing: Listing) -> CollectOutcome:
    happened = plan.happened
    if happened == "grown" and not header["pieces"]:
        happened = "quiet"
    notes = [f"{gap.path}: {gap.why}, {gap.lost_bytes} seen bytes lost" for gap in plan.gaps]
    notes += [f"{path} is a copy" for path in plan.copies]
    notes += [note for note in (plan.unreadable, listing.why_no_log) if note]
    return CollectOutcome(
        header["server"],
        header["kind"],
        header["window"],
        happened,
        "; ".join(notes),
        new_bytes=log_bytes(header),
        backlog_bytes=header["backlog_bytes"],
        gaps=plan.gaps,
    )


class _Chain:
    """The raw objects of one log, one after the other by window, and the cursor that follows from the youngest."""

    def __init__(self, store: LogStore, server: str, kind: str) -> None:
        self._store, self._server, self._kind = store, server, kind

    def position(self, window: Window) -> tuple[Cursor | None, str]:
        """Return the cursor to go on from, and the window id of the youngest raw object ("" for none)."""
        cursor = self._cached()
        youngest = self._youngest(cursor, window)
        if cursor is None and not youngest:
            return None, ""
        if cursor is None or cursor.window < layout.window_id_of(youngest):
            cursor = Cursor.from_document(read_raw_header(self._object(youngest)))
            self._follow(cursor)
        return cursor, cursor.window

    def adopted(self, window: Window, youngest: str) -> CollectOutcome:
        """Return the outcome for a window that is not to be collected (any more)."""
        key = layout.raw_log(self._kind, self._server, window)
        data = self._store.find(key)
        if data is None:
            detail = f"{youngest} was collected already; what this window would have brought is there"
            return CollectOutcome(self._server, self._kind, window.id, "late", detail)
        header = read_raw_header(data)
        return CollectOutcome(
            self._server,
            self._kind,
            window.id,
            "adopted",
            key=key,
            new_bytes=log_bytes(header),
            backlog_bytes=header["backlog_bytes"],
            gaps=tuple(Gap(**gap) for gap in header["gaps"]),
        )

    def extend(
        self, window: Window, after: str, header: dict[str, Any], whole: Path, outcome: CollectOutcome
    ) -> CollectOutcome:
        """Create the raw object and move the cursor, unless another was faster."""
        cursor = Cursor.from_document(header)
        _, youngest = self.position(window)
        key = layout.raw_log(self._kind, self._server, window)
        if youngest != after or not self._store.create(key, whole):
            _, youngest = self.position(window)
            return self.adopted(window, youngest)
        self._follow(cursor)
        return replace(outcome, key=key)

    def _follow(self, cursor: Cursor) -> None:
        self._store.put(layout.cursor(self._server, self._kind), json.dumps(cursor.to_document()).encode())

    def _cached(self) -> Cursor | None:
        """Return the cursor as it was last written; it may be behind, and without it we are only slower."""
        data = self._store.find(layout.cursor(self._server, self._kind))
        try:
            return Cursor.from_document(json.loads(data)) if data else None
        except (ValueError, KeyError, TypeError):
            log.warning("the cursor of %s (%s) is damaged; it is made again", self._server, self._kind)
            return None

    def _youngest(self, cursor: Cursor | None, window: Window) -> str:
        """Return the key of the youngest raw object. Only the days from the cursor on are listed."""
        keys: list[str] = []
        for prefix in self._prefixes(cursor, window):
            keys += self._store.keys(prefix)
        return max(keys, key=layout.window_id_of, default="")

    def _prefixes(self, cursor: Cursor | None, window: Window) -> Iterator[str]:
        last = max(window.start, datetime.now(UTC)).date()
        first = datetime.strptime(cursor.window[:8], "%Y%m%d").replace(tzinfo=UTC).date() if cursor else last
        if cursor is None or not 0 <= (last - first).days < _DAYS_LISTED:
            yield layout.raw_log_prefix(self._kind, self._server)
            return
        for days in range((last - first).days + 1):
            day = first + timedelta(days=days)
            yield layout.raw_log_prefix(self._kind, self._server, datetime(day.year, day.month, day.day, tzinfo=UTC))

    def _object(self, key: str) -> bytes:
        data = self._store.find(key)
        if data is None:
            raise StoreError(f"{key!r} was listed and is gone; try again")
        return data
