"""A process that outlives the one that started it, known again by a file: how the demo keeps its servers.

The file holds the pid and the kernel's start time of the process, so that a stranger who got the pid later is never
taken for ours, nor killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

STOP_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Daemon:
    """The process group called `name`, with its `<name>.pid` and `<name>.log` in `folder`."""

    folder: Path
    name: str

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def _pid_file(self) -> Path:
        return self.folder / f"{self.name}.pid"

    def start(self, command: Sequence[str], environment: Mapping[str, str], cwd: Path | None = None) -> int:
        """Start `command` in a session of its own, its output going to the log; return the pid."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                command,
                env=dict(environment),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        process.returncode = 0  # nobody waits for it; `pid` reaps it should it end before us
        self._pid_file.write_text(f"{process.pid} {_start_time(process.pid)}")
        return process.pid

    @property
    def pid(self) -> int | None:
        """The running process, or None."""
        try:
            pid, started = self._pid_file.read_text().split()
        except (FileNotFoundError, ValueError):
            return None
        _reap(int(pid))
        return int(pid) if _start_time(int(pid)) == started else None

    @property
    def started_s(self) -> float:
        """When it was started, seconds since the epoch. Raises FileNotFoundError where it never was."""
        return self._pid_file.stat().st_mtime

    def stop(self, first: signal.Signals = signal.SIGTERM, timeout_s: float = STOP_TIMEOUT_S) -> bool:
        """End the whole process group, with SIGKILL where asking is not enough; say whether there was one."""
        leader = self.pid
        if leader is None:
            return False
        for sign in (first, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(leader, sign)
            deadline = time.monotonic() + timeout_s
            while group_is_alive(leader) and time.monotonic() < deadline:
                time.sleep(0.05)
        _reap(leader)
        self._pid_file.unlink(missing_ok=True)
        return True

    def last_lines(self, count: int = 15) -> str:
        """The end of the log, for a message that says why it ended."""
        with suppress(FileNotFoundError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])
        return ""


def group_is_alive(leader: int) -> bool:
    """Whether a process of the group still runs (a zombie does not)."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            state, _, group = _stat(int(entry.name))[:3]
            if int(group) == leader and state != "Z":
                return True
    return False


def _reap(pid: int) -> None:
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _start_time(pid: int) -> str:
    """The kernel's start time of a running process, or ''."""
    with suppress(OSError):
        fields = _stat(pid)
        return "" if fields[0] == "Z" else fields[19]
    return ""


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the third on: state, ppid, pgrp, …; the name before them may hold anything."""
    return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
