"""The commands, called in this process; as a process of their own in test_process.py."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from pingmesh_agent import commands
from pingmesh_agent.commands import main
from pingmesh_agent.home import lock_holder

HOLD_THE_LOCK = """
import fcntl, os, signal, sys, time
if sys.argv[2] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
lock = open(sys.argv[1], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
print(os.getpid(), file=lock, flush=True)
print("up", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Start a process that holds the lock of the home in tmp_path, as an agent does."""
    started = []

    def start(how: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLD_THE_LOCK, str(tmp_path / "agent.lock"), how]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout and process.stdout.readline() == "up\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"],
        ["status", "--home"],
        ["status", "--home", "x", "y"],
        ["status", "--home", "x", "--lab"],
        ["stop", "--detach", "--home", "x"],
        ["status", "--house", "x"],
        ["dump", "x", "--lab"],
        ["dump", "x", "y"],
        ["--home", "x"],
        ["run", "--home", "x", "y"],
        ["trace-all"],
    ],
)
def test_what_is_no_command_is_answered_with_all_five(arguments, capsys):
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert [
        word
        for word in ("run", "status", "stop", "dump", "trace")
        if f"agent.py {word} " in printed.err
    ] == [
        "run",
        "status",
        "stop",
        "dump",
        "trace",
    ]


@pytest.mark.parametrize(
    ("arguments", "detach", "lab"),
    [
        (["run", "--home", "h"], False, False),
        (["run", "--home", "h", "--detach"], True, False),
        (["run", "--lab", "--home", "h"], False, True),
        (["run", "--home", "h", "--detach", "--lab"], True, True),
    ],
)
def test_run_takes_its_options_in_any_order(monkeypatch, arguments, detach, lab):
    calls = []
    monkeypatch.setattr(commands, "run", lambda *told: calls.append(told) or 7)
    assert main(arguments) == 7
    assert calls == [(os.path.abspath("h"), detach, lab)]  # noqa: PTH100


def test_the_state_of_a_home_without_an_agent(tmp_path, capsys):
    (tmp_path / "agent.json").write_text('{"host": "a", "pid": 1, "running": true}')
    (tmp_path / "spool").mkdir()
    for name, size in (("20261121T220400Z.pms", 5), ("20261121T220500Z.part", 7), ("other", 100)):
        (tmp_path / "spool" / name).write_bytes(bytes(size))
    assert main(["status", "--home", str(tmp_path)]) == 0
    state = json.loads(capsys.readouterr().out)
    assert (state["host"], state["running"], state["pid"]) == ("a", False, None)
    assert (state["spool_bytes"], state["spool_segments"]) == (12, 2)


def test_an_agent_that_dies_as_it_starts_is_an_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(commands, "Agent", lambda *_: os._exit(9))
    assert main(["run", "--home", str(tmp_path), "--detach"]) == 1
    assert capsys.readouterr().err == "the agent died as it started\n"


@pytest.mark.parametrize("content", [b"", b"[1]", b"7", b"\xff"])
def test_a_state_that_cannot_be_read_is_none(tmp_path, capsys, content):
    (tmp_path / "agent.json").write_bytes(content)
    assert main(["status", "--home", str(tmp_path)]) == 0
    state = json.loads(capsys.readouterr().out)
    assert (state["running"], state["spool_segments"], "host" in state) == (False, 0, False)


def test_a_home_that_is_not_there_has_no_agent(tmp_path, capsys):
    assert main(["stop", "--home", str(tmp_path / "none")]) == 0
    assert main(["status", "--home", str(tmp_path / "none")]) == 0
    assert json.loads(capsys.readouterr().out)["running"] is False
    assert not (tmp_path / "none").exists()


def test_stop_ends_the_agent_by_sigterm(tmp_path, holder):
    process = holder("obedient")
    assert lock_holder(str(tmp_path)) == process.pid
    assert main(["stop", "--home", str(tmp_path)]) == 0
    assert process.wait() == -signal.SIGTERM


def test_stop_kills_an_agent_that_does_not_hear(tmp_path, holder, monkeypatch):
    assert commands.STOP_SIGNALS == ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))
    monkeypatch.setattr(commands, "STOP_SIGNALS", ((signal.SIGTERM, 0.2), (signal.SIGKILL, 5.0)))
    process = holder("deaf")
    began_s = time.monotonic()
    assert main(["stop", "--home", str(tmp_path)]) == 0
    assert time.monotonic() - began_s >= 0.2
    assert process.wait() == -signal.SIGKILL


def test_an_agent_that_outlives_every_signal_is_said(tmp_path, holder, monkeypatch, capsys):
    monkeypatch.setattr(commands, "STOP_SIGNALS", ((signal.SIGTERM, 0.1),))
    process = holder("deaf")
    assert main(["stop", "--home", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"the agent (pid {process.pid}) in {tmp_path} does not die\n"
