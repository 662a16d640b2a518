"""What `fleet_admin` does to hosts by hand. A dry run only looks, and says what it would do."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

from pingmesh_tasks.errors import ConfigError, FleetError
from pingmesh_tasks.fleet import agents, keys
from pingmesh_tasks.fleet.connect import HostOutcome
from pingmesh_tasks.fleet.inventory import Host
from pingmesh_tasks.orchestration.stages import HEALTHY, Run, load_run_inventory

log = logging.getLogger(__name__)


def act(run: Run, action: str, *, dry_run: bool, remove_key: bool) -> dict[str, int]:
    """Do `action` on the run's hosts, log a line a host and return how often each outcome occurred.

    Raises FleetError that names the hosts which failed, after all others are done.
    """
    inventory = load_run_inventory(run)
    hosts = inventory.subset(run.only_hosts).hosts if run.only_hosts else inventory.hosts
    outcomes = _act(run, action, hosts, dry_run, remove_key)
    for outcome in outcomes:
        log.info("%s: %s %s", outcome.host, outcome.outcome, outcome.detail)
    if failed := [outcome for outcome in outcomes if outcome.outcome not in HEALTHY]:
        shown = "\n".join(f"  - {outcome.host}: {outcome.outcome}: {outcome.detail}" for outcome in failed[:20])
        raise FleetError(f"{action} failed on {len(failed)} of {len(hosts)} hosts:\n{shown}")
    return dict(Counter(outcome.outcome for outcome in outcomes))


def _act(run: Run, action: str, hosts: Sequence[Host], dry_run: bool, remove_key: bool) -> list[HostOutcome]:
    home = run.settings.agent_home
    if action == "install_keys":
        return keys.ensure_keys(hosts, run.ssh, run.bootstrap, run.limits, dry_run=dry_run)
    if action == "stop_agents":
        return agents.stop_agents(hosts, run.ssh, run.limits, home=home, dry_run=dry_run)
    if action == "clean_hosts":
        return agents.clean_hosts(hosts, run.ssh, run.limits, home=home, remove_key=remove_key, dry_run=dry_run)
    raise ConfigError(f"{action!r} is no action; choose install_keys, stop_agents or clean_hosts")
