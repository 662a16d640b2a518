"""The agent as a whole, ticked by hand: its state, when it stops, what a stop waits for."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
from pingmesh_agent import agent as agent_module
from pingmesh_agent.agent import Agent
from pingmesh_agent.errors import StartError
from pingmesh_agent.limits import MEMORY_CAP_BYTES
from pingmesh_agent.outcomes import LOCAL_ERROR, OK, TIMEOUT
from pingmesh_agent.segment import Segment

from tests.support.black_hole import black_hole

A, B = "127.0.0.21", "127.0.0.22"
CLOSED_PORT = [["b", B, 1, "tcp", "intra_tor", 0]]
START_US = 1_795_298_700_000_000


def state(mesh, name: str = "a") -> dict[str, object]:
    return json.loads((mesh.root / name / "agent.json").read_text())


def log(mesh) -> str:
    return (mesh.root / "a" / "agent.log").read_text()


def test_its_state_is_written_at_the_start_and_with_each_chunk(mesh, pinglist, free_port):
    mesh.add(pinglist(targets=[["a", A, free_port, "udp", "intra_tor", 64], *CLOSED_PORT]))
    assert state(mesh) == {
        "pid": os.getpid(),
        "agent_version": state(mesh)["agent_version"],
        "pinglist_version": "0123456789abcdef",
        "host": "a",
        "address": A,
        "listens_on": [A, free_port],
        "python": state(mesh)["python"],
        "started_us": START_US,
        "updated_us": START_US,
        "window": None,
        "targets": 2,
        "in_flight": 0,
        "rss_bytes": 10 << 20,
        "replies": 0,
        "not_a_probe": 0,
        "stopping": None,
        "last_error": None,
        "counters": {
            "scheduled": 0,
            "sent": 0,
            "answered": 0,
            "lost": 0,
            "skipped": 0,
            "chunks": 0,
            "write_errors": 0,
            "segments_pruned": 0,
            "rows_dropped": 0,
        },
    }
    mesh.pass_time(9.9)
    assert state(mesh)["updated_us"] == START_US
    mesh.pass_time(0.2)
    now = state(mesh)
    assert now["updated_us"] == pytest.approx(START_US + 10_000_000, abs=20_000)
    assert now["window"] == "20261121T220500Z"
    assert now["counters"] == {
        **now["counters"],
        "scheduled": 20,
        "sent": 20,
        "answered": 10,
        "chunks": 1,
    }
    assert now["replies"] == 10


def test_losses_and_skips_are_counted(mesh, pinglist, free_port):
    with black_hole(B) as port:
        a = mesh.add(
            pinglist(targets=[["b", B, port, "tcp", "intra_tor", 0]], interval_s=0.5, timeout_s=1)
        )
        a.prober.max_in_flight = 1
        mesh.pass_time(10.1)
    counters = state(mesh)["counters"]
    assert counters["scheduled"] == 20 == counters["sent"] + counters["skipped"]
    assert counters["lost"] >= 5 <= counters["skipped"]
    assert counters["answered"] == 0


def test_a_row_is_kept_at_any_distance_from_the_start_of_its_chunk():
    segment = Segment(START_US, START_US)
    for sent_us in (
        START_US - 5,
        START_US + (1 << 31) - 1,
        START_US + (1 << 31),
        START_US - (1 << 31) - 1,
    ):
        segment.add_row(sent_us, 0, 7, 1, OK, 0)
    assert list(segment.columns[0]) == [-5, 0x7FFFFFFF, 0x7FFFFFFF, -0x80000000]
    assert segment.in_flight == -4


def test_a_probe_due_as_the_window_ends_is_of_the_next(mesh, pinglist):
    a = mesh.add(pinglist(targets=CLOSED_PORT, interval_s=0.05))
    segment = a.spool.segment(mesh.clock.wall_us(), 60)
    a.prober.launch_due(mesh.clock.monotonic_s() + 0.2, lambda: segment.end_us, segment)
    assert (segment.scheduled, segment.sent) == (0, 0)
    a.prober.launch_due(mesh.clock.monotonic_s() + 0.2, lambda: segment.end_us - 1, segment)
    assert (segment.scheduled, segment.sent) == (4, 4)


def test_a_probe_is_late_after_a_quarter_of_a_second(mesh, pinglist):
    a = mesh.add(pinglist(targets=CLOSED_PORT, interval_s=0.1))
    segment = a.spool.segment(mesh.clock.wall_us(), 60)
    a.prober.launch_due(mesh.clock.monotonic_s() + 0.96, mesh.clock.wall_us, segment)
    assert (segment.scheduled, segment.sent, segment.skipped) == (10, 3, {"late": 7})


def test_the_status_of_a_probe_does_not_depend_on_a_small_move_of_the_clock(
    mesh, pinglist, records, free_port
):
    a = mesh.add(pinglist(targets=[["a", A, free_port, "udp", "intra_tor", 64]]))
    for _ in range(10):
        mesh.pass_time(1)
        mesh.clock.start_us += 150_000  # as an NTP client that slews too fast
    assert "stepped" not in log(mesh)
    mesh.pass_time(1)
    mesh.clock.start_us += 250_000
    mesh.pass_time(1)
    assert "the clock stepped by +0.250 s" in log(mesh)
    mesh.close()
    headers, rows = records(mesh.root / "a")
    assert [header["clock_step_us"] for header in headers if "clock_step_us" in header] == [250_000]
    assert {row["status"] for row in rows} == {OK}
    assert a.spool.step_us == 0


def test_a_payload_under_way_when_the_clock_is_set_gets_no_round_trip(mesh, pinglist, records):
    with socket.socket(type=socket.SOCK_DGRAM) as peer:
        peer.bind((B, 0))
        mesh.add(
            pinglist(targets=[["b", *peer.getsockname(), "udp", "intra_tor", 64]], interval_s=10)
        )
        mesh.pass_time(5.1)
        request, sender = peer.recvfrom(100)
        mesh.clock.start_us += 3_600_000_000
        mesh.pass_time(0.04)
        peer.sendto(b"PMR1" + request[4:], sender)
        mesh.pass_time(0.1)
        mesh.close()
    assert [row["status"] for row in records(mesh.root / "a")[1]] == [LOCAL_ERROR]


def test_memory_is_looked_at_every_five_seconds(mesh, pinglist, monkeypatch):
    sizes = []
    monkeypatch.setattr(agent_module, "resident_bytes", lambda: sizes.append(1) or 10 << 20)
    a = mesh.add(pinglist())
    monkeypatch.setattr(a, "write_status", lambda: None)
    sizes.clear()
    mesh.pass_time(20)
    assert len(sizes) == 4


def test_at_the_memory_cap_it_says_so_and_stops(mesh, pinglist):
    a = mesh.add(pinglist())
    a.guard_memory(MEMORY_CAP_BYTES - 1)
    assert a.stopping is None
    a.guard_memory(MEMORY_CAP_BYTES)
    assert a.stopping == "64 MB resident, the cap is 64 MB"
    assert "63 MB resident: sending 50% of the probes" in log(mesh)
    a.stopping = "signal 15"
    a.guard_memory(MEMORY_CAP_BYTES)
    assert a.stopping == "signal 15"


def test_a_lease_holds_for_its_whole_time_from_the_last_renewal(mesh, pinglist):
    a = mesh.add(pinglist(lease_s=10))
    mesh.pass_time(10)
    assert a.stopping is None
    mesh.pass_time(1.1)
    assert a.stopping == "the lease was not renewed for 10 s"


def test_an_agent_that_is_to_stop_sends_nothing_more(mesh, pinglist):
    a = mesh.add(pinglist(targets=CLOSED_PORT, interval_s=0.1))
    mesh.pass_time(1)
    sent = a.spool.current.sent
    a.stopping = "signal 15"
    mesh.pass_time(1)
    assert a.spool.current.sent == sent > 0


def test_with_more_targets_than_a_table_numbers_a_new_list_waits_for_a_restart(
    mesh, pinglist, monkeypatch, tell
):
    monkeypatch.setattr(agent_module, "MAX_TABLE", 3)
    a = mesh.add(pinglist(targets=CLOSED_PORT))
    tell(mesh.root / "a", pinglist(version="fits", targets=CLOSED_PORT * 2))
    mesh.pass_time(1.5)
    assert a.pinglist.version == "fits"
    tell(mesh.root / "a", pinglist(version="does not", targets=CLOSED_PORT * 2))
    mesh.pass_time(1.5)
    assert a.pinglist.version == "fits"
    assert "too many for a segment's table" in log(mesh)


def test_rows_that_wait_for_a_disk_keep_their_targets_through_a_new_list(
    mesh, pinglist, records, tell, monkeypatch
):
    def full(home: object, name: str, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    old = [[name, B, 1, "tcp", "intra_tor", 0] for name in ("kept", "gone")]
    mesh.add(pinglist(targets=old))
    with monkeypatch.context() as disk:
        disk.setattr("pingmesh_agent.home.Home.append", full)
        mesh.pass_time(2)
        new = [["new", B, 1, "tcp", "intra_tor", 0], old[0]]
        tell(mesh.root / "a", pinglist(version="second", targets=new))
        mesh.pass_time(3)
    mesh.close()
    names = [row["name"] for row in records(mesh.root / "a")[1]]
    before, after = names[:4], names[4:]
    assert sorted(before) == ["gone", "gone", "kept", "kept"]
    assert {"new", "kept"} <= set(after)
    assert after.count("gone") <= 1, "it was probed before the list came, once more"


def test_probes_over_the_cap_are_told_in_the_log(mesh, pinglist):
    many = [[f"p{i}", B, 1, "tcp", "intra_tor", 0] for i in range(100)]
    mesh.add(pinglist(targets=many, interval_s=0.05))
    assert "100 targets every 0.05 s, 50% of it: over the cap" in log(mesh)
    mesh.add(pinglist(host="b", address=B, targets=many))
    assert "over the cap" not in (mesh.root / "b" / "agent.log").read_text()


def test_a_line_of_the_log_is_bounded_dated_and_ascii(mesh, pinglist):
    a = mesh.add(pinglist())
    a.log("é\n" + "x" * 5000)
    line = log(mesh).splitlines()[-1]
    assert line.startswith("2026-11-21T22:05:00Z \\xe9\\nxxx")
    assert len(line) == 2000


def test_a_disk_that_takes_no_state_is_counted(mesh, pinglist, monkeypatch):
    def full(home: object, name: str, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    a = mesh.add(pinglist())
    monkeypatch.setattr("pingmesh_agent.home.Home.replace", full)
    a.write_status()
    assert a.spool.counts["write_errors"] == 1


def test_a_home_that_cannot_be_used_is_named(tmp_path: Path, pinglist):
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(
        StartError, match=r"cannot use .*file: .*(File exists|Not a directory)"
    ) as refused:
        Agent(str(tmp_path / "file"))
    assert refused.value.code == 1


class Waits:
    """Stands for `time`: a sleep moves the clock of the test, and may end the agent."""

    def __init__(self, mesh, ticks: int) -> None:
        self.mesh, self.ticks, self.slept = mesh, ticks, []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.mesh.clock.elapsed_us += round(seconds * 1e6)
        if len(self.slept) == self.ticks:
            self.mesh.agents[0].stopping = "signal 15"

    def strftime(self, *arguments: object) -> str:
        return "now"

    gmtime = strftime


@pytest.fixture
def run(mesh, pinglist, monkeypatch):
    """Let an agent run for so many ticks, and return (its rows' statuses, how often it slept)."""

    def run(ticks: int, **changes: object) -> tuple[Agent, int]:
        a = mesh.add(pinglist(**changes))
        waits = Waits(mesh, ticks)
        monkeypatch.setattr(agent_module, "time", waits)
        monkeypatch.setattr(agent_module.os, "nice", lambda _: None)
        for name in ("collect", "freeze", "disable"):
            monkeypatch.setattr(agent_module.gc, name, lambda: None)
        try:
            a.run()
        finally:
            mesh.agents = []
        assert set(waits.slept) == {0.04}
        return a, len(waits.slept)

    return run


def test_a_stop_with_nothing_under_way_waits_for_nothing(run, mesh):
    _, slept = run(10, targets=CLOSED_PORT)
    assert slept == 10
    assert "stop: signal 15" in log(mesh)
    assert state(mesh)["stopping"] == "signal 15"


def test_a_stop_waits_for_the_timeout_of_what_is_under_way_and_a_few_ticks(run, records, mesh):
    with black_hole(B) as port:
        _, slept = run(
            20, targets=[["b", B, port, "tcp", "intra_tor", 0]], timeout_s=2, interval_s=1
        )
    assert [row["status"] for row in records(mesh.root / "a")[1]] == [TIMEOUT]
    assert 20 + 42 <= slept <= 20 + 54


def test_a_stop_waits_four_ticks_longer_than_a_timeout(run, monkeypatch):
    monkeypatch.setattr("pingmesh_agent.prober.Prober.collect", lambda prober, now_s: None)
    _, slept = run(20, targets=CLOSED_PORT, timeout_s=2, interval_s=1)
    assert slept == 20 + 54


def test_a_stop_waits_for_five_seconds_at_most(run, records, mesh):
    with black_hole(B) as port:
        _, slept = run(
            20, targets=[["b", B, port, "tcp", "intra_tor", 0]], timeout_s=60, interval_s=1
        )
    assert [row["status"] for row in records(mesh.root / "a")[1]] == [LOCAL_ERROR]
    assert 124 <= slept - 20 <= 126
