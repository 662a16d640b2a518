"""Dispatch, stop and clean: the real agent on real SSH hosts."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pingmesh_tasks.demo.fleet import DemoHost
from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.fleet.agents import AgentRelease, clean_hosts, dispatch_agents, stop_agents
from pingmesh_tasks.fleet.connect import HostOutcome
from pingmesh_tasks.fleet.keys import ensure_keys
from pingmesh_tasks.topology.inventory import Inventory
from pingmesh_tasks.topology.pinglist import PinglistPolicy, plan_pinglists
from tests.support.fleet import LIMITS, FleetOfTest, free_port, running_fleet
from tests.support.needs import require
from tests.support.waiting import await_true

pytestmark = pytest.mark.integration

README = Path(__file__).parents[2] / "README.md"
RELEASE = AgentRelease.load()
NEW_RELEASE = AgentRelease({**RELEASE.files, "clock.py": RELEASE.files["clock.py"] + b"\n# the next release\n"})


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[FleetOfTest]:
    """Two hosts that know our key, with a port for probes that nobody else uses."""
    with running_fleet(tmp_path) as fleet:
        give_keys(fleet)
        yield fleet


def give_keys(fleet: FleetOfTest) -> None:
    port = free_port()
    fleet.hosts = [replace(host, probe_port=port) for host in fleet.hosts]
    assert {o.outcome for o in ensure_keys(fleet.hosts, fleet.access, fleet.bootstrap, LIMITS)} == {"ok"}


def dispatch(
    fleet: FleetOfTest, release: AgentRelease = RELEASE, interval_s: float = 10, **more: Any
) -> list[HostOutcome]:
    lists = plan_pinglists(Inventory(tuple(fleet.hosts), True), PinglistPolicy(interval_s=interval_s))
    documents = {name: plan.document() for name, plan in lists.items()}
    return dispatch_agents(fleet.hosts, documents, release, fleet.access, LIMITS, **more)


def agent_home(fleet: FleetOfTest, name: str = "host01") -> Path:
    return fleet.home(name) / ".pingmesh"


def pid(fleet: FleetOfTest, name: str = "host01") -> int:
    return int((agent_home(fleet, name) / "agent.lock").read_text())


def runs(number: int) -> bool:
    try:
        return b"--home" in Path(f"/proc/{number}/cmdline").read_bytes()
    except OSError:
        return False


def agents_below(directory: Path) -> list[str]:
    """Command lines of the agents that run anywhere below `directory`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if " run --home " in command and str(directory) in command:
                found.append(command)
    return found


# ------------------------------------------------------------------------ dispatch


def test_a_dispatch_starts_every_agent_with_its_own_list_on_its_own_address(fleet: FleetOfTest):
    found = dispatch(fleet)
    assert [(o.outcome, o.agent_version) for o in found] == [("ok", RELEASE.version)] * 2
    for host, outcome in zip(fleet.hosts, found, strict=True):
        status = json.loads((agent_home(fleet, host.name) / "agent.json").read_text())
        assert runs(pid(fleet, host.name))
        assert status["address"] == host.address and status["listens_on"][0] == host.address
        assert status["pinglist_version"] == outcome.pinglist_version
        assert status["agent_version"] == RELEASE.version
    assert agent_home(fleet).stat().st_mode & 0o777 == 0o700


def test_a_second_dispatch_changes_nothing_but_the_lease(fleet: FleetOfTest):
    def state(name: str) -> dict[str, Any]:
        home = agent_home(fleet, name)
        return {
            p.name: (p.stat().st_mtime_ns, p.stat().st_ino) for p in (home / "agent.py", home / "pinglist.json")
        } | {"pid": pid(fleet, name)}

    dispatch(fleet)
    before = [state(h.name) for h in fleet.hosts]
    lease = (agent_home(fleet) / "lease").stat().st_mtime_ns
    found = dispatch(fleet)
    assert [(o.outcome, o.detail) for o in found] == [("unchanged", "")] * 2
    assert [state(h.name) for h in fleet.hosts] == before
    assert (agent_home(fleet) / "lease").stat().st_mtime_ns > lease


