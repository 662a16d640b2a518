"""What a pair's median usually is, by its place on the axis: what `change` on a map is held against."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pingmesh_tasks.matrix.positions import cells_of, on_axis
from pingmesh_tasks.topology.axis import HostAxis

#: Columns of `normal` that are read.
COLUMNS = ["src", "dst", "protocol", "p50_ln"]
Floats = NDArray[np.float32]


class UsualMedians:
    """Normal p50s as logarithms of µs; memory is 4 bytes a cell and protocol."""

    def __init__(self, axis: HostAxis) -> None:
        self.axis = axis
        self._ln: dict[str, Floats] = {}

    def add(self, normal: pl.DataFrame) -> None:
        """Add rows of `normal` (with `COLUMNS`, in any order)."""
        for (protocol,), rows in normal.group_by("protocol"):
            known = on_axis(rows, self.axis)
            ln = self._ln.get(str(protocol))
            if ln is None:
                ln = self._ln[str(protocol)] = np.full(len(self.axis) ** 2, np.nan, np.float32)
            cell = cells_of(known["src"].to_numpy(), known["dst"].to_numpy(), len(self.axis))
            ln[cell] = known["p50_ln"].fill_null(float("nan")).to_numpy()

    def ln_of(self, protocol: pl.Series, cell: NDArray[np.int64]) -> Floats:
        """Return the logarithm of what is usual of cells by protocol; NaN where nothing is known."""
        found = np.full(len(cell), np.nan, np.float32)
        for name, ln in self._ln.items():
            of = (protocol == name).to_numpy()
            found[of] = ln[cell[of]]
        return found
