"""Links of a message: the page, at what the message is about, and the form of `alert_admin`."""

from __future__ import annotations

from urllib.parse import urlsplit

from pingmesh_tasks.alerting.incident import Notification
from pingmesh_tasks.alerting.messages.message import Links
from pingmesh_tasks.alerting.outbox import ALARM
from pingmesh_tasks.store import layout


def links_of(notification: Notification, ui_url: str | None, heatmap: str | None = None) -> Links:
    """Return the links of a notification.

    Airflow's `/plugin/pingmesh/<path>#<view>` frames the page at `/<path>#<view>`; that path has
    Airflow's prefix too.

    Args:
        notification: The notification.
        ui_url: Where Airflow's UI is.
        heatmap: The key of the picture that the message shows.
    """
    if ui_url is None:
        return Links(object=heatmap)
    page = f"{ui_url}/plugin/pingmesh{urlsplit(ui_url).path}/pingmesh/"
    of_incident = "" if notification.source == ALARM else f"&inc={notification.incident}"
    return Links(
        page=f"{page}#tab=alarms{of_incident}",
        heatmap=f"{page}#w={layout.window_id_of(heatmap)}" if heatmap else None,
        object=heatmap,
        admin=f"{ui_url}/dags/alert_admin",
    )