def test_a_host_whose_clock_agrees_shows_a_small_offset(fleet: FleetOfTest):
    dispatch(fleet)
    assert all(o.clock_offset_us is not None and abs(o.clock_offset_us) < 500_000 for o in dispatch(fleet))


def test_a_new_ping_list_reaches_the_running_agent(fleet: FleetOfTest):
    dispatch(fleet)
    before = pid(fleet)
    found = dispatch(fleet, interval_s=20)
    assert [(o.outcome, o.detail) for o in found] == [("ok", "copy pinglist.json")] * 2
    assert pid(fleet) == before
    deadline = time.monotonic() + 15
    while json.loads((agent_home(fleet) / "agent.json").read_text())["pinglist_version"] != found[0].pinglist_version:
        assert time.monotonic() < deadline, "the agent did not take the new list"
        time.sleep(0.2)


def test_a_new_release_restarts_the_agent(fleet: FleetOfTest):
    dispatch(fleet)
    before = pid(fleet)
    found = dispatch(fleet, NEW_RELEASE)
    assert [(o.outcome, o.detail) for o in found] == [
        ("ok", f"install release {NEW_RELEASE.version}, restart the agent")
    ] * 2
    assert not runs(before) and runs(pid(fleet))
    assert [o.outcome for o in dispatch(fleet, NEW_RELEASE)] == ["unchanged"] * 2


def test_a_host_with_the_release_that_was_one_file_is_upgraded_and_cleaned(fleet: FleetOfTest):
    """Its `stop` is by the lock, which did not change: the new release stops the old agent."""
    dispatch(fleet)
    home, before = agent_home(fleet), pid(fleet)
    (home / "agent.py").unlink()
    shutil.rmtree(home / "releases")
    (home / "agent.py").write_text("the previous release, of which one agent runs")
    found = dispatch(fleet)
    assert [(o.outcome, o.detail) for o in found] == [
        ("ok", f"install release {RELEASE.version}, restart the agent"),
        ("unchanged", ""),
    ]
    assert not runs(before) and runs(pid(fleet))
    assert [o.outcome for o in clean_hosts(fleet.hosts, fleet.access, LIMITS)] == ["ok"] * 2
    assert not home.exists()


def test_the_command_of_the_readme_answers_on_a_host(fleet: FleetOfTest):
    dispatch(fleet)
    [line] = re.findall(r"`(python3 ~/\.pingmesh/agent\.py status .*?)`", README.read_text())
    environment = {"HOME": str(fleet.home("host01")), "PATH": os.environ["PATH"]}
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True, env=environment)
    assert json.loads(done.stdout)["pid"] == pid(fleet)


def test_an_agent_that_was_killed_is_started_again(fleet: FleetOfTest):
    dispatch(fleet)
    os.kill(pid(fleet), signal.SIGKILL)
    assert [(o.outcome, o.detail) for o in dispatch(fleet)] == [("ok", "start the agent"), ("unchanged", "")]
    assert runs(pid(fleet))


def test_a_file_that_was_damaged_on_the_host_is_replaced(fleet: FleetOfTest):
    dispatch(fleet)
    module = agent_home(fleet) / "releases" / RELEASE.version / "pingmesh_agent" / "prober.py"
    module.write_bytes(RELEASE.files["prober.py"][:1000])
    assert dispatch(fleet)[0].detail == f"install release {RELEASE.version}, restart the agent"
    assert module.read_bytes() == RELEASE.files["prober.py"]
    assert dispatch(fleet)[0].outcome == "unchanged"


def test_an_agent_goes_on_when_its_login_is_over_and_dies_with_its_host(fleet: FleetOfTest):
    dispatch(fleet)
    number = pid(fleet)
    time.sleep(0.5)
    assert runs(number)
    fleet.stop_host("host01")
    await_true("dead", lambda: not runs(number))
    assert [o.outcome for o in dispatch(fleet)] == ["unreachable", "unchanged"]
    fleet.start_host("host01")
    assert [o.outcome for o in dispatch(fleet)] == ["ok", "unchanged"]


