"""`pingmesh check-inventory`, `pingmesh plan`: what would be probed, before any host is touched."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from pingmesh_tasks.cli.output import json_option, progress, show
from pingmesh_tasks.settings import Settings, load_settings

if TYPE_CHECKING:
    from pingmesh_tasks.pipeline.plan_figures import PlanFigures
    from pingmesh_tasks.topology.inventory import Inventory
    from pingmesh_tasks.topology.pinglist import PingList, Target

_location = click.argument("inventory", required=False, metavar="[INVENTORY]")


@click.command("check-inventory")
@_location
@json_option
def check_inventory(inventory: str | None) -> None:
    """Check an inventory and list every fault in it.

    INVENTORY is a path or an s3:// URI; without it, PINGMESH_INVENTORY is read.
    """
    from pingmesh_tasks.pipeline.checkup import describe

    location = inventory or load_settings().inventory
    checked = _load(location)
    show(
        {
            "inventory": location,
            "hosts": len(checked.hosts),
            "has_topology": checked.has_topology,
            "dcs": len({host.dc for host in checked.hosts}),
            "podsets": len({(host.dc, host.podset) for host in checked.hosts}),
            "tors": len({host.tor_key for host in checked.hosts}),
            "data_servers": [server.name for server in checked.log_servers],
        },
        f"{location}: {describe(checked)}. No fault.",
    )


@click.command()
@_location
@click.option("--host", metavar="NAME", help="Show the ping list of this host too.")
@json_option
def plan(inventory: str | None, host: str | None) -> None:
    """Show what the ping lists of an inventory cost, against the probe budget.

    INVENTORY is a path or an s3:// URI; without it, PINGMESH_INVENTORY is read. The policy is that
    of the PINGMESH_* settings. A plan over the budget is a fault, as it is for the DAG.
    """
    from pingmesh_tasks.pipeline.plan_figures import plan_figures
    from pingmesh_tasks.pipeline.run import probe_policy
    from pingmesh_tasks.topology.pinglist import plan_pinglists

    settings = _settings(inventory)
    planned = _load(settings.inventory)
    policy = probe_policy(settings)
    wanted = planned.host(host).name if host else None
    with progress("planning", length=len(planned.hosts)) as bar:
        figures = plan_figures(planned, policy, bar.update)
    document: dict[str, Any] = asdict(figures) | {
        "inventory": settings.inventory,
        "protocol": policy.protocol,
        "interval_s": policy.interval_s,
        "budget_share": figures.budget_share,
    }
    text = _plan_text(figures, settings)
    if wanted:
        listed = plan_pinglists(planned, policy, sources=[wanted])[wanted]
        document |= {"host": wanted, "targets": [_document(target) for target in listed.targets]}
        text += "\n" + _pinglist_text(listed)
    show(document, text)


def _settings(location: str | None) -> Settings:
    """Return the settings, with the inventory at `location` instead of theirs if one is given."""
    return load_settings(os.environ | ({"PINGMESH_INVENTORY": location} if location else {}))


def _load(location: str) -> Inventory:
    from pingmesh_tasks.topology.inventory import load_inventory

    if not location.startswith("s3://"):
        return load_inventory(location)
    from pingmesh_tasks.orchestration.installation import open_local_store

    return load_inventory(location, read=open_local_store(_settings(location)).read_uri)


def _plan_text(figures: PlanFigures, settings: Settings) -> str:
    counted = figures.pairs_by_scope.items()
    scopes = "\n".join(f"  {scope:<10} {pairs:>12,}" for scope, pairs in counted)
    share = f"{100 * figures.budget_share:.2g} % of the budget of {figures.budget_probes_per_s:,}"
    return (
        f"{figures.hosts:,} hosts, {figures.pairs:,} pairs every {settings.interval_s:g} s "
        f"by {settings.protocol}\n"
        f"{scopes}\n"
        f"probes/s           {figures.probes_per_s:,.1f} ({share})\n"
        f"longest ping list  {figures.longest}: {figures.longest_peers:,} of at most "
        f"{figures.max_peers_per_host:,} peers\n"
        f"plan               {figures.version}"
    )


def _pinglist_text(listed: PingList) -> str:
    row = "  {0.name:<24} {0.address:<24} {0.port:>5} {0.protocol:<8} {0.scope}"
    rows = [row.format(target) for target in listed.targets]
    return "\n".join([f"ping list of {listed.host}:", *rows])


def _document(target: Target) -> dict[str, Any]:
    names = ("name", "address", "port", "protocol", "scope", "payload_bytes")
    return {name: getattr(target, name) for name in names}
