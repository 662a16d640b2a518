"""The heatmap of a window, and the last windows side by side.

Rows are sources, columns destinations. Up to 200 hosts each pair is a cell; above, a cell is a pair of ToRs, of
podsets, or of blocks of hosts (see `mesh`). The title says which, and how a cell sums its pairs up.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pingmesh_tasks.matrix.positions import Pairs
from pingmesh_tasks.render import raster, theme
from pingmesh_tasks.render.chart import Frame, draw_labels, draw_marks, draw_ramp, fit, frame_for, marks_height
from pingmesh_tasks.render.mesh_cells import Mesh, PictureAxis, axis_for, build_mesh, code_pairs, fold
from pingmesh_tasks.render.sheet import Sheet, header, text_width, wrap_parts
from pingmesh_tasks.render.theme import INK, METRICS, MUTED, format_count, format_loss, format_us, format_window
from pingmesh_tasks.render.worst_pairs import Findings, WorstPair, find
from pingmesh_tasks.topology.inventory import Inventory
from pingmesh_tasks.windows import Window

SIDE = 1150
EDGE, SIDEBAR, CORNER = 40, 390, 116
HISTORY = 4
_NAMED_HOSTS = 5


def render_heatmap(pairs: Pairs, inventory: Inventory, window: Window, *, metric: str = "rtt_p50_us") -> bytes:
    """Return the PNG of one window. `pairs`: rows of `pair_latency`, any order; `metric`: a key of `theme.METRICS`."""
    return heatmap_sheet(pairs, inventory, window, metric=metric).png()


def heatmap_sheet(pairs: Pairs, inventory: Inventory, window: Window, *, metric: str = "rtt_p50_us") -> Sheet:
    """Return the picture of `render_heatmap` before it is a PNG."""
    axis = axis_for(inventory)
    coded = code_pairs(pairs, axis, metric)
    findings, mesh = find(coded, metric), fold(coded, metric)
    scale = theme.scale_for(metric, mesh.value)
    frame = frame_for(axis, SIDE)
    parts = [format_window(window), *mesh_parts(inventory, axis, metric), *total_parts(findings)]

    left, side = EDGE + max(frame.margin, CORNER), frame.grid.side
    width = max(left + side + 44 + SIDEBAR + EDGE, 1060)
    lines = len(wrap_parts(parts, width - 2 * EDGE, 15))
    top = 30 + 42 + 23 * lines + 22 + max(frame.margin, 50)
    notes = note_lines(findings, mesh)
    above = max(frame.margin, 50)
    sidebar_height = 110 + marks_height([mesh]) + 34 + 52 * len(findings.worst) + 44 * len(notes)
    sheet = Sheet(width, max(top + side, top - above + sidebar_height) + EDGE)

    header(sheet, METRICS[metric][0], parts)
    values = format_us if metric != "loss" else format_loss
    sheet.image(left, top, raster.paint(mesh, frame.grid, scale, values=values))
    draw_labels(sheet, frame, left, top)
    draw_corner(sheet, left, top)
    draw_rings(sheet, findings.worst, frame, left, top)
    x, y = left + side + 44, top - above + 6
    y = draw_ramp(sheet, x, y, SIDEBAR - 30, scale, ramp_title(metric))
    y = draw_marks(sheet, x, y, [mesh])
    y = _draw_worst(sheet, x, y, findings.worst, axis, metric)
    _draw_notes(sheet, x, y, notes)
    return sheet


def render_history(
    windows: Sequence[tuple[Window, Pairs]], inventory: Inventory, *, metric: str = "rtt_p50_us"
) -> bytes:
    """Return a PNG of the last four of `windows` (oldest first) side by side, on one colour scale."""
    return history_sheet(windows, inventory, metric=metric).png()


def history_sheet(
    windows: Sequence[tuple[Window, Pairs]], inventory: Inventory, *, metric: str = "rtt_p50_us"
) -> Sheet:
    """Return the picture of `render_history` before it is a PNG."""
    if not windows:
        raise ValueError("a history needs at least one window; give (window, pairs) tuples")
    last = sorted(windows, key=lambda item: item[0].start)[-HISTORY:]
    axis = axis_for(inventory)
    meshes = [build_mesh(pairs, axis, metric) for _, pairs in last]
    scale = theme.scale_for(metric, np.concatenate([m.value.ravel() for m in meshes]))
    frame = frame_for(axis, 440, largest=56, name_room=110)
    side, gap = frame.grid.side, 36
    left = EDGE + max(frame.margin, CORNER)
    first, final = last[0][0], last[-1][0]
    parts = [
        f"{first.start:%Y-%m-%d %H:%M}–{final.end:%H:%M} UTC",
        f"{len(last)} window{'s' * (len(last) > 1)} of {final.length_s // 60} min",
        *mesh_parts(inventory, axis, metric),
        "one scale for all",
    ]
    width = max(left + len(last) * (side + gap) - gap + EDGE, 940)
    lines = len(wrap_parts(parts, width - 2 * EDGE, 15))
    top = 30 + 42 + 23 * lines + 22 + 30 + max(frame.margin, 50)
    legend = top + side + 84
    sheet = Sheet(width, legend + max(110, marks_height(meshes)) + 10)
    header(sheet, f"{METRICS[metric][0]}, window by window", parts)
    for i, ((window, _), mesh) in enumerate(zip(last, meshes, strict=True)):
        x = left + i * (side + gap)
        sheet.image(
            x, top, raster.paint(mesh, frame.grid, scale, values=format_us if metric != "loss" else format_loss)
        )
        draw_labels(sheet, frame, x, top, rows=i == 0)
        sheet.text(x, top - max(frame.margin, 50) - 26, f"{window.start:%H:%M}–{window.end:%H:%M}", px=16, bold=True)
        sheet.text(x, top + side + 10, fit(_summary(mesh), side + gap - 8, 13), px=13, colour=MUTED)
        sheet.text(x, top + side + 30, fit(_failures(mesh), side + gap - 8, 13), px=13, colour=theme.ACCENT)
    draw_corner(sheet, left, top)
    draw_ramp(sheet, EDGE, legend, 400, scale, ramp_title(metric))
    draw_marks(sheet, EDGE + 470, legend, meshes)
    return sheet


def mesh_parts(inventory: Inventory, axis: PictureAxis, metric: str) -> list[str]:
    """Return what the subtitle says about the matrix: how many hosts, and what a cell is."""
    hosts = inventory.hosts
    parts = [f"{format_count(len(hosts))} host{'s' * (len(hosts) != 1)}"]
    if inventory.has_topology:
        groups = (
            (len({h.dc for h in hosts}), "DC"),
            (len({(h.dc, h.podset) for h in hosts}), "podset"),
            (len({h.tor_key for h in hosts}), "ToR"),
        )
        parts[0] += " in " + ", ".join(f"{format_count(count)} {name}{'s' * (count != 1)}" for count, name in groups)
    if axis.kind != "host":
        how = {"median": "median of its pairs", "worst": "worst of its pairs", "least": "least of its pairs"}
        unit = "block of hosts" if axis.kind == "block" else axis.kind
        parts.append(f"each cell: {unit} × {unit}, {how.get(METRICS[metric][1], 'all probes of its pairs')}")
    return parts


def total_parts(findings: Findings) -> list[str]:
    """Return the totals of a window, as parts of a subtitle."""
    other = findings.sent - findings.answered - findings.lost
    parts = [
        f"{format_count(findings.pairs)} pairs planned",
        f"{format_count(findings.sent)} probes sent",
        f"{format_loss(findings.lost / findings.sent)} lost" if findings.sent else "nothing measured",
    ]
    if other > 0:
        parts.append(f"{format_loss(other / findings.sent)} refused or in error")
    if findings.failed or findings.no_data_pairs:
        failed, no_data = format_count(findings.failed), format_count(findings.no_data_pairs)
        parts.append(f"{failed} pairs failed, {no_data} without data")
    return parts


def note_lines(findings: Findings, mesh: Mesh) -> list[tuple[str, str]]:
    """Return (heading, text) of what else there is to say: hosts that are gone, rows that are not drawn."""
    notes = [
        (heading, _listed(hosts))
        for heading, hosts in (
            ("No answer from", findings.unreachable),
            ("No data from", findings.no_data),
            ("Reached nobody", findings.cut_off),
        )
        if hosts
    ]
    if mesh.strangers:
        notes.append(("Not drawn", f"{format_count(mesh.strangers)} pairs of hosts no longer in the inventory"))
    return notes


def _listed(hosts: tuple[str, ...]) -> str:
    more = len(hosts) - _NAMED_HOSTS
    return ", ".join(hosts[:_NAMED_HOSTS]) + (f" and {more} more" if more > 0 else "")


def ramp_title(metric: str) -> str:
    return "Share lost, log scale" if metric == "loss" else "Round-trip time, log scale"


def draw_corner(sheet: Sheet, x: int, y: int) -> None:
    """Say which way the matrix is read, in the corner between the labels."""
    sheet.text(x - 10, y - 30, "destination →", px=13, colour=INK, ha="right", va="bottom")
    sheet.text(x - 10, y - 10, "source ↓", px=13, colour=INK, ha="right", va="bottom")


def draw_rings(sheet: Sheet, worst: Sequence[WorstPair], frame: Frame, x: int, y: int) -> None:
    """Ring the cells of the worst pairs and number each ring at a free corner; pairs of one cell share a ring."""
    grid, member = frame.grid, frame.axis.member
    cells: dict[tuple[int, int], list[int]] = {}
    for rank, pair in enumerate(worst, 1):
        cells.setdefault((int(member[pair.src]), int(member[pair.dst])), []).append(rank)
    radius = 0.46 * grid.cell if grid.cell >= 40 else max(0.62 * grid.cell, 9.0)
    taken: list[tuple[float, float]] = []
    for (row, column), ranks in cells.items():
        cx, cy = x + grid.middle(column), y + grid.middle(row)
        sheet.ring(cx, cy, radius, INK)
        label = ",".join(map(str, ranks))
        w = text_width(label, 12, True) + 9
        reach = 0.74 * radius + (w / 2 if radius < 20 else 0)
        corners = [
            (
                min(max(cx + dx * reach, x + w / 2), x + grid.side - w / 2),
                min(max(cy + dy * reach, y + 9), y + grid.side - 9),
            )
            for dx, dy in ((1, -1), (-1, -1), (1, 1), (-1, 1))
        ]
        free = [c for c in corners if all(abs(c[0] - t[0]) > w + 1 or abs(c[1] - t[1]) > 19 for t in taken)]
        bx, by = (free or corners)[0]
        taken.append((bx, by))
        sheet.box(bx - w / 2, by - 9, w, 18, INK, theme.PAPER)
        sheet.text(bx, by, label, px=12, bold=True, colour=theme.PAPER, ha="center", va="center")


def _draw_worst(sheet: Sheet, x: int, y: int, worst: Sequence[WorstPair], axis: PictureAxis, metric: str) -> int:
    if not worst:
        return y
    sheet.text(x, y, "Worst pairs, against the median of their scope", px=14, bold=True)
    y += 28
    for rank, pair in enumerate(worst, 1):
        sheet.box(x, y, 18, 18, INK)
        sheet.text(x + 9, y + 9, str(rank), px=12, bold=True, colour=theme.PAPER, ha="center", va="center")
        room = (SIDEBAR - 30 - 28 - text_width(" → ", 14)) / 2
        src, dst = axis.hosts.names[pair.src], axis.hosts.names[pair.dst]
        spare = max(0.0, room - text_width(src, 14)), max(0.0, room - text_width(dst, 14))
        ends = f"{fit(src, room + spare[1], 14)} → {fit(dst, room + spare[0], 14)}"
        sheet.text(x + 28, y + 9, ends, px=14, va="center")
        sheet.text(x + 28, y + 22, _pair_line(pair, metric), px=13, colour=MUTED)
        y += 52
    return y + 6


def _pair_line(pair: WorstPair, metric: str) -> str:
    sent = f"{format_count(pair.sent)} sent"
    if pair.failed:
        return f"failed: no answer · {sent}"
    if metric == "loss":
        return f"{format_loss(pair.loss)} lost · {sent}"
    value = format_us(pair.value) if np.isfinite(pair.value) else "no clean RTT"
    times = f" (×{pair.times:.1f})" if np.isfinite(pair.times) else ""
    return f"{value}{times} · {format_loss(pair.unanswered)} unanswered · {sent}"


def _draw_notes(sheet: Sheet, x: int, y: int, notes: Sequence[tuple[str, str]]) -> None:
    for heading, content in notes:
        sheet.text(x, y, heading, px=14, bold=True, colour=theme.ACCENT if heading != "Not drawn" else INK)
        sheet.text(x, y + 18, fit(content, SIDEBAR - 20, 13), px=13)
        y += 44


def _summary(mesh: Mesh) -> str:
    sent, unanswered = int(mesh.sent.sum()), int(mesh.sent.sum() - mesh.answered.sum())
    if not sent:
        return "nothing measured"
    middle = np.nanmedian(mesh.value) if np.isfinite(mesh.value).any() else np.nan
    shown = "" if mesh.metric == "loss" else f"cells' median {format_us(float(middle))} · "
    return f"{shown}{format_loss(unanswered / sent)} unanswered of {format_count(sent)}"


def _failures(mesh: Mesh) -> str:
    failed, no_data = int(mesh.failed.sum()), int(mesh.no_data.sum())
    parts = [(failed, "pairs failed"), (no_data, "without data")]
    return ", ".join(f"{format_count(count)} {what}" for count, what in parts if count)
