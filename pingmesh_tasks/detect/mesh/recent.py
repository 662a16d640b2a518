"""What the last minute of probes says of *now*: a host that went silent ten seconds ago has answered in this minute.

A rule on shares would call it lossy, and would call it so again for a minute after it came back. So, before they are
counted, the probes to a host that died or came back within the span are cut to those since then: two looks at the same
minute in the manner of UdpPinger's elimination of dead hosts, which needs a verdict on the host before one on loss.
"""

from __future__ import annotations

import polars as pl

#: So many probes in a row to one host, by so many sources (or all that there are), make it dead, or alive.
RUN_PROBES, RUN_SOURCES = 6, 3


def last_changes(probes: pl.DataFrame) -> pl.DataFrame:
    """Return (dst, start) of the hosts that died or came back: probes to them from before `start` tell of the past.

    `probes` has ts (any ordered type), src, dst, answered. Loss at random, however heavy, is no change: the odds of six
    failures in a row are 1 in 64 at a loss of 50 %, and the next answer undoes it.
    """
    told = probes.with_columns(
        last_answer=pl.col("ts").filter(pl.col("answered")).max().over("dst"),
        last_failure=pl.col("ts").filter(~pl.col("answered")).max().over("dst"),
    ).filter(pl.col("last_failure").is_not_null())
    known = told.group_by("dst").agg(sources=pl.col("src").n_unique())
    dead = _runs(told.filter(pl.col("last_answer").is_null() | (pl.col("ts") > pl.col("last_answer"))), known)
    alive = told.filter(pl.col("ts") > pl.col("last_failure"))
    back = _runs(alive, known).join(_was_dead(told, known), on="dst")
    return pl.concat([dead, back.select("dst", "start")])


def _was_dead(told: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """Return the hosts whose last failures were a whole run of them, with nothing answered in between."""
    failing = told.filter(pl.col("ts") <= pl.col("last_failure"))
    before = failing.filter("answered").group_by("dst").agg(answer=pl.col("ts").max())
    run = failing.join(before, on="dst", how="left").filter(
        pl.col("answer").is_null() | (pl.col("ts") > pl.col("answer"))
    )
    return _runs(run, known).select("dst")


def _runs(rows: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """Return dst and start of those runs that are long enough, from enough sources."""
    runs = rows.group_by("dst").agg(probes=pl.len(), seen=pl.col("src").n_unique(), start=pl.col("ts").min())
    enough = pl.col("seen") >= pl.min_horizontal("sources", pl.lit(RUN_SOURCES))
    return runs.join(known, on="dst").filter(pl.col("probes") >= RUN_PROBES, enough).select("dst", "start")
