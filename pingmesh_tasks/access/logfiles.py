"""A log's files on its host: list them, look at one, fetch a range. Each script stands beside the parser of its answer.

The scripts are POSIX shell with `stat -c`, `dd`, `od`, `head -c` and `find` as GNU and BusyBox have them, on Linux. A
file is opened once and then spoken of as `/dev/fd/3`: a rename between two commands changes nothing, another file of
the same name is noticed. A plain file is read by `dd`, which seeks; a compressed one is unpacked on the host from its
beginning. Nothing is written there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from pingmesh_tasks.errors import PingmeshError

HEAD_BYTES = 1024
TAIL_BYTES = 1024
#: A plain file is fetched in whole blocks: `dd` that reads them one by one seeks to the first.
BLOCK_BYTES = 64 * 1024
#: Older files than these newest are not listed.
FILES_LISTED = 500
_LISTING_LIMIT_BYTES = 4 * 1024 * 1024

#: What unpacks a rotated file, by the end of its name.
UNPACKERS = {".gz": "gzip", ".xz": "xz", ".zst": "zstd", ".bz2": "bzip2"}
#: What rotation appends to a log's name: a number, a date, `old`. `access.log.save` is nobody's rotation.
_ROTATED = re.compile(r"[.-](?:\d[\d.:_T-]*|old)(?:\.(?:gz|xz|zst|bz2))?")
_GONE, _DENIED, _CHANGED, _NO_TOOL = 44, 45, 46, 48

#: The end marks a whole line: a name may have a line break in it.
_FORMAT = "%d|%i|%w|%f|%s|%y|%n|."

#: $1 the log's path, then inodes to find by number. Prints `real|PATH`, `log|STAT` or `none|REASON`, and `file|STAT`s.
LIST_SCRIPT = rf"""
LC_ALL=C; TZ=UTC0; export LC_ALL TZ
path=$1; shift
log=$(stat -L -c '{_FORMAT}' -- "$path" 2>&1) && echo "log|$log" || echo "none|$log"
real=$(readlink -f -- "$path" 2>/dev/null) || real=$path
echo "real|$real"
wanted=
for inode; do wanted="$wanted${{wanted:+ -o }}-inum $inode"; done
{{
  stat -L -c 'file|{_FORMAT}' -- "$path".* "$path"-*
  [ "$real" = "$path" ] || stat -L -c 'file|{_FORMAT}' -- "$real".* "$real"-*
  [ -z "$wanted" ] || for directory in "$(dirname -- "$path")" "$(dirname -- "$real")"; do
    find "$directory" -maxdepth 1 -type f \( $wanted \) -exec stat -L -c 'file|{_FORMAT}' -- {{}} +
  done
}} 2>/dev/null | sort -u | sort -t '|' -k 7 | tail -n {FILES_LISTED}
"""

_OPEN = rf"""
LC_ALL=C; export LC_ALL
[ -e "$1" ] || exit {_GONE}
[ -r "$1" ] || exit {_DENIED}
exec 3<"$1"
[ "$(stat -L -c %d:%i /dev/fd/3)" = "$2" ] || exit {_CHANGED}
[ -z "$3" ] || command -v "$3" >/dev/null || exit {_NO_TOOL}
"""

#: $1 path, $2 device:inode, $3 unpacker or nothing, $4 offset. Prints the content's size, its first bytes and those
#: before the offset, both in hexadecimal, and the unpacker's exit status: four lines.
LOOK_SCRIPT = (
    _OPEN
    + rf"""
hex() {{ od -An -v -tx1 | tr -d ' \n'; echo; }}
start=$(($4 > {TAIL_BYTES} ? $4 - {TAIL_BYTES} : 0))
if [ -z "$3" ]; then
  stat -L -c %s /dev/fd/3
  dd bs={HEAD_BYTES} count=1 </dev/fd/3 2>/dev/null | hex
  dd bs=512 skip=$((start / 512)) count=$((($4 - start) / 512 + 2)) </dev/fd/3 2>/dev/null |
    tail -c +$((start % 512 + 1)) | head -c $(($4 - start)) | hex
  echo 0
else
  {{ status=$({{ {{ "$3" -dc </dev/fd/3 2>/dev/null; echo $? >&5; }} | wc -c >&4; }} 5>&1); }} 4>&1
  "$3" -dc </dev/fd/3 2>/dev/null | head -c {HEAD_BYTES} | hex
  "$3" -dc </dev/fd/3 2>/dev/null | tail -c +$((start + 1)) | head -c $(($4 - start)) | hex
  echo "$status"
fi
"""
)

#: $1 path, $2 device:inode, $3 unpacker or nothing, then blocks to skip and to read, or bytes where it is unpacked.
FETCH_SCRIPT = (
    _OPEN
    + rf"""
