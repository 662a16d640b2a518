"""`pingmesh doctor`: whether this installation is complete and configured, and what to do if not.

Each check examines one thing and changes nothing. What only Airflow knows comes from an
`Installation`. A detail is never more than one of our own errors contains, and the user part of a
URL is masked: no check shows a secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from pingmesh_tasks import bundled
from pingmesh_tasks.errors import PingmeshError, faults_of
from pingmesh_tasks.pipeline.rulebook import read_rules
from pingmesh_tasks.pipeline.run import probe_policy
from pingmesh_tasks.settings import Settings, load_settings
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.objects import ObjectStore
from pingmesh_tasks.topology.inventory import Inventory, load_inventory
from pingmesh_tasks.topology.pinglist import plan_pinglists

State = Literal["ok", "warning", "fault", "skipped"]
DAGS = (
    *("access_logs", "alert_admin", "anomaly_alerts", "fleet_admin", "latency_rollups"),
    *("pingmesh", "retention"),
)
#: Checks that need settings without faults.
OF_THE_SETTINGS = (
    *("bucket", "inventory", "ping lists", "ssh", "pool"),
    *("rules", "notifications"),
)
REINSTALL = "Install the package pingmesh-airflow again."


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found. `advice` is what to do, empty where nothing is."""

    name: str
    state: State
    detail: str
    advice: str = ""


class Installation(Protocol):
    """What the Airflow of this installation knows. Methods raise PingmeshError."""

    def open_store(self, settings: Settings) -> ObjectStore:
        """Return the object store that the connections give."""

    def login(self, settings: Settings, store: ObjectStore) -> str:
        """Return the user and port of the connection `pingmesh_ssh`."""

    def pools(self) -> set[str] | None:
        """Return the pools of Airflow, None where its database cannot be read."""

    def channels(self, settings: Settings) -> tuple[list[str], Mapping[str, str]]:
        """Return the channels that are on, and those that are off with the reason."""

    def parse_dags(self, folder: Path) -> tuple[set[str], dict[str, str]]:
        """Return the ids of the DAGs in a folder, and the error of each file with one."""

    def dags_folder(self) -> Path | None:
        """Return the folder that Airflow reads DAGs from, None where DAG bundles are configured."""

    def plugin_faults(self) -> list[str]:
        """Return what keeps Airflow from showing the page."""


def examine(environ: Mapping[str, str], installation: Installation) -> Iterator[Check]:
    """Yield the outcome of each check, as soon as it is known.

    Args:
        environ: The variables that Airflow runs with.
        installation: What its Airflow knows.
    """
    yield _guarded("files", REINSTALL, _check_files)
    try:
        settings = load_settings(environ)
    except PingmeshError as error:
        advice = "Correct this variable; .env.example describes each one."
        yield from (Check("settings", "fault", masked(f), advice) for f in faults_of(error))
        unknown = "the settings have faults"
        yield from (Check(name, "skipped", unknown) for name in OF_THE_SETTINGS)
    else:
        detail = f"windows of {settings.window_s} s, bucket {settings.s3_bucket}"
        yield Check("settings", "ok", detail)
        yield from _check_configuration(settings, installation)
    yield from _check_dags(installation)
    yield from _check_dags_folder(installation)
    yield from _check_plugin(installation)


def masked(text: str) -> str:
    """Return a text without the user names and passwords of the URLs in it."""
    return re.sub(r"://[^/\s@'\"]*@", "://***@", text)


def _check_configuration(settings: Settings, installation: Installation) -> Iterator[Check]:
    store: ObjectStore | None = None
    reachable = False
    try:
        store = installation.open_store(settings)
        store.find(layout.alert_state())
        where = masked(store.access.endpoint or "AWS")
        yield Check("bucket", "ok", f"{settings.s3_bucket} at {where} answers")
        reachable = True
    except PingmeshError as error:
        advice = "Correct the connection pingmesh_s3 and PINGMESH_S3_ENDPOINT, or open the network."
        yield Check("bucket", "fault", _sentence(error), advice)
    yield from _check_inventory(settings, store if reachable else None)
    yield _check_login(settings, store, installation)
    yield _check_pool(settings, installation)
    yield _check_rules(settings, store if reachable else None)
    yield _check_channels(settings, installation)


def _check_login(settings: Settings, store: ObjectStore | None, installation: Installation) -> Check:
    if store is None:  # which has the pinned host keys
        return Check("ssh", "skipped", "the bucket cannot be opened")
    advice = "Correct the connections pingmesh_ssh and pingmesh_bootstrap, of type ssh."
    return _guarded("ssh", advice, lambda: installation.login(settings, store))


def _check_pool(settings: Settings, installation: Installation) -> Check:
    name = settings.ssh_pool
    pools = installation.pools()
    if pools is None:
        return Check("pool", "skipped", "Airflow's database cannot be read")
    if name in pools:
        return Check("pool", "ok", f"tasks that use SSH run in {name}")
    advice = f"Make it with `airflow pools set {name} SLOTS DESCRIPTION`, or unset PINGMESH_SSH_POOL."
    return Check("pool", "fault", f"there is no pool {name}: tasks that use SSH never start", advice)


