"""What a probe becomes: a row with the kernel's time, or a count with a reason."""

from __future__ import annotations

import resource
import socket
import struct
import sys
import threading
from pathlib import Path
from statistics import median

import pytest
from pingmesh_agent import prober, probes
from pingmesh_agent.limits import MEMORY_CAP_BYTES
from pingmesh_agent.outcomes import BAD_REPLY, LOCAL_ERROR, NO_ECHO, OK, REFUSED, TIMEOUT
from pingmesh_agent.payload import reply_to
from pingmesh_agent.ports import SourcePorts
from pingmesh_agent.probes import PROTOCOLS

from tests.support.black_hole import black_hole

A, B = "127.0.0.21", "127.0.0.22"
ALL = [("tcp", 0), ("tcp_echo", 64), ("tcp_echo", 20_000), ("udp", 64), ("udp", 1400)]


def to_b(port, protocols=(("tcp", 0),), address=B):
    return [["b", address, port, protocol, "intra_tor", size] for protocol, size in protocols]


def test_two_agents_measure_each_other_with_every_protocol(
    mesh, pinglist, free_port, records, totals
):
    mesh.add(pinglist(targets=to_b(free_port, ALL)))
    mesh.add(pinglist(host="b", address=B, targets=to_b(free_port, ALL, A)))
    mesh.pass_time(5)
    mesh.close()
    for name in "ab":
        headers, rows = records(mesh.root / name)
        assert totals(headers) == (25, 25, {})
        assert len(rows) == 25
        assert {row["protocol"] for row in rows} == {"tcp", "tcp_echo", "udp"}
        assert {row["status"] for row in rows} == {OK}
        rtts = [row["rtt_us"] for row in rows]
        assert min(rtts) > 0
        assert median(rtts) < 20_000


@pytest.mark.needs("ipv6")
def test_ipv6_works_the_same(mesh, pinglist, free_port, records):
    mesh.add(pinglist(address="::1", targets=to_b(free_port, ALL, "::1")))
    mesh.pass_time(3)
    mesh.close()
    rows = records(mesh.root / "a")[1]
    assert [row["status"] for row in rows] == [OK] * 15


def test_a_closed_port_refuses(mesh, pinglist, records):
    mesh.add(pinglist(targets=[["b", B, 1, protocol, "intra_tor", 0] for protocol in PROTOCOLS]))
    mesh.pass_time(2)
    mesh.close()
    headers, rows = records(mesh.root / "a")
    assert [row["status"] for row in rows] == [REFUSED] * 6
    assert headers[-1]["errors"] == {"2": 6}
    assert (headers[-1]["answered"], headers[-1]["lost"]) == (0, 0)


def test_no_answer_within_the_timeout_is_a_loss(mesh, pinglist, records):
    with black_hole(B) as port:
        mesh.add(pinglist(targets=to_b(port)))
        mesh.pass_time(2.8)
        mesh.close()
    headers, rows = records(mesh.root / "a")
    assert [row["status"] for row in rows] == [TIMEOUT] * 2 + [
        LOCAL_ERROR
    ]  # the last was under way
    assert headers[-1]["lost"] == 2
    assert headers[-1]["sent"] == 3


