"""What every task of every DAG has unless it says otherwise, and the Params that more than one form offers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import CronDataIntervalTimetable, Param

from pingmesh_tasks.windows import cron

OWNER = "network"

DEFAULT_ARGS: dict[str, Any] = {
    "owner": OWNER,
    "retries": 2,
    "retry_delay": timedelta(seconds=10),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=2),
    "execution_timeout": timedelta(minutes=10),
}


def every_window(length_s: int) -> CronDataIntervalTimetable:
    """Return the schedule of a DAG whose runs are the windows: at the end of each, with it as data interval."""
    return CronDataIntervalTimetable(cron(length_s), timezone="UTC")


#: The other arguments of such a DAG: one window after the other, past ones by backfill only.
ONE_BY_ONE: dict[str, Any] = {
    "start_date": datetime(2026, 1, 1, tzinfo=UTC),
    "catchup": False,
    "max_active_runs": 1,
    "dagrun_timeout": timedelta(hours=1),
    "default_args": DEFAULT_ARGS,
}

INVENTORY_PARAM = Param(
    None,
    type=["null", "string"],
    title="Inventory",
    description="Path or s3:// URI of another inventory than PINGMESH_INVENTORY, for this run.",
)
HOSTS_PARAM = Param(
    [],
    type="array",
    items={"type": "string"},
    uniqueItems=True,
    title="Hosts",
    description="Names of the hosts to touch in this run; none means all. Tables and pictures show the whole mesh.",
)
