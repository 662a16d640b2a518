"""The spool: no written row is lost, everything is bounded, a full disk is waited for."""

from __future__ import annotations

import os
import resource
import subprocess
from pathlib import Path

import pytest
from pingmesh_agent import prober
from pingmesh_agent.chunk import window_id
from pingmesh_agent.home import Home
from pingmesh_agent.limits import MAX_LOG_BYTES
from pingmesh_agent.outcomes import TIMEOUT
from pingmesh_agent.spool import Spool

from tests.support.black_hole import black_hole

B = "127.0.0.22"
WINDOW_END_US = 1_795_298_760_000_000
CLOSED_PORT = [["b", B, 1, "tcp", "intra_tor", 0]]


def spool(mesh) -> list[str]:
    return sorted(path.name for path in (mesh.root / "a" / "spool").iterdir())


def test_a_window_ends_in_a_file_with_its_final_name_and_the_next_begins(
    mesh, pinglist, records, totals
):
    mesh.add(pinglist(targets=CLOSED_PORT))
    mesh.pass_time(61)
    assert spool(mesh) == ["20261121T220500Z.pms"]
    headers, rows = records(mesh.root / "a")
    assert [header["chunk"] for header in headers] == list(range(6))
    assert [header["span_us"] for header in headers] == [pytest.approx(10_000_000, abs=20_000)] * 6
    assert [bool(header["table_bytes"]) for header in headers] == [True] + [False] * 5
    assert totals(headers) == (60, 60, {})
    assert len(rows) == 60
    mesh.pass_time(10)
    assert spool(mesh) == ["20261121T220500Z.pms", "20261121T220600Z.part"]


def test_a_probe_is_filed_in_the_window_in_which_it_was_sent(mesh, pinglist, records):
    with black_hole(B) as port:
        mesh.add(pinglist(targets=[["b", B, port, "tcp", "intra_tor", 0]], timeout_s=3))
        mesh.pass_time(61)
        assert spool(mesh) == ["20261121T220500Z.part"]  # still waits for the last
        mesh.pass_time(3)
        assert spool(mesh) == ["20261121T220500Z.pms"]
        headers, rows = records(mesh.root / "a")
        assert len(rows) == 60 == sum(header["sent"] for header in headers)
        assert headers[-1]["start_us"] >= WINDOW_END_US
        assert all(row["sent_us"] < WINDOW_END_US for row in rows)
        mesh.close()


