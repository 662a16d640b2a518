"""The usage report: who used the data servers in a window or a day, and for what. A picture, and a page to look closer.

Both say the same (`usage_report`): the figures of the head, users online over time, operations by type, and lists. The
picture has the first TOP rows of each list; the page has all that there are, sorts and filters them and shows each data
server alone. It is one file that asks nothing of any network; its content security policy lets run only the script and
style that it was made with. Names are data there, never markup.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from datetime import datetime, timedelta
from functools import lru_cache
from importlib import resources
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.font_manager import findfont, get_font
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from pingmesh_tasks.render.chart import fit
from pingmesh_tasks.render.sheet import Sheet, font, header, text_width, wrap_parts
from pingmesh_tasks.render.theme import ACCENT, INK, MUTED, format_count, format_loss, format_window
from pingmesh_tasks.render.usage_figures import (
    GREATEST,
    Curve,
    RankedList,
    Report,
    TypesOverTime,
    attribution,
    build_report,
    format_hms,
    lines_of,
    servers_of,
)
from pingmesh_tasks.windows import Window

TOP, MOST_CURVES = 10, 6
#: The layout in px: three columns with gaps; heights of a list's head, of a row, of a plot and of what surrounds it.
WIDTH, EDGE, COLUMN, GAP = 1440, 40, 430, 35
HEAD, ROW, TAIL, PLOT, AROUND, TILES, SHORTEST_BAR = 52, 25, 30, 190, 96, 108, 70
#: The share of rejected lines that is shown as wrong.
MANY_REJECTED = 0.01
BAR, TRACK = "#3b6ea8", "#eef1f4"
#: Fill, hatch and dashes of series: told apart without colour (Okabe and Ito's colours).
SERIES: tuple[tuple[str, str, str | tuple[int, tuple[float, ...]]], ...] = (
    ("#0072b2", "", "solid"),
    ("#e69f00", "////", (0, (6, 2))),
    ("#009e73", "....", (0, (1.5, 1.5))),
    ("#cc79a7", "\\\\\\\\", (0, (6, 2, 1.5, 2))),
    ("#56b4e9", "----", (0, (3, 1))),
    ("#8a94a3", "xxxx", (0, (1, 3))),
)
_COUNTRIES = {"local": "own network", "unknown": "not known"}


def render_usage(usage: pl.DataFrame, online: pl.DataFrame, window: Window) -> bytes:
    """Return the PNG of rows of `USAGE` (one window or several within `window`, one data server or several).

    `online` has the columns server, at (UTC µs), sessions, users: `online_over_time` of each data server. Raises
    StoreError for a frame of another schema and for rows outside of `window`.
    """
    return usage_sheet(usage, online, window).png()


def render_usage_html(usage: pl.DataFrame, online: pl.DataFrame, window: Window) -> bytes:
    """Return the page of the same: one HTML file. Arguments and errors as of `render_usage`."""
    reports = [("All data servers", build_report(usage, online, window))]
    servers = servers_of(usage, online)
    if len(servers) > 1:
        alone = [build_report(usage, online, window, server) for server in servers]
        reports += [(report.servers[0], report) for report in alone]
    page = {
        "title": _title(reports[0][1]),
        "when": format_span(window),
        "start": int(window.start.timestamp()),
        "length": window.length_s,
        "scopes": [{"name": name} | _page_data(report, window) for name, report in reports],
    }
    template = resources.files(__package__).joinpath("usage.html").read_text(encoding="utf-8")
    html = template.replace("/*PAGE*/null", _inert_json(page), 1)
    for kind in ("script", "style"):
        (inline,) = re.findall(rf"<{kind}>(.*?)</{kind}>", html, re.S)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        html = html.replace(f"{kind}-hash", f"sha256-{digest}", 1)
    return html.encode()


def usage_sheet(usage: pl.DataFrame, online: pl.DataFrame, window: Window) -> Sheet:
    """Return the picture of `render_usage` before it is a PNG."""
    report = build_report(usage, online, window)
    tiles = [] if not report.totals else headline(report, window)
    notes = [line for part in _notes(report) for line in wrap_parts([part], WIDTH - 2 * EDGE, 14)]
    rows = [] if report.is_empty else _grid(report)
    plots = 0 if report.is_empty else (1 + (report.types is not None))
    parts = _subtitle(report, window)
    head = 72 + 23 * len(wrap_parts(parts, WIDTH - 2 * EDGE, 15)) + 22
    lists = sum(HEAD + ROW * max(_shown_rows(listing) for listing, _ in row) + TAIL + 22 for row in rows)
    sheet = Sheet(WIDTH, head + TILES * bool(tiles) + 24 * len(notes) + 16 + plots * (PLOT + AROUND) + lists + 12)

    y = header(sheet, drawable(fit(_title(report), 900, 27, bold=True)), parts) + 22
    if tiles:
        _draw_tiles(sheet, y, tiles, _alarming(report))
        y += TILES
    for note in notes:
        sheet.text(EDGE, y, note, px=14, colour=MUTED)
        y += 24
    y += 16
    if not report.is_empty:
        y = _draw_online(sheet, y, report.curves, window)
        if report.types:
            y = _draw_types(sheet, y, report.types, window)
    for row in rows:
        x = EDGE
        for listing, span in row:
            _draw_listing(sheet, x, y, COLUMN * span + GAP * (span - 1), listing)
            x += (COLUMN + GAP) * span
        y += HEAD + ROW * max(_shown_rows(listing) for listing, _ in row) + TAIL + 22
    return sheet


def headline(report: Report, window: Window) -> list[tuple[str, str, str]]:
    """Return the figures of the head: (what, figure, what goes with it)."""
    totals = report.totals

    def count(measure: str) -> str:
        return format_count(totals[measure]) if measure in totals else "–"

    peak = "peak {}" if len(report.servers) < 2 else "peak of one server {}"
    lines = lines_of(totals)
    share = format_loss(totals.get("rejected", 0) / lines) if lines else "0 %"
    rate = totals.get("operations", 0) / window.length_s
    refused = "in the errors log" if "refused" in totals else "no errors log was read"
    return [
        ("Connects", count("connects"), f"{count('disconnects')} disconnects"),
        ("Operations", count("operations"), f"{rate:.1f} a second" if rate >= 0.1 else f"{rate * 3600:.0f} an hour"),
        ("Users online at the end", count("users_online"), peak.format(count("users_online_peak"))),
        ("Sessions online at the end", count("sessions_online"), peak.format(count("sessions_online_peak"))),
        ("Rejected lines", count("rejected"), f"{share} of {format_count(lines)} lines"),
        ("Refused connects", count("refused"), refused),
    ]


def _alarming(report: Report) -> str:
    """Return the name of the figure that is to be shown as wrong, if any."""
    rejected = report.totals.get("rejected", 0)
    return "Rejected lines" if rejected and rejected >= MANY_REJECTED * lines_of(report.totals) else ""


def format_span(window: Window) -> str:
    """Return `2026-11-21 UTC, the whole day`, or the window's date and times."""
    return f"{window.start:%Y-%m-%d} UTC, the whole day" if window.length_s == 86_400 else format_window(window)


