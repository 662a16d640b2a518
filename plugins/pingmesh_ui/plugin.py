"""Airflow's navigation gets an entry "Pingmesh", and every DAG run a tab: the page at that run's window.

Every Airflow process loads this file, each task's too, so it imports nothing; only the api-server asks for
`fastapi_apps`, and only there the page is built.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from airflow.plugins_manager import AirflowPlugin

PREFIX = "/pingmesh"


class PingmeshPlugin(AirflowPlugin):
    """The page. Links are relative, so that Airflow may live under any prefix."""

    name = "pingmesh"
    external_views = [  # noqa: RUF012  # Airflow wants lists
        {
            "name": "Pingmesh",
            "href": "pingmesh/",
            "destination": "nav",
            "url_route": "pingmesh",
            "nav_top_level": True,
            "icon": "pingmesh/static/@/icon.svg",
        },
        {
            "name": "Pingmesh",
            "href": "pingmesh/run/{DAG_ID}/{RUN_ID}",
            "destination": "dag_run",
            "url_route": "pingmesh-run",
        },
    ]

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        from pingmesh_ui.app import airflow_app

        return [{"app": airflow_app(), "url_prefix": PREFIX, "name": "Pingmesh"}]