@pytest.mark.parametrize("before_us", range(30_000, 80_000, 5_000))
def test_a_probe_sent_as_a_window_ends_is_filed_in_the_next(
    mesh, pinglist, records, totals, before_us
):
    mesh.clock.elapsed_us = 60_000_000 - before_us
    mesh.add(pinglist(targets=CLOSED_PORT * 7, interval_s=0.05))
    tell_time = mesh.clock.wall_us

    def slow_wall_us() -> int:
        mesh.clock.elapsed_us += 4_000  # every look at the clock takes its time
        return tell_time()

    mesh.clock.wall_us = slow_wall_us
    mesh.pass_time(0.1)
    mesh.close()
    headers, rows = records(mesh.root / "a")
    assert len({row["window"] for row in rows}) == 2
    assert all(
        window_id(row["sent_us"] // 60_000_000 * 60_000_000) == row["window"] for row in rows
    )
    for header in headers:
        assert header["scheduled"] == header["sent"] + sum(header["skipped"].values())
    assert totals(headers)[1] == len(rows)


def test_an_agent_without_targets_writes_windows_too(mesh, pinglist, records):
    mesh.add(pinglist())
    mesh.pass_time(61)
    headers, rows = records(mesh.root / "a")
    assert (len(headers), rows) == (6, [])


def crash(mesh) -> None:
    """What a kill -9 leaves: the lock is free, nothing is flushed."""
    victim = mesh.agents.pop()
    victim.responder.close()
    os.close(victim.lock_fd)


def test_a_crash_loses_one_chunk_at_most_and_the_successor_goes_on(mesh, pinglist, records, totals):
    mesh.add(pinglist(targets=CLOSED_PORT))
    mesh.pass_time(27)
    crash(mesh)
    part = mesh.root / "a" / "spool" / "20261121T220500Z.part"
    whole = part.read_bytes()
    part.write_bytes(whole + whole[: len(whole) // 3])  # the chunk that was being written
    mesh.add(pinglist(targets=CLOSED_PORT))
    mesh.pass_time(34)
    assert spool(mesh) == ["20261121T220500Z.pms"]
    headers, rows = records(mesh.root / "a")
    assert [header["chunk"] for header in headers] == list(range(6))
    assert [number for number, header in enumerate(headers) if header["table_bytes"]] == [0, 2]
    assert totals(headers) == (53, 53, {})
    assert len(rows) == 53
    assert "cut" in (mesh.root / "a" / "agent.log").read_text()


def test_a_successor_closes_the_window_that_its_predecessor_left(mesh, pinglist, records):
    mesh.add(pinglist(targets=CLOSED_PORT))
    mesh.pass_time(27)
    crash(mesh)
    spool_directory = mesh.root / "a" / "spool"
    (spool_directory / "20261121T220400Z.part").write_bytes(b"PMS1 only torn")
    with (spool_directory / "20261121T220500Z.part").open("ab") as part:
        part.write(b"PMS1 torn")
    mesh.clock.elapsed_us += 60_000_000
    mesh.add(pinglist())
    assert spool(mesh) == ["20261121T220500Z.pms"]
    assert len(records(mesh.root / "a")[1]) == 20


def test_the_oldest_segments_go_first_when_the_spool_is_full(mesh, pinglist):
    directory = mesh.root / "a" / "spool"
    directory.mkdir(parents=True)
    for minute in range(5):
        (directory / f"20261121T220{minute}00Z.pms").write_bytes(bytes(1000))
    a = mesh.add(pinglist(spool_max_bytes=3500))
    assert spool(mesh) == ["20261121T220200Z.pms", "20261121T220300Z.pms", "20261121T220400Z.pms"]
    mesh.pass_time(61)
    assert spool(mesh)[-1] == "20261121T220500Z.pms"
    assert sum(size for _, size in a.spool.segments()) <= 3500
    assert a.spool.counts["segments_pruned"] == 6 - len(spool(mesh))


def test_segments_that_are_too_old_go(mesh, pinglist):
    directory = mesh.root / "a" / "spool"
    directory.mkdir(parents=True)
    for name in ("20261120T220400Z.pms", "20261120T220600Z.pms"):
        (directory / name).write_bytes(b"x")
    mesh.add(pinglist(spool_keep_s=86_400))
    assert spool(mesh) == ["20261120T220600Z.pms"]


def test_a_full_disk_is_counted_waited_for_and_nothing_is_lost(mesh, pinglist, records, totals):
    a = mesh.add(pinglist(targets=CLOSED_PORT))
    mesh.pass_time(15)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = (mesh.root / "a" / "spool" / "20261121T220500Z.part").stat().st_size
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (size + 30, hard)
    )  # the next chunk is torn by the kernel
    try:
        mesh.pass_time(60)
        assert a.spool.counts["write_errors"] > 0
        assert a.status()["last_error"]
        assert (mesh.root / "a" / "spool" / "20261121T220500Z.part").stat().st_size == size
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    mesh.pass_time(50)
    assert spool(mesh) == ["20261121T220500Z.pms", "20261121T220600Z.pms"]
    mesh.close()
    headers, rows = records(mesh.root / "a")
    assert totals(headers) == (125, 125, {})
    assert len(rows) == 125
    assert a.status()["last_error"] is None


def test_while_the_disk_is_full_memory_stays_bounded(mesh, pinglist, records, totals, monkeypatch):
    monkeypatch.setattr(prober, "MAX_PENDING_ROWS", 10)
    monkeypatch.setattr("pingmesh_agent.spool.MAX_PENDING_WINDOWS", 2)
    a = mesh.add(pinglist(targets=CLOSED_PORT))
    with monkeypatch.context() as disk:
        disk.setattr(Home, "append", full_disk)
        mesh.pass_time(240)
        assert a.spool.pending_rows() <= 20
        assert len(a.spool.open) <= 3
    mesh.pass_time(70)
    mesh.close()
    headers, rows = records(mesh.root / "a")
    scheduled, sent, skipped = totals(headers)
    assert scheduled == sent + skipped["disk"]
    assert len(rows) == sent
    assert a.spool.counts["rows_dropped"] > 0


def test_the_first_error_of_a_disk_and_its_end_are_in_the_log(tmp_path, monkeypatch):
    lines: list[str] = []
    home = Home(str(tmp_path))
    home.make_directory("spool")
    spool = Spool(home, lines.append)
    segment = spool.segment(WINDOW_END_US, 60)
    with monkeypatch.context() as disk:
        disk.setattr(Home, "append", full_disk)
        assert [spool.flush(segment, WINDOW_END_US) for _ in range(3)] == [False] * 3
    assert spool.flush(segment, WINDOW_END_US)
    fault = f"[Errno 28] No space left on device: '{segment.path}.part'"
    assert lines == [f"cannot write: {fault}", f"writing again, after: {fault}"]
    assert (spool.counts["write_errors"], spool.counts["chunks"], segment.chunks) == (3, 1, 1)


def full_disk(home: Home, name: str, data: bytes) -> None:
    raise OSError(28, "No space left on device", name)


@pytest.mark.integration
@pytest.mark.needs("mount")
def test_a_really_full_file_system_is_survived(mesh, pinglist, records):
    home = mesh.root / "a"
    (home / "spool").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", home / "spool"], check=True)
    try:
        a = mesh.add(pinglist(targets=CLOSED_PORT * 20))
        mesh.pass_time(11)
        (home / "spool" / "ballast").write_bytes(bytes(os.statvfs(home / "spool").f_bavail * 4096))
        mesh.pass_time(80)
        assert a.spool.counts["write_errors"] > 0
        (home / "spool" / "ballast").unlink()
        mesh.pass_time(60)
        mesh.close()
        assert len(records(home)[1]) == 151 * 20
    finally:
        subprocess.run(["umount", home / "spool"], check=True)


@pytest.mark.parametrize("step_s", [3600, -3600, 2, -2, 80_000])
def test_a_clock_that_is_set_moves_the_windows_but_neither_pace_nor_counts(
    mesh, pinglist, records, totals, step_s
):
    a = mesh.add(pinglist(targets=CLOSED_PORT))
    mesh.pass_time(25)
    mesh.clock.start_us += step_s * 1_000_000
    mesh.pass_time(25)
    mesh.close()
    headers, rows = records(mesh.root / "a")
    assert totals(headers) == (50, 50, {})
    assert len(rows) == 50
    assert sum(header.get("clock_step_us", 0) for header in headers) == step_s * 1_000_000
    assert f"stepped by {step_s:+d}.000 s" in (mesh.root / "a" / "agent.log").read_text()
    assert a.spool.fault is None


@pytest.mark.parametrize("step_s", [3600, -3600])
def test_a_probe_under_way_when_the_clock_is_set_keeps_its_place_in_time(
    mesh, pinglist, records, step_s
):
    with black_hole(B) as port:
        mesh.add(
            pinglist(targets=[["b", B, port, "tcp", "intra_tor", 0]], interval_s=10, timeout_s=3)
        )
        mesh.pass_time(6)
        mesh.clock.start_us += step_s * 1_000_000
        mesh.pass_time(3)
        mesh.close()
    [row] = records(mesh.root / "a")[1]
    assert row["sent_us"] == pytest.approx(mesh.clock.start_us + 5_000_000, abs=50_000)
    assert row["status"] == TIMEOUT


def test_a_window_that_comes_again_after_the_clock_went_back_is_continued(mesh, pinglist, records):
    mesh.add(pinglist(targets=CLOSED_PORT))
    mesh.pass_time(65)
    assert spool(mesh) == ["20261121T220500Z.pms"]
    mesh.clock.start_us -= 30_000_000
    mesh.pass_time(40)
    mesh.close()
    headers, rows = records(mesh.root / "a")
    assert spool(mesh) == ["20261121T220500Z.pms", "20261121T220600Z.part"]
    assert len(rows) == 105
    assert [h["chunk"] for h in headers if h["window"] == "20261121T220500Z"] == list(range(9))


def test_another_window_length_takes_effect_without_losing_a_row(mesh, pinglist, records, tell):
    mesh.add(pinglist(targets=CLOSED_PORT, window_s=300))
    mesh.pass_time(15)
    tell(mesh.root / "a", pinglist(version="short", targets=CLOSED_PORT, window_s=60))
    mesh.pass_time(50)
    mesh.close()
    headers, rows = records(mesh.root / "a")
    assert len(rows) == sum(header["sent"] for header in headers) == pytest.approx(65, abs=1)
    assert spool(mesh) == ["20261121T220500Z.pms", "20261121T220600Z.part"]


def test_the_log_is_bounded(mesh, pinglist):
    a = mesh.add(pinglist())
    for _ in range(400):
        a.log("x" * 10_000)
    home = mesh.root / "a"
    assert (home / "agent.log").stat().st_size <= MAX_LOG_BYTES + 2002
    assert (home / "agent.log.1").stat().st_size <= MAX_LOG_BYTES + 2002
    assert len(list(home.glob("agent.log*"))) == 2


def test_a_lease_that_is_not_renewed_ends_the_agent(mesh, pinglist):
    a = mesh.add(pinglist(lease_s=30))
    lease = Path(a.home.path, "lease")
    mesh.pass_time(25)
    lease.touch()
    mesh.pass_time(29)
    assert not a.stopping
    mesh.pass_time(3)
    assert a.stopping == "the lease was not renewed for 30 s"


def test_a_clock_step_does_not_end_the_lease(mesh, pinglist):
    a = mesh.add(pinglist(lease_s=30))
    mesh.clock.start_us += 86_400_000_000
    mesh.pass_time(5)
    assert not a.stopping
