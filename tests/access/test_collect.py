"""Collecting a log: every complete line once, whatever happens to the log and to us."""

from __future__ import annotations

import gzip
import os
import random
import subprocess
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
    Said,
    ShellSession,
    collected_lines,
    cursor_key,
    headers,
)
from tests.support.needs import require

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


async def test_a_line_that_is_still_written_is_left_for_the_next_run(collector, host):
    host.append(2)
    host.append_partly()
    await collector.collect()
    assert collector.lines == [1, 2]
    host.append(1)
    await collector.collect()
    assert collector.lines == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "tool",
    [
        "gzip",
        *(pytest.param(tool, marks=pytest.mark.needs(tool)) for tool in ("xz", "zstd", "bzip2")),
    ],
)
async def test_a_rotated_file_is_finished_first_whatever_packed_it(collector, host, tool):
    host.append(50)
    await collector.collect()
    host.append(50)
    host.rotate()
    host.append(3)
    subprocess.run([tool, "-q", "-f", *(["--rm"] if tool == "zstd" else []), f"{host.path}.1"], check=True)
    outcome = await collector.collect()
    assert (outcome.happened, outcome.gaps) == ("rotated", ())
    assert collector.lines == list(range(1, 104))
    assert collector.text.splitlines()[-1].startswith(b"Sat Nov 21 L103 ")


async def test_a_dated_name_and_a_name_of_its_own_are_found(collector, host):
    host.append(5)
    await collector.collect()
    host.append(5)
    host.path.rename(f"{host.path}-20261121")
    host.create()
    host.append(5)
    assert (await collector.collect()).happened == "rotated"
    host.append(5)
    host.path.rename(host.path.with_name("put-aside"))  # no name of a rotation: found by its inode
    host.create()
    host.append(5)
    assert (await collector.collect()).happened == "rotated"
    assert collector.lines == list(range(1, 26))


async def test_a_log_that_a_link_points_to_is_followed_to_the_next_day(collector, host):
    days = [host.path.with_name(f"access.2026112{day}") for day in (1, 2)]
    host.path.rename(days[0])
    host.path.symlink_to(days[0])
    host.append(5)
    await collector.collect()
    host.append(5)
    host.path.unlink()
    days[1].touch()
    host.path.symlink_to(days[1])
    host.append(5)
    assert (await collector.collect()).happened == "rotated"
    assert collector.lines == list(range(1, 16))


async def test_what_went_away_unread_is_a_gap_with_the_bytes_that_were_seen(collector, host):
    collector.limits = SMALL
    host.append(200)
    seen = (await collector.collect()).backlog_bytes
    host.truncate()
    host.append(1)
    outcome = await collector.collect()
    assert outcome.happened == "truncated"
    assert outcome.lost_bytes >= seen > 0
    assert outcome.gaps[0].path == str(host.path)
    assert headers(collector.store.raw())[-1]["gaps"][0]["lost_bytes"] == outcome.lost_bytes
    assert (await collector.collect()).gaps == ()  # told once


async def test_a_longer_log_in_its_place_is_read_from_its_beginning(collector, host):
    host.append(5)
    await collector.collect()
    host.replace(50)
    outcome = await collector.collect()
    assert (outcome.happened, len(outcome.gaps), outcome.lost_bytes) == ("replaced", 1, 0)
    assert collector.lines == list(range(1, 56))


async def test_a_missing_log_is_an_outcome_and_leaves_no_object(collector, host):
    host.delete(host.path)
    outcome = await collector.collect()
    assert (outcome.happened, outcome.key) == ("missing", "")
    assert collector.store.raw() == []


async def test_a_directory_a_pipe_and_a_loop_of_links_are_unreadable_and_never_waited_for(collector, host):
    host.path.unlink()
    host.path.mkdir()
    assert (await collector.collect()).happened == "unreadable"
    host.path.rmdir()
    os.mkfifo(host.path)
    outcome = await collector.collect()
    assert (outcome.happened, "no regular file" in outcome.detail) == ("unreadable", True)
    host.path.unlink()
    host.path.symlink_to(host.path)
    outcome = await collector.collect()
    assert (outcome.happened, "symbolic links" in outcome.detail) == ("unreadable", True)


