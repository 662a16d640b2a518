"""The agent as a process: commands, lock, signals, every Python that a host may have."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.black_hole import black_hole
from tests.support.needs import OLD_PYTHONS, PYTHONS, find_python

pytestmark = pytest.mark.integration

AGENT = Path(__file__).parents[2] / "include" / "agent" / "pingmesh_agent" / "__main__.py"
CLOSED_PORT = [["b", "127.0.0.22", 1, "tcp", "intra_tor", 0]]


def call(
    *arguments: str | Path, python: str = sys.executable, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-I", "-S", str(AGENT), *map(str, arguments)],
        capture_output=True, text=True, timeout=30, check=False, env={**os.environ, **environment},
    )  # fmt: skip


def status(home: Path) -> dict[str, object]:
    done = call("status", "--home", home)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def before_the_chunk(seconds: float) -> dict[str, str]:
    """An environment whose clock is so many seconds before the third chunk of a window ends."""
    now_us = time.time_ns() // 1000
    wanted = now_us // 60_000_000 * 60_000_000 + 30_000_000 - round(seconds * 1e6)
    return {"PINGMESH_LAB_CLOCK_OFFSET_US": str(wanted - now_us)}


@pytest.fixture
def home(tmp_path):
    home = tmp_path / "home with 'a space"
    yield home
    call("stop", "--home", home)


@pytest.fixture
def start(home, pinglist, tell):
    def start(python: str = sys.executable, environment: dict[str, str] | None = None, **changes):
        tell(home, pinglist(**changes))
        return call(
            "run", "--home", home, "--detach", "--lab", python=python, **(environment or {})
        )

    return start


def is_running(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent has no command line."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for(condition, seconds: float = 10.0):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s")


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """A target that counts: each probe that it answered waits in its queue."""
    with socket.create_server(("127.0.0.22", 0), backlog=4096) as server:
        server.setblocking(False)
        yield server


def target_of(server: socket.socket) -> list[list[object]]:
    return [["b", *server.getsockname(), "tcp", "intra_tor", 0]]


def wait_for_probes(server: socket.socket, count: int) -> None:
    for _ in range(count):
        wait_for(lambda: accepted(server))


def accepted(server: socket.socket) -> bool:
    try:
        server.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def connecting(port: int) -> bool:
    """Whether a connect of the agent to `port` is under way."""
    sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    agent = f"{int.from_bytes(socket.inet_aton('127.0.0.21'), sys.byteorder):08X}:"
    return any(line[1].startswith(agent) and line[2].endswith(f":{port:04X}") for line in sockets)


@pytest.mark.parametrize(
    "version",
    [pytest.param(version, marks=pytest.mark.needs(f"python{version}")) for version in PYTHONS],
)
def test_it_runs_under_every_python_of_a_host(
    version, start, home, pinglist, free_port, records, server
):
    targets = [
        ["a", "127.0.0.21", free_port, protocol, "intra_tor", 64]
        for protocol in ("tcp", "tcp_echo", "udp")
    ]
    targets += target_of(server)
    started = start(find_python(version), targets=targets, interval_s=0.2)
    assert (started.returncode, started.stderr) == (0, "")
    assert json.loads(started.stdout)["python"].startswith(version + ".")
    wait_for_probes(server, 3)  # so that each of the others was probed twice
    assert call("stop", "--home", home, python=find_python(version)).returncode == 0
    headers, rows = records(home)
    assert len(rows) == sum(header["sent"] for header in headers)
    assert sum(header["scheduled"] for header in headers) >= 9
    assert {(row["protocol"], row["status"]) for row in rows} == {
        ("tcp", 0),
        ("tcp_echo", 0),
        ("udp", 0),
    }
    [segment, *_] = (home / "spool").iterdir()
    dumped = call("dump", segment, python=find_python(version))
    assert (dumped.returncode, dumped.stderr) == (0, "")
    assert {json.loads(line)["DstIP"] for line in dumped.stdout.splitlines()} == {
        "127.0.0.21",
        "127.0.0.22",
    }
    way = ("--target", "127.0.0.21", "--port", "1", "--source", "127.0.0.9", "--ports", "2")
    traced = call("trace", *way, python=find_python(version))
    assert (traced.returncode, traced.stderr) == (0, "")
    assert [path["hops"][0][3] for path in json.loads(traced.stdout)["paths"]] == ["refused"] * 2


def test_status_says_what_a_dispatcher_needs(start, home, free_port):
    assert status(home)["running"] is False
    started = json.loads(start().stdout)
    said = status(home)
    assert said["running"] is True
    assert said["pid"] == started["pid"]
    assert said["pinglist_version"] == "0123456789abcdef"
    assert len(said["agent_version"]) == 16
    assert abs(said["now_us"] / 1e6 - time.time()) < 5
    assert said["started_us"] <= said["now_us"]
    assert said["python"] == ".".join(map(str, sys.version_info[:3]))
    with socket.create_connection(("127.0.0.21", free_port), 1):
        pass
    assert call("stop", "--home", home).returncode == 0
    assert status(home)["running"] is False
    assert call("stop", "--home", home).returncode == 0


def test_the_version_is_the_hash_of_its_files_as_sha256sum_prints_them(start):
    def sha256sum(data: bytes) -> str:
        return (
            subprocess.run(["sha256sum"], input=data, capture_output=True, check=True)
            .stdout.decode()
            .split()[0]
        )

    listing = "".join(
        f"{sha256sum(file.read_bytes())}  {file.name}\n"
        for file in sorted(AGENT.parent.glob("*.py"))
    )
    assert json.loads(start().stdout)["agent_version"] == sha256sum(listing.encode())[:16]


def test_an_agent_imports_its_modules_from_their_bytecode(start):
    """To compile them would leave 3 MB behind in a process that lives for months."""
    pid = json.loads(start().stdout)["pid"]
    assert Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[1:4] == [b"-I", b"-S", b"-c"]
    cached = {file.name.split(".")[0] for file in (AGENT.parent / "__pycache__").glob("*.pyc")}
    assert cached >= {file.stem for file in AGENT.parent.glob("*.py")} - {"__main__"}


@pytest.mark.parametrize(
    "version",
    [pytest.param(version, marks=pytest.mark.needs(f"python{version}")) for version in OLD_PYTHONS],
)
def test_an_older_python_is_told_which_one_the_agent_needs(version, home):
    done = call("status", "--home", home, python=find_python(version))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("the agent needs Python 3.8 or later, this is " + version)
    assert len(done.stderr.splitlines()) == 1


def test_it_runs_at_nice_10_above_whoever_starts_it(start):
    pid = json.loads(start().stdout)["pid"]

    def nice() -> int:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[16])

    wait_for(lambda: nice() == min(19, os.nice(0) + 10))


def test_a_second_agent_for_one_home_leaves_with_3(start, home):
    first = json.loads(start().stdout)
    second = start()
    assert second.returncode == 3
    assert f"(pid {first['pid']}) already runs" in second.stderr
    assert status(home)["pid"] == first["pid"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"interval_s": 0}, "interval_s 0 is not"), ({"address": "nowhere"}, "is not an IP address")],
)
def test_a_start_that_fails_says_why_in_one_line(start, home, changes, reason):
    failed = start(**changes)
    assert failed.returncode == 1
    assert reason in failed.stderr
    assert len(failed.stderr.splitlines()) == 1
    assert status(home)["running"] is False


def test_a_start_without_a_list_says_which_file_is_missing(home):
    failed = call("run", "--home", home, "--detach")
    assert failed.returncode == 1
    assert "pinglist.json" in failed.stderr


def test_without_lab_a_pair_is_probed_every_10_s_at_most(home, pinglist, tell):
    tell(home, pinglist(interval_s=9))
    failed = call("run", "--home", home, "--detach")
    assert failed.returncode == 1
    assert "interval_s 9 is not 10.0" in failed.stderr


def test_all_it_writes_lies_in_its_home_and_is_private(start, home):
    start(environment=before_the_chunk(3), targets=CLOSED_PORT, interval_s=0.1)
    wait_for(lambda: list((home / "spool").glob("*.part")), 30)
    call("stop", "--home", home)
    made = {path.name for path in home.rglob("*") if path.is_file()} - {"pinglist.json"}
    assert {name for name in made if not name.endswith(".part")} == {
        "agent.json",
        "agent.lock",
        "agent.log",
    }
    for path in home.rglob("*"):
        if path.name != "pinglist.json":
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_kill_9_loses_one_chunk_at_most_and_the_next_start_goes_on(start, home, records, server):
    environment, settings = before_the_chunk(4), {"targets": target_of(server), "interval_s": 0.05}
    pid = json.loads(start(environment=environment, **settings).stdout)["pid"]
    wait_for(lambda: list((home / "spool").glob("*.part")), 30)
    while accepted(server):
        pass
    wait_for_probes(server, 1)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: status(home)["running"] is False)
    written = len(records(home)[1])
    assert written > 0
    while accepted(server):
        pass
    assert start(environment=environment, **settings).returncode == 0
    wait_for_probes(server, 7)
    call("stop", "--home", home)
    headers, rows = records(home)
    assert len(rows) >= written + 5
    assert (
        sum(header["sent"] for header in headers) - len(rows) <= 5
    )  # what was under way: of 250 ms at most
    assert [header["chunk"] for header in headers] == list(range(len(headers)))


def test_sigterm_writes_what_is_there_and_waits_for_answers_under_way(start, home, records):
    with black_hole("127.0.0.22") as port:
        start(
            targets=[["b", "127.0.0.22", port, "tcp", "intra_tor", 0]],
            interval_s=0.1,
            timeout_s=0.4,
        )
        wait_for(lambda: connecting(port))
        call("stop", "--home", home)
    headers, rows = records(home)
    assert len(rows) == sum(header["sent"] for header in headers) > 0
    assert {row["status"] for row in rows} == {1}  # lost, not guessed


def test_a_stop_that_a_busy_host_holds_up_past_a_timeout_still_finds_a_loss(start, home, records):
    with black_hole("127.0.0.22") as port:
        started = start(targets=[["b", "127.0.0.22", port, "tcp", "intra_tor", 0]], interval_s=0.1)
        pid = json.loads(started.stdout)["pid"]
        wait_for(lambda: connecting(port))
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: "stop: signal" in (home / "agent.log").read_text())
        os.kill(pid, signal.SIGSTOP)
        time.sleep(1.5)  # longer than a probe may take, and than a stop waits for it
        os.kill(pid, signal.SIGCONT)
        wait_for(lambda: status(home)["running"] is False)
    assert {row["status"] for row in records(home)[1]} == {1}


def test_a_lease_that_ran_out_stops_probing_and_answering(start, home, free_port):
    start(lease_s=1)
    wait_for(lambda: status(home)["running"] is False)
    assert "the lease was not renewed for 1 s" in (home / "agent.log").read_text()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.21", free_port), 1)


def test_an_agent_whose_directory_was_removed_goes_and_writes_nothing_where_another_may_live_now(
    start, home, free_port
):
    """A chunk falls due after the removal, before the agent's check of its home each second."""
    started = start(environment=before_the_chunk(1), targets=CLOSED_PORT, interval_s=0.1)
    pid = json.loads(started.stdout)["pid"]
    while home.exists():
        shutil.rmtree(home, ignore_errors=True)  # again, where the agent wrote in the middle of it
    (home / "spool").mkdir(parents=True)
    wait_for(lambda: not is_running(pid))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.21", free_port), 1)
    assert [path.name for path in home.rglob("*") if path.is_file()] == []


def test_no_input_brings_it_down(start, home, free_port):
    pid = json.loads(start(targets=CLOSED_PORT, interval_s=0.05).stdout)["pid"]
    chance = random.Random(3)
    with socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        datagrams.connect(("127.0.0.21", free_port))
        for _ in range(300):
            datagrams.send(chance.randbytes(chance.randrange(1500)))
            with socket.create_connection(("127.0.0.21", free_port), 1) as client:
                client.send(
                    b"PMQ1" * (chance.random() < 0.5) + chance.randbytes(chance.randrange(100))
                )
    (home / "pinglist.json").write_bytes(chance.randbytes(1000))
    (home / "lease").mkdir()
    wait_for(lambda: "the previous list stays" in (home / "agent.log").read_text())
    assert status(home)["pid"] == pid
