"""What every task of every DAG has unless it says otherwise, and the Params that more than one form offers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param

OWNER = "network"

DEFAULT_ARGS: dict[str, Any] = {
    "owner": OWNER,
    "retries": 2,
    "retry_delay": timedelta(seconds=10),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=2),
    "execution_timeout": timedelta(minutes=10),
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
