"""What a heatmap looks like, in one word."""

from __future__ import annotations

import numpy as np
import pytest

from pingmesh_tasks.detect import mesh
from pingmesh_tasks.detect.mesh import HeatmapPattern, baseline, classify_heatmap, evaluate, patterns
from tests.support.mesh_frames import Faults, inventory_of, mesh_frame
from tests.support.pair_rows import PairRows, fabric, flat


def pattern_of(mesh: PairRows) -> tuple[str, tuple[str, ...]]:
    found = classify_heatmap(mesh.frame(), mesh.inventory)
    return found.name, found.suspects


@pytest.mark.parametrize("inventory", [fabric(), fabric(dcs=2, podsets=3), flat(8)], ids=["one DC", "two DCs", "flat"])
def test_all_green_is_normal(inventory):
    assert classify_heatmap(PairRows(inventory).frame(), inventory) == HeatmapPattern("normal", (), 0.0, 0.0)


def test_a_white_cross_is_a_podset_that_is_down():
    assert pattern_of(PairRows(fabric(podsets=3)).kill("p2")) == ("podset_down", ("dc1/podset2",))


def test_a_podset_that_only_its_own_hosts_reach_is_no_white_cross_but_still_not_normal():
    mesh = PairRows(fabric(podsets=2)).kill("p2", silent=False, outside_only=True)
    assert pattern_of(mesh) == ("spine_failure", ("dc1/spine",))


@pytest.mark.parametrize("podsets", [2, 3, 5])
def test_a_red_cross_is_a_podset_failure(podsets):
    mesh = PairRows(fabric(podsets=podsets))
    mesh.p99_us[mesh.between("p2", "p")] = 9_000
    assert pattern_of(mesh) == ("podset_failure", ("dc1/podset2",))


def test_green_squares_on_the_diagonal_are_a_spine_failure_of_that_dc_only():
    mesh = PairRows(fabric(dcs=2, podsets=3))
    for a, b in (("d1p1", "d1p2"), ("d1p1", "d1p3"), ("d1p2", "d1p3")):
        mesh.p99_us[mesh.between(a, b)] = 9_000
    assert pattern_of(mesh) == ("spine_failure", ("dc1/spine",))


def test_distance_between_dcs_is_not_red():
    mesh = PairRows(fabric(dcs=2))
    mesh.p99_us[mesh.between("d1", "d2")] = 80_000
    assert pattern_of(mesh) == ("normal", ())


@pytest.mark.parametrize("inventory", [fabric(), flat(8)], ids=["fabric", "flat"])
def test_a_thin_white_cross_is_a_host_that_is_down(inventory):
    host = inventory.hosts[2].name
    assert pattern_of(PairRows(inventory).kill(host)) == ("host_down", (host,))


def test_a_yellow_mesh_is_normal_and_a_red_one_has_no_podset_that_stands_out():
    mesh = PairRows(fabric(podsets=3), p99_us=4_900)
    assert pattern_of(mesh) == ("normal", ())
    assert classify_heatmap(PairRows(fabric(podsets=3), p99_us=9_000).frame(), mesh.inventory).red == 1.0


def test_a_few_lossy_and_slow_pairs_change_no_pattern():
    inventory = inventory_of(64)
    names = [host.name for host in inventory.hosts]
    faults = Faults(failed_pairs=[(names[1], names[2])], slow_pairs={(names[3], names[4]): 100.0})
    assert classify_heatmap(mesh_frame(inventory, faults=faults), inventory).name == "normal"


def test_an_empty_table_is_normal_for_want_of_anything_to_see():
    inventory = fabric()
    assert classify_heatmap(PairRows(inventory).frame().clear(), inventory) == HeatmapPattern("normal", (), 0.0, 0.0)
    assert not np.isnan(classify_heatmap(PairRows(inventory).mute("p").frame(), inventory).white)


def test_the_package_names_what_others_call():
    assert mesh.evaluate_mesh is evaluate.evaluate_mesh
    assert mesh.update_baseline is baseline.update_baseline
    assert mesh.classify_heatmap is patterns.classify_heatmap
