"""The responder answers probes and nothing else, whatever it is sent, and costs its host little."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import time

import pytest
from pingmesh_agent.errors import StartError
from pingmesh_agent.limits import DATAGRAMS_PER_TICK, MAX_CONNECTIONS
from pingmesh_agent.payload import PAYLOAD, REPLY, REQUEST, reply_to

A = "127.0.0.21"


@pytest.fixture
def place(mesh, pinglist, free_port):
    mesh.add(pinglist())
    return A, free_port


def request(size: int, declared: int | None = None) -> bytes:
    return PAYLOAD.pack(REQUEST, 7, size if declared is None else declared, 0) + b"x" * (size - 16)


GARBAGE = {
    "nothing": b"",
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a reply": PAYLOAD.pack(REPLY, 7, 16, 0),
    "too short": request(16)[:15],
    "says less than it is": request(64, 32),
    "says zero": request(64, 0),
    "says four gigabytes": request(64, 0xFFFFFFFF),
    "zeros": bytes(1000),
}


def exchange(mesh, place, data: bytes) -> bytes | None:
    """What comes back over TCP until the agent closes; None if it neither answers nor closes."""
    with socket.create_connection(place, 1) as client:
        client.sendall(data)
        client.settimeout(0.01)
        received = b""
        for _ in range(20):
            mesh.pass_time(0.02)
            try:
                chunk = client.recv(70_000)
            except TimeoutError:
                continue
            except ConnectionResetError:
                return received
            received += chunk
            if not chunk or len(received) >= len(data):
                return received
        return received or None


@pytest.mark.parametrize("size", [16, 64, 1400, 65_536])
def test_a_request_is_echoed_in_its_own_length(mesh, place, size):
    reply = exchange(mesh, place, request(size))
    assert len(reply) == size
    magic, token, length, held_ns = PAYLOAD.unpack_from(reply)
    assert (magic, token, length) == (REPLY, 7, size)
    assert 0 <= held_ns < 1e9
    assert reply[16:] == b"x" * (size - 16)


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_over_tcp_gets_no_byte_in_answer(mesh, place, data):
    assert not exchange(mesh, place, data)


@pytest.mark.parametrize(
    "data", [*GARBAGE.values(), request(1401), request(60_000)], ids=[*GARBAGE, "1401", "60000"]
)
def test_garbage_over_udp_gets_no_answer(mesh, place, data):
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.connect(place)
        client.settimeout(0.03)
        client.send(data)
        mesh.pass_time(0.06)
        with pytest.raises(TimeoutError):
            client.recv(70_000)


def test_no_random_input_ever_gets_more_back_than_it_sent(mesh, place):
    """On loopback a datagram has arrived when `send` returns, so one tick answers it."""
    chance = random.Random(1)
    answered = refused = 0
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.connect(place)
        client.setblocking(False)
        for _ in range(500):
            data = bytearray(request(chance.randint(16, 200)))
            for _ in range(chance.randint(0, 3)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            client.send(data)
            mesh.pass_time(0.02)
            magic, _, size, _ = PAYLOAD.unpack_from(data)
            if magic == REQUEST and size == len(data):
                assert len(client.recv(70_000)) == len(data)
                answered += 1
            else:
                with pytest.raises(BlockingIOError):
                    client.recv(70_000)
                refused += 1
    responder = mesh.agents[0].responder
    assert (responder.answered, responder.refused) == (answered, refused)
    assert answered > 100 and refused > 50


def test_slow_connections_are_closed_after_five_seconds(mesh, place):
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(place, 1)) for _ in range(5)]
        for client in slow:
            client.send(b"PM")
        mesh.pass_time(0.1)
        responder = mesh.agents[0].responder
        assert len(responder.connections) == 5
        mesh.pass_time(5)
        assert responder.connections == {}
        with pytest.raises(ConnectionResetError):
            slow[0].recv(1)


def test_a_peer_that_leaves_is_forgotten_at_once(mesh, place):
    """By a reset, by a close before its request was whole, by a close after the reply."""
    responder = mesh.agents[0].responder
    for data, reset in (
        (b"PM", True),
        (b"PM", False),
        (request(64)[:40], False),
        (request(64), False),
    ):
        client = socket.create_connection(place, 1)
        client.sendall(data)
        mesh.pass_time(0.1)
        assert len(responder.connections) == 1
        if reset:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        mesh.pass_time(0.02)
        assert responder.connections == {}
    assert responder.answered == 1


def test_a_request_that_comes_in_pieces_is_answered_when_it_is_whole(mesh, place):
    with socket.create_connection(place, 1) as client:
        client.setblocking(False)
        for piece in (request(64)[:10], request(64)[10:40]):
            client.send(piece)
            mesh.pass_time(0.1)
            with pytest.raises(BlockingIOError):
                client.recv(100)
        client.send(request(64)[40:])
        mesh.pass_time(0.1)
        assert len(client.recv(100)) == 64
    assert mesh.agents[0].responder.refused == 0


def test_what_is_no_request_is_counted_and_the_connection_reset(mesh, place):
    responder = mesh.agents[0].responder
    for number, data in enumerate(
        (GARBAGE["http"], GARBAGE["says less than it is"], request(16, 65_537)), 1
    ):
        with socket.create_connection(place, 1) as client:
            client.sendall(data)
            mesh.pass_time(0.1)
            with pytest.raises(ConnectionResetError):
                client.recv(100)
        assert (responder.refused, responder.connections) == (number, {})


def test_the_oldest_connection_makes_room_and_is_counted(mesh, place):
    responder = mesh.agents[0].responder
    responder.max_connections = 2
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(place, 1)) for _ in range(3)]
        for client in clients:
            client.setblocking(False)
            client.send(b"PM")
            mesh.pass_time(0.1)
        with pytest.raises(ConnectionResetError):
            clients[0].recv(1)
        for client in clients[1:]:
            with pytest.raises(BlockingIOError):
                client.recv(1)
        assert (len(responder.connections), responder.refused) == (2, 1)


def test_a_flood_of_connections_is_bounded_and_probes_still_pass(mesh, place):
    responder = mesh.agents[0].responder
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            for _ in range(100):
                stack.enter_context(socket.create_connection(place, 1)).send(b"PMQ1")
            mesh.pass_time(0.1)
            assert len(responder.connections) <= MAX_CONNECTIONS
        assert len(exchange(mesh, place, request(64))) == 64


def test_a_flood_of_datagrams_takes_a_bounded_share_of_a_tick(mesh, place):
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.connect(place)
        for _ in range(2000):
            client.send(request(16))
    before = mesh.agents[0].responder.answered
    mesh.pass_time(0.02)
    assert mesh.agents[0].responder.answered - before <= DATAGRAMS_PER_TICK


def test_more_than_one_request_on_a_connection_ends_it(mesh, place):
    assert len(exchange(mesh, place, request(64))) == 64
    assert not exchange(mesh, place, request(64) + request(64))


def test_a_peer_that_never_reads_costs_one_buffer_for_five_seconds(mesh, place):
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.connect(place)
        client.sendall(request(65_536))
        mesh.pass_time(1)
        assert len(mesh.agents[0].responder.connections) == 1
        mesh.pass_time(5)
        assert mesh.agents[0].responder.connections == {}


def test_two_responders_cannot_be_made_to_talk_to_each_other():
    reply = reply_to(request(64), time.time_ns())
    assert reply_to(reply, time.time_ns()) is None


def test_a_port_that_is_taken_is_said(mesh, pinglist, free_port):
    with socket.socket() as taken:
        taken.bind((A, free_port))
        taken.listen()
        with pytest.raises(StartError, match=f"cannot listen on {A} port {free_port}: .*in use"):
            mesh.add(pinglist())


def test_an_address_that_is_not_here_means_all_addresses_and_a_line_in_the_log(
    mesh, pinglist, free_port
):
    mesh.add(pinglist(address="192.0.2.9"))
    socket.create_connection((A, free_port), 1).close()
    with socket.socket(
        type=socket.SOCK_DGRAM
    ) as client:  # connected: a reply from elsewhere would not arrive
        client.connect(("127.0.0.77", free_port))
        client.settimeout(1)
        client.send(request(64))
        mesh.pass_time(0.06)
        assert len(client.recv(100)) == 64
    assert "192.0.2.9 is not on this host" in (mesh.root / "a" / "agent.log").read_text()
