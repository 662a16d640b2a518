"""The stage that makes a window ready for the page: a dense map of codes a metric, and the figures of its groups.

    summarize_latency → build_mesh_map

The map's parts are written in the order of `METRICS`, and a window counts as there once the last of them is.
"""

from __future__ import annotations

import logging

from pingmesh_tasks.maps import build, groups
from pingmesh_tasks.maps.axis import MapAxis
from pingmesh_tasks.orchestration.stages import Part, Run, read_inventory
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.tables import read_parts

log = logging.getLogger(__name__)
MAP, GROUP = "mesh_map", "group_latency"
#: What is worked on at a time takes some 300 bytes a row beside the table.
ROWS_AT_ONCE = 200_000
COLUMNS = sorted({*build.COLUMNS, *groups.COLUMNS})


def build_mesh_map(run: Run, part: Part) -> dict[str, int]:
    """Write the window's map and groups from its `pair_latency`, read once, a shard at a time.

    Returns how many hosts there are, and the bytes written. A mesh of more than MOST_HOSTS has groups, and no map.
    """
    axis = MapAxis.of(read_inventory(run, part))
    together = groups.GroupBuilder(axis)
    drawn = build.MapBuilder(axis) if len(axis.hosts) <= build.MOST_HOSTS else None
    if not drawn:
        log.warning("no map is made of %d hosts: %d are the most", len(axis.hosts), build.MOST_HOSTS)
    for shard in read_parts(run.store, "pair_latency", run.window, COLUMNS):
        for pairs in shard.iter_slices(ROWS_AT_ONCE):
            together.add(pairs)
            if drawn:
                drawn.add(pairs)
    about = {"plan": part.plan, "window": run.window.id}
    written = 0
    for kind, data in groups.group_parts(together.finish(), axis, **about):
        run.store.put(layout.table(GROUP, run.window, kind), data)
        written += len(data)
    for metric, data in build.map_parts(drawn.finish(), **about) if drawn else ():
        run.store.put(layout.table(MAP, run.window, metric), data)
        written += len(data)
    return {"hosts": len(axis.hosts), "bytes": written}
