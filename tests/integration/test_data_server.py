"""The made-up data server as a program: what it leaves in its files, and what the demo's fleet does with it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncssh
import pytest

from pingmesh_tasks.demo.fleet import DEFAULT_USER, PASSWORD_VARIABLE
from pingmesh_tasks.topology.inventory import load_inventory
from tests.support.fleet import PASSWORD, free_port

pytestmark = pytest.mark.integration
PROGRAM = [sys.executable, "-m", "pingmesh_tasks.demo.data_server"]


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    files = ["--log", str(folder / "access.log"), "--errors", str(folder / "errors.log")]
    return subprocess.Popen([*PROGRAM, *files, *options], stdout=subprocess.PIPE, text=True)


def await_bytes(file: Path, size: int) -> None:
    deadline = time.monotonic() + 20
    while not file.exists() or file.stat().st_size < size:
        assert time.monotonic() < deadline, f"{file} has not got {size} bytes"
        time.sleep(0.05)


def end(process: subprocess.Popen[str], sign: signal.Signals = signal.SIGTERM) -> str:
    process.send_signal(sign)
    said, _ = process.communicate(timeout=10)
    assert process.returncode == (0 if sign == signal.SIGTERM else -sign)
    return said


def lines_told(said: str) -> int:
    """The lines of the access log in the program's last words."""
    access = said.partition("errors=")[0]
    return sum(map(int, re.findall(r"(?:client_on=|client_off=|: )(\d+)", access)))


def test_when_asked_to_end_it_leaves_whole_lines_and_tells_how_many(tmp_path):
    process = start(tmp_path, "--rate", "2000", "--rotate-every-s", "0")
    await_bytes(tmp_path / "access.log", 200_000)
    said = end(process)
    log = (tmp_path / "access.log").read_bytes()
    assert log.endswith(b"\n")
    assert log.count(b"\n") == lines_told(said) > 1_500
    assert (tmp_path / "errors.log").read_bytes().endswith(b"\n")


def test_restarted_it_goes_on_in_the_same_file_as_another_process(tmp_path):
    for size in (50_000, 150_000):
        process = start(tmp_path, "--rate", "1000", "--rotate-every-s", "0", "--garbage", "0")
        await_bytes(tmp_path / "access.log", size)
        end(process)
    log = (tmp_path / "access.log").read_bytes()
    pids = re.findall(rb"\(pid (\d{2,})\) Connection received", log)  # a forged line says pid 1
    assert len(set(pids)) == 2
    assert pids == sorted(pids, key=lambda pid: pid != pids[0])
    users = {pid: re.findall(rb"\(pid %s\) Connection received from (.*)@" % pid, log)[:20] for pid in set(pids)}
    assert len({tuple(seen) for seen in users.values()}) == 2


def test_a_kill_costs_at_most_the_end_of_a_line(tmp_path):
    process = start(tmp_path, "--rate", "2000", "--rotate-every-s", "0", "--garbage", "0")
    await_bytes(tmp_path / "access.log", 100_000)
    end(process, signal.SIGKILL)
    whole = (tmp_path / "access.log").read_bytes().rpartition(b"\n")[0].split(b"\n")
    assert all(re.match(rb"\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4} \(", line) for line in whole)


@pytest.mark.parametrize("how", ["--compress", "--copytruncate"])
def test_it_rotates_both_logs_and_loses_no_line(tmp_path, how):
    process = start(tmp_path, "--rate", "500", "--rotate-every-s", "1", "--keep", "99", how)
    await_bytes(tmp_path / ("access.log.3.gz" if how == "--compress" else "access.log.3"), 1)
    said = end(process)
    files = list(tmp_path.glob("access.log*"))
    assert len(files) >= 4
    assert len(list(tmp_path.glob("errors.log.*"))) == len(files) - 1
    read = subprocess.run(["zcat", "-f", *map(str, files)], capture_output=True, check=True).stdout
    assert read.count(b"\n") == lines_told(said)


def test_it_keeps_its_rate(tmp_path):
    process = start(tmp_path, "--rate", "400", "--rotate-every-s", "0", "--shot-every-s", "1e9")
    await_bytes(tmp_path / "access.log", 200_000)  # its clients have come back
    size, began = (tmp_path / "access.log").stat().st_size, time.monotonic()
    time.sleep(5)
    grown, took_s = (tmp_path / "access.log").read_bytes()[size:], time.monotonic() - began
    end(process)
    assert grown.count(b"\n") / took_s == pytest.approx(400, rel=0.35)


def test_a_longer_log_needs_no_more_memory():
    code = (
        "import resource, sys; from pingmesh_tasks.demo.data_server import BENCHMARK, generate\n"
        "for _ in generate(int(sys.argv[1]), profile=BENCHMARK): pass\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    short, long = (
        int(subprocess.run([sys.executable, "-c", code, lines], capture_output=True, check=True).stdout)
        for lines in ("100000", "1000000")
    )
    assert long < 1.15 * short


@contextmanager
def fleet(folder: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    program = [sys.executable, "-m", "pingmesh_tasks.demo.fleet", "--root", str(folder), "--port", str(port)]
    options = ["--hosts", "1", "--inventory", str(folder / "inventory.yaml"), "--data-server", "--rate 1000"]
    process = subprocess.Popen(
        [*program, *options], env=os.environ | {PASSWORD_VARIABLE: PASSWORD}, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout and process.stdout.readline().startswith("ready: 2 hosts")
        yield process
    finally:
        process.kill()
        process.communicate()


def players(folder: Path) -> list[int]:
    """The pids of data servers whose files lie in `folder`."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue
        if b"pingmesh_tasks.demo.data_server" in command and str(folder).encode() in command:
            found.append(int(entry.name))
    return found


async def test_a_fleet_with_a_data_server_offers_its_log_over_ssh(tmp_path):
    port = free_port()
    with fleet(tmp_path, port) as process:
        inventory = load_inventory(str(tmp_path / "inventory.yaml"))
        (server,) = inventory.log_servers
        assert [host.address for host in inventory.hosts] == ["127.0.0.11"]
        await asyncio.to_thread(await_bytes, Path(server.path), 10_000)
        async with asyncssh.connect(
            server.address, port, username=DEFAULT_USER, password=PASSWORD, known_hosts=None
        ) as login:
            answer = await login.run(f"head -n 1 {server.path}; wc -c < mdsip/errors.log", check=True)
        first, size = str(answer.stdout).splitlines()
        assert re.search(r"\(pid \d+\) Connection received from ", first)
        assert int(size) > 0
        assert players(tmp_path)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=15) == 0
        assert not players(tmp_path)


def test_a_data_server_ends_when_its_fleet_was_killed(tmp_path):
    with fleet(tmp_path, free_port()) as process:
        await_bytes(tmp_path / "data1" / "home" / "mdsip" / "access.log", 1_000)
        process.kill()
        process.wait()
    deadline = time.monotonic() + 5
    while players(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.1)
