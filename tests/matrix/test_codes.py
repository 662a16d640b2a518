"""Codes of a map: exact enough, and worst where worst is greatest."""

import numpy as np
import pytest

from pingmesh_tasks.matrix import codes
from pingmesh_tasks.matrix.states import State


def matrix(*rows):
    return np.array(rows, np.uint16)


def test_a_round_trip_comes_back_to_a_quarter_of_a_percent():
    us = np.unique(np.geomspace(1, 30_000_000, 5_000).astype(np.uint32))
    back = codes.decode(codes.encode_us(us), "log")
    assert (np.abs(back - us) / us).max() < 0.0026
    assert (np.diff(codes.encode_us(us).astype(int)) >= 0).all()


def test_round_trips_beyond_any_timeout_stay_measured():
    assert codes.encode_us(np.array([0, 1, 2**32 - 1], np.uint32)).tolist() == [1, 1, codes.MOST]


def test_a_loss_of_one_probe_in_a_million_is_no_zero():
    share = np.array([0.0, 1e-6, 0.5, 1.0])
    found = codes.encode_share(share)
    assert found.tolist() == [1, 2, 2001, 4001]
    assert codes.decode(found, "share").tolist() == [0.0, 0.00025, 0.5, 1.0]


def test_states_have_no_value():
    states = matrix([State.NOT_PLANNED, State.UNCLEAN, State.NO_DATA, State.FAILED])
    assert np.isnan(codes.decode(states, "log")).all()
    assert not codes.is_measured(states).any()


@pytest.mark.parametrize("side", [1, 2, 3, 7, 8, 33])
@pytest.mark.parametrize("lod", [0, 1, 2, 5])
def test_pooling_is_that_of_every_block(side, lod):
    full = np.random.default_rng(side).integers(0, 4096, (side, side)).astype(np.uint16)
    step = 1 << lod
    wanted = [[full[r : r + step, c : c + step] for c in range(0, side, step)] for r in range(0, side, step)]
    assert codes.pool_max(full, lod).tolist() == [[int(block.max()) for block in row] for row in wanted]
    mean = codes.pool_mean(full, lod)
    for row, told in zip(wanted, mean, strict=True):
        for block, value in zip(row, told, strict=True):
            measured = block[codes.is_measured(block)]
            assert value == (np.rint(measured.mean()) if len(measured) else block.max()) or lod == 0


def test_one_dead_host_survives_any_pooling():
    full = np.full((2500, 2500), 700, np.uint16)
    full[:, 1234] = State.FAILED
    assert (codes.pool_max(full, 6) == State.FAILED).any(axis=1).all()
    assert not (codes.pool_mean(full, 6) == State.FAILED).any()
