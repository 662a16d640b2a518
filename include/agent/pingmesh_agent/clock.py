"""The monotonic clock and the wall clock of the machine."""

from __future__ import annotations

import os
import time


class Clock:
    """The machine's clocks.

    PINGMESH_LAB_CLOCK_OFFSET_US shifts the wall clock, for tests of a host whose clock is wrong.
    """

    def __init__(self) -> None:
        self.offset_us = int(os.environ.get("PINGMESH_LAB_CLOCK_OFFSET_US") or 0)

    def monotonic_s(self) -> float:
        return time.monotonic()

    def wall_us(self) -> int:
        """Microseconds since the epoch, UTC."""
        return time.time_ns() // 1000 + self.offset_us
