"""Whose fault it is, from counts that are made by hand or drawn with a known culprit."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest

from pingmesh_tasks.detect.localize import (
    Places,
    RankedSuspect,
    bad_devices,
    netbouncer,
    rank_hops,
    rank_suspects,
    rank_traces,
    screen_tors,
    vote_007,
)
from pingmesh_tasks.fleet.paths import Hop, PathTrace, PortPath
from tests.support.mesh_frames import inventory_of

INVENTORY = inventory_of(96, dcs=2, podsets=3, per_tor=4)  # 4 ToRs a podset
PLACES = Places.of(INVENTORY)
PROBES = 30


@dataclass(frozen=True)
class Mesh:
    """Everybody probes everybody: positions of sources and destinations, and who of both stands where."""

    src: np.ndarray
    dst: np.ndarray

    def touching(self, of: np.ndarray, number: int) -> np.ndarray:
        return (of[self.src] == number) | (of[self.dst] == number)

    def rank(self, rates: np.ndarray | float, seed: int = 1, baseline: float = 1e-4) -> list[RankedSuspect]:
        """Lose a share of the probes of each pair by chance, and ask whose fault it is."""
        sent = np.full(len(self.src), PROBES)
        lost = np.random.default_rng(seed).binomial(sent, np.broadcast_to(np.maximum(rates, baseline), sent.shape))
        return rank_suspects(PLACES, self.src, self.dst, sent, lost, baseline=baseline)


def full_mesh() -> Mesh:
    src, dst = np.divmod(np.arange(96 * 96), 96)
    return Mesh(src[src != dst], dst[src != dst])


MESH = full_mesh()
HOSTS = np.arange(96)
ACROSS_TORS = PLACES.tor[MESH.src] != PLACES.tor[MESH.dst]
ACROSS_PODSETS = PLACES.podset[MESH.src] != PLACES.podset[MESH.dst]
ACROSS_DCS = PLACES.dc[MESH.src] != PLACES.dc[MESH.dst]

CULPRITS = {
    ("host", INVENTORY.hosts[17].name): MESH.touching(HOSTS, 17),
    ("tor", "dc1/podset2/tor1"): MESH.touching(PLACES.tor, 4),
    ("podset", "dc1/podset2"): MESH.touching(PLACES.podset, 1) & ACROSS_TORS,
    ("tier", "dc2/spine"): MESH.touching(PLACES.dc, 1) & ACROSS_PODSETS,
    ("tier", "inter_dc"): ACROSS_DCS,
}
of_each_kind = pytest.mark.parametrize("culprit", CULPRITS, ids=" ".join)


# ---- paths unknown


@of_each_kind
@pytest.mark.parametrize("share", [0.01, 0.3, 1.0])
def test_the_part_that_all_bad_probes_cross_is_named_and_nothing_else(culprit, share):
    (suspect,) = MESH.rank(np.where(CULPRITS[culprit], share, 0.0))
    assert (suspect.scope, suspect.subject) == culprit
    assert suspect.confidence > 0.9
    assert suspect.explained > 0.7
    assert suspect.bad / suspect.sent == pytest.approx(share, rel=0.2)


@of_each_kind
def test_a_culprit_is_named_for_slowness_as_it_is_for_loss(culprit):
    """`bad` is what the caller says it is: here every probe of a slow pair."""
    sent = np.full(len(MESH.src), PROBES)
    first, *_ = rank_suspects(PLACES, MESH.src, MESH.dst, sent, np.where(CULPRITS[culprit], sent, 0), baseline=1e-3)
    assert (first.scope, first.subject) == culprit


def test_a_pair_is_one_thing_in_both_directions():
    pair = ((MESH.src == 3) & (MESH.dst == 50)) | ((MESH.src == 50) & (MESH.dst == 3))
    (suspect,) = MESH.rank(np.where(pair, 1.0, 0.0))
    assert (suspect.scope, suspect.subject) == ("pair", f"{PLACES.names[3]}>{PLACES.names[50]}")
    assert suspect.pairs == 2


def test_two_faults_in_different_places_are_both_named():
    host, tor = CULPRITS["host", INVENTORY.hosts[17].name], MESH.touching(PLACES.tor, 20)
    suspects = MESH.rank(np.maximum(np.where(host, 1.0, 0), np.where(tor, 0.03, 0)))
    assert [(s.scope, s.subject) for s in suspects] == [
        ("host", INVENTORY.hosts[17].name),
        ("tor", PLACES.tor_names[20]),
    ]


@pytest.mark.parametrize("of", ["host", "tor"])
def test_several_dead_in_different_places_are_no_dead_spine(of):
    """Together they make every podset suffer alike; each explains its part entirely, and nothing is left."""
    numbers, places, names = {
        "host": ([3, 20, 50, 77], HOSTS, PLACES.names),
        "tor": ([1, 9, 20], PLACES.tor, PLACES.tor_names),
    }[of]
    dead = np.any([MESH.touching(places, number) for number in numbers], axis=0)
    suspects = MESH.rank(np.where(dead, 1.0, 0.0))
    assert {(s.scope, s.subject) for s in suspects} == {(of, names[number]) for number in numbers}


def test_a_dead_host_is_seen_through_a_lossy_spine():
    suspects = MESH.rank(np.maximum(CULPRITS["tier", "dc2/spine"] * 0.01, MESH.touching(HOSTS, 80) * 1.0))
    assert {(s.scope, s.subject) for s in suspects} == {("tier", "dc2/spine"), ("host", PLACES.names[80])}


def test_a_tor_that_swallows_some_pairs_is_named_and_not_the_hosts_that_it_hits_most():
    through = np.flatnonzero(MESH.touching(PLACES.tor, 4))
    dead = np.random.default_rng(4).choice(through, len(through) // 8, replace=False)
    rates = np.zeros(len(MESH.src))
    rates[dead] = 1.0
    suspects = MESH.rank(rates)
    assert [(s.scope, s.subject) for s in suspects] == [("tor", "dc1/podset2/tor1")]


@pytest.mark.parametrize("seed", range(20))
def test_what_is_lost_when_all_is_well_names_nobody(seed):
    assert MESH.rank(1e-4, seed) == []


def test_pairs_that_were_not_probed_accuse_nobody():
    nothing = np.zeros(len(MESH.src), int)
    assert rank_suspects(PLACES, MESH.src, MESH.dst, nothing, nothing) == []
    assert rank_suspects(PLACES, nothing[:0], nothing[:0], nothing[:0], nothing[:0]) == []


def test_few_witnesses_make_a_weak_suspicion():
    """One source's word against one host is worth less than that of a hundred."""
    one = (MESH.src == 3) & (MESH.dst == 50)
    alone, many = MESH.rank(np.where(one, 1.0, 0))[0], MESH.rank(np.where(MESH.touching(HOSTS, 50), 1.0, 0))[0]
    assert alone.confidence < 0.6 < 0.9 < many.confidence


