"""What Airflow calls back: a run of a DAG of windows that misses its deadline is an alarm.

    @dag(deadline=late_data_alert(settings), …)

The callback runs in the triggerer, whose event loop it must not hold up: everything that waits does so in a thread.
DAG files and the triggerer read this module, so it imports what it needs when it is called.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import AsyncCallback, DeadlineAlert, DeadlineReference  # type: ignore[attr-defined]  # not in its stub

from pingmesh_tasks.settings import Settings


def late_data_alert(settings: Settings, allowed: timedelta | None = None) -> DeadlineAlert:
    """Return the deadline of a run: so long (None: two windows) after it was queued its data are late."""
    allowed = allowed or timedelta(seconds=2 * settings.window_s)
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=allowed,
        callback=AsyncCallback(tell_late_data, {"allowed_s": allowed.total_seconds()}),
    )


async def tell_late_data(allowed_s: float, context: Mapping[str, Any] | None = None) -> str:
    """Open the incident of a DAG whose run missed its deadline and tell it; return what happened, for the log."""
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
    channels, off = open_channels(settings)
    return late_data.tell_late(
        open_store(settings),
        channels,
        off,
        late_data.late_data(dag_id, run_id, allowed_s, now),
        now,
        window_s=settings.window_s,
        sender=f"{LATE_DATA} {dag_id} {run_id}",
        ui_url=ui_url(),
    )
