"""The batch path of the alarm: evaluate a complete window of the mesh, or of a data server.

    tables of the window, baseline ──rules──▶ rows of `anomaly`, the next baseline ──▶ incidents

A run of an old window (`Run.dispatches` is False) writes its rows of `anomaly` and leaves the incidents alone: nobody
must be called for a fault of then.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import polars as pl

from pingmesh_tasks.detect.finding import Evaluation, anomaly_rows
from pingmesh_tasks.pipeline.access_logs import server_called
from pingmesh_tasks.pipeline.history import newest_table
from pingmesh_tasks.pipeline.incidents import incident_counts, policy_of, update_incidents
from pingmesh_tasks.pipeline.late_data import ended_in_time
from pingmesh_tasks.pipeline.plan import read_inventory
from pingmesh_tasks.pipeline.rulebook import read_rules
from pingmesh_tasks.pipeline.run import Part, Run, load_run_inventory
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.schemas import PAIR_LATENCY
from pingmesh_tasks.store.tables import read_part, read_table, write_table
from pingmesh_tasks.topology.inventory import Inventory
from pingmesh_tasks.topology.placement import place_of

log = logging.getLogger(__name__)
#: What the rules read of `pair_latency`.
PAIR_COLUMNS = [
    name
    for name in PAIR_LATENCY
    if name not in ("window", "rtt_min_us", "rtt_mean_us", "ladder_bucket", "ladder_count")
]


def evaluate_mesh_window(run: Run, part: Part) -> dict[str, int]:
    """Evaluate the window's pairs; write its rows of `anomaly` and the baseline of the next window.

    Returns how many findings there are, how many scopes had too little data, and the incidents' counts.
    Raises ConfigError for faults of the rules, and StoreError.
    """
    from pingmesh_tasks.detect.mesh.baseline import update_baseline
    from pingmesh_tasks.detect.mesh.evaluate import MeshView, evaluate_mesh

    inventory, window = read_inventory(run, part), run.window
    pairs = read_table(run.store, "pair_latency", window, PAIR_COLUMNS)
    status = read_table(run.store, "host_status", window)
    before = newest_table(run.store, "normal", window)
    view = MeshView(
        pairs,
        inventory,
        window.end,
        window.length_s,
        normal=before,
        status=status.filter(pl.col("stage") == "collect"),
    )
    evaluation = evaluate_mesh(view, read_rules(run.settings, run.store))
    write_table(run.store, "normal", window, update_baseline(before, pairs, inventory))
    return _keep(run, evaluation, inventory, "pingmesh")


def evaluate_access_window(run: Run, name: str) -> dict[str, int]:
    """Evaluate what a data server's logs brought in the window; write `anomaly` and the next baseline.

    Returns and raises what `evaluate_mesh_window` does; ConfigError also for a server that left the inventory.
    """
    from pingmesh_tasks.access.countries import Countries
    from pingmesh_tasks.detect.access.baseline import update_access_baseline
    from pingmesh_tasks.detect.access.evaluate import AccessView, evaluate_access

    window, store, inventory = run.window, run.store, load_run_inventory(run)
    server = server_called(inventory, name)
    before = newest_table(store, "access_normal", window, name)
    rejected = store.find(layout.quarantined_lines("access", window, name))
    view = AccessView(
        name,
        window.end,
        window.length_s,
        "window",
        read_part(store, "client", window, name),
        read_part(store, "operation", window, name),
        rejected=pl.read_ndjson(rejected) if rejected else None,
        session=read_part(store, "session", window, name),
        server_error=read_part(store, "server_error", window, name) if server.errors_path else None,
        log_status=read_part(store, "log_status", window, name),
        normal=before,
        country_of=Countries(server.countries).of,
        place=place_of(server, inventory),
    )
    evaluation = evaluate_access(view, read_rules(run.settings, run.store))
    write_table(store, "access_normal", window, update_access_baseline(before, view, window), name)
    return _keep(run, evaluation, inventory, "access_logs")


def _keep(run: Run, evaluation: Evaluation, inventory: Inventory, dag_id: str) -> dict[str, int]:
    """Write the findings of a window's evaluation; update the incidents if the window is a recent one."""
    write_table(run.store, "anomaly", run.window, anomaly_rows(evaluation), evaluation.source)
    for finding in evaluation.findings:
        log.info("%s %s %s: %s", finding.severity, finding.rule, finding.subject, finding.detail)
    counts = {"findings": len(evaluation.findings), "not_evaluated": len(evaluation.unjudged)}
    if not run.dispatches:
        log.info("window %s ended long ago: the incidents are left alone", run.window.id)
        return counts
    now = datetime.now(UTC)
    ended_in_time(run.store, dag_id, policy_of(run.settings), now)
    return counts | incident_counts(update_incidents(run, inventory, [(evaluation, now)]))
