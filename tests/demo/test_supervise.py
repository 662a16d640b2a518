"""Commands that are kept running: real processes, really killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]


@pytest.fixture
def supervise():
    started = []

    def start(*words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "pingmesh_tasks.demo.supervise", *words]
        process = subprocess.Popen(command, cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def says_its_pid(file: Path) -> list[str]:
    return ["sh", "-c", f'echo $$ >> "{file}"; exec sleep 1000']


def pids(file: Path, count: int) -> list[int]:
    deadline = time.monotonic() + 30
    while not file.exists() or len(found := file.read_text().split()) < count:
        assert time.monotonic() < deadline, f"{count} starts in {file} were expected"
        time.sleep(0.05)
    return [int(pid) for pid in found]


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_command_that_is_killed_is_started_again_and_its_neighbour_left_alone(supervise, tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    supervise("true", "--", *says_its_pid(one), "--", *says_its_pid(other))
    [first] = pids(one, 1)
    pids(other, 1)
    os.kill(first, signal.SIGKILL)
    assert pids(one, 2)[0] == first
    assert len(pids(other, 1)) == 1


def test_sigterm_ends_every_command(supervise, tmp_path):
    file = tmp_path / "pids"
    process = supervise(
        "true", "--", *says_its_pid(file), "--", "sh", "-c", f'trap "" TERM; echo $$ >> "{file}"; sleep 5'
    )
    both = pids(file, 2)
    process.terminate()
    process.wait(30)
    assert not any(lives(pid) for pid in both)


def test_nothing_is_started_where_the_preparation_fails(supervise, tmp_path):
    file = tmp_path / "pids"
    process = supervise("sh", "-c", "exit 3", "--", *says_its_pid(file))
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "ended with 3" in said
    assert not file.exists()


def test_commands_end_with_who_keeps_them_running_even_where_that_one_is_killed(supervise, tmp_path):
    one = tmp_path / "one"
    keeper = supervise("true", "--", *says_its_pid(one))
    [pid] = pids(one, 1)
    keeper.kill()
    keeper.wait()
    deadline = time.monotonic() + 10
    while lives(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)