def test_two_dispatches_at_the_same_time_leave_one_agent_a_host(fleet: FleetOfTest):
    with ThreadPoolExecutor(2) as pool:
        both = [run.result() for run in [pool.submit(dispatch, fleet) for _ in range(2)]]
    assert {(o.outcome, o.detail) for found in both for o in found if o.outcome not in ("ok", "unchanged")} == set()
    assert len(agents_below(fleet.home("host01"))) == 1
    assert [o.outcome for o in dispatch(fleet)] == ["unchanged"] * 2


def test_a_dry_run_tells_what_it_would_do_and_does_nothing(fleet: FleetOfTest):
    found = dispatch(fleet, dry_run=True)
    assert [(o.outcome, o.detail) for o in found] == [
        ("unchanged", f"would install release {RELEASE.version}, copy pinglist.json, start the agent")
    ] * 2
    assert not agent_home(fleet).exists()


def test_a_host_without_a_ping_list_is_a_fault_of_the_plan(fleet: FleetOfTest):
    with pytest.raises(ConfigError, match="host02"):
        dispatch_agents(fleet.hosts, {"host01": b"{}"}, RELEASE, fleet.access, LIMITS)


def test_an_agent_that_does_not_start_is_told_in_its_own_words(fleet: FleetOfTest):
    documents = {h.name: b'{"version": "nonsense"}' for h in fleet.hosts}
    found = dispatch_agents(fleet.hosts, documents, RELEASE, fleet.access, LIMITS)
    assert [o.outcome for o in found] == ["agent_failed"] * 2
    assert "pinglist.json" in found[0].detail
    assert not agents_below(fleet.demo.root)


# ------------------------------------------------------------------------ hosts that cannot do it


def host_with(directory: Path, **commands: str) -> DemoHost:
    """A host where only `commands` are in the PATH: name → path of what it links to, or a script."""
    path = directory / "bin"
    path.mkdir()
    for name, target in commands.items():
        command = path / name.replace("_", ".")
        if target.startswith("#!"):
            command.write_text(target)
            command.chmod(0o755)
        else:
            command.symlink_to(target)
    return DemoHost("host01", "127.0.0.11", login_path=str(path))


SHELL_TOOLS = {name: f"/usr/bin/{name}" for name in ("mkdir", "chmod", "rmdir", "grep", "tail", "sleep", "rm", "cat")}
OLD_PYTHON = '#!/bin/sh\necho \'{"python": "3.7.16"}\'\nexit 9\n'


def python37() -> str:
    """A real Python 3.7 where PINGMESH_TEST_PYTHON37 names one, otherwise a script that answers as one does."""
    return os.environ.get("PINGMESH_TEST_PYTHON37", OLD_PYTHON)


def first_dispatch(directory: Path, host: DemoHost, **more: Any) -> HostOutcome:
    with running_fleet(directory, [host]) as fleet:
        give_keys(fleet)
        return dispatch(fleet, **more)[0]


def test_a_host_without_python_is_told(tmp_path: Path):
    found = first_dispatch(tmp_path, host_with(tmp_path, **SHELL_TOOLS), interpreters=["python3", "python3.11"])
    assert found.outcome == "no_python"


def test_a_host_with_python_37_is_told_with_its_version(tmp_path: Path):
    host = host_with(tmp_path, **SHELL_TOOLS, python3=python37())
    found = first_dispatch(tmp_path, host, interpreters=["python3", "python3.11"])
    assert (found.outcome, "Python 3.7." in found.detail) == ("python_too_old", True)


def test_a_newer_python_beside_an_old_one_is_used(tmp_path: Path):
    new = os.path.realpath("/proc/self/exe")
    host = host_with(tmp_path, **SHELL_TOOLS, python3=python37(), python3_11=new)
    assert first_dispatch(tmp_path, host, interpreters=["python3", "python3.12", "python3.11"]).outcome == "ok"


def test_a_python_that_answers_nonsense_is_an_outcome(tmp_path: Path):
    host = host_with(tmp_path, **SHELL_TOOLS, python3="#!/bin/sh\necho '[[[['\nexit 0\n")
    assert first_dispatch(tmp_path, host, interpreters=["python3"]).outcome == "failed"


