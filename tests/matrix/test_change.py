"""What a map says of change against normal, and its pattern, held against the pairs themselves."""

import numpy as np
import polars as pl
import pytest

from pingmesh_tasks.detect.mesh.baseline import update_baseline
from pingmesh_tasks.detect.mesh.matrix_pattern import MOST_SUSPECTS, pattern_of
from pingmesh_tasks.detect.mesh.patterns import classify_heatmap
from pingmesh_tasks.matrix import codes
from pingmesh_tasks.matrix.build import build_mesh_map, map_parts, read_codes
from pingmesh_tasks.matrix.states import State
from pingmesh_tasks.matrix.usual_medians import UsualMedians
from pingmesh_tasks.topology.axis import HostAxis
from tests.support.mesh_frames import WINDOW, Faults, inventory_of, mesh_frame

INVENTORY = inventory_of(24)
AXIS = HostAxis.of(INVENTORY)
NAMES = AXIS.names
BEFORE = mesh_frame(INVENTORY, WINDOW.shifted(-1), seed=1)
SICK = mesh_frame(
    INVENTORY, seed=2, faults=Faults(dead=[NAMES[3]], silent=[NAMES[7]], slow_pairs={(NAMES[5], NAMES[6]): 4.0})
)


def usual_of(normal):
    medians = UsualMedians(AXIS)
    for part in normal.iter_slices(100):
        medians.add(part)
    return medians


def change_of(pairs, normal):
    return build_mesh_map([pairs[:100], pairs[100:]], INVENTORY, usual_of(normal)).codes["change"]


def test_a_ratio_comes_back_to_a_quarter_of_a_percent_and_nothing_is_no_ratio():
    ratio = np.geomspace(1e-4, 1e4, 3_001)
    assert (np.abs(codes.decode(codes.encode_ratio(np.log(ratio)), "ratio") / ratio - 1) < 0.0026).all()
    assert codes.encode_ratio(np.log([1.0, 1e9, 1e-9])).tolist() == [codes.MIDDLE, codes.MOST, 1]
    assert codes.encode_ratio(np.array([np.nan])).tolist() == [State.NOT_PLANNED]


def test_every_pair_is_held_against_its_own_normal():
    normal = update_baseline(None, BEFORE, INVENTORY)
    found = change_of(SICK, normal)
    usual = {(row["src"], row["dst"]): np.exp(row["p50_ln"]) for row in normal.iter_rows(named=True)}
    compared = 0
    for row in SICK.filter(pl.col("rtt_p50_us").is_not_null()).iter_rows(named=True):
        code = found[NAMES.index(row["src"]), NAMES.index(row["dst"])]
        wanted = row["rtt_p50_us"] / usual[row["src"], row["dst"]]
        assert codes.decode(np.array([code]), "ratio")[0] == pytest.approx(wanted, rel=0.004)
        compared += 1
    assert compared > 400
    assert found[5, 6] == found[codes.is_measured(found)].max()


def test_the_states_of_change_are_those_of_the_median():
    found = change_of(SICK, update_baseline(None, BEFORE, INVENTORY))
    assert (found[0, 3], found[7, 0], found[0, 0]) == (State.FAILED, State.NO_DATA, State.NOT_PLANNED)


def test_a_pair_without_a_normal_is_compared_with_nothing():
    normal = update_baseline(None, BEFORE, INVENTORY).filter(pl.col("src") != NAMES[0])
    found = change_of(SICK, normal)
    assert (found[0, 1], found[0, 3]) == (State.NOT_PLANNED, State.FAILED)
    assert codes.is_measured(found[1, 0:1]).all()
    assert not codes.is_measured(change_of(SICK, normal.clear())).any()


def test_each_protocol_has_its_own_normal_and_the_worst_change_counts():
    normal = update_baseline(None, BEFORE, INVENTORY)
    udp = SICK[:1].with_columns(protocol=pl.lit("udp"), rtt_p50_us=pl.col("rtt_p50_us") * 9)
    usual_udp = update_baseline(None, udp, INVENTORY)
    both = change_of(pl.concat([SICK[:1], udp]), pl.concat([normal, usual_udp]))
    at = NAMES.index(udp["src"][0]), NAMES.index(udp["dst"][0])
    plain = change_of(SICK[:1], normal)[at]
    assert both[at] == max(plain, codes.MIDDLE)


def test_a_map_without_normals_has_no_change_and_one_with_them_has_it_before_its_last_part():
    assert "change" not in build_mesh_map([BEFORE], INVENTORY).codes
    mesh = build_mesh_map([BEFORE], INVENTORY, UsualMedians(AXIS))
    names = [name for name, _ in map_parts(mesh, plan="abc")]
    assert set(names) == set(codes.ALL_METRICS)
    assert names.index("change") < len(names) - 1


@pytest.mark.parametrize(
    "faults",
    [
        Faults(),
        Faults(dead=[NAMES[3]]),
        Faults(dead=[name for name in NAMES if name.startswith("d1p2")]),
        Faults(slow_pairs={(a, b): 400.0 for a in NAMES for b in NAMES if a != b and "d1p1" in (a[:4], b[:4])}),
        Faults(
            failed_pairs=[(a, b) for a in NAMES for b in NAMES if a[:2] == b[:2] == "d1" and a[:4] != b[:4]],
        ),
    ],
)
def test_the_pattern_of_a_map_is_that_of_its_pairs(faults):
    pairs = mesh_frame(INVENTORY, faults=faults)
    wanted = classify_heatmap(pairs, INVENTORY)
    told = pattern_of(build_mesh_map([pairs], INVENTORY))
    assert (told["name"], tuple(told["suspects"]), told["count"]) == (
        wanted.name,
        wanted.suspects,
        len(wanted.suspects),
    )
    assert told["white"] == pytest.approx(wanted.white, abs=1e-4)
    assert told["red"] == pytest.approx(wanted.red, abs=1e-4)


def test_of_many_suspects_only_some_are_listed():
    flat = inventory_of(100, topology=False)
    many = [host.name for host in flat.hosts][:30]
    told = pattern_of(build_mesh_map([mesh_frame(flat, faults=Faults(dead=many))], flat))
    assert (told["name"], told["count"], len(told["suspects"])) == ("host_down", 30, MOST_SUSPECTS)


def test_what_is_noted_of_a_map_stands_in_each_of_its_files():
    mesh = build_mesh_map([BEFORE], INVENTORY, UsualMedians(AXIS))
    for _, data in map_parts(mesh, plan="abc", normal=None, pattern=pattern_of(mesh)):
        told = read_codes(data)[1]
        assert (told["pattern"]["name"], told["normal"]) == ("normal", None)
