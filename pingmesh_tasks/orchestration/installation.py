"""What the Airflow of this machine knows of the package: for commands, outside of a task."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pingmesh_tasks.settings import Settings
from pingmesh_tasks.store.objects import ObjectStore

#: The bundle that stands for `[core] dags_folder`.
DEFAULT_BUNDLE = "dags-folder"
PLUGIN = "pingmesh"


def read_connections_of_the_database() -> None:
    """Let this process read connections as Airflow's servers do, from the database too.

    Outside of a task Airflow looks in the database only if this variable says that the process is
    a server; the command `airflow connections` sets it too. Only for a process that is a command.
    """
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"


class LocalInstallation:
    """The Airflow that this process can import, by its own configuration."""

    def open_store(self, settings: Settings) -> ObjectStore:
        """Return the object store that the connections give. Raises ConfigError."""
        from pingmesh_tasks.orchestration.connections import open_store

        return open_store(settings)

    def login(self, settings: Settings, store: ObjectStore) -> str:
        """Return the user and port of the connection `pingmesh_ssh`. Raises ConfigError."""
        from pingmesh_tasks.orchestration.connections import bootstrap_access, ssh_access

        access = ssh_access(settings, store)
        bootstrap_access(access)
        return f"{access.username} at port {access.port} of the hosts"

    def pools(self) -> set[str] | None:
        """Return the pools of Airflow, None where its database cannot be read."""
        from airflow.models.pool import Pool
        from sqlalchemy.exc import SQLAlchemyError

        try:
            return {str(pool.pool) for pool in Pool.get_pools()}
        except SQLAlchemyError:
            return None

    def channels(self, settings: Settings) -> tuple[list[str], Mapping[str, str]]:
        """Return the channels that are on, and those that are off with the reason."""
        from pingmesh_tasks.orchestration.channels import open_channels

        on, off = open_channels(settings)
        return [channel.name for channel in on], off

    def parse_dags(self, folder: Path) -> tuple[set[str], dict[str, str]]:
        """Return the ids of the DAGs in a folder, and the last line of each file's error."""
        from airflow.dag_processing.dagbag import DagBag

        bag: Any = DagBag(str(folder), collect_dags=False)
        for file in sorted(folder.glob("*.py")):
            bag.process_file(str(file))
        errors = {file: error.strip().splitlines()[-1] for file, error in bag.import_errors.items()}
        return set(bag.dags), errors

    def dags_folder(self) -> Path | None:
        """Return the folder that Airflow reads DAGs from, None where DAG bundles are configured."""
        from airflow.configuration import conf

        bundles = conf.getjson("dag_processor", "dag_bundle_config_list", fallback=None)
        names = [bundle.get("name") for bundle in bundles] if isinstance(bundles, list) else []
        if set(names) - {DEFAULT_BUNDLE}:
            return None
        return Path(conf.get_mandatory_value("core", "dags_folder")).expanduser()

    def plugin_faults(self) -> list[str]:
        """Return what keeps Airflow from showing the page."""
        from airflow import plugins_manager

        errors = [f"{source}: {error}" for source, error in plugins_manager.get_import_errors().items()]
        faults = [error for error in errors if PLUGIN in error]
        loaded = plugins_manager.get_plugin_info(["source"])
        if PLUGIN not in {plugin["name"] for plugin in loaded}:
            faults.append("Airflow has not loaded the plugin pingmesh")
        return faults


def open_local_store(settings: Settings) -> ObjectStore:
    """Return the object store for a command outside of a task. Raises ConfigError."""
    from pingmesh_tasks.orchestration.connections import open_store

    read_connections_of_the_database()
    return open_store(settings)
