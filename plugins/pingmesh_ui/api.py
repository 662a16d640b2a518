"""The routes: what may be asked, in which limits.

`API.md` says what the answers are; the work is done in `pingmesh_tasks.page`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Protocol

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import RedirectResponse, Response

from pingmesh_tasks.maps.codes import METRICS
from pingmesh_tasks.page.errors import NoAnswer
from pingmesh_tasks.page.matrix import MOST_LOD
from pingmesh_tasks.page.page import LEVELS, Page
from pingmesh_ui import static_files, wire

router = APIRouter()
pages = APIRouter(include_in_schema=False)

JSON, CSV, MATRIX = "application/json", "text/csv; charset=utf-8", "application/vnd.pingmesh.matrix"
MOST_DAYS = 31

Moment = Annotated[str, Field(pattern=r"^\d{8}T\d{6}Z$", description="Like 20261121T220500Z")]
Version = Annotated[str, Field(pattern=r"^[0-9a-f]{12}$", description="A window's `v`: the answer may be kept forever")]
Name = Annotated[str, Field(min_length=1, max_length=200)]
MetricName = Literal["p50", "p90", "p99", "max", "jitter", "loss", "unanswered", "sent"]
LevelName = Literal["window", "hour", "day"]


class Host(Protocol):
    """What only Airflow knows."""

    def user_name(self, request: Request) -> str: ...

    def schedule(self) -> dict[str, Any]:
        """Return `paused` and `next_run_after` of the DAG, nulls where they are unknown."""
        ...

    def window_of_run(self, request: Request, dag_id: str, run_id: str) -> str:
        """Return the id of the window that a DAG run is of. Raises NoAnswer."""
        ...


class Strict(BaseModel):
    """Parameters of a query; one that is not known is refused, so that a misspelt limit is seen."""

    model_config = ConfigDict(extra="forbid")


class Windows(Strict):
    level: LevelName = "window"
    from_: Moment | None = Field(None, alias="from")
    to: Moment | None = None
    limit: int = Field(2_016, ge=1, le=4_032)
    format: Literal["json", "csv"] = "json"
    download: bool = False


class MatrixQuery(Strict):
    window: Moment
    metric: MetricName = "p50"
    lod: int = Field(0, ge=0, le=MOST_LOD)
    pool: Literal["max", "mean"] = "max"
    level: LevelName = "window"
    v: Version | None = None


assert set(METRICS) == set(MetricName.__args__)  # type: ignore[attr-defined]  # noqa: S101


@router.get("/boot")
async def boot(request: Request) -> Response:
    """What the page needs before it can ask for anything else."""
    state = request.app.state
    found = await state.desk.run(lambda page: page.boot() | {"schedule": state.host.schedule()})
    empty = None if found["newest"] else {"code": "no_data", "message": "no window has a map yet"}
    found |= {"user": state.host.user_name(request), "empty": empty}
    return wire.answer(request, wire.json_bytes(found), JSON)


@router.get("/windows")
async def windows(request: Request, query: Annotated[Windows, Query()]) -> Response:
    """The windows that have a map."""
    _check_level(query.level)
    start, end = _moment(query.from_), _moment(query.to)
    if start and (end or datetime.now(UTC)) - start > timedelta(days=MOST_DAYS):
        raise NoAnswer("too_long", f"ask for {MOST_DAYS} days at most")
    found = await request.app.state.desk.run(lambda page: page.windows(start, end, query.limit))
    return _table(request, found, "windows", ["id", "v"], query)


@router.get("/axis/{plan}")
async def axis(request: Request, plan: Annotated[str, Path(pattern=r"^[0-9a-f]{8,64}$")]) -> Response:
    """The order of rows and columns of a plan."""
    found = await request.app.state.desk.run(lambda page: {**page.axis(plan).document(), "plan": plan})
    return wire.answer(request, wire.json_bytes(found), JSON, forever=True)


@router.get("/matrix")
async def matrix(request: Request, query: Annotated[MatrixQuery, Query()]) -> Response:
    """One metric of one window as codes."""
    _check_level(query.level)

    def work(page: Page) -> Response:
        at = page.window(query.window)
        tag = f"{at.version}-{query.metric}-{query.lod}-{query.pool}"
        return wire.answer(
            request,
            lambda: page.matrix(at, query.metric, query.lod, query.pool),
            MATRIX,
            tag=tag,
            forever=query.v == at.version,
        )

    answer: Response = await request.app.state.desk.run(work)
    return answer


@pages.get("/")
async def index(request: Request) -> Response:
    return wire.answer(request, request.app.state.static.index(), "text/html; charset=utf-8")


@pages.get("/static/{version}/{name:path}")
async def static(request: Request, version: str, name: str) -> Response:
    files: static_files.StaticFiles = request.app.state.static
    data = files.read(name)
    if data is None:
        raise NoAnswer("no_file", "there is no such file")
    return wire.answer(request, data, static_files.type_of(name), forever=version == files.version)


@pages.get("/run/{dag_id}/{run_id:path}")
async def run(request: Request, dag_id: str, run_id: str) -> Response:
    """From a DAG run to the page at its window."""
    host: Host = request.app.state.host
    window = await request.app.state.desk.run(lambda page: host.window_of_run(request, dag_id, run_id))
    return RedirectResponse(f"../../?window={window}", 303)


@pages.get("/api/v1/openapi.json")
async def openapi(request: Request) -> Response:
    return wire.answer(request, wire.json_bytes(request.app.openapi()), JSON)


@pages.get("/{path:path}")
async def nothing(path: str) -> Response:
    raise NoAnswer("no_such_route", "there is nothing here; the page is at the root, its API under api/v1")


def _table(request: Request, found: dict[str, Any], rows: str, columns: list[str], query: Any) -> Response:
    """Return an answer whose list `rows` may be asked for as a file."""
    name = f"pingmesh-{rows}.{query.format}" if query.download else None
    if query.format == "csv":
        return wire.answer(request, wire.csv_bytes(found[rows], columns), CSV, filename=name)
    return wire.answer(request, wire.json_bytes(found), JSON, filename=name)


def _check_level(level: str) -> None:
    if level not in LEVELS:
        raise NoAnswer("no_level", f"there are no {level}s yet: windows are all that is kept; ask with level=window")


def _moment(text: str | None) -> datetime | None:
    return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC) if text else None
