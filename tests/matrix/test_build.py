"""From pairs to a map and its groups, held against the pairs themselves."""

import io

import numpy as np
import polars as pl
import pytest

from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.latency.ladder import Ladders, LadderSums
from pingmesh_tasks.matrix import build, codes
from pingmesh_tasks.matrix.build import build_mesh_map, map_parts, read_codes
from pingmesh_tasks.matrix.groups import GroupBuilder, group_parts, group_rows
from pingmesh_tasks.matrix.states import State
from pingmesh_tasks.topology.axis import HostAxis
from pingmesh_tasks.topology.inventory import Host, Inventory
from tests.support.mesh_frames import Faults, inventory_of, mesh_frame

INVENTORY = inventory_of(24)
AXIS = HostAxis.of(INVENTORY)
NAMES = AXIS.names
FAULTS = Faults(
    dead=[NAMES[3]],
    silent=[NAMES[7]],
    failed_pairs=[(NAMES[0], NAMES[1])],
    lossy_pairs={(NAMES[0], NAMES[2]): 0.5},
    slow_pairs={(NAMES[5], NAMES[6]): 40.0},
)
PAIRS = mesh_frame(INVENTORY, faults=FAULTS)
PARTS = [PAIRS[:100], PAIRS[100:]]


def at(mesh, metric, src, dst):
    return int(mesh.codes[metric][NAMES.index(src), NAMES.index(dst)])


def test_every_pair_is_where_the_axis_says():
    mesh = build_mesh_map(PARTS, INVENTORY)
    for row in PAIRS.iter_rows(named=True):
        for metric in codes.METRICS.values():
            code = at(mesh, metric.name, row["src"], row["dst"])
            if row["sent"] == 0:
                assert code == State.NO_DATA
            elif metric.name == "loss":
                assert codes.decode(np.array([code]), "share")[0] == pytest.approx(row["lost"] / row["sent"], abs=2e-4)
            elif metric.column:
                us = row[metric.column]
                assert code == (State.FAILED if us is None else codes.encode_us(np.array([us], np.uint32))[0])
    assert (mesh.codes["sent"] != State.NOT_PLANNED).sum() == PAIRS.height
    assert mesh.strangers == 0


def test_the_states_of_a_map_are_those_of_its_pairs():
    mesh = build_mesh_map(PARTS, INVENTORY)
    assert at(mesh, "p50", NAMES[0], NAMES[0]) == State.NOT_PLANNED
    assert at(mesh, "p50", NAMES[0], NAMES[3]) == State.FAILED
    assert at(mesh, "p50", NAMES[7], NAMES[0]) == State.NO_DATA
    assert at(mesh, "loss", NAMES[0], NAMES[1]) == 1 + codes.SHARE_STEPS
    assert at(mesh, "sent", NAMES[0], NAMES[1]) == 31


def test_an_answer_after_retransmits_only_is_not_taken_for_a_failure():
    unclean = PAIRS.filter(src=NAMES[0], dst=NAMES[4]).with_columns(
        pl.lit(None, pl.UInt32).alias(name) for name in PAIRS.columns if name.startswith("rtt_") or name == "jitter_us"
    )
    mesh = build_mesh_map([unclean], INVENTORY)
    assert at(mesh, "p99", unclean["src"][0], unclean["dst"][0]) == State.UNCLEAN


def test_of_several_protocols_the_worst_counts():
    again = PAIRS[:1].with_columns(protocol=pl.lit("udp"), rtt_p50_us=pl.col("rtt_p50_us") * 10)
    mesh = build_mesh_map([pl.concat([again, PAIRS[:1]])], INVENTORY)
    only = build_mesh_map([again], INVENTORY)
    assert mesh.codes["p50"].tolist() == only.codes["p50"].tolist()


def test_rows_of_hosts_that_left_are_counted_and_left_out():
    smaller = Inventory(INVENTORY.hosts[1:], has_topology=True)
    mesh = build_mesh_map(PARTS, smaller)
    gone = PAIRS.filter((pl.col("src") == NAMES[0]) | (pl.col("dst") == NAMES[0])).height
    assert mesh.strangers == gone
    assert (mesh.codes["sent"] > 0).sum() == PAIRS.height - gone


def test_a_map_is_read_back_with_what_was_noted():
    mesh = build_mesh_map(PARTS, INVENTORY)
    for name, data in map_parts(mesh, plan="abc"):
        matrix, told = read_codes(data)
        assert matrix.tolist() == mesh.codes[name].tolist()
        assert (told["plan"], told["axis"], told["metric"], told["hosts"]) == ("abc", AXIS.id, name, 24)
        assert sum(told["cells"].values()) == 24 * 24
    assert told["cells"]["missing"] == 2 * 23


def test_the_spread_of_a_map_is_that_of_its_measured_cells():
    matrix = np.array([[0, 10, 20], [30, 4095, 40], [4094, 4093, 0]], np.uint16)
    told = build.figures(matrix)
    assert told["codes"] == {"low": 10, "p01": 10, "p50": 20, "p99": 40, "high": 40}
    assert told["cells"] == {"measured": 4, "not_planned": 2, "unclean": 1, "missing": 1, "failed": 1}
    assert build.figures(np.zeros((2, 2), np.uint16))["codes"] is None


