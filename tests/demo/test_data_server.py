"""The made-up access log, held against real ones: its format, its behaviour, and the truth it tells about itself.

LINE and friends are the independent reference: written from the format strings of `mdsip` and of our hook library, and
tried on logs of real servers below.
"""

from __future__ import annotations

import gzip
import os
import random
import re
import signal
import time
from collections import Counter, defaultdict
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from pingmesh_tasks.demo import data_server
from pingmesh_tasks.demo.data_server import (
    BENCHMARK,
    COUNTRIES,
    HEADLINE,
    DataServer,
    Hammer,
    Profile,
    RotatingLog,
    Rotation,
    generate,
    play,
)
from pingmesh_tasks.demo.population import TREES
from pingmesh_tasks.errors import ConfigError
from tests.support.samples import log_sample

_DAYS, _MONTHS = b"Mon|Tue|Wed|Thu|Fri|Sat|Sun", b"Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
DATE = rb"(?:%s) (?:%s) (?: \d|\d\d) \d\d:\d\d:\d\d \d{4}" % (_DAYS, _MONTHS)
CLIENT = re.compile(
    rb"(%s) \((\d+)\) \(pid (\d+)\) Connection (received|disconnected) from (.*)@([^@ \n]*) \[([0-9a-f.:]*)\]\r\n"
    % DATE
)
HOOK = re.compile(
    rb"(%s) \(pid (\d+)\) ([A-Za-z]+) called for tree=([A-Z0-9_]+), shot=(-?\d+), node=(N/A|\\[!-~]+)(\r?)\n" % DATE
)
MODES = pytest.mark.parametrize("mode", ["multi", "inetd"])


def date_is_real(text: bytes) -> bool:
    try:
        return datetime.strptime(text.decode(), "%a %b %d %H:%M:%S %Y").ctime().encode() == text  # noqa: DTZ007
    except ValueError:
        return False


def counted(log: bytes) -> Counter[str]:
    """The reference: the kind of every line."""
    found: Counter[str] = Counter()
    for line in re.findall(rb"[^\n]*\n", log):
        if (client := CLIENT.fullmatch(line)) and date_is_real(client[1]):
            found[client[4].decode()] += 1
        elif (hook := HOOK.fullmatch(line)) and date_is_real(hook[1]):
            found[hook[3].decode()] += 1
        else:
            found["rejected"] += 1
    return found


def hooks_by_pid(log: bytes) -> dict[bytes, list[tuple[str, str, str]]]:
    """Return (hook type, tree, node) of each process."""
    found = defaultdict(list)
    for hook in HOOK.finditer(log):
        found[hook[2]].append((hook[3].decode(), hook[4].decode(), hook[6].decode()))
    return found


# --- the format


@pytest.mark.parametrize("sample", ["access-multi.log", "access-inetd-200x20.log", "access-server-mode.log"])
def test_the_reference_reads_logs_of_real_servers(sample):
    data = log_sample(sample).read_bytes()
    found = counted(data)
    assert found.total() == data.count(b"\n")
    assert found["rejected"] == data.count(b"this is not yet supported\n")


@MODES
def test_every_line_is_what_the_server_would_have_printed(mode):
    log = b"".join(generate(20_000, profile=Profile(mode=mode, garbage=0.0, forged=0.01)))
    for line in re.findall(rb"[^\n]*\n", log):
        if client := CLIENT.fullmatch(line):
            date, socket, pid, *rest = client.groups()
            printed = b"%s (%d) (pid %d) Connection %s from %s@%s [%s]\r\n" % (date, int(socket), int(pid), *rest)
        else:
            hook = HOOK.fullmatch(line)
            assert hook, line
            date, pid, name, tree, shot, node, cr = hook.groups()
            assert not cr
            fields = (date, int(pid), name, tree, int(shot), node)
            printed = b"%s (pid %d) %s called for tree=%s, shot=%d, node=%s\n" % fields
        assert printed == line
        assert date_is_real(date)