def test_a_stopped_peer_answers_connects_but_no_payload(mesh, pinglist, records):
    with socket.socket() as frozen, socket.socket(type=socket.SOCK_DGRAM) as deaf:
        frozen.bind((B, 0))
        frozen.listen(100)
        deaf.bind(frozen.getsockname())
        mesh.add(pinglist(targets=to_b(frozen.getsockname()[1], ALL)))
        mesh.pass_time(1)
        mesh.clock.elapsed_us += 1_500_000
        mesh.pass_time(0.5)
        mesh.close()
    status = {protocol: set() for protocol in PROTOCOLS}
    for row in records(mesh.root / "a")[1]:
        status[row["protocol"]].add(row["status"])
    assert status["tcp"] == {OK}
    assert NO_ECHO in status["tcp_echo"]
    assert status["tcp_echo"] <= {NO_ECHO, LOCAL_ERROR}
    assert TIMEOUT in status["udp"]


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (lambda request: b"HTTP/1.1 400 Bad Request\r\n\r\n" * 3, BAD_REPLY),
        (lambda request: request, BAD_REPLY),
        (lambda request: reply_to(request, None)[:-1] + b"!", BAD_REPLY),
        (lambda request: reply_to(request, None)[:20], BAD_REPLY),
        (lambda request: reply_to(request, None), OK),
    ],
    ids=[
        "another service",
        "the request itself",
        "a wrong byte",
        "a short reply",
        "the right reply",
    ],
)
def test_a_reply_is_held_against_the_request(mesh, pinglist, records, answer, status):
    with socket.socket() as listener, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        listener.bind((B, 0))
        listener.listen()
        datagrams.bind(listener.getsockname())

        def serve():
            with listener.accept()[0] as connection:
                connection.sendall(answer(connection.recv(2000)))
            request, sender = datagrams.recvfrom(2000)
            datagrams.sendto(answer(request), sender)

        thread = threading.Thread(target=serve)
        thread.start()
        targets = to_b(listener.getsockname()[1], [("tcp_echo", 64), ("udp", 64)])
        mesh.add(pinglist(interval_s=10, timeout_s=60, targets=targets))
        mesh.pass_time(8, tick_s=0.5)
        while thread.is_alive():
            thread.join(0.01)
            mesh.pass_time(0.02)
        mesh.pass_time(0.1)
        mesh.close()
    assert [row["status"] for row in records(mesh.root / "a")[1]] == [status, status]


