"""The stages of a window: each reads the objects of one window and writes the objects of one window.

    plan_pinglists → [ensure_keys → dispatch_agents → collect_segments → build_probe_table → summarize_latency] a shard
                   → render_… → check_fleet

Here the parts that do not know each other meet. A stage gets a `Run` and small values, leaves its result in the object
store and returns a few figures; run again, it replaces what it wrote. A host that fails is a row of `host_status`.
"""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from pingmesh_tasks.errors import FleetError
from pingmesh_tasks.fleet.connect import FanoutLimits, HostOutcome, SshAccess
from pingmesh_tasks.settings import Settings
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.objects import ObjectStore
from pingmesh_tasks.store.schemas import HOST_STATUS
from pingmesh_tasks.store.tables import drop_other_shards, read_table, write_table
from pingmesh_tasks.topology import pinglist
from pingmesh_tasks.topology.inventory import Host, Inventory, load_inventory
from pingmesh_tasks.topology.pinglist import PingList, PinglistPolicy
from pingmesh_tasks.windows import Window

log = logging.getLogger(__name__)
SHARDED_TABLES = ("probe", "pair_latency", "host_status")
#: Outcomes of a stage that are no fault of the host.
HEALTHY = {"ok", "unchanged", "no_data_yet"}


@dataclass(frozen=True)
class Run:
    """What a stage works on. `only_hosts` empty means all; `dispatches` False leaves the agents alone."""

    window: Window
    settings: Settings
    store: ObjectStore
    ssh: SshAccess
    bootstrap: SshAccess | None = None
    only_hosts: tuple[str, ...] = ()
    dispatches: bool = True

    @property
    def limits(self) -> FanoutLimits:
        return FanoutLimits(self.settings.ssh_concurrency, self.settings.ssh_timeout_s)

    @property
    def policy(self) -> PinglistPolicy:
        return policy_of(self.settings)


def policy_of(settings: Settings) -> PinglistPolicy:
    """Return how the fleet is probed by these settings. Raises ConfigError."""
    return PinglistPolicy(
        protocol=settings.protocol,
        payload_bytes=settings.payload_bytes,
        interval_s=settings.interval_s,
        window_s=settings.window_s,
        timeout_s=settings.probe_timeout_s,
        lease_s=settings.lease_s,
        spool_max_bytes=settings.spool_max_mib * 2**20,
        spool_keep_s=settings.spool_keep_h * 3600,
        inter_dc_hosts_per_podset=settings.inter_dc_hosts_per_podset,
        max_peers_per_host=settings.max_peers_per_host,
        ring_peers=settings.ring_peers,
        budget_probes_per_s=settings.budget_probes_per_s,
    )


@dataclass(frozen=True)
class Part:
    """One shard of a run's hosts: what a mapped task is told. `shard` is like `000-of-002`."""

    plan: str
    shard: str

    def document(self) -> dict[str, str]:
        return {"plan": self.plan, "shard": self.shard}


