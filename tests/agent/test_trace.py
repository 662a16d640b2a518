"""The agent's `trace` on one machine: targets that answer, refuse or are silent, and its bounds.

What it says of routers is in tests/integration/test_lab_trace.py.
"""

from __future__ import annotations

import itertools
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pingmesh_agent import trace
from pingmesh_agent.release import agent_version
from pingmesh_agent.trace import PACKET_GAP_S, WALK_GAP_S, Trace

from tests.support.black_hole import black_hole

AGENT = Path(__file__).parents[2] / "include" / "agent" / "pingmesh_agent" / "__main__.py"
# To send from: on 127.0.0.1, or without an address, any client of this machine may have the port.
MINE = "127.0.0.9"


def program(*options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", str(AGENT), "trace", *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def whats(found: dict) -> set[str]:
    return {hop[3] for path in found["paths"] for hop in path["hops"]}


@pytest.fixture(params=["127.0.0.1", pytest.param("::1", marks=pytest.mark.needs("ipv6"))])
def address(request):
    return request.param


def test_a_target_that_listens_is_reached_by_every_port(address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family, backlog=64) as server:
        found = Trace(address, server.getsockname()[1], MINE, ports=8).run()
    assert found["complete"] and found["reason"] is None
    assert len({path["port"] for path in found["paths"]}) == 8
    assert all(path["reached"] for path in found["paths"])
    assert [hop[:2] + hop[3:] for path in found["paths"] for hop in path["hops"]] == [
        [1, address, "open", 1, 1]
    ] * 8
    assert all(0 < hop[2] < 1_000_000 for path in found["paths"] for hop in path["hops"])
    assert found["packets"] == 8


@pytest.mark.parametrize(("protocol", "word"), [("tcp", "refused"), ("udp", "closed")])
def test_a_target_where_nothing_listens_was_reached_too(protocol, word, address):
    found = Trace(address, 1, MINE, protocol, ports=4).run()
    assert whats(found) == {word}
    assert all(path["reached"] for path in found["paths"])


def test_an_agent_answers_a_trace_by_udp(mesh, pinglist):
    a = mesh.add(pinglist())
    trace = Trace("127.0.0.21", a.pinglist.port, MINE, "udp", ports=2)
    launched, patience_s = trace.launch, time.monotonic() + 5

    def launch_and_tick(walk, now_s):
        launched(walk, now_s)
        while not a.responder.answered and time.monotonic() < patience_s:
            mesh.pass_time(0.02)

    trace.launch = launch_and_tick
    found = trace.run()
    assert found["paths"][0]["reached"]
    assert found["paths"][0]["hops"][0][3] == "open"


def test_a_silent_target_is_asked_directly_before_it_is_said_to_be_out_of_reach():
    with black_hole("127.0.0.22") as port:
        found = Trace("127.0.0.22", port, MINE, ports=2, timeout_s=6).run()
    for path in found["paths"]:
        assert not path["reached"]
        assert {hop[3] for hop in path["hops"]} == {"silent"}
        assert path["directly"][2] == "silent"
        assert sum(hop[5] for hop in path["hops"]) == 0


def test_the_time_it_may_take_is_kept():
    with black_hole("127.0.0.22") as port:
        began = time.monotonic()
        found = Trace("127.0.0.22", port, MINE, ports=64, timeout_s=0.5).run()
        assert (
            time.monotonic() - began < 5
        )  # without a bound it takes longer; to the millisecond in test_walk.py
    assert not found["complete"]


def test_it_sends_from_the_address_and_the_ports_it_is_told():
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        found = Trace("127.0.0.1", server.getsockname()[1], MINE, ports=3, base_port=43_210).run()
        peers = {server.accept()[1] for _ in range(3)}
    assert found["source"] == MINE
    assert {address for address, _ in peers} == {MINE}
    assert {port for _, port in peers} == {path["port"] for path in found["paths"]}
    assert min(port for _, port in peers) >= 43_210


def test_a_source_port_that_is_in_use_towards_the_target_is_no_fault_of_the_way():
    """As if the prober uses it: the kernel refuses a second connect from the same port."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server, socket.socket() as user:
        user.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        user.bind((MINE, 43_300))
        user.connect(server.getsockname())
        port = server.getsockname()[1]
        found = Trace("127.0.0.1", port, MINE, ports=2, base_port=43_300).run()
    assert [path["reached"] for path in found["paths"]] == [True, True]
    assert 43_300 not in {path["port"] for path in found["paths"]}
    assert whats(found) == {"open"}


def test_an_address_that_is_not_here_is_left_to_the_kernel():
    assert Trace("127.0.0.1", 1, source="203.0.113.9", ports=1).run()["source"] == "0.0.0.0"


def packets_asked_s(trace: Trace) -> list[float]:
    """When each packet of a trace was about to leave, those of taken ports too."""
    asked_s: list[float] = []
    launched = trace.launch

    def launch(walk, now_s):
        asked_s.append(now_s)
        launched(walk, now_s)

    trace.launch = launch
    trace.run()
    return asked_s


def test_the_first_packets_of_walks_are_paced():
    trace = Trace("127.0.0.1", 1, ports=16)
    asked_s = packets_asked_s(trace)
    assert len(asked_s) >= 16, "a source port that is in use is replaced by another"
    assert asked_s[-1] - trace.began_s >= 0.99 * 15 * WALK_GAP_S


def test_all_packets_are_paced_when_time_is_short_too():
    asked_s = packets_asked_s(Trace("127.0.0.1", 1, MINE, ports=64, timeout_s=0.5))
    assert len(asked_s) > 10
    assert (
        min(later - sooner for sooner, later in itertools.pairwise(asked_s)) >= 0.99 * PACKET_GAP_S
    )


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ((), "needs --target and --port"),
        (("--target", "example.org", "--port", 1), "is not an IP address"),
        (("--target", "127.0.0.1", "--port", 0), "port 0 is not 1 ... 65535"),
        (("--target", "127.0.0.1", "--port", "x"), "invalid literal"),
        (("--target", "127.0.0.1", "--port", 1, "--ports", 65), "ports 65 is not 1 ... 64"),
        (("--target", "127.0.0.1", "--port", 1, "--max-ttl", 33), "max-ttl 33 is not 1 ... 32"),
        (("--target", "127.0.0.1", "--port", 1, "--timeout", 60), "timeout 60.0 is not"),
        (("--target", "127.0.0.1", "--port", 1, "--timeout", "nan"), "timeout nan is not"),
        (("--target", "127.0.0.1", "--port", 1, "--protocol", "icmp"), "known are tcp, udp"),
        (("--flood", 1), "--flood is not an option"),
        (("--target",), "--target has no value"),
    ],
)
def test_what_it_will_not_do_is_said_in_one_line(options, reason):
    done = program(*options)
    assert (done.returncode, done.stdout) == (1, "")
    assert reason in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_program_prints_one_line_of_json():
    done = program("--target", "127.0.0.1", "--port", 1, "--source", MINE, "--ports", 2)
    assert (done.returncode, done.stderr) == (0, "")
    [line] = done.stdout.splitlines()
    found = json.loads(line)
    assert found["agent_version"] == agent_version()
    assert whats(found) == {"refused"}


def test_a_kernel_that_gives_no_errors_to_users_is_named_as_the_reason(monkeypatch):
    monkeypatch.setattr(trace, "IP_RECVERR", (0, 9999))
    found = Trace("127.0.0.1", 1, MINE, ports=4).run()
    assert "does not trace for users" in found["reason"]
    assert found["paths"] == []
