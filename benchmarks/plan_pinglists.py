"""How long the ping lists of a fleet take, against the planner that one would write first.

    python benchmarks/plan_pinglists.py            # 10 000 hosts: the bar is 5 s
    python benchmarks/plan_pinglists.py --hosts 100000

The peer, `plan_naively`, asks of every ordered pair of hosts whether it is one; its lists are compared with ours in
the same run, so the ratio is between equal results. It is quadratic, so it runs at 2 000 hosts.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from pingmesh_tasks.topology.inventory import Host, Inventory
from pingmesh_tasks.topology.pinglist import DEFAULT_POLICY, PingList, PinglistPolicy, plan_pinglists

BAR_S = 5.0


def fleet(hosts: int, *, per_tor: int = 40, tors_per_podset: int = 20, podsets_per_dc: int = 6) -> Inventory:
    """Return `hosts` servers in racks, podsets and DCs of the given sizes."""

    def host(number: int) -> Host:
        tor, podset, dc = (
            number // size for size in (per_tor, per_tor * tors_per_podset, per_tor * tors_per_podset * podsets_per_dc)
        )
        return Host(
            f"h{number}", f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", f"dc{dc}", f"p{podset}", f"t{tor}"
        )

    return Inventory(tuple(host(number) for number in range(hosts)), has_topology=True)


def plan_naively(inventory: Inventory, policy: PinglistPolicy = DEFAULT_POLICY) -> dict[str, set[tuple[str, str]]]:
    """Return {source: {(destination, scope)}} by asking every pair: the definition, word by word."""
    rack: dict[tuple[str, str, str], list[Host]] = {}
    for host in inventory.hosts:
        rack.setdefault(host.tor_key, []).append(host)
    order = list(rack)
    rank = {host.name: at for hosts in rack.values() for at, host in enumerate(hosts)}
    chosen = set()
    for dc, podset in {key[:2] for key in rack}:
        members = [host for host in inventory.hosts if (host.dc, host.podset) == (dc, podset)]
        members.sort(key=lambda host: (rank[host.name], order.index(host.tor_key)))
        chosen |= {host.name for host in members[: policy.inter_dc_hosts_per_podset]}
    lists: dict[str, set[tuple[str, str]]] = {host.name: set() for host in inventory.hosts}
    for source in inventory.hosts:
        for peer in inventory.hosts:
            if source is peer:
                continue
            if not inventory.has_topology or source.tor_key == peer.tor_key:
                lists[source.name].add((peer.name, "intra_tor"))
            elif source.dc == peer.dc:
                if rank[source.name] % len(rack[peer.tor_key]) == rank[peer.name]:
                    lists[source.name].add((peer.name, "intra_dc"))
            elif source.name in chosen and peer.name in chosen:
                lists[source.name].add((peer.name, "inter_dc"))
    return lists


def as_sets(lists: dict[str, PingList]) -> dict[str, set[tuple[str, str]]]:
    """Return our lists in the shape of `plan_naively`."""
    return {name: {(target.name, target.scope) for target in plan.targets} for name, plan in lists.items()}


def seconds(work: Callable[[], Any], rounds: int = 3) -> tuple[float, Any]:
    """Return (best CPU time of some rounds, the last result)."""
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        result = work()
        best = min(best, time.process_time() - start)
    return best, result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, default=10_000)
    parser.add_argument("--peer-hosts", type=int, default=2_000, help="fleet that the naive planner gets")
    options = parser.parse_args()

    small, large, flat = fleet(options.peer_hosts), fleet(options.hosts), Inventory(fleet(2_500).hosts)
    naive_s, expected = seconds(lambda: plan_naively(small), rounds=1)
    small_s, small_lists = seconds(lambda: plan_pinglists(small))
    if as_sets(small_lists) != expected:
        print("the planners disagree")
        return 1
    print(f"{'what':42} {'hosts':>7} {'targets':>10} {'CPU s':>7}  {'against':>14}")

    def row(what: str, hosts: int, lists: dict[str, PingList] | None, spent_s: float, against: str = "") -> None:
        targets = "" if lists is None else sum(len(plan.targets) for plan in lists.values())
        print(f"{what:42} {hosts:7} {targets:>10} {spent_s:7.2f}  {against:>14}")

    row("naive, every pair asked (the peer)", options.peer_hosts, None, naive_s, "1 ×")
    row("three levels, equal lists", options.peer_hosts, small_lists, small_s, f"1/{naive_s / small_s:.0f} ×")

    def versions(lists: dict[str, PingList]) -> list[str]:
        return [plan.version for plan in lists.values()]

    large_s, lists = seconds(lambda: plan_pinglists(large, PinglistPolicy(budget_probes_per_s=10**9)))
    row("three levels", options.hosts, lists, large_s, f"bar {BAR_S:g} s")
    row("  and the version of each list", options.hosts, None, seconds(lambda: versions(lists))[0])
    flat_s, lists = seconds(lambda: plan_pinglists(flat))
    row("full mesh, no topology", len(flat.hosts), lists, flat_s)
    row("  and the version of each list", len(flat.hosts), None, seconds(lambda: versions(lists))[0])
    print(f"peak RSS {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB")
    return 0 if large_s <= BAR_S or options.hosts > 10_000 else 1


if __name__ == "__main__":
    sys.exit(main())
