"""The fleet against OpenSSH: a server, a host key and a home of its own on every host, one controller."""

from __future__ import annotations

import json
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pingmesh_tasks.fleet.agents import AgentRelease
from pingmesh_tasks.latency.segment import decode_segment
from pingmesh_tasks.windows import window_containing
from tests.support.lab import Lab, laboratory
from tests.support.lab_agent import PROBE_PORT, ping_list
from tests.support.lab_openssh import HOME, PASSWORD, USER, OpenSsh, openssh_servers, processes_of_user

pytestmark = [pytest.mark.integration, pytest.mark.lab]

REPO = Path(__file__).parents[2]
HOSTS = ("a", "b", "c", "d")
WINDOW_S = 60


@dataclass(frozen=True)
class OpenSshFleet:
    """Four hosts with a server each, and a controller with an empty directory."""

    lab: Lab
    servers: dict[str, OpenSsh]
    directory: Path

    def run(self, stage: str, **plan: Any) -> dict[str, str]:
        """Run a stage of the fleet on the controller; gives what became of each host, and why."""
        return {row["host"]: f"{row['outcome']}: {row['detail']}" for row in self.rows(stage, **plan)}

    def rows(self, stage: str, **plan: Any) -> list[dict[str, Any]]:
        defaults = {
            "hosts": {host: self.lab.address(host) for host in HOSTS},
            "directory": str(self.directory),
            "username": USER,
            "password": PASSWORD,
        }
        driver = ["env", f"PYTHONPATH={REPO}", sys.executable, "-m", "tests.support.lab_fleet", stage]
        answer: list[dict[str, Any]] = json.loads(
            self.lab.run("controller", *driver, input=json.dumps(defaults | plan), timeout_s=60)
        )
        return answer


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[OpenSshFleet]:
    """Hosts that were never contacted."""
    with openssh_fleet(tmp_path) as fleet:
        yield fleet


@contextmanager
def openssh_fleet(root: Path) -> Iterator[OpenSshFleet]:
    with laboratory([*HOSTS, "controller"]) as lab, openssh_servers(lab, HOSTS, root) as servers:
        yield OpenSshFleet(lab, servers, root / "controller")


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSshFleet]:
    """Hosts whose agents run. Made for the first test here and collected by the last: a window takes its minute."""
    with openssh_fleet(tmp_path_factory.mktemp("mesh")) as fleet:
        assert outcomes_of(fleet.run("keys")) == {"ok"}
        first = fleet.run("dispatch", documents=ping_lists(fleet.lab))
        version = AgentRelease.load().version
        assert set(first.values()) == {f"ok: install release {version}, copy pinglist.json, start the agent"}, first
        yield fleet


def ping_lists(lab: Lab) -> dict[str, str]:
    """Everybody probes everybody by every protocol, five times a second."""
    ways = [("tcp", 0), ("tcp_echo", 64), ("udp", 64)]
    return {
        host: ping_list(
            host,
            lab.address(host),
            [
                [peer, lab.address(peer), PROBE_PORT, protocol, "intra_tor", size]
                for peer in HOSTS
                for protocol, size in ways
                if peer != host
            ],
            window_s=WINDOW_S,
            timeout_s=1.0,
        )
        for host in HOSTS
    }


def agents_of(fleet: OpenSshFleet) -> list[str]:
    return [line for line in processes_of_user(fleet.lab) if f"run --home {HOME}/.pingmesh" in line]


def test_a_second_dispatch_changes_nothing(mesh: OpenSshFleet):
    again = mesh.run("dispatch", documents=ping_lists(mesh.lab))
    assert set(again.values()) == {"unchanged: "}, again
    assert len(agents_of(mesh)) == len(HOSTS), f"an agent a host, as {USER}: {processes_of_user(mesh.lab)}"
    for host, server in mesh.servers.items():
        assert stat.S_IMODE((server.home / ".pingmesh").stat().st_mode) == 0o700, host


def test_a_killed_agent_is_started_again_by_the_next_dispatch(mesh: OpenSshFleet):
    status = json.loads((mesh.servers["b"].home / ".pingmesh/agent.json").read_text())
    mesh.lab.signal("KILL", status["pid"])
    again = mesh.run("dispatch", documents=ping_lists(mesh.lab))
    assert again == {**dict.fromkeys(HOSTS, "unchanged: "), "b": "ok: start the agent"}
    assert len(agents_of(mesh)) == len(HOSTS), processes_of_user(mesh.lab)


