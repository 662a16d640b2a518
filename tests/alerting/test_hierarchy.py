"""Which suspects contain which, on a fabric of two DCs, and what an inventory still has."""

from __future__ import annotations

import pytest

from pingmesh_tasks.alerting.hierarchy import hierarchy_of, members_of
from tests.support.findings import FABRIC, finding

CONTAINING = hierarchy_of(FABRIC)
IS_MEMBER = members_of(FABRIC)
MESH_ITSELF = ("mesh", "mesh")
DC1, P1, T1 = ("dc", "dc1"), ("podset", "dc1/p1"), ("tor", "dc1/p1/t1")
H1 = ("host", "d1p1t1h1")


@pytest.mark.parametrize(
    ("scope", "subject", "around"),
    [
        ("mesh", "mesh", set()),
        ("dc", "dc1", {MESH_ITSELF}),
        ("podset", "dc1/p1", {MESH_ITSELF, DC1}),
        ("tor", "dc1/p1/t1", {MESH_ITSELF, DC1, P1}),
        ("tier", "dc1/spine", {MESH_ITSELF, DC1}),
        ("tier", "inter_dc", {MESH_ITSELF}),
        ("host", "d1p1t1h1", {MESH_ITSELF, DC1, P1, T1}),
        ("host", "who", {MESH_ITSELF}),
        ("pair", "who>d1p1t1h1", {MESH_ITSELF, DC1, P1, T1, H1}),
    ],
)
def test_a_component_is_contained_in_each_wider_one_and_in_the_mesh(scope, subject, around):
    assert set(CONTAINING("mesh", scope, subject)) == around


def crossed(one: str, other: str) -> set[tuple[str, str]]:
    around = CONTAINING("mesh", "pair", f"{one}>{other}")
    return {suspect for suspect in around if suspect[0] == "tier"}


def test_a_pair_crosses_the_spine_between_podsets_and_the_links_between_dcs_and_none_within_a_podset():
    assert crossed("d1p1t1h1", "d1p1t1h2") == set()
    assert crossed("d1p1t1h1", "d1p1t2h1") == set()
    assert crossed("d1p1t1h1", "d1p2t1h1") == {("tier", "dc1/spine")}
    assert crossed("d1p1t1h1", "d2p1t1h1") == {("tier", "inter_dc")}


def test_a_pair_is_contained_in_both_of_its_hosts_and_in_what_contains_them():
    around = set(CONTAINING("mesh", "pair", "d1p1t1h1>d2p2t2h2"))
    other_end = {("host", "d2p2t2h2"), ("tor", "dc2/p2/t2"), ("podset", "dc2/p2"), ("dc", "dc2")}
    assert around == {H1, T1, P1, DC1, MESH_ITSELF, ("tier", "inter_dc")} | other_end


def test_a_data_server_is_where_the_host_of_its_address_is():
    assert set(CONTAINING("east", "user", "bob")) == {MESH_ITSELF, ("server", "east"), H1, T1, P1, DC1}
    assert set(CONTAINING("west", "user", "bob")) == {MESH_ITSELF, ("server", "west")}
    assert ("server", "east") not in CONTAINING("east", "server", "east")
    assert set(CONTAINING("a_dag", "server", "a_dag")) == {MESH_ITSELF}


@pytest.mark.parametrize(
    ("scope", "subject", "is_there"),
    [
        ("host", "d1p1t1h1", True),
        ("host", "who", False),
        ("pair", "d1p1t1h1>d2p2t2h2", True),
        ("pair", "d1p1t1h1>who", False),
        ("pair", "who>d1p1t1h1", False),
        ("tor", "dc1/p1/t1", True),
        ("tor", "dc1/p1/t9", False),
        ("podset", "dc1/p2", True),
        ("podset", "dc1/p9", False),
        ("dc", "dc2", True),
        ("dc", "dc9", False),
        ("tier", "dc9/spine", True),
        ("mesh", "mesh", True),
    ],
)
def test_an_inventory_has_what_still_has_its_hosts(scope, subject, is_there):
    assert IS_MEMBER("mesh", finding("loss", scope, subject)) == is_there


def test_an_inventory_has_everything_of_a_data_server_that_it_lists_and_rules_of_no_data_server():
    assert IS_MEMBER("east", finding("user_rate", "user", "bob"))
    assert not IS_MEMBER("north", finding("user_rate", "user", "bob"))
    assert not IS_MEMBER("north", finding("no_data", "log", "north"))
    assert IS_MEMBER("pingmesh", finding("late_data", "server", "pingmesh"))