@MODES
@pytest.mark.parametrize("garbage", [0.0, 0.2])
def test_the_truth_is_what_a_reader_finds(mode, garbage):
    log = generate(30_000, seed=3, profile=Profile(mode=mode, garbage=garbage, crlf=0.1, forged=0.01))
    found = counted(b"".join(log))
    truth = log.truth
    assert found.total() == truth.lines == 30_000
    assert found["received"] == truth.client_on
    assert found["disconnected"] == truth.client_off
    assert found["rejected"] == truth.rejected.total() == pytest.approx(30_000 * garbage, rel=0.1)
    assert {kind: n for kind, n in found.items() if kind[0].isupper()} == truth.operations
    assert len(truth.rejected) == (8 if garbage else 0)


def test_times_are_those_of_the_declared_zone():
    start_s = 1_793_494_000.0  # summer time ends in Berlin within the next hour
    log = b"".join(
        generate(5_000, profile=Profile(start_s=start_s, timezone="Europe/Berlin", garbage=0, lines_per_s=1))
    )
    first, last = (datetime.strptime(HOOK.findall(log)[i][0].decode(), "%c") for i in (0, -1))  # noqa: DTZ007
    berlin = datetime.fromtimestamp(start_s, ZoneInfo("Europe/Berlin")).replace(tzinfo=None)
    assert 0 <= (first - berlin).total_seconds() < 600
    assert last > first
    assert b" 02:" in log[: len(log) // 2] or b" 02:" in log


# --- who comes and what they do


def test_one_process_serves_all_and_no_two_clients_have_a_socket_at_once():
    log = b"".join(generate(30_000, profile=Profile(late=0.0, forged=0.0, refused=0.0, abandoned=0.0)))
    open_sockets: dict[bytes, bytes] = {}
    pids = set()
    for client in CLIENT.finditer(log):
        pids.add(client[3])
        if client[4] == b"received":
            assert client[2] not in open_sockets
            open_sockets[client[2]] = client[5]
        else:
            assert open_sockets.pop(client[2]) == client[5]
    assert len(pids) == 1
    assert min(map(int, open_sockets)) >= 4


def test_one_process_a_client_has_no_disconnect_line_and_its_pid_wraps_around():
    profile = Profile(mode="inetd", operations=2, more_operations=0, lines_per_s=1_000, garbage=0.0, forged=0.0)
    log = b"".join(generate(20_000, seed=9, profile=profile))
    pids = [int(client[3]) for client in CLIENT.finditer(log)]
    assert {client[2] for client in CLIENT.finditer(log)} == {b"0"}
    assert b"disconnected" not in log
    falls = [(a, b) for a, b in pairwise(pids) if b < a - 30_000]
    assert falls
    assert all(a > 32_000 and 300 <= b < 310 for a, b in falls)


def test_a_tree_opens_and_closes_with_its_subtrees_and_data_are_read_after_their_nci():
    log = b"".join(generate(20_000, profile=Profile(mode="inetd", garbage=0.0)))
    families = {family[0]: list(family) for family in TREES.values()}
    complete = 0
    for calls in hooks_by_pid(log).values():
        for i, (hook, tree, node) in enumerate(calls):
            if hook in ("OpenTree", "CloseTree"):
                assert node == "N/A"
                if tree in families and i + len(families[tree]) <= len(calls):
                    assert [call[:2] for call in calls[i : i + len(families[tree])]] == [
                        (hook, name) for name in families[tree]
                    ]
                    complete += 1
            elif hook == "GetData":
                assert calls[i - 1] == ("GetNci", tree, node)
            if node != "N/A":
                assert node.startswith(f"\\{tree}::")
    assert complete > 500


def test_each_user_of_the_headline_case_comes_once_with_twenty_operations():
    log = generate(users=1_000, profile=replace(HEADLINE, mode="inetd", garbage=0.0))
    data = b"".join(log)
    users = Counter(client[5] for client in CLIENT.finditer(data))
    assert len(users) == 1_000 == users.total() == log.truth.client_on
    assert 28_000 <= log.truth.lines <= 36_000


def test_the_benchmark_has_the_shares_that_it_promises():
    log = generate(200_000, profile=BENCHMARK)
    data = b"".join(log)
    truth = log.truth
    assert (truth.client_on + truth.client_off) / truth.lines == pytest.approx(0.08, abs=0.006)
    assert truth.operations.total() / truth.lines == pytest.approx(0.91, abs=0.006)
    assert truth.rejected.total() / truth.lines == pytest.approx(0.01, abs=0.002)
    assert data.count(b"\r\n") / truth.lines == pytest.approx(0.10, abs=0.006)
    assert 100 < len(data) / truth.lines < 112


def test_few_users_nodes_and_shots_are_most_wanted():
    log = b"".join(generate(100_000))
    nodes = Counter(hook[6] for hook in HOOK.finditer(log) if hook[3] == b"GetData").most_common()
    users = Counter(client[5] for client in CLIENT.finditer(log) if client[4] == b"received").most_common()
    for found, at_least in ((nodes, 0.3), (users, 0.3)):
        top = sum(count for _, count in found[: len(found) // 10])
        assert top > at_least * sum(count for _, count in found)


def test_readers_gather_after_a_shot():
    server = DataServer(Profile(swing=0.0, start_s=1_795_298_400.0), 1)
    per_minute = [server.advance(server.now_s + 60).access.count(b"Connection received") for _ in range(20)]
    assert min(per_minute[0], per_minute[10]) > 1.5 * max(*per_minute[5:10], *per_minute[15:])


def test_who_comes_follows_the_day():
    def american(start_s: float) -> float:
        peers = [client[7] for client in CLIENT.finditer(b"".join(generate(30_000, profile=Profile(start_s=start_s))))]
        return sum(peer.startswith((b"198.18.3", b"198.18.4")) for peer in peers) / len(peers)

    midnight_utc = 1_795_305_600.0
    assert american(midnight_utc + 21 * 3600) > 2 * american(midnight_utc + 9 * 3600)


def test_a_hammer_reads_one_node_from_its_minute_on():
    hammer = Hammer("mallory", after_s=60.0, per_s=25.0)
    server = DataServer(Profile(mode="inetd", hammer=hammer, lines_per_s=50.0), 1)
    quiet, loud = (server.advance(server.now_s + 60) for _ in range(2))
    pids = {client[3] for client in CLIENT.finditer(loud.access) if client[5] == b"mallory"}
    reads = Counter(hook[6] for hook in HOOK.finditer(loud.access) if hook[2] in pids and hook[3] == b"GetData")
    assert b"from mallory@" not in quiet.access
    assert len(reads) == 1
    assert reads.total() == pytest.approx(60 * 25, rel=0.05)


def reads_by_second(server: DataServer, seconds: int) -> list[int]:
    """How often mallory reads, second by second."""
    pids: set[bytes] = set()
    counts = []
    for _ in range(seconds):
        text = server.advance(server.now_s + 1).access
        pids |= {client[3] for client in CLIENT.finditer(text) if client[5] == b"mallory"}
        counts.append(sum(hook[2] in pids and hook[3] == b"GetData" for hook in HOOK.finditer(text)))
    return counts


def test_a_hammer_ends_and_comes_again():
    hammer = Hammer("mallory", after_s=20.0, per_s=20.0, for_s=30.0, every_s=60.0)
    counts = reads_by_second(DataServer(Profile(mode="inetd", hammer=hammer, lines_per_s=50.0), 1), 120)
    loud = [second for second, count in enumerate(counts) if count]
    assert [second // 20 for second in (loud[0], loud[-1])] == [1, 5]
    assert all(20 <= second < 53 or 80 <= second < 113 for second in loud)
    assert len(loud) >= 56


def test_a_hammer_that_is_told_in_the_midst_begins_at_once_and_ends_in_time():
    server = DataServer(Profile(mode="inetd", lines_per_s=50.0), 1)
    assert sum(reads_by_second(server, 5)) == 0
    server.hammer(Hammer("mallory", per_s=20.0, for_s=10.0))
    counts = reads_by_second(server, 20)
    assert min(counts[:9]) > 10
    assert sum(counts[13:]) == 0


def test_every_laboratory_that_has_a_country_has_users():
    log = b"".join(generate(50_000))
    addresses = {client[7].decode() for client in CLIENT.finditer(log)}
    for network in COUNTRIES:
        prefix = network.rpartition(".")[0].rpartition(".")[0]
        assert any(address.startswith(prefix) for address in addresses)


@MODES
def test_stderr_tells_who_came_and_who_was_refused(mode):
    log = generate(20_000, profile=Profile(mode=mode, refused=0.05, forged=0.0))
    errors = b"".join(block.errors for block in log.blocks())
    truth = log.truth
    assert len(re.findall(rb"^Connected: ", errors, re.MULTILINE)) == truth.errors["connected"]
    assert len(re.findall(rb"^Access denied: ", errors, re.MULTILINE)) == truth.errors["denied"] > 0
    assert truth.errors["dispatched"] == (truth.errors["connected"] if mode == "multi" else 0)
    assert len(re.findall(rb"^\nGetMdsMsg shutdown connection -1: bad msg header, ", errors, re.MULTILINE)) > 0
    assert b"\r" not in errors


# --- how it is made


def test_a_seed_makes_one_log():
    assert b"".join(generate(5_000, seed=4)) == b"".join(generate(5_000, seed=4))
    assert b"".join(generate(5_000, seed=4)) != b"".join(generate(5_000, seed=5))


def test_a_shorter_log_is_the_beginning_of_a_longer():
    assert b"".join(generate(30_000)).startswith(b"".join(generate(7_000)))


@pytest.mark.parametrize("rate", [40.0, 150.0])
def test_the_rate_is_kept_from_the_start(rate):
    server = DataServer(Profile(lines_per_s=rate, swing=0.0, reconnect_s=2.0), 1)
    for _ in range(120):
        server.advance(server.now_s + 10)
    assert server.truth.lines / 1_200 == pytest.approx(rate, rel=0.12)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"mode": "server"}, "write multi or inetd"),
        ({"garbage": 1.0}, "is no share"),
        ({"lines_per_s": 0.0}, "a rate and pauses above 0"),
        ({"operations": 1}, "two operations"),
    ],
)
def test_a_profile_that_cannot_be_played_is_refused(wrong, told):
    with pytest.raises(ConfigError, match=told):
        Profile(**wrong)


