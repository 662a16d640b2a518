"""The FastAPI app that Airflow mounts: who may ask, how many at a time, and what goes wrong in which words."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from pingmesh_tasks.errors import ConfigError, PingmeshError, StoreError
from pingmesh_tasks.queries.page import Page
from pingmesh_tasks.queries.refusal import NoAnswer
from pingmesh_ui import api, wire
from pingmesh_ui.static_files import StaticFiles

log = logging.getLogger(__name__)
T = TypeVar("T")
DAG_ID = "pingmesh"
#: Answers worked out at a time, so that neither memory nor Airflow's own requests suffer; and how many may wait.
MOST_AT_ONCE, MOST_WAITING = 2, 64
#: A store is opened anew after so long: credentials of a connection may have changed.
REOPEN_S = 300.0
TIDY_S = 1.0
_TRIM: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl needs none


class Busy(Exception):
    """Too many requests wait already."""


class Desk:
    """Works answers out in threads, a few at a time, on a page that is opened when it is first needed."""

    def __init__(self, open_page: Callable[[], Page]) -> None:
        self._open_page = open_page
        self._page: Page | None = None
        self._until = 0.0
        self._lock = threading.Lock()
        self._limiter: CapacityLimiter | None = None
        self.waiting = 0
        self._tidying = False

    async def run(self, work: Callable[[Page], T]) -> T:
        """Return what `work` makes of the page. Raises Busy, PingmeshError."""
        if self.waiting >= MOST_WAITING:
            raise Busy
        self._limiter = self._limiter or CapacityLimiter(MOST_AT_ONCE)
        self.waiting += 1
        try:
            return await anyio.to_thread.run_sync(lambda: work(self._current()), limiter=self._limiter)
        finally:
            self.waiting -= 1
            self._tidy_up_soon()

    def _tidy_up_soon(self) -> None:
        """Give freed matrices back to the system: the C library keeps them, for each thread, and memory would grow."""
        if not self._tidying:
            self._tidying = True
            asyncio.get_running_loop().call_later(TIDY_S, self._tidy_up)

    def _tidy_up(self) -> None:
        self._tidying = False
        if _TRIM is not None:
            asyncio.get_running_loop().run_in_executor(None, _TRIM, 0)

    def _current(self) -> Page:
        with self._lock:
            if self._page is None or time.monotonic() > self._until:
                opened = self._open_page()
                if self._page is None or opened.store.access != self._page.store.access:
                    self._page = opened
                self._until = time.monotonic() + REOPEN_S
            return self._page


def create_app(
    open_page: Callable[[], Page],
    guards: Sequence[Any],
    host: api.PageHost,
    static: StaticFiles | None = None,
) -> FastAPI:
    """Return the app. `guards` are dependencies that every route has; `host` says what only Airflow knows."""
    app = FastAPI(
        title="Pingmesh page", version="1", docs_url=None, redoc_url=None, openapi_url=None, dependencies=list(guards)
    )
    app.state.desk, app.state.host, app.state.static = Desk(open_page), host, static or StaticFiles()
    app.include_router(api.router, prefix="/api/v1")
    app.include_router(api.lists, prefix="/api/v1")
    app.include_router(api.pages)
    app.add_middleware(wire.StrictHeaders)
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)
    return app


def airflow_app() -> FastAPI:
    """Return the app as Airflow's api-server mounts it: its login, and the right to read the DAG."""
    from airflow.api_fastapi.core_api.security import requires_access_dag

    from pingmesh_ui import airflow_host

    guards = [Depends(airflow_host.remember_user), Depends(requires_access_dag("GET", param_dag_id=DAG_ID))]
    return create_app(airflow_host.open_page, guards, airflow_host.AirflowHost())


async def _no_answer(_: Request, error: NoAnswer) -> Response:
    return wire.failure(400 if error.code == "bad_parameter" else 404, error.code, str(error))


async def _bad_parameter(_: Request, error: RequestValidationError | ValidationError) -> Response:
    told = "; ".join(f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in error.errors())
    return wire.failure(400, "bad_parameter", told[:1_000])


async def _bad_question(_: Request, error: PingmeshError) -> Response:
    return wire.failure(400, "bad_parameter", str(error))


async def _no_store(_: Request, error: StoreError) -> Response:
    log.warning("the object store did not answer: %s", error)
    return wire.failure(503, "no_store", f"the object store did not answer: {error}", {"Retry-After": "5"})


async def _not_set_up(_: Request, error: ConfigError) -> Response:
    return wire.failure(503, "not_set_up", str(error), {"Retry-After": "30"})


async def _busy(_: Request, __: Busy) -> Response:
    return wire.failure(503, "busy", "too many requests wait already; ask again in a second", {"Retry-After": "1"})


async def _http(_: Request, error: HTTPException) -> Response:
    codes = {401: "not_logged_in", 403: "forbidden", 404: "no_such_route", 405: "read_only"}
    return wire.failure(error.status_code, codes.get(error.status_code, "refused"), str(error.detail), error.headers)


async def _broken(request: Request, error: Exception) -> Response:
    log.error("%s failed", request.url.path, exc_info=error)
    return wire.failure(500, "broken", "this should not have happened; the api-server's log says what did")


_HANDLERS: dict[type[Exception], Callable[[Request, Any], Awaitable[Response]]] = {
    NoAnswer: _no_answer,
    RequestValidationError: _bad_parameter,
    ConfigError: _not_set_up,
    StoreError: _no_store,
    PingmeshError: _bad_question,
    Busy: _busy,
    HTTPException: _http,
    Exception: _broken,
}
