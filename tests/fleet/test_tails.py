"""Tails: the scripts under every shell that is here, and the cutters of what they say."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pingmesh_tasks.fleet.connect import HostFault
from pingmesh_tasks.fleet.tails import (
    LOG_SCRIPT,
    LOG_STEP_BYTES,
    MAX_LINE_BYTES,
    SEGMENT_SCRIPT,
    SEGMENT_STEP_BYTES,
    LogTail,
    News,
    SegmentTail,
    ask,
)
from pingmesh_tasks.latency.segment import decode_segment, verify_segment
from tests.support.segments import START_US, TABLE, WINDOW_ID, chunk

SHELLS = [["dash"], ["bash", "--posix"], pytest.param(["busybox", "sh"], marks=pytest.mark.needs("busybox"))]
ROWS = [(offset * 1000, offset % 3, 100 + offset, 40_000 + offset, 0, 0) for offset in range(6)]


class Talk:
    """A conversation with a script on this machine, as over SSH."""

    def __init__(self, shell: list[str], script: str, *args: str, path: str) -> None:
        command = [*shell, "-c", script, "sh", *args]
        environment = {"PATH": path, "HOME": "/nonexistent"}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)

    async def ask(self, line: str) -> None:
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    async def line(self) -> bytes:
        return self.process.stdout.readline()[:-1]

    async def exactly(self, size: int) -> bytes:
        return self.process.stdout.read(size)

    def news(self, question: str, limit_bytes: int = SEGMENT_STEP_BYTES) -> News:
        return asyncio.run(ask(self, question, limit_bytes))

    def close(self) -> None:
        self.process.stdin.close()
        self.process.stdout.close()
        assert self.process.wait(timeout=10) == 0


class Said:
    """A conversation in which the host says what a test wants."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    async def ask(self, line: str) -> None: ...

    async def line(self) -> bytes:
        line, _, self.data = self.data.partition(b"\n")
        return line

    async def exactly(self, size: int) -> bytes:
        taken, self.data = self.data[:size], self.data[size:]
        return taken


@pytest.fixture(params=SHELLS, ids=["dash", "bash", "busybox"])
def shell(request: pytest.FixtureRequest) -> list[str]:
    return list(request.param)


@pytest.fixture
def tools(shell: list[str], tmp_path: Path) -> str:
    """The PATH of a host: under BusyBox every tool is BusyBox's."""
    if shell[0] != "busybox":
        return os.environ["PATH"]
    folder = tmp_path / "tools"
    folder.mkdir()
    for tool in ("stat", "dd", "date", "cat"):
        (folder / tool).symlink_to(shutil.which("busybox"))
    (folder / "busybox").symlink_to(shutil.which("busybox"))
    return str(folder)


class Log:
    """A log, and the conversation about it."""

    def __init__(self, shell: list[str], tools: str, path: Path) -> None:
        self._start = lambda *resume: Talk(shell, LOG_SCRIPT, str(path), *(resume or ("", "0")), path=tools)
        self.path, self.tail, self.talk = path, LogTail("access", "data1"), self._start()
        self.skipped = 0

    def write(self, text: str) -> None:
        with self.path.open("a") as file:
            file.write(text)

    def read(self, limit_bytes: int = LOG_STEP_BYTES) -> str:
        piece = self.tail.take(self.talk.news(str(limit_bytes), limit_bytes), 0)
        if piece:
            self.skipped += piece.skipped_bytes
        return piece.data.decode() if piece else ""

    def reconnect(self) -> None:
        self.talk.close()
        self.talk = self._start(*self.tail.resume())


@pytest.fixture
def log(shell: list[str], tools: str, tmp_path: Path) -> Iterator[Log]:
    path = tmp_path / "a log's name.log"
    path.write_text("old 1\nold 2\n")
    followed = Log(shell, tools, path)
    assert followed.read() == ""  # from now on
    yield followed
    followed.talk.close()


def test_a_log_is_followed_from_its_end_by_whole_lines(log: Log):
    log.write("new 1\nnew")
    assert log.read() == "new 1\n"
    assert log.read() == ""
    log.write(" 2\n")
    assert log.read() == "new 2\n"
    assert log.skipped == 0


def test_a_line_that_was_open_when_the_follower_came_is_not_its(shell: list[str], tools: str, tmp_path: Path):
    path = tmp_path / "log"
    path.write_text("old\nbegun befo")
    log = Log(shell, tools, path)
    log.read()
    log.write("re\nnew\n")
    assert log.read() == "new\n"
    log.talk.close()


def test_a_log_that_is_renamed_loses_nothing(log: Log):
    log.write("1\n")
    log.path.rename(log.path.with_suffix(".1"))
    with log.path.with_suffix(".1").open("a") as still_open:
        still_open.write("2\n")
    log.path.write_text("3\n")
    lines = [log.read() for _ in range(8)]
    with log.path.open("a") as file:
        file.write("4\n")
    assert "".join([*lines, log.read()]) == "1\n2\n3\n4\n"