def _check_rules(settings: Settings, store: ObjectStore | None) -> Check:
    if store is None:
        return Check("rules", "skipped", "the bucket cannot be opened")
    advice = "Correct the file that PINGMESH_RULES names, or unset the variable for the defaults."
    return _guarded("rules", advice, lambda: _rules(settings, store))


def _check_inventory(settings: Settings, store: ObjectStore | None) -> Iterator[Check]:
    if settings.inventory.startswith("s3://") and store is None:
        yield Check("inventory", "skipped", "it is in a bucket, and the bucket cannot be opened")
        yield Check("ping lists", "skipped", "the inventory is not known")
        return
    try:
        inventory = load_inventory(settings.inventory, read=store.read_uri if store else None)
    except PingmeshError as error:
        advice = "Correct the inventory; `pingmesh check-inventory` checks it again."
        yield from (Check("inventory", "fault", masked(f), advice) for f in faults_of(error))
        yield Check("ping lists", "skipped", "the inventory has faults")
        return
    yield Check("inventory", "ok", describe(inventory))
    yield _guarded(
        "ping lists",
        "Follow the message, or raise PINGMESH_BUDGET_PROBES_PER_S; see `pingmesh plan`.",
        lambda: _plan(inventory, settings),
    )


def describe(inventory: Inventory) -> str:
    """Return the size of an inventory in words."""
    hosts = inventory.hosts
    dcs, podsets = {host.dc for host in hosts}, {(host.dc, host.podset) for host in hosts}
    tors = {host.tor_key for host in hosts}
    place = (
        f" in {_count(len(dcs), 'DC')}, {_count(len(podsets), 'podset')}, {_count(len(tors), 'ToR')}"
        if inventory.has_topology
        else ", without topology"
    )
    return f"{_count(len(hosts), 'host')}{place}; {_count(len(inventory.log_servers), 'data server')}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _plan(inventory: Inventory, settings: Settings) -> str:
    plan_pinglists(inventory, probe_policy(settings), sources=[inventory.hosts[0].name])
    return f"within the budget of {settings.budget_probes_per_s} probes/s"


def _rules(settings: Settings, store: ObjectStore) -> str:
    read_rules(settings, store)
    return settings.rules or "the defaults"


def _check_files() -> str:
    from pingmesh_tasks.fleet.agents import AgentRelease
    from pingmesh_tasks.fleet.hook import HookSource

    return f"agent {AgentRelease.load().version}, hook {HookSource.load().sha256[:16]}"


def _check_channels(settings: Settings, installation: Installation) -> Check:
    try:
        on, off = installation.channels(settings)
    except PingmeshError as error:
        advice = "Correct the connection that the message names."
        return Check("notifications", "fault", _sentence(error), advice)
    reasons = [f"{name} is off: {masked(why)}" for name, why in off.items()]
    if on:
        return Check("notifications", "ok", "; ".join([f"by {', '.join(on)}", *reasons]))
    advice = "Define pingmesh_slack, pingmesh_smtp or pingmesh_webhook, or nobody is notified."
    return Check("notifications", "warning", "; ".join(reasons), advice)


def _check_dags(installation: Installation) -> Iterator[Check]:
    try:
        ids, errors = installation.parse_dags(bundled.files("dags"))
    except PingmeshError as error:
        yield Check("DAG files", "fault", _sentence(error), REINSTALL)
        return
    for file, error_text in sorted(errors.items()):
        advice = "Install the versions of the lock; if the file still fails, report it."
        yield Check("DAG files", "fault", f"{Path(file).name}: {masked(error_text)}", advice)
    missing = sorted(set(DAGS) - ids)
    if not errors and missing:
        yield Check("DAG files", "fault", f"no DAG {', '.join(missing)}", REINSTALL)
    if not errors and not missing:
        yield Check("DAG files", "ok", f"{len(ids)} DAGs in {bundled.files('dags')}")


def _check_dags_folder(installation: Installation) -> Iterator[Check]:
    folder = installation.dags_folder()
    if folder is None:
        detail = "Airflow reads DAG bundles; one of them must be `pingmesh dags-folder`"
        yield Check("DAGs folder", "ok", detail)
    elif (folder / "pingmesh.py").is_file():
        yield Check("DAGs folder", "ok", f"Airflow reads {folder}")
    else:
        advice = 'Set AIRFLOW__CORE__DAGS_FOLDER="$(pingmesh dags-folder)", or link the files there.'
        detail = f"Airflow reads {folder}, which has no pingmesh.py"
        yield Check("DAGs folder", "warning", detail, advice)


def _check_plugin(installation: Installation) -> Iterator[Check]:
    faults = installation.plugin_faults()
    for fault in faults:
        advice = "Install pingmesh-airflow with pip; keep no copy of its plugin in the plugins folder."
        yield Check("plugin", "fault", masked(fault), advice)
    if not faults:
        yield Check("plugin", "ok", "Airflow shows the page Pingmesh")


def _guarded(name: str, advice: str, look: Callable[[], str]) -> Check:
    """Return `ok` with what `look` says, or `fault` with what it raised."""
    try:
        return Check(name, "ok", masked(look()))
    except PingmeshError as error:
        return Check(name, "fault", _sentence(error), advice)


def _sentence(error: PingmeshError) -> str:
    return masked("; ".join(faults_of(error)))
