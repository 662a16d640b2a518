"""What earlier windows left: baselines, sessions that are still open."""

from __future__ import annotations

import polars as pl

from pingmesh_tasks.store.objects import ObjectStore
from pingmesh_tasks.store.tables import newest_window, read_part, read_table
from pingmesh_tasks.windows import Window


def newest_table(store: ObjectStore, table: str, before: Window, part: str | None = None) -> pl.DataFrame | None:
    """Return a table, or one part of it, of the newest window before `before` (two days back at most).

    Returns None where no such window has it. Raises StoreError.
    """
    newest = newest_window(store, table, before, part)
    if newest is None:
        return None
    return read_part(store, table, newest, part) if part else read_table(store, table, newest)
