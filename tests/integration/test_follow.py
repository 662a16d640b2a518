"""Follow: what hosts and data servers write arrives within moments, whatever becomes of them meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pingmesh_tasks.demo.fleet import demo_hosts
from pingmesh_tasks.fleet.agents import AgentRelease, dispatch_agents
from pingmesh_tasks.fleet.keys import ensure_keys
from pingmesh_tasks.latency.segment import decode_segment
from pingmesh_tasks.topology.inventory import Inventory, LogServer
from pingmesh_tasks.topology.pinglist import PinglistPolicy, plan_pinglists
from tests.support.fleet import LIMITS, FleetOfTest, free_port, running_fleet
from tests.support.follow import QUICK, command, following
from tests.support.segments import TABLE, chunk

pytestmark = pytest.mark.integration

REPO = Path(__file__).parents[2]
WINDOW, NEXT = "20261121T220500Z", "20261121T221000Z"
ROWS = [(offset * 1000, offset % 3, 100 + offset, 40_000 + offset, 0, 0) for offset in range(6)]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[FleetOfTest]:
    """Two hosts that know our key, with a port for probes that nobody else uses; no agents yet."""
    with running_fleet(tmp_path) as fleet:
        port = free_port()
        fleet.hosts = [replace(host, probe_port=port) for host in fleet.hosts]
        assert {o.outcome for o in ensure_keys(fleet.hosts, fleet.access, fleet.bootstrap, LIMITS)} == {"ok"}
        yield fleet


class Spool:
    """The spool of a host without an agent."""

    def __init__(self, fleet: FleetOfTest, name: str) -> None:
        self.name = name
        self.folder = fleet.home(name) / ".pingmesh" / "spool"
        self.folder.mkdir(parents=True, exist_ok=True)

    def write(self, number: int, window: str = WINDOW, **changes: object) -> None:
        table = TABLE if number == 0 else None
        with (self.folder / f"{window}.part").open("ab") as file:
            file.write(chunk(ROWS, table, number, host=self.name, window=window, **changes))

    def finish(self, window: str = WINDOW) -> None:
        (self.folder / f"{window}.part").rename(self.folder / f"{window}.pms")


def log_of(fleet: FleetOfTest, name: str) -> tuple[LogServer, Path]:
    """A data server on a host of the fleet, whose log has some lines."""
    path = fleet.home(name) / "mdsip" / "access.log"
    path.parent.mkdir(exist_ok=True)
    path.write_text("old\n")
    address = next(host.address for host in fleet.hosts if host.name == name)
    return LogServer("data1", address, str(path), "UTC", errors_path=str(path.with_name("errors.log"))), path


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_chunks_of_every_host_arrive_as_segments_of_their_own(fleet: FleetOfTest):
    spools = [Spool(fleet, host.name) for host in fleet.hosts]
    for spool in spools:
        spool.write(0)
    with following(Inventory(tuple(fleet.hosts)), fleet.access) as seen:
        for spool in spools:
            seen.until(lambda name=spool.name: seen.of("probe", name))
            for number in (1, 2):
                spool.write(number)
            spool.finish()
            spool.write(0, NEXT)
        seen.until(lambda: sum(piece.stream == NEXT for piece in seen.of("probe")) == 2)
        for spool in spools:
            probes = [decode_segment(piece.data) for piece in seen.of("probe", spool.name)]
            assert sum(map(len, probes)) == 4 * len(ROWS)
        assert {abs(piece.clock_offset_us or 0) < 2_000_000 for piece in seen.of("probe")} == {True}


def test_a_connection_that_is_cut_comes_back_and_nothing_of_the_window_is_lost(fleet: FleetOfTest):
    spool = Spool(fleet, "host01")
    spool.write(0)
    with following(Inventory(tuple(fleet.hosts[:1])), fleet.access) as seen:
        seen.until(lambda: seen.of("probe"))
        fleet.stop_host("host01")
        spool.write(1)
        seen.until(lambda: seen.of("lost_contact"))
        assert not seen.contact("host01").connected
        assert ("lost_contact", True) in [(piece.kind, notable) for piece, notable in seen.pieces]
        spool.write(2)
        fleet.start_host("host01")
        seen.until(lambda: sum(len(decode_segment(p.data)) for p in seen.of("probe")) == 3 * len(ROWS))
        assert seen.contact("host01").connected


def test_a_changed_host_key_is_refused_again_and_again(fleet: FleetOfTest):
    Spool(fleet, "host01").write(0)
    fleet.stop_host("host01")
    (fleet.demo.root / "host01" / "host_key").unlink()
    fleet.start_host("host01")
    with following(Inventory(tuple(fleet.hosts[:1])), fleet.access) as seen:
        seen.until(lambda: len(seen.of("lost_contact")) >= 2)
        assert all(piece.detail.startswith("host_key_changed") for piece in seen.of("lost_contact"))
        assert not seen.of("probe")


def test_lines_arrive_through_rotations_by_rename_and_by_copytruncate(fleet: FleetOfTest):
    server, path = log_of(fleet, "host01")
    with following(Inventory(tuple(fleet.hosts[:1]), log_servers=(server,)), fleet.access) as seen:
        seen.until(lambda: seen.contact("data1").connected and seen.contact("data1").why == "")
        seen.until(lambda: append(path, "first\n") or seen.lines("data1"))
        already = len(seen.lines("data1"))
        for number in range(20):
            append(path, f"{number}\n")
        path.rename(path.with_suffix(".1"))
        append(path.with_suffix(".1"), "20\n")
        append(path, "21\n")
        seen.until(lambda: seen.lines("data1")[-1:] == ["21"])
        os.truncate(path, 0)
        append(path, "1\n")
        seen.until(lambda: seen.lines("data1")[-1:] == ["1"])
        assert [line for line in seen.lines("data1") if line != "first"] == [*map(str, range(22)), "1"]
        assert already >= 1
        append(server_errors := path.with_name("errors.log"), "Access denied: mallory\n")
        assert server_errors.exists()
        seen.until(lambda: seen.lines("data1", "errors") == ["Access denied: mallory"])


def test_a_log_that_is_not_there_is_told_in_the_roster_and_followed_when_it_comes(fleet: FleetOfTest):
    server, path = log_of(fleet, "host01")
    path.unlink()
    with following(Inventory(tuple(fleet.hosts[:1]), log_servers=(server,)), fleet.access) as seen:
        seen.until(lambda: "no readable file" in seen.contact("data1").why)
        path.write_text("new\n")
        seen.until(lambda: seen.lines("data1") == ["new"])
        assert seen.contact("data1").why == ""


def test_a_host_whose_chunks_stop_is_told_at_once_though_the_contact_holds(fleet: FleetOfTest):
    spool = Spool(fleet, "host01")
    spool.write(0, span_us=1_000_000)
    with following(Inventory(tuple(fleet.hosts[:1])), fleet.access) as seen:
        seen.until(lambda: seen.of("probe"))
        seen.until(lambda: any(piece.kind == "roster" and notable for piece, notable in seen.pieces))
        assert "no chunk" in seen.contact("host01").why
        spool.write(1, span_us=1_000_000)
        seen.until(lambda: seen.contact("host01").why == "")


def test_garbage_in_a_spool_harms_nobody_else(fleet: FleetOfTest):
    good, bad = Spool(fleet, "host01"), Spool(fleet, "host02")
    (bad.folder / f"{WINDOW}.part").write_bytes(os.urandom(3_000_000))
    (bad.folder / "not a window\n; rm -rf $HOME.part").write_bytes(b"")
    good.write(0)
    with following(Inventory(tuple(fleet.hosts)), fleet.access) as seen:
        seen.until(lambda: seen.of("probe", "host01"))
        good.write(1)
        seen.until(lambda: len(seen.of("probe", "host01")) == 2)
        assert not seen.of("probe", "host02")


def test_the_real_agent_is_followed_through_a_kill_and_a_restart(fleet: FleetOfTest):
    def dispatch() -> None:
        lists = plan_pinglists(Inventory(tuple(fleet.hosts), True), PinglistPolicy(interval_s=1, timeout_s=0.5))
        documents = {name: plan.document() for name, plan in lists.items()}
        outcomes = dispatch_agents(fleet.hosts, documents, AgentRelease.load(), fleet.access, LIMITS, lab=True)
        assert {outcome.outcome for outcome in outcomes} <= {"ok", "unchanged"}

    dispatch()
    with following(Inventory(tuple(fleet.hosts)), fleet.access) as seen:

        def times() -> list[float]:
            """When the probes were sent that have arrived."""
            frames = [decode_segment(piece.data)["ts"] for piece in seen.of("probe", "host01")]
            return [moment.timestamp() for frame in frames for moment in frame]

        seen.until(times)
        assert time.time() - max(times()) < 10
        os.kill(int((fleet.home("host01") / ".pingmesh" / "agent.lock").read_text()), signal.SIGKILL)
        killed_s = time.time()
        dispatch()
        seen.until(lambda: max(times()) > killed_s + 1, patience_s=40)
        assert len(set(times())) == len(times()), "a chunk came twice"


def test_a_follower_that_is_killed_leaves_nothing_on_the_hosts(fleet: FleetOfTest, tmp_path: Path):
    Spool(fleet, "host01").write(0)
    server, path = log_of(fleet, "host02")
    plan = {
        "hosts": {host.name: host.address for host in fleet.hosts},
        "logs": [("data1", server.address, str(path))],
        "directory": str(tmp_path / "keys"),
        "username": fleet.access.username,
        "port": fleet.access.port,
        "limits": {"interval_s": QUICK.interval_s, "roster_s": 0.2},
    }
    before = sorted(file for host in fleet.hosts for file in fleet.home(host.name).rglob("*"))
    with subprocess.Popen(command(plan), stdout=subprocess.PIPE, cwd=REPO) as process:
        assert process.stdout
        assert any(json.loads(line)[0] == "probe" for line in process.stdout)
        deadline = time.monotonic() + 20
        while len(processes_in(fleet)) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.kill()
    while left := processes_in(fleet):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
    assert sorted(file for host in fleet.hosts for file in fleet.home(host.name).rglob("*")) == before


def processes_in(fleet: FleetOfTest) -> list[str]:
    """What runs in the homes of the hosts."""
    homes = {str(fleet.home(host.name)) for host in demo_hosts(2)}
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str((entry / "cwd").readlink()) in homes:
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found
