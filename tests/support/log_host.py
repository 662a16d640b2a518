"""A data server's log and all that happens to it, with the host's shell, real or played, to collect it through.

Lines are unique and say where they end, so that a line that was split, glued or doubled is none or one too many.
"""

from __future__ import annotations

import asyncio
import gzip
import os
import random
import re
import shutil
import subprocess
import zlib
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pingmesh_tasks.access import logfiles
from pingmesh_tasks.access.raw import read_raw, read_raw_header
from pingmesh_tasks.store import layout

_LINE = re.compile(rb"^Sat Nov 21 L(\d+) x* E\1\r?$")


@dataclass(frozen=True)
class Said:
    exit_status: int
    stdout: bytes
    stderr: str = ""


class ShellSession:
    """Runs the scripts by this machine's own /bin/sh (or another)."""

    def __init__(self, shell: tuple[str, ...] = ("/bin/sh",)) -> None:
        self.shell = shell
        self.calls: list[str] = []
        self.most_bytes = 0

    async def run(self, script: str, *args: str, stdin: bytes = b"", limit_bytes: int = 256 * 1024) -> Said:
        self.calls.append(script)
        process = await asyncio.create_subprocess_exec(
            *self.shell, "-c", script, "sh", *args, stdin=subprocess.DEVNULL, stdout=-1, stderr=-1
        )
        out, err = await process.communicate()
        assert len(out) <= limit_bytes, "the host would be cut off"
        self.most_bytes = max(self.most_bytes, len(out))
        return Said(process.returncode or 0, out, err.decode())


class PlayedSession:
    """Answers the three scripts as the shell does, without a process: a thousand schedules would take minutes.

    It tells no birth times, so inodes that are used again have to be told by content.
    """

    async def run(self, script: str, *args: str, stdin: bytes = b"", limit_bytes: int = 256 * 1024) -> Said:
        if script == logfiles.LIST_SCRIPT:
            return Said(0, self._list(Path(args[0]), {int(inode) for inode in args[1:]}))
        path, identity, unpacker = Path(args[0]), args[1], args[2]
        if not path.exists():
            return Said(44, b"")
        stat = path.stat()
        if f"{stat.st_dev}:{stat.st_ino}" != identity:
            return Said(46, b"")
        data, status = path.read_bytes(), 0
        if unpacker:
            try:
                data = gzip.decompress(data)
            except (EOFError, OSError, zlib.error):
                data, status = b"", 1
        if script == logfiles.LOOK_SCRIPT:
            end = int(args[3])
            tail = data[max(0, end - logfiles.TAIL_BYTES) : end]
            return Said(0, f"{len(data)}\n{data[: logfiles.HEAD_BYTES].hex()}\n{tail.hex()}\n{status}\n".encode())
        start, size = int(args[3]), int(args[4])
        if not unpacker:
            start, size = start * logfiles.BLOCK_BYTES, size * logfiles.BLOCK_BYTES
        return Said(0, data[start : start + size])

    def _list(self, path: Path, inodes: set[int]) -> bytes:
        def described(file: Path) -> str:
            s = file.stat()
            seconds, ns = divmod(s.st_mtime_ns, 10**9)
            time = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{ns:09d} +0000"
            return f"{s.st_dev}|{s.st_ino}|-|{s.st_mode:x}|{s.st_size}|{time}|{file}|."

        lines = [f"log|{described(path)}" if path.exists() else "none|No such file or directory", f"real|{path}"]
        for file in path.parent.iterdir():
            if file != path and (
                file.name.startswith((path.name + ".", path.name + "-")) or file.stat().st_ino in inodes
            ):
                lines.append(f"file|{described(file)}")
        return "\n".join(lines).encode() + b"\n"


class Killed(Exception):
    """The task died here."""


