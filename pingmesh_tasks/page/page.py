"""What the page can ask of a store. Every answer reads the objects of a few windows, through one cache.

No Airflow and no HTTP here: the plugin asks, and sends what it gets.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from pingmesh_tasks.fleet.pinglist import read_plan
from pingmesh_tasks.maps.axis import MapAxis
from pingmesh_tasks.maps.build import METADATA
from pingmesh_tasks.maps.codes import METRICS
from pingmesh_tasks.page.cache import BytesCache
from pingmesh_tasks.page.errors import NoAnswer
from pingmesh_tasks.page.matrix import Matrix, Pool, matrix_answer, read_matrix
from pingmesh_tasks.page.windows import MAP, MapWindow, WindowIndex
from pingmesh_tasks.settings import Settings
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.objects import ObjectStore
from pingmesh_tasks.store.pieces import ParquetObject
from pingmesh_tasks.windows import Window

#: Three full matrices of 2 500 hosts and what else is asked beside them.
CACHE_BYTES = 48_000_000
LEVELS = ("window",)
DAY = timedelta(days=1)


class Page:
    """The answers of one store. For threads."""

    def __init__(self, store: ObjectStore, settings: Settings, cache_bytes: int = CACHE_BYTES) -> None:
        self.store, self.settings = store, settings
        self.cache = BytesCache(cache_bytes)
        self.index = WindowIndex(store, self.cache, settings.window_s)

    # --- what there is

    def boot(self) -> dict[str, Any]:
        """Return what the page needs before it can ask for anything else."""
        now = datetime.now(UTC)
        newest = self.index.newest(now)
        windows: list[MapWindow] = []
        if newest:
            windows, _ = self.index.between(newest.window.end - DAY, newest.window.end, limit=2_016)
        return {
            "page": 1,
            "now": f"{now:%Y%m%dT%H%M%SZ}",
            "window_s": self.settings.window_s,
            "slow_us": self.settings.latency_slow_us,
            "bad_us": self.settings.latency_bad_us,
            "windows": [one.document() for one in windows],
            "newest": newest and {**newest.document(), **self.identity(newest)},
            "metrics": [{"name": m.name, "unit": m.unit, "code": m.kind} for m in METRICS.values()],
            "levels": list(LEVELS),
        }

    def windows(self, start: datetime | None, end: datetime | None, limit: int) -> dict[str, Any]:
        """Return the windows that have a map, oldest first."""
        if end is None:
            newest = self.index.newest(datetime.now(UTC))
            end = newest.window.end if newest else datetime.now(UTC)
        found, more = self.index.between(start or end - DAY, end, limit)
        length_s = self.settings.window_s
        return {
            "level": "window",
            "length_s": length_s,
            "windows": [one.document() for one in found],
            "more": more,
        }

    def window(self, window_id: str) -> MapWindow:
        return self.index.find(Window.parse(window_id, self.settings.window_s))

    def identity(self, at: MapWindow) -> dict[str, Any]:
        """Return which plan and axis a window's map is of, from a footer."""
        told = self._footer(at, "sent").note(METADATA)
        metadata = json.loads(told or b"{}")
        return {name: metadata[name] for name in ("plan", "axis", "hosts")}

    def axis(self, plan: str) -> MapAxis:
        """Return the axis of a plan. Raises NoAnswer where there is no such plan."""

        def read() -> MapAxis:
            document = self.store.find(layout.plan(plan))
            if document is None:
                raise NoAnswer("no_plan", f"there is no plan {plan}; api/v1/boot names the newest")
            return MapAxis.of(read_plan(document)[0])

        return self.cache.get(("axis", plan), read, lambda axis: 1_000 * len(axis.hosts))

    # --- the map

    def matrix(self, at: MapWindow, metric: str, lod: int, pool: Pool) -> bytes:
        return matrix_answer(at, metric, lod, pool, self.full(at, metric))

    def full(self, at: MapWindow, metric: str) -> Matrix:
        return read_matrix(self.store, self.cache, at, metric)

    def _footer(self, at: MapWindow, metric: str) -> ParquetObject:
        key = layout.table(MAP, at.window, metric)
        return self.cache.get(
            ("footer", key, at.version), lambda: ParquetObject.open(self.store, key), lambda footer: 20_000
        )
