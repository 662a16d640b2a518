"""The routes: what may be asked, in which limits.

`API.md` says what the answers are; the work is done in `pingmesh_tasks.page`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Protocol

from fastapi import APIRouter, Path, Query, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError
from starlette.responses import RedirectResponse, Response

from pingmesh_tasks.matrix.codes import ALL_METRICS
from pingmesh_tasks.queries import group_series as from_groups
from pingmesh_tasks.queries import pairs as from_pairs
from pingmesh_tasks.queries import table_lists as from_tables
from pingmesh_tasks.queries import worst as from_worst
from pingmesh_tasks.queries.matrix_frame import MOST_LOD
from pingmesh_tasks.queries.page import Page
from pingmesh_tasks.queries.refusal import NoAnswer
from pingmesh_tasks.queries.window_index import MapWindow
from pingmesh_tasks.store.schemas import SCHEMAS
from pingmesh_ui import static_files, wire

JSON, CSV, MATRIX = "application/json", "text/csv; charset=utf-8", "application/vnd.pingmesh.matrix"
MOST_DAYS, MOST_SERIES_DAYS = 31, 7
#: A year of days is not more windows than a day of them; what it costs is the listings, one a day.
LONGER = {"hour": 31, "day": 92}
BAD = "bad_parameter"


def _check_moment(text: str) -> str:
    """Refuse what no calendar has, and years so far off that reckoning with them leaves the calendar."""
    with suppress(ValueError):
        if 2000 <= _moment(text).year < 2200:
            return text
    raise PydanticCustomError("moment", "{text} is no moment of 2000 to 2199", {"text": text})


Moment = Annotated[
    str, Field(pattern=r"^\d{8}T\d{6}Z$", description="Like 20261121T220500Z"), AfterValidator(_check_moment)
]
Version = Annotated[str, Field(pattern=r"^[0-9a-f]{12}$", description="A window's `v`: the answer may be kept forever")]
Name = Annotated[str, Field(min_length=1, max_length=200)]
MetricName = Literal["p50", "p90", "p99", "max", "jitter", "loss", "unanswered", "sent", "change"]
LevelName = Literal["window", "hour", "day"]


class Fault(BaseModel):
    code: str
    message: str


class Failure(BaseModel):
    """What every answer says that is not the one asked for."""

    error: Fault


Described = dict[int | str, dict[str, Any]]
_WHEN: dict[int | str, str] = {
    400: "A parameter is bad",
    401: "Not logged in",
    403: "No right to read the DAG",
    404: "There is nothing at what was asked for",
    503: "The object store does not answer, or too many requests wait: see Retry-After",
    "default": "Refused, or broken",
}
_FAILURES: Described = {status: {"model": Failure, "description": text} for status, text in _WHEN.items()}
_FILE: Described = {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}}
_BINARY: Described = {200: {"content": {MATRIX: {"schema": {"type": "string", "format": "binary"}}}}}

router = APIRouter(responses=_FAILURES)
#: Lists, which may be asked for as a file.
lists = APIRouter(responses=_FAILURES | _FILE)
pages = APIRouter(include_in_schema=False)


class PageHost(Protocol):
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


class Listed(Strict):
    """A list: as JSON for the page, or as a file."""

    format: Literal["json", "csv"] = "json"
    download: bool = False


class Between(Listed):
    from_: Moment | None = Field(None, alias="from")
    to: Moment | None = None

    def span(self, days: int) -> tuple[datetime | None, datetime | None]:
        """Return both ends. Raises NoAnswer where they are further apart than `days`, or the wrong way round."""
        start, end = (_moment(text) if text else None for text in (self.from_, self.to))
        last = end or datetime.now(UTC)
        if start and start > last:
            raise NoAnswer(BAD, "from is after to")
        if start and last - start > timedelta(days=days, hours=1):
            raise NoAnswer(BAD, f"from and to are more than {days} days apart; ask for less")
        return start, end


class AtWindow(Listed):
    window: Moment
    level: LevelName = "window"
    v: Version | None = None


class PerhapsAtWindow(Listed):
    window: Moment | None = None


class WindowsQuery(Between):
    level: LevelName = "window"
    limit: int = Field(2_016, ge=1, le=4_032)


class MatrixQuery(Strict):
    window: Moment
    metric: MetricName = "p50"
    lod: int = Field(0, ge=0, le=MOST_LOD)
    pool: Literal["max", "mean"] = "max"
    level: LevelName = "window"
    v: Version | None = None


assert set(ALL_METRICS) == set(MetricName.__args__)  # type: ignore[attr-defined]  # noqa: S101


@router.get("/boot")
async def boot(request: Request) -> Response:
    """What the page needs before it can ask for anything else."""
    state = request.app.state
    found = await state.desk.run(lambda page: page.boot() | {"schedule": state.host.schedule()})
    empty = None if found["newest"] else {"code": "no_data", "message": "no window has a map yet"}
    found |= {"user": state.host.user_name(request), "empty": empty}
    return wire.answer(request, wire.json_bytes(found), JSON)


@lists.get("/windows")
async def windows(request: Request, query: Annotated[WindowsQuery, Query()]) -> Response:
    """The windows that have a map."""
    start, end = query.span(LONGER.get(query.level, MOST_DAYS))

    def work(page: Page) -> dict[str, Any]:
        return page.windows(start, end, query.limit, query.level)

    return await _list(request, query, "windows", ["id", "v"], work)


@router.get("/axis/{plan}")
async def axis(request: Request, plan: Annotated[str, Path(pattern=r"^[0-9a-f]{8,64}$")]) -> Response:
    """The order of rows and columns of a plan."""
    found = await request.app.state.desk.run(lambda page: {**page.axis(plan).document(), "plan": plan})
    return wire.answer(request, wire.json_bytes(found), JSON, forever=True)


@router.get("/matrix", response_class=Response, responses=_BINARY)
async def matrix(request: Request, query: Annotated[MatrixQuery, Query()]) -> Response:
    """One metric of one window as codes."""

    def work(page: Page) -> Response:
        at = page.window(query.window, query.level)
        tag = f"{at.version}-{query.metric}-{query.lod}-{query.pool}"
        return wire.answer(
            request,
            lambda: page.matrix(at, query.metric, query.lod, query.pool),
            MATRIX,
            tag=tag,
            forever=query.v == at.version,
        )

    return await _run(request, work)


class WorstQuery(AtWindow):
    metric: MetricName = "p50"
    count: int = Field(20, ge=1, le=200)
    src: Name | None = None
    dst: Name | None = None


@lists.get("/worst")
async def worst(request: Request, query: Annotated[WorstQuery, Query()]) -> Response:
    """The worst cells, and the hosts that are silent."""
    columns = ["rank", "src", "dst", "state", "value", "row", "column", "code"]

    def work(page: Page, at: MapWindow) -> dict[str, Any]:
        return from_worst.worst(page, at, query.metric, query.count, query.src, query.dst)

    return await _list_at(request, query, "worst", columns, work)


class PairQuery(AtWindow):
    src: Name
    dst: Name


@lists.get("/pair")
async def pair(request: Request, query: Annotated[PairQuery, Query()]) -> Response:
    """Exact figures of one pair."""

    def work(page: Page, at: MapWindow) -> dict[str, Any]:
        return from_pairs.pair(page, at, query.src, query.dst)

    return await _list_at(request, query, "protocols", from_pairs.COLUMNS, work)


class SeriesQuery(Between):
    of: Literal["mesh", "dc", "podset", "tor", "host", "pair"] = "mesh"
    src: Name | None = None
    dst: Name | None = None
    level: LevelName = "window"
    points: int = Field(96, ge=1, le=from_groups.MOST_POINTS)


@lists.get("/series")
async def series(request: Request, query: Annotated[SeriesQuery, Query()]) -> Response:
    """Figures of a group, a host or a pair over time."""
    start, end = query.span(LONGER.get(query.level, MOST_SERIES_DAYS))

    def work(page: Page) -> dict[str, Any]:
        first, last = page.span(start, end, query.level)
        if query.of == "pair":
            if not (query.src and query.dst):
                raise NoAnswer(BAD, "of=pair goes with src and dst")
            return from_pairs.pair_series(page, query.src, query.dst, first, last, query.points, query.level)
        return from_groups.series(page, query.of, query.src, query.dst, first, last, query.points, query.level)

    columns = ["window", *(from_pairs.POINT if query.of == "pair" else from_groups.POINT)]
    return await _list(request, query, "points", columns, work)


class GroupsQuery(AtWindow):
    of: Literal["mesh", "dc", "podset", "tor", "host"] = "tor"


@lists.get("/groups")
async def groups(request: Request, query: Annotated[GroupsQuery, Query()]) -> Response:
    """All groups of a kind at one window."""
    columns = ["src", "dst", *from_groups.POINT]
    return await _list_at(request, query, "groups", columns, lambda page, at: from_groups.groups(page, at, query.of))


class CdfQuery(AtWindow):
    of: Literal["mesh", "dc", "podset", "tor", "host"] = "mesh"
    src: Name | None = None
    dst: Name | None = None


@lists.get("/cdf")
async def cdf(request: Request, query: Annotated[CdfQuery, Query()]) -> Response:
    """The distribution of a group's clean answers."""

    def work(page: Page, at: MapWindow) -> dict[str, Any]:
        return from_groups.cdf(page, at, query.of, query.src, query.dst)

    return await _list_at(request, query, "cdf", ["us", "share"], work)


