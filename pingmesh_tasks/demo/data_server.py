"""Play a busy MDSplus data server: append to its access log and its stderr log in real time, and rotate both.

    python -m pingmesh_tasks.demo.data_server --log access.log --errors errors.log --rate 100 --rotate-every-s 180

runs until SIGTERM and then leaves whole lines behind. Started again, it goes on in the same files as a server that was
restarted does: with another pid, clients that come back all at once, and a glued line if its predecessor was killed in
the middle of one. Mostly whole lines are written; now and then the end of the last one follows a moment later, as from
a buffer.

A rotation renames `access.log` to `access.log.1` (and so on up to `--keep`) and begins a new file, or with
`--copytruncate` copies it and cuts it to nothing; both logs rotate at whole multiples of the period since the epoch.
With `--compress` a rotated file becomes `.gz` one rotation later.

As a library: `generate` and its presets make a log at once, together with the truth about it. What is said and how
often is told, with its sources, in `access_log`, `sessions` and `population`.
"""

from __future__ import annotations

import argparse
import gzip
import math
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import numpy as np

from pingmesh_tasks.demo.access_log import BENCHMARK, HEADLINE, AccessLog, Block, DataServer, Truth, generate
from pingmesh_tasks.demo.faults import standing
from pingmesh_tasks.demo.made_up_sessions import MODES, Hammer, Profile
from pingmesh_tasks.demo.population import COUNTRIES
from pingmesh_tasks.errors import ConfigError

__all__ = [
    "BENCHMARK",
    "COUNTRIES",
    "HEADLINE",
    "AccessLog",
    "Block",
    "DataServer",
    "Hammer",
    "Profile",
    "RotatingLog",
    "Rotation",
    "Truth",
    "generate",
    "play",
]

TICK_S = 0.2
RECONNECT_S = 5.0
#: After the machine slept, no more than this is caught up at once.
_CATCH_UP_S = 10.0
_PARTIAL_SHARE = 0.15


@dataclass(frozen=True, slots=True)
class Rotation:
    """When and how a log rotates: every `every_s` seconds (0: never), keeping `keep` old files."""

    every_s: float = 180.0
    keep: int = 5
    copytruncate: bool = False
    compress: bool = False


class RotatingLog:
    """A file that is appended to, and rotated. Writes go to the kernel at once, in the order they come."""

    def __init__(self, path: Path, rotation: Rotation) -> None:
        self.path, self._rotation = path, rotation
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = self._open()

    def write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._descriptor, data) :]

    def rotate(self) -> None:
        """Put what was written so far away as `.1`. Nothing is lost between the two files."""
        rotation = self._rotation
        for number in range(rotation.keep, 0, -1):
            for ending in ("", ".gz"):
                old = self._old(number, ending)
                if number == rotation.keep:
                    old.unlink(missing_ok=True)
                elif old.exists():
                    old.rename(self._old(number + 1, ending))
        if rotation.copytruncate:
            shutil.copyfile(self.path, self._old(1))
            os.ftruncate(self._descriptor, 0)
        else:
            self.path.rename(self._old(1))
            os.close(self._descriptor)
            self._descriptor = self._open()
        if rotation.compress and (plain := self._old(2)).exists():
            _compress(plain)

    def close(self) -> None:
        os.close(self._descriptor)

    def _open(self) -> int:
        try:
            return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise ConfigError(f"{self.path} cannot be written ({error.strerror}); name a file that can be") from None

    def _old(self, number: int, ending: str = "") -> Path:
        return self.path.with_name(f"{self.path.name}.{number}{ending}")


def play(
    profile: Profile,
    seed: int,
    log: RotatingLog,
    errors: RotatingLog | None,
    rotate_every_s: float,
    *,
    with_parent: bool = False,
    orders: Path | None = None,
) -> Truth:
    """Write what the server writes, as time goes by, until SIGTERM or SIGINT (or the end of the parent process).

    Returns what was written. At the end no line is left half written. Users hammer as `orders` (see `faults`) say.
    """
    stopping = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    parent = os.getppid()
    server = DataServer(profile, seed)
    chance = np.random.default_rng([seed, 3])
    slot, rest = _slot(profile.start_s, rotate_every_s), b""
    hammering: dict[str, float] = {}
    per_s = profile.hammer.per_s if profile.hammer else Hammer("").per_s
    while not stopping and (not with_parent or os.getppid() == parent):
        time.sleep(TICK_S)
        now_s = min(time.time(), server.now_s + _CATCH_UP_S)
        if now_s <= server.now_s:  # the clock was set back: wait until it is where it was
            continue
        ordered = standing(orders, "hammer", now_s) if orders else {}
        for user, until_s in ordered.items():
            if hammering.get(user) != until_s:
                server.hammer(Hammer(user, 0.0, per_s, until_s - server.now_s))
        hammering = ordered
        block = server.advance(now_s)
        whole = rest + block.access
        kept = int(chance.integers(1, 60)) if chance.random() < _PARTIAL_SHARE else 0
        written = max(0, len(whole) - kept)
        log.write(whole[:written])
        rest = whole[written:]
        if errors:
            errors.write(block.errors)
        if (current := _slot(now_s, rotate_every_s)) != slot:
            slot = current
            log.write(rest)
            rest = b""
            for file in filter(None, (log, errors)):
                file.rotate()
    log.write(rest)
    return server.truth


