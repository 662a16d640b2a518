"""The demo's hosts as a program: what `make demo` starts and stops."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pingmesh_tasks.demo.faults import order
from pingmesh_tasks.demo.fleet import DEFAULT_USER, FAULTS, PASSWORD_VARIABLE
from pingmesh_tasks.fleet.connect import SshAccess
from pingmesh_tasks.fleet.keys import ensure_keys
from pingmesh_tasks.topology.inventory import load_inventory
from tests.support.fleet import LIMITS, PASSWORD, free_port
from tests.support.waiting import await_true

pytestmark = pytest.mark.integration


def program(directory: Path, port: int, *options: str, password: str = PASSWORD) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "pingmesh_tasks.demo.fleet",
        "--root",
        str(directory / "hosts"),
        "--port",
        str(port),
    ]
    return subprocess.Popen(
        [*command, "--inventory", str(directory / "inventory.csv"), *options],
        env=os.environ | {PASSWORD_VARIABLE: password},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def running(directory: Path, port: int, *options: str) -> Iterator[subprocess.Popen[str]]:
    process = program(directory, port, *options)
    try:
        assert process.stdout and process.stdout.readline().startswith("ready: ")
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=15) == 0


def is_up(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True


def test_its_inventory_and_password_open_every_host_until_it_is_told_to_end(tmp_path: Path):
    port = free_port()
    with running(tmp_path, port):
        hosts = load_inventory(str(tmp_path / "inventory.csv")).hosts
        access = SshAccess(DEFAULT_USER, tmp_path / "known_hosts", private_key=tmp_path / "key")
        bootstrap = SshAccess(DEFAULT_USER, tmp_path / "known_hosts", password=PASSWORD)
        assert [o.outcome for o in ensure_keys(hosts, access, bootstrap, LIMITS)] == ["ok"] * 8
    assert not is_up("127.0.0.11", port)


def test_hosts_that_were_restarted_are_the_same_hosts(tmp_path: Path):
    port = free_port()
    access = SshAccess(DEFAULT_USER, tmp_path / "known_hosts", private_key=tmp_path / "key")
    found = []
    for _ in range(2):
        with running(tmp_path, port, "--hosts", "2"):
            hosts = load_inventory(str(tmp_path / "inventory.csv")).hosts
            found += ensure_keys(hosts, access, SshAccess(DEFAULT_USER, tmp_path, password=PASSWORD), LIMITS)
    assert [o.outcome for o in found] == ["ok", "ok", "unchanged", "unchanged"]


def test_the_scripted_outage_takes_one_host_down_for_whole_windows(tmp_path: Path):
    """A slow machine may show the start of a window up to half a window late; the program starts in its other half."""
    port, window_s = free_port(), 4
    time.sleep((window_s / 2 - time.time()) % window_s)
    schedule = ["--outage-after-windows", "2", "--outage-windows", "1", "--window-s", str(window_s)]
    with running(tmp_path, port, "--hosts", "2", "--outage-host", "host02", *schedule):
        ready = time.time()
        assert is_up("127.0.0.12", port)
        seen = []
        deadline = time.time() + 20
        while len(seen) < 2:
            assert time.time() < deadline
            up = is_up("127.0.0.12", port)
            if up != (len(seen) % 2 == 0):
                seen.append(time.time())
            assert is_up("127.0.0.11", port)
            time.sleep(0.05)
    down, up_again = seen
    assert down - ready > window_s / 2, "that is the next window"
    assert down % window_s < window_s / 2 and up_again % window_s < window_s / 2
    assert up_again // window_s == down // window_s + 1


def test_a_port_that_is_taken_and_a_missing_password_are_told_in_one_line(tmp_path: Path):
    with socket.create_server(("127.0.0.11", 0)) as stranger:
        taken = program(tmp_path, stranger.getsockname()[1])
        _, error = taken.communicate(timeout=15)
    assert taken.returncode == 1 and "host01 cannot listen on 127.0.0.11 port" in error and "Traceback" not in error
    nameless = program(tmp_path, free_port(), password="")
    _, error = nameless.communicate(timeout=15)
    assert nameless.returncode == 1 and f"set {PASSWORD_VARIABLE}" in error


def test_a_fault_that_is_ordered_begins_at_once_and_ends_by_itself(tmp_path: Path):
    port = free_port()
    with running(tmp_path, port, "--hosts", "2", "--data-server", "--rate 50"):
        assert is_up("127.0.0.12", port)
        ends_s = order(tmp_path / "hosts" / FAULTS, "outage", "host02", 3)
        await_true("down", lambda: not is_up("127.0.0.12", port))
        assert time.time() < ends_s
        assert is_up("127.0.0.11", port)
        await_true("up again", lambda: is_up("127.0.0.12", port))
        assert time.time() >= ends_s

        log = tmp_path / "hosts" / "data1" / "home" / "mdsip" / "access.log"
        await_true("writing", lambda: log.exists() and log.stat().st_size)
        assert b"mallory@" not in log.read_bytes()
        order(tmp_path / "hosts" / FAULTS, "hammer", "mallory", 3)
        await_true("hammering", lambda: b"from mallory@" in log.read_bytes())
        await_true("gone", lambda: b"disconnected from mallory@" in log.read_bytes())
