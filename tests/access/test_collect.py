"""Collecting a log: every complete line once, whatever happens to the log and to us."""

from __future__ import annotations

import gzip
import os
import random
import subprocess
import tracemalloc
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pingmesh_tasks.access import logfiles
from pingmesh_tasks.access.collect import CollectLimits, CollectOutcome, collect_log
from pingmesh_tasks.access.raw import read_raw
from pingmesh_tasks.access.rotation import Fingerprint
from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.windows import Window
from tests.support.log_host import (
    DyingStore,
    Killed,
    LogHost,
    PlayedSession,
    ShellSession,
    collected_lines,
    cursor_key,
    headers,
)

START = Window(datetime(2026, 11, 21, 22, 5, tzinfo=UTC), 300)
SMALL = CollectLimits(run_bytes=4000, first_piece_bytes=300, piece_bytes=1000, line_bytes=1000)


@dataclass
class Collector:
    """Collects one log window by window, in tests of what happens between."""

    host: LogHost
    session: PlayedSession | ShellSession = field(default_factory=ShellSession)
    store: DyingStore = field(default_factory=DyingStore)
    limits: CollectLimits = field(default_factory=CollectLimits)
    window: Window = START
    outcomes: list[CollectOutcome] = field(default_factory=list)

    async def collect(self, window: Window | None = None) -> CollectOutcome:
        where = window or self.window
        outcome = await collect_log(self.session, "east", "access", str(self.host.path), where, self.store, self.limits)
        self.outcomes.append(outcome)
        if window is None:
            self.window = self.window.shifted(1)
        return outcome

    @property
    def lines(self) -> list[int]:
        return sorted(collected_lines(self.store.raw()).elements())

    @property
    def text(self) -> bytes:
        return b"".join(b"".join(read_raw(raw)) for raw in self.store.raw())


@pytest.fixture
def host(tmp_path: Path) -> LogHost:
    return LogHost(tmp_path, random.Random(1), gzip_command=True)


@pytest.fixture
def collector(host: LogHost) -> Collector:
    return Collector(host)


async def test_what_is_new_comes_and_nothing_comes_twice(collector, host):
    host.append(5)
    assert (await collector.collect()).happened == "first"
    assert (await collector.collect()).happened == "quiet"
    host.append(3)
    outcome = await collector.collect()
    assert (outcome.happened, outcome.backlog_bytes, outcome.gaps) == ("grown", 0, ())
    assert collector.text == host.path.read_bytes()
    assert outcome.new_bytes == sum(p["end"] - p["start"] for p in headers(collector.store.raw())[-1]["pieces"])


