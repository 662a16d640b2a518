"""What a log's files mean: which of them go on where we were, which are new, which are copies, what was lost.

Pure: `decide` takes the cursor, the files that were listed and what was seen in some of them, and returns either the
files to look into first or the plan. A file is known by its identity (device, inode, birth) as long as what was read
of it is still in it; else by its content, which is how the copy that copytruncate leaves and the compressed twin of a
rotated file are found. The fingerprint of a content is its first bytes and those before the place we were at.

What cannot be told: two logs whose lines carry no date and begin alike for as long as we have read are one log to us.
Bytes that were written and destroyed between two runs were never seen: a `Gap` says that there may be some, and counts
those that had been seen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pingmesh_tasks.access.logfiles import UNPACKERS, FileState, Identity, LogDamaged, LogFile, LogUnreadable

#: Less of a content is no fingerprint: to find its continuation by, or to know a copy by, which is then passed over.
_TELLS_BYTES = 16
_TELLS_COPY_BYTES = 64
#: How many files are remembered. Older ones are told by their age.
MARKS_KEPT = 32
_SECOND = len("2026-11-21 22:05:00")


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """SHA-256 of `length` bytes."""

    length: int
    sha256: str

    @classmethod
    def of(cls, data: bytes) -> Fingerprint:
        return cls(len(data), hashlib.sha256(data).hexdigest())

    def begins(self, data: bytes) -> bool:
        return len(data) >= self.length and self == Fingerprint.of(data[: self.length])

    def ends(self, data: bytes) -> bool:
        return len(data) >= self.length and self == Fingerprint.of(data[len(data) - self.length :])


@dataclass(frozen=True, slots=True)
class Mark:
    """How far one file was read, and how to know it again.

    `offset` is where to go on, `seen` its size and `mtime` its time when it was looked at last; `rotated` if it was not
    the log itself then; `inside` if the offset is in the middle of an oversized line.
    """

    path: str
    device: int
    inode: int
    birth: str
    offset: int
    seen: int
    mtime: str
    unpacker: str
    head: Fingerprint
    tail: Fingerprint
    rotated: bool = False
    inside: bool = False

    @property
    def identity(self) -> Identity:
        return (self.device, self.inode, self.birth, self.unpacker)

    @property
    def done(self) -> bool:
        """Whether there is nothing to fear for: no more is expected, and all that was seen was read."""
        return self.rotated and self.offset == self.seen

    def unchanged(self, file: LogFile) -> bool:
        return self.mtime == file.mtime and (bool(file.unpacker) or file.size == self.seen)

    def fits(self, look: FileState) -> bool:
        """Whether a look at `self.offset` shows what was read. Nothing read fits what did not shrink."""
        return look.size >= (self.offset or self.seen) and self.head.begins(look.head) and self.tail.ends(look.tail)


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where the collection of a log stands after `window`.

    `since` is the log's own time when all there was had been read or was listed: what is younger may be new. `marks`
    has the log itself first, then its rotated files, the youngest first.
    """

    window: str
    since: str
    marks: tuple[Mark, ...]

    def to_document(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Cursor:
        """Raises KeyError, TypeError or ValueError for anything that `to_document` did not make."""
        marks = [
            Mark(**{**mark, "head": Fingerprint(**mark["head"]), "tail": Fingerprint(**mark["tail"])})
            for mark in document["marks"]
        ]
        return cls(str(document["window"]), str(document["since"]), tuple(marks))


@dataclass(frozen=True, slots=True)
class Reading:
    """One file to read: from `start` to `look.size`, `look` being at `start`; `mark` is what we know it by, if we do.

    `final`: no byte more is expected, a last line without its end is shipped. `hole`: the file begins with NUL bytes
    that nobody wrote (a writer without O_APPEND after copytruncate); they are passed over.
    """

    file: LogFile
    start: int
    look: FileState
    mark: Mark | None = None
    final: bool = False
    hole: bool = False


@dataclass(frozen=True, slots=True)
class Gap:
    """A file that went away before it was read to its end. `lost_bytes` were seen and are gone; there may be more."""

    path: str
    lost_bytes: int
    why: str


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """What to do: read `readings` in their order; `kept` marks stay as they are. `happened` is one word."""

    readings: tuple[Reading, ...]
    kept: tuple[Mark, ...]
    gaps: tuple[Gap, ...]
    happened: str
    copies: tuple[str, ...] = ()
    unreadable: str = ""


Question = tuple[LogFile, int]
Looks = Mapping[Question, FileState | LogUnreadable | LogDamaged]


def decide(cursor: Cursor | None, files: Iterable[LogFile], looks: Looks) -> ReadPlan | frozenset[Question]:
    """Return the plan, or the (file, offset) pairs to look at first.

    `looks` has the answers so far; asked again with all that it asks for, it comes to a plan after a few rounds.
    Without a cursor the log is read from its beginning, its rotated files are left alone.
    """
    return _Decision(cursor, files, looks).made()


class _Decision:
    def __init__(self, cursor: Cursor | None, files: Iterable[LogFile], looks: Looks) -> None:
        self.cursor = cursor
        self.marks = cursor.marks if cursor else ()
        self.files = _candidates(files, {mark.identity for mark in self.marks}, first=cursor is None)
        self.looks = looks
        self.questions: set[Question] = set()
        self.held: dict[LogFile, Mark] = {}  # files that are what we know them for
        self.vague: dict[LogFile, Mark] = {}  # files too little is known of: the inode may be another's by now
        self.overwritten: list[LogFile] = []  # known files with another content
        self.moved: dict[LogFile, Mark] = {}  # files that carry on what another file began
        self.fresh: dict[LogFile, int] = {}  # files never read, and where to begin
        self.copies: list[str] = []
        self.blocked: dict[LogFile, str] = {}
        self.damaged: list[LogFile] = []
        self.gaps: dict[str, Gap] = {}

    def made(self) -> ReadPlan | frozenset[Question]:
        for step in (self._know_by_identity, self._know_by_content, self._prepare):
            step()
            if self.questions:
                return frozenset(self.questions)
        return self._plan()

    def _look(self, file: LogFile, offset: int) -> FileState | None:
        """Return what is to see, or None where it has to be asked for or cannot be had."""
        answer = self.looks.get((file, offset))
        match answer:
            case FileState():
                return answer
            case None:
                self.questions.add((file, offset))
            case LogUnreadable():
                self.blocked[file] = str(answer)
            case LogDamaged():
                self.damaged.append(file)
                self.gaps[file.path] = Gap(file.path, 0, str(answer))
        return None

    def _know_by_identity(self) -> None:
        marks = {mark.identity: mark for mark in reversed(self.marks)}
        for file in self.files:
            mark = marks.get(file.identity)
            if mark is None:
                continue
            if mark.unchanged(file) and mark.offset == mark.seen:
                self.held[file] = mark
            elif look := self._look(file, mark.offset):
                if mark.fits(look):
                    sure = file.birth or mark.offset >= _TELLS_BYTES
                    (self.held if sure else self.vague)[file] = mark
                else:
                    self.overwritten.append(file)
            elif file in self.blocked:
                self.held[file] = mark

    def _know_by_content(self) -> None:
        orphans = self._orphans()
        for file in self.files:
            if file in self.held or not self._may_be_new(file):
                continue
            start = self._look(file, 0)
            if start is None:
                continue
            mark, complete = self._match(file, start, orphans)
            if mark is None and file in self.vague and not self.vague[file].done:
                self.held[file] = self.vague[file]
            elif mark is None:
                self.fresh[file] = self._begin(file, start)
            elif mark in orphans and complete:
                self.moved[file] = mark
                orphans.remove(mark)
            elif mark in orphans:
                self.fresh[file] = 0
            else:
                self.copies.append(file.path)

    def _match(self, file: LogFile, start: FileState, orphans: Sequence[Mark]) -> tuple[Mark | None, bool]:
        """Return the mark whose content the file has, and whether it has all of it.

        A copy in the making has only the beginning of it. The log itself is compared only with what is nowhere else:
        it is no copy of its own past.
        """
        held = () if file.current else tuple(self.held.values())
        for mark in (*orphans, *held):
            telling = _TELLS_COPY_BYTES if mark in held else _TELLS_BYTES
            if mark.offset < telling or not mark.head.begins(start.head):
                continue
            if start.size < mark.offset:
                if mark in held:
                    return mark, False
                continue
            look = self._look(file, mark.offset)
            if look and mark.fits(look):
                return mark, True
        return None, False

    def _orphans(self) -> list[Mark]:
        held = set(self.held.values())
        return [mark for mark in self.marks if mark not in held]

    def _may_be_new(self, file: LogFile) -> bool:
        """A rotated file that is older than all we had seen was read, or is from before our time.

        To the second: what compresses a file may cut its time to that.
        """
        if file.current or file in self.overwritten or file in self.vague:
            return True
        return self.cursor is not None and file.mtime[:_SECOND] >= self.cursor.since[:_SECOND]

    def _begin(self, file: LogFile, start: FileState) -> int:
        """Where to begin a file that was never read: after the hole, as far as we know where it ends."""
        if file in self.overwritten and _is_hole(start.head):
            offset = max(mark.offset for mark in self.marks if mark.identity == file.identity)
            return offset if start.size >= offset else 0
        return 0

    def _prepare(self) -> None:
        """Have a look at the start of every reading."""
        for file, mark in {**self.held, **self.moved}.items():
            if not (mark.unchanged(file) and mark.offset == mark.seen):
                self._look(file, mark.offset)
        for file, start in self.fresh.items():
            self._look(file, start)

    def _plan(self) -> ReadPlan:
        readings: list[Reading] = []
        kept: list[Mark] = []
        dealt_with: set[Mark] = set()
        unreadable = ""
        for file in self.files:
            if file in self.blocked:
                unreadable = self.blocked[file]
                break  # what is younger waits, or its lines would come before
            mark = self.held.get(file) or self.moved.get(file)
            start = mark.offset if mark else self.fresh.get(file)
            if start is None:
                continue
            look = self.looks.get((file, start))
            if isinstance(look, FileState):
                readings.append(_reading(file, start, look, mark))
            elif mark:
                kept.append(replace(mark, path=file.path, rotated=not file.current))
            if mark:
                dealt_with.add(mark)
        if not unreadable and any(file.current for file in self.files):  # else a file may turn up yet
            dealt_with |= self._vanished(dealt_with)
        kept += [mark for mark in self.marks if mark not in dealt_with]
        kept += map(_given_up, dict.fromkeys(self.damaged))
        gaps = tuple(self.gaps.values())
        return ReadPlan(tuple(readings), tuple(kept), gaps, self._happened(), tuple(self.copies), unreadable)

    def _vanished(self, dealt_with: set[Mark]) -> set[Mark]:
        """Return the marks whose file is gone, and note as a gap what was not read of each."""
        vanished = set(self._orphans()) - dealt_with
        for mark in self._orphans():
            if mark in vanished and not mark.done:
                unread_bytes = mark.seen - mark.offset
                self.gaps[mark.path] = Gap(mark.path, unread_bytes, "went away before it was read to its end")
        return vanished

    def _happened(self) -> str:
        log = next((file for file in self.files if file.current), None)
        if self.cursor is None:
            return "first"
        if log is None:
            return "missing"
        if log in self.held or log in self.blocked:
            return "grown"
        if log in self.overwritten:
            return "truncated"
        before = next((mark for mark in self.marks if not mark.rotated), None)
        found = {**self.held, **self.moved}
        rotated = any(mark == before and file is not log for file, mark in found.items())
        return "rotated" if rotated else "replaced"


def _candidates(files: Iterable[LogFile], known: set[Identity], *, first: bool) -> list[LogFile]:
    """Return the files that may matter, the oldest first, the log itself last."""
    files = [file for file in files if file.current or (not first and (file.suffix or file.identity in known))]
    names = {file.path for file in files}
    twins = {name + ending for name in names for ending in UNPACKERS}  # a compressor at work has both
    return sorted((file for file in files if file.path not in twins), key=_age)


def _age(file: LogFile) -> tuple[bool, str, float, str]:
    """By time; of one time, `.2` is older than `.1`, and an earlier date than a later one."""
    number = file.suffix[1:].partition(".")[0]
    is_count = number.isdigit() and len(number) < 6
    return (file.current, file.mtime, -int(number) if is_count else 0, file.path)


def _reading(file: LogFile, start: int, look: FileState, mark: Mark | None) -> Reading:
    at_rest = mark is not None and mark.rotated and mark.mtime == file.mtime and mark.seen == look.size
    return Reading(
        file,
        start,
        look,
        mark,
        final=not file.current and (bool(file.unpacker) or at_rest),
        hole=mark is None and _is_hole(look.head),
    )


def _given_up(file: LogFile) -> Mark:
    """The mark of a file that cannot be unpacked: told once, left alone until it changes."""
    nothing = Fingerprint.of(b"")
    return Mark(
        file.path,
        file.device,
        file.inode,
        file.birth,
        offset=0,
        seen=0,
        mtime=file.mtime,
        unpacker=file.unpacker,
        head=nothing,
        tail=nothing,
        rotated=True,
    )


def _is_hole(head: bytes) -> bool:
    return len(head) > 0 and not head.strip(b"\0")