def test_the_time_that_the_peer_held_a_payload_is_not_in_the_round_trip(
    mesh, pinglist, free_port, records
):
    a = mesh.add(
        pinglist(targets=to_b(free_port, [("udp", 64), ("tcp_echo", 64)]), interval_s=0.08)
    )
    b = mesh.add(pinglist(host="b", address=B))
    for _ in range(40):
        mesh.clock.elapsed_us += 20_000
        a.tick()
        threading.Event().wait(0.02)  # the peer gets round to it 20 ms later
        b.tick()
    mesh.close()
    rtts = sorted(row["rtt_us"] for row in records(mesh.root / "a")[1] if row["status"] == OK)
    assert len(rtts) > 10
    assert rtts[len(rtts) // 2] < 10_000


def test_an_answer_that_comes_after_the_timeout_is_lost_however_late_we_look(
    mesh, pinglist, free_port, monkeypatch
):
    a = mesh.add(pinglist(targets=to_b(free_port, address=A)))
    monkeypatch.setattr(probes, "U32", lambda info, at: (1_500_000 if at == 68 else 0,))
    mesh.pass_time(1)
    assert list(a.spool.current.columns[4]) == [TIMEOUT]


def test_a_retransmitted_answer_is_kept_and_marked(mesh, pinglist, free_port, monkeypatch):
    a = mesh.add(pinglist(targets=to_b(free_port, [("tcp", 0)], A)))
    monkeypatch.setattr(probes, "U32", lambda info, at: (1_022_000 if at == 68 else 300,))
    mesh.pass_time(0.6)
    assert [column[0] for column in a.spool.current.columns[4:]] == [OK, 255]


def test_every_peer_is_probed_once_an_interval_in_an_order_of_its_own(mesh, pinglist, records):
    targets = [[f"p{i}", B, 1, "tcp", "intra_tor", 0] for i in range(50)]
    mesh.add(pinglist(targets=targets, interval_s=2))
    mesh.add(pinglist(host="z", address="127.0.0.23", targets=targets, interval_s=2))
    mesh.pass_time(6)
    mesh.close()
    orders = []
    for name in "az":
        names = [row["name"] for row in records(mesh.root / name)[1]]
        assert sorted(names[:50]) == sorted(target[0] for target in targets)
        assert names[:50] == names[50:100] == names[100:150]
        orders.append(names[:50])
    assert orders[0] != orders[1]


def test_after_a_stall_the_missed_probes_are_counted_not_sent_in_a_burst(
    mesh, pinglist, records, totals
):
    mesh.add(pinglist(targets=to_b(1), interval_s=0.1))
    mesh.pass_time(1)
    mesh.clock.elapsed_us += 30_000_000
    mesh.pass_time(1)
    mesh.close()
    headers, rows = records(mesh.root / "a")
    scheduled, sent, skipped = totals(headers)
    assert (scheduled, sent, skipped) == (320, 22, {"late": 298})  # two were less than 250 ms late
    assert len(rows) == sent


def test_probes_over_the_rate_cap_are_skipped_evenly(mesh, pinglist, records, totals, monkeypatch):
    monkeypatch.setattr(prober, "MAX_PROBES_PER_S", 25)
    targets = [[f"p{i}", B, 1, "tcp", "intra_tor", 0] for i in range(50)]
    mesh.add(pinglist(targets=targets))
    mesh.pass_time(8)
    mesh.close()
    headers, rows = records(mesh.root / "a")
    assert totals(headers) == (400, 200, {"rate": 200})
    counts = {target[0]: sum(row["name"] == target[0] for row in rows) for target in targets}
    assert set(counts.values()) == {4}  # every pair half as often, none left out


def test_sockets_in_flight_are_bounded(mesh, pinglist, records, totals):
    with black_hole(B) as port:
        a = mesh.add(pinglist(targets=to_b(port), interval_s=0.1, timeout_s=1))
        a.prober.max_in_flight = 4
        mesh.pass_time(2)
        assert a.prober.in_flight == 4
        mesh.close()
    headers, rows = records(mesh.root / "a")
    scheduled, sent, skipped = totals(headers)
    assert (scheduled, sent + skipped["sockets"], len(rows)) == (20, 20, sent)
    assert skipped["sockets"] >= 8


def test_no_file_descriptor_left_is_a_count_not_a_crash(mesh, pinglist, records, totals):
    a = mesh.add(pinglist(targets=to_b(1), interval_s=0.1))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        for _ in range(50):
            mesh.clock.elapsed_us += 20_000
            a.prober.launch_due(
                mesh.clock.monotonic_s(),
                mesh.clock.wall_us,
                a.spool.segment(mesh.clock.wall_us(), 60),
            )
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    mesh.close()
    assert totals(records(mesh.root / "a")[0]) == (10, 0, {"sockets": 10})


def test_near_the_memory_cap_it_sends_less_and_at_the_cap_it_stops(mesh, pinglist, records, totals):
    a = mesh.add(pinglist(targets=[[f"p{i}", B, 1, "tcp", "intra_tor", 0] for i in range(10)]))
    megabytes = MEMORY_CAP_BYTES >> 20
    for _ in range(5):
        a.guard_memory(int(0.95 * MEMORY_CAP_BYTES))
    a.next_memory_check_s = 1e9
    mesh.pass_time(20)
    assert not a.stopping
    a.guard_memory(0)
    assert a.prober.memory_share == 0.25
    a.guard_memory(megabytes << 20)
    assert "cap" in a.stopping
    mesh.close()
    headers, rows = records(mesh.root / "a")
    assert totals(headers) == (200, 20, {"memory": 180})
    assert sorted({row["name"] for row in rows}) == [
        f"p{i}" for i in range(10)
    ]  # no peer is left out


def test_a_source_port_rests_a_second_before_it_is_used_again(mesh, pinglist, records, totals):
    ports = SourcePorts(40_000, 40_004)
    assert sorted(ports.take(0) for _ in range(5)) == [40_000, 40_001, 40_002, 40_003, 40_004]
    assert ports.take(999) == 0
    assert ports.take(1000) != 0

    a = mesh.add(pinglist(targets=to_b(1), interval_s=0.1))
    a.prober.ports = ports
    mesh.pass_time(2)
    mesh.close()
    scheduled, sent, skipped = totals(records(mesh.root / "a")[0])
    assert scheduled == 20 == sent + skipped["ports"]
    assert 5 <= sent <= 10


def test_source_ports_sweep_so_that_every_path_is_met(mesh, pinglist, records):
    mesh.add(pinglist(targets=to_b(1, ALL), interval_s=0.1))
    mesh.pass_time(2)
    mesh.close()
    used = [row["port"] for row in records(mesh.root / "a")[1]]
    assert len(set(used)) == len(used) == 100


def test_a_taken_source_port_is_passed_over(mesh, pinglist, records):
    a = mesh.add(pinglist(targets=to_b(1), interval_s=0.5))
    with socket.socket() as taken:
        taken.bind((A, 0))
        port = taken.getsockname()[1]
        a.prober.ports = SourcePorts(port, port + 1)
        a.prober.ports.at = 0
        mesh.pass_time(0.4)
    mesh.close()
    assert [row["port"] for row in records(mesh.root / "a")[1]] == [port + 1]


def test_a_closed_probe_leaves_no_socket_behind_in_the_kernel(mesh, pinglist):
    with socket.socket() as service:
        service.bind((B, 0))
        service.listen(100)
        port = service.getsockname()[1]
        mesh.add(pinglist(targets=to_b(port), interval_s=0.1))
        mesh.pass_time(2)
        mesh.close()
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        peer = f"{int.from_bytes(socket.inet_aton(B), sys.byteorder):08X}:{port:04X}"
        assert [line[3] for line in lines if line[2] == peer] == []  # no FIN_WAIT, no TIME_WAIT


def test_a_new_list_keeps_the_targets_of_probes_under_way(mesh, pinglist, records, tell):
    with black_hole(B) as port:
        a = mesh.add(pinglist(targets=[["old", B, port, "tcp", "intra_tor", 0]], timeout_s=1))
        mesh.pass_time(0.6)
        tell(
            mesh.root / "a",
            pinglist(version="second", targets=[["new", B, 1, "tcp", "intra_tor", 0]]),
        )
        mesh.pass_time(2)
        assert a.pinglist.version == "second"
        mesh.close()
    headers, rows = records(mesh.root / "a")
    assert {(row["name"], row["status"]) for row in rows} == {("old", TIMEOUT), ("new", REFUSED)}
    assert [header["pinglist"] for header in headers] == ["0123456789abcdef", "second"]


def test_a_bad_new_list_changes_nothing(mesh, pinglist, tell):
    a = mesh.add(pinglist(targets=to_b(1)))
    for bad in (
        pinglist(window_s=7),
        pinglist(targets=[[]]),
        [],
        pinglist(address="192.0.2.1", probe_port=1 << 20),
    ):
        tell(mesh.root / "a", bad)
        mesh.pass_time(1.5)
        assert a.pinglist.version == "0123456789abcdef"
    log = (mesh.root / "a" / "agent.log").read_text()
    assert log.count("the previous list stays") == 4
    assert a.spool.current.sent > 3


def test_a_list_with_another_port_moves_the_responder(mesh, pinglist, free_port, tell):
    mesh.add(pinglist())
    with socket.socket() as other:
        other.bind((A, 0))
        port = other.getsockname()[1]
    tell(mesh.root / "a", pinglist(version="moved", probe_port=port))
    mesh.pass_time(1.5)
    with socket.create_connection((A, port), 1), pytest.raises(ConnectionRefusedError):
        socket.create_connection((A, free_port), 1)


def test_the_kernel_says_retransmits_and_time_at_the_offsets_we_read():
    """struct tcp_info is an ABI since Linux 2.6: tcpi_rtt at 68, tcpi_total_retrans at 100."""
    with socket.socket() as listener, socket.socket() as client:
        listener.bind((A, 0))
        listener.listen()
        client.connect(listener.getsockname())
        info = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    assert len(info) == 104
    assert info[0] == 1
    assert 0 < struct.unpack_from("=I", info, 68)[0] < 100_000
    assert struct.unpack_from("=I", info, 100)[0] == 0