async def test_a_file_that_we_may_not_read_waits_until_we_may(collector, host):
    host.append(5)
    await collector.collect()
    host.append(5)
    host.path.chmod(0)
    if os.geteuid() == 0:
        require("setpriv")  # root reads everything
        for directory in [host.path.parent, *list(host.path.parents)[:3]]:
            directory.chmod(directory.stat().st_mode | 0o755)
        collector.session = ShellSession(("setpriv", "--reuid=65534", "--clear-groups", "/bin/sh"))
    outcome = await collector.collect()
    assert (outcome.happened, "permission denied" in outcome.detail) == ("unreadable", True)
    host.path.chmod(0o644)
    assert (await collector.collect()).happened == "grown"
    assert collector.lines == list(range(1, 11))


async def test_a_damaged_packed_file_is_a_gap_and_the_log_goes_on(collector, host):
    host.append(5)
    await collector.collect()
    host.append(5)
    host.rotate()
    host.append(1)
    host.compress(Path(f"{host.path}.1"))
    packed = Path(f"{host.path}.1.gz")
    packed.write_bytes(packed.read_bytes()[:-30])
    outcome = await collector.collect()
    assert any("cannot be unpacked" in gap.why for gap in outcome.gaps)
    assert collector.lines == [1, 2, 3, 4, 5, 11]
    assert (await collector.collect()).gaps == ()


async def test_a_compressor_at_work_has_two_files_and_one_is_read(collector, host):
    host.append(5)
    await collector.collect()
    host.rotate()
    host.append(5)
    host.rotate()
    for end in (20, None):  # half done, and done but for the removal of the other
        Path(f"{host.path}.1.gz").write_bytes(gzip.compress(Path(f"{host.path}.1").read_bytes())[:end])
        assert (await collector.collect()).gaps == ()
    assert collector.lines == list(range(1, 11))


async def test_a_packed_twin_of_what_was_never_read_is_not_read_beside_it(collector, host):
    await collector.collect()
    host.append(5)
    host.rotate()
    Path(f"{host.path}.1.gz").write_bytes(gzip.compress(Path(f"{host.path}.1").read_bytes()))
    host.append(5)
    host.rotate()
    Path(f"{host.path}.1.gz").write_bytes(gzip.compress(Path(f"{host.path}.1").read_bytes()))
    await collector.collect()
    assert collector.lines == list(range(1, 11))


async def test_what_is_younger_waits_for_an_older_file_that_cannot_be_read_yet(collector, host):
    host.append(5)
    await collector.collect()
    host.append(5)
    host.rotate()
    host.append(5)

    class Denied(ShellSession):
        async def run(self, script: str, *args: str, stdin: bytes = b"", limit_bytes: int = 2**18) -> Said:
            if script == logfiles.LOOK_SCRIPT and args[0].endswith(".1"):
                return Said(45, b"")
            return await super().run(script, *args, limit_bytes=limit_bytes)

    collector.session = Denied()
    outcome = await collector.collect()
    assert (outcome.happened, "access.log.1: permission denied" in outcome.detail) == ("unreadable", True)
    assert collector.lines == list(range(1, 6))
    collector.session = ShellSession()
    assert (await collector.collect()).gaps == ()
    assert collector.lines == list(range(1, 16))


async def test_a_log_that_begins_like_the_one_it_replaced_is_told_by_what_stood_before_the_cursor(collector, host):
    banner = b"welcome to this server\n" * 100
    host.path.write_bytes(banner)
    host.append(50)
    await collector.collect()
    host.path.write_bytes(banner)  # the same inode, the same head, in the end longer
    host.append(100)
    outcome = await collector.collect()
    assert outcome.happened == "truncated"
    assert collector.lines == list(range(1, 151))


