"""Sensors: tasks that wait without holding a worker."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import BaseSensorOperator, Context

from pingmesh_tasks.windows import LEVELS_S

#: How long windows that are late are waited for; a run of longer ago does not wait.
PATIENCE = timedelta(minutes=15)


class HourSensor(BaseSensorOperator):
    """Waits until the windows of the run's hour are all there, or until PATIENCE after its end."""

    def __init__(self, **given: Any) -> None:
        super().__init__(mode="reschedule", poke_interval=30, timeout=4 * PATIENCE, **given)

    def poke(self, context: Context) -> bool:
        from pingmesh_tasks.orchestration.context import current_run
        from pingmesh_tasks.pipeline import rollups

        run = current_run(LEVELS_S["hour"])
        return datetime.now(UTC) > run.window.end + PATIENCE or rollups.is_ready(run)
