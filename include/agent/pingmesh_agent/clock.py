"""The machine's clocks."""

from __future__ import annotations

import os
import time


class Clock:
    """The machine's clocks. PINGMESH_LAB_CLOCK_OFFSET_US sets the wall clock wrong, for tests of just that."""

    def __init__(self) -> None:
        self.offset_us = int(os.environ.get("PINGMESH_LAB_CLOCK_OFFSET_US") or 0)

    def monotonic_s(self) -> float:
        return time.monotonic()

    def wall_us(self) -> int:
        return time.time_ns() // 1000 + self.offset_us
