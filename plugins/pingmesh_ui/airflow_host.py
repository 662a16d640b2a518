"""What the page asks of Airflow: the store's connection, who is logged in, when the DAG runs next, a run's window."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import GetUserDep
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from sqlalchemy import select
from starlette.requests import Request

from pingmesh_tasks.queries.page import Page
from pingmesh_tasks.queries.refusal import NoAnswer
from pingmesh_tasks.settings import load_settings

DAG_ID = "pingmesh"


def remember_user(request: Request, user: GetUserDep) -> None:
    """Dependency: let in only who is logged in (401), and keep who it is for the routes."""
    request.state.pingmesh_user = user


def open_page() -> Page:
    """Return the page of the store that settings and connections name. Raises ConfigError."""
    from pingmesh_tasks.orchestration.connections import open_store

    settings = load_settings()
    return Page(open_store(settings), settings)


class AirflowHost:
    """Answers from Airflow's database, for a user who may read the DAG."""

    def user_name(self, request: Request) -> str:
        user = getattr(request.state, "pingmesh_user", None)
        return str(user.get_name()) if user else ""

    def schedule(self) -> dict[str, Any]:
        with create_session() as session:
            row = session.execute(
                select(DagModel.is_paused, DagModel.next_dagrun_create_after).where(DagModel.dag_id == DAG_ID)
            ).first()
        if row is None:
            return {"paused": None, "next_run_after": None}
        return {"paused": bool(row[0]), "next_run_after": f"{row[1]:%Y%m%dT%H%M%SZ}" if row[1] else None}

    def window_of_run(self, request: Request, dag_id: str, run_id: str) -> str:
        from pingmesh_tasks.orchestration.context import window_of

        user = request.state.pingmesh_user
        allowed = get_auth_manager().is_authorized_dag(
            method="GET", access_entity=DagAccessEntity.RUN, details=DagDetails(id=dag_id), user=user
        )
        with create_session() as session:
            found = allowed and session.scalar(select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))
            if not found:
                raise NoAnswer("no_run", "there is no such run, or you may not see it")
            return window_of(found, load_settings().window_s).id