def drawable(name: str) -> str:
    """Return `name` with □ for each character that the picture's font lacks (ideographs, emoji)."""
    glyphs = _glyphs()
    return "".join(char if ord(char) in glyphs else "□" for char in name)


@lru_cache(maxsize=1)
def _glyphs() -> frozenset[int]:
    return frozenset(get_font(findfont(font(14))).get_charmap())


def _title(report: Report) -> str:
    return f"Usage of {report.servers[0]}" if len(report.servers) == 1 else "Usage of the data servers"


def _subtitle(report: Report, window: Window) -> list[str]:
    parts = [format_span(window)]
    if len(report.servers) > 1:
        parts.append(f"{len(report.servers)} data servers")
    if report.windows > 1:
        parts.append(f"{report.windows} windows")
    return parts


def _notes(report: Report) -> list[str]:
    """Return what must be said of the figures, in whole sentences."""
    if not report.totals and report.is_empty:
        return ["There is no usage of this window: nothing was collected, or no data server is in the inventory."]
    if report.is_empty:
        return ["Nothing was logged in this window, and nobody was online."]
    notes = [attribution(report.totals)]
    if len(report.servers) > 1:
        notes.append("Who was at two data servers counts at both.")
    return [" ".join(note for note in notes if note)] if any(notes) else []