class DyingStore:
    """An object store in memory; tasks die at it where `die_at` says: `create` (before it), `put` (after it)."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.die_at: str | None = None

    def find(self, key: str) -> bytes | None:
        return self.objects.get(key)

    def keys(self, prefix: str) -> list[str]:
        return sorted(key for key in self.objects if key.startswith(prefix))

    def put(self, key: str, data: bytes) -> None:
        if self.die_at == "put":
            raise Killed
        self.objects[key] = data

    def create(self, key: str, data: bytes | Path) -> bool:
        if self.die_at == "create":
            raise Killed
        if key in self.objects:
            return False
        self.objects[key] = data.read_bytes() if isinstance(data, Path) else data
        return True

    def raw(self) -> list[bytes]:
        return [self.objects[key] for key in sorted(self.objects) if key.endswith(".log.zst")]


def collected_lines(raw_objects: list[bytes]) -> Counter[int]:
    """The complete lines in raw objects, by number; each object must consist of whole lines."""
    found: Counter[int] = Counter()
    for raw in raw_objects:
        data = b"".join(read_raw(raw))
        assert not data or data.endswith(b"\n")
        found.update(int(match[1]) for line in data.split(b"\n") if (match := _LINE.match(line)))
    return found


def headers(raw_objects: list[bytes]) -> list[dict[str, Any]]:
    return [read_raw_header(raw) for raw in raw_objects]


def cursor_key() -> str:
    return layout.cursor("east", "access")


class LogHost:
    """The log, its writer and its administrator. Every act takes a moment of the host's own clock."""

    def __init__(self, directory: Path, random: random.Random, *, gzip_command: bool = False) -> None:
        self.path = directory / "access.log"
        self.random, self._gzip_command = random, gzip_command
        self.written: set[int] = set()
        self.clock_ns = 1_700_000_000 * 10**9
        self._last = 0
        self._open_line = b""
        self.path.touch()
        self._touch(self.path)

    def rotated(self) -> list[Path]:
        """access.log.1, .2 …, compressed or not, the youngest first."""
        found = [p for p in self.path.parent.iterdir() if re.fullmatch(r"access\.log\.\d+(\.gz)?", p.name)]
        return sorted(found, key=lambda p: int(p.name.split(".")[2]))

    def lines_in(self, file: Path) -> set[int]:
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        return {int(match[1]) for line in data.split(b"\n")[:-1] if (match := _LINE.match(line))}

    def append(self, count: int, *, to: Path | None = None, width: int = 40) -> None:
        """Write whole lines; first the end of a line that is open, if it is this file that it is open in."""
        file = to or self.path
        data = b""
        if to is None:
            data, self._open_line = self._open_line, b""
        data += b"".join(self._line(width) for _ in range(count))
        self._write(file, data)

    def append_partly(self) -> None:
        """Begin a line and write its end some other time."""
        line = self._open_line + self._line(60)
        cut = self.random.randrange(1, len(line))
        self._write(self.path, line[:cut])
        self._open_line = line[cut:]

    def rotate(self, *, create: bool = True) -> None:
        if self.path.exists():
            self._shift()
            self.path.rename(f"{self.path}.1")
            self._open_line = b""
        if create:
            self.create()

    def copytruncate(self) -> None:
        if self.path.exists():
            self._shift()
            shutil.copy(self.path, f"{self.path}.1")
            self._touch(Path(f"{self.path}.1"))
            self.truncate()

    def truncate(self) -> None:
        os.truncate(self.path, 0)
        self._touch(self.path)

    def create(self) -> None:
        self.path.touch()
        self._touch(self.path)

    def compress(self, file: Path) -> None:
        if self._gzip_command:
            subprocess.run(["gzip", "-f", file], check=True)
            return
        packed = Path(f"{file}.gz")
        packed.write_bytes(gzip.compress(file.read_bytes(), 1))
        os.utime(packed, ns=(file.stat().st_mtime_ns,) * 2)
        file.unlink()

    def delete(self, file: Path) -> None:
        file.unlink()
        if file == self.path:
            self._open_line = b""

    def replace(self, count: int) -> None:
        """Another log, longer or shorter, is moved over this one."""
        new = self.path.with_name("new")
        self._open_line = b""
        self.append(count, to=new)
        new.rename(self.path)

    def replace_by_its_copy(self) -> None:
        copy = self.path.with_name("new")
        shutil.copy2(self.path, copy)
        self.path.with_name("new").rename(self.path)

    def _line(self, width: int) -> bytes:
        self._last += 1
        self.written.add(self._last)
        ending = b"\r\n" if self._last % 3 == 0 else b"\n"
        return b"Sat Nov 21 L%d %s E%d" % (self._last, b"x" * self.random.randrange(width), self._last) + ending

    def _write(self, file: Path, data: bytes) -> None:
        with file.open("ab") as log:
            log.write(data)
        self._touch(file)

    def _touch(self, file: Path) -> None:
        self.clock_ns += self.random.choice([1_000_001, 400_000_001, 7_000_000_001])
        os.utime(file, ns=(self.clock_ns, self.clock_ns))

    def _shift(self) -> None:
        for file in reversed(self.rotated()):
            _, _, number, *packed = file.name.split(".")
            file.rename(file.with_name(".".join(["access.log", str(int(number) + 1), *packed])))
