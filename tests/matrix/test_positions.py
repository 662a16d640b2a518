"""One numbering of hosts and pairs, for pictures, maps and detection."""

import numpy as np
import polars as pl

from pingmesh_tasks.detect.mesh.rows import PROTOCOLS, code_keys, code_rows, keys_of
from pingmesh_tasks.matrix.build import build_mesh_map
from pingmesh_tasks.matrix.positions import cells_of, on_axis, pair_table
from pingmesh_tasks.matrix.states import State
from pingmesh_tasks.render.mesh_cells import axis_for, build_mesh, code_pairs
from pingmesh_tasks.topology.axis import HostAxis
from pingmesh_tasks.topology.inventory import Inventory
from tests.support.mesh_frames import Faults, inventory_of, mesh_frame

INVENTORY = inventory_of(24)
AXIS = HostAxis.of(INVENTORY)
NAMES = AXIS.names
FAULTS = Faults(dead=[NAMES[3]], silent=[NAMES[7]], failed_pairs=[(NAMES[0], NAMES[1])])
PAIRS = mesh_frame(INVENTORY, faults=FAULTS)
SMALLER = HostAxis.of(Inventory(INVENTORY.hosts[1:], has_topology=True))


def named(src, dst, names=NAMES) -> list[tuple[str, str]]:
    return [(names[a], names[b]) for a, b in zip(src, dst, strict=True)]


def test_pictures_maps_and_detection_number_hosts_alike():
    wanted = PAIRS.select("src", "dst").rows()
    table = pair_table(PAIRS, AXIS, "sent")
    assert named(table.columns["src"], table.columns["dst"]) == wanted
    coded, rows = code_pairs(PAIRS, axis_for(INVENTORY), "rtt_p50_us"), code_rows(PAIRS, AXIS)
    known = on_axis(PAIRS, AXIS)
    for src, dst in ((coded.src, coded.dst), (rows.a, rows.b), (known["src"], known["dst"])):
        assert named(src, dst) == wanted


def test_pictures_and_maps_give_each_pair_the_same_state():
    of_map, picture = (
        build_mesh_map([PAIRS], INVENTORY).codes["p50"],
        build_mesh(PAIRS, axis_for(INVENTORY), "rtt_p50_us"),
    )
    states = np.where((of_map >= 1) & (of_map <= 4090), State.MEASURED, of_map)
    assert states.tolist() == picture.state.tolist()
    assert {*states.ravel().tolist()} == {State.NOT_PLANNED, State.MEASURED, State.NO_DATA, State.FAILED}


def test_a_pair_has_the_cell_of_its_row_and_column():
    src, dst = np.array([0, 1, 2_499], np.uint16), np.array([0, 7, 2_498], np.uint16)
    assert cells_of(src, dst, 2_500).tolist() == [0, 2_507, 2_499 * 2_500 + 2_498]  # beyond 16 bits


def test_rows_of_hosts_that_left_are_counted_and_left_out():
    table = pair_table(iter([PAIRS[:100], PAIRS[100:]]), SMALLER, "sent")
    gone = PAIRS.filter((pl.col("src") == NAMES[0]) | (pl.col("dst") == NAMES[0]))
    kept = PAIRS.join(gone, on=["src", "dst"], how="anti", maintain_order="left")
    assert table.strangers == gone.height == 46
    assert named(table.columns["src"], table.columns["dst"], SMALLER.names) == kept.select("src", "dst").rows()
    assert table.columns["sent"].tolist() == kept["sent"].to_list()
    assert on_axis(PAIRS, SMALLER)["sent"].to_list() == kept["sent"].to_list()


def test_columns_are_as_narrow_as_their_values_over_all_parts():
    large = PAIRS[:1].with_columns(sent=pl.lit(70_000, pl.UInt32))
    table = pair_table([PAIRS[1:], large], AXIS, "sent", pl.col("rtt_p50_us").cast(pl.Float32))
    assert table.columns["src"].dtype == np.uint8 and table.columns["sent"].dtype == np.uint32
    assert table.columns["rtt_p50_us"].dtype == np.float32
    assert table.columns["sent"].max() == 70_000


def test_a_window_without_pairs_has_columns_without_rows():
    table = pair_table([], AXIS, "sent", "answered")
    assert {name: len(column) for name, column in table.columns.items()} == dict.fromkeys(
        ("src", "dst", "sent", "answered"), 0
    )
    assert table.strangers == 0


def test_a_pair_and_protocol_have_one_number_however_they_are_read():
    both = pl.concat([PAIRS[:50], PAIRS[:50].with_columns(protocol=pl.lit("udp"))])
    both = both.vstack(PAIRS[:1].with_columns(protocol=pl.lit("carrier pigeon")))
    numbers = keys_of(code_rows(both, AXIS), AXIS)
    assert numbers.tolist() == code_keys(both, AXIS).tolist()
    assert len({*numbers.tolist()}) == 101
    first = NAMES.index(both["src"][0]) * 24 + NAMES.index(both["dst"][0])
    assert numbers[0] == first * 6 and numbers[100] == first * 6 + len(PROTOCOLS)
    assert (code_keys(both, SMALLER) == -1).tolist() == [NAMES[0] in pair for pair in both.select("src", "dst").rows()]
