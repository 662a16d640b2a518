"""What every use case is given: the window, the settings, the object store and the ways to the hosts.

Run    one run of a DAG; made by `orchestration.context.current_run`, or by hand in a notebook or a test
Part   one shard of the run's hosts: what a mapped task is given, small enough for an XCom
"""

from __future__ import annotations

from dataclasses import dataclass

from pingmesh_tasks.fleet.connect import FanoutLimits, SshAccess
from pingmesh_tasks.pipeline.fleet import Fleet, SshFleet
from pingmesh_tasks.settings import Settings
from pingmesh_tasks.store.objects import ObjectStore
from pingmesh_tasks.topology.inventory import Inventory, load_inventory
from pingmesh_tasks.topology.pinglist import PinglistPolicy
from pingmesh_tasks.windows import Window


@dataclass(frozen=True)
class Run:
    """The input of a use case.

    Attributes:
        only_hosts: Names of the hosts that the run may touch; empty means all.
        dispatches: Whether the run works on the present. False for a backfill and for windows
            that ended long ago: agents and incidents are then left alone.
        stand_in: A fleet in place of the hosts over SSH, as tests have; None means SSH.
    """

    window: Window
    settings: Settings
    store: ObjectStore
    ssh: SshAccess
    bootstrap: SshAccess | None = None
    only_hosts: tuple[str, ...] = ()
    dispatches: bool = True
    stand_in: Fleet | None = None

    @property
    def fleet(self) -> Fleet:
        """The hosts."""
        if self.stand_in is not None:
            return self.stand_in
        settings = self.settings
        return SshFleet(self.ssh, self.bootstrap, self.limits, settings.agent_home, settings.agent_lab)

    @property
    def limits(self) -> FanoutLimits:
        """How many hosts one task talks to at a time, and for how long."""
        return FanoutLimits(self.settings.ssh_concurrency, self.settings.ssh_timeout_s)

    @property
    def policy(self) -> PinglistPolicy:
        """How ping lists are planned."""
        return probe_policy(self.settings)


@dataclass(frozen=True)
class Part:
    """One shard of a run's hosts.

    Attributes:
        plan: Version of the ping list plan, the key of its object.
        shard: Which part of the plan's hosts, like `000-of-002`.
    """

    plan: str
    shard: str

    def document(self) -> dict[str, str]:
        """Return the part as plain values for an XCom; `Part(**document)` is the part again."""
        return {"plan": self.plan, "shard": self.shard}


def load_run_inventory(run: Run) -> Inventory:
    """Read the inventory that the settings, or the run's Params, name. Raises InventoryError."""
    return load_inventory(run.settings.inventory, read=lambda uri: run.store.read_uri(uri))


def probe_policy(settings: Settings) -> PinglistPolicy:
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
