"""Which failures are tried again."""

from __future__ import annotations

from datetime import timedelta

import pytest
from airflow.sdk import RetryAction

from pingmesh_tasks.errors import (
    ConfigError,
    FleetError,
    InventoryError,
    PinglistError,
    PingmeshError,
    RetentionError,
    StoreAuthError,
    StoreError,
)
from pingmesh_tasks.orchestration.defaults import DEFAULT_ARGS, ONE_BY_ONE
from pingmesh_tasks.orchestration.retry import RETRY_POLICY


def decision(error: BaseException) -> RetryAction:
    return RETRY_POLICY.evaluate(error, try_number=1, max_tries=2).action


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("PINGMESH_WINDOW is not a setting"),
        InventoryError("hosts.csv", ["line 3: no address"]),
        PinglistError("over the budget"),
        RetentionError("too much"),
        StoreAuthError("403"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_an_operator_has_to_change_fails_at_once(error):
    assert decision(error) == RetryAction.FAIL


@pytest.mark.parametrize(
    "error",
    [StoreError("down"), FleetError("many hosts"), TimeoutError(), ConnectionError(), PingmeshError("?"), ValueError()],
    ids=lambda error: type(error).__name__,
)
def test_everything_else_is_retried_as_the_task_says(error):
    assert decision(error) == RetryAction.DEFAULT


def test_the_reason_is_told():
    assert "configuration" in str(RETRY_POLICY.evaluate(ConfigError(""), 1, 2).reason)
    assert "pingmesh_s3" in str(RETRY_POLICY.evaluate(StoreAuthError(""), 1, 2).reason)


def test_the_policy_survives_the_serialization_of_a_dag():
    again = type(RETRY_POLICY).deserialize(RETRY_POLICY.serialize())
    assert again.evaluate(InventoryError("x", []), 1, 2).action == RetryAction.FAIL
    assert again.evaluate(StoreError(""), 1, 2).action == RetryAction.DEFAULT


def test_every_task_has_it_by_default():
    assert DEFAULT_ARGS["retry_policy"] is RETRY_POLICY
    assert DEFAULT_ARGS["retries"] == 2


def test_every_task_waits_longer_before_each_retry_two_minutes_at_most():
    assert DEFAULT_ARGS["retry_delay"] == timedelta(seconds=10)
    assert DEFAULT_ARGS["max_retry_delay"] == timedelta(minutes=2)
    assert DEFAULT_ARGS["retry_exponential_backoff"] == 2.0
    assert DEFAULT_ARGS["execution_timeout"] == timedelta(minutes=10)
    assert (DEFAULT_ARGS["owner"], ONE_BY_ONE["max_active_runs"], ONE_BY_ONE["catchup"]) == ("network", 1, False)
    assert ONE_BY_ONE["dagrun_timeout"] == timedelta(hours=1)
