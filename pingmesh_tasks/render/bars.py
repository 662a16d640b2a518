"""Latency bars: how each window was, and how each server was in the newest one.

A bar is the mean RTT over all clean answers (each pair's mean weighted by its answers), a tick is p99 from the summed
ladders (within 2.9 %), the strip beside it the share of probes that got no answer, lost or refused. A server's numbers
take in both directions: what it sent and what was sent to it. Threshold lines say what the SLA says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from pingmesh_tasks.render import theme
from pingmesh_tasks.render.chart import fit
from pingmesh_tasks.render.heatmap import mesh_parts
from pingmesh_tasks.render.mesh_cells import Pairs, axis_for, parts_of
from pingmesh_tasks.render.sheet import Sheet, header
from pingmesh_tasks.render.spread import BUCKETS, ladders_by, quantile_us
from pingmesh_tasks.render.theme import (
    ACCENT,
    INK,
    MUTED,
    PAPER,
    Floats,
    format_count,
    format_loss,
    format_us,
    latency_scale,
)
from pingmesh_tasks.topology.inventory import Inventory
from pingmesh_tasks.windows import Window

MOST_SERVERS, WORST_SERVERS, MOST_WINDOWS = 60, 40, 48
#: The layout in px: a row's height; name, plot, then right edges of the columns mean, p99, unanswered; its strip.
ROW, EDGE, NAME, PLOT = 26, 40, 210, 720
MEAN_AT, P99_AT, UNANSWERED_AT, STRIP, WIDTH = 1060, 1145, 1250, 135, 1440
#: Fill and hatch of a bar by how far it is over the thresholds: colour and shape.
LEVELS = (("#3b6ea8", ""), ("#e0a100", "///"), (theme.FAILED, "xxx"))
#: By host: µs of all clean answers, their count, probes sent, probes answered, then the 242 counts of the ladder.
Tally = dict[str, Floats]
COLUMNS = ["src", "dst", "sent", "answered", "retransmitted", "rtt_mean_us", "ladder_bucket", "ladder_count"]


@dataclass(frozen=True, slots=True)
class Bar:
    """One row of a panel. `mean_us` and `p99_us` are NaN without a clean answer, `unanswered` when nothing was sent."""

    name: str
    mean_us: float
    p99_us: float
    unanswered: float
    sent: int
    answered: int


def render_bars(
    windows: Sequence[tuple[Window, Pairs]],
    inventory: Inventory,
    *,
    slow_us: float = 1_000,
    bad_us: float = 5_000,
) -> bytes:
    """Return the PNG of these windows (oldest first; rows of `pair_latency` with ladders) and their servers.

    `slow_us` and `bad_us` are thresholds of the mean. Above 60 servers the 40 worst are shown, the rest summed up.
    """
    return bars_sheet(windows, inventory, slow_us=slow_us, bad_us=bad_us).png()


def bars_sheet(
    windows: Sequence[tuple[Window, Pairs]],
    inventory: Inventory,
    *,
    slow_us: float = 1_000,
    bad_us: float = 5_000,
) -> Sheet:
    """Return the picture of `render_bars` before it is a PNG."""
    if not windows:
        raise ValueError("bars need at least one window; give (window, pairs) tuples")
    last = sorted(windows, key=lambda item: item[0].start)[-MOST_WINDOWS:]
    sent_by, sent_to = _tallies(last[-1][1], "src", "dst")  # in one pass: its parts may be there to be read once
    by_window = [*(window_bar(window, pairs) for window, pairs in last[:-1]), _total_bar(last[-1][0], sent_by)]
    servers = _server_bars(sent_by, sent_to, inventory)
    shown, rest = _choose(servers, bad_us)
    newest = last[-1][0]

    height = 96 + 24 + 2 * 98 + ROW * (len(by_window) + len(shown)) + 26 + 34 * bool(rest)
    sheet = Sheet(WIDTH, height)
    parts = [
        f"{last[0][0].start:%Y-%m-%d %H:%M}–{newest.end:%H:%M} UTC",
        mesh_parts(inventory, axis_for(inventory), "rtt_p50_us")[0],
        "bar: mean of clean answers",
        "tick: p99 (±2.9 %)",
        f"lines: {format_us(slow_us)} and {format_us(bad_us)}",
    ]
    y = header(sheet, "Latency by window and by server", parts) + 24
    known = [v for bar in (*by_window, *shown) for v in (bar.mean_us, bar.p99_us) if math.isfinite(v) and v > 0]
    ends = _ends(known, slow_us, bad_us)
    y = _draw_panel(sheet, y, "Windows", by_window, ends, slow_us, bad_us)
    title = f"Servers in {newest.start:%H:%M}–{newest.end:%H:%M}, both directions"
    if rest:
        title += f": the {len(shown)} worst of {format_count(len(servers))}"
    y = _draw_panel(sheet, y + 26, title, shown, ends, slow_us, bad_us)
    if rest:
        sheet.text(40, y - 6, _rest_line(rest), px=14, colour=MUTED)
    return sheet


def window_bar(window: Window, pairs: Pairs) -> Bar:
    """Return the bar of a whole window."""
    return _total_bar(window, _tallies(pairs, "src")[0])


def server_bars(pairs: Pairs, inventory: Inventory) -> list[Bar]:
    """Return one bar a server of the inventory, in its order, over the pairs that have it at either end."""
    sent_by, sent_to = _tallies(pairs, "src", "dst")
    return _server_bars(sent_by, sent_to, inventory)


def _tallies(pairs: Pairs, *ends: str) -> list[Tally]:
    """Return for each of `ends` (src, dst) what its hosts' pairs add up to."""
    tallies: list[Tally] = [{} for _ in ends]
    answered, retransmitted = (pl.col(c).cast(pl.Int64) for c in ("answered", "retransmitted"))
    clean = (answered - retransmitted) * pl.col("rtt_mean_us").is_not_null()
    sums = ((pl.col("rtt_mean_us").cast(pl.Float64) * clean).sum(), clean.sum().alias("clean"))
    for part in parts_of(pairs):
        for end, tally in zip(ends, tallies, strict=True):
            rows = part.group_by(end).agg(*sums, pl.col("sent", "answered").cast(pl.Int64).sum())
            for name, *figures in rows.iter_rows():
                tally.setdefault(name, np.zeros(4 + BUCKETS))[:4] += figures
            for name, ladder in ladders_by(part, end).items():
                tally[name][4:] += ladder
    return tallies


