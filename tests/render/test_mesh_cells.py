import numpy as np
import polars as pl
import pytest

from pingmesh_tasks.matrix.states import State
from pingmesh_tasks.render import mesh_cells
from pingmesh_tasks.render.mesh_cells import axis_for, build_mesh, code_pairs, columns_of, fold
from pingmesh_tasks.render.worst_pairs import find
from pingmesh_tasks.topology.inventory import Host, Inventory
from tests.support.mesh_frames import Faults, inventory_of, mesh_frame


@pytest.mark.parametrize(
    ("hosts", "per_tor", "kind", "size"),
    [(2, 2, "host", 2), (200, 5, "host", 200), (201, 5, "ToR", 43), (1_000, 20, "ToR", 52), (10_000, 20, "podset", 4)],
)
def test_the_matrix_is_of_hosts_then_of_tors_then_of_podsets(hosts, per_tor, kind, size):
    axis = axis_for(inventory_of(hosts, per_tor=per_tor))
    assert (axis.kind, axis.size) == (kind, size)


def test_without_topology_many_hosts_form_blocks_of_equal_size_named_by_their_ends():
    axis = axis_for(inventory_of(1_000, topology=False))
    assert (axis.kind, axis.size, axis.labels[0]) == ("block", 50, "h00000 … h00019")
    assert axis.brackets == ()


def test_many_hosts_in_one_tor_form_blocks_for_a_matrix_of_one_cell_says_nothing():
    axis = axis_for(inventory_of(300, dcs=1, podsets=1, per_tor=300))
    assert (axis.kind, axis.size) == ("block", 50)


def test_brackets_name_tors_podsets_and_dcs_and_leave_out_a_level_with_nothing_to_tell_apart():
    axis = axis_for(inventory_of(16, per_tor=2))
    assert [[(s.start, s.stop, s.label) for s in level][:2] for level in axis.brackets] == [
        [(0, 2, "tor1"), (2, 4, "tor2")],
        [(0, 4, "podset1"), (4, 8, "podset2")],
        [(0, 8, "dc1"), (8, 16, "dc2")],
    ]
    assert axis_for(inventory_of(8, dcs=1, podsets=1, per_tor=8)).brackets == ()


def test_no_data_failed_measured_unclean_and_not_planned_are_five_states():
    inventory = inventory_of(5, dcs=1, podsets=1, per_tor=5)
    a, b, c, d, e = (h.name for h in inventory.hosts)
    pairs = mesh_frame(inventory, faults=Faults(silent=[a], failed_pairs=[(b, c)]))
    retransmitted = (pl.col("src") == d) & (pl.col("dst") == e)
    rtts = [c for c in pairs.columns if c.startswith("rtt_")]
    pairs = pairs.with_columns(pl.when(retransmitted).then(None).otherwise(pl.col(rtts)).name.keep())
    state = build_mesh(pairs, axis_for(inventory), "rtt_p50_us").state
    assert [state[0, 1], state[1, 2], state[1, 0], state[3, 4], state[2, 2]] == [
        State.NO_DATA, State.FAILED, State.MEASURED, State.UNCLEAN, State.NOT_PLANNED
    ]  # fmt: skip


def test_a_refused_pair_is_failed_though_none_of_its_probes_was_lost():
    inventory = inventory_of(2)
    pairs = mesh_frame(inventory, faults=Faults(failed_pairs=[tuple(h.name for h in inventory.hosts)]))
    pairs = pairs.with_columns(refused="lost", lost=pl.lit(0, pl.UInt32))
    mesh = build_mesh(pairs, axis_for(inventory), "rtt_p50_us")
    assert mesh.state[0, 1] == State.FAILED and mesh.unanswered[0, 1] == 1.0


def test_a_dead_host_survives_pooling_in_every_cell_that_has_its_pairs():
    inventory = inventory_of(1_000, per_tor=20)
    dead = inventory.hosts[333]
    mesh = build_mesh(mesh_frame(inventory, faults=Faults(dead=[dead.name])), axis_for(inventory), "rtt_p50_us")
    row = mesh.axis.member[333]
    same_dc = [i for i in range(mesh.axis.size) if mesh.pairs[i, row] and i < 26]
    assert mesh.state[row, row] == State.MEASURED
    assert (
        mesh.failed[row, row]
        == mesh.no_data[row, row]
        == len([h for h in inventory.hosts if h.tor_key == dead.tor_key]) - 1
    )
    assert all(mesh.failed[i, row] >= 1 and mesh.no_data[row, i] >= 1 for i in same_dc)
    assert mesh.failed.sum() == mesh.failed[:, row].sum()