class _Shard:
    """A part, opened: its plan read, its hosts picked."""

    def __init__(self, run: Run, part: Part) -> None:
        self.run, self.part = run, part

    @cached_property
    def plan(self) -> tuple[Inventory, PinglistPolicy]:
        return pinglist.read_plan(self.run.store.get(layout.plan(self.part.plan)))

    @property
    def hosts(self) -> Sequence[Host]:
        """All hosts of the shard: neighbours in the topology."""
        index, count = (int(figure) for figure in self.part.shard.split("-of-"))
        hosts = self.plan[0].hosts
        return hosts[len(hosts) * index // count : len(hosts) * (index + 1) // count]

    @property
    def chosen(self) -> Sequence[Host]:
        """The hosts that this run may touch."""
        only = set(self.run.only_hosts)
        return [host for host in self.hosts if not only or host.name in only]

    def lists(self, hosts: Sequence[Host]) -> dict[str, PingList]:
        inventory, policy = self.plan
        return pinglist.plan_pinglists(inventory, policy, sources=[host.name for host in hosts])


def plan_window(run: Run) -> list[Part]:
    """Read the inventory, plan who probes whom, keep the plan; return the shards.

    Raises InventoryError or PinglistError before any host is touched.
    """
    inventory = load_run_inventory(run)
    if run.only_hosts:
        inventory.subset(run.only_hosts)  # a name that is not in the inventory is a fault
    version = pinglist.plan_version(inventory, run.policy)
    pinglist.plan_pinglists(inventory, run.policy, sources=[inventory.hosts[0].name])
    run.store.ensure_bucket()
    run.store.put(layout.plan(version), pinglist.plan_document(inventory, run.policy))
    count = -(-len(inventory.hosts) // run.settings.shard_size)
    for table in SHARDED_TABLES:
        drop_other_shards(run.store, table, run.window, count)
    return [Part(version, layout.shard(index, count)) for index in range(count)]


def load_run_inventory(run: Run) -> Inventory:
    """Read the inventory that the settings, or the run's Params, name. Raises InventoryError."""
    return load_inventory(run.settings.inventory, read=lambda uri: run.store.read_uri(uri))


def read_inventory(run: Run, part: Part) -> Inventory:
    """Return the inventory that the run's plan was made from."""
    return _Shard(run, part).plan[0]


def ensure_keys(run: Run, part: Part) -> dict[str, int]:
    """Make sure that our key opens every host of the shard."""
    from pingmesh_tasks.fleet import keys

    shard = _Shard(run, part)
    return _keep_outcomes(shard, "keys", keys.ensure_keys(shard.chosen, run.ssh, run.bootstrap, run.limits))


def dispatch_agents(run: Run, part: Part) -> dict[str, int]:
    """Bring every agent of the shard to this release and its ping list, and renew its lease."""
    from pingmesh_tasks.fleet import agents

    shard = _Shard(run, part)
    documents = {name: plan.document() for name, plan in shard.lists(shard.chosen).items()}
    outcomes = agents.dispatch_agents(
        shard.chosen,
        documents,
        agents.AgentRelease.load(),
        run.ssh,
        run.limits,
        home=run.settings.agent_home,
        lab=run.settings.agent_lab,
    )
    return _keep_outcomes(shard, "dispatch", outcomes)


def collect_segments(run: Run, part: Part) -> dict[str, int]:
    """Fetch the window's segments of the shard straight to `raw/`; a damaged one goes to quarantine."""
    from pingmesh_tasks.fleet import segments
    from pingmesh_tasks.latency.segment import verify_segment

    shard, store, window = _Shard(run, part), run.store, run.window

    async def deliver(host: Host, data: bytes) -> None:
        await store.put_async(layout.raw_probe(window, host.name), data)

    async def quarantine(host: Host, data: bytes, reason: str) -> None:
        await store.put_async(layout.quarantined_segment(window, host.name), data)

    outcomes = segments.collect_segments(
        shard.chosen,
        window,
        run.ssh,
        run.limits,
        home=run.settings.agent_home,
        check=verify_segment,
        deliver=deliver,
        quarantine=quarantine,
        grace_s=run.settings.collect_grace_s,
    )
    return _keep_outcomes(shard, "collect", outcomes)


def has_no_data_yet(counts: dict[str, int]) -> bool:
    """Whether a shard's collection shows a fleet that has only just been started."""
    return not counts.get("ok") and counts.get("no_data_yet", 0) > 0


def build_probe_table(run: Run, part: Part) -> dict[str, int]:
    """Turn the shard's raw segments into its part of `probe`, a segment at a time."""
    from pingmesh_tasks.latency.probe_table import write_probe_table

    shard = _Shard(run, part)
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

    shard = _Shard(run, part)
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


def _keep_outcomes(shard: _Shard, stage: str, outcomes: Sequence[HostOutcome]) -> dict[str, int]:
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