def test_a_mesh_that_is_too_large_is_refused_with_a_way_out(monkeypatch):
    monkeypatch.setattr(build, "MOST_HOSTS", 10)
    with pytest.raises(ConfigError, match="look at its groups"):
        build_mesh_map(PARTS, INVENTORY)


def test_an_axis_says_where_every_group_stands():
    assert [span.name for span in AXIS.spans["dc"]] == ["dc1", "dc2"]
    for kind, spans in AXIS.spans.items():
        assert [host for span in spans for host in NAMES[span.start : span.stop]] == list(NAMES), kind
    place = {host.name: "/".join(host.tor_key) for host in AXIS.hosts}
    for number, name in zip(AXIS.member("tor"), NAMES, strict=True):
        assert AXIS.spans["tor"][number].name == place[name]


def test_equal_axes_have_equal_ids_whatever_the_addresses():
    moved = [Host(h.name, f"10.9.9.{i}", h.dc, h.podset, h.tor) for i, h in enumerate(AXIS.hosts)]
    assert HostAxis(tuple(moved), True).id == AXIS.id
    assert HostAxis(tuple(moved[::-1]), True).id != AXIS.id


def sums_of(parts, axis):
    builder = GroupBuilder(axis)
    for part in parts:
        builder.add(part)
    return builder.finish()


@pytest.mark.parametrize("kind", ["mesh", "dc", "podset", "tor", "host"])
def test_groups_add_up_to_their_pairs(kind):
    rows = group_rows(kind, sums_of(PARTS, AXIS)[kind], AXIS)
    place = {host.name: {"dc": host.dc, "podset": f"{host.dc}/{host.podset}"} for host in AXIS.hosts}
    place = {name: found | {"tor": "/".join(INVENTORY.host(name).tor_key)} for name, found in place.items()}
    for row in rows.iter_rows(named=True):
        of = {
            end: [name for name in NAMES if row[end] in (None, name if kind == "host" else place[name].get(kind))]
            for end in ("src", "dst")
        }
        pairs = PAIRS.filter(pl.col("src").is_in(of["src"]), pl.col("dst").is_in(of["dst"]))
        assert row["pairs"] == pairs.height
        assert row["missing"] == (pairs["sent"] == 0).sum()
        assert row["failed"] == ((pairs["sent"] > 0) & (pairs["answered"] == 0)).sum()
        for name in ("sent", "answered", "lost"):
            assert row[name] == pairs[name].sum(), name
        total = LadderSums.empty(1)
        total.add(np.zeros(pairs.height, np.int64), Ladders.of_pairs(pairs))
        ladder = total.ladders()
        assert (row["ladder_bucket"], row["ladder_count"]) == (ladder.bucket.tolist(), ladder.count.tolist())
        assert sum(row["ladder_count"]) == pairs["answered"].sum()
        least, greatest = pairs["rtt_min_us"].min(), pairs["rtt_max_us"].max()
        assert (row["rtt_min_us"], row["rtt_max_us"]) == (least, greatest)
        for name, (us,) in ladder.quantiles_us({"rtt_p50_us": 0.5, "rtt_p90_us": 0.9, "rtt_p99_us": 0.99}).items():
            assert row[name] == (None if least is None else us), (row["src"], row["dst"], name)


def test_a_group_counts_more_answers_than_four_bytes_hold():
    full = pl.Series([[2**32 - 1]] * 3, dtype=pl.List(pl.UInt32))
    bucket = pl.Series([[50]] * 3, dtype=pl.List(pl.UInt8))
    pairs = PAIRS.filter(src=NAMES[0])[3:6].with_columns(ladder_bucket=bucket, ladder_count=full)
    sums = sums_of([pairs], AXIS)
    for kind in ("mesh", "dc", "host"):
        assert group_rows(kind, sums[kind], AXIS)["ladder_count"][0].to_list() == [3 * (2**32 - 1)], kind


def test_groups_of_a_mesh_without_places_are_one():
    flat = inventory_of(6, topology=False)
    sums = sums_of([mesh_frame(flat)], HostAxis.of(flat))
    assert sums["tor"].counts.tolist() == sums["mesh"].counts.tolist()
    assert sums["host"].counts.shape == (12, 6)


def test_too_many_tors_leave_the_wider_groups(monkeypatch):
    monkeypatch.setattr("pingmesh_tasks.matrix.groups.MOST_ROWS", 17)
    sums = sums_of(PARTS, AXIS)
    assert set(sums) == {"host", "podset", "dc", "mesh"}
    assert sums["mesh"].counts[0, 0] == PAIRS.height
    monkeypatch.setattr("pingmesh_tasks.matrix.groups.MOST_ROWS", 1)
    assert sums_of(PARTS, AXIS)["mesh"].counts[0, 0] == PAIRS.height


def test_a_window_without_pairs_has_groups_without_figures():
    parts = dict(group_parts(sums_of([], AXIS), AXIS, plan="abc"))
    mesh = pl.read_parquet(io.BytesIO(parts["mesh"]))
    assert mesh["pairs"].to_list() == [0]
    assert mesh["rtt_p50_us"].to_list() == [None]
