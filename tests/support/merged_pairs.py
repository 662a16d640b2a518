"""The merge of whole tables in memory: what a roll-up by ranges of sources must equal."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from pingmesh_tasks.latency.rollup import COLUMNS, PairSums
from pingmesh_tasks.store.schemas import PAIR_LATENCY
from pingmesh_tasks.windows import Window


def merge_pairs(windows: Iterable[pl.DataFrame], window: Window) -> pl.DataFrame:
    """Return the rows of `PAIR_LATENCY` of one longer window from those of the windows in it, in their order."""
    sums = PairSums()
    for pairs in windows:
        sums.add(pairs.select(COLUMNS).to_arrow(compat_level=pl.CompatLevel.oldest()))
    table, _ = sums.finish(window)
    return pl.DataFrame(table).cast(dict(PAIR_LATENCY))