def test_the_first_password_installs_the_key_once_and_is_not_needed_again(fleet: OpenSshFleet):
    first = fleet.run("keys")
    assert outcomes_of(first) == {"ok"}, first
    lines = {host: (server.home / ".ssh/authorized_keys").read_bytes() for host, server in fleet.servers.items()}
    assert all(line.count(b"\n") == 1 and line.startswith(b"restrict ssh-ed25519 ") for line in lines.values()), lines
    again = fleet.run("keys", password="not the password")
    assert outcomes_of(again) == {"unchanged"}, again
    assert lines == {h: (server.home / ".ssh/authorized_keys").read_bytes() for h, server in fleet.servers.items()}
    for server in fleet.servers.values():
        assert stat.S_IMODE((server.home / ".ssh").stat().st_mode) == 0o700
        assert stat.S_IMODE((server.home / ".ssh/authorized_keys").stat().st_mode) == 0o600
    assert stat.S_IMODE((fleet.directory / "key").stat().st_mode) == 0o600


def test_a_wrong_password_is_told_by_host_and_never_shown(fleet: OpenSshFleet):
    outcomes = fleet.run("keys", password="hunter2")
    assert outcomes_of(outcomes) == {"auth_failed"}, outcomes
    assert "hunter2" not in str(outcomes)
    assert not any((server.home / ".ssh").exists() for server in fleet.servers.values())


def test_a_host_that_shows_another_key_is_refused_before_any_login(fleet: OpenSshFleet):
    fleet.run("keys")
    fleet.servers["b"].change_host_key()
    logins_before = fleet.servers["b"].log()
    outcomes = fleet.run("keys")
    assert outcomes["a"].startswith("unchanged:"), outcomes
    assert outcomes["b"].startswith("host_key_changed:"), outcomes
    since = fleet.servers["b"].log().removeprefix(logins_before)
    assert "Accepted" not in since and "Failed" not in since, f"a login was tried against an unknown key: {since}"


def test_hosts_that_are_dead_cut_off_or_frozen_do_not_hold_up_the_others(fleet: OpenSshFleet):
    fleet.servers["b"].stop()
    fleet.servers["d"].freeze()
    with fleet.lab.drop("controller", "c"):
        outcomes = fleet.run("keys")
    assert outcomes["a"].startswith("ok:"), outcomes
    assert outcomes["b"].startswith("unreachable:"), outcomes
    for host in ("c", "d"):
        assert outcomes[host].split(":")[0] in ("unreachable", "timeout"), outcomes


def test_a_window_is_collected_whole_and_clean_leaves_nothing(mesh: OpenSshFleet):
    window = window_containing(datetime.now(UTC) + timedelta(seconds=3), WINDOW_S)  # every pair needs its turn
    time.sleep(max(0.0, (window.end - datetime.now(UTC)).total_seconds()))
    collected = mesh.run("collect", window=window.id, window_s=WINDOW_S)
    assert outcomes_of(collected) == {"ok"}, collected
    probes = pl.concat([decode_segment(path.read_bytes()) for path in (mesh.directory / "raw").iterdir()])
    pairs = probes.filter(pl.col("err_code") == 0).select("src", "dst", "protocol").unique()
    assert len(pairs) == len(HOSTS) * (len(HOSTS) - 1) * 3, f"pairs that answered: {pairs.sort(pl.all())}"
    assert (probes["ts"] >= window.start).all()
    assert (probes["ts"] < window.end).all()

    cleaned = mesh.run("clean")
    assert outcomes_of(cleaned) == {"ok"}, cleaned
    for host, server in mesh.servers.items():
        left = sorted(str(path.relative_to(server.home)) for path in server.home.rglob("*"))
        assert left == [".ssh", ".ssh/authorized_keys"], f"left on {host}: {left}"
        assert (server.home / ".ssh/authorized_keys").read_bytes() == b""
    assert eventually(lambda: not processes_of_user(mesh.lab)), processes_of_user(mesh.lab)


def outcomes_of(said: dict[str, str]) -> set[str]:
    return {text.split(":")[0] for text in said.values()}


def eventually(holds: Callable[[], bool], within_s: float = 10.0) -> bool:
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
