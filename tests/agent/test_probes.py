"""A probe's status and figures from what the kernel says of its socket."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct

import pytest
from pingmesh_agent import outcomes, probes
from pingmesh_agent.outcomes import OK, PENDING
from pingmesh_agent.probes import TcpEchoProbe, TcpProbe, UdpProbe

ESTABLISHED, SYN_SENT, CLOSED, CLOSE_WAIT = 1, 2, 7, 8
A, B = "127.0.0.21", "127.0.0.22"


class Socket:
    """Says what the test wants of a connect."""

    def __init__(self, state: int, rtt_us: int = 0, repeats: int = 0, fault: int = 0) -> None:
        self.info = struct.pack("=B67xI28xI", state, rtt_us, repeats)
        self.fault = fault

    def getsockopt(self, level: int, option: int, size: int = 0) -> bytes | int:
        if (level, option) == (socket.IPPROTO_TCP, socket.TCP_INFO):
            return self.info[:size]
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_ERROR)
        return self.fault


@pytest.mark.parametrize(
    ("kernel", "status", "rtt_us", "repeats"),
    [
        (Socket(ESTABLISHED, 73), OK, 73, 0),
        (Socket(ESTABLISHED, 0), OK, 1, 0),
        (Socket(CLOSE_WAIT, 73), OK, 73, 0),
        (Socket(ESTABLISHED, 1_022_000, 1), OK, 1_022_000, 1),
        (Socket(ESTABLISHED, 73, 255), OK, 73, 255),
        (Socket(ESTABLISHED, 73, 256), OK, 73, 255),
        (Socket(SYN_SENT), PENDING, 0, 0),
        (Socket(SYN_SENT, fault=errno.EHOSTUNREACH), outcomes.HOST_UNREACHABLE, 0, 0),
        (Socket(SYN_SENT, fault=errno.ENETUNREACH), outcomes.NET_UNREACHABLE, 0, 0),
        (Socket(CLOSED, fault=errno.ECONNREFUSED), outcomes.REFUSED, 0, 0),
        (Socket(CLOSED, fault=errno.ETIMEDOUT), outcomes.TIMEOUT, 0, 0),
        (Socket(CLOSED, fault=errno.EPERM), outcomes.LOCAL_ERROR, 0, 0),
        (Socket(CLOSED), outcomes.RESET, 0, 0),
    ],
)
def test_a_connect_has_the_status_that_the_kernel_gives_it(kernel, status, rtt_us, repeats):
    probe = TcpProbe(kernel, (B, 1), 0, 0, None)
    assert probe.advance() == status
    assert (probe.rtt_us, probe.retransmits) == (rtt_us, repeats)


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (errno.EHOSTDOWN, outcomes.HOST_UNREACHABLE),
        (errno.ENETDOWN, outcomes.NET_UNREACHABLE),
        (errno.ECONNRESET, outcomes.RESET),
        (errno.EPIPE, outcomes.RESET),
        (errno.EMSGSIZE, outcomes.TOO_BIG),
        (errno.EINPROGRESS, PENDING),
        (0, PENDING),
        (errno.EADDRNOTAVAIL, outcomes.LOCAL_ERROR),
    ],
)
def test_an_error_of_connect_is_a_status(fault, status):
    probe = TcpProbe(None, (B, 7), 0, 0, None)
    probe.sock = type(
        "Sock", (), {"connect_ex": lambda self, address: fault if address == (B, 7) else -1}
    )()
    assert probe.launch() == status
    assert probe.repeat_us == 990_000


@pytest.mark.parametrize(
    ("connect_us", "repeat_us"),
    [(100, 190_200), (300_000, 790_000), (989_999, 2_169_998), (990_000, 0), (1_000_131, 0)],
)
def test_a_reply_is_late_by_the_peers_timer_and_two_round_trips(
    mesh, pinglist, free_port, monkeypatch, connect_us, repeat_us
):
    """A reply behind a connect that was repeated is always marked."""
    made = []
    check_reply = TcpEchoProbe.check_reply

    def noted(probe, reply, arrived_ns):
        made.append(probe)
        return check_reply(probe, reply, arrived_ns)

    monkeypatch.setattr(TcpEchoProbe, "check_reply", noted)
    monkeypatch.setattr(probes, "U32", lambda info, at: (connect_us if at == 68 else 0,))
    a = mesh.add(pinglist(targets=[["a", A, free_port, "tcp_echo", "intra_tor", 64]], timeout_s=10))
    mesh.pass_time(0.8)
    assert made[0].repeat_us == repeat_us
    statuses, repeats = a.spool.current.columns[4:]
    assert (statuses[0], repeats[0]) == (OK, int(repeat_us == 0))


@pytest.mark.parametrize("limit", [(1_000_000, OK), (1_000_001, outcomes.TIMEOUT)])
def test_an_answer_at_the_timeout_counts_and_one_later_does_not(
    mesh, pinglist, free_port, monkeypatch, limit
):
    rtt_us, status = limit
    a = mesh.add(pinglist(targets=[["a", A, free_port, "tcp", "intra_tor", 0]], timeout_s=1))
    monkeypatch.setattr(probes, "U32", lambda info, at: (rtt_us if at == 68 else 0,))
    mesh.pass_time(0.8)
    assert a.spool.current.columns[4][0] == status


def test_an_echo_says_how_often_the_whole_connection_repeated(
    mesh, pinglist, free_port, monkeypatch
):
    """The connect repeated nothing; the payload did, and its reply is read after it."""
    looks = iter([0, 3])
    monkeypatch.setattr(probes, "U32", lambda info, at: (70 if at == 68 else next(looks),))
    a = mesh.add(
        pinglist(
            targets=[["a", A, free_port, "tcp_echo", "intra_tor", 64]], interval_s=10, timeout_s=10
        )
    )
    mesh.pass_time(6)
    assert list(a.spool.current.columns[5]) == [3]


def test_an_echo_waits_to_send_and_then_for_the_reply():
    probe = TcpEchoProbe(None, (B, 1), 64, 0, None)
    probe.unsent = None
    assert (probe.wants, probe.at_deadline) == (select.EPOLLOUT, outcomes.TIMEOUT)
    probe.unsent = memoryview(b"rest")
    assert (probe.wants, probe.at_deadline) == (select.EPOLLOUT, outcomes.NO_ECHO)
    probe.unsent = memoryview(b"")
    assert (probe.wants, probe.at_deadline) == (select.EPOLLIN, outcomes.NO_ECHO)
    assert (UdpProbe.wants, UdpProbe.at_deadline) == (select.EPOLLIN, outcomes.TIMEOUT)


def test_a_peer_that_closes_before_its_reply_is_whole_gives_a_bad_reply(mesh, pinglist, records):
    """Tried twice: the peer closes at once, and in the middle."""
    with socket.create_server((B, 0), backlog=10) as server:
        mesh.add(
            pinglist(
                targets=[["b", *server.getsockname(), "tcp_echo", "intra_tor", 64]], interval_s=0.5
            )
        )
        for part in (b"", b"PMR1"):
            mesh.pass_time(0.5)
            client, _ = server.accept()
            with client:
                client.recv(100)
                client.sendall(part)
        mesh.pass_time(0.2)
        mesh.close()
    assert [row["status"] for row in records(mesh.root / "a")[1]] == [outcomes.BAD_REPLY] * 2


def test_probes_leave_no_descriptor_behind(mesh, pinglist, free_port):
    kinds = [["a", A, free_port, protocol, "intra_tor", 64] for protocol in probes.PROTOCOLS]
    a = mesh.add(pinglist(targets=[*kinds, ["b", B, 1, "tcp", "intra_tor", 0]], interval_s=0.2))
    mesh.pass_time(1)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    mesh.pass_time(3)
    assert abs(len(os.listdir("/proc/self/fd")) - before) <= 6  # noqa: PTH208
    assert a.prober.in_flight <= 4
    assert len(a.poller.handlers) <= 2 + 8