def test_a_log_whose_writer_never_lets_go_of_the_old_file_is_left_for_the_new_one(log: Log):
    rotated = log.path.with_suffix(".1")
    log.path.rename(rotated)
    log.path.write_text("in the new\n")
    got = []
    for number in range(20):
        with rotated.open("a") as file:
            file.write(f"{number}\n")
        got.append(log.read())
    assert "in the new\n" in got


def test_a_log_that_is_copied_and_truncated_is_read_from_its_beginning(log: Log):
    log.write("1\n")
    assert log.read() == "1\n"
    first = log.tail.file
    os.truncate(log.path, 0)
    log.write("2\n")
    assert log.read() == "2\n"
    assert log.tail.file != first, "or the same offsets would look like the same lines"


def test_a_log_that_appears_later_is_new_as_a_whole(shell: list[str], tools: str, tmp_path: Path):
    log = Log(shell, tools, tmp_path / "later.log")
    assert log.talk.news("100").file == ""
    log.write("1\n")
    assert log.read() == "1\n"
    log.path.unlink()
    assert [log.read() for _ in range(3)] == [""] * 3
    log.write("2\n")
    assert "".join(log.read() for _ in range(5)) == "2\n"
    log.talk.close()


def test_a_lost_connection_loses_no_line_of_a_file_that_is_still_there(log: Log):
    log.write("1\n2")
    assert log.read() == "1\n"
    log.write("\n3\n")
    log.reconnect()
    assert log.read() == "2\n3\n"
    os.truncate(log.path, 0)
    log.write("4\n")
    assert log.read() == "4\n"
    log.write("5\n")
    log.reconnect()
    assert log.read() == "5\n"


def test_a_burst_is_passed_over_and_counted(log: Log):
    lines = [f"line {number:05d}\n" for number in range(10_000)]
    log.write("".join(lines))
    got = log.read(limit_bytes=5_000)
    assert got.endswith(lines[-1]) and 4_900 < len(got) <= 5_000
    assert set(got.splitlines(keepends=True)) <= set(lines), "no half line"
    assert len(got) + log.skipped == sum(map(len, lines))


def test_a_line_without_an_end_is_held_up_to_a_limit_and_counted(log: Log):
    log.write("x" * (MAX_LINE_BYTES + 1))
    assert log.read() == ""
    log.write("y" * MAX_LINE_BYTES)
    assert log.read() == ""
    log.write("z\nnext\n")
    assert log.read() == "next\n"
    assert log.skipped == 2 * MAX_LINE_BYTES + 1 + len("z\n")


class Spool:
    """A host's spool, and the conversation about it."""

    def __init__(self, shell: list[str], tools: str, home: Path) -> None:
        self._start = lambda: Talk(shell, SEGMENT_SCRIPT, str(home), path=tools)
        self.folder, self.tail, self.talk = home / "spool", SegmentTail("db-1"), self._start()

    def part(self, window: str = WINDOW_ID) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / f"{window}.part"

    def write(self, data: bytes, window: str = WINDOW_ID) -> None:
        with self.part(window).open("ab") as file:
            file.write(data)

    def read(self) -> list[int]:
        """The numbers of the chunks that came; each piece is a whole segment with as many."""
        numbers: list[int] = []
        for piece, facts in self.tail.take(self.talk.news(self.tail.question()), 0):
            assert verify_segment(piece.data).chunks == len(facts)
            numbers += range(piece.offset, piece.offset + len(facts))
        return numbers

    def read_on(self, times: int) -> list[int]:
        return [number for _ in range(times) for number in self.read()]

    def reconnect(self) -> None:
        self.talk.close()
        self.talk = self._start()
        self.tail.reconnected()


@pytest.fixture
def spool(shell: list[str], tools: str, tmp_path: Path) -> Iterator[Spool]:
    followed = Spool(shell, tools, tmp_path / ".pingmesh")
    yield followed
    followed.talk.close()


def nth(number: int, window: str = WINDOW_ID, rows: list = ROWS, **changes: object) -> bytes:
    return chunk(rows, TABLE if number == 0 else None, number, window=window, **changes)


def test_a_follower_begins_with_the_newest_chunk_and_misses_none_after_it(spool: Spool):
    spool.write(nth(0) + nth(1) + nth(2))
    assert spool.read() == [2]
    spool.write(nth(3) + nth(4)[:50])
    assert spool.read() == [3]
    spool.write(nth(4)[50:])
    assert spool.read() == [4]
    assert spool.read() == []


def test_a_piece_explains_itself_and_counts_each_probe_once(spool: Spool):
    spool.write(nth(0) + nth(1))
    spool.talk.news("1000")
    spool.reconnect()
    found = [piece for piece, _ in spool.tail.take(spool.talk.news(spool.tail.question()), 7)]
    (piece,) = found
    probes = decode_segment(piece.data)
    assert piece.identity == ("probe", "db-1", WINDOW_ID, 1) and piece.read_at_us == 7
    assert probes["dst"].to_list() == [TABLE[target][0] for _, target, *_ in ROWS]
    assert probes["ts"].dt.epoch("us").to_list() == [START_US + 10_000_000 + offset for offset, *_ in ROWS]