class Schedule:
    """One random life of a log and of those who collect it.

    A line may be missing only if it was destroyed (its file deleted, truncated or replaced) before any run had brought
    it; then, if a run had seen that there was more in that file, a gap has to tell.
    """

    def __init__(self, directory: Path, seed: int, *, real: bool) -> None:
        self.random = random.Random(seed)
        self.host = LogHost(directory, self.random, gzip_command=real)
        limits = self.random.choice([CollectLimits(), SMALL])
        self.collector = Collector(self.host, ShellSession() if real else PlayedSession(), limits=limits)
        self.complete: set[int] = set()
        self.destroyed: set[int] = set()
        self.must_tell = False

    async def run(self, steps: int) -> None:
        acts = {
            self.append: 6,
            self.host.append_partly: 2,
            self.append_to_rotated: 1,
            self.rotate: 3,
            self.copytruncate: 2,
            self.compress: 3,
            self.delete: 1,
            self.truncate: 1,
            self.replace: 1,
            self.collect: 8,
        }
        await self.collector.collect()  # what was rotated away before the first contact is not asked for
        for act in self.random.choices([*acts], [*acts.values()], k=steps):
            if not self.host.path.exists() and act not in (self.collect, self.compress):
                self.host.create()
            result = act()
            if result is not None:
                await result
            self.complete |= self.lines_there()
        if not self.host.path.exists():
            self.host.create()
        quiet = 0
        while quiet < 3:  # a torn last line is waited for once
            outcome = await self.collector.collect()
            quiet = quiet + 1 if outcome.happened == "quiet" else 0

    def check(self) -> None:
        found = collected_lines(self.collector.store.raw())
        assert max(found.values(), default=1) == 1, "doubled"
        assert self.complete - self.destroyed <= set(found), "lost"
        assert set(found) <= self.host.written
        assert not self.must_tell or any(header["gaps"] for header in headers(self.collector.store.raw()))

    def lines_there(self) -> set[int]:
        files = [*self.host.rotated(), *([self.host.path] if self.host.path.exists() else [])]
        return set().union(*map(self.host.lines_in, files))

    def append(self) -> None:
        self.host.append(self.random.choice([1, 3, 30, 100]))

    def append_to_rotated(self) -> None:
        """The server keeps its file open over a rename."""
        if (files := self.host.rotated()) and files[0].suffix != ".gz":
            self.host.append(2, to=files[0])

    def rotate(self) -> None:
        self.host.rotate(create=self.random.random() < 0.7)

    def copytruncate(self) -> None:
        self.host.copytruncate()

    def compress(self) -> None:
        if plain := [file for file in self.host.rotated() if file.suffix != ".gz"]:
            self.host.compress(self.random.choice(plain[-2:]))

    def delete(self) -> None:
        file = self.random.choice([*self.host.rotated()[-1:], self.host.path])
        self._about_to_destroy(file)
        self.host.delete(file)

    def truncate(self) -> None:
        self._about_to_destroy(self.host.path)
        self.host.truncate()

    def replace(self) -> None:
        if self.random.random() < 0.3:
            self.host.replace_by_its_copy()
            return
        self._about_to_destroy(self.host.path)
        self.host.replace(self.random.choice([1, 10, 200]))

    def _about_to_destroy(self, file: Path) -> None:
        raw = self.collector.store.raw()
        unread = self.host.lines_in(file) - set(collected_lines(raw))
        self.destroyed |= unread
        data = file.read_bytes()
        for mark in headers(raw)[-1]["marks"] if raw else []:
            read = data[: mark["offset"]]
            known = Fingerprint(**mark["head"]).begins(read) and Fingerprint(**mark["tail"]).ends(read)
            self.must_tell |= (
                known and mark["inode"] == file.stat().st_ino and 0 < mark["offset"] < mark["seen"] <= len(data)
            )

    async def collect(self) -> None:
        self.collector.store.die_at = self.random.choice([None, None, None, "create", "put"])
        try:
            if self.random.random() < 0.15:
                await self.collector.collect(self.collector.window.shifted(self.random.choice([-1, -2])))
            else:
                await self.collector.collect()
        except Killed:
            if self.random.random() < 0.5:
                self.collector.window = self.collector.window.shifted(1)  # nobody tried that window again
        finally:
            self.collector.store.die_at = None


@pytest.mark.parametrize("hundred", range(10))
async def test_every_complete_line_comes_once_in_a_thousand_random_schedules(tmp_path, hundred):
    for seed in range(hundred * 100, hundred * 100 + 100):
        directory = tmp_path / str(seed)
        directory.mkdir()
        schedule = Schedule(directory, seed, real=False)
        try:
            await schedule.run(steps=25)
            schedule.check()
        except AssertionError as error:
            raise AssertionError(f"schedule {seed}: {error}") from error


#: The same schedules through the real shell and gzip; PINGMESH_SCHEDULES=1000 runs all of them, in some minutes.
@pytest.mark.parametrize("seed", range(int(os.environ.get("PINGMESH_SCHEDULES", "12"))))
async def test_every_complete_line_comes_once_through_a_real_shell(tmp_path, seed):
    schedule = Schedule(tmp_path, seed, real=True)
    await schedule.run(steps=25)
    schedule.check()
