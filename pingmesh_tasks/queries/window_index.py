"""Which windows there are: those whose map is complete, found by listing a day's keys.

A window's version follows from the tags of its parts. It is part of the URLs that may be cached forever, so that a
rerun, which replaces the parts, is seen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby

from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.matrix.codes import CHANGE, METRICS
from pingmesh_tasks.queries.cache import BytesCache
from pingmesh_tasks.queries.refusal import NoAnswer
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.objects import ObjectStore, StoredObject
from pingmesh_tasks.windows import Window, window_containing

MAP = "mesh_map"
DAY_S = 86_400
#: How long a listing is believed: of the newest two days, and of older ones, which only a backfill changes.
FRESH_S, OLD_S = 2.0, 30.0
MOST_DAYS = 31
_VERSION_DIGITS = 12


@dataclass(frozen=True, slots=True)
class MapWindow:
    """One window that has a complete map."""

    window: Window
    version: str
    level: str = "window"

    def document(self) -> dict[str, str]:
        return {"id": self.window.id, "v": self.version}

    def key(self, table: str, part: str) -> str:
        """The key of a part of a table of this window, at its level."""
        return layout.table(layout.at_level(table, self.level), self.window, part)

    def prefix(self, table: str) -> str:
        return layout.table_prefix(layout.at_level(table, self.level), self.window)


class WindowIndex:
    """The windows of a level in a store, read a day at a time; listings are shared for some seconds."""

    def __init__(self, store: ObjectStore, cache: BytesCache, length_s: int, level: str = "window") -> None:
        self.store, self.cache, self.length_s, self.level = store, cache, length_s, level

    def between(self, start: datetime, end: datetime, limit: int) -> tuple[list[MapWindow], bool]:
        """Return the newest `limit` windows with start <= window < end, oldest first, and whether there are older."""
        found: list[MapWindow] = []
        day = window_containing(end - timedelta(microseconds=1), DAY_S)
        while day.end > start and len(found) <= limit:
            there = self.of_day(day).values()
            found = [one for one in there if start <= one.window.start < end] + found
            day = day.shifted(-1)
        return found[-limit:], len(found) > limit

    def newest(self, now: datetime) -> MapWindow | None:
        """Return the newest window of the last MOST_DAYS days, or None."""
        day = window_containing(now + timedelta(seconds=self.length_s), DAY_S)
        for back in range(MOST_DAYS):
            if there := self.of_day(day.shifted(-back)):
                return there[max(there)]
        return None

    def find(self, window: Window) -> MapWindow:
        """Return a window that has a complete map. Raises NoAnswer where it has none."""
        found = self.of_day(window_containing(window.start, DAY_S)).get(window.id)
        if found is None:
            raise NoAnswer(
                "no_window", f"{self.level} {window.id} has no map; see api/v1/windows for those that have one"
            )
        return found

    def of_day(self, day: Window) -> Mapping[str, MapWindow]:
        """Return the windows of a day by id, in order."""
        age_s = (datetime.now(UTC) - day.end).total_seconds()
        fresh_s = FRESH_S if age_s < DAY_S else OLD_S
        return self.cache.get(
            ("windows", self.level, day.id), lambda: self._list(day), lambda there: 500 * len(there), fresh_s
        )

    def _list(self, day: Window) -> dict[str, MapWindow]:
        entries = self.store.entries(layout.table_day_prefix(layout.at_level(MAP, self.level), day.start))
        found = {}
        for window_id, parts in groupby(entries, key=lambda entry: layout.window_id_of(entry.key)):
            try:
                window = Window.parse(window_id, self.length_s)
            except ConfigError:  # of a time when windows had another length
                continue
            if version := version_of(parts, window, self.level):
                found[window_id] = MapWindow(window, version, self.level)
        return found


def version_of(parts: Iterable[StoredObject], window: Window, level: str = "window") -> str | None:
    """Return the version that a window's parts make, or None where some are missing."""
    tags = {entry.key: entry.tag for entry in parts}
    wanted = [layout.table(layout.at_level(MAP, level), window, name) for name in METRICS]
    if any(key not in tags for key in wanted):
        return None
    change = layout.table(layout.at_level(MAP, level), window, CHANGE.name)
    told = [tags[key] for key in (*wanted, change) if key in tags]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:_VERSION_DIGITS]
