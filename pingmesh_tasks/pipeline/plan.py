"""The plan of a run: who probes whom, kept as one object that all its tasks read, and the shards of its hosts.

plan_window → parts → Shard(run, part): the hosts, their ping lists
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property

from pingmesh_tasks.pipeline.run import Part, Run, load_run_inventory
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.tables import drop_other_shards
from pingmesh_tasks.topology import pinglist
from pingmesh_tasks.topology.inventory import Host, Inventory
from pingmesh_tasks.topology.pinglist import PingList, PinglistPolicy

log = logging.getLogger(__name__)
SHARDED_TABLES = ("probe", "pair_latency", "host_status")


class Shard:
    """One part of a run, opened: its plan read, its hosts picked."""

    def __init__(self, run: Run, part: Part) -> None:
        self.run, self.part = run, part

    @cached_property
    def plan(self) -> tuple[Inventory, PinglistPolicy]:
        """The inventory and the policy that the plan was made from. Raises StoreError."""
        return pinglist.read_plan(self.run.store.get(layout.plan(self.part.plan)))

    @property
    def hosts(self) -> Sequence[Host]:
        """All hosts of the shard: neighbours in the topology."""
        index, count = (int(figure) for figure in self.part.shard.split("-of-"))
        hosts = self.plan[0].hosts
        return hosts[len(hosts) * index // count : len(hosts) * (index + 1) // count]

    @property
    def chosen(self) -> Sequence[Host]:
        """The hosts of the shard that this run may touch."""
        only = set(self.run.only_hosts)
        return [host for host in self.hosts if not only or host.name in only]

    def lists(self, hosts: Sequence[Host]) -> dict[str, PingList]:
        """Return the ping lists of some hosts, none of no host: a run may touch hosts of other shards only."""
        if not hosts:
            return {}
        inventory, policy = self.plan
        return pinglist.plan_pinglists(inventory, policy, sources=[host.name for host in hosts])


def plan_window(run: Run) -> list[Part]:
    """Read the inventory, plan who probes whom, keep the plan; return the shards.

    Parts of tables that an earlier run with another number of shards wrote are deleted.

    Raises:
        InventoryError: The inventory has faults, or `only_hosts` names a host that is not in it.
        PinglistError: The plan is over its probe budget. No host was touched in either case.
    """
    inventory = load_run_inventory(run)
    if run.only_hosts:
        inventory.subset(run.only_hosts)  # a name that is not in the inventory is a fault
    version = pinglist.plan_version(inventory, run.policy)
    pinglist.plan_pinglists(inventory, run.policy, sources=[inventory.hosts[0].name])
    run.store.ensure_bucket()
    run.store.put(layout.plan(version), pinglist.plan_document(inventory, run.policy))
    count = -(-len(inventory.hosts) // run.settings.shard_size)
    log.info(
        "%d hosts in %d shards; their tasks run in Airflow's pool %r: `airflow pools list` must show it, or they wait",
        len(inventory.hosts),
        count,
        run.settings.ssh_pool,
    )
    for table in SHARDED_TABLES:
        drop_other_shards(run.store, table, run.window, count)
    return [Part(version, layout.shard(index, count)) for index in range(count)]


def read_inventory(run: Run, part: Part) -> Inventory:
    """Return the inventory that the run's plan was made from. Raises StoreError."""
    return Shard(run, part).plan[0]
