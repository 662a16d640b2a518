"""Where a reader of a message can go on: the page, at what the message speaks of, and the form. Pure."""

from __future__ import annotations

from urllib.parse import urlsplit

from pingmesh_tasks.alerting.incident import Notice
from pingmesh_tasks.alerting.messages.message import Links
from pingmesh_tasks.alerting.outbox import ALARM
from pingmesh_tasks.store import layout


def links_of(notice: Notice, ui_url: str | None, heatmap: str | None = None) -> Links:
    """Return the links of a notice. `ui_url` is where Airflow's UI is, `heatmap` the key of the message's picture.

    Airflow's `/plugin/pingmesh/<path>#<view>` frames the page at `/<path>#<view>`; that path has Airflow's prefix too.
    """
    if ui_url is None:
        return Links(object=heatmap)
    page = f"{ui_url}/plugin/pingmesh{urlsplit(ui_url).path}/pingmesh/"
    return Links(
        page=f"{page}#tab=alarms" + ("" if notice.source == ALARM else f"&inc={notice.incident}"),
        heatmap=f"{page}#w={layout.window_id_of(heatmap)}" if heatmap else None,
        object=heatmap,
        admin=f"{ui_url}/dags/alert_admin",
    )
