"""Where loss starts, over traces of a small Clos network that behaves exactly as told."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from pingmesh_tasks.detect.traces.hops import find_loss, hop_evidence, hop_table
from pingmesh_tasks.fleet.trace_paths import Hop, PathTrace, PortPath

TARGET = "10.2.1.1"
PORTS = 16
Router = str


def way(port: int) -> list[Router]:
    """ToR, leaf, spine, leaf, ToR, target: which of two, by the bits of the port."""
    leaf, spine, far = (1 + (port >> bit) % 2 for bit in range(3))
    return ["10.252.1.1", f"10.253.1.{leaf}", f"10.254.0.{spine}", f"10.253.2.{far}", "10.252.2.1", TARGET]


Lost = Callable[[int, int, list[Router]], bool]  # port, distance, way → whether that packet, or its answer, is lost


def traced(lost: Lost, ports: int = PORTS, rounds: int = 1, what: str = "open", silent: int = 3) -> PathTrace:
    """What the agent's trace reports where `lost` says which packets are."""
    paths = []
    for port in range(ports):
        routers = way(port)
        hops, reached, quiet = [], False, 0
        for ttl, router in enumerate(routers, 1):
            answers = sum(not lost(port, ttl, routers) for _ in range(rounds))
            kind = what if router == TARGET else "hop"
            hops.append(Hop(ttl, router if answers else None, 90 if answers else None,
                            kind if answers else "silent", rounds, answers))  # fmt: skip
            reached |= bool(answers) and router == TARGET
            quiet = 0 if answers else quiet + 1
            if quiet == silent:
                break
        directly = None
        if not reached:
            reached = not lost(port, 6, routers)
            directly = Hop(64, TARGET if reached else None, 90 if reached else None,
                           what if reached else "silent", 1, int(reached))  # fmt: skip
        paths.append(PortPath(port, reached, tuple(hops), directly))
    return PathTrace("host111", "host211", paths=tuple(paths))


def never(port: int, ttl: int, routers: list[Router]) -> bool:
    return False


def behind(router: Router) -> Lost:
    """All that would go beyond a router is lost there; it still answers itself."""
    return lambda port, ttl, routers: router in routers[: ttl - 1]


def test_a_healthy_way_is_clear():
    found = find_loss([traced(never)])
    assert (found.kind, found.after, found.confidence) == ("clear", None, 1.0)
    assert found.words == "all 16 ports arrive (16 packets at the target)"


def test_a_black_hole_in_a_spine_is_after_that_spine():
    found = find_loss([traced(behind("10.254.0.1"))])
    assert (found.kind, found.after, found.ports, found.of) == ("stops", "10.254.0.1", 8, 16)
    assert found.words == "after 10.254.0.1; 8 of 16 ports stop there"
    assert found.confidence > 0.95


def test_a_drop_in_the_last_tor_stops_all_ports_there():
    found = find_loss([traced(behind("10.252.2.1"))])
    assert (found.kind, found.after, found.ports) == ("stops", "10.252.2.1", 16)
    assert "what follows, the target's link or the target, does not answer" in found.words


def test_a_hole_for_some_ports_only_is_found_where_they_stop():
    holed = {1, 3, 9}
    found = find_loss([traced(lambda port, ttl, routers: port in holed and ttl > 2)])
    assert (found.kind, found.after, found.ports) == ("stops", "10.253.1.2", 3)
    assert found.confidence < 0.5, "other ports pass the same leaf unharmed"


def test_a_host_cut_off_hears_no_router():
    found = find_loss([traced(lambda port, ttl, routers: True)])
    assert (found.kind, found.after, found.ports) == ("stops", None, 16)
    assert "neither a router nor the target answers" in found.words
    assert found.words.endswith("(16 of 16 ports)")


def test_a_router_that_never_answers_is_no_fault():
    found = find_loss([traced(lambda port, ttl, routers: ttl == 3)])
    assert found.kind == "clear"


@pytest.mark.parametrize("silent_ttls", [{1}, {1, 2}, {2, 3, 4}, {1, 2, 3, 4, 5}])
def test_routers_that_limit_their_answers_are_no_fault(silent_ttls):
    chance = random.Random(1)
    found = find_loss([traced(lambda port, ttl, routers: ttl in silent_ttls and chance.random() < 0.7)])
    assert found.kind == "clear", found.words


def test_a_hole_is_found_through_routers_that_limit_their_answers():
    chance = random.Random(2)
    hole = behind("10.254.0.2")
    found = find_loss(
        [traced(lambda port, ttl, routers: hole(port, ttl, routers) or (ttl <= 2 and chance.random() < 0.6))]
    )
    assert (found.kind, found.after) == ("stops", "10.254.0.2")


