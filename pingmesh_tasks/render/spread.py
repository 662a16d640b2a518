"""How RTTs are distributed, from the fixed log ladders of `pair_latency`.

A ladder counts clean answers in buckets: 0 is below 10 µs, b in 1…240 is 10·10^((b-1)/40) … 10·10^(b/40) µs, 241 is
10 s or more. Ladders of pairs, hosts and windows add up; percentiles never do. A quantile is the bucket of its nearest
rank, given as the bucket's geometric middle: within 2.9 % of the exact one between 10 µs and 10 s.
"""

from __future__ import annotations

import math

import numpy as np
import polars as pl
from numpy.typing import NDArray

BUCKETS = 242
#: Upper edge of each bucket in µs; the last has none.
UPPER_US = np.concatenate([10.0 * 10 ** (np.arange(241) / 40), [math.inf]])

Counts = NDArray[np.int64]


def ladders_by(pairs: pl.DataFrame, key: str) -> dict[str, Counts]:
    """Return for each value of the column `key` the summed ladder, shape (242,). Pairs without answers add nothing."""
    rows = (
        pairs.lazy()
        .select(key, bucket="ladder_bucket", count="ladder_count")
        .filter(pl.col("bucket").list.len() > 0)
        .explode("bucket", "count")
        .group_by(key, "bucket")
        .agg(pl.col("count").cast(pl.Int64).sum())
        .sort(key, "bucket")
        .collect()
    )
    out: dict[str, Counts] = {}
    for name, bucket, count in rows.iter_rows():
        out.setdefault(name, np.zeros(BUCKETS, dtype=np.int64))[bucket] = count
    return out


def quantile_us(ladder: Counts, q: float) -> float:
    """Return the q-quantile in µs by nearest rank, NaN of an empty ladder."""
    total = int(ladder.sum())
    if not total:
        return math.nan
    rank = max(1, math.ceil(q * total - 1e-9))
    return middle_us(int(np.searchsorted(np.cumsum(ladder), rank)))


def middle_us(bucket: int) -> float:
    """Return the geometric middle of a bucket: 10 µs · 10^((b - 1/2)/40); its known edge for the two open ones."""
    return 10.0 if bucket == 0 else float(10.0 * 10 ** ((min(bucket, 240.5) - 0.5) / 40))
