"""What `fleet_admin` does to hosts by hand. A dry run only looks, and its log says what would be done."""

from __future__ import annotations

import logging
from collections import Counter

from pingmesh_tasks.errors import ConfigError, FleetError
from pingmesh_tasks.fleet.connect import HostOutcome
from pingmesh_tasks.pipeline.fleet import HEALTHY
from pingmesh_tasks.pipeline.run import Run, load_run_inventory
from pingmesh_tasks.topology.inventory import Host

log = logging.getLogger(__name__)
MAX_NAMED_HOSTS = 20


def act(run: Run, action: str, *, dry_run: bool, remove_key: bool, hook_directory: str) -> dict[str, int]:
    """Do `action` on the run's hosts, log a line a host and return how often each outcome occurred.

    Raises:
        ConfigError: There is no such action, or it needs names of hosts.
        InventoryError: `only_hosts` names what is neither a host nor a data server.
        FleetError: Names the hosts that failed, after all others are done.
    """
    hosts = _chosen_hosts(run, servers_only=action == "deploy_hook")
    outcomes = _act_on(hosts, run, action, dry_run, remove_key, hook_directory)
    for outcome in outcomes:
        log.info("%s: %s %s", outcome.host, outcome.outcome, outcome.detail)
    if failed := [outcome for outcome in outcomes if outcome.outcome not in HEALTHY]:
        shown = "\n".join(f"  - {one.host}: {one.outcome}: {one.detail}" for one in failed[:MAX_NAMED_HOSTS])
        raise FleetError(f"{action} failed on {len(failed)} of {len(hosts)} hosts:\n{shown}")
    return dict(Counter(outcome.outcome for outcome in outcomes))


def _act_on(
    hosts: list[Host], run: Run, action: str, dry_run: bool, remove_key: bool, hook_directory: str
) -> list[HostOutcome]:
    match action:
        case "install_keys":
            return run.fleet.ensure_keys(hosts, dry_run=dry_run)
        case "forget_host_keys":
            if not run.only_hosts:
                raise ConfigError("forget_host_keys needs the names of the hosts that were installed anew")
            return run.fleet.forget_host_keys(hosts, dry_run=dry_run)
        case "stop_agents":
            return run.fleet.stop_agents(hosts, dry_run=dry_run)
        case "clean_hosts":
            return run.fleet.clean_hosts(hosts, remove_key=remove_key, dry_run=dry_run)
        case "deploy_hook":
            return run.fleet.deploy_hook(hosts, directory=hook_directory, dry_run=dry_run)
    raise ConfigError(
        f"the action {action!r} is not known; choose install_keys, forget_host_keys, stop_agents, clean_hosts or "
        "deploy_hook"
    )


def _chosen_hosts(run: Run, *, servers_only: bool) -> list[Host]:
    """Return the hosts and data servers to act on, each address once.

    Raises InventoryError for a name that is neither.
    """
    inventory = load_run_inventory(run)
    servers = [server.as_host() for server in inventory.log_servers]
    addresses = {server.address for server in servers}
    hosts = [] if servers_only else [host for host in inventory.hosts if host.address not in addresses]
    if not run.only_hosts:
        return [*hosts, *servers]
    named = [server for server in servers if server.name in run.only_hosts]
    others = [name for name in run.only_hosts if name not in {server.name for server in named}]
    return [*(inventory.subset(others).hosts if others else ()), *named]