# ---- racks without paths


def screened(degraded: np.ndarray) -> list[tuple[str, str]]:
    return [(screen.tor, screen.side) for screen in screen_tors(PLACES, MESH.src, MESH.dst, degraded)]


def test_a_rack_with_bad_edges_to_most_others_is_screened_by_its_side():
    tor = PLACES.tor_names[4]
    into, out = PLACES.tor[MESH.dst] == 4, PLACES.tor[MESH.src] == 4
    assert screened(into | out) == [(tor, "both")]
    assert screened(into) == [(tor, "downside")]
    assert screened(out & ~into) == [(tor, "upside")]


def test_a_bad_edge_between_two_good_racks_names_no_rack():
    assert screened((PLACES.tor[MESH.src] == 4) & (PLACES.tor[MESH.dst] == 9)) == []
    assert screened(np.zeros(len(MESH.src), bool)) == []


def test_more_witnesses_and_worse_damage_score_higher():
    hit = MESH.touching(PLACES.tor, 4)
    mild = screen_tors(PLACES, MESH.src, MESH.dst, hit, np.full(len(hit), 0.1))[0]
    severe = screen_tors(PLACES, MESH.src, MESH.dst, hit, np.ones(len(hit)))[0]
    assert 0 < mild.score < severe.score <= 1


# ---- paths known


def clos_paths() -> tuple[np.ndarray, list[tuple[str, ...]]]:
    """All paths of 4 ToRs over 4 spines: rows of link numbers, and of names."""
    names = [(f"t{a}", f"s{s}", f"t{b}") for a, s, b in product(range(4), range(4), range(4)) if a != b]
    links = sorted({pair for path in names for pair in ((path[0], path[1]), (path[1], path[2]))})
    number = {link: i for i, link in enumerate(links)}
    return np.array([[number[a, s], number[s, b]] for a, s, b in names]), names


PATHS, NAMES = clos_paths()


def test_007_blames_the_link_that_most_losing_flows_share_and_then_asks_again():
    losing = PATHS[(PATHS == 5).any(axis=1)]
    noise = PATHS[[0]]
    blamed = vote_007(np.vstack([losing] * 5 + [noise]))
    assert blamed[0] == (5, pytest.approx(5 * len(losing) / 2))
    assert [link for link, _ in blamed[1:]] == [PATHS[0].min()], "the flow that 5 does not explain votes for itself"


def test_007_weighs_a_flow_by_the_length_of_its_path_and_takes_paths_of_any_length():
    votes = dict(vote_007(np.array([[0, 1, -1, -1], [2, 3, 4, 5]]), most=1))
    assert votes == {0: 0.5}
    assert vote_007(np.empty((0, 3), int)) == []


def test_007_stops_where_the_best_link_has_too_few_votes():
    flows = np.arange(2_000).reshape(1_000, 2)  # nothing in common: each link has 1/2 000 of the votes
    assert vote_007(flows, theta=0.0025) == []


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
