"""Records of 2018 as tables of the windows that they lie in: `probe`, and `pair_latency` of it."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from pingmesh_tasks.latency.summary import summarize_pairs
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.objects import ObjectStore
from pingmesh_tasks.store.tables import write_table
from pingmesh_tasks.windows import Window, window_containing


def split_windows(probes: pl.DataFrame, window_s: int) -> list[tuple[Window, pl.DataFrame]]:
    """Return the rows of `probe` by window, in the order of time."""
    length = f"{window_s}s"
    parts = probes.sort("ts").group_by(pl.col("ts").dt.truncate(length), maintain_order=True)
    return [(window_containing(part["ts"][0], window_s), part) for _, part in parts]


def write_windows(store: ObjectStore, windows: list[tuple[Window, pl.DataFrame]]) -> Iterator[Window]:
    """Write the tables of each window, and yield the window once they are there.

    Written again, they are replaced. Pairs that were planned and gave nothing are not known.

    Raises:
        StoreError: The object store refused.
    """
    shard = layout.shard(0, 1)
    for window, probes in windows:
        rows = probes.sort("src", "dst", "ts")
        write_table(store, "probe", window, rows, shard)
        write_table(store, "pair_latency", window, summarize_pairs(rows, window), shard)
        yield window
