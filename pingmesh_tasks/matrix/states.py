"""The states of a pair, or of a cell that stands for many: one enum for pictures, the page's maps and detection.

    NOT_PLANNED  never to be measured: the diagonal, the gaps of a ring
    MEASURED     at least one clean answer; has a value
    UNCLEAN      answered, but only after retransmits: no round trip to trust
    NO_DATA      planned, but the source sent nothing
    FAILED       probes were sent, none was answered

The values are those of a matrix of codes (`codes`), where every code from 1 to `codes.MOST` is MEASURED, and are
stored in every map: they never change. The worse state has the greater value.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Column = NDArray[Any]
Bools = NDArray[np.bool_]
States = NDArray[np.uint16]


class State(IntEnum):
    """What is known of a pair or cell."""

    NOT_PLANNED = 0
    MEASURED = 1
    UNCLEAN = 4093
    NO_DATA = 4094
    FAILED = 4095

    @property
    def label(self) -> str:
        """The state's name in answers of the page's API: `no_data`."""
        return self.name.lower()


def has_failed(sent: Column, answered: Column) -> Bools:
    """Return which pairs sent probes and got no answer at all: lost, refused and unreachable alike."""
    return np.asarray((sent > 0) & (answered == 0))


def has_no_data(sent: Column) -> Bools:
    """Return which pairs were planned and sent nothing. Every row of `pair_latency` was planned or sent."""
    return np.asarray(sent == 0)


def states_of(sent: Column, answered: Column, has_value: Column | bool, planned: Column | bool = True) -> States:
    """Return the state of pairs, or of cells by the sums of their pairs.

    A cell with one healthy pair is MEASURED, and one with one failed pair and others without data is FAILED.
    """
    unanswered = np.where(sent > 0, State.FAILED, np.where(planned, State.NO_DATA, State.NOT_PLANNED))
    return np.where(answered > 0, np.where(has_value, State.MEASURED, State.UNCLEAN), unanswered).astype(np.uint16)
