"""The agent's trace through a real Clos network, and where detection says that loss starts."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from pingmesh_tasks.detect.traces.hops import find_loss, hop_table
from pingmesh_tasks.fleet.connect import Answer
from pingmesh_tasks.fleet.trace import parse_trace
from pingmesh_tasks.fleet.trace_paths import PathTrace
from tests.support.lab_clos import ClosLab, clos_laboratory

pytestmark = [pytest.mark.integration, pytest.mark.lab]

AGENT = Path(__file__).parents[2] / "include/agent/pingmesh_agent/__main__.py"
PORT = 8765
LISTEN = f"""
import socket, time
server = socket.create_server(("", {PORT}), backlog=1024)
print("up", flush=True)
time.sleep(600)
"""
A, B = "p1t1h1", "p2t1h1"


@pytest.fixture(scope="module")
def lab() -> Iterator[ClosLab]:
    """A listener on both ends: the kernel answers, as for an agent."""
    with clos_laboratory() as lab, ExitStack() as listeners:
        for host in (A, B):
            listeners.enter_context(lab.spawn(host, sys.executable, "-I", "-S", "-c", LISTEN, until="up"))
        yield lab


def trace(lab: ClosLab, source: str = A, target: str = B, *more: object) -> PathTrace:
    options = ["--target", lab.address(target), "--port", PORT, "--source", lab.address(source), "--timeout", 6, *more]
    said = lab.run(source, sys.executable, "-I", "-S", str(AGENT), "trace", *map(str, options))
    return parse_trace(Answer(0, said.encode(), "", 0), PathTrace(source, target, port=PORT))


def traces(lab: ClosLab, *ways: tuple[str, str], options: tuple[object, ...] = ()) -> list[PathTrace]:
    """Several at the same time."""
    with ThreadPoolExecutor() as threads:
        return list(threads.map(lambda way: trace(lab, *way, *options), ways))


@contextmanager
def limited_icmp(lab: ClosLab) -> Iterator[None]:
    """Routers as the kernel has them: six errors at once to one host, then one a second."""

    def limit(value: int) -> None:
        for router in lab.routers:
            lab.run(router, "sh", "-c", f"echo {value} >/proc/sys/net/ipv4/icmp_ratelimit")

    limit(1000)
    try:
        yield
    finally:
        limit(0)


def test_every_port_shows_its_six_hops_and_all_eight_ways_are_found(lab: ClosLab):
    ways: Counter[tuple[str | None, ...]] = Counter()
    for base_port in (45_000, 46_000):  # 64 ports alone miss one of eight ways in a run of 600
        found = trace(lab, A, B, "--ports", 64, "--base-port", base_port)
        assert found.reason is None and found.complete
        assert find_loss([found]).kind == "clear"
        ways.update(tuple(hop.router for hop in path.hops) for path in found.paths)
    assert len(ways) == 8
    for way in ways:
        assert way[0] == lab.routers["tor1-1"]
        assert way[1] in (lab.routers["leaf1-1"], lab.routers["leaf1-2"])
        assert way[2] in (lab.routers["spine1"], lab.routers["spine2"])
        assert way[3] in (lab.routers["leaf2-1"], lab.routers["leaf2-2"])
        assert way[4:] == (lab.routers["tor2-1"], lab.address(B))


def test_a_source_port_keeps_its_way(lab: ClosLab):
    first, second = (trace(lab, A, B, "--ports", 8, "--base-port", 45_000) for _ in range(2))
    ways = [{path.source_port: [hop.router for hop in path.hops] for path in found.paths} for found in (first, second)]
    assert ways[0] == ways[1]


def test_a_closed_udp_port_is_traced_too(lab: ClosLab):
    """The kernel of the target limits how often it says so: ports that heard nothing are no hole."""
    found = trace(lab, A, B, "--protocol", "udp")
    assert find_loss([found]).kind == "refused"
    assert "closed" in {path.hops[-1].what for path in found.paths}


def test_a_black_hole_in_one_spine_is_found_there(lab: ClosLab):
    with lab.fault(f"ip daddr {lab.address(B)}", "drop", router="spine1"):
        found = trace(lab, A, B, "--ports", 32)
    loss = find_loss([found])
    assert (loss.kind, loss.after) == ("stops", lab.routers["spine1"]), loss.words
    assert 5 <= loss.ports < 32
    assert loss.confidence > 0.9


def test_a_spine_that_drops_both_ways_is_found_from_both_ends(lab: ClosLab):
    with lab.fault("", "drop", router="spine2"):
        there, back = traces(lab, (A, B), (B, A), options=("--ports", 32))
    for found in (there, back):
        loss = find_loss([found])
        assert (loss.kind, loss.after) == ("stops", lab.routers["spine2"]), loss.words


def test_a_last_tor_that_drops_is_found_and_the_way_back_is_fine_up_to_it(lab: ClosLab):
    with lab.fault(f"ip daddr {lab.address(B)}", "drop", router="tor2-1"):
        there, back = traces(lab, (A, B), (B, A))
    loss = find_loss([there])
    assert (loss.kind, loss.after, loss.ports, loss.of) == ("stops", lab.routers["tor2-1"], 16, 16), loss.words
    assert find_loss([back]).kind == "stops", "its answers are dropped too: a connect cannot tell direction"


def test_a_hole_for_a_part_of_the_ports_stops_these_only(lab: ClosLab):
    hole = "jhash ip saddr . ip daddr . th sport . th dport mod 4 seed 0xbeef < 1"
    with lab.fault(f"ip daddr {lab.address(B)} tcp dport {PORT} {hole}", "drop", router="tor1-1"):
        found = trace(lab, A, B, "--ports", 32, "--base-port", 45_000)
    loss = find_loss([found])
    assert (loss.kind, loss.after) == ("stops", lab.routers["tor1-1"]), loss.words
    assert 3 <= loss.ports <= 16


def test_loss_behind_one_spine_stands_out(lab: ClosLab):
    """5 % one way: 64 ports, asked three times, by two traces. A healthy spine loses nothing here."""
    with lab.fault(f"ip daddr {lab.address(B)} numgen random mod 100 < 5", "drop", router="spine2"):
        found = traces(lab, (A, B), (A, B), options=("--ports", 64, "--rounds", 3, "--timeout", 10))
    rows = {row.router: row for row in hop_table(found)}
    assert rows[lab.routers["spine1"]].loss == 0
    assert 0.01 < rows[lab.routers["spine2"]].loss < 0.12
    loss = find_loss(found)
    assert (loss.kind, loss.after) == ("loses", lab.routers["spine2"]), loss.words


def test_routers_that_limit_their_answers_are_no_fault(lab: ClosLab):
    with limited_icmp(lab):
        found = trace(lab, A, B)
    silent = sum(hop.what == "silent" for path in found.paths for hop in path.hops)
    assert silent > 0, "or this proves nothing"
    assert find_loss([found]).kind == "clear", find_loss([found]).words


def test_a_hole_is_found_through_routers_that_limit_their_answers(lab: ClosLab):
    with limited_icmp(lab), lab.fault(f"ip daddr {lab.address(B)}", "drop", router="tor2-1"):
        found = trace(lab, A, B, "--ports", 8)
    loss = find_loss([found])
    assert (loss.kind, loss.of) == ("stops", 8), loss.words
    assert loss.after in set(lab.routers.values())


def test_a_router_that_prohibits_is_quoted(lab: ClosLab):
    with lab.fault(f"ip daddr {lab.address(B)}", "reject with icmp type admin-prohibited", router="tor2-1"):
        found = trace(lab, A, B, "--ports", 4)
    loss = find_loss([found])
    assert (loss.kind, loss.after) == ("stops", lab.routers["tor2-1"]), loss.words
    assert "icmp 3/13" in loss.words


def test_it_needs_no_root():
    with clos_laboratory(as_root=False) as lab, lab.spawn(B, sys.executable, "-I", "-S", "-c", LISTEN, until="up"):
        assert find_loss([trace(lab, A, B, "--ports", 4)]).kind == "clear"
