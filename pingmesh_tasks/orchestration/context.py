"""From Airflow to us: the one place that turns a run into a `Window`, and connections into accesses.

A task calls `current_run()` and hands the answer to a stage; no stage asks Airflow for anything.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow.sdk import Connection, get_current_context
from airflow.sdk.exceptions import AirflowNotFoundException
from pydantic import ValidationError

from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.fleet.connect import SshAccess
from pingmesh_tasks.pipeline.mesh import Run
from pingmesh_tasks.settings import Settings, load_settings
from pingmesh_tasks.store.objects import ObjectStore, S3Access
from pingmesh_tasks.windows import Window, last_complete_window, window_containing

SSH, BOOTSTRAP, S3 = "pingmesh_ssh", "pingmesh_bootstrap", "pingmesh_s3"
#: Settings that a run's form may change.
FORM = ("inventory", "protocol", "max_failed_share", "shard_size")
#: Runs of windows older than this many lengths leave the agents alone, as a backfill does.
RECENT_WINDOWS = 3


def current_run(length_s: int | None = None) -> Run:
    """Return what the running task works on: window, Params, settings and the accesses that the connections give.

    The window is as long as the settings say, or `length_s`, in a DAG whose runs are of other lengths.
    """
    context: Mapping[str, Any] = get_current_context()
    settings = load_settings()
    window = window_of(context["dag_run"], length_s or settings.window_s)
    params = {name: value for name, value in context["params"].items() if value is not None}
    return Run(
        window=window,
        settings=with_form(settings, params),
        store=open_store(settings),
        ssh=ssh_access(settings, SSH),
        bootstrap=ssh_access(settings, BOOTSTRAP) if find_connection(BOOTSTRAP) else None,
        only_hosts=tuple(params.get("hosts") or ()),
        dispatches=not is_past(context["dag_run"], window),
    )


def with_form(settings: Settings, params: Mapping[str, Any]) -> Settings:
    """Return the settings with what a form may change. Raises ConfigError for a value that cannot be.

    A run's conf can hold anything, and becomes Params: who may trigger a DAG must not move the agents' home or keys.
    """
    given = settings.model_dump() | {name: params[name] for name in FORM if name in params}
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        raise ConfigError(f"the run's Params have faults: {error}") from None


def window_of(dag_run: Any, length_s: int) -> Window:
    """Return the window of a run: that of its data interval, else the last one complete before `run_after`.

    Asset-triggered runs and those triggered without a logical date have no interval.
    """
    if dag_run.data_interval_start is not None:
        return window_containing(dag_run.data_interval_start, length_s)
    return last_complete_window(dag_run.run_after, length_s)


def is_past(dag_run: Any, window: Window) -> bool:
    """Whether a run only looks back: a backfill, or any run of a window that is over for long."""
    age_s = (datetime.now(UTC) - window.end).total_seconds()
    return dag_run.run_type == "backfill" or age_s > RECENT_WINDOWS * window.length_s


def open_store(settings: Settings) -> ObjectStore:
    """Return the object store: key pair from the connection `pingmesh_s3`, else from the environment."""
    connection = find_connection(S3)
    login = connection.login if connection else os.environ.get("AWS_ACCESS_KEY_ID")
    password = connection.password if connection else os.environ.get("AWS_SECRET_ACCESS_KEY")
    if not login or not password:
        raise ConfigError(
            f"no credentials for the object store; define the Airflow connection {S3!r} (type aws: login and password "
            "are the key pair) or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    endpoint = settings.s3_endpoint or (connection.extra_dejson.get("endpoint_url") if connection else None)
    return ObjectStore(S3Access(settings.s3_bucket, login, password, endpoint, settings.s3_region))


def ssh_access(settings: Settings, connection_id: str) -> SshAccess:
    """Return who we are on the hosts, by an SSH connection.

    Extra `key_file` names a private key of yours, `known_hosts` a file of yours; without them both are kept in
    `PINGMESH_SSH_DIR`, where `ensure_keys` makes the first and fills the second.
    """
    connection = find_connection(connection_id)
    if connection is None:
        raise ConfigError(f"define the Airflow connection {connection_id!r} (type ssh: login is the user on the hosts)")
    if not connection.login:
        raise ConfigError(f"the Airflow connection {connection_id!r} has no login: the user on the hosts")
    extra = connection.extra_dejson
    return SshAccess(
        username=connection.login,
        port=connection.port or 22,
        password=connection.password or None,
        private_key=Path(extra.get("key_file") or settings.ssh_dir / "id_ed25519").expanduser(),
        known_hosts=Path(extra.get("known_hosts") or settings.ssh_dir / "known_hosts").expanduser(),
    )


def ui_url() -> str | None:
    """Return where Airflow's UI is, for the links of messages: `[api] base_url`, None where it is not set."""
    from airflow.sdk.configuration import conf

    return str(conf.get("api", "base_url", fallback="")).rstrip("/") or None


def find_connection(connection_id: str) -> Any:
    """Return an Airflow connection, or None where there is none."""
    try:
        return Connection.get(connection_id)
    except AirflowNotFoundException:
        return None