def test_a_pooled_p50_is_the_median_of_its_pairs_and_a_pooled_p99_the_worst():
    inventory = inventory_of(400, per_tor=20)
    pairs, axis = mesh_frame(inventory), axis_for(inventory)
    tor = [h.name for h in inventory.hosts if h.tor_key == inventory.hosts[0].tor_key]
    inside = pairs.filter(pl.col("src").is_in(tor) & pl.col("dst").is_in(tor))
    assert build_mesh(pairs, axis, "rtt_p50_us").value[0, 0] == inside["rtt_p50_us"].median()
    assert build_mesh(pairs, axis, "rtt_p99_us").value[0, 0] == inside["rtt_p99_us"].max()
    assert build_mesh(pairs, axis, "loss").value[0, 0] == inside["lost"].sum() / inside["sent"].sum()


def test_the_order_of_the_rows_does_not_matter():
    inventory = inventory_of(300, per_tor=10)
    pairs, axis = mesh_frame(inventory, faults=Faults(dead=[inventory.hosts[7].name])), axis_for(inventory)
    one, other = (code_pairs(p, axis, "rtt_p99_us") for p in (pairs, pairs.sample(fraction=1, shuffle=True, seed=4)))
    assert find(one, "rtt_p99_us") == find(other, "rtt_p99_us")
    assert (build_mesh(pairs, axis, "rtt_p99_us").state == build_mesh(pairs.reverse(), axis, "rtt_p99_us").state).all()


def test_a_sorted_table_is_folded_in_parts_to_the_same_matrix(monkeypatch):
    inventory = inventory_of(300, per_tor=10)
    pairs, axis = mesh_frame(inventory), axis_for(inventory)
    whole = build_mesh(pairs, axis, "rtt_p50_us")
    monkeypatch.setattr("pingmesh_tasks.render.mesh_cells.ROWS_AT_ONCE", 500)
    assert len(mesh_cells._whole_rows(code_pairs(pairs, axis, "rtt_p50_us"))) > 10
    parts = build_mesh(pairs, axis, "rtt_p50_us")
    assert (whole.pairs == parts.pairs).all() and np.array_equal(whole.value, parts.value, equal_nan=True)


def test_a_mesh_is_the_same_from_one_frame_and_from_its_parts_read_one_by_one():
    inventory = inventory_of(300, per_tor=10)
    pairs, axis = mesh_frame(inventory, faults=Faults(dead=[inventory.hosts[7].name])), axis_for(inventory)
    whole = code_pairs(pairs, axis, "rtt_p99_us")
    parts = code_pairs((pairs.slice(i, 1_000) for i in range(0, pairs.height, 1_000)), axis, "rtt_p99_us")
    assert find(whole, "rtt_p99_us") == find(parts, "rtt_p99_us")
    assert np.array_equal(fold(whole, "rtt_p99_us").value, fold(parts, "rtt_p99_us").value, equal_nan=True)
    nothing = build_mesh(iter(()), axis, "loss")
    assert (nothing.state == State.NOT_PLANNED).all()


def test_counts_beyond_one_byte_are_kept():
    inventory = inventory_of(2)
    pairs = mesh_frame(inventory).with_columns(sent=pl.Series([70_000, 30], dtype=pl.UInt32))
    assert build_mesh(pairs, axis_for(inventory), "loss").sent.tolist() == [[0, 70_000], [30, 0]]


def test_pairs_of_hosts_that_left_the_inventory_are_counted_and_not_drawn():
    whole = inventory_of(8, per_tor=2)
    smaller = Inventory(whole.hosts[:-1], has_topology=True)
    mesh = build_mesh(mesh_frame(whole), axis_for(smaller), "rtt_p50_us")
    assert mesh.strangers == 14 and mesh.pairs.sum() == 42


