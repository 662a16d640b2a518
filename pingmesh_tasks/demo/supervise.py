"""Run several commands for as long as this process lives, and start again what ends: the demo's init system.

    python -m pingmesh_tasks.demo.supervise PREPARE -- COMMAND -- COMMAND …

PREPARE runs first, to its end. What a command prints goes where ours goes. A command that ends is started again after
a second, then two, up to `MAX_PAUSE_S`; one that stayed up for `STEADY_S` begins with a second anew. SIGTERM ends all,
and so does our own death, however it comes: nobody would know of the commands any more.
"""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from types import FrameType

MAX_PAUSE_S, STEADY_S, GOODBYE_S = 30.0, 60.0, 10.0
_POLL_S = 0.2
_LIBC, _PR_SET_PDEATHSIG = ctypes.CDLL(None), 1


@dataclass(slots=True)
class Kept:
    """One command that is kept running. Times are on the monotonic clock."""

    command: list[str]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    pause_s: float = 1.0
    due: float = field(default_factory=time.monotonic)

    def look(self) -> None:
        """Start it where it is due; note its end."""
        now = time.monotonic()
        if self.process is None:
            if now >= self.due:
                self.process, self.started = subprocess.Popen(self.command, preexec_fn=_end_with_parent), now
            return
        status = self.process.poll()
        if status is None:
            return
        self.pause_s = 1.0 if now - self.started > STEADY_S else min(2 * self.pause_s, MAX_PAUSE_S)
        self.process, self.due = None, now + self.pause_s
        print(f"{self.command[-1]} ended with {status}; again in {self.pause_s:.0f} s", file=sys.stderr, flush=True)


def _end_with_parent() -> None:
    """In a child: let the kernel send SIGTERM when the parent ends."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class _Stop(Exception):
    """SIGTERM came."""


def keep_running(commands: list[list[str]]) -> None:
    """Keep every command running until SIGTERM or SIGINT; then end all, by force where asking is not enough."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise _Stop

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    kept = [Kept(command) for command in commands]
    with suppress(_Stop):
        while True:
            for one in kept:
                one.look()
            time.sleep(_POLL_S)
    running = [one.process for one in kept if one.process is not None]
    for process in running:
        process.terminate()
    for process in running:
        with suppress(subprocess.TimeoutExpired):
            process.wait(GOODBYE_S)
        process.kill()
        process.wait()


def main(words: list[str]) -> int:
    commands = [list(part) for split, part in groupby(words, "--".__eq__) if not split]
    if len(commands) < 2:
        print("supervise: write PREPARE -- COMMAND [-- COMMAND …]", file=sys.stderr)
        return 2
    prepare, *lasting = commands
    if status := subprocess.run(prepare, check=False).returncode:
        print(f"supervise: {' '.join(prepare)} ended with {status}", file=sys.stderr)
        return 1
    keep_running(lasting)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
