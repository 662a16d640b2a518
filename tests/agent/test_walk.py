"""What a trace asks, when, and what it makes of the answers, in a made-up network and time.

That sockets and kernels behave so is in test_trace.py and in tests/integration/test_lab_trace.py.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest
from pingmesh_agent import trace as trace_module
from pingmesh_agent.trace import (
    MAX_PACKETS,
    PACKET_GAP_S,
    PORT_REST_S,
    PORT_TAKEN_S,
    WALK_GAP_S,
    Trace,
)
from pingmesh_agent.walk import ALL_THE_WAY, HOP, SILENT, Walk

TARGET = "192.0.2.1"
US = pytest.approx(10_000, abs=2)
#: (source port, TTL, which packet of these) → (router, outcome, seconds until it comes), or None.
Network = Callable[[int, int, int], "tuple[str | None, str, float] | None"]


class MadeUpTime:
    now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s

    def time_ns(self) -> int:
        return 1_795_298_700_000_000_000


class Packet:
    """Stands for a socket, and for the poll object that watches it."""

    def __init__(self, number: int, ttl: int) -> None:
        self.number, self.ttl = number, ttl
        self.answer: tuple[str | None, str, float] | None = None
        self.due_s = float("inf")

    def fileno(self) -> int:
        return self.number

    def close(self) -> None:
        self.due_s = float("inf")


class MadeUpTrace(Trace):
    """`sent` is what was sent: (seconds since the start, source port, TTL)."""

    def __init__(
        self, network: Network, faults: dict[int, int] | None = None, **options: Any
    ) -> None:
        super().__init__(TARGET, 80, **{"base_port": 40_000, **options})
        self.network, self.faults = network, faults or {}
        self.time = trace_module.time
        self.sockets: dict[int, Packet] = {}
        self.sent: list[tuple[float, int, int]] = []
        self.opened = 0

    def _open_socket(self, ttl: int) -> Any:
        self.opened += 1
        return Packet(self.opened, ttl)

    def _send(self, sock: Any, walk: Walk) -> int:
        walk.sent_s = self.time.now_s
        if walk.port in self.faults:
            return self.faults[walk.port]
        number = sum(port == walk.port and ttl == sock.ttl for _, port, ttl in self.sent)
        self.sent.append((round(self.time.now_s - self.began_s, 6), walk.port, sock.ttl))
        sock.answer = self.network(walk.port, sock.ttl, number)
        if sock.answer:
            sock.due_s = self.time.now_s + sock.answer[2]
        return errno.EINPROGRESS

    def _answer(self, sock: Any) -> tuple[str | None, str]:
        return sock.answer[:2]

    def register(self, fd: int, events: int) -> None:
        self.sockets[fd] = self.in_flight[fd].sock

    def unregister(self, fd: int) -> None:
        del self.sockets[fd]

    def poll_ms(self, ms: float) -> list[tuple[int, int]]:
        until_s = self.time.now_s + ms / 1000
        due_s = min([until_s, *(packet.due_s for packet in self.sockets.values())])
        self.time.now_s = max(self.time.now_s, due_s) + 1e-6
        return [(fd, 1) for fd, packet in self.sockets.items() if packet.due_s <= self.time.now_s]


class Poll:
    def __init__(self, trace: MadeUpTrace) -> None:
        self.register, self.unregister, self.poll = trace.register, trace.unregister, trace.poll_ms


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> Callable[..., MadeUpTrace]:
    monkeypatch.setattr(trace_module, "time", MadeUpTime())
    monkeypatch.setattr(trace_module, "agent_version", lambda: "0123456789abcdef")

    def make(network: Network, **options: Any) -> MadeUpTrace:
        trace = MadeUpTrace(network, **options)
        trace.poll = Poll(trace)  # type: ignore[assignment]
        return trace

    return make


def path_of(hops: int, delay_s: float = 0.01) -> Network:
    """A clear path: routers r1, r2, ..., then the target."""

    def answer(port: int, ttl: int, number: int) -> tuple[str | None, str, float]:
        return (TARGET, "open", delay_s) if ttl >= hops else (f"r{ttl}", HOP, delay_s)

    return answer


def ttls(trace: MadeUpTrace, port: int = 40_000) -> list[int]:
    return [ttl for _, sender, ttl in trace.sent if sender == port]


def test_a_clear_path_is_asked_hop_after_hop_and_once(made_up):
    trace = made_up(path_of(4), ports=1)
    found = trace.run()
    [path] = found["paths"]
    assert path == {
        "port": 40_000, "reached": True, "directly": None,
        "hops": [[1, "r1", US, HOP, 1, 1], [2, "r2", US, HOP, 1, 1], [3, "r3", US, HOP, 1, 1],
                 [4, TARGET, US, "open", 1, 1]],
    }  # fmt: skip
    assert ttls(trace) == [1, 2, 3, 4]
    assert (found["packets"], found["complete"], found["reason"]) == (4, True, None)
    assert (found["target"], found["port"], found["protocol"]) == (TARGET, 80, "tcp")
    assert found["started_us"] == 1_795_298_700_000_000


def test_rounds_ask_every_hop_again(made_up):
    trace = made_up(path_of(3), ports=1, rounds=3, timeout_s=10)
    [path] = trace.run()["paths"]
    assert [hop[4:] for hop in path["hops"]] == [[3, 3]] * 3
    assert ttls(trace) == [1, 2, 3] * 3


def test_behind_a_black_hole_it_asks_three_hops_then_the_target_then_the_next_hops_once_more(
    made_up,
):
    trace = made_up(lambda port, ttl, number: (f"r{ttl}", HOP, 0.01) if ttl <= 2 else None, ports=1)
    found = trace.run()
    assert ttls(trace) == [1, 2, 3, 4, 5, ALL_THE_WAY, 3, 4]
    [path] = found["paths"]
    assert not path["reached"]
    assert [hop[3:] for hop in path["hops"]] == [[HOP, 1, 1]] * 2 + [[SILENT, 2, 0]] * 2 + [
        [SILENT, 1, 0]
    ]
    assert path["directly"] == [None, None, SILENT, 1, 0]
    assert found["complete"]


def test_a_target_that_answers_directly_is_reached_whatever_lies_between(made_up):
    trace = made_up(
        lambda port, ttl, number: (TARGET, "open", 0.01) if ttl == ALL_THE_WAY else None, ports=1
    )
    [path] = trace.run()["paths"]
    assert path["reached"]
    assert path["directly"][2:] == ["open", 1, 1]
    assert ttls(trace) == [1, 2, 3, ALL_THE_WAY, 1, 2]


def test_a_router_that_limits_its_answers_is_heard_the_second_time(made_up):
    def network(port: int, ttl: int, number: int) -> tuple[str | None, str, float] | None:
        return None if ttl == 2 and number == 0 else path_of(3)(port, ttl, number)

    [path] = made_up(network, ports=1).run()["paths"]
    assert path["hops"][1][:2] + path["hops"][1][3:] == [2, "r2", HOP, 2, 1]
    assert path["directly"] is None


def test_no_walk_goes_on_past_the_distance_of_the_target_that_another_found(made_up):
    def network(port: int, ttl: int, number: int) -> tuple[str | None, str, float] | None:
        if port == 40_000:
            return path_of(2)(port, ttl, number)
        return ("r1", HOP, 0.1) if ttl == 1 else None

    trace = made_up(network, ports=2)
    trace.run()
    assert ttls(trace, 40_001)[:3] == [1, 2, ALL_THE_WAY]


def test_a_walk_ends_at_its_highest_ttl(made_up):
    trace = made_up(lambda port, ttl, number: (f"r{ttl}", HOP, 0.001), ports=1, max_ttl=5)
    [path] = trace.run()["paths"]
    assert ttls(trace) == [1, 2, 3, 4, 5, ALL_THE_WAY]
    assert not path["reached"]


def test_an_error_from_a_router_ends_the_path_there(made_up):
    def network(port: int, ttl: int, number: int) -> tuple[str | None, str, float]:
        return ("r1", HOP, 0.01) if ttl == 1 else ("r2", "icmp 3/13", 0.01)

    trace = made_up(network, ports=1)
    [path] = trace.run()["paths"]
    assert ttls(trace) == [1, 2]
    assert (path["reached"], path["hops"][-1][3]) == (False, "icmp 3/13")


def test_the_nearest_answer_of_the_target_is_the_end(made_up):
    """A path that became shorter: what is behind its end is not asked again."""

    def network(port: int, ttl: int, number: int) -> tuple[str | None, str, float]:
        return path_of(4 if number == 0 else 2)(port, ttl, number)

    trace = made_up(network, ports=1, rounds=2, timeout_s=10)
    [path] = trace.run()["paths"]
    assert ttls(trace) == [1, 2, 3, 4, 1, 2]
    assert [hop[0] for hop in path["hops"]] == [1, 2]


def test_packets_are_paced_and_walks_begin_one_after_the_other(made_up):
    trace = made_up(path_of(1, delay_s=5.0), ports=4, timeout_s=0.3)
    trace.run()
    began_s = [at_s for at_s, _, _ in trace.sent][:4]
    assert began_s == [pytest.approx(number * WALK_GAP_S, abs=1e-4) for number in range(4)]
    trace = made_up(path_of(8, delay_s=0.0001), ports=8, timeout_s=0.1)
    trace.run()
    gaps_s = [
        later[0] - sooner[0] for sooner, later in zip(trace.sent, trace.sent[1:], strict=False)
    ]
    assert min(gaps_s) == pytest.approx(PACKET_GAP_S, abs=1e-4)


def test_in_a_short_time_walks_begin_within_its_first_third(made_up):
    trace = made_up(path_of(1, delay_s=5.0), ports=10, timeout_s=0.6)
    assert [walk.free_s - trace.began_s for walk in trace.walks] == [
        pytest.approx(0.02 * number) for number in range(10)
    ]
    trace = made_up(path_of(1, delay_s=5.0), ports=10, timeout_s=0.3)
    assert trace.walks[-1].free_s - trace.began_s == pytest.approx(0.09)


def test_a_hop_is_waited_for_some_times_longer_than_the_slowest_answer(made_up):
    def gaps_s(network: Network) -> list[float]:
        trace = made_up(network, ports=1, timeout_s=10)
        trace.run()
        return [
            later[0] - sooner[0] for sooner, later in zip(trace.sent, trace.sent[1:], strict=False)
        ]

    assert gaps_s(lambda port, ttl, number: None)[0] == pytest.approx(0.35, abs=0.01)
    assert gaps_s(lambda port, ttl, number: (f"r{ttl}", HOP, 0.05) if ttl < 2 else None)[
        1
    ] == pytest.approx(0.25 + 4 * 0.05, abs=0.01)
    assert gaps_s(lambda port, ttl, number: (f"r{ttl}", HOP, 0.3) if ttl < 2 else None)[
        1
    ] == pytest.approx(1.0, abs=0.01)


def test_a_source_port_rests_before_it_is_used_in_another_round(made_up):
    trace = made_up(path_of(1), ports=1, rounds=2, timeout_s=10)
    trace.run()
    assert trace.sent[1][0] - trace.sent[0][0] == pytest.approx(PORT_REST_S + 0.01, abs=0.01)
    trace = made_up(path_of(1), ports=1, rounds=2, timeout_s=0.6)
    trace.run()
    assert trace.sent[1][0] - trace.sent[0][0] == pytest.approx(0.2 + 0.01, abs=0.01)


def test_at_the_end_of_its_time_it_reports_what_it_has(made_up):
    trace = made_up(lambda port, ttl, number: None, ports=2, timeout_s=0.5)
    found = trace.run()
    assert found["took_ms"] in {500, 501}
    assert not found["complete"]
    assert [path["hops"][0][3:] for path in found["paths"]] == [[SILENT, 1, 0]] * 2
    assert trace.in_flight == {}


def test_the_number_of_packets_is_bounded(made_up):
    trace = made_up(path_of(32, delay_s=0.0001), ports=64, rounds=3, max_ttl=32, timeout_s=10)
    found = trace.run()
    assert found["packets"] == len(trace.sent) == MAX_PACKETS
    assert not found["complete"]


@pytest.mark.parametrize("fault", [errno.EADDRINUSE, errno.EADDRNOTAVAIL])
def test_a_source_port_in_use_is_replaced_before_the_first_hop(made_up, fault):
    trace = made_up(path_of(2), ports=1, faults={40_000: fault})
    found = trace.run()
    assert [path["port"] for path in found["paths"]] == [40_001]
    assert trace.sent[0][0] == pytest.approx(PORT_TAKEN_S, abs=0.001)
    assert found["packets"] == 2


def test_a_walk_waits_for_its_source_port_after_the_first_hop(made_up):
    def network(port: int, ttl: int, number: int) -> tuple[str | None, str, float]:
        trace.faults = {40_000: errno.EADDRINUSE} if ttl == 1 else {}
        return path_of(2)(port, ttl, number)

    trace = made_up(network, ports=1, timeout_s=0.5)
    found = trace.run()
    assert [(path["port"], len(path["hops"])) for path in found["paths"]] == [(40_000, 1)]
    assert not found["complete"]


def test_without_a_free_source_port_there_is_a_reason(made_up):
    faults = dict.fromkeys(range(40_000, 41_000), errno.EADDRINUSE)
    found = made_up(path_of(2), ports=2, timeout_s=0.5, faults=faults).run()
    assert (found["paths"], found["packets"]) == ([], 0)
    assert "no packet was sent" in found["reason"]


def test_an_error_of_this_host_ends_a_walk_with_its_name(made_up):
    found = made_up(path_of(2), ports=1, faults={40_000: errno.ENETUNREACH}).run()
    [path] = found["paths"]
    assert path["hops"] == [[1, None, None, "this host: Network is unreachable", 1, 1]]
    assert not path["reached"]


def test_a_refused_connect_is_waited_for_like_any_answer(made_up):
    found = made_up(path_of(2), ports=1, faults={40_000: errno.ECONNREFUSED}, timeout_s=1).run()
    assert found["paths"][0]["hops"][0][3] == SILENT


@pytest.mark.parametrize(
    ("level", "data", "answer"),
    [
        (
            (0, 11),
            bytes(4) + bytes([2, 11, 0]) + bytes(13) + bytes([10, 0, 0, 1]),
            ("10.0.0.1", HOP),
        ),
        (
            (0, 11),
            bytes(4) + bytes([2, 3, 3]) + bytes(13) + bytes([192, 0, 2, 1]),
            (TARGET, "closed"),
        ),
        (
            (0, 11),
            bytes(4) + bytes([2, 3, 3]) + bytes(13) + bytes([10, 0, 0, 1]),
            ("10.0.0.1", "icmp 3/3"),
        ),
        (
            (0, 11),
            bytes(4) + bytes([2, 3, 13]) + bytes(13) + bytes([192, 0, 2, 1]),
            (TARGET, "icmp 3/13"),
        ),
        ((0, 11), bytes(4) + bytes([1, 11, 0]) + bytes(13) + bytes([10, 0, 0, 1]), None),
        ((0, 11), bytes(4) + bytes([2, 11, 0]) + bytes(13) + bytes([10, 0, 0]), None),
        ((41, 25), bytes(4) + bytes([3, 3, 0]) + bytes(17) + bytes(15) + b"\1", ("::1", HOP)),
        (
            (41, 25),
            bytes(4) + bytes([3, 1, 4]) + bytes(17) + bytes(15) + b"\1",
            ("::1", "icmp 1/4"),
        ),
        ((41, 25), bytes(4) + bytes([2, 3, 0]) + bytes(17) + bytes(15) + b"\1", None),
        ((41, 25), bytes(4) + bytes([3, 3, 0]) + bytes(17) + bytes(15), None),
        ((41, 50), bytes(60), None),
    ],
)
def test_an_icmp_error_is_read_from_where_the_kernel_puts_it(level, data, answer):
    """struct sock_extended_err, then the router's sockaddr: sin_addr at 20, sin6_addr at 24."""
    assert Trace(TARGET, 80, ports=1)._icmp_error(*level, data) == answer