def _slot(moment_s: float, every_s: float) -> int:
    return int(moment_s // every_s) if every_s else 0


def _compress(plain: Path) -> None:
    part = plain.with_name(f"{plain.name}.part")
    with plain.open("rb") as source, gzip.open(part, "wb", compresslevel=1) as target:
        shutil.copyfileobj(source, target)
    part.rename(plain.with_name(f"{plain.name}.gz"))
    plain.unlink()


def main(arguments: Sequence[str] | None = None) -> None:
    """Play a data server until SIGTERM; say in the end how many lines of each kind were written."""
    default, rotation = Profile(), Rotation()
    parser = argparse.ArgumentParser(prog="python -m pingmesh_tasks.demo.data_server", description=main.__doc__)
    add = parser.add_argument
    add("--log", type=Path, required=True, help="the access log")
    add("--errors", type=Path, help="the stderr log")
    add("--mode", choices=MODES, default=default.mode, help="one process for all, or one a client (multi)")
    add("--rate", type=float, default=100.0, help="lines a second (100)")
    add("--users", type=int, default=default.users, help="how many there are (1000)")
    add("--seed", type=int, default=1, help="of the users, their habits and what they do (1)")
    add("--garbage", type=float, default=default.garbage, help="share of lines that are none (0.005)")
    add("--timezone", default=default.timezone, help="of the log's times (Asia/Shanghai)")
    add("--shot-every-s", type=float, default=default.shot_every_s, help="readers gather after each (600)")
    add("--rotate-every-s", type=float, default=rotation.every_s, help="0: never (180)")
    add("--keep", type=int, default=rotation.keep, help="how many rotated files stay (5)")
    add("--copytruncate", action="store_true", help="rotate by copying and cutting instead of renaming")
    add("--compress", action="store_true", help="gzip rotated files one rotation later")
    add("--with-parent", action="store_true", help="end when the process that started this one has ended")
    add("--hammer-user", help="a user who reads one node over and over")
    add("--hammer-after-s", type=float, default=300.0, help="from then on (300)")
    add("--hammer-rate", type=float, default=20.0, help="how often a second (20)")
    add("--hammer-for-s", type=float, default=math.inf, help="for so long (to the end)")
    add("--hammer-every-s", type=float, default=math.inf, help="and again so long after each beginning (never)")
    add("--orders", type=Path, help="a folder in which faults are ordered while this runs")
    options = parser.parse_args(arguments)
    try:
        hammer = None
        if options.hammer_user:
            times = (options.hammer_after_s, options.hammer_rate, options.hammer_for_s, options.hammer_every_s)
            hammer = Hammer(options.hammer_user, *times)
        now_s = time.time()
        profile = Profile(
            users=options.users,
            lines_per_s=options.rate,
            mode=options.mode,
            start_s=now_s,
            timezone=options.timezone,
            garbage=options.garbage,
            shot_every_s=options.shot_every_s,
            swing=0.0,  # whoever watches a demo at night wants to see something too
            reconnect_s=RECONNECT_S,
            hammer=hammer,
        )
        rotation = Rotation(options.rotate_every_s, options.keep, options.copytruncate, options.compress)
        log = RotatingLog(options.log, rotation)
        errors = RotatingLog(options.errors, rotation) if options.errors else None
        truth = play(
            profile,
            options.seed,
            log,
            errors,
            rotation.every_s,
            with_parent=options.with_parent,
            orders=options.orders,
        )
        print(truth, flush=True)
    except ConfigError as error:
        sys.exit(f"data server: {error}")


if __name__ == "__main__":
    main()