if [ -z "$3" ]; then exec dd bs={BLOCK_BYTES} skip="$4" count="$5" </dev/fd/3 2>/dev/null; fi
"$3" -dc </dev/fd/3 2>/dev/null | tail -c +$(($4 + 1)) | head -c "$5"
"""
)


class ShellAnswer(Protocol):
    """What a script gave back."""

    @property
    def exit_status(self) -> int: ...
    @property
    def stdout(self) -> bytes: ...
    @property
    def stderr(self) -> str: ...


class Shell(Protocol):
    """One host, logged in. Raises what it likes when the host fails; that passes through."""

    async def run(self, script: str, *args: str, stdin: bytes = b"", limit_bytes: int = ...) -> ShellAnswer: ...


class LogUnreadable(PingmeshError):
    """A file that is there and cannot be read; says why and what to do."""


class LogMoved(PingmeshError):
    """A file that was renamed, deleted or replaced since it was listed: list again."""


class LogDamaged(PingmeshError):
    """A compressed file that cannot be unpacked."""


#: Device, inode, birth and unpacker: an inode is used again, for the compressed twin for instance.
Identity = tuple[int, int, str, str]


@dataclass(frozen=True, slots=True)
class LogFile:
    """One file as it was listed. `size` is that of the file, packed or not; `mtime` is the host's, UTC, as text that
    sorts; `birth` is empty where the file system does not tell. `suffix` is what rotation appended to the name; it is
    empty for the log itself (`current`) and for a file that was found by its inode."""

    path: str
    device: int
    inode: int
    birth: str
    size: int
    mtime: str
    suffix: str = ""
    current: bool = False

    @property
    def identity(self) -> Identity:
        return (self.device, self.inode, self.birth, self.unpacker)

    @property
    def unpacker(self) -> str:
        """The program that unpacks it, or nothing."""
        ending = "." + self.path.rpartition(".")[2]
        return "" if self.current else UNPACKERS.get(ending, "")


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a log, in no order. Where the log itself is not among them, `why_no_log` says why."""

    files: tuple[LogFile, ...]
    why_no_log: str = ""
    missing: bool = False


@dataclass(frozen=True, slots=True)
class FileState:
    """The content of a file: its size, its first bytes and those just before the offset that was asked for."""

    size: int
    head: bytes
    tail: bytes


async def list_files(session: Shell, path: str, inodes: Iterable[int] = ()) -> Listing:
    """List the log and what may be its rotated files: by name, and by inode in the same directory."""
    arguments = [str(inode) for inode in sorted(set(inodes))]
    answer = await session.run(LIST_SCRIPT, path, *arguments, limit_bytes=_LISTING_LIMIT_BYTES)
    return parse_listing(path, answer.stdout)


def parse_listing(path: str, said: bytes) -> Listing:
    """Parse what LIST_SCRIPT prints; lines that are none of its own (a name with a line break) are passed over."""
    lines = [line.partition("|") for line in said.decode("utf-8", "surrogateescape").split("\n")]
    real = next((rest for kind, _, rest in lines if kind == "real"), path)
    why = next((rest.strip() for kind, _, rest in lines if kind == "none"), "")
    log = next((rest for kind, _, rest in lines if kind == "log"), None)
    files: dict[Identity, LogFile] = {}
    if log is None:
        why = why or "the host did not say what it is"
    elif (file := _parse_file(log, current=True)) is None:
        why = f"{path} is no regular file; name the log itself in the inventory"
    else:
        files[file.identity] = file
    for kind, _, rest in lines:
        file = _parse_file(rest, bases=(path, real)) if kind == "file" else None
        if file:
            files.setdefault(file.identity, file)  # another name of the log itself is no other file
    return Listing(tuple(files.values()), why, missing="No such file" in why)


def _parse_file(text: str, bases: tuple[str, ...] = (), *, current: bool = False) -> LogFile | None:
    try:
        device, inode, birth, mode, size, mtime, name = text.split("|", 6)
        if not name.endswith("|."):
            return None
        name = name.removesuffix("|.")
        name.encode()
        if int(mode, 16) & 0o170000 != 0o100000:
            return None
        suffix = next((name[len(b) :] for b in bases if name.startswith(b) and _ROTATED.fullmatch(name[len(b) :])), "")
        birth = birth if birth[:1].isdigit() else ""
        return LogFile(name, int(device), int(inode), birth, int(size), mtime.partition(" +")[0], suffix, current)
    except ValueError:
        return None


async def look_at(session: Shell, file: LogFile, offset: int) -> FileState:
    """Look at a file. Raises LogMoved, LogUnreadable, LogDamaged."""
    answer = await session.run(LOOK_SCRIPT, *_named(file), str(offset), limit_bytes=64 * 1024)
    _check(file, answer)
    try:
        size, head, tail, status = answer.stdout.decode().split("\n")[:4]
        look = FileState(int(size), bytes.fromhex(head), bytes.fromhex(tail))
    except ValueError:
        raise LogUnreadable(f"{file.path}: the host's tools do not answer as expected: {answer.stderr}") from None
    if status != "0":
        raise LogDamaged(f"{file.path} cannot be unpacked by {file.unpacker} (exit {status})")
    return look


async def fetch(session: Shell, file: LogFile, start: int, size_bytes: int) -> bytes:
    """Return `size_bytes` of a file's content from `start`, less where it ends before.

    Raises LogMoved, LogUnreadable.
    """
    if file.unpacker:
        skip, count, offset, limit = start, size_bytes, 0, size_bytes
    else:
        skip, offset = divmod(start, BLOCK_BYTES)
        count = -(-(offset + size_bytes) // BLOCK_BYTES)
        limit = count * BLOCK_BYTES
    answer = await session.run(FETCH_SCRIPT, *_named(file), str(skip), str(count), limit_bytes=limit)
    _check(file, answer)
    return answer.stdout[offset : offset + size_bytes]


def _named(file: LogFile) -> tuple[str, str, str]:
    return file.path, f"{file.device}:{file.inode}", file.unpacker


def _check(file: LogFile, answer: ShellAnswer) -> None:
    match answer.exit_status:
        case 0:
            return
        case s if s in (_GONE, _CHANGED):
            raise LogMoved(f"{file.path} was renamed or replaced just now")
        case s if s == _DENIED:
            raise LogUnreadable(f"{file.path}: permission denied; let the SSH user read it, by its group for instance")
        case s if s == _NO_TOOL:
            raise LogUnreadable(f"{file.path}: the host has no {file.unpacker}; install it")
        case status:
            raise LogUnreadable(f"{file.path} cannot be read: {answer.stderr or f'exit {status}'}")
