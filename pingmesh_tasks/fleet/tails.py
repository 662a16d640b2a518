"""What is new at the end of a segment or a log: the scripts that read it on a host, and the cutters of what they say.

Each script waits for a line on its stdin, answers with what has come since, and waits again. So it sleeps in the
kernel for as long as nobody asks, and ends by itself, at once, when the connection does: nothing is left on a host,
however the follower died. It holds the file open, which is why a rename (`.part` to `.pms`, a log rotated) changes
nothing; it writes nothing anywhere. A question costs the host one `stat`, and one `dd` where there is news.

An answer is a line `FILE OFFSET SIZE LENGTH`, then LENGTH bytes, then a line break. FILE is `-` where there is none;
SIZE is the file's length now. POSIX shell, `stat -L -c` and `dd` as GNU and BusyBox have them.

The cutters are pure. They hand over whole chunks as segments of their own (`store.hot_batch`), and whole lines. What
they hold is bounded; what they pass over is counted. Bytes from a host are hostile: anything that is no chunk ends the
reading of that segment, which the windowed collection will judge.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pingmesh_tasks.fleet.connect import HostFault
from pingmesh_tasks.fleet.home import RESOLVE_HOME
from pingmesh_tasks.fleet.live import Conversation
from pingmesh_tasks.store.hot_batch import HotPiece

SEGMENT_STEP_BYTES = 256 * 1024
LOG_STEP_BYTES = 1024 * 1024
MAX_CHUNK_BYTES = 4 * 1024 * 1024
MAX_LINE_BYTES = 64 * 1024

_ANSWER = """
  echo "$name $at $size $n"
  [ "$n" = 0 ] || dd bs="$n" count=1 <&3 2>/dev/null
  echo
  at=$((at + n))
"""

#: $1 home. A question is `LIMIT`, or `LIMIT again` to read the file from its beginning once more. Follows the newest
#: `.part`; goes on to the next newest once its file has been renamed and read.
SEGMENT_SCRIPT = (
    RESOLVE_HOME
    + r"""
