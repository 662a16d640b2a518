"""NetBouncer on the paths of a small Clos network whose guilty links and devices are known."""

from itertools import product

import numpy as np
import pytest

from pingmesh_tasks.detect.traces.netbouncer import bad_devices, netbouncer, rank_hops, rank_traces
from pingmesh_tasks.fleet.trace_paths import Hop, PathTrace, PortPath


def clos_paths() -> tuple[np.ndarray, list[tuple[str, ...]]]:
    """All paths of 4 ToRs over 4 spines: rows of link numbers, and of names."""
    names = [(f"t{a}", f"s{s}", f"t{b}") for a, s, b in product(range(4), range(4), range(4)) if a != b]
    links = sorted({pair for path in names for pair in ((path[0], path[1]), (path[1], path[2]))})
    number = {link: i for i, link in enumerate(links)}
    return np.array([[number[a, s], number[s, b]] for a, s, b in names]), names


PATHS, NAMES = clos_paths()


@pytest.mark.parametrize("loss", [0.01, 0.1, 0.5, 1.0])
def test_netbouncer_finds_the_loss_of_each_link(loss):
    truth = np.ones(PATHS.max() + 1)
    truth[5] = 1 - loss
    found = netbouncer(PATHS, truth[PATHS].prod(axis=1))
    assert found[5] == pytest.approx(1 - loss, abs=0.01)
    assert (np.delete(found, 5) > 0.999).all()


def test_netbouncer_finds_two_bad_links_in_noise():
    truth = np.full(PATHS.max() + 1, 0.9999)
    truth[[5, 20]] = 0.95, 0.9
    success = np.random.default_rng(3).binomial(2_000, truth[PATHS].prod(axis=1)) / 2_000
    assert set(np.argsort(netbouncer(PATHS, success))[:2]) == {5, 20}


def test_netbouncer_has_an_answer_where_nothing_gets_through_a_links_other_half():
    """All its paths are dead behind it: the sum of squares is 0, and the reference divides by almost nothing."""
    found = netbouncer(np.array([[0, 1], [2, 1]]), np.array([0.0, 0.0]))
    assert np.isfinite(found).all()
    assert found.min() == 0.0


def test_netbouncer_says_nothing_of_a_link_on_no_path():
    assert np.isnan(netbouncer(np.array([[0, 2]]), np.array([1.0]))[1])


def test_a_bad_device_is_named_and_its_good_neighbours_are_not():
    """A quarter of every ToR's paths cross the bad spine, which is more than a fifth."""
    devices = sorted({name for path in NAMES for name in path})
    rows = np.array([[devices.index(name) for name in path] for path in NAMES])
    success = np.array([0.97 if "s2" in path else 1.0 for path in NAMES])
    assert [devices[i] for i in bad_devices(rows, success)] == ["s2"]


def test_traced_paths_name_the_device_or_the_link_where_packets_are_lost():
    spine = [0.97 if "s2" in path else 1.0 for path in NAMES]
    assert rank_hops(NAMES, spine) == [("s2", pytest.approx(0.03))]
    link = [0.9 if path[:2] == ("t1", "s2") else 1.0 for path in NAMES]
    assert rank_hops(NAMES, link)[0] == ("t1→s2", pytest.approx(0.1, abs=0.02))
    assert rank_hops(NAMES, [1.0] * len(NAMES)) == []


def test_traces_are_pooled_by_the_way_that_their_ports_took():
    """Eight ports a way, one packet each: no port shows the loss, the ways over one spine do."""

    def path(port: int, spine: str, answered: int) -> PortPath:
        hops = [Hop(ttl, router, 9, "hop", 1, 1) for ttl, router in enumerate(("tor1", spine, "tor2"), 1)]
        return PortPath(port, True, (*hops, Hop(4, "10.0.0.2", 9, "open", 1, answered)), Hop(64, None, 9, "open", 1, 1))

    ports = [path(port, f"spine{port % 2}", answered=int(port not in (1, 9))) for port in range(16)]
    silent = PortPath(99, True, (Hop(1, None, None, "silent", 1, 0), Hop(2, "10.0.0.2", 9, "open", 1, 1)))
    (worst, loss), *_ = rank_traces(
        [PathTrace("a", "b", paths=(*ports, silent)), PathTrace("b", "a", reason="no agent")]
    )
    assert (worst, loss) == ("tor1→spine1", pytest.approx(2 / 16, abs=0.03)) or worst == "spine1→tor2"
    assert rank_traces([]) == []
