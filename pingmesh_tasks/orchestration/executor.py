"""Airflow's LocalExecutor, of which a task can be taken back that its worker never began.

A worker that is killed after it took a task and before it began leaves that task queued. Airflow takes such tasks back
after `[scheduler] task_queued_timeout`, from executors that can give them up; LocalExecutor (3.3) cannot, so the run
hangs until its time-out, and with it a DAG that runs once at a time. To be used as

    [core] executor = pingmesh_tasks.orchestration.executor.RevocableLocalExecutor
"""

from __future__ import annotations

from airflow.executors.local_executor import LocalExecutor
from airflow.models.taskinstance import TaskInstance


class RevocableLocalExecutor(LocalExecutor):
    def revoke_task(self, *, ti: TaskInstance) -> None:
        """Forget a task. Should a worker have it yet, the API lets only one of two begin."""
        self.queued_tasks.pop(ti.key, None)
        self.running.discard(ti.key)
