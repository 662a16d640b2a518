"""Tables: Parquet objects under keys made from the window, each part of a window written whole.

A window's table is one object, or one a shard. A rerun replaces its parts; parts of an earlier division into other
shards are removed by `drop_other_shards` once the new ones are there.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import timedelta

import polars as pl

from pingmesh_tasks.store import layout
from pingmesh_tasks.store.objects import ObjectStore
from pingmesh_tasks.store.schemas import SCHEMAS, check_schema
from pingmesh_tasks.windows import Window


def write_table(store: ObjectStore, table: str, window: Window, frame: pl.DataFrame, shard: str | None = None) -> str:
    """Write one part of a window's table and return its key. Raises StoreError where `frame` is not of the schema."""
    check_schema(table, frame)
    data = io.BytesIO()
    frame.write_parquet(data, compression="zstd", statistics=True)
    key = layout.table(table, window, shard)
    store.put(key, data.getvalue())
    return key


def read_table(store: ObjectStore, table: str, window: Window, columns: list[str] | None = None) -> pl.DataFrame:
    """Return a window's table, its parts in order of their names; no rows where nothing was written.

    `columns` limits what is decoded.
    """
    wanted = SCHEMAS[table] if columns is None else pl.Schema({name: SCHEMAS[table][name] for name in columns})
    parts = list(read_parts(store, table, window, columns))
    return pl.concat(parts) if parts else pl.DataFrame(schema=wanted)


def read_parts(
    store: ObjectStore, table: str, window: Window, columns: list[str] | None = None
) -> Iterator[pl.DataFrame]:
    """Read a window's table part by part, in order of their names: for who need not hold it whole."""
    for key in store.keys(layout.table_prefix(table, window)):
        yield pl.read_parquet(io.BytesIO(store.get(key)), columns=columns)


def read_part(store: ObjectStore, table: str, window: Window, shard: str) -> pl.DataFrame:
    """Return one part of a window's table; no rows where it was not written."""
    data = store.find(layout.table(table, window, shard))
    return pl.DataFrame(schema=SCHEMAS[table]) if data is None else pl.read_parquet(io.BytesIO(data))


def newest_window(
    store: ObjectStore, table: str, before: Window, shard: str | None = None, days: int = 2
) -> Window | None:
    """Return the newest window before `before` that has the table (or that part of it), looking back some days."""
    ending = f".{shard}.parquet" if shard else ".parquet"
    for back in range(days + 1):
        prefix = layout.table_day_prefix(table, before.start - timedelta(days=back))
        ids = {layout.window_id_of(key) for key in store.keys(prefix) if key.endswith(ending)}
        if earlier := [window_id for window_id in ids if window_id < before.id]:
            return Window.parse(max(earlier), before.length_s)
    return None


def has_table(store: ObjectStore, table: str, window: Window) -> bool:
    return bool(store.keys(layout.table_prefix(table, window)))


def drop_other_shards(store: ObjectStore, table: str, window: Window, count: int) -> list[str]:
    """Delete the parts of a window that are of a division into other than `count` shards, and return their keys."""
    keys = store.keys(layout.table_prefix(table, window))
    gone = [key for key in keys if not key.endswith(f"{layout.of_shards(count)}.parquet")]
    store.delete(gone)
    return gone