def _grid(report: Report) -> list[list[tuple[RankedList, int]]]:
    """Return the lists of the picture in rows of three columns, each with the columns that it takes."""
    lists = report.listings
    last = ["servers"] * ("servers" in lists) + ["types"] * (report.types is None) + ["reasons", "hosts", "shots"]
    return [
        [(lists["users"], 1), (lists["countries"], 1), (lists["longest"], 1)],
        [(lists["nodes"], 2), (lists["trees"], 1)],
        [(lists[name], 1) for name in last[:3]],
    ]


def _shown_rows(listing: RankedList) -> int:
    return max(1, min(TOP, len(listing.rows)))


def _draw_tiles(sheet: Sheet, y: int, tiles: list[tuple[str, str, str]], alarming: str) -> None:
    width = (WIDTH - 2 * EDGE) / len(tiles)
    for i, (what, figure, beside) in enumerate(tiles):
        x = EDGE + i * width
        if i:
            sheet.line([x - 14, x - 14], [y + 4, y + 80])
        sheet.text(x, y, what, px=13, colour=MUTED)
        px = min(30.0, 30 * (width - 26) / text_width(figure, 30, True))
        sheet.text(x, y + 22 + (30 - px) / 2, figure, px=px, bold=True, colour=ACCENT if what == alarming else INK)
        sheet.text(x, y + 66, fit(beside, width - 26, 13), px=13, colour=MUTED)


def _draw_online(sheet: Sheet, y: int, curves: tuple[Curve, ...], window: Window) -> int:
    """Draw users and sessions of one data server, or the users of the busiest of several. Return the y below."""
    curves = tuple(sorted(curves, key=lambda curve: (-max(curve.users), curve.server)))
    title = f"Users online, within each {_length(_step_s(curves))}" if curves else "Users online"
    if len(curves) > MOST_CURVES:
        title += f": the {MOST_CURVES} busiest data servers"
    curves_shown = curves[:MOST_CURVES]
    names = _without_domain([curve.server for curve in curves_shown])
    series = [(name, curve.at, curve.users) for name, curve in zip(names, curves_shown, strict=True)]
    if len(curves) == 1:
        series = [("users", curves[0].at, curves[0].users), ("sessions", curves[0].at, curves[0].sessions)]
    axes = _plot(sheet, y, title, [name for name, _, _ in series], window, lines=True)
    top = max((max(values) for _, _, values in series), default=0)
    for i, (_, at, values) in enumerate(series):
        ends = [_since(moment, window) for moment in at]
        ends.append(ends[-1] + _step_s(curves))
        colour, _, dashes = SERIES[i]
        style: dict[str, Any] = {"color": colour, "linestyle": dashes, "linewidth": 2 if len(at) < 100 else 1.5}
        axes.stairs(values, ends, baseline=None, zorder=4 - i * 0.1, **style)
        if len(curves) == 1 and not i:
            axes.stairs(values, ends, fill=True, color=colour, alpha=0.14, zorder=2)
    axes.set_ylim(0, max(top * 1.08, 1))
    return y + PLOT + AROUND


def _draw_types(sheet: Sheet, y: int, types: TypesOverTime, window: Window) -> int:
    """Draw operations of each span of time as stacked bars. Return the y below."""
    axes = _plot(sheet, y, f"Operations by type, each {_length(types.span_s)}", list(types.types), window)
    starts, width = [_since(moment, window) for moment in types.starts], types.span_s
    below = np.zeros(len(starts))
    for i, counts in enumerate(types.counts):
        colour, hatch, _ = SERIES[i]
        style: dict[str, Any] = {"color": colour, "hatch": hatch, "edgecolor": "#ffffff99", "linewidth": 0}
        axes.bar(starts, counts, width * 0.86, bottom=below, align="edge", zorder=3, **style)
        below += np.array(counts)
    axes.set_ylim(0, max(float(below.max()) * 1.08, 1))
    return y + PLOT + AROUND


