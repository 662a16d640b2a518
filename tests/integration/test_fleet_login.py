"""Logging in to many hosts: what becomes of hosts that are dead, slow, strange or hostile. Real SSH servers."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest

from pingmesh_tasks.demo import fleet as demo
from pingmesh_tasks.errors import ConfigError, StoreError
from pingmesh_tasks.fleet.connect import FanoutLimits, HostFault, HostOutcome, Session, for_each_host
from pingmesh_tasks.fleet.keys import ensure_keys
from pingmesh_tasks.fleet.private_key import key_of
from pingmesh_tasks.topology.inventory import Host
from tests.support.fleet import LIMITS, PASSWORD, FleetOfTest, running_fleet
from tests.support.needs import require
from tests.support.waiting import await_true

pytestmark = pytest.mark.integration


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[FleetOfTest]:
    """Two hosts that know our key."""
    with running_fleet(tmp_path) as fleet:
        assert {o.outcome for o in ensure_keys(fleet.hosts, fleet.access, fleet.bootstrap, LIMITS)} == {"ok"}
        yield fleet


async def echo(session: Session) -> HostOutcome:
    answer = await session.run('printf "%s" "$1"', "a 'b' \"c\" $(d) \\ é")
    assert answer.stdout.decode() == "a 'b' \"c\" $(d) \\ é"
    return HostOutcome(session.host.name, "test", "ok")


def outcomes(fleet: FleetOfTest, work=echo, limits: FanoutLimits = LIMITS, **access) -> list[HostOutcome]:
    return for_each_host(fleet.hosts, work, replace(fleet.access, **access), limits, stage="test")


def script(text: str, stdin: bytes = b""):
    """Work that runs one script and tells what it printed."""

    async def work(session: Session) -> HostOutcome:
        answer = await session.run(text, stdin=stdin)
        return HostOutcome(session.host.name, "test", "ok", answer.stdout.decode("utf-8", "replace"))

    return work


# -------------------------------------------------------------------------------------------- the keys


def test_the_key_is_installed_by_the_password_once_and_used_from_then_on(tmp_path: Path):
    with running_fleet(tmp_path) as fleet:
        first = ensure_keys(fleet.hosts, fleet.access, fleet.bootstrap, LIMITS)
        again = ensure_keys(fleet.hosts, fleet.access, fleet.bootstrap, LIMITS)
        without_password = ensure_keys(fleet.hosts, fleet.access, None, LIMITS)
        authorized = (fleet.home("host01") / ".ssh" / "authorized_keys").read_text()
        assert not list(tmp_path.rglob("pwned"))
    assert [(o.outcome, o.detail) for o in first] == [("ok", "key installed")] * 2
    assert [o.outcome for o in again + without_password] == ["unchanged"] * 4
    assert authorized.count("ssh-ed25519") == 1
    assert len(fleet.access.known_hosts.read_text().splitlines()) == 2


def test_a_wrong_password_is_told_and_pins_nothing(tmp_path: Path):
    with running_fleet(tmp_path) as fleet:
        wrong = replace(fleet.bootstrap, password="guess")
        found = ensure_keys(fleet.hosts, fleet.access, wrong, LIMITS)
    assert [o.outcome for o in found] == ["auth_failed"] * 2
    assert "refused the password of demo" in found[0].detail
    assert not fleet.access.known_hosts.exists()


def test_without_a_bootstrap_password_the_way_out_is_told(tmp_path: Path):
    with running_fleet(tmp_path) as fleet:
        found = ensure_keys(fleet.hosts, fleet.access, None, LIMITS)
    assert [o.outcome for o in found] == ["host_key_unknown"] * 2
    assert "pingmesh_bootstrap" in found[0].detail


def test_a_dry_run_makes_no_key_and_changes_no_host(tmp_path: Path):
    with running_fleet(tmp_path) as fleet:
        found = ensure_keys(fleet.hosts, fleet.access, fleet.bootstrap, LIMITS, dry_run=True)
        assert not (fleet.home("host01") / ".ssh" / "authorized_keys").exists()
    assert not fleet.access.private_key.exists()
    assert found[0].detail == "would make the key pair and install it"


def test_a_host_with_another_key_than_pinned_is_refused_before_any_password_is_sent(
    fleet: FleetOfTest, monkeypatch: pytest.MonkeyPatch
):
    asked = []
    monkeypatch.setattr(demo.DemoFleet, "accepts_password", lambda *args: asked.append(args) or True)
    pins = fleet.access.known_hosts.read_bytes()
    line = 1 + [b"127.0.0.12" in pin for pin in pins.splitlines()].index(True)
    fleet.stop_host("host02")
    (fleet.demo.root / "host02" / "host_key").unlink()
    (fleet.home("host02") / ".ssh" / "authorized_keys").unlink()
    fleet.start_host("host02")

    by_key = outcomes(fleet)
    by_password = ensure_keys(fleet.hosts, fleet.access, fleet.bootstrap, LIMITS)
    bootstrap = replace(fleet.bootstrap, known_hosts=fleet.access.known_hosts)
    pinning = for_each_host(fleet.hosts, echo, bootstrap, LIMITS, stage="test", pin_new_hosts=True)

    for found in (by_key, by_password, pinning):
        assert [o.outcome for o in found][1] == "host_key_changed"
        assert f"line {line} of {fleet.access.known_hosts}" in found[1].detail
    assert by_password[0].outcome == "unchanged"
    assert {password for _, user, password in asked} == {PASSWORD} and len(asked) == 1  # host01, which is as it was
    assert fleet.access.known_hosts.read_bytes() == pins


def test_a_host_that_now_has_only_another_kind_of_key_is_changed_too(fleet: FleetOfTest):
    fleet.stop_host("host01")
    key = asyncssh.generate_private_key("ecdsa-sha2-nistp256")
    (fleet.demo.root / "host01" / "host_key").write_bytes(key.export_private_key("openssh"))
    fleet.start_host("host01")
    found = outcomes(fleet)[0]
    assert (found.outcome, found.detail) == ("host_key_changed", found.detail)


def test_a_key_that_was_installed_for_another_user_does_not_count_as_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(demo.DemoFleet, "accepts_password", lambda self, user, password: password == PASSWORD)
    with running_fleet(tmp_path) as fleet:
        found = ensure_keys(fleet.hosts, fleet.access, replace(fleet.bootstrap, username="alice"), LIMITS)
        assert found[0].outcome == "ok"  # one home for all users in the demo
        other = ensure_keys(fleet.hosts, replace(fleet.access, username="bob"), fleet.bootstrap, LIMITS)
    assert other[0].outcome == "auth_failed"
    assert "does not work" in other[0].detail


# ------------------------------------------------------------------------- who we are, and no one else


def test_arguments_reach_the_host_whatever_characters_they_hold(fleet: FleetOfTest):
    assert [(o.host, o.outcome) for o in outcomes(fleet)] == [("host01", "ok"), ("host02", "ok")]


@pytest.fixture
def ssh_agent(tmp_path: Path) -> Iterator[str]:
    """The socket of an SSH agent of the invoking user's."""
    require("ssh-agent")
    path = tmp_path / "agent.sock"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    while not path.exists():
        time.sleep(0.01)
    yield str(path)
    agent.terminate()
    agent.wait()