def _total_bar(window: Window, tally: Tally) -> Bar:
    return _bar(f"{window.start:%H:%M}–{window.end:%H:%M}", sum(tally.values(), np.zeros(4 + BUCKETS)))


def _server_bars(sent_by: Tally, sent_to: Tally, inventory: Inventory) -> list[Bar]:
    nothing = np.zeros(4 + BUCKETS)
    return [_bar(h.name, sent_by.get(h.name, nothing) + sent_to.get(h.name, nothing)) for h in inventory.hosts]


def _bar(name: str, sums: Floats) -> Bar:
    us, (clean, sent, answered) = float(sums[0]), (int(count) for count in sums[1:4])
    p99_us = quantile_us(sums[4:].astype(np.int64), 0.99)
    return Bar(
        name, us / clean if clean else math.nan, p99_us, 1 - answered / sent if sent else math.nan, sent, answered
    )


def _choose(servers: list[Bar], bad_us: float) -> tuple[list[Bar], list[Bar]]:
    """Return the servers to show and the rest. Worst: no answer, then 1 % unanswered and more, then the highest p99."""
    if len(servers) <= MOST_SERVERS:
        return servers, []

    def badness(bar: Bar) -> tuple[bool, float, float]:
        share = bar.unanswered if math.isfinite(bar.unanswered) else 0.0
        return (bar.answered == 0, share if share >= 0.01 else 0.0, bar.p99_us if math.isfinite(bar.p99_us) else 0.0)

    order = sorted(servers, key=badness, reverse=True)
    return order[:WORST_SERVERS], order[WORST_SERVERS:]


def _rest_line(rest: list[Bar]) -> str:
    means = [b.mean_us for b in rest if math.isfinite(b.mean_us)]
    shares = [b.unanswered for b in rest if math.isfinite(b.unanswered)]
    if not means:
        return f"The other {format_count(len(rest))} servers have no clean answer."
    return (
        f"The other {format_count(len(rest))}: mean {format_us(min(means))} to {format_us(max(means))}, "
        f"median of means {format_us(float(np.median(means)))}, at most {format_loss(max(shares))} unanswered."
    )


