"""How every picture looks: colours, type sizes, number formats. Nothing here knows what a mesh is.

Colours follow two rules. A number has a colour of one sequential, colour-blind-safe ramp (viridis), on a log scale;
a state (failed, no data, not planned) has a colour outside the ramp *and* a shape, so that the picture survives
a grey printer. Lengths are pixels; a picture is looked at in a browser, not printed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import matplotlib
import numpy as np
from numpy.typing import NDArray

from pingmesh_tasks.windows import Window

PAPER = "#ffffff"
INK = "#18212f"
MUTED = "#5b6675"
RULE = "#c9d0d9"
ACCENT = "#b42318"
FAILED = "#c81e3a"
FAILED_MARK = "#ffffff"
NO_DATA = "#d5dae2"
NO_DATA_MARK = "#7f8a9a"
NOT_PLANNED = "#ffffff"
NOT_PLANNED_MARK = "#c4ccd6"
UNCLEAN = "#efe3f7"
UNCLEAN_MARK = "#7a3fa0"
ZERO_LOSS = "#e8f3ee"
LOSS_MARK = "#ff6a3d"

#: Lines of scopes (Okabe and Ito's colours); the dash pattern tells them apart without colour.
SCOPE_STYLE: dict[str, tuple[str, str | tuple[int, tuple[float, ...]], str]] = {
    "all": (INK, "solid", "whole mesh"),
    "intra_tor": ("#0072b2", (0, (6, 2)), "same ToR"),
    "intra_dc": ("#009e73", (0, (6, 2, 1.5, 2)), "same DC"),
    "inter_dc": ("#d55e00", (0, (1.5, 1.5)), "between DCs"),
}

#: Human names of the metrics, and how a pooled cell sums its pairs up.
METRICS: dict[str, tuple[str, str]] = {
    "rtt_min_us": ("Minimum round-trip time", "least"),
    "rtt_p50_us": ("Median round-trip time (p50)", "median"),
    "rtt_p90_us": ("90th percentile of round-trip time (p90)", "worst"),
    "rtt_p95_us": ("95th percentile of round-trip time (p95)", "worst"),
    "rtt_p99_us": ("99th percentile of round-trip time (p99)", "worst"),
    "rtt_max_us": ("Maximum round-trip time", "worst"),
    "rtt_mean_us": ("Mean round-trip time", "median"),
    "jitter_us": ("Jitter (p95 − p50)", "median"),
    "loss": ("Share of probes lost", "sum"),
}

Floats = NDArray[np.float64]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Scale:
    """A log colour scale from `low` to `high` (µs, or a ratio for loss); values beyond are drawn as its ends."""

    low: float
    high: float
    is_loss: bool = False
    beyond: bool = False

    def fraction(self, values: Floats) -> Floats:
        """Return the place of each value on the scale, 0…1. Zero is the low end, NaN stays NaN."""
        clipped = np.clip(values, self.low, self.high)
        return np.asarray(np.log(clipped / self.low) / math.log(self.high / self.low), dtype=np.float64)

    def colours(self, values: Floats) -> Pixels:
        """Return RGB of each value, shape values.shape + (3,). NaN is the low end; a loss of 0 has its own colour."""
        place = np.nan_to_num(self.fraction(values))
        rgb = RAMP[np.rint(place * (len(RAMP) - 1)).astype(np.intp)]
        if self.is_loss:
            rgb[values == 0] = rgb_of(ZERO_LOSS)
        return rgb

    def ticks(self, most: int = 8) -> list[tuple[float, str]]:
        """Return at most `most` round values with their labels, from low to high."""
        digits: tuple[tuple[int, ...], ...] = ((1, 2, 5), (1, 3), (1,))
        for mantissas in digits:
            exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            values = [m * 10.0**e for e in exponents for m in mantissas]
            values = [v for v in values if self.low * 0.999 <= v <= self.high * 1.001]
            if len(values) <= most:
                break
        return [(v, format_loss(v) if self.is_loss else format_us(v)) for v in values]


def latency_scale(values: Floats) -> Scale:
    """Return the scale for these µs: the middle 99 % of them, rounded outwards to 1, 2, 5, at least a factor of 5.

    A lone outlier of seconds must not press a whole mesh of microseconds into one colour, so the scale ends there
    with an arrow.
    """
    positive = np.sort(values[np.isfinite(values)])
    if not positive.size:
        return Scale(10.0, 1_000.0)
    low = max(float(positive[int(0.005 * positive.size)]), 1.0)
    high = max(float(positive[math.ceil(0.995 * positive.size) - 1]), low)
    low, high = _round_down(low), _round_up(high)
    while high / low < 5:
        low, high = max(1.0, _round_down(low * 0.99)), _round_up(high * 1.01)
    return Scale(low, high, beyond=bool(positive[-1] > high or positive[0] < low * 0.999))


LOSS_SCALE = Scale(0.001, 1.0, is_loss=True)


def scale_for(metric: str, values: Floats) -> Scale:
    return LOSS_SCALE if metric == "loss" else latency_scale(values)


def format_us(us: float) -> str:
    """Return µs, ms or s with three significant digits at most: `83 µs`, `2.14 ms`, `10 s`."""
    if not math.isfinite(us):
        return "–"
    for limit, unit, size in ((999.5, "µs", 1), (999_500, "ms", 1e3), (math.inf, "s", 1e6)):
        if us < limit:
            return f"{_three_digits(us / size)} {unit}"
    raise AssertionError


def format_loss(ratio: float) -> str:
    """Return a ratio in percent: `0 %`, `0.3 %`, `12 %`; never `0 %` for what is not zero."""
    percent = 100 * ratio
    if 0 < percent < 0.01:
        return "<0.01 %"
    return f"{_three_digits(percent) if percent < 10 else f'{percent:.0f}'} %"


def format_count(count: int) -> str:
    """Return an integer with thin spaces between thousands."""
    return f"{count:,}".replace(",", "\u2009")


def format_window(window: Window) -> str:
    """Return `2026-11-21 22:05–22:10 UTC`."""
    return f"{window.start:%Y-%m-%d %H:%M}–{window.end:%H:%M} UTC"


def shorten(name: str, most: int) -> str:
    """Return `name` in at most `most` characters; the middle goes, for hosts differ at their ends."""
    if len(name) <= most:
        return name
    head = max(1, (most - 1) // 2)
    tail = most - 1 - head
    return f"{name[:head]}…{name[len(name) - tail :]}" if tail > 0 else name[:most]


def rgb_of(colour: str) -> Pixels:
    """Return `#rrggbb` as three bytes."""
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], dtype=np.uint8)


def _three_digits(value: float) -> str:
    if value >= 99.95:
        return f"{value:.0f}"
    text = f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"
    return text.rstrip("0").rstrip(".")


def _round_down(value: float) -> float:
    decade = 10.0 ** math.floor(math.log10(value) + 1e-12)
    return max(m * decade for m in (1, 2, 5) if m * decade <= value * (1 + 1e-9))


def _round_up(value: float) -> float:
    decade = 10.0 ** math.floor(math.log10(value) + 1e-12)
    return min(m * decade for m in (1, 2, 5, 10) if m * decade >= value * (1 - 1e-9))


#: The ramp as 256 RGB rows. Its last shades of yellow go: they are too near to paper.
RAMP: Pixels = np.rint(matplotlib.colormaps["viridis"](np.linspace(0.0, 0.97, 256))[:, :3] * 255).astype(np.uint8)
