"""The task that notifies, as Airflow runs it."""

from __future__ import annotations

from airflow.sdk.exceptions import AirflowFailException

from pingmesh_tasks.errors import NotificationError
from pingmesh_tasks.orchestration.channels import open_channels
from pingmesh_tasks.orchestration.context import current_run, ui_url
from pingmesh_tasks.pipeline.notify import notify


def notify_channels(run_id: str) -> dict[str, int]:
    """Run `pipeline.notify` for the running task; every try of the task sends under `run_id`.

    Raises:
        AirflowFailException: Every channel fails. Airflow does not retry: the outbox knows when to
            try again.
    """
    run = current_run()
    try:
        return notify(run, open_channels(run.settings), ui_url(), sender=run_id)
    except NotificationError as error:
        raise AirflowFailException(str(error)) from error
