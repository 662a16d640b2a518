"""Figures as a person reads them: amounts with their units, numbers, moments and spans of time."""

from __future__ import annotations

import math
from datetime import datetime

from pingmesh_tasks.text import one_line

RATIOS, MICROSECONDS, SECONDS = ("ratio", "share", "loss"), ("us", "µs", "rtt_us"), ("s", "seconds")
UNITS_IN_WORDS = (*RATIOS, *MICROSECONDS, *SECONDS)


def amount(value: float, unit: str) -> str:
    """Return a value with its unit.

    A ratio is in percent, µs are µs, ms or s, seconds a span; another unit stays as it is.
    """
    if unit in RATIOS:
        return f"{number(100 * value)} %"
    if unit in MICROSECONDS:
        for limit, name, size in ((999.5, "µs", 1.0), (999_500.0, "ms", 1e3), (math.inf, "s", 1e6)):
            if value < limit:
                return f"{number(value / size)} {name}"
    if unit in SECONDS:
        return span(value)
    return f"{number(value)} {one_line(unit, 40)}".strip()


def number(value: float) -> str:
    """Return three significant digits at most, thousands apart: `0.31`, `12.5`, `1 204`."""
    if not math.isfinite(value):
        return "–"
    if abs(value) >= 100:
        return f"{value:,.0f}".replace(",", "\u202f")
    text = f"{value:.1f}" if abs(value) >= 9.995 else f"{value:.2f}"
    text = text.rstrip("0").rstrip(".")
    return text if text not in ("0", "-0") or value == 0 else f"{value:.1g}"


def moment(at: datetime) -> str:
    """Return a moment to the second, in UTC."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def span(seconds: float) -> str:
    """Return `40 s`, `12 min`, `3 h 5 min`, `2 d 4 h`."""
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    if minutes < 2:
        return f"{number(seconds)} s" if seconds < 10 else f"{int(seconds)} s"
    if hours < 2:
        return f"{minutes} min"
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