class AnomaliesQuery(Between):
    source: Name | None = None
    severity: Literal["warning", "critical"] | None = None
    rule: Name | None = None
    scope: Name | None = None
    subject: Annotated[str, Field(max_length=300)] | None = None
    limit: int = Field(200, ge=1, le=1_000)


@lists.get("/anomalies")
async def anomalies(request: Request, query: Annotated[AnomaliesQuery, Query()]) -> Response:
    """Findings, newest first."""
    start, end = query.span(MOST_SERIES_DAYS)
    keep = {name: getattr(query, name) for name in ("source", "severity", "rule", "scope", "subject")}
    columns = SCHEMAS["anomaly"].names()
    return await _list(
        request, query, "anomalies", columns, lambda page: from_tables.anomalies(page, start, end, query.limit, keep)
    )


class IncidentsQuery(Listed):
    state: Literal["open", "closed", "all"] = "open"


@lists.get("/incidents")
async def incidents(request: Request, query: Annotated[IncidentsQuery, Query()]) -> Response:
    """What the alarm remembers: incidents, silences, channels."""
    columns = from_tables.INCIDENT
    return await _list(request, query, "incidents", columns, lambda page: from_tables.incidents(page, query.state))


@lists.get("/fleet")
async def fleet(request: Request, query: Annotated[PerhapsAtWindow, Query()]) -> Response:
    """What happened to each host in a window."""
    columns = SCHEMAS["host_status"].names()[1:]
    return await _list(request, query, "hosts", columns, lambda page: from_tables.fleet(page, query.window))


