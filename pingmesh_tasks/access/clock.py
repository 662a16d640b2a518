"""Dates in a log → UTC. A log has the server's local time and no zone: the zone is the operator's word.

When clocks go back, an hour comes twice and a date does not say which: it is taken as the first, so that a line's time
follows from the line alone and not from what was read before it. When they go forward, an hour is missing: a date in it
is no time (`no_such_time`).
"""

from __future__ import annotations

from datetime import datetime

import numpy as np
import polars as pl

from pingmesh_tasks.errors import ConfigError

#: What ctime() prints: English in every locale, the day padded with a blank.
CTIME = (
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) "
    r"[ 123][0-9] [0-2][0-9]:[0-5][0-9]:[0-5][0-9] [0-9]{4}"
)
CTIME_CHARS = 24


def check_timezone(name: str) -> None:
    """Raise ConfigError unless `name` is a zone of the tz database."""
    try:
        if name[:1].isalpha():  # not "+08:00", which would know no summer time
            pl.Series([datetime(2026, 1, 1)]).dt.replace_time_zone(name)  # noqa: DTZ001
            return
    except pl.exceptions.ComputeError:
        pass
    raise ConfigError(f"{name!r} is no time zone; write a name of the tz database, such as Asia/Shanghai or UTC")


def ctime_to_utc(dates: pl.Series, timezone: str) -> pl.DataFrame:
    """Return a row a date: `link_time` (UTC, µs) and `time_fault`, null or why there is no time.

    Neighbours mostly have the same second, so that a run of equal dates is read once.
    """
    runs = dates.rle().struct.unnest()
    date, local, utc = pl.col("value"), pl.col("local"), pl.col("link_time")
    read = (
        runs.lazy()
        .with_columns(
            local=pl.when(date.str.contains(f"^{CTIME}$")).then(
                date.str.strptime(pl.Datetime("us"), "%a %b %e %H:%M:%S %Y", strict=False)
            )
        )
        .with_columns(
            link_time=local.dt.replace_time_zone(
                timezone, ambiguous="earliest", non_existent="null"
            ).dt.convert_time_zone("UTC")
        )
        .select(
            "link_time",
            time_fault=pl.when(local.is_null())
            .then(pl.lit("bad_date"))
            .when(utc.is_null())
            .then(pl.lit("no_such_time")),
        )
        .collect()
    )
    return read[np.repeat(np.arange(len(runs)), runs["len"].to_numpy())]
