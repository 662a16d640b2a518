"""What a plan costs before it is dispatched: pairs and probes of the fleet against its budget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from pingmesh_tasks.topology.inventory import Inventory
from pingmesh_tasks.topology.pinglist import PinglistPolicy, plan_pinglists, plan_version

#: Each step plans the whole fleet and expands the lists of a part of it, so steps are few.
STEPS = 20
MIN_HOSTS_PER_STEP = 200


@dataclass(frozen=True, slots=True)
class PlanFigures:
    """The cost of a plan.

    Attributes:
        version: Content hash of the plan, its name in the bucket.
        hosts: Hosts that probe and are probed.
        pairs: Directed pairs of source and destination.
        pairs_by_scope: `pairs` by `intra_tor`, `intra_dc` and `inter_dc`.
        probes_per_s: Probes that the whole fleet sends in a second.
        budget_probes_per_s: The most that it may send.
        longest: The host with the longest ping list.
        longest_peers: How many peers that host has.
        max_peers_per_host: The most that a host may have.
    """

    version: str
    hosts: int
    pairs: int
    pairs_by_scope: dict[str, int]
    probes_per_s: float
    budget_probes_per_s: int
    longest: str
    longest_peers: int
    max_peers_per_host: int

    @property
    def budget_share(self) -> float:
        """Share of the budget that the plan takes, 0 … 1."""
        return self.probes_per_s / self.budget_probes_per_s


def plan_figures(
    inventory: Inventory,
    policy: PinglistPolicy,
    advance: Callable[[int], None] = lambda hosts: None,
) -> PlanFigures:
    """Return what the plan of an inventory costs.

    Args:
        inventory: Every host of the fleet.
        policy: How it is probed.
        advance: Called with the number of hosts whose lists were counted since the last call.

    Raises:
        PinglistError: The plan is over the probe budget, or gives a host too many peers.
    """
    names = [host.name for host in inventory.hosts]
    step = max(MIN_HOSTS_PER_STEP, -(-len(names) // STEPS))
    scopes: Counter[str] = Counter()
    peers: dict[str, int] = {}
    for start in range(0, len(names), step):
        lists = plan_pinglists(inventory, policy, sources=names[start : start + step])
        for name, plan in lists.items():
            scopes.update(target.scope for target in plan.targets)
            peers[name] = len(plan.targets)
        advance(len(lists))
    longest = max(peers, key=lambda name: peers[name])
    return PlanFigures(
        version=plan_version(inventory, policy),
        hosts=len(names),
        pairs=scopes.total(),
        pairs_by_scope=dict(scopes),
        probes_per_s=scopes.total() / policy.interval_s,
        budget_probes_per_s=policy.budget_probes_per_s,
        longest=longest,
        longest_peers=peers[longest],
        max_peers_per_host=policy.max_peers_per_host,
    )
