"""What every task of every DAG has unless it says otherwise, and the Params that more than one form offers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import CronDataIntervalTimetable, Param

from pingmesh_tasks.orchestration.retry import RETRY_POLICY
from pingmesh_tasks.windows import cron

OWNER = "network"
#: Most mapped instances of one task at a time, over all runs of the DAG: of the 16 tasks that Airflow lets a DAG run at
#: once, a backfill of a large fleet leaves half to the scheduled run. A shard's tables take up to 250 MB.
MAPPED_AT_ONCE = 8

DEFAULT_ARGS: dict[str, Any] = {
    "owner": OWNER,
    "retries": 2,
    "retry_delay": timedelta(seconds=10),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=2),
    "retry_policy": RETRY_POLICY,
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
