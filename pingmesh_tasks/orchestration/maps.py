"""The stage that makes a window ready for the page: a dense map of codes a metric.

    summarize_latency → build_mesh_map

The parts are written in the order of `METRICS`, and a window counts as there once the last of them is.
"""

from __future__ import annotations

import logging

from pingmesh_tasks.maps.build import COLUMNS, MOST_HOSTS, build_mesh_map, map_parts
from pingmesh_tasks.orchestration.stages import Part, Run, read_inventory
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.tables import read_parts

log = logging.getLogger(__name__)
MAP = "mesh_map"


def build_map(run: Run, part: Part) -> dict[str, int]:
    """Write the window's map from its `pair_latency`; return how many hosts and bytes it has."""
    inventory = read_inventory(run, part)
    if len(inventory.hosts) > MOST_HOSTS:
        log.warning("no map of %d hosts is made: %d are the most", len(inventory.hosts), MOST_HOSTS)
        return {"hosts": len(inventory.hosts), "bytes": 0}
    mesh = build_mesh_map(read_parts(run.store, "pair_latency", run.window, COLUMNS), inventory)
    if mesh.strangers:
        log.warning("%d rows are of hosts that the plan does not know", mesh.strangers)
    written = 0
    for metric, data in map_parts(mesh, plan=part.plan, window=run.window.id):
        run.store.put(layout.table(MAP, run.window, metric), data)
        written += len(data)
    return {"hosts": len(inventory.hosts), "bytes": written}