def test_keys_known_hosts_and_settings_of_the_invoking_user_are_not_used(
    fleet: FleetOfTest, tmp_path: Path, ssh_agent: str, monkeypatch: pytest.MonkeyPatch
):
    home = tmp_path / "operator"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "id_ed25519").write_bytes(fleet.access.private_key.read_bytes())
    (home / ".ssh" / "id_ed25519").chmod(0o600)
    (home / ".ssh" / "known_hosts").write_bytes(fleet.access.known_hosts.read_bytes())
    (home / ".ssh" / "config").write_text("Host *\n  HostKeyAlias elsewhere\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("SSH_AUTH_SOCK", ssh_agent)
    subprocess.run(["ssh-add", "-q", fleet.access.private_key], check=True)
    key_of(tmp_path / "other_key").ensure()

    unknown = outcomes(fleet, known_hosts=tmp_path / "empty_known_hosts")
    other_key = outcomes(fleet, private_key=tmp_path / "other_key")
    no_key = outcomes(fleet, private_key=None)

    assert outcomes(fleet)[0].outcome == "ok"
    assert unknown[0].outcome == "host_key_unknown"
    assert other_key[0].outcome == no_key[0].outcome == "auth_failed"
    assert "refused the key of demo" in other_key[0].detail


def test_a_user_name_with_shell_characters_is_only_a_wrong_name(fleet: FleetOfTest, tmp_path: Path):
    name = "$(touch pwned);`touch pwned`|touch pwned"
    hosts = [replace(host, ssh_user=name) for host in fleet.hosts]
    found = for_each_host(hosts, echo, fleet.access, LIMITS, stage="test")
    assert [o.outcome for o in found] == ["auth_failed"] * 2
    assert not list(tmp_path.rglob("pwned"))


def test_a_missing_private_key_stops_the_run_and_says_who_makes_one(fleet: FleetOfTest, tmp_path: Path):
    with pytest.raises(ConfigError, match="ensure_keys"):
        outcomes(fleet, private_key=tmp_path / "absent")


def test_no_secret_is_shown_even_if_a_host_says_it(fleet: FleetOfTest):
    async def leak(session: Session) -> HostOutcome:
        raise HostFault("failed", f"I was given {PASSWORD}!")

    assert PASSWORD not in repr(fleet.bootstrap)
    found = for_each_host(fleet.hosts, leak, replace(fleet.access, password=PASSWORD), LIMITS, stage="test")
    assert found[0].detail == "I was given ***!"


# ------------------------------------------------------------------------------------------ sick hosts


def test_a_host_that_is_down_is_an_outcome_and_the_others_go_on(fleet: FleetOfTest):
    fleet.stop_host("host01")
    found = outcomes(fleet)
    assert [o.outcome for o in found] == ["unreachable", "ok"]
    assert "Connection refused" in found[0].detail


@contextmanager
def listener(address: str, serve: Callable[[socket.socket], None] | None, backlog: int = 8) -> Iterator[int]:
    """A TCP port that answers each connection with `serve`; with None nobody accepts."""
    with closing(socket.create_server((address, 0), backlog=backlog)) as server:

        def accept() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        if serve:
            threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def strange_host(fleet: FleetOfTest, port: int, limits: FanoutLimits = LIMITS) -> HostOutcome:
    host = Host("strange", "127.0.0.1", ssh_port=port)
    access = replace(fleet.access, connect_timeout_s=1, login_timeout_s=2)
    return for_each_host([host], echo, access, limits, stage="test")[0]


def test_a_port_that_answers_no_syn_is_unreachable(fleet: FleetOfTest):
    with listener("127.0.0.1", None, backlog=0) as port:
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        time.sleep(0.1)
        found = strange_host(fleet, port)
        for filler in fillers:
            filler.close()
    assert (found.outcome, "within 1 s" in found.detail) == ("unreachable", True)


def test_an_sshd_that_hangs_is_a_timeout(fleet: FleetOfTest):
    with listener("127.0.0.1", lambda connection: time.sleep(5)) as port:
        found = strange_host(fleet, port)
    assert (found.outcome, "no login within 2 s" in found.detail) == ("timeout", True)


def endless(connection: socket.socket) -> None:
    try:
        while True:
            connection.sendall(b"SSH " * 4096)
    except OSError:
        connection.close()


def web_server(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    connection.close()


def lying_ssh(connection: socket.socket) -> None:
    connection.sendall(b"SSH-2.0-\x1b[31mEvil\r\n" + b"\x00\x00\x10\x00" + b"\xff" * 70000)
    time.sleep(1)
    connection.close()


@pytest.mark.parametrize("serve", [endless, web_server, lying_ssh])
def test_a_port_where_something_else_answers_is_an_outcome(fleet: FleetOfTest, serve: Callable[[socket.socket], None]):
    with listener("127.0.0.1", serve) as port:
        found = strange_host(fleet, port)
    assert found.outcome in ("failed", "unreachable", "timeout")
    assert "\x1b" not in found.detail and 0 < len(found.detail) <= 300
    assert found.duration_ms < 5000


def drop_logins(monkeypatch: pytest.MonkeyPatch, count: int) -> list[object]:
    """Let the hosts close their first `count` connections, as sshd does beyond MaxStartups."""
    seen: list[object] = []
    began = demo.DemoFleet.login_began

    def login_began(self, host, connection):
        seen.append(host.name)
        began(self, host, connection)
        if len(seen) <= count:
            connection.abort()

    monkeypatch.setattr(demo.DemoFleet, "login_began", login_began)
    return seen


def test_a_connection_that_was_lost_is_tried_once_more(fleet: FleetOfTest, monkeypatch: pytest.MonkeyPatch):
    seen = drop_logins(monkeypatch, count=2)
    assert [o.outcome for o in outcomes(fleet)] == ["ok", "ok"]
    assert len(seen) == 4


def test_a_connection_that_is_lost_twice_is_an_outcome(fleet: FleetOfTest, monkeypatch: pytest.MonkeyPatch):
    drop_logins(monkeypatch, count=100)
    found = outcomes(fleet)
    assert [o.outcome for o in found] == ["unreachable"] * 2
    assert "MaxStartups" in found[0].detail


def test_a_refused_key_is_not_tried_again(fleet: FleetOfTest, monkeypatch: pytest.MonkeyPatch):
    (fleet.home("host01") / ".ssh" / "authorized_keys").unlink()
    seen = drop_logins(monkeypatch, count=0)
    assert outcomes(fleet)[0].outcome == "auth_failed"
    assert seen.count("host01") == 1


@pytest.mark.needs("pgrep")
def test_a_slow_host_is_cut_off_and_its_command_ends(fleet: FleetOfTest):
    found = outcomes(fleet, script(f"exec sleep 1{os.getpid()}"), replace(LIMITS, host_timeout_s=1))
    assert [o.outcome for o in found] == ["timeout"] * 2
    assert all(1_000 <= o.duration_ms < LIMITS.host_timeout_s * 1_000 for o in found), found
    pgrep = ["pgrep", "-f", f"sleep 1{os.getpid()}"]
    await_true("ended", lambda: not subprocess.run(pgrep, capture_output=True).stdout)


@pytest.mark.parametrize("stream", ["", ">&2"])
def test_endless_output_is_cut_off(fleet: FleetOfTest, stream: str):
    found = outcomes(fleet, script(f"while :; do echo {'x' * 1000} {stream}; done"))
    assert [o.outcome for o in found] == ["failed"] * 2
    assert "sent more than" in found[0].detail


def test_a_script_that_does_not_read_its_input_still_answers(fleet: FleetOfTest):
    found = outcomes(fleet, script("echo done", stdin=b"x" * 8_000_000))
    assert [(o.outcome, o.detail) for o in found] == [("ok", "done")] * 2


def fleet_with_shell(directory: Path, shell: str) -> AbstractContextManager[FleetOfTest]:
    """A host where `shell` is the login shell, with our key."""
    path = directory / "login_shell"
    path.write_text(shell)
    path.chmod(0o755)
    return running_fleet(directory, [demo.DemoHost("host01", "127.0.0.11", login_shell=str(path))])


def test_a_login_shell_that_greets_does_not_disturb(tmp_path: Path):
    with fleet_with_shell(tmp_path, '#!/bin/sh\necho "Welcome to the machine"\nexec /bin/sh "$@"\n') as fleet:
        ensure_keys(fleet.hosts, fleet.access, fleet.bootstrap, LIMITS)
        assert [o.outcome for o in outcomes(fleet)] == ["ok"]


def test_an_account_without_a_shell_is_told_in_the_words_of_the_host(tmp_path: Path):
    words = "#!/bin/sh\nprintf 'This account is \\033[31mnot available.'\nexit 1\n"
    with fleet_with_shell(tmp_path, words) as fleet:
        found = ensure_keys(fleet.hosts, fleet.access, fleet.bootstrap, LIMITS)
    assert found[0].outcome == "failed"
    assert "This account is \\u001b[31mnot available." in found[0].detail


# ------------------------------------------------------------------------------------------- the crowd


def test_no_more_hosts_than_allowed_are_talked_to_at_once(fleet: FleetOfTest):
    hosts = [Host(f"h{i:03d}", "127.0.0.11") for i in range(100)]
    active, most = 0, 0

    async def count(session: Session) -> HostOutcome:
        nonlocal active, most
        active += 1
        most = max(most, active)
        await asyncio.sleep(0.02)
        active -= 1
        return HostOutcome(session.host.name, "test", "ok")

    found = for_each_host(hosts, count, fleet.access, replace(LIMITS, concurrency=7), stage="test")
    assert [o.host for o in found] == [h.name for h in hosts]
    assert {o.outcome for o in found} == {"ok"}
    assert 1 < most <= 7


def test_what_is_not_the_hosts_fault_ends_the_run(fleet: FleetOfTest):
    async def broken(session: Session) -> HostOutcome:
        raise StoreError("the object store is down")

    with pytest.raises(StoreError, match="is down"):
        outcomes(fleet, broken)


def test_time_spent_on_our_side_is_not_held_against_the_host(fleet: FleetOfTest):
    async def busy(session: Session) -> HostOutcome:
        await asyncio.sleep(session.login.seconds_left() + 0.2)
        return HostOutcome(session.host.name, "test", "ok")

    assert [o.outcome for o in outcomes(fleet, busy, replace(LIMITS, host_timeout_s=3))] == ["ok", "ok"]
