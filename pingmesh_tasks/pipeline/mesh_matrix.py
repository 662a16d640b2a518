"""The stage that makes a window ready for the page: a dense matrix of codes a metric, and the figures of its groups.

    summarize_latency → build_mesh_map

The parts of the matrix are written in the order of `METRICS`; a window counts as complete once the last of them is
there. Its metric `change` compares with the baseline of the window before, whether or not this window was evaluated.
"""

from __future__ import annotations

import logging
from typing import Any

import polars as pl

from pingmesh_tasks.detect.mesh.matrix_pattern import pattern_of
from pingmesh_tasks.matrix import build, groups, usual_medians
from pingmesh_tasks.pipeline.plan import read_inventory
from pingmesh_tasks.pipeline.run import Part, Run
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.objects import ObjectStore
from pingmesh_tasks.store.pieces import ParquetObject
from pingmesh_tasks.store.tables import newest_window, read_parts
from pingmesh_tasks.topology.axis import HostAxis
from pingmesh_tasks.windows import Window

log = logging.getLogger(__name__)
MAP, GROUP, NORMAL = "mesh_map", "group_latency", "normal"
#: How many rows are laid out at a time; each takes some 300 bytes beside the table.
ROWS_AT_ONCE = 200_000
COLUMNS = sorted({*build.COLUMNS, *groups.COLUMNS})


class MapMaker:
    """Lays pairs out as the page reads them. A mesh of more than MOST_HOSTS has groups and no map."""

    def __init__(self, axis: HostAxis, medians: usual_medians.UsualMedians | None = None) -> None:
        self.axis, self.groups = axis, groups.GroupBuilder(axis)
        self._map = build.MapBuilder(axis, medians) if len(axis.hosts) <= build.MOST_HOSTS else None
        if not self._map:
            log.warning("no map is made of %d hosts: the most is %d", len(axis.hosts), build.MOST_HOSTS)

    def add(self, pairs: pl.DataFrame) -> None:
        """Add pairs with `COLUMNS` (and `protocol` where medians are compared), in any order."""
        for some in pairs.iter_slices(ROWS_AT_ONCE):
            self.groups.add(some)
            if self._map:
                self._map.add(some)

    def keep(self, store: ObjectStore, window: Window, level: str = "window", **about: Any) -> int:
        """Write groups and map of a window, with the notes `about` in their footers; return the bytes written."""
        about |= {"window": window.id}
        written = 0
        for kind, data in groups.group_parts(self.groups.finish(), self.axis, **about):
            store.put(layout.table(layout.at_level(GROUP, level), window, kind), data)
            written += len(data)
        if self._map:
            mesh = self._map.finish()
            for metric, data in build.map_parts(mesh, **about, pattern=pattern_of(mesh)):
                store.put(layout.table(layout.at_level(MAP, level), window, metric), data)
                written += len(data)
        return written


def build_mesh_map(run: Run, part: Part) -> dict[str, int]:
    """Write the window's map and groups from its `pair_latency`, read once, a shard at a time.

    Returns how many hosts there are, and the bytes written. Raises StoreError.
    """
    axis = HostAxis.of(read_inventory(run, part))
    before = newest_window(run.store, NORMAL, run.window)
    maker = MapMaker(axis, _usual_medians(run.store, before, axis))
    for shard in read_parts(run.store, "pair_latency", run.window, [*COLUMNS, "protocol"]):
        maker.add(shard)
    written = maker.keep(run.store, run.window, plan=part.plan, normal=before and before.id)
    return {"hosts": len(axis.hosts), "bytes": written}


def _usual_medians(store: ObjectStore, window: Window | None, axis: HostAxis) -> usual_medians.UsualMedians:
    """Return the baseline medians after a window, read a row group at a time; none where there is no window."""
    medians = usual_medians.UsualMedians(axis)
    for key in store.keys(layout.table_prefix(NORMAL, window)) if window else ():
        if file := ParquetObject.find(store, key):
            for group in range(file.metadata.num_row_groups):
                medians.add(pl.DataFrame(file.read([group], usual_medians.COLUMNS)))
    return medians
