"""From Airflow to us: the one place that turns a run into a `Window`, with the accesses of
`connections`.

A task calls `current_run()` and hands the answer to a use case of `pipeline`; no use case asks Airflow for anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowSkipException
from pydantic import ValidationError

from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.orchestration.connections import bootstrap_access, open_store, ssh_access
from pingmesh_tasks.pipeline.run import Part, Run
from pingmesh_tasks.settings import Settings, load_settings
from pingmesh_tasks.windows import Window, last_complete_window, window_containing

#: Settings that a run's form may change.
FORM = ("inventory", "protocol", "max_failed_share", "shard_size")
#: Runs of windows older than this many lengths leave the agents alone, as a backfill does.
RECENT_WINDOWS = 3


def current_run(length_s: int | None = None) -> Run:
    """Return what the running task works on: window, Params, settings and the accesses that the connections give.

    Args:
        length_s: Length of the window in a DAG whose runs are not windows of the settings.

    Raises:
        ConfigError: The settings, the Params or a connection have faults; the message lists them.
    """
    context: Mapping[str, Any] = get_current_context()
    settings = load_settings()
    window = window_of(context["dag_run"], length_s or settings.window_s)
    store = open_store(settings)
    ssh = ssh_access(settings, store)
    params = {name: value for name, value in context["params"].items() if value is not None}
    return Run(
        window=window,
        settings=with_form(settings, params),
        store=store,
        ssh=ssh,
        bootstrap=bootstrap_access(ssh),
        only_hosts=tuple(params.get("hosts") or ()),
        dispatches=not is_past(context["dag_run"], window),
    )


def live_run() -> Run:
    """Return `current_run()`; skip the task in a run that looks back, which leaves the agents alone."""
    run = current_run()
    if not run.dispatches:
        raise AirflowSkipException("this run looks back: the agents are left alone")
    return run


def part_of(document: Mapping[str, str]) -> Part:
    """Return the part that an XCom holds."""
    return Part(**document)


def planned_part(task_id: str = "plan_pinglists") -> Part:
    """Return any part of the run's plan: each names the plan.

    The XCom is pulled: as an argument it would make the plan an upstream task, and a task that follows skipped shards
    would run.
    """
    parts: list[dict[str, str]] = get_current_context()["ti"].xcom_pull(task_ids=task_id)
    return part_of(parts[0])


@contextmanager
def skipped_on(*reasons: type[Exception]) -> Iterator[None]:
    """Skip the task where the block raises one of `reasons`, with its message."""
    try:
        yield
    except reasons as reason:
        raise AirflowSkipException(str(reason)) from None


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


def ui_url() -> str | None:
    """Return where Airflow's UI is, for the links of messages: `[api] base_url`, None where it is not set."""
    from airflow.sdk.configuration import conf

    return str(conf.get("api", "base_url", fallback="")).rstrip("/") or None