@lists.get("/usage")
async def usage(request: Request, query: Annotated[PerhapsAtWindow, Query()]) -> Response:
    """How the data servers were used in a window."""
    columns = SCHEMAS["usage"].names()[1:]
    return await _list(request, query, "figures", columns, lambda page: from_tables.usage(page, query.window))


class SessionsQuery(PerhapsAtWindow):
    limit: int = Field(200, ge=1, le=5_000)


@lists.get("/sessions")
async def sessions(request: Request, query: Annotated[SessionsQuery, Query()]) -> Response:
    """Who is, or was, connected to the data servers in a window."""
    columns = [name for name in SCHEMAS["session"].names()[1:] if name != "duration_us"] + ["duration_s"]
    return await _list(
        request, query, "sessions", columns, lambda page: from_tables.sessions(page, query.window, query.limit)
    )


@lists.get("/logs")
async def logs(request: Request, query: Annotated[PerhapsAtWindow, Query()]) -> Response:
    """How the collection of the data servers' logs went."""
    columns = SCHEMAS["log_status"].names()[1:]
    return await _list(request, query, "logs", columns, lambda page: from_tables.logs(page, query.window))


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
    host: PageHost = request.app.state.host
    window = await request.app.state.desk.run(lambda page: host.window_of_run(request, dag_id, run_id))
    return RedirectResponse(f"../../?window={window}", 303)


@pages.get("/api/v1/openapi.json")
async def openapi(request: Request) -> Response:
    return wire.answer(request, wire.json_bytes(request.app.openapi()), JSON)


@pages.get("/{path:path}")
async def nothing(path: str) -> Response:
    raise NoAnswer("no_such_route", "there is nothing here; the page is at the root, its API under api/v1")


async def _list(
    request: Request, query: Listed, rows: str, columns: list[str], work: Callable[[Page], dict[str, Any]]
) -> Response:
    """Answer with what `work` finds; its list `rows` may be asked for as a file with `columns`."""
    return await _run(request, lambda page: _table(request, work(page), rows, columns, query))


async def _list_at(
    request: Request, query: AtWindow, rows: str, columns: list[str], work: Callable[[Page, MapWindow], dict[str, Any]]
) -> Response:
    """As `_list`, of one window: the answer may be kept forever where the request says which version it wants."""

    def at_window(page: Page) -> Response:
        at = page.window(query.window, query.level)
        return _table(request, work(page, at), rows, columns, query, forever=query.v == at.version)

    return await _run(request, at_window)


async def _run(request: Request, work: Callable[[Page], Response]) -> Response:
    answer: Response = await request.app.state.desk.run(work)
    return answer


def _table(
    request: Request, found: dict[str, Any], rows: str, columns: list[str], query: Listed, forever: bool = False
) -> Response:
    at = f"-{found['window']}" if found.get("window") else ""
    name = f"pingmesh-{rows}{at}.{query.format}" if query.download else None
    if query.format == "csv":
        return wire.answer(request, wire.csv_bytes(found[rows], columns), CSV, forever=forever, filename=name)
    return wire.answer(request, wire.json_bytes(found), JSON, forever=forever, filename=name)


def _moment(text: str) -> datetime:
    return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
