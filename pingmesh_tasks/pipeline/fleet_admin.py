"""What `fleet_admin` does to hosts by hand. A dry run only looks, and says what it would do."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

from pingmesh_tasks.errors import ConfigError, FleetError
from pingmesh_tasks.fleet import agents, keys
from pingmesh_tasks.fleet.connect import HostOutcome
from pingmesh_tasks.fleet.hook import deploy_hook
from pingmesh_tasks.pipeline.mesh import HEALTHY, Run, load_run_inventory
from pingmesh_tasks.topology.inventory import Host

log = logging.getLogger(__name__)


def act(run: Run, action: str, *, dry_run: bool, remove_key: bool, hook_directory: str) -> dict[str, int]:
    """Do `action` on the run's hosts, log a line a host and return how often each outcome occurred.

    Raises FleetError that names the hosts which failed, after all others are done.
    """
    hosts = _chosen(run, action)
    if action == "deploy_hook":
        outcomes = deploy_hook(hosts, run.ssh, run.limits, directory=hook_directory, dry_run=dry_run)
    else:
        outcomes = _act(run, action, hosts, dry_run, remove_key)
    for outcome in outcomes:
        log.info("%s: %s %s", outcome.host, outcome.outcome, outcome.detail)
    if failed := [outcome for outcome in outcomes if outcome.outcome not in HEALTHY]:
        shown = "\n".join(f"  - {outcome.host}: {outcome.outcome}: {outcome.detail}" for outcome in failed[:20])
        raise FleetError(f"{action} failed on {len(failed)} of {len(hosts)} hosts:\n{shown}")
    return dict(Counter(outcome.outcome for outcome in outcomes))


def _chosen(run: Run, action: str) -> list[Host]:
    """Return the hosts and data servers to act on. Raises InventoryError for a name that is neither."""
    inventory = load_run_inventory(run)
    servers = [Host(s.name, s.address, ssh_port=s.ssh_port, ssh_user=s.ssh_user) for s in inventory.log_servers]
    addresses = {server.address for server in servers}
    hosts = [] if action == "deploy_hook" else [host for host in inventory.hosts if host.address not in addresses]
    if not run.only_hosts:
        return [*hosts, *servers]
    named = [server for server in servers if server.name in run.only_hosts]
    others = [name for name in run.only_hosts if name not in {server.name for server in named}]
    return [*(inventory.subset(others).hosts if others else ()), *named]


def _act(run: Run, action: str, hosts: Sequence[Host], dry_run: bool, remove_key: bool) -> list[HostOutcome]:
    home = run.settings.agent_home
    if action == "install_keys":
        return keys.ensure_keys(hosts, run.ssh, run.bootstrap, run.limits, dry_run=dry_run)
    if action == "stop_agents":
        return agents.stop_agents(hosts, run.ssh, run.limits, home=home, dry_run=dry_run)
    if action == "clean_hosts":
        return agents.clean_hosts(hosts, run.ssh, run.limits, home=home, remove_key=remove_key, dry_run=dry_run)
    if action == "forget_host_keys":
        if not run.only_hosts:
            raise ConfigError("forget_host_keys needs the names of the hosts that were installed anew")
        return keys.forget_host_keys(hosts, run.ssh, dry_run=dry_run)
    raise ConfigError(
        f"{action!r} is no action; choose install_keys, forget_host_keys, stop_agents, clean_hosts or deploy_hook"
    )