async def test_the_hole_that_a_writer_leaves_after_copytruncate_is_passed_over(collector, host):
    host.append(50)
    await collector.collect()
    host.append(10)
    position = host.path.stat().st_size
    host.copytruncate()
    with host.path.open("r+b") as log:  # a server whose log was opened by `>`: it goes on at its old place
        log.seek(position)
        log.write(b"Sat Nov 21 L61 x E61\n")
    await collector.collect()
    assert collector.lines == list(range(1, 62))
    assert b"\0" not in collector.text


async def test_a_line_without_an_end_is_shipped_in_pieces_and_the_next_line_is_whole(collector, host):
    collector.limits = SMALL
    host.append(1)
    with host.path.open("ab") as log:
        log.write(b"y" * 10_000)
    for _ in range(4):
        await collector.collect()
    with host.path.open("ab") as log:
        log.write(b"y" * 500 + b"\n")
    host.append(1)
    await collector.collect()
    host.append(1)
    await collector.collect()
    assert collector.lines == [1, 2, 3]
    assert collector.text.count(b"y") == 10_500
    pieces = [piece for header in headers(collector.store.raw()) for piece in header["pieces"]]
    oversized = [piece for piece in pieces if piece.get("oversized")]
    assert sum(piece["end"] - piece["start"] for piece in oversized) == 10_501
    assert [p["end"] for p in pieces[:-1]] == [p["start"] for p in pieces[1:]]  # no byte missing, none twice


async def test_a_torn_last_line_of_a_rotated_file_does_not_spoil_the_next(collector, host):
    await collector.collect()
    host.append(1)
    host.append_partly()
    host.rotate()
    host.append(1)
    await collector.collect()
    await collector.collect()  # it may have been written on until now
    assert collector.lines == [1, 3]
    pieces = [piece for header in headers(collector.store.raw()) for piece in header["pieces"]]
    assert [piece.get("unterminated", False) for piece in pieces] == [False, False, True]


