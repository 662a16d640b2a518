"""The page's app under a real web server, on loopback, with another login than Airflow's."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request
from pingmesh_ui.app import create_app

from pingmesh_tasks.queries.page import Page
from pingmesh_tasks.queries.refusal import NoAnswer
from pingmesh_tasks.settings import load_settings
from pingmesh_tasks.store.objects import ObjectStore

TOKEN = "let-me-in"


class QuietHost:
    """What Airflow would say."""

    def user_name(self, request: Request) -> str:
        return "alice"

    def schedule(self) -> dict[str, Any]:
        return {"paused": False, "next_run_after": "20261121T222000Z"}

    def window_of_run(self, request: Request, dag_id: str, run_id: str) -> str:
        if run_id != "scheduled__2026-11-21T22:10:00+00:00":
            raise NoAnswer("no_run", "there is no such run, or you may not see it")
        return "20261121T220500Z"


def check_token(request: Request) -> None:
    given = request.headers.get("authorization", "")
    if not given:
        raise HTTPException(401, "Not authenticated")
    if given != f"Bearer {TOKEN}":
        raise HTTPException(403, "Forbidden")


def page_app(store: ObjectStore, window_s: int = 300) -> FastAPI:
    settings = load_settings(
        {"PINGMESH_INVENTORY": "unused", "PINGMESH_WINDOW_S": str(window_s), "PINGMESH_LEASE_S": str(3 * window_s)}
    )
    return create_app(lambda: Page(store, settings), [Depends(check_token)], QuietHost())


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serve `app` until the block ends; yields its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + 30
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(30)