def test_ports_whose_answers_are_lost_on_the_way_back_do_not_outvote_the_hole():
    """Spine 1 drops both ways; answers choose among the spines by a hash of their own."""

    def lost(port: int, ttl: int, routers: list[Router]) -> bool:
        answer_by_spine_1 = ttl >= 4 and (port * 7 + ttl) % 4 == 0
        return behind("10.254.0.1")(port, ttl, routers) or answer_by_spine_1

    found = find_loss([traced(lost)])
    assert (found.kind, found.after) == ("stops", "10.254.0.1")


@pytest.mark.parametrize("seed", range(5))
def test_five_percent_behind_one_spine_stands_out_against_the_other(seed):
    chance = random.Random(seed)

    def lost(port: int, ttl: int, routers: list[Router]) -> bool:
        return "10.254.0.2" in routers[: ttl - 1] and chance.random() < 0.05

    found = find_loss([traced(lost, ports=64, rounds=3) for _ in range(3)])
    assert (found.kind, found.after) == ("loses", "10.254.0.2"), found.words
    assert found.ports / found.of == pytest.approx(0.05, abs=0.03)
    assert "beyond its neighbours" in found.words


@pytest.mark.parametrize("seed", range(20))
def test_without_loss_nothing_stands_out_whatever_the_routers_limit(seed):
    chance = random.Random(seed)
    limited = {chance.randrange(1, 6) for _ in range(2)}
    found = find_loss([traced(lambda port, ttl, routers: ttl in limited and chance.random() < 0.5, ports=32)])
    assert found.kind == "clear", found.words


def test_one_port_of_many_without_an_answer_is_too_few_for_a_verdict():
    found = find_loss([traced(lambda port, ttl, routers: port == 5 and ttl > 4)])
    assert found.kind == "unknown"
    assert "1 of 16 ports got no answer: too few" in found.words


def test_loss_on_the_only_way_starts_after_the_last_hop_that_lost_nothing():
    chance = random.Random(3)
    found = find_loss([traced(lambda p, ttl, r: ttl == 6 and chance.random() < 0.3, ports=64, rounds=3)])
    assert (found.kind, found.after) == ("loses", "10.252.2.1"), found.words


def test_a_target_that_refuses_is_reached():
    found = find_loss([traced(never, what="refused")])
    assert found.kind == "refused"
    assert "nothing listens" in found.words


def test_a_closed_udp_port_that_the_host_says_rarely_is_no_hole():
    """Six answers at once, then one a second: the kernel's limit of ICMP errors to one host."""
    found = find_loss([traced(lambda port, ttl, routers: ttl == 6 and port > 5, what="closed")])
    assert found.kind == "refused"
    assert "UDP port is closed" in found.words


def test_no_trace_gives_its_reasons_and_no_verdict():
    assert find_loss([]).words == "no trace was made"
    found = find_loss([PathTrace("a", "b", reason="the agent on a is too old to trace")])
    assert (found.kind, found.words, found.confidence) == ("unknown", "the agent on a is too old to trace", 0.0)


def test_a_router_that_prohibits_is_quoted():
    hops = (Hop(1, "10.252.1.1", 80, "hop", 1, 1), Hop(2, "10.253.1.1", 80, "icmp 3/13", 1, 1))
    found = find_loss([PathTrace("a", "b", paths=tuple(PortPath(port, False, hops) for port in range(4)))])
    assert found.after == "10.253.1.1"
    assert "10.253.1.1 says icmp 3/13" in found.words


def test_a_host_that_cannot_send_says_so():
    hops = (Hop(1, None, None, "this host: Network is unreachable", 1, 1),)
    found = find_loss([PathTrace("a", "b", paths=tuple(PortPath(port, False, hops) for port in range(4)))])
    assert found.after is None
    assert "this host: Network is unreachable" in found.words


def test_the_table_pools_ports_by_router_and_counts_what_went_beyond():
    rows = {row.router: row for row in hop_table([traced(behind("10.254.0.1"))])}
    assert TARGET not in rows
    assert (rows["10.252.1.1"].ports, rows["10.252.1.1"].stopped) == (16, 0)
    assert (rows["10.254.0.1"].ports, rows["10.254.0.1"].stopped, rows["10.254.0.1"].loss) == (8, 8, 1.0)
    assert (rows["10.254.0.2"].ports, rows["10.254.0.2"].stopped, rows["10.254.0.2"].loss) == (8, 0, 0.0)
    first = hop_evidence([traced(behind("10.254.0.1"))], limit=1)
    assert first == (
        {"hop": 3, "router": "10.254.0.1", "ports": 8, "stop_here": 8, "sent_beyond": 32, "loss_beyond": 1.0},
    )


def test_a_tier_that_limits_its_answers_counts_as_no_loss_beyond_the_others():
    rows = hop_table([traced(lambda port, ttl, routers: ttl == 4 and port % 3 > 0, ports=32)])
    assert {row.loss for row in rows} == {0.0}