def test_two_protocols_of_a_pair_share_its_cell_and_one_that_failed_is_counted():
    inventory = inventory_of(2)
    a, b = (h.name for h in inventory.hosts)
    tcp = mesh_frame(inventory)
    udp = mesh_frame(inventory, faults=Faults(failed_pairs=[(a, b)])).with_columns(protocol=pl.lit("udp"))
    mesh = build_mesh(pl.concat([tcp, udp]), axis_for(inventory), "rtt_p50_us")
    assert mesh.state[0, 1] == State.MEASURED and mesh.failed[0, 1] == 1 and mesh.pairs[0, 1] == 2


def test_a_picture_needs_only_its_own_columns():
    inventory = inventory_of(8)
    pairs, axis = mesh_frame(inventory), axis_for(inventory)
    narrow = build_mesh(pairs.select(columns_of("rtt_p99_us")), axis, "rtt_p99_us")
    wide = build_mesh(pairs, axis, "rtt_p99_us")
    measured = narrow.state == State.MEASURED
    assert measured.any() and (narrow.value[measured] == wide.value[measured]).all()


def test_the_loss_of_a_pair_is_the_share_of_its_probes_and_none_without_probes():
    inventory = inventory_of(2)
    counts = {"sent": [1, 40], "lost": [1, 10], "answered": [0, 30]}
    pairs = mesh_frame(inventory).with_columns(pl.Series(name, of, pl.UInt32) for name, of in counts.items())
    silent = pairs[:1].with_columns(sent=pl.lit(0, pl.UInt32), lost=pl.lit(0, pl.UInt32))
    loss = code_pairs([pairs, silent], axis_for(inventory), "loss").values["loss"]
    assert np.array_equal(loss, [1, 0.25, np.nan], equal_nan=True)
    unanswered = build_mesh(pairs, axis_for(inventory), "loss").unanswered
    assert (unanswered[0, 1], unanswered[1, 0]) == (1, 0.25) and np.isnan(unanswered[0, 0])


def test_an_unknown_metric_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="rtt_p50_us"):
        build_mesh(mesh_frame(inventory_of(2)), axis_for(inventory_of(2)), "p50")


def test_a_dead_host_is_one_finding_and_the_worst_pairs_are_looked_for_among_the_others():
    inventory = inventory_of(16, per_tor=4)
    names = [h.name for h in inventory.hosts]
    faults = Faults(
        dead=[names[5]],
        silent=[names[9]],
        failed_pairs=[(names[0], names[1])],
        lossy_pairs={(names[2], names[3]): 0.2},
        slow_pairs={(names[4], names[6]): 9},
    )
    found = find(code_pairs(mesh_frame(inventory, faults=faults), axis_for(inventory), "rtt_p50_us"), "rtt_p50_us")
    assert found.unreachable == (names[5],) and found.no_data == (names[5], names[9])
    assert [(names[p.src], names[p.dst]) for p in found.worst][:2] == [(names[0], names[1]), (names[2], names[3])]


def test_a_pair_is_slow_against_its_own_scope_and_not_for_crossing_between_dcs():
    inventory = inventory_of(16, per_tor=4)
    names = [h.name for h in inventory.hosts]
    pairs = mesh_frame(inventory, faults=Faults(slow_pairs={(names[0], names[1]): 8})).with_columns(
        answered="sent", lost=pl.lit(0, pl.UInt32)
    )
    worst = find(code_pairs(pairs, axis_for(inventory), "rtt_p50_us"), "rtt_p50_us").worst[0]
    assert (names[worst.src], names[worst.dst]) == (names[0], names[1]) and worst.times > 5


def test_if_everything_failed_the_worst_pairs_are_still_named():
    inventory = Inventory(tuple(Host(n, f"10.0.0.{i}") for i, n in enumerate("abc")))
    everything = [(a, b) for a in "abc" for b in "abc" if a != b]
    found = find(
        code_pairs(mesh_frame(inventory, faults=Faults(failed_pairs=everything)), axis_for(inventory), "rtt_p50_us"),
        "rtt_p50_us",
    )
    assert len(found.worst) == 3 and all(p.failed for p in found.worst) and found.unreachable == ("a", "b", "c")