def test_the_last_chunk_of_a_window_comes_after_its_file_was_renamed(spool: Spool):
    spool.write(nth(0))
    assert spool.read() == [0]
    spool.write(nth(1))
    spool.part().rename(spool.part().with_suffix(".pms"))
    after = "20261121T221000Z"
    spool.write(nth(0, after), after)
    spool.write(nth(1, after), after)
    assert [spool.read() for _ in range(3)] == [[1], [0, 1], []]


def test_a_window_that_closes_late_is_read_to_its_end_before_the_next(spool: Spool):
    spool.write(nth(0))
    assert spool.read() == [0]
    after = "20261121T221000Z"
    spool.write(nth(0, after), after)
    assert spool.read() == []
    spool.write(nth(1))
    spool.part().rename(spool.part().with_suffix(".pms"))
    assert spool.read() == [1]
    assert spool.read() == [0]


def test_an_agent_that_is_started_again_cuts_off_half_a_chunk_and_goes_on(spool: Spool):
    spool.write(nth(0) + nth(1)[:80])
    assert spool.read() == [0]
    os.truncate(spool.part(), len(nth(0)))
    spool.write(nth(1, rows=ROWS[:1])[:70])
    assert spool.read() == []
    os.truncate(spool.part(), len(nth(0)))
    spool.write(nth(1) + nth(2))  # longer than what was read: only the checksum tells
    assert spool.read_on(3) == [1, 2]


def test_a_lost_connection_loses_no_chunk_of_the_window_and_doubles_none(spool: Spool):
    spool.write(nth(0))
    assert spool.read() == [0]
    spool.write(nth(1) + nth(2) + nth(3)[:9])
    spool.reconnect()
    assert spool.read() == [1, 2]
    spool.write(nth(3)[9:])
    assert spool.read() == [3]


def test_no_spool_is_no_file(spool: Spool):
    news = spool.talk.news("1000")
    assert (news.file, news.data) == ("", b"")
    assert spool.read() == []
    spool.write(nth(0))
    assert spool.read() == [0]


@pytest.mark.parametrize("garbage", [b"\0" * 100, b"PMS1" + b"\xff" * 100, nth(1)[:-1] + b"?", random.randbytes(5000)])
def test_garbage_ends_the_reading_of_a_segment_but_not_of_the_next(spool: Spool, garbage: bytes):
    spool.write(nth(0))
    assert spool.read() == [0]
    spool.write(garbage + nth(2))
    assert spool.read_on(5) == []
    assert "damaged" in spool.tail.damage
    spool.part().rename(spool.part().with_suffix(".pms"))
    after = "20261121T221000Z"
    spool.write(nth(0, after), after)
    assert spool.read_on(5) == [0]


def test_a_segment_larger_than_a_step_is_taken_in_steps(spool: Spool):
    many = [(offset, offset % 3, random.randrange(1 << 30), offset % 60_000, 0, 0) for offset in range(40_000)]
    spool.write(nth(0, rows=many) + nth(1, rows=many) + nth(2))
    assert spool.part().stat().st_size > 2 * SEGMENT_STEP_BYTES
    assert spool.read_on(5) == [2]


def test_the_facts_of_a_chunk_name_who_failed(tmp_path: Path):
    tail = SegmentTail("db-1")
    rows = [(0, 0, 10, 1, 0, 0), (1, 1, 0, 1, 1, 0), (2, 2, 0, 1, 2, 0), (3, 2, 0, 1, 1, 0)]
    data = nth(0, rows=rows, lost=2, errors={"1": 2, "2": 1})
    ((_, (facts,)),) = tail.take(News(WINDOW_ID, 0, len(data), data), 0)
    assert (facts.rows, facts.failed, dict(facts.failing)) == (4, 3, {"db-2": 1, "db-3": 2})
    assert facts.end_us == START_US + 10_000_000


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"garbage\n",
        b"a 1 2\n",
        b"a 0 9999999999999999999999 1\nx\n",
        b"a 0 5 -5\n",
        b"../x 0 1 1\nx\n",
        b"a 0 300000 300000\n" + b"x" * 300_001,
        b"a 0 5 3\nabcde\n",
    ],
)
def test_an_answer_that_is_none_is_the_hosts_fault(said: bytes):
    with pytest.raises(HostFault):
        asyncio.run(ask(Said(said), "1", SEGMENT_STEP_BYTES))


@pytest.mark.parametrize("seed", range(30))
def test_a_cutter_takes_any_bytes_in_any_portions(seed: int):
    chance = random.Random(seed)
    whole = b"".join(nth(number) for number in range(6))
    if seed % 2:
        at = chance.randrange(len(whole))
        whole = whole[:at] + chance.randbytes(chance.randrange(1, 20)) + whole[at + 5 :]
    tail, at, handed = SegmentTail("db-1"), 0, []
    for _ in range(60):
        if tail.question().endswith("again"):
            at = 0
        data = whole[at : at + chance.randrange(1, 900)]
        for piece, _ in tail.take(News(WINDOW_ID, at, len(whole), data), 0):
            handed += range(piece.offset, piece.offset + verify_segment(piece.data).chunks)
        at += len(data)
    assert handed == sorted(set(handed))
    assert seed % 2 or handed == [5]