def _plot(sheet: Sheet, y: int, title: str, names: list[str], window: Window, *, lines: bool = False) -> Axes:
    """Return axes over the window with a title to the left of them above and the names of the series to the right."""
    sheet.text(EDGE, y, title, px=16, bold=True)
    left = EDGE + 62
    axes = sheet.axes(left, y + 38, WIDTH - EDGE - left, PLOT)
    room = (WIDTH - 2 * EDGE - text_width(title, 16, True) - 40) / max(len(names), 1) - 54
    x = float(WIDTH - EDGE)
    for i, name in reversed(list(enumerate(names))):
        label = fit(drawable(name), room, 13)
        x -= text_width(label, 13)
        sheet.text(x, y + 11, label, px=13, va="center")
        _draw_key(sheet, x - 34, y + 11, i, lines)
        x -= 34 + 20
    times = _time_ticks(window)
    axes.set_xlim(0, window.length_s)
    axes.xaxis.set_major_locator(FixedLocator([at for at, _ in times]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda _, i: times[i][1] if i is not None else ""))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_count(round(value))))
    return axes


def _draw_key(sheet: Sheet, x: float, y: float, i: int, line: bool) -> None:
    key = sheet.axes(x, y - 6, 26, 12)
    key.set_axis_off()
    key.set_xlim(0, 1)
    key.set_ylim(0, 1)
    colour, hatch, dashes = SERIES[i]
    if line:
        key.plot([0, 1], [0.5, 0.5], color=colour, linestyle=dashes, linewidth=2.4)
    else:
        key.bar([0.5], [1], 1, color=colour, hatch=hatch, edgecolor="#ffffff99", linewidth=0)


def _time_ticks(window: Window) -> list[tuple[int, str]]:
    """Return at most 13 round moments, in seconds of the window, with their labels."""
    step_s = next(s for s in (10, 30, 60, 120, 300, 600, 1_800, 3_600, 7_200) if window.length_s <= 12 * s)
    first = -int(window.start.timestamp()) % step_s
    pattern = "%H:%M:%S" if step_s % 60 else "%H:%M"
    return [(s, f"{window.start + timedelta(seconds=s):{pattern}}") for s in range(first, window.length_s + 1, step_s)]


def _since(moment: datetime, window: Window) -> float:
    return (moment - window.start).total_seconds()


def _step_s(curves: tuple[Curve, ...]) -> int:
    """Return the seconds that a step of the curves takes: those between the nearest two of its moments."""
    gaps = [(b - a).total_seconds() for curve in curves for a, b in pairwise(curve.at)]
    return max(1, round(min(gaps, default=60)))


