"""What the demo's and Compose's executor can, and Airflow's own cannot."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from airflow.configuration import conf
from airflow.executors.executor_loader import ExecutorLoader
from airflow.executors.local_executor import LocalExecutor

from pingmesh_tasks.demo.airflow import EXECUTOR
from pingmesh_tasks.orchestration.executor import RevocableLocalExecutor

TASK = SimpleNamespace(key=("pingmesh", "render_timeline", "scheduled__2026-11-22T11:23:00+00:00", 3, -1))


def test_a_task_whose_worker_was_killed_before_it_began_is_given_up():
    executor = RevocableLocalExecutor(parallelism=2)
    executor.running.add(TASK.key)
    executor.revoke_task(ti=TASK)
    assert not executor.running
    assert executor.slots_available == 2
    executor.revoke_task(ti=TASK)  # one that is not known is no fault


def test_airflows_own_cannot_give_it_up_yet():
    """When this fails, ours may go."""
    with pytest.raises(NotImplementedError):
        LocalExecutor(parallelism=2).revoke_task(ti=TASK)


def test_airflow_finds_it_under_the_name_that_the_demo_sets(monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", EXECUTOR)
    assert conf.get("core", "executor") == EXECUTOR
    assert ExecutorLoader.load_executor(EXECUTOR).__class__ is RevocableLocalExecutor
