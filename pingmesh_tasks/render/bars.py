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
from numpy.typing import NDArray

from pingmesh_tasks.latency.ladder import Ladders, LadderSums
from pingmesh_tasks.matrix.positions import Pairs, parts_of, positions
from pingmesh_tasks.render import theme
from pingmesh_tasks.render.chart import fit
from pingmesh_tasks.render.heatmap import mesh_parts
from pingmesh_tasks.render.mesh_cells import axis_for
from pingmesh_tasks.render.sheet import Sheet, header
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
from pingmesh_tasks.topology.axis import HostAxis
from pingmesh_tasks.topology.inventory import Inventory
from pingmesh_tasks.windows import Window

MOST_SERVERS, WORST_SERVERS, MOST_WINDOWS = 60, 40, 48
#: The layout in px: a row's height; name, plot, then right edges of the columns mean, p99, unanswered; its strip.
ROW, EDGE, NAME, PLOT = 26, 40, 210, 720
MEAN_AT, P99_AT, UNANSWERED_AT, STRIP, WIDTH = 1060, 1145, 1250, 135, 1440
#: Fill and hatch of a bar by how far it is over the thresholds: colour and shape.
LEVELS = (("#3b6ea8", ""), ("#e0a100", "///"), (theme.FAILED, "xxx"))
COLUMNS = ["src", "dst", "sent", "answered", "retransmitted", "rtt_mean_us"]
COLUMNS += ["rtt_min_us", "rtt_max_us", "ladder_bucket", "ladder_count"]


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
    newest = last[-1][0]
    total, of_servers = _sum_up(last[-1][1], inventory)  # in one pass: its parts may be there to be read once
    by_window = [*(window_bar(window, pairs) for window, pairs in last[:-1]), _window_bar(newest, total)]
    servers = _server_bars(of_servers, inventory)
    shown, rest = _choose(servers, bad_us)

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
    total = _BarSums.empty(1)
    for part in parts_of(pairs):
        total.add(part, np.zeros(len(part), np.int64))
    return _window_bar(window, total)


def server_bars(pairs: Pairs, inventory: Inventory) -> list[Bar]:
    """Return one bar a server of the inventory, in its order, over the pairs that have it at either end."""
    return _server_bars(_sum_up(pairs, inventory)[1], inventory)


@dataclass(frozen=True)
class _BarSums:
    """What pairs add up to, by row. `counts` (rows, 4): µs of all clean answers, how many, probes sent, answered."""

    counts: Floats
    ladders: LadderSums

    @classmethod
    def empty(cls, rows: int) -> _BarSums:
        return cls(np.zeros((rows, 4)), LadderSums.empty(rows))

    def add(self, pairs: pl.DataFrame, *keys: NDArray[np.int64]) -> None:
        """Add each pair to the row that it has in each of `keys`."""
        answered, retransmitted = (pl.col(c).cast(pl.Int64) for c in ("answered", "retransmitted"))
        mean_us = pl.col("rtt_mean_us").cast(pl.Float64)
        clean = (answered - retransmitted) * mean_us.is_not_null()
        figures = pairs.select((mean_us.fill_null(0) * clean).alias("us"), clean.alias("clean"), "sent", "answered")
        ladders = Ladders.of_pairs(pairs)
        for rows in keys:
            for at, values in enumerate(figures):
                self.counts[:, at] += np.bincount(rows, values.to_numpy(), minlength=len(self.counts))
            self.ladders.add(rows, ladders)


def _sum_up(pairs: Pairs, inventory: Inventory) -> tuple[_BarSums, _BarSums]:
    """Return the sums of all pairs and those of each server; the last of these is of hosts not in the inventory."""
    axis = HostAxis.of(inventory)
    total, servers = _BarSums.empty(1), _BarSums.empty(len(axis) + 1)
    for part in parts_of(pairs):
        src, dst = part.select(positions(axis).cast(pl.Int64).fill_null(len(axis)))
        total.add(part, np.zeros(len(part), np.int64))
        servers.add(part, src.to_numpy(), dst.to_numpy())
    return total, servers


def _window_bar(window: Window, total: _BarSums) -> Bar:
    (bar,) = _bars(total, [f"{window.start:%H:%M}–{window.end:%H:%M}"])
    return bar


def _server_bars(servers: _BarSums, inventory: Inventory) -> list[Bar]:
    return _bars(servers, [host.name for host in inventory.hosts])


def _bars(sums: _BarSums, names: Sequence[str]) -> list[Bar]:
    """Return the bars of the first rows."""
    p99_us = sums.ladders.ladders().quantiles_us({"p99": 0.99})["p99"]
    bars = []
    for name, (us, clean, sent, answered), p99 in zip(names, sums.counts.tolist(), p99_us.tolist(), strict=False):
        mean_us, unanswered = us / clean if clean else math.nan, 1 - answered / sent if sent else math.nan
        bars.append(Bar(name, mean_us, p99, unanswered, int(sent), int(answered)))
    return bars


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
