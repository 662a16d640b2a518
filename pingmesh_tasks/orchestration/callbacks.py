"""What Airflow calls back: a run of a DAG of windows that misses its deadline opens an incident.

    @dag(deadline=late_data_alert(settings), …)

The callback runs in the triggerer, whose event loop it must not hold up: everything that waits does
so in a thread. DAG files and the triggerer read this module, so it imports what it needs when
called.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import AsyncCallback, DeadlineAlert, DeadlineReference  # type: ignore[attr-defined]  # not in its stub

from pingmesh_tasks.settings import Settings


def late_data_alert(settings: Settings, allowed: timedelta | None = None) -> DeadlineAlert:
    """Return the deadline of a run: `allowed` (None: two windows) after it was queued."""
    allowed = allowed or timedelta(seconds=2 * settings.window_s)
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=allowed,
        callback=AsyncCallback(notify_late_data, {"allowed_s": allowed.total_seconds()}),
    )


async def notify_late_data(allowed_s: float, context: Mapping[str, Any] | None = None) -> str:
    """Open and notify the incident of a DAG whose run missed its deadline.

    Returns:
        What happened, for the log.
    """
    run: Mapping[str, Any] = (context or {}).get("dag_run") or {}
    dag_id, run_id = str(run.get("dag_id") or "a DAG"), str(run.get("dag_run_id") or "?")
    return await asyncio.to_thread(_notify_late_data, dag_id, run_id, allowed_s)


def _notify_late_data(dag_id: str, run_id: str, allowed_s: float) -> str:
    from pingmesh_tasks.alerting.messages.wording import LATE_DATA
    from pingmesh_tasks.orchestration.channels import open_channels
    from pingmesh_tasks.orchestration.connections import open_store
    from pingmesh_tasks.orchestration.context import ui_url
    from pingmesh_tasks.pipeline import late_data
    from pingmesh_tasks.settings import load_settings

    settings, now = load_settings(), datetime.now(UTC)
    return late_data.notify_late_data(
        open_store(settings),
        open_channels(settings),
        late_data.late_data_finding(dag_id, run_id, allowed_s, now),
        now,
        window_s=settings.window_s,
        sender=f"{LATE_DATA} {dag_id} {run_id}",
        ui_url=ui_url(),
    )
