"""Which part of the network explains what is bad: the engine by itself, on counts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pingmesh_tasks.detect.mesh.scan import Demands, Evidence, Suspect, find_suspects
from pingmesh_tasks.topology.axis import HostAxis
from tests.support.pair_rows import fabric

INVENTORY = fabric(dcs=2, podsets=3, tors=3, hosts=4)
PLACES = HostAxis.of(INVENTORY)
A, B = (ends.astype(np.int32) for ends in np.nonzero(~np.eye(len(PLACES.names), dtype=bool)))
PROBES, BASELINE = 60, 1e-4


def suspects_of(rate: np.ndarray, seed: int = 0, least: float = 0.0) -> list[Suspect]:
    n = np.full(len(A), PROBES, np.float32)
    bad = np.random.default_rng(seed).binomial(PROBES, np.maximum(rate, BASELINE)).astype(np.float32)
    evidence = Evidence(A, B, n, bad, np.full(len(A), BASELINE, np.float32))
    return find_suspects(PLACES, evidence, Demands(lambda *_: least, lambda *_: 3, alpha=1e-5), topology=True)


def names_of(suspects: list[Suspect]) -> list[str]:
    return [suspect.subject for suspect in suspects]


def touching(of: np.ndarray, k: int) -> np.ndarray:
    return (of[A] == k) | (of[B] == k)


EVERYONE = np.arange(len(PLACES.names))
CULPRITS = {
    "d1p2t1h3": touching(EVERYONE, PLACES.names.index("d1p2t1h3")),
    "dc1/podset2/tor3": touching(PLACES.tor, PLACES.tor_names.index("dc1/podset2/tor3")),
    "dc2/podset1": touching(PLACES.podset, PLACES.podset_names.index("dc2/podset1")),
    "dc2/spine": (PLACES.dc[A] == 1) & (PLACES.dc[B] == 1) & (PLACES.podset[A] != PLACES.podset[B]),
    "inter_dc": PLACES.dc[A] != PLACES.dc[B],
    "dc1": touching(PLACES.dc, 0),
    "mesh": np.ones(len(A), bool),
}


@pytest.mark.parametrize("culprit", CULPRITS)
@pytest.mark.parametrize("rate", [0.003, 0.03, 0.9])
def test_the_culprit_is_named_and_nobody_else(culprit, rate):
    if (rate, culprit) == (0.003, "d1p2t1h3"):
        rate = 0.006  # a host has few pairs: 25 drops at 3 of a thousand could still be its rack's
    (suspect,) = suspects_of(rate * CULPRITS[culprit])
    assert suspect.subject == culprit
    assert suspect.share == pytest.approx(rate, rel=0.4)
    assert suspect.confidence > 0.9


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(list(CULPRITS)[:4], 2)))
def test_two_culprits_are_both_named(first, second):
    found = names_of(suspects_of(np.maximum(0.05 * CULPRITS[first], 0.08 * CULPRITS[second])))
    assert sorted(found) == sorted([first, second])


@pytest.mark.parametrize("seed", range(5))
def test_chance_names_nobody(seed):
    assert suspects_of(np.zeros(len(A)), seed) == []


def test_what_is_beyond_luck_but_within_what_is_allowed_is_not_told_nor_its_parts():
    rate = 0.004 * CULPRITS["dc1/podset2/tor3"]
    assert names_of(suspects_of(rate, least=0.002)) == ["dc1/podset2/tor3"]
    assert suspects_of(rate, least=0.01) == []


def test_the_damage_of_a_black_hole_is_its_own_and_no_fault_of_its_peers():
    hit = CULPRITS["dc1/podset2/tor3"] & (np.random.default_rng(3).random(len(A)) < 0.1)
    assert names_of(suspects_of(0.6 * hit)) == ["dc1/podset2/tor3"]


def test_the_rows_of_a_suspect_are_the_bad_ones_that_cross_it():
    (suspect,) = suspects_of(0.05 * CULPRITS["dc2/podset1"])
    assert CULPRITS["dc2/podset1"][suspect.rows].all()
    assert {PLACES.podset_names[PLACES.podset[h]] for h in suspect.hosts} == {"dc2/podset1"}
    assert (suspect.crossing == CULPRITS["dc2/podset1"]).all()