@pytest.fixture
def small_disk(fleet: FleetOfTest) -> Iterator[Path]:
    """A file system of 512 KB under the agent's home on host01."""
    require("mount")
    home = agent_home(fleet)
    home.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", home], check=True)
    yield home
    stop_agents(fleet.hosts, fleet.access, LIMITS)
    subprocess.run(["umount", "--lazy", home], check=True)


def test_a_full_disk_is_told_and_what_was_there_goes_on(fleet: FleetOfTest, small_disk: Path):
    assert [(o.outcome, "start" in o.detail) for o in dispatch(fleet)] == [("ok", True)] * 2
    number, files = pid(fleet), sorted(small_disk.rglob("*.py"))
    found = dispatch(fleet, AgentRelease({**RELEASE.files, "ballast.py": b"#" * 1_000_000}))
    assert [o.outcome for o in found] == ["disk_full", "ok"]
    assert sorted(small_disk.rglob("*.py")) == files
    assert not list(small_disk.rglob("*.new"))
    assert runs(number) and pid(fleet) == number
    assert dispatch(fleet)[0].outcome == "unchanged"


# ------------------------------------------------------------------------ stop and clean


def test_stop_ends_the_agents_and_keeps_their_files(fleet: FleetOfTest):
    dispatch(fleet)
    number = pid(fleet)
    would = stop_agents(fleet.hosts, fleet.access, LIMITS, dry_run=True)
    assert would[0].detail == f"would stop the agent (pid {number})" and runs(number)
    assert [o.outcome for o in stop_agents(fleet.hosts, fleet.access, LIMITS)] == ["ok"] * 2
    await_true("gone", lambda: not runs(number))
    assert (agent_home(fleet) / "agent.py").exists()
    assert [o.outcome for o in stop_agents(fleet.hosts, fleet.access, LIMITS)] == ["unchanged"] * 2


def test_clean_leaves_nothing_of_ours_and_everything_of_others(fleet: FleetOfTest):
    theirs = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHjpS5S8oCE1MAWnXqmT4NEcCaCLNaiZ4i2T4Ng6oW0t alice\n"
    for host in fleet.hosts:
        authorized = fleet.home(host.name) / ".ssh" / "authorized_keys"
        authorized.write_text(theirs + authorized.read_text())
        (fleet.home(host.name) / "thesis.tex").write_text("theirs")
    dispatch(fleet)

    found = clean_hosts(fleet.hosts, fleet.access, LIMITS, remove_key=True)

    assert [o.outcome for o in found] == ["ok"] * 2
    await_true("without agents", lambda: not agents_below(fleet.demo.root))
    for host in fleet.hosts:
        left = sorted(str(p.relative_to(fleet.home(host.name))) for p in fleet.home(host.name).rglob("*"))
        assert left == [".ssh", ".ssh/authorized_keys", "thesis.tex"]
        assert (fleet.home(host.name) / ".ssh" / "authorized_keys").read_text() == theirs
    assert [o.outcome for o in clean_hosts(fleet.hosts, fleet.access, LIMITS)] == ["auth_failed"] * 2


def test_clean_twice_is_unchanged_and_a_dry_run_touches_nothing(fleet: FleetOfTest):
    dispatch(fleet)
    would = clean_hosts(fleet.hosts, fleet.access, LIMITS, dry_run=True)
    assert would[0].outcome == "unchanged" and would[0].detail.endswith(f"remove {agent_home(fleet)}")
    assert runs(pid(fleet))
    assert [o.outcome for o in clean_hosts(fleet.hosts, fleet.access, LIMITS)] == ["ok"] * 2
    assert [o.outcome for o in clean_hosts(fleet.hosts, fleet.access, LIMITS)] == ["unchanged"] * 2


def test_a_home_that_could_be_anything_is_refused_before_any_contact(fleet: FleetOfTest):
    for act in (clean_hosts, stop_agents):
        with pytest.raises(ConfigError, match="pingmesh"):
            act(fleet.hosts, fleet.access, LIMITS, home="~")


def test_a_demo_fleet_that_stops_leaves_no_agent(tmp_path: Path):
    with running_fleet(tmp_path) as fleet:
        give_keys(fleet)
        dispatch(fleet)
        assert len(agents_below(tmp_path)) == 2
    await_true("without agents", lambda: not agents_below(tmp_path))
