"""The figures of a probe are true from both sides: neither more nor less than what happened."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from statistics import median

import pytest
from pingmesh_agent import probes
from pingmesh_agent.outcomes import OK

A, B, RELAY = "127.0.0.21", "127.0.0.22", "127.0.0.23"
HELD_S = 0.02


def hold_datagrams(
    sock: socket.socket, port: int, stop: threading.Event, took_us: list[float]
) -> None:
    """Pass each datagram on to B after HELD_S, and its reply back at once."""
    while not stop.is_set():
        try:
            request, sender = sock.recvfrom(70_000)
        except TimeoutError:
            continue
        began_s = time.monotonic()
        time.sleep(HELD_S)
        with socket.socket(type=socket.SOCK_DGRAM) as onward:
            onward.settimeout(2)
            onward.sendto(request, (B, port))
            sock.sendto(onward.recv(70_000), sender)
        took_us.append((time.monotonic() - began_s) * 1e6)


def hold_requests(
    sock: socket.socket, port: int, stop: threading.Event, took_us: list[float]
) -> None:
    """Accept at once, pass the request on to B after HELD_S, and the reply back at once."""
    while not stop.is_set():
        try:
            client, _ = sock.accept()
        except TimeoutError:
            continue
        with client, socket.create_connection((B, port), 2) as onward:
            request = client.recv(70_000)
            began_s = time.monotonic()
            time.sleep(HELD_S)
            onward.sendall(request)
            client.sendall(onward.recv(70_000))
            took_us.append((time.monotonic() - began_s) * 1e6)


@contextmanager
def relay(
    kind: socket.SocketKind, act: Callable[..., None], port: int
) -> Iterator[tuple[int, list[float]]]:
    """(port at RELAY, how long each exchange took) of a thread between prober and responder."""
    stop, took_us = threading.Event(), []
    with socket.socket(type=kind) as sock:
        sock.bind((RELAY, 0))
        sock.settimeout(0.05)
        if kind == socket.SOCK_STREAM:
            sock.listen(100)
        thread = threading.Thread(target=act, args=(sock, port, stop, took_us))
        thread.start()
        try:
            yield sock.getsockname()[1], took_us
        finally:
            stop.set()
            thread.join()


def test_what_a_packet_waits_on_its_way_is_in_the_round_trip_of_a_payload(
    mesh, pinglist, free_port, records
):
    with ExitStack() as relays:
        held = {
            "udp": relays.enter_context(relay(socket.SOCK_DGRAM, hold_datagrams, free_port)),
            "tcp_echo": relays.enter_context(relay(socket.SOCK_STREAM, hold_requests, free_port)),
        }
        targets = [
            ["b", RELAY, port, protocol, "intra_tor", 64] for protocol, (port, _) in held.items()
        ]
        a = mesh.add(pinglist(targets=targets, interval_s=0.4, timeout_s=1))
        b = mesh.add(pinglist(host="b", address=B))
        for _ in range(600):
            mesh.clock.elapsed_us += 5_000
            a.tick()
            b.tick()
            time.sleep(0.001)
        mesh.close()
    rows = [row for row in records(mesh.root / "a")[1] if row["status"] == OK]
    for protocol, (_, took_us) in held.items():
        rtts = [row["rtt_us"] for row in rows if row["protocol"] == protocol]
        assert len(rtts) >= 4
        assert 20_000 <= median(rtts) <= median(took_us) + 10_000, (protocol, rtts, took_us)


def test_the_round_trip_of_a_connect_is_what_the_kernel_measured(
    mesh, pinglist, free_port, records, monkeypatch
):
    unpack, measured = probes.U32, set()

    def noted(info: bytes, at: int) -> tuple[int]:
        if at == 68 and info[0] == 1:
            measured.add(unpack(info, at)[0])
        return unpack(info, at)

    monkeypatch.setattr(probes, "U32", noted)
    mesh.add(pinglist(targets=[["b", B, free_port, "tcp", "intra_tor", 0]], interval_s=0.1))
    mesh.add(pinglist(host="b", address=B))
    mesh.pass_time(2)
    mesh.close()
    rtts = {row["rtt_us"] for row in records(mesh.root / "a")[1]}
    assert rtts and rtts <= measured


def test_nothing_is_retransmitted_on_a_path_that_loses_nothing(mesh, pinglist, free_port, records):
    targets = [["b", B, free_port, name, "intra_tor", 64] for name in ("tcp", "tcp_echo", "udp")]
    mesh.add(pinglist(targets=targets))
    mesh.add(pinglist(host="b", address=B))
    mesh.pass_time(5)
    mesh.close()
    rows = records(mesh.root / "a")[1]
    assert {row["protocol"] for row in rows} == {"tcp", "tcp_echo", "udp"}
    assert {row["retransmits"] for row in rows} == {0}


def test_a_row_says_when_and_from_which_port_its_probe_was_sent(mesh, pinglist, records):
    with socket.create_server((B, 0), backlog=100) as server:
        mesh.add(
            pinglist(
                targets=[["b", B, server.getsockname()[1], "tcp", "intra_tor", 0]], interval_s=0.5
            )
        )
        began_us = mesh.clock.wall_us()
        mesh.pass_time(5)
        mesh.close()
        rows = records(mesh.root / "a")[1]
        ports = [server.accept()[1] for _ in rows]
    assert [(A, row["port"]) for row in rows] == ports
    slots_us = [
        began_us + 250_000 + 500_000 * number for number in range(10)
    ]  # the middle of each interval
    assert [row["sent_us"] for row in rows] == [
        pytest.approx(slot_us, abs=20_000) for slot_us in slots_us
    ]
