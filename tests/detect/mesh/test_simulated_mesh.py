"""The simulated mesh against what real probes showed in network namespaces: shares, shapes, and who is spared."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from tests.support.mesh_clos import SHAPES, Active, Mesh, Shape
from tests.support.mesh_faults import (
    AddressBlackHole,
    AgentGone,
    HostsGone,
    PortBlackHole,
    SlowPair,
    SpineLoss,
    TorDown,
)

#: The laboratory's shape: everybody probes everybody over two leaves and two spines, for hours at once.
LAB = Mesh(Shape(1, 2, 2, 4, leaves=2, spines=2), seed=1, full=True, probes=450)
LARGE = Mesh(SHAPES[512], seed=1)


def shares(mesh: Mesh, *faults: object) -> dict[str, tuple[float, float, float]]:
    """Return (lost, sent again, dead pairs) as shares, for pairs in a ToR, in a podset, and between podsets."""
    pairs = mesh.window(0, faults).pairs
    level = np.where(
        mesh.tor[mesh.src] == mesh.tor[mesh.dst],
        "tor",
        np.where(mesh.podset[mesh.src] == mesh.podset[mesh.dst], "podset", "cross"),
    )
    grouped = pairs.with_columns(level=pl.Series(level)).group_by("level")
    sums = grouped.agg(
        pl.col("sent", "lost", "retransmitted").sum(), dead=(pl.col("lost") == pl.col("sent")).mean()
    ).rows_by_key("level", unique=True)
    return {name: (lost / sent, again / sent, dead) for name, (sent, lost, again, dead) in sums.items()}


def test_one_percent_on_one_of_two_spines_is_one_percent_of_connects_between_podsets():
    """p/2 a direction, twice: the laboratory read 0.97 %, 555 sent again and 2 sent twice."""
    seen = shares(LAB, SpineLoss(0, 0, 0.01))
    assert seen["cross"][1] == pytest.approx(0.01, rel=0.15)
    assert seen["cross"][0] < 0.0005
    assert seen["tor"][1] < 0.0005
    assert seen["podset"][1] < 0.0005


def test_a_spine_among_eight_shows_a_quarter_of_its_loss():
    seen = shares(LARGE, SpineLoss(0, 3, 0.1), SpineLoss(1, 3, 0.1))
    assert seen["cross"][1] == pytest.approx(2 * 0.1 / 8, rel=0.15)


def test_a_tor_that_is_down_kills_a_quarter_in_racks_and_half_of_the_rest():
    seen = shares(LAB, TorDown(1, out_of_band=True))
    assert [seen[level][2] for level in ("tor", "podset", "cross")] == [0.25, 1.0 / 2, 1.0 / 2]
    assert all(again < 0.001 for _, again, _ in seen.values()), "what is dead is not saved by repeats"


def test_a_hole_by_address_kills_both_directions_of_a_pair():
    pairs = LAB.window(0, [AddressBlackHole(1, 0.2, salt=5)]).pairs
    dead = set(pairs.filter(pl.col("lost") == pl.col("sent")).select("src", "dst").iter_rows())
    assert 10 < len(dead) < 100
    assert dead == {(dst, src) for src, dst in dead}


def test_a_hole_by_port_takes_its_share_of_every_pair_and_repeats_do_not_help():
    seen = shares(LAB, PortBlackHole(1, 1 / 16))
    assert seen["cross"][0] == pytest.approx(1 / 16 / 2, rel=0.1)  # half of the pairs cross the ToR
    assert seen["cross"][1] < 0.001
    assert seen["cross"][2] == 0


def test_a_dead_host_sends_nothing_and_a_frozen_agent_harms_nobody_else():
    dead, frozen = (LAB.window(0, [fault]).pairs for fault in (HostsGone((3,)), AgentGone(3)))
    name = LAB.names[3]
    for pairs in (dead, frozen):
        assert pairs.filter(pl.col("src") == name)["sent"].sum() == 0
    assert (dead.filter((pl.col("dst") == name) & (pl.col("sent") > 0))["answered"] == 0).all()
    assert frozen["lost"].sum() <= 2


def test_a_slow_pair_is_slow_for_both_and_for_nobody_else():
    pairs = LAB.window(0, [SlowPair(0, 9, 8_000)]).pairs
    slow = set(pairs.filter(pl.col("rtt_p50_us") > 5_000).select("src", "dst").iter_rows())
    assert slow == {(LAB.names[0], LAB.names[9]), (LAB.names[9], LAB.names[0])}


def test_a_fault_holds_only_in_its_part_of_a_window():
    half = LAB.window(0, [Active(TorDown(1, out_of_band=True), 0.5, 1.0)]).pairs
    through = half.filter(pl.col("lost") > 100)
    assert ((through["lost"] - 225).abs() <= 2).all()


def test_a_healthy_mesh_is_noisy_as_real_ones_are():
    pairs = pl.concat([LARGE.window(number).pairs for number in range(6)])
    drops = (pairs["lost"].sum() + pairs["retransmitted"].sum()) / pairs["sent"].sum()
    assert 3e-6 < drops < 3e-4
    near = pairs.filter(pl.col("scope") != "inter_dc")
    assert 1e-5 < (near["rtt_p99_us"] > 5_000).mean() < 0.01, "the tail reaches the SLA now and then"
    assert near["rtt_p50_us"].max() < 5_000, "and no median does"


def test_the_same_window_is_the_same_and_the_next_one_is_not():
    again = Mesh(SHAPES[512], seed=1)
    assert LARGE.window(3).pairs.equals(again.window(3).pairs)
    assert not LARGE.window(3).pairs.equals(LARGE.window(4).pairs)


def test_invariants_of_the_table_hold_whatever_is_broken():
    faults = [TorDown(1), HostsGone((9,)), SpineLoss(0, 0, 0.3), PortBlackHole(2, 0.2)]
    pairs = LAB.window(0, faults).pairs
    parts = ("answered", "lost", "refused", "unreachable", "reset", "bad_reply", "local_error")
    assert (pairs.select(pl.sum_horizontal(parts)).to_series() == pairs["sent"]).all()
    assert (pairs["retransmitted"] <= pairs["answered"]).all()
    clean = pairs["answered"] > pairs["retransmitted"]
    assert (pairs["rtt_p50_us"].is_not_null() == clean).all()
    assert (pairs["rtt_p50_us"] <= pairs["rtt_p99_us"]).drop_nulls().all()
