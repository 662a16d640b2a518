"""What every task of every DAG has unless it says otherwise."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

OWNER = "network"

DEFAULT_ARGS: dict[str, Any] = {
    "owner": OWNER,
    "retries": 2,
    "retry_delay": timedelta(seconds=10),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=2),
    "execution_timeout": timedelta(minutes=10),
}
