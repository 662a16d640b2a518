"""The stages of a window of the mesh: each reads the objects of one window and writes the objects of one window.

    plan_window → [ensure_keys → dispatch_agents → collect_segments → build_probe_table → summarize_latency] a shard
                → evaluate_mesh_window, build_mesh_map, draw …, check_fleet

A stage is given a `Run` and a `Part`, leaves its result in the object store and returns a few figures; run again, it
replaces what it wrote. A host that fails is a row of `host_status`.
"""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import polars as pl

from pingmesh_tasks.errors import FleetError
from pingmesh_tasks.fleet.connect import HostOutcome
from pingmesh_tasks.pipeline.fleet import HEALTHY
from pingmesh_tasks.pipeline.plan import Shard, read_inventory
from pingmesh_tasks.pipeline.run import Part, Run
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.schemas import HOST_STATUS
from pingmesh_tasks.store.tables import read_table, write_table
from pingmesh_tasks.topology import pinglist
from pingmesh_tasks.topology.inventory import Host

log = logging.getLogger(__name__)


def ensure_keys(run: Run, part: Part) -> dict[str, int]:
    """Make sure that our key opens every host of the shard; return how often each outcome occurred."""
    shard = Shard(run, part)
    return _keep_outcomes(shard, "keys", run.fleet.ensure_keys(shard.chosen))


def dispatch_agents(run: Run, part: Part) -> dict[str, int]:
    """Bring every agent of the shard to this release and its ping list, and renew its lease."""
    shard = Shard(run, part)
    documents = {name: plan.document() for name, plan in shard.lists(shard.chosen).items()}
    return _keep_outcomes(shard, "dispatch", run.fleet.dispatch_agents(shard.chosen, documents))


def collect_segments(run: Run, part: Part) -> dict[str, int]:
    """Fetch the window's segments of the shard straight to `raw/`; a damaged one goes to quarantine.

    Raises StoreError where the object store takes none: that is no fault of a host.
    """
    shard, store, window = Shard(run, part), run.store, run.window

    async def deliver(host: Host, data: bytes) -> None:
        await store.put_async(layout.raw_probe(window, host.name), data)

    async def quarantine(host: Host, data: bytes, reason: str) -> None:
        await store.put_async(layout.quarantined_segment(window, host.name), data)

    grace_s = run.settings.collect_grace_s
    outcomes = run.fleet.collect_segments(shard.chosen, window, deliver, quarantine, grace_s=grace_s)
    return _keep_outcomes(shard, "collect", outcomes)


def has_no_data_yet(counts: dict[str, int]) -> bool:
    """Whether a shard's collection shows a fleet that has only just been started."""
    return not counts.get("ok") and counts.get("no_data_yet", 0) > 0


def build_probe_table(run: Run, part: Part) -> dict[str, int]:
    """Turn the shard's raw segments into its part of `probe`, a segment at a time."""
    from pingmesh_tasks.latency.probe_table import write_probe_table

    shard = Shard(run, part)
    present = set(run.store.keys(layout.raw_probe_prefix(run.window)))

    def segments() -> Iterator[tuple[str, bytes]]:
        for name in sorted(host.name for host in shard.hosts):
            key = layout.raw_probe(run.window, name)
            if key in present:
                yield name, run.store.get(key)

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "probe.parquet")
        stats = write_probe_table(segments(), file)
        run.store.put(layout.table("probe", run.window, part.shard), file)
    for name, error in stats.damaged:  # its columns are unpacked here for the first time
        log.warning("%s is left out: %s", layout.raw_probe(run.window, name), error)
        run.store.put(layout.quarantined_segment(run.window, name), run.store.get(layout.raw_probe(run.window, name)))
    damaged = [HostOutcome(name, "build", "segment_damaged", str(error)) for name, error in stats.damaged]
    _keep_outcomes(shard, "build", damaged)
    return {"segments": stats.segments, "probes": stats.rows, "damaged": len(stats.damaged)}


def summarize_latency(run: Run, part: Part) -> dict[str, int]:
    """Turn the shard's part of `probe` into its part of `pair_latency`, pairs that stayed silent included."""
    from pingmesh_tasks.latency.summary import summarize_probe_table

    shard = Shard(run, part)
    with tempfile.TemporaryDirectory() as folder:
        probes, pairs = Path(folder, "probe.parquet"), Path(folder, "pair_latency.parquet")
        run.store.download(layout.table("probe", run.window, part.shard), probes)
        stats = summarize_probe_table(probes, run.window, pinglist.planned_pairs(shard.lists(shard.hosts)), pairs)
        run.store.put(layout.table("pair_latency", run.window, part.shard), pairs)
    return {"pairs": stats.pairs, "silent": stats.silent, "probes_of_other_windows": stats.outside}


def check_fleet(run: Run, part: Part) -> dict[str, int]:
    """Count how the hosts fared. Raises FleetError where more failed than `max_failed_share` allows."""
    inventory = read_inventory(run, part)
    status = read_table(run.store, "host_status", run.window, ["host", "stage", "outcome", "detail"])
    collected = status.filter(pl.col("stage") == "collect")
    bad = collected.filter(~pl.col("outcome").is_in(HEALTHY)).sort("host")
    share = bad.height / max(collected.height, 1)
    if share > run.settings.max_failed_share:
        shown = "\n".join(f"  - {host}: {outcome}: {why}" for host, _, outcome, why in bad.head(10).iter_rows())
        raise FleetError(
            f"{bad.height} of {collected.height} hosts failed in window {run.window.id}, more than the share of "
            f"{run.settings.max_failed_share} that PINGMESH_MAX_FAILED_SHARE allows; the first of them:\n{shown}"
        )
    return {"hosts": len(inventory.hosts), "failed": bad.height}


def _keep_outcomes(shard: Shard, stage: str, outcomes: Sequence[HostOutcome]) -> dict[str, int]:
    """Write a stage's part of `host_status` and return how often each outcome occurred."""
    run = shard.run
    rows = [{"window": run.window.start, **asdict(outcome)} for outcome in outcomes]
    frame = pl.DataFrame(rows, schema=HOST_STATUS)
    name = f"{stage}-{shard.part.shard}"
    if run.only_hosts:  # hosts that this run left alone keep the rows of the run before
        before = read_table(run.store, "host_status", run.window)
        names = [host.name for host in shard.hosts if host.name not in run.only_hosts]
        before = before.filter(pl.col("stage") == stage, pl.col("host").is_in(names))
        frame = pl.concat([before.join(frame, on="host", how="anti"), frame]).sort("host")
    write_table(run.store, "host_status", run.window, frame, name)
    return dict(Counter(outcome.outcome for outcome in outcomes))
