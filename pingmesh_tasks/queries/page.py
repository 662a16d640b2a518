"""What the page can ask of a store. Every answer reads the objects of a few windows, through one cache.

No Airflow and no HTTP here: the plugin asks, and sends what it gets.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.matrix.build import METADATA
from pingmesh_tasks.matrix.codes import ALL_METRICS, METRICS
from pingmesh_tasks.queries.cache import BytesCache
from pingmesh_tasks.queries.matrix_frame import Matrix, Pool, matrix_answer, read_matrix
from pingmesh_tasks.queries.refusal import NoAnswer
from pingmesh_tasks.queries.window_index import DAY_S, MAP, MapWindow, WindowIndex
from pingmesh_tasks.settings import Settings
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.objects import ObjectStore
from pingmesh_tasks.store.pieces import ParquetObject
from pingmesh_tasks.topology.axis import HostAxis
from pingmesh_tasks.topology.pinglist import read_plan
from pingmesh_tasks.windows import LEVELS_S, Window, levels_above, window_containing

#: A full matrix of 2 500 hosts (12.5 MB) and what else is asked beside it: browsers keep what never changes.
CACHE_BYTES = 24_000_000
#: What is answered of where no start is given: the newest of each level.
USUAL_SPAN = {"window": timedelta(days=1), "hour": timedelta(days=7), "day": timedelta(days=31)}
#: Requests to the store at a time, beside each other's waiting.
AT_ONCE = 16
LEVELS = ("window", *LEVELS_S)
MOST_WINDOWS = 4_032
S = TypeVar("S")
T = TypeVar("T")
DAY = timedelta(days=1)


class Page:
    """The answers of one store. For threads."""

    def __init__(self, store: ObjectStore, settings: Settings, cache_bytes: int = CACHE_BYTES) -> None:
        self.store, self.settings = store, settings
        self.cache = BytesCache(cache_bytes)
        lengths_s = {"window": settings.window_s} | {name: LEVELS_S[name] for name in levels_above(settings.window_s)}
        self._levels = {name: WindowIndex(store, self.cache, length_s, name) for name, length_s in lengths_s.items()}
        self._pool = ThreadPoolExecutor(AT_ONCE, "pingmesh-page")

    # --- what there is

    def boot(self) -> dict[str, Any]:
        """Return what the page needs before it can ask for anything else."""
        now = datetime.now(UTC)
        index = self.index()
        newest = index.newest(now)
        windows: list[MapWindow] = []
        if newest:
            windows, _ = index.between(newest.window.end - DAY, newest.window.end, limit=2_016)
        return {
            "page": 1,
            "now": f"{now:%Y%m%dT%H%M%SZ}",
            "window_s": self.settings.window_s,
            "slow_us": self.settings.latency_slow_us,
            "bad_us": self.settings.latency_bad_us,
            "windows": [one.document() for one in windows],
            "newest": newest and {**newest.document(), **self.identity(newest)},
            "metrics": [
                {"name": m.name, "unit": m.unit, "code": m.kind, "levels": LEVELS[: None if m.name in METRICS else 1]}
                for m in ALL_METRICS.values()
            ],
            "levels": self._levels_at(newest),
        }

    def index(self, level: str = "window") -> WindowIndex:
        """Return the windows of a level. Raises NoAnswer where windows are as long as its own."""
        if level not in self._levels:
            raise NoAnswer(
                "no_level", f"there is no level {level}: windows of {self.settings.window_s} s say it already"
            )
        return self._levels[level]

    def _levels_at(self, newest: MapWindow | None) -> list[str]:
        """Return the levels that have something of the newest window's day or the day before."""
        day = window_containing(newest.window.start, DAY_S) if newest else None
        return [
            name
            for name, index in self._levels.items()
            if name == "window" or (day and (index.of_day(day) or index.of_day(day.shifted(-1))))
        ]

    def windows(self, start: datetime | None, end: datetime | None, limit: int, level: str) -> dict[str, Any]:
        """Return the windows of a level that have a map, oldest first."""
        index = self.index(level)
        found, more = index.between(*self.span(start, end, level), limit)
        return {
            "level": level,
            "length_s": index.length_s,
            "windows": [one.document() for one in found],
            "more": more,
        }

    def span(self, start: datetime | None, end: datetime | None, level: str = "window") -> tuple[datetime, datetime]:
        """Return both ends of a range of windows: what is not given is the newest window's end, and USUAL_SPAN."""
        if end is None:
            newest = self.index(level).newest(datetime.now(UTC))
            end = newest.window.end if newest else datetime.now(UTC)
        return start or end - USUAL_SPAN[level], end

    def window(self, window_id: str, level: str = "window") -> MapWindow:
        return self.index(level).find(self.parse(window_id, level))

    def parse(self, window_id: str, level: str = "window") -> Window:
        """Return the window of an id. Raises NoAnswer where windows have another length."""
        try:
            return Window.parse(window_id, self.index(level).length_s)
        except (ConfigError, ValueError) as error:
            raise NoAnswer("no_window", str(error)) from None

    def identity(self, at: MapWindow) -> dict[str, Any]:
        """Return which plan and axis a window's map is of, from a footer."""
        told = self.footer(at, "sent").note_json(METADATA)
        return {name: told[name] for name in ("plan", "axis", "hosts")}

    def spread(
        self, start: datetime, end: datetime, points: int, level: str = "window"
    ) -> tuple[list[MapWindow], int, int]:
        """Return at most `points` windows with start <= window < end, every n-th of them; n; and how many there are.

        Counted from the newest, so that it is always one of them.
        """
        found, _ = self.index(level).between(start, end, MOST_WINDOWS)
        step = max(1, -(-len(found) // points))
        return found[::-1][::step][::-1], step, len(found)

    def pool_map(self, work: Callable[[S], T], items: Sequence[S]) -> list[T]:
        """Return what `work` makes of each item: many small requests, some at a time."""
        return list(self._pool.map(work, items))

    def read(self, key: str) -> io.BytesIO:
        """Return an object of a window. Raises NoAnswer where the window has none."""
        data = self.store.find(key)
        if data is None:
            raise NoAnswer("no_table", f"the window has no {key}; a new run of it makes one")
        return io.BytesIO(data)

    def parquet(self, key: str) -> ParquetObject:
        """Return an object of a window of which only the footer is read. Raises NoAnswer where the window has none."""
        found = ParquetObject.find(self.store, key)
        if found is None:
            raise NoAnswer("no_table", f"the window has no {key}; a new run of it makes one")
        return found

    def axis(self, plan: str) -> HostAxis:
        """Return the axis of a plan. Raises NoAnswer where there is no such plan."""

        def read() -> HostAxis:
            document = self.store.find(layout.plan(plan))
            if document is None:
                raise NoAnswer("no_plan", f"there is no plan {plan}; api/v1/boot names the newest")
            return HostAxis.of(read_plan(document)[0])

        return self.cache.get(("axis", plan), read, lambda axis: 1_000 * len(axis.hosts))

    # --- the map

    def matrix(self, at: MapWindow, metric: str, lod: int, pool: Pool) -> bytes:
        return matrix_answer(at, metric, lod, pool, self.full(at, metric))

    def full(self, at: MapWindow, metric: str) -> Matrix:
        return read_matrix(self.store, self.cache, at, metric)

    def footer(self, at: MapWindow, metric: str) -> ParquetObject:
        key = at.key(MAP, metric)
        return self.cache.get(("footer", key, at.version), lambda: self.parquet(key), lambda footer: 20_000)
