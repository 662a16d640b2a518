"""Which failures of a task are worth another try.

A network that is down may be up a minute later, so that is retried as `DEFAULT_ARGS` say. What an operator has to fix
fails at once: minutes of retries would only delay the alarm, and a refused login may lock an account.
"""

from __future__ import annotations

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule

from pingmesh_tasks.errors import (
    ConfigError,
    InventoryError,
    PinglistError,
    RetentionError,
    StoreAuthError,
)

RETRY_POLICY = ExceptionRetryPolicy(
    [
        RetryRule(
            [ConfigError, InventoryError, PinglistError, RetentionError],
            RetryAction.FAIL,
            reason="the configuration has to be changed first",
        ),
        RetryRule(
            StoreAuthError,
            RetryAction.FAIL,
            reason="the object store refused the credentials; check the connection pingmesh_s3",
        ),
    ]
)