spool=$home/spool; part=; name=-; at=0
start() { part=$1; at=0; name=${1##*/}; name=${name%.part}; command exec 3<"$1"; }
while read -r limit again; do
  size=0
  if [ -n "$part" ]; then
    size=$(stat -L -c %s /dev/fd/3) || exit 1
    if [ -n "$again" ] || [ "$size" -lt "$at" ]; then command exec 3</dev/fd/3; at=0; fi
  fi
  if [ "$size" = "$at" ] && [ ! -e "$part" ]; then
    newest=
    for file in "$spool"/*.part; do [ ! -f "$file" ] || newest=$file; done
    if [ -n "$newest" ] && start "$newest"; then size=$(stat -L -c %s /dev/fd/3) || exit 1; else part=; name=-; fi
  fi 2>/dev/null
  [ -n "$part" ] || { size=0; at=0; }
  n=$((size - at)); [ "$n" -le "$limit" ] || n=$limit
"""
    + _ANSWER
    + "done\n"
)

#: $1 the log's path, $2 a FILE of an earlier conversation, $3 where in it to go on. A question is `LIMIT`: the newest
#: LIMIT bytes are read, what is before them is passed over. Begins at the end of the log, with its last byte, which
#: tells whether a line is open; a file that takes its place later is read from its beginning, once the old one rests.
LOG_SCRIPT = (
    r"""
path=$1; was=${2%.*}; times=${2##*.}; from=$3; times=${times:-0}; name=-; at=0; size=0; apart=0; waited=
open() { [ -f "$path" ] && [ -r "$path" ] && command exec 3<"$path"; }
while read -r limit; do
  if [ "$name" = - ]; then
    if open 2>/dev/null; then name=new; else waited=1; size=0; at=0; fi
  fi
  n=0
  if [ "$name" != - ]; then
    set -- $(stat -L -c '%d:%i %s' /dev/fd/3 "$path" 2>/dev/null)
    size=$2
    if [ "$name" = new ]; then
      at=0
      if [ "$was" = "$1" ] && [ "$from" -le "$size" ]; then at=$from
      else times=0; [ -n "$waited" ] || [ "$size" = 0 ] || at=$((size - 1)); fi
      [ "$at" = 0 ] || dd bs=1 skip="$at" count=0 <&3 2>/dev/null
      waited=1; was=
    elif [ "$size" -lt "$at" ]; then
      command exec 3</dev/fd/3; at=0; times=$((times + 1))
    fi
    name=$1.$times
    n=$((size - at))
    if [ "$n" -gt "$limit" ]; then
      dd bs=1 skip=$((n - limit)) count=0 <&3 2>/dev/null
      at=$((size - limit)); n=$limit
    fi
    if [ "$1" = "$3" ]; then apart=0; else apart=$((apart + 1)); fi
  fi
"""
    + _ANSWER
    + r"""
  if [ "$apart" -gt 10 ] || { [ "$apart" -gt 2 ] && [ "$n" = 0 ]; }; then
    if open 2>/dev/null; then name=new; apart=0; fi
  fi
done
"""
)

_FILE = re.compile(rb"[0-9A-Za-z:.]{1,60}|-")


@dataclass(frozen=True, slots=True)
class News:
    """One answer of a script. `file` is empty where there is none."""

    file: str
    offset: int
    size: int
    data: bytes

    @property
    def at_end(self) -> bool:
        return self.offset + len(self.data) >= self.size


async def ask(talk: Conversation, question: str, limit_bytes: int) -> News:
    """Ask a script and return its answer. Raises HostFault, also for an answer that is none."""
    await talk.ask(question)
    words = (await talk.line()).split(b" ")
    if len(words) != 4 or not _FILE.fullmatch(words[0]) or not all(w.isdigit() and len(w) < 16 for w in words[1:]):
        raise HostFault("failed", f"the host answered {b' '.join(words)[:80]!r}, which is no answer")
    offset, size, length = map(int, words[1:])
    if length > limit_bytes:
        raise HostFault("failed", f"the host announced {length} bytes where it should send {limit_bytes} at most")
    data = await talk.exactly(length)
    if await talk.exactly(1) != b"\n":
        raise HostFault("failed", "the file was cut while it was read", retryable=True)
    return News("" if words[0] == b"-" else words[0].decode(), offset, size, data)


@dataclass(frozen=True, slots=True)
class ChunkFacts:
    """What a chunk says of itself: when it ended by the host's clock, and how many probes of how many failed.

    `failing` counts the failures by destination, as far as there are any.
    """

    end_us: int
    span_us: int
    rows: int
    failed: int
    failing: Counter[str] = field(default_factory=Counter)


class SegmentTail:
    """Cuts one host's segments into pieces. Begins with the newest chunk there is, and remembers what it handed over.

    Outlives connections: after a loss the file is read from its beginning again, and what was missed is handed over.
    """

    def __init__(self, host: str) -> None:
        self.host = host
        self.damage = ""
        self._window = ""
        self._held = b""
        self._next = 0  # bytes of the file that were taken in
        self._chunk = 0  # the number of the next chunk in the file
        self._done = -1  # the last chunk of this window that was handed over
        self._caught_up = False
        self._tried_again = -1
        self._table = _Table(b"")
        self._pending: list[_Chunk] = []

    def reconnected(self) -> None:
        """The next answer is from a new script: the file begins anew."""
        self._restart()

    def question(self) -> str:
        """What to ask next."""
        if self.damage == "again":
            self.damage = ""
            self._restart()
            return f"{SEGMENT_STEP_BYTES} again"
        return str(SEGMENT_STEP_BYTES)

    def take(self, news: News, read_at_us: int) -> list[tuple[HotPiece, list[ChunkFacts]]]:
        """Take in an answer; return a piece with the whole chunks that are new, if there are any."""
        if news.file != self._window:
            self._begin(news.file)
        if self.damage or not news.file:
            return []
        if news.offset != self._next:
            if news.offset:
                return self._damaged("the host jumped within its segment")
            self._restart()  # the agent that was started again cut its predecessor's last chunk off
        self._next += len(news.data)
        self._held += news.data
        try:
            self._cut_all()
        except (ValueError, KeyError, TypeError, struct.error, zlib.error, RecursionError) as error:
            return self._damaged(str(error)[:120])
        if not news.at_end and not self._caught_up:
            return []
        self._caught_up = True
        if not self._pending:
            return []
        chunks, self._pending = self._pending, []
        self._done = chunks[-1].number
        piece = HotPiece("probe", self.host, self._window, chunks[0].number, _segment_of(chunks), read_at_us)
        return [(piece, [chunk.facts for chunk in chunks])]

    def _begin(self, window: str) -> None:
        """Turn to the segment of another window; one that begins while the host is tailed is new as a whole."""
        self._window, self._done, self._tried_again, self.damage = window, -1, -1, ""
        self._caught_up = self._caught_up or not window
        self._restart()

    def _cut_all(self) -> None:
        """Cut what is held into chunks; until the end of the file was reached once, keep the newest chunk only."""
        while chunk := self._cut():
            if chunk.number > self._done:
                self._pending.append(chunk)
                if not self._caught_up:
                    del self._pending[:-1]

    def _restart(self) -> None:
        self._held, self._next, self._chunk, self._table, self._pending = b"", 0, 0, _Table(b""), []

    def _damaged(self, why: str) -> list[Any]:
        """Read the file once more from its beginning; if it is no better there, leave it alone."""
        first_time = self._tried_again != self._chunk
        self._tried_again = self._chunk
        self.damage = "again" if first_time else f"its segment {self._window} is damaged: {why}"
        self._held, self._pending = b"", []
        return []

    def _cut(self) -> _Chunk | None:
        """Take the next whole chunk off what is held. Raises ValueError for what is none."""
        held = self._held
        if len(held) < _PREFIX.size:
            return None
        magic, header_bytes = _PREFIX.unpack_from(held)
        if magic != b"PMS1" or header_bytes > _MAX_HEADER_BYTES:
            raise ValueError(f"chunk {self._chunk} begins with {held[:8]!r}")
        body = _PREFIX.size + header_bytes
        if len(held) < body:
            return None
        header = json.loads(held[_PREFIX.size : body])
        size, table_bytes = _count(header["body_bytes"]), _count(header["table_bytes"])
        if size > MAX_CHUNK_BYTES or table_bytes > size:
            raise ValueError(f"chunk {self._chunk} has a body of {size} bytes, {table_bytes} of them its table")
        end = body + size
        if len(held) < end + _CRC.size:
            return None
        if zlib.crc32(held[:end]) != _CRC.unpack_from(held, end)[0]:
            raise ValueError(f"chunk {self._chunk} has a wrong checksum")
        if table_bytes:
            self._table = _Table(held[body : body + table_bytes])
        columns = held[body + table_bytes : end]
        chunk = _Chunk(
            self._chunk, header, bool(table_bytes), self._table, columns, _facts(header, columns, self._table)
        )
        self._held = held[end + _CRC.size :]
        self._chunk += 1
        return chunk


class LogTail:
    """Cuts what a log grew by into whole lines. Counts what was passed over, by the host or by us."""

    def __init__(self, kind: str, server: str) -> None:
        self.kind, self.server = kind, server
        self.file = ""
        self._held = b""
        self._next = 0
        self._inside = False  # of a line whose beginning was passed over
        self._skipped = 0

    def resume(self) -> tuple[str, str]:
        """The next answer is from a new script: return the FILE and the place that it shall go on at, if it can."""
        self._next -= len(self._held)
        self._held = b""
        return (self.file, str(self._next)) if self.file else ("", "0")

    def take(self, news: News, read_at_us: int) -> HotPiece | None:
        """Take in an answer; return its whole lines."""
        if news.file != self.file:
            self.file, self._held, self._next = news.file, b"", news.offset
            self._inside = news.offset > 0  # the line that is being written is not ours
        gap = news.offset - self._next
        if gap:
            self._skipped += max(gap, 0) + len(self._held)
            self._held, self._inside = b"", True
        self._next = news.offset + len(news.data)
        data = self._held + news.data
        start = self._next - len(data)
        if self._inside:
            cut = data.find(b"\n") + 1 or len(data)
            self._inside = not data.endswith(b"\n", 0, cut)
            self._skipped += cut if gap or self._skipped else 0
            data, start = data[cut:], start + cut
        end = data.rfind(b"\n") + 1
        self._held = data[end:]
        if len(self._held) > MAX_LINE_BYTES:
            self._skipped, self._held, self._inside = self._skipped + len(self._held), b"", True
        if not end:
            return None
        skipped, self._skipped = self._skipped, 0
        kind: Any = self.kind
        return HotPiece(kind, self.server, self.file, start, data[:end], read_at_us, skipped_bytes=skipped)


_PREFIX = struct.Struct("<4sI")
_CRC = struct.Struct("<I")
_MAX_HEADER_BYTES = 1 << 16
_MAX_ROWS = 1 << 18
_MAX_TABLE_BYTES = 1 << 22
#: Bytes of a row before, and at, its status: send offset, target, round trip, source port.
_TARGET_AT, _STATUS_AT, _ROW_BYTES = 4, 12, 14


@dataclass(slots=True)
class _Table:
    """A target table as it was packed; its names once somebody asks."""

    packed: bytes
    _names: list[str] | None = None

    @property
    def names(self) -> list[str]:
        if self._names is None:
            rows = json.loads(zlib.decompressobj().decompress(self.packed, _MAX_TABLE_BYTES)) if self.packed else []
            self._names = [str(row[0])[:63] for row in rows]
        return self._names


@dataclass(frozen=True, slots=True)
class _Chunk:
    number: int
    header: dict[str, Any]
    has_table: bool
    table: _Table
    columns: bytes
    facts: ChunkFacts


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"a count of {value!r:.40}")
    return value


def _facts(header: dict[str, Any], columns: bytes, table: _Table) -> ChunkFacts:
    rows, span_us = _count(header["rows"]), _count(header.get("span_us", 0))
    errors = header.get("errors") or {}
    failed = max(_count(header.get("lost", 0)), sum(map(_count, errors.values())))
    failing: Counter[str] = Counter()
    if failed:
        if rows > _MAX_ROWS:
            raise ValueError(f"{rows} probes in a chunk")
        plain = zlib.decompressobj().decompress(columns, rows * _ROW_BYTES + 1)
        if len(plain) != rows * _ROW_BYTES:
            raise ValueError("columns that are not of its rows")
        status = plain[rows * _STATUS_AT : rows * (_STATUS_AT + 1)]
        targets = memoryview(plain)[rows * _TARGET_AT : rows * (_TARGET_AT + 2)].cast("H")
        names = table.names
        failing.update(names[target] for target, code in zip(targets, status, strict=True) if code)
    return ChunkFacts(_count(header["start_us"]) + span_us, span_us, rows, failed, failing)


def _segment_of(chunks: list[_Chunk]) -> bytes:
    """Return chunks as a segment of their own: numbered from 0, the first one with its target table."""
    parts: list[bytes] = []
    for number, chunk in enumerate(chunks):
        table = chunk.table.packed if chunk.has_table or number == 0 else b""
        sizes = {"table_bytes": len(table), "body_bytes": len(table) + len(chunk.columns)}
        header = json.dumps(chunk.header | {"chunk": number} | sizes, separators=(",", ":")).encode()
        whole = b"".join((_PREFIX.pack(b"PMS1", len(header)), header, table, chunk.columns))
        parts += whole, _CRC.pack(zlib.crc32(whole))
    return b"".join(parts)
