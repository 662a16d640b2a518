"""Follow, its pure parts: which hosts are followed, and what is worth waking up for."""

from __future__ import annotations

from collections import Counter

import pytest

from pingmesh_tasks.fleet.notable import LogWatch, NotableLimits, ProbeWatch
from pingmesh_tasks.fleet.tailing import Contact, Roster, choose_hosts
from pingmesh_tasks.fleet.tails import ChunkFacts
from pingmesh_tasks.topology.inventory import Host, Inventory

LIMITS = NotableLimits()


def racks(count: int, size: int) -> Inventory:
    hosts = [
        Host(f"h{rack:03d}-{i:02d}", f"10.{rack // 200}.{rack % 200}.{i}", "dc1", f"p{rack // 10}", f"t{rack % 10}")
        for rack in range(count)
        for i in range(size)
    ]
    return Inventory(tuple(hosts), True)


def test_a_fleet_that_fits_is_followed_whole():
    fleet = racks(5, 10)
    assert choose_hosts(fleet, 50) == fleet.hosts


@pytest.mark.parametrize("most", [20, 30, 33, 199])
def test_of_a_larger_fleet_every_rack_is_followed_evenly_and_the_choice_is_always_the_same(most: int):
    fleet = racks(20, 40)
    chosen = choose_hosts(fleet, most)
    counts = Counter(host.tor_key for host in chosen)
    assert len(chosen) == len(set(chosen)) == most
    assert len(counts) == 20 and max(counts.values()) - min(counts.values()) <= 1
    assert chosen == choose_hosts(Inventory(tuple(reversed(fleet.hosts)), True), most)


def test_with_more_racks_than_connections_racks_are_left_out_evenly():
    chosen = choose_hosts(racks(100, 3), 50)
    assert len({host.tor_key for host in chosen}) == len(chosen) == 50
    assert len({host.podset for host in chosen}) == 10


def test_a_roster_comes_back_as_it_was():
    roster = Roster((Contact("h1", "host", 5, True, 7), Contact("d1", "log", 6, False, None, "timeout: …")), 3)
    assert Roster.decode(roster.encode()) == roster
    for garbage in (b"", b"{}", b"[]", b'{"contacts": [[1]], "not_followed": 0}'):
        with pytest.raises((KeyError, TypeError, ValueError)):
            Roster.decode(garbage)


def chunk(rows: int = 100, **failing: int) -> ChunkFacts:
    return ChunkFacts(10_000_000, 10_000_000, rows, sum(failing.values()), Counter(failing))


def test_a_lone_failure_is_noise_and_a_share_of_the_chunk_is_not():
    watch = ProbeWatch(LIMITS)
    assert not watch.notable([chunk(), chunk(b=1)], 0)
    assert watch.notable([chunk(a=1, b=1, c=1, d=1, e=1)], 100)


def test_one_target_that_several_hosts_miss_is_notable_though_each_missed_it_once():
    watch = ProbeWatch(LIMITS)
    assert not watch.notable([chunk(b=1)], 0)
    assert watch.notable([chunk(b=1)], 5)


def test_failures_are_forgotten_after_a_minute():
    watch = ProbeWatch(LIMITS)
    assert not any(watch.notable([chunk(b=1)], 100 * n) for n in range(20))


def reads(pid: int, node: str, count: int) -> bytes:
    line = f"Sat Nov 21 22:50:47 2026 (pid {pid}) GetData called for tree=EAST, shot=1, node={node}\n"
    return line.encode() * count


def test_a_process_that_reads_one_node_over_and_over_is_notable_soon():
    watch = LogWatch(LIMITS)
    most = LIMITS.same_read_of_pid_burst
    assert not watch.notable("access", reads(7, "\\A", most - 5), 0, 0)
    assert watch.notable("access", reads(7, "\\A", 5), 0, 1)


def test_a_slow_poller_is_notable_before_its_limit_of_a_minute():
    watch = LogWatch(LIMITS)
    found = [watch.notable("access", reads(7, "\\A", 3), 0, now_s) for now_s in range(60)]
    assert True in found and found.index(True) <= LIMITS.same_read_of_pid // 3


def test_a_process_that_serves_everybody_is_not_taken_for_one_client():
    def second(now_s: int) -> bytes:
        connection = f"x (pid 9) Connection received from u{now_s}@h [10.0.0.{now_s}]\n".encode()
        return connection + b"".join(reads(9, f"\\N{node}", 1) for node in range(100))

    watch = LogWatch(LIMITS)
    assert not any(watch.notable("access", second(now_s), 0, now_s) for now_s in range(50))
    assert watch.notable("access", reads(9, "\\N1", LIMITS.same_read_burst), 0, 51)


def test_many_different_reads_are_not():
    watch = LogWatch(LIMITS)
    everything = b"".join(reads(pid, f"\\N{node}", 1) for pid in range(20) for node in range(40))
    assert not any(watch.notable("access", everything, 0, now_s) for now_s in (0, 20, 40))


def test_bursts_of_connections_of_strange_lines_and_of_refusals_are_notable():
    def connections(count: int) -> bytes:
        return b"".join(b"x (pid 1) Connection received from bob@h [10.0.0.%d]\n" % n for n in range(count))

    assert not LogWatch(LIMITS).notable("access", connections(200), 0, 0)
    assert LogWatch(LIMITS).notable("access", connections(200) * 10, 0, 0)
    assert LogWatch(LIMITS).notable("access", connections(1) * LIMITS.connects_of_client, 0, 0)
    assert not LogWatch(LIMITS).notable("access", b"strange\n" * 10, 0, 0)
    assert LogWatch(LIMITS).notable("access", b"strange\n" * LIMITS.rejected, 0, 0)
    watch = LogWatch(LIMITS)
    assert [watch.notable("errors", b"Access denied: m\n", 0, now_s) for now_s in (0, 1, 2)] == [False, False, True]
    assert not watch.notable("errors", b"Connected: alice\n", 0, 3)


def test_lines_that_were_passed_over_are_notable():
    assert LogWatch(LIMITS).notable("access", b"one\n", 4_000_000, 0)


def test_a_busy_log_that_falls_silent_is_told_once():
    watch = LogWatch(LIMITS)
    watch.notable("access", reads(1, "\\A", 1), 0, 0)
    assert not watch.fell_silent(1_000), "it was hardly ever busy"
    everything = b"".join(reads(1, f"\\N{node}", 1) for node in range(40))
    watch.notable("access", everything, 0, 2_000)
    told = [watch.fell_silent(2_000 + after) for after in (1, LIMITS.silent_after_s - 5, LIMITS.silent_after_s, 90)]
    assert told == [False, False, True, False]


def test_what_a_watch_remembers_is_bounded():
    watch = LogWatch(LIMITS)
    for second in range(30):
        watch.notable("access", b"".join(reads(n, f"\\N{second}-{n}", 1) for n in range(1_000)), 0, second)
    assert 20_000 <= max(len(counts.total) for counts in (watch._reads, watch._reads_of_pid, watch._pids)) <= 21_000