def _draw_panel(
    sheet: Sheet, y: int, title: str, bars: Sequence[Bar], ends: tuple[float, float], slow_us: float, bad_us: float
) -> int:
    """Draw one bar a row with its unanswered share beside it. Return the y below."""
    sheet.text(EDGE, y, title, px=16, bold=True)
    y += 52
    for at, label in ((MEAN_AT, "mean"), (P99_AT, "p99"), (UNANSWERED_AT, "unanswered")):
        sheet.text(at, y - 5, label, px=13, bold=True, ha="right", va="bottom")
    height = ROW * len(bars)
    left = EDGE + NAME
    axes = sheet.axes(left, y, PLOT, height)
    axes.set_xscale("log")
    axes.set_xlim(*ends)
    axes.set_ylim(len(bars), 0)
    axes.yaxis.set_major_locator(NullLocator())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_locator(FixedLocator([v for v, _ in latency_scale(np.array(ends)).ticks(most=10)]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda us, _: format_us(us)))
    for threshold, (colour, _) in zip((slow_us, bad_us), LEVELS[1:], strict=True):
        axes.axvline(threshold, color=colour, linewidth=1.6, linestyle=(0, (5, 3)), zorder=3)
        share = math.log(threshold / ends[0]) / math.log(ends[1] / ends[0])
        sheet.text(left + PLOT * share, y - 5, format_us(threshold), px=12, colour=MUTED, ha="center", va="bottom")
    for row, bar in enumerate(bars):
        _draw_bar(axes, row + 0.5, bar, ends, slow_us, bad_us)
        middle = y + ROW * (row + 0.5)
        sheet.text(left - 12, middle, fit(bar.name, NAME - 16, 14), px=14, ha="right", va="center")
        if not math.isfinite(bar.mean_us):
            label = "nothing sent" if not bar.sent else "no answer" if not bar.answered else "no clean answer"
            sheet.text(left + 34, middle, label, px=13, colour=ACCENT, va="center")
        for at, us in ((MEAN_AT, bar.mean_us), (P99_AT, bar.p99_us)):
            sheet.text(at, middle, format_us(us), px=13, ha="right", va="center")
        _draw_unanswered(sheet, middle, bar)
    return y + height + 46


def _draw_bar(axes: Axes, y: float, bar: Bar, ends: tuple[float, float], slow_us: float, bad_us: float) -> None:
    if not math.isfinite(bar.mean_us):
        axes.plot(
            [ends[0] * (ends[1] / ends[0]) ** 0.02],
            [y],
            "x" if bar.sent else "_",
            color=theme.FAILED,
            markersize=9,
            markeredgewidth=2.5,
        )
        return
    colour, hatch = LEVELS[(bar.mean_us >= slow_us) + (bar.mean_us >= bad_us)]
    width = max(bar.mean_us, ends[0] * 1.02) - ends[0]
    axes.barh(y, width, 0.62, left=ends[0], color=colour, hatch=hatch, edgecolor=PAPER, linewidth=0, zorder=2)
    if math.isfinite(bar.p99_us):
        axes.plot([bar.mean_us, bar.p99_us], [y, y], color=INK, linewidth=1.1, zorder=3)
        axes.plot([bar.p99_us], [y], "|", color=INK, markersize=11, markeredgewidth=2, zorder=4)


def _draw_unanswered(sheet: Sheet, y: float, bar: Bar) -> None:
    """Draw the share unanswered as a short bar to 100 %, with its figure; a bar of some is never empty."""
    if not math.isfinite(bar.unanswered):
        sheet.text(UNANSWERED_AT, y, "–", px=13, ha="right", va="center")
        return
    x = UNANSWERED_AT + 15
    sheet.box(x, y - 5, STRIP, 10, "#eef1f4")
    if bar.unanswered:
        sheet.box(x, y - 5, max(3.0, STRIP * bar.unanswered), 10, theme.LOSS_MARK)
    high = bar.unanswered >= 0.01
    sheet.text(
        UNANSWERED_AT,
        y,
        format_loss(bar.unanswered),
        px=13,
        colour=ACCENT if high else INK,
        bold=high,
        ha="right",
        va="center",
    )


def _ends(values: Sequence[float], slow_us: float, bad_us: float) -> tuple[float, float]:
    """Return the time axis: from below the shortest bar to beyond the longest and both thresholds."""
    low = min([*values, slow_us]) / 2.5
    return max(1.0, 10 ** math.floor(math.log10(max(low, 1.0)))), max([*values, bad_us]) * 4


__all__ = ["Bar", "bars_sheet", "render_bars", "server_bars", "window_bar"]