def _draw_listing(sheet: Sheet, x: float, y: float, width: float, listing: RankedList) -> None:
    """Draw the first rows of a list: name, bar of the first column, and the columns' figures on the right."""
    sheet.text(x, y, listing.title, px=16, bold=True)
    columns = listing.columns[:2]
    shown = listing.rows[:TOP]
    texts = [[_figure(value, measure) for value, (measure, _) in zip(row, columns, strict=False)] for _, row in shown]
    heads = [heading for _, heading in columns]
    rooms = [
        max([text_width(head, 12, True), *(text_width(row[i], 13) for row in texts)]) + 16
        for i, head in enumerate(heads)
    ]
    rights = [x + width - used for used in accumulate(rooms[:0:-1], initial=0.0)][::-1]
    for right, head in zip(rights, heads, strict=True):
        sheet.text(right, y + 42, head, px=12, bold=True, colour=MUTED, ha="right", va="center")
    sheet.line([x, x + width], [y + HEAD, y + HEAD])
    if not shown:
        sheet.text(x, y + HEAD + ROW / 2 + 2, "none", px=13, colour=MUTED, va="center")
    bar_right = rights[0] - rooms[0]
    names = [_COUNTRIES.get(key, key) if listing.key == "country" else key for key, _ in shown]
    names = _without_domain(names) if listing.key in {"server", "host"} else names
    widest = max((text_width(drawable(name), 13) for name in names), default=0) + 14
    room = min(max(widest, (bar_right - x) * 0.5), bar_right - x - SHORTEST_BAR)
    most = max((row[0] or 0 for _, row in shown), default=0)
    for i, (_, row) in enumerate(shown):
        middle = y + HEAD + ROW * (i + 0.5) + 2
        sheet.text(x, middle, fit(drawable(names[i]), room - 12, 13), px=13, va="center")
        sheet.box(x + room, middle - 6, bar_right - x - room, 12, TRACK)
        if most and row[0]:
            sheet.box(x + room, middle - 6, max(2.0, (bar_right - x - room) * row[0] / most), 12, BAR)
        for right, text in zip(rights, texts[i], strict=True):
            sheet.text(right, middle, text, px=13, ha="right", va="center")
    below = _below(listing, TOP)
    if below:
        bottom = y + HEAD + ROW * max(1, len(shown)) + 5
        sheet.text(x, bottom, fit(below, width, 12), px=12, colour=MUTED)


def _below(listing: RankedList, shown: int) -> str:
    """Return what the rows that are not shown add up to."""
    hidden, parts = listing.rows[shown:], []
    measure, heading = listing.columns[0]
    if measure in GREATEST:
        parts = [f"and {len(hidden)} more"] if hidden else []
    elif rest := listing.rest[0] + sum(row[0] or 0 for _, row in hidden):
        parts = [f"all others: {format_count(rest)} {heading}"]
    return "  ·  ".join([*parts, *([listing.note] if listing.note else [])])


def _without_domain(names: list[str]) -> list[str]:
    """Return the names without what follows the first dot, where that is the same in all; addresses stay whole."""
    domains = {name.partition(".")[2] for name in names}
    if len(names) < 2 or len(domains) > 1 or any(name[:1].isdigit() for name in names):
        return names
    return [name.partition(".")[0] or name for name in names]


def _figure(value: int | None, measure: str) -> str:
    if value is None:
        return "–"
    return format_hms(value) if measure.endswith("_s") else format_count(value)


def _length(seconds: int) -> str:
    for unit, size in (("h", 3_600), ("min", 60)):
        if seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _page_data(report: Report, window: Window) -> dict[str, Any]:
    """Return a report as plain values for the page."""
    types = report.types
    return {
        "tiles": headline(report, window) if report.totals else [],
        "alarming": _alarming(report),
        "notes": _notes(report),
        "empty": report.is_empty,
        "parts": _subtitle(report, window)[1:],
        "curves": [
            {
                "name": c.server,
                "step": _step_s((c,)),
                "at": [int(a.timestamp()) for a in c.at],
                "users": c.users,
                "sessions": c.sessions,
            }
            for c in report.curves
        ],
        "types": types
        and {
            "at": [int(a.timestamp()) for a in types.starts],
            "span": types.span_s,
            "each": _length(types.span_s),
            "names": types.types,
            "counts": types.counts,
        },
        "lists": [
            {
                "name": listing.name,
                "title": listing.title,
                "key": listing.key,
                "columns": [heading for _, heading in listing.columns],
                "spans": [measure.endswith("_s") for measure, _ in listing.columns],
                "rows": [[_COUNTRIES.get(k, k) if listing.key == "country" else k, *v] for k, v in listing.rows],
                "rest": listing.rest if any(listing.rest) else None,
                "note": listing.note,
            }
            for listing in report.listings.values()
        ],
    }


def _inert_json(value: object) -> str:
    """Return JSON that is inert inside a script element: no name can close it or open a comment."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), sort_keys=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


__all__ = ["drawable", "format_span", "headline", "render_usage", "render_usage_html", "usage_sheet"]
