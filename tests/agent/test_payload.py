"""Payloads and the kernel's timestamps: what a reply has to be, and which figures it can give."""

from __future__ import annotations

import socket
import struct
import time

import pytest
from pingmesh_agent.outcomes import BAD_REPLY, LOCAL_ERROR, OK
from pingmesh_agent.payload import (
    PAYLOAD,
    REPLY,
    REQUEST,
    SO_TIMESTAMPING,
    departure_ns,
    kernel_time_ns,
    reply_to,
    source_of_reply,
)
from pingmesh_agent.probes import UdpProbe

DEPARTED_NS = 1_795_298_700_000_000_000


def stamp(seconds: int, nanoseconds: int) -> tuple[int, int, bytes]:
    return (
        socket.SOL_SOCKET,
        SO_TIMESTAMPING,
        struct.pack("@ll", seconds, nanoseconds) + bytes(32),
    )


def test_a_kernel_time_is_seconds_and_nanoseconds():
    assert kernel_time_ns([(0, 8, bytes(12)), stamp(7, 5)]) == 7_000_000_005
    assert kernel_time_ns([stamp(0, 0)]) is None, "not software: the first of three is empty"
    assert kernel_time_ns([stamp(0, 1)]) == 1
    assert kernel_time_ns([(socket.SOL_SOCKET, SO_TIMESTAMPING, bytes(15))]) is None
    assert kernel_time_ns([(socket.SOL_SOCKET, 29, stamp(7, 5)[2])]) is None
    assert kernel_time_ns([(0, SO_TIMESTAMPING, stamp(7, 5)[2])]) is None
    assert kernel_time_ns([]) is None


def test_a_socket_that_sent_nothing_has_no_departure():
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        assert departure_ns(sock) is None


def test_a_reply_leaves_from_the_address_that_was_asked():
    local, asked = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])
    assert source_of_reply([stamp(1, 1), (0, 8, b"\7\0\0\0" + local + asked)]) == [
        (0, 8, bytes(4) + local + asked)
    ]
    assert source_of_reply([(41, 50, bytes(range(16)) + b"\7\0\0\0")]) == [
        (41, 50, bytes(range(16)) + bytes(4))
    ]
    assert source_of_reply([(41, 8, bytes(12)), stamp(1, 1)]) == []


@pytest.mark.parametrize(
    ("arrived_ns", "least", "most"),
    [
        (None, 0, 0),
        (-1_000_000_000, 0, 0),
        (5_000_000, 5_000_000, 1e9),
        (10_000_000_000, 0xFFFFFFFF, 0xFFFFFFFF),
    ],
)
def test_a_reply_tells_how_long_its_request_was_held(arrived_ns, least, most):
    """`arrived_ns` is how long ago the request arrived."""
    arrived_ns = arrived_ns and time.time_ns() - arrived_ns
    reply = reply_to(PAYLOAD.pack(REQUEST, 9, 20, 0) + b"abcd", arrived_ns)
    magic, token, size, held_ns = PAYLOAD.unpack_from(reply)
    assert (magic, token, size, reply[16:]) == (REPLY, 9, 20, b"abcd")
    assert least <= held_ns <= most


@pytest.fixture
def probe():
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        probe = UdpProbe(sock, ("127.0.0.1", 1), 64, 0, None)
        probe.sent = probe_request = probe.request()
        assert len(probe_request) == 64
        probe.departed_ns = DEPARTED_NS
        yield probe


class UdpProbe(UdpProbe):
    __slots__ = ("sent",)


def reply(probe: UdpProbe, held_ns: int = 0) -> bytes:
    return PAYLOAD.pack(REPLY, probe.token, 64, held_ns) + probe.sent[16:]


@pytest.mark.parametrize(
    ("took_ns", "held_ns", "rtt_us"),
    [
        (1_234_999, 0, 1234), (5_000_000, 4_000_000, 1000), (999, 0, 1), (0, 0, 1), (0, 50_000, 1),
        (4_294_967_295_000, 0, 0xFFFFFFFF),
    ],
)  # fmt: skip
def test_a_round_trip_is_what_passed_less_what_the_peer_held(probe, took_ns, held_ns, rtt_us):
    assert probe.check_reply(reply(probe, held_ns), DEPARTED_NS + took_ns) == OK
    assert probe.rtt_us == rtt_us


@pytest.mark.parametrize(
    ("took_ns", "held_ns"), [(0, 50_001), (4_294_967_296_000, 0), (-1_000_000, 0)]
)
def test_two_times_that_cannot_be_of_one_clock_give_no_round_trip(probe, took_ns, held_ns):
    assert probe.check_reply(reply(probe, held_ns), DEPARTED_NS + took_ns) == LOCAL_ERROR
    probe.retransmits = (
        1  # the request that was answered may be the first or the second: kept, never a figure
    )
    assert probe.check_reply(reply(probe, held_ns), DEPARTED_NS + took_ns) == OK


def test_without_both_times_of_one_clock_there_is_no_round_trip(probe):
    assert probe.check_reply(reply(probe), None) == LOCAL_ERROR
    probe.stepped = True
    assert probe.check_reply(reply(probe), DEPARTED_NS + 1000) == LOCAL_ERROR
    probe.stepped, probe.departed_ns = False, None
    assert probe.check_reply(reply(probe), DEPARTED_NS + 1000) == LOCAL_ERROR


def test_a_reply_to_another_request_is_none(probe):
    good = reply(probe)
    arrived_ns = DEPARTED_NS + 1000
    assert probe.check_reply(good, arrived_ns) == OK
    bad = [
        good[:-1], good + b"x", b"PMQ1" + good[4:], good[:4] + bytes([good[4] ^ 1]) + good[5:],
        good[:11] + b"\x41" + good[12:], good[:16] + b"\xff" + good[17:], good[:-1] + b"\0",
    ]  # fmt: skip
    assert [probe.check_reply(data, arrived_ns) for data in bad] == [BAD_REPLY] * len(bad)


def test_no_two_requests_have_one_token(probe):
    assert len({probe.request()[4:8] for _ in range(50)}) == 50
