"""What surrounds the cells: names, brackets of groups, the colour ramp, the legend of marks.

A label is drawn where it fits and left out where it does not; nothing ever overlaps. Names are shortened in the
middle, for hosts differ at their ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pingmesh_tasks.matrix.states import State
from pingmesh_tasks.render import raster, theme
from pingmesh_tasks.render.mesh_cells import Mesh, PictureAxis
from pingmesh_tasks.render.raster import Grid
from pingmesh_tasks.render.sheet import Sheet, text_width
from pingmesh_tasks.render.theme import MUTED, RULE, Scale
from pingmesh_tasks.topology.axis import Span

#: Type sizes in px, and the most room that a name may take beside the cells.
LARGEST, SMALLEST, NAME_ROOM = 15, 10, 170
STRIP = 26
LOSS_LABELS = ("≥0.1 %", "≥1 %", "≥5 %", "≥20 %")


@dataclass(frozen=True)
class Frame:
    """Cells with their labels: `left` and `top` are the px that rows' and columns' labels take."""

    axis: PictureAxis
    grid: Grid
    name_px: float  # 0: the names do not fit
    name_room: int
    strips: tuple[tuple[Span, ...], ...]

    @property
    def margin(self) -> int:
        return self.name_room + STRIP * len(self.strips) + 10


def frame_for(axis: PictureAxis, target: int, largest: int = 96, name_room: int = NAME_ROOM) -> Frame:
    """Return cells and labels for a side of about `target` px."""
    grid = raster.grid_for(axis, target, largest)
    px = min(LARGEST, 0.92 * grid.cell)
    if px < SMALLEST:
        px, room = 0.0, 0
    else:
        room = int(min(name_room, max((text_width(name, px) for name in axis.labels), default=0))) + 10
    strips = tuple(level for level in axis.brackets if any(_bracket_label(span, grid) for span in level))
    return Frame(axis, grid, px, room, strips)


def draw_labels(sheet: Sheet, frame: Frame, x: int, y: int, *, rows: bool = True) -> None:
    """Write names and brackets above and (`rows`) left of cells whose top left is at (x, y)."""
    grid = frame.grid
    if frame.name_px:
        for i, name in enumerate(frame.axis.labels):
            short = fit(name, frame.name_room - 8, frame.name_px)
            sheet.text(x + grid.middle(i), y - 7, short, px=frame.name_px, ha="center", va="bottom", rotation=90)
            if rows:
                sheet.text(x - 8, y + grid.middle(i), short, px=frame.name_px, ha="right", va="center")
    for depth, level in enumerate(frame.strips):
        off = frame.name_room + STRIP * depth + 5
        for span in level:
            start, stop = grid.extent(span.start, span.stop)
            sheet.line([x + start + 1, x + stop - 1], [y - off, y - off], colour=theme.MUTED, width=1.4)
            if rows:
                sheet.line([x - off, x - off], [y + start + 1, y + stop - 1], colour=theme.MUTED, width=1.4)
            if found := _bracket_label(span, grid):
                label, px = found
                middle = (start + stop) / 2
                sheet.text(x + middle, y - off - 4, label, px=px, colour=MUTED, ha="center", va="bottom")
                if rows:
                    sheet.text(
                        x - off - 4, y + middle, label, px=px, colour=MUTED, ha="right", va="center", rotation=90
                    )


def draw_ramp(sheet: Sheet, x: int, y: int, width: int, scale: Scale, title: str) -> int:
    """Draw the colour scale with round values under it. Return the y below."""
    sheet.text(x, y, title, px=14, bold=True)
    y += 28
    height = 16
    values = scale.low * (scale.high / scale.low) ** np.linspace(0, 1, width)
    sheet.image(x, y, np.repeat(scale.colours(values)[None], height, axis=0))
    last = -1e9
    for value, label in scale.ticks(most=width // 56):
        at = x + float(scale.fraction(np.array([value]))[0]) * (width - 1)
        half = text_width(label, 12) / 2
        middle = min(max(at, x + half), x + width - half)
        if middle - half < last + 10:
            continue
        last = middle + half
        sheet.line([at, at], [y + height, y + height + 5], colour=MUTED)
        sheet.text(middle, y + height + 8, label, px=12, colour=MUTED, ha="center")
    y += height + 30
    if scale.is_loss:
        sheet.image(x, y, raster.swatch("", 18, theme.ZERO_LOSS))
        sheet.text(x + 28, y + 9, "0 %: nothing lost", px=13, va="center")
        y += 26
    elif scale.beyond:
        sheet.text(x, y, "values beyond the ends have the end's colour", px=12, colour=MUTED)
        y += 22
    return y + 8


def draw_marks(sheet: Sheet, x: int, y: int, meshes: Sequence[Mesh], *, counted: bool = True) -> int:
    """Draw the legend of all marks, `counted` with how many cells carry each. Return the y below."""
    sheet.text(x, y, "Marks", px=14, bold=True)
    y += 28
    for kind, ground, label in _mark_lines(meshes):
        sheet.image(x, y, raster.swatch(kind, 22, ground))
        if ground == theme.NOT_PLANNED:
            sheet.box(x, y, 22, 22, "none", RULE)
        sheet.text(x + 32, y + 11, label if counted else label.split(" (")[0], px=13, va="center")
        y += 29
    at = x
    for size, label in enumerate(LOSS_LABELS):
        sheet.image(at, y, raster.swatch(f"loss {size}", 22, _middle_colour()))
        sheet.text(at + 28, y + 11, label, px=12, va="center", colour=MUTED)
        at += 28 + int(text_width(label, 12)) + 12
    sheet.text(at, y + 11, "unanswered", px=13, va="center")
    return y + 42


def marks_height(meshes: Sequence[Mesh]) -> int:
    """Return the px that `draw_marks` takes."""
    return 28 + 29 * len(_mark_lines(meshes)) + 42


def _mark_lines(meshes: Sequence[Mesh]) -> list[tuple[str, str, str]]:
    """Return (mark, ground colour, label) of each line of the legend but the last."""
    pooled = meshes[0].axis.kind != "host"
    cells = "cells" if pooled else "pairs"

    def count(state: State) -> str:
        return f"{theme.format_count(sum(int((m.state == state).sum()) for m in meshes))} {cells}"

    words = {
        State.FAILED: "failed: probes sent, no answer",
        State.NO_DATA: "no data: planned, nothing came",
        State.NOT_PLANNED: "not planned",
    }
    if any((m.state == State.UNCLEAN).any() for m in meshes):
        words[State.UNCLEAN] = "answered only after retransmits"
    lines = [(*raster.STATE_LOOKS[state], f"{what} ({count(state)})") for state, what in words.items()]
    if pooled:
        lines.append(("some failed", _middle_colour(), "some pairs of the cell failed (how many)"))
        lines.append(("some no data", _middle_colour(), "some pairs of the cell have no data"))
    return lines


def fit(name: str, width: float, px: float, bold: bool = False) -> str:
    """Return `name`, shortened in the middle until it is no wider than `width` px."""
    if text_width(name, px, bold) <= width:
        return name
    most = min(len(name), max(3, int(width / (0.45 * px))))
    while most > 3 and text_width(theme.shorten(name, most), px, bold) > width:
        most -= 1
    return theme.shorten(name, most)


def _bracket_label(span: Span, grid: Grid) -> tuple[str, float] | None:
    """Return the label of a bracket with its type size, or None where not even four characters fit."""
    start, stop = grid.extent(span.start, span.stop)
    room = stop - start - 4
    for px in (14, 12, 10.5):
        if text_width(span.label, px) <= room:
            return span.label, px
    short = fit(span.label, room, 10.5)
    return (short, 10.5) if len(short) >= 5 and text_width(short, 10.5) <= room else None


def _middle_colour() -> str:
    return "#{:02x}{:02x}{:02x}".format(*theme.RAMP[110])
