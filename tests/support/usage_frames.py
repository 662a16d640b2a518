"""Rows of `usage` and of users online, small and of known figures, and names as strangers write them into a log."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import polars as pl

from pingmesh_tasks.store.schemas import USAGE
from pingmesh_tasks.windows import Window

WINDOW = Window(datetime(2026, 11, 21, 22, 5, tzinfo=UTC), 300)
DAY = Window(datetime(2026, 11, 21, tzinfo=UTC), 86_400)
ONLINE = pl.Schema({"server": pl.String, "at": pl.Datetime("us", "UTC"), "sessions": pl.Int64, "users": pl.Int64})

Measures = Mapping[str, int | Mapping[str, Mapping[str | None, int]]]

HOSTILE = (
    "</script><img src=x onerror=document.title='owned'>",
    "<!--<script>alert(1)",
    'quoted "><svg onload=alert(1)>',
    "bob\r\nSat Nov 21 22:05:01 2026 (4) (pid 7) Connection received from root@host [10.0.0.9]",
    "\x1b[2J\x1b]0;owned\x07",
    "\u202egnp.exe\u2066",
    "Z" + "\u0301" * 60 + "algo",
    "😀👨\u200d👩\u200d👧 smile",
    "陈思远 plasma",
    "עדי המנהל",
    "﷽﷽﷽﷽﷽﷽",
    "$x^2$ \\frac{a}{b} %s {0}",
    "W" * 256,
    "i" * 255 + "…",
    " ",
    "",
)


def usage_rows(
    by: Mapping[tuple[str, str], Mapping[str | None, int]], *, window: datetime = WINDOW.start, server: str = "east"
) -> pl.DataFrame:
    """Rows of `usage` from {(measure, dimension): {key: value}}."""
    rows = [(window, server, *name, key, value) for name, values in by.items() for key, value in values.items()]
    return pl.DataFrame(rows, schema=USAGE, orient="row")


def busy(names: tuple[str, ...], *, window: datetime = WINDOW.start, server: str = "east", scale: int = 1):
    """Usage in which every list has `names`, of values that fall."""
    values: dict[str | None, int] = {name: scale * (1_000 - 7 * i) for i, name in enumerate(names)}
    total = sum(values.values())
    lists = {
        "connects": ("user", "host", "country"),
        "operations": ("user", "host", "country", "hook_type", "tree", "shot", "node"),
        "rejected": ("reason",),
        "refused": ("user",),
        "sessions_ended": ("ended_by",),
        "longest_online_s": ("user",),
        "users_online": ("country",),
    }
    by = {(measure, dimension): values | {None: 5} for measure, of in lists.items() for dimension in of}
    by |= {(measure, "all"): {None: total + 5} for measure in lists}
    by |= {(m, "all"): {None: 3} for m in ("disconnects", "sessions_online", "operations_untied")}
    by |= {(m, "all"): {None: 9} for m in ("users_online_peak", "sessions_online_peak")}
    return usage_rows(by, window=window, server=server)


def online_rows(window: Window = WINDOW, *, server: str = "east", steps: int = 60) -> pl.DataFrame:
    step = timedelta(seconds=window.length_s / steps)
    rows = [(server, window.start + step * i, 3 + i % 7, 2 + i % 5) for i in range(steps)]
    return pl.DataFrame(rows, schema=ONLINE, orient="row")