def test_a_zone_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match="no IANA time zone"):
        generate(profile=Profile(timezone="Asia/Shangai"))


# --- the files


@pytest.mark.parametrize("copytruncate", [False, True])
@pytest.mark.parametrize("compress", [False, True])
def test_rotation_loses_nothing(tmp_path, copytruncate, compress):
    rotation = Rotation(keep=50, copytruncate=copytruncate, compress=compress)
    log = RotatingLog(tmp_path / "logs" / "access.log", rotation)
    chance, written = random.Random(1), b""
    for _ in range(300):
        piece = chance.randbytes(chance.randrange(200))
        log.write(piece)
        written += piece
        if chance.random() < 0.1:
            log.rotate()
    log.close()
    files = sorted((tmp_path / "logs").iterdir(), key=lambda file: -int((re.findall(r"\d+", file.name) or ["0"])[0]))
    assert len(files) > 20
    assert {file.suffix for file in files[:-2]} == ({".gz"} if compress else {f".{n}" for n in range(2, len(files))})
    read = (gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes() for file in files)
    assert b"".join(read) == written


def test_old_files_go(tmp_path):
    log = RotatingLog(tmp_path / "access.log", Rotation(keep=2, compress=True))
    for _ in range(5):
        log.write(b"x")
        log.rotate()
    assert {file.name for file in tmp_path.iterdir()} == {"access.log", "access.log.1", "access.log.2.gz"}


def test_a_log_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "access.log").mkdir()
    with pytest.raises(ConfigError, match=r"access.log cannot be written \(Is a directory\)"):
        RotatingLog(tmp_path / "access.log", Rotation())


def test_the_held_back_end_of_a_line_is_written_before_the_program_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(data_server, "_PARTIAL_SHARE", 1.0)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)}
    log = RotatingLog(tmp_path / "access.log", Rotation(every_s=0))

    def end_once_it_writes(*_: object) -> None:
        if log.path.stat().st_size:
            os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGALRM, end_once_it_writes)
    signal.setitimer(signal.ITIMER_REAL, 0.5, 0.1)
    try:
        truth = play(Profile(lines_per_s=500.0, start_s=time.time(), reconnect_s=0.1), 1, log, None, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
    data = (tmp_path / "access.log").read_bytes()
    assert data.endswith(b"\n")
    assert data.count(b"\n") == truth.lines > 0
