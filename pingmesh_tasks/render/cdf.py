"""The latency CDF of a window: the whole mesh and each scope, with p50, p90 and p99 marked and written out.

Drawn from the summed ladders, so its quantiles are within 2.9 %; exact percentiles exist for single pairs only. Two
panels: the share of answers at least so fast and, where the eye can tell 99 % from 99.9 %, the share that were slower.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import NDArray

from pingmesh_tasks.latency.ladder import Ladders, LadderSums
from pingmesh_tasks.render.heatmap import mesh_parts
from pingmesh_tasks.render.mesh_cells import axis_for
from pingmesh_tasks.render.sheet import Sheet, font, header, text_width
from pingmesh_tasks.render.theme import (
    INK,
    MUTED,
    PAPER,
    RULE,
    SCOPE_STYLE,
    Floats,
    format_count,
    format_loss,
    format_us,
    format_window,
    latency_scale,
)
from pingmesh_tasks.topology.inventory import Inventory
from pingmesh_tasks.windows import Window

QUANTILES = {"p50": 0.50, "p90": 0.90, "p99": 0.99}
MARKERS = {"p50": "o", "p90": "s", "p99": "^"}
WIDTH, PANEL_H = 1480, 470
COLUMNS = ["scope", "sent", "answered", "rtt_min_us", "rtt_max_us", "ladder_bucket", "ladder_count"]


def render_cdf(pairs: pl.DataFrame, inventory: Inventory, window: Window) -> bytes:
    """Return the PNG of one window. `pairs`: rows of `pair_latency` with their ladders."""
    return cdf_sheet(pairs, inventory, window).png()


def cdf_sheet(pairs: pl.DataFrame, inventory: Inventory, window: Window) -> Sheet:
    """Return the picture of `render_cdf` before it is a PNG."""
    spreads = scope_spreads(pairs)
    sheet = Sheet(WIDTH, 870)
    total = spreads["all"].answers
    parts = [format_window(window), mesh_parts(inventory, axis_for(inventory), "rtt_p50_us")[0]]
    parts.append(f"{format_count(total)} clean answers")
    y = header(sheet, "Distribution of round-trip time", parts) + 34
    if not total:
        sheet.box(40, y, WIDTH - 80, PANEL_H, "#f4f6f8")
        middle = (WIDTH / 2, y + PANEL_H / 2)
        sheet.text(*middle, "No clean answer in this window", px=20, colour=MUTED, ha="center", va="center")
    else:
        ends = _ends(spreads["all"])
        left = sheet.axes(100, y, 780, PANEL_H)
        right = sheet.axes(1010, y, 430, PANEL_H)
        sheet.text(100, y - 26, "Share of answers at least this fast", px=14, bold=True)
        sheet.text(1010, y - 26, "Share of answers slower, log scale", px=14, bold=True)
        _draw_cdf(left, spreads, ends)
        _draw_tail(right, spreads, ends)
    _draw_table(sheet, 40, y + PANEL_H + 62, pairs, spreads)
    return sheet


@dataclass(frozen=True)
class Spread:
    """How the round trips of some pairs are distributed: quantiles, and the CDF as points (µs, share at or below)."""

    answers: int
    quantiles_us: Mapping[str, float]
    us: NDArray[np.int64]
    shares: Floats


def scope_spreads(pairs: pl.DataFrame) -> dict[str, Spread]:
    """Return the spread of the whole mesh (`all`, first) and of each scope that has answers."""
    scopes = [*SCOPE_STYLE]
    scope = pairs["scope"].cast(pl.Enum(scopes), strict=False).to_physical().fill_null(len(scopes)).cast(pl.Int64)
    sums, ladders = LadderSums.empty(len(scopes) + 1), Ladders.of_pairs(pairs)
    for rows in (scope.to_numpy(), np.zeros(len(pairs), np.int64)):
        sums.add(rows, ladders)
    summed = sums.ladders()
    answers, quantiles = summed.totals, summed.quantiles_us(QUANTILES)
    return {
        name: Spread(int(answers[at]), {q: float(us[at]) for q, us in quantiles.items()}, *summed.cdf(at))
        for at, name in enumerate(scopes)
        if answers[at] or name == "all"
    }


def _draw_cdf(axes: Axes, spreads: Mapping[str, Spread], ends: tuple[float, float]) -> None:
    for scope, spread in reversed(list(spreads.items())):
        colour, dashes, _ = SCOPE_STYLE[scope]
        axes.plot(spread.us, spread.shares, color=colour, linestyle=dashes, linewidth=2.6 if scope == "all" else 2.0)
        for name, us in spread.quantiles_us.items():
            axes.plot(
                [us], [QUANTILES[name]], MARKERS[name], color=colour, markersize=7, markeredgecolor=PAPER, zorder=5
            )
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_locator(FixedLocator([0, 0.25, 0.5, 0.75, 0.9, 1]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.0f} %"))
    _time_axis(axes, ends, most=9)


def _draw_tail(axes: Axes, spreads: Mapping[str, Spread], ends: tuple[float, float]) -> None:
    for scope, spread in reversed(list(spreads.items())):
        colour, dashes, _ = SCOPE_STYLE[scope]
        slower = 1 - spread.shares
        shown = slower > 1e-12
        axes.plot(
            spread.us[shown], slower[shown], color=colour, linestyle=dashes, linewidth=2.6 if scope == "all" else 2.0
        )
        for name, us in spread.quantiles_us.items():
            at = [us], [1 - QUANTILES[name]]
            axes.plot(*at, MARKERS[name], color=colour, markersize=7, markeredgecolor=PAPER, zorder=5)
    axes.set_yscale("log")
    least = 10.0 ** np.floor(-np.log10(max(2, spreads["all"].answers)))
    axes.set_ylim(max(least, 1e-6), 1.3)
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.6g} %"))
    _time_axis(axes, ends, most=5)


def _time_axis(axes: Axes, ends: tuple[float, float], most: int) -> None:
    """Make x a log axis of µs and ms with round ticks."""
    axes.set_xscale("log")
    axes.set_xlim(*ends)
    ticks = latency_scale(np.array(ends)).ticks(most=most)
    axes.xaxis.set_major_locator(FixedLocator([value for value, _ in ticks]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda us, _: format_us(us)))
    axes.set_xlabel("round-trip time, log scale", fontproperties=font(13), color=MUTED, labelpad=8)


def _draw_table(sheet: Sheet, x: int, y: int, pairs: pl.DataFrame, spreads: Mapping[str, Spread]) -> None:
    """Write what the marks stand at: a legend whose columns are the quantiles."""
    columns = (x + 250, x + 390, x + 530, x + 690, x + 850, x + 990, x + 1130)
    axes = sheet.axes(x, y, WIDTH - 2 * x, 24 + 28 * len(SCOPE_STYLE))
    axes.set_axis_off()
    axes.set_xlim(0, WIDTH - 2 * x)
    axes.set_ylim(24 + 28 * len(SCOPE_STYLE), 0)
    for at, (label, marker) in zip(columns, MARKERS.items(), strict=False):
        axes.plot([at - x - text_width(label, 14, True) - 14], [8], marker, color=MUTED, markersize=7)
        sheet.text(at, y + 8, label, px=14, bold=True, ha="right", va="center")
    for at, label in zip(columns[3:], ("answers", "pairs", "sent", "unanswered"), strict=True):
        sheet.text(at, y + 8, label, px=14, bold=True, ha="right", va="center")
    totals = _totals(pairs)
    for row, (scope, spread) in enumerate(spreads.items()):
        colour, dashes, name = SCOPE_STYLE[scope]
        middle = y + 38 + 28 * row
        sheet.line([x, WIDTH - x], [middle - 14, middle - 14], colour=RULE)
        axes.plot([2, 52], [middle - y, middle - y], color=colour, linestyle=dashes, linewidth=2.6)
        sheet.text(x + 66, middle, name, px=14, va="center")
        for at, us in zip(columns, spread.quantiles_us.values(), strict=False):
            sheet.text(at, middle, format_us(us), px=14, ha="right", va="center", colour=INK)
        planned, sent, answered = totals.get(scope, (0, 0, 0))
        shown = (format_count(spread.answers), format_count(planned), format_count(sent))
        for at, value in zip(columns[3:], (*shown, format_loss(1 - answered / sent) if sent else "–"), strict=True):
            sheet.text(at, middle, value, px=14, ha="right", va="center", colour=INK)
    caption = (
        "From log buckets of 5.9 %: quantiles are within ±2.9 % (exact ones exist per pair only). "
        "Answers after a retransmit are left out; so are unanswered probes."
    )
    sheet.text(x, y + 38 + 28 * len(SCOPE_STYLE), caption, px=13, colour=MUTED)


def _totals(pairs: pl.DataFrame) -> dict[str, tuple[int, int, int]]:
    """Return (pairs, sent, answered) of each scope and of `all`."""
    wide = pairs.group_by("scope").agg(pl.len().cast(pl.Int64), pl.col("sent", "answered").cast(pl.Int64).sum())
    rows = {scope: (count, sent, answered) for scope, count, sent, answered in wide.iter_rows()}
    rows["all"] = (sum(r[0] for r in rows.values()), sum(r[1] for r in rows.values()), sum(r[2] for r in rows.values()))
    return rows


def _ends(spread: Spread) -> tuple[float, float]:
    """Return the ends of the time axis: a little room beyond the extremes, and at least a factor of 2 between them."""
    low, high = max(float(spread.us[0]), 1.0) / 1.1, max(float(spread.us[-1]), 1.0) * 1.1
    room = max(1.0, 2 * low / high) ** 0.5
    return low / room, high * room
