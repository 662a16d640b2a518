"""The states of pairs and cells: one enum, whose values are stored in maps."""

import numpy as np
import pytest

from pingmesh_tasks.matrix import codes
from pingmesh_tasks.matrix.states import State, has_failed, has_no_data, states_of

#: sent, answered, has a value, planned; and the state of such a cell.
CELLS = [
    (0, 0, False, False, State.NOT_PLANNED),
    (0, 0, False, True, State.NO_DATA),
    (30, 0, False, True, State.FAILED),
    (30, 0, True, True, State.FAILED),  # its loss is known, but nothing was answered
    (30, 1, False, True, State.UNCLEAN),
    (30, 1, True, True, State.MEASURED),
    (30, 30, True, True, State.MEASURED),
]


def test_stored_maps_hold_these_values_for_ever():
    values = {state.name: int(state) for state in State}
    assert values == {"NOT_PLANNED": 0, "MEASURED": 1, "UNCLEAN": 4093, "NO_DATA": 4094, "FAILED": 4095}
    assert [state.label for state in State] == ["not_planned", "measured", "unclean", "no_data", "failed"]


def test_the_state_follows_from_the_counts():
    sent, answered, has_value, planned, _ = (np.array(column) for column in zip(*CELLS, strict=True))
    found = states_of(sent, answered, has_value, planned)
    assert found.dtype == np.uint16
    assert found.tolist() == [state for *_, state in CELLS]
    assert has_failed(sent, answered).tolist() == [state == State.FAILED for *_, state in CELLS]
    assert has_no_data(sent).tolist() == [sent == 0 for sent, *_ in CELLS]


def test_a_pair_that_is_a_row_was_planned():
    assert states_of(np.array([0, 3]), np.array([0, 0]), False).tolist() == [State.NO_DATA, State.FAILED]


@pytest.mark.parametrize(
    ("code", "state"),
    [
        (0, "not_planned"),
        (1, "measured"),
        (codes.MOST, "measured"),
        (4093, "unclean"),
        (4094, "no_data"),
        (4095, "failed"),
    ],
)
def test_a_code_stands_for_a_state(code, state):
    assert codes.state_of(code).label == state


def test_a_code_that_stands_for_nothing_is_an_error():
    with pytest.raises(ValueError, match="4091"):
        codes.state_of(codes.MOST + 1)