async def test_a_burst_is_taken_in_portions_and_the_backlog_is_shown(collector, host):
    collector.limits = SMALL
    host.append(300)
    size = host.path.stat().st_size
    backlogs = [(await collector.collect()).backlog_bytes for _ in range(-(-size // 3900) + 1)]
    assert backlogs[0] == size - SMALL.run_bytes
    assert backlogs == sorted(backlogs, reverse=True)
    assert backlogs[-1] == 0
    assert collector.text == host.path.read_bytes()


async def test_killed_before_or_after_the_object_the_cursor_is_right(collector, host):
    for die_at in ("create", "put"):
        host.append(5)
        collector.store.die_at = die_at
        with pytest.raises(Killed):
            await collector.collect()
        collector.store.die_at = None
        host.append(5)
        await collector.collect()
        await collector.collect()
    assert collector.lines == list(range(1, 21))


@pytest.mark.parametrize("cursor", [None, b"", b"{}", b"[1]", b"\xff"])
async def test_the_cursor_is_made_again_from_the_raw_objects(collector, host, cursor):
    host.append(5)
    await collector.collect()
    if cursor is None:
        del collector.store.objects[cursor_key()]
    else:
        collector.store.objects[cursor_key()] = cursor
    host.append(5)
    await collector.collect()
    assert collector.lines == list(range(1, 11))


async def test_the_cursor_outlives_the_raw_objects(collector, host):
    host.append(5)
    await collector.collect()
    collector.store.objects = {cursor_key(): collector.store.objects[cursor_key()]}
    host.append(5)
    await collector.collect()
    assert collector.lines == list(range(6, 11))


async def test_a_window_that_has_an_object_is_never_collected_again(collector, host):
    host.append(5)
    await collector.collect(START)
    before = dict(collector.store.objects)
    host.append(5)
    again = await collector.collect(START)
    assert (again.happened, again.new_bytes) == ("adopted", collector.outcomes[0].new_bytes)
    assert (await collector.collect(START.shifted(-1))).happened == "late"
    assert collector.store.objects == before


async def test_the_loser_of_a_race_takes_over_what_the_winner_brought(collector, host):
    host.append(5)
    twin = Collector(host, store=collector.store)

    class Slow(ShellSession):
        async def run(self, script: str, *args: str, stdin: bytes = b"", limit_bytes: int = 2**18) -> Said:
            if script == logfiles.FETCH_SCRIPT and not twin.outcomes:
                await twin.collect()
                host.append(5)
            return await super().run(script, *args, limit_bytes=limit_bytes)

    collector.session = Slow()
    assert (await collector.collect()).happened == "adopted"
    await collector.collect()
    assert collector.lines == list(range(1, 11))


async def test_a_log_overwritten_while_it_is_read_is_cut_where_it_was_whole(collector, host):
    collector.limits = SMALL
    host.append(60)
    first = host.path.read_bytes()

    class Meanwhile(ShellSession):
        fetches = 0

        async def run(self, script: str, *args: str, stdin: bytes = b"", limit_bytes: int = 2**18) -> Said:
            self.fetches += script == logfiles.FETCH_SCRIPT
            if script == logfiles.FETCH_SCRIPT and self.fetches == 3:
                host.copytruncate()
                host.append(100)
            return await super().run(script, *args, limit_bytes=limit_bytes)

    collector.session = Meanwhile()
    for _ in range(6):
        await collector.collect()
    assert collector.text.startswith(first)
    assert collector.lines == sorted(host.written)


async def test_a_session_that_fails_leaves_everything_as_it_was(collector, host):
    host.append(5)

    class Broken(ShellSession):
        async def run(self, script: str, *args: str, stdin: bytes = b"", limit_bytes: int = 2**18) -> Said:
            if script == logfiles.FETCH_SCRIPT:
                raise ConnectionError("the host went away")
            return await super().run(script, *args, limit_bytes=limit_bytes)

    collector.session = Broken()
    with pytest.raises(ConnectionError):
        await collector.collect()
    assert collector.store.objects == {}


async def test_a_quiet_log_costs_one_command(collector, host):
    host.append(5)
    await collector.collect()
    collector.session.calls.clear()
    await collector.collect()
    assert collector.session.calls == [logfiles.LIST_SCRIPT]


async def test_names_with_blanks_and_quotes_are_only_names(tmp_path):
    directory = tmp_path / "it's a $(touch pwned) place; -n"
    directory.mkdir()
    host = LogHost(directory, random.Random(1), gzip_command=True)
    collector = Collector(host)
    host.append(5)
    await collector.collect()
    host.rotate()
    host.append(5)
    (directory / "access.log.1\nlog|1|2|3").touch()
    await collector.collect()
    assert collector.lines == list(range(1, 11))
    assert not list(tmp_path.rglob("pwned"))


async def test_both_ways_to_answer_agree(host):
    """The played session stands for the shell in the thousand schedules, so it has to say what the shell says."""
    host.append(70)
    host.rotate()
    host.append(80)
    host.rotate()
    host.compress(Path(f"{host.path}.2"))
    host.append(5)
    shell, played = ShellSession(), PlayedSession()
    listed = [await logfiles.list_files(session, str(host.path)) for session in (shell, played)]
    assert {(f.path, f.size, f.mtime, f.suffix, f.current, f.unpacker) for f in listed[0].files} == {
        (f.path, f.size, f.mtime, f.suffix, f.current, f.unpacker) for f in listed[1].files
    }
    assert len(listed[0].files) == 3
    for file in listed[0].files:
        for offset in (0, 1, 511, 1024, 1500, 2000):
            assert await logfiles.look_at(shell, file, offset) == await logfiles.look_at(played, file, offset)
            assert await logfiles.fetch(shell, file, offset, 700) == await logfiles.fetch(played, file, offset, 700)


def test_limits_under_which_a_log_would_stand_still_are_refused():
    with pytest.raises(ConfigError, match="allow more"):
        CollectLimits(run_bytes=1000, line_bytes=1000)


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
