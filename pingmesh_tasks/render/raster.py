"""Cells to pixels: every cell is exactly `cell` px wide, groups are set apart by gaps, states carry marks.

A mark is a small image (drawn four times too large and shrunk) that is laid over all cells of its kind at once, so
that 40 000 cells cost as much as four. Below `SMALL` px a mark would blur; there it is a plain block of pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pingmesh_tasks.matrix.states import State
from pingmesh_tasks.render import theme
from pingmesh_tasks.render.mesh_cells import Bools, Mesh, PictureAxis
from pingmesh_tasks.render.theme import Pixels, Scale

SMALL = 7
#: Cells of at least so many px are set apart by one px of paper.
HAIRLINE = 9
#: Least unanswered share for each size of the loss mark; below the first a cell carries none.
LOSS_STEPS = (0.001, 0.01, 0.05, 0.20)
FONT_PATH = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
#: The mark and the ground of each state that has no value.
STATE_LOOKS = {
    State.FAILED: ("failed", theme.FAILED),
    State.NO_DATA: ("no data", theme.NO_DATA),
    State.NOT_PLANNED: ("not planned", theme.NOT_PLANNED),
    State.UNCLEAN: ("unclean", theme.UNCLEAN),
}
_OVER = 4


@dataclass(frozen=True)
class Grid:
    """Where the cells are: `starts[i]` is the first px of row (and column) i; `side` the px of all of them."""

    cell: int
    starts: NDArray[np.int64]
    side: int

    def middle(self, position: int) -> float:
        return float(self.starts[position]) + self.cell / 2

    def extent(self, start: int, stop: int) -> tuple[int, int]:
        """Return first and last px (exclusive) of positions start … stop - 1."""
        return int(self.starts[start]), int(self.starts[stop - 1]) + self.cell


def grid_for(axis: PictureAxis, target: int, largest: int = 112) -> Grid:
    """Return the grid whose side comes nearest to `target` px, gaps between groups included."""
    n = max(axis.size, 1)
    cell = max(2, min(largest, round(target / n)))
    gap = np.zeros(n, dtype=np.int64)
    for depth, level in enumerate(axis.brackets):
        if len(level) == axis.size:
            continue
        width = max(1, min(round(0.06 * target / len(level)), (2, 5, 9)[depth]))
        for span in level[1:]:
            gap[span.start] = max(gap[span.start], width)
    starts = np.arange(n) * cell + np.cumsum(gap)
    return Grid(cell, starts, int(starts[-1]) + cell)


def paint(mesh: Mesh, grid: Grid, scale: Scale, *, values: Callable[[float], str] | None = None) -> Pixels:
    """Return RGB of shape (side, side, 3). `values` writes each measured cell's number into it, where it fits."""
    n, c = mesh.axis.size, grid.cell
    tiles = np.empty((n, c, n, c, 3), dtype=np.uint8)
    tiles[:] = base_colours(mesh, scale)[:, None, :, None, :]
    cells = tiles.transpose(0, 2, 1, 3, 4)  # a view: [row, column] is one cell of c × c px
    for state, (kind, _) in STATE_LOOKS.items():
        _lay(cells, mesh.state == state, mark(kind, c))
    for size, which in enumerate(loss_classes(mesh)):
        _lay(cells, which, mark(f"loss {size}", c))
    _lay_counts(cells, mesh)
    if values is not None and c >= 40:
        bright = scale.fraction(mesh.value) > 0.6
        for i, j in np.argwhere(mesh.state == State.MEASURED):
            _write(cells[i, j], values(mesh.value[i, j]), theme.INK if bright[i, j] else theme.PAPER)
    if c >= HAIRLINE:
        cells[:, :, -1, :] = cells[:, :, :, -1] = theme.rgb_of(theme.PAPER)
    canvas = np.full((grid.side, grid.side, 3), 255, dtype=np.uint8)
    where = (grid.starts[:, None] + np.arange(c)).ravel()
    canvas[where[:, None], where[None, :]] = tiles.reshape(n * c, n * c, 3)
    return canvas


def base_colours(mesh: Mesh, scale: Scale) -> Pixels:
    """Return the plain colour of each cell, shape (n, n, 3)."""
    rgb = scale.colours(mesh.value)
    for state, (_, ground) in STATE_LOOKS.items():
        rgb[mesh.state == state] = theme.rgb_of(ground)
    return rgb


def loss_classes(mesh: Mesh) -> Sequence[Bools]:
    """Return for each of LOSS_STEPS which cells with an answer carry its mark."""
    share = np.where(mesh.answered > 0, np.nan_to_num(mesh.unanswered), 0.0)
    reached = np.digitize(share, LOSS_STEPS)
    return [reached == i + 1 for i in range(len(LOSS_STEPS))]


@lru_cache(maxsize=256)
def mark(kind: str, cell: int) -> NDArray[np.uint8]:
    """Return the RGBA mark of this kind for a cell of `cell` px, shape (cell, cell, 4)."""
    if cell < SMALL:
        return _block(kind, cell)
    side = cell * _OVER
    image = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    _draw_mark(ImageDraw.Draw(image), kind, cell)
    return np.asarray(image.resize((cell, cell), Image.Resampling.BOX))


def _draw_mark(draw: ImageDraw.ImageDraw, kind: str, cell: int) -> None:
    """Draw a mark on a canvas that is `_OVER` times as large as the cell."""
    if kind.startswith("loss"):
        _draw_loss(draw, cell, int(kind[-1]))
    elif kind.startswith("some"):
        _draw_some(draw, cell, theme.FAILED if kind == "some failed" else theme.NO_DATA)
    else:
        _DRAW_STATE[kind](draw, cell)


def _draw_failed(draw: ImageDraw.ImageDraw, cell: int) -> None:
    side = cell * _OVER
    inset = (6 if cell > 30 else 5) * side / 20
    for a, b in (((inset, inset), (side - inset, side - inset)), ((inset, side - inset), (side - inset, inset))):
        draw.line([a, b], fill=theme.FAILED_MARK, width=_thick(side))


def _draw_no_data(draw: ImageDraw.ImageDraw, cell: int) -> None:
    side = cell * _OVER
    step = min(max(side // 3, 5 * _OVER), 12 * _OVER)
    for x in range(-side, side, step):
        draw.line([(x, side), (x + side, 0)], fill=theme.NO_DATA_MARK, width=round(0.3 * step))


def _draw_not_planned(draw: ImageDraw.ImageDraw, cell: int) -> None:
    middle = cell * _OVER / 2
    r = max(0.7 * _OVER, min(1.1 * cell * _OVER / 20, 3 * _OVER))
    draw.ellipse([middle - r, middle - r, middle + r, middle + r], fill=theme.NOT_PLANNED_MARK)


def _draw_unclean(draw: ImageDraw.ImageDraw, cell: int) -> None:
    side = cell * _OVER
    for y in (0.40, 0.60):
        draw.line([(0.25 * side, y * side), (0.75 * side, y * side)], fill=theme.UNCLEAN_MARK, width=_thick(side))


def _draw_loss(draw: ImageDraw.ImageDraw, cell: int, size: int) -> None:
    """Draw the corner whose size says how much is unanswered."""
    side = cell * _OVER
    leg = min(side * (0.30, 0.42, 0.56, 0.72)[size], _OVER * (14, 20, 26, 32)[size])
    edge = max(_OVER, min(round(0.6 * side / 20), 2 * _OVER))
    end = side - _OVER
    for length, colour in ((leg + 2 * edge, theme.PAPER), (leg, theme.LOSS_MARK)):
        draw.polygon([(end - length, end), (end, end - length), (end, end)], fill=colour)


def _draw_some(draw: ImageDraw.ImageDraw, cell: int, colour: str) -> None:
    """Draw the corner of a pooled cell some pairs of which failed or have no data."""
    side = cell * _OVER
    w, h = (min(0.6 * side, 26 * _OVER), min(0.45 * side, 15 * _OVER)) if cell >= 22 else (0.45 * side, 0.45 * side)
    draw.rectangle([0, 0, w, h], fill=colour, outline=theme.PAPER, width=_OVER)


def _thick(side: int) -> int:
    return max(_OVER, round(1.6 * side / 20))


_DRAW_STATE: dict[str, Callable[[ImageDraw.ImageDraw, int], None]] = {
    "failed": _draw_failed,
    "no data": _draw_no_data,
    "not planned": _draw_not_planned,
    "unclean": _draw_unclean,
}


def _block(kind: str, cell: int) -> NDArray[np.uint8]:
    """Return the mark as whole pixels, for cells too small to draw in."""
    out = np.zeros((cell, cell, 4), dtype=np.uint8)
    at = np.arange(cell)
    half = max(1, cell // 2)
    places: dict[str, tuple[NDArray[np.bool_], str]] = {
        "failed": ((at[:, None] == at) | (at[:, None] + at == cell - 1), theme.FAILED_MARK),
        "no data": ((at[:, None] + at) % 3 == 0, theme.NO_DATA_MARK),
        "not planned": (np.zeros((cell, cell), dtype=bool), theme.NOT_PLANNED_MARK),
        "unclean": (np.broadcast_to(at[:, None] == cell // 2, (cell, cell)), theme.UNCLEAN_MARK),
        "some failed": ((at[:, None] < half) & (at < half), theme.FAILED),
        "some no data": ((at[:, None] < half) & (at < half), theme.NO_DATA),
    }
    if kind.startswith("loss"):
        side = max(1, round(cell * (0.25, 0.4, 0.6, 0.8)[int(kind[-1])]))
        places[kind] = ((at[:, None] >= cell - side) & (at >= cell - side), theme.LOSS_MARK)
    if cell < 4 and kind == "failed":
        return out  # the colour alone: two pixels have no shape
    where, colour = places[kind]
    out[where] = [*theme.rgb_of(colour), 255]
    return out


def swatch(kind: str, side: int, ground: str) -> Pixels:
    """Return one cell as the legend shows it: the mark of this kind on `ground`."""
    tile = np.empty((side, side, 3), dtype=np.uint8)
    tile[:] = theme.rgb_of(ground)
    if kind:
        _lay(tile[None, None], np.ones((1, 1), dtype=bool), mark(kind, side))
    return tile


def _lay_counts(cells: NDArray[np.uint8], mesh: Mesh) -> None:
    """Mark the cells with an answer some pairs of which failed, or else have no data, and write how many."""
    c, answered = cells.shape[2], mesh.answered > 0
    only_no_data = np.where(mesh.failed > 0, 0, mesh.no_data)
    looks = (("some failed", theme.FAILED_MARK, mesh.failed), ("some no data", theme.INK, only_no_data))
    for kind, _, counts in looks:
        _lay(cells, answered & (counts > 0), mark(kind, c))
    if c >= 22 and mesh.axis.kind != "host":
        for _, colour, counts in looks:
            for i, j in np.argwhere(answered & (counts > 0)):
                _write(cells[i, j], str(counts[i, j]), colour, corner=True)


def _lay(cells: NDArray[np.uint8], which: Bools, over: NDArray[np.uint8]) -> None:
    """Lay an RGBA mark over the chosen cells, in place. `cells` has shape (n, n, c, c, 3)."""
    rows, columns = np.nonzero(which)
    if not len(rows):
        return
    ys, xs = np.nonzero(over[:, :, 3])
    if not len(ys):
        return
    alpha = over[ys, xs, 3].astype(np.uint16)
    ink = over[ys, xs, :3].astype(np.uint16)
    spots = (rows[:, None], columns[:, None], ys[None, :], xs[None, :])
    ground = cells[spots].astype(np.uint16)
    cells[spots] = ((ground * (255 - alpha)[:, None] + ink * alpha[:, None] + 127) // 255).astype(np.uint8)


def _write(cell: NDArray[np.uint8], content: str, colour: str, *, corner: bool = False) -> None:
    """Write into one cell in the largest type that fits, or not at all."""
    side = cell.shape[0]
    width = min(0.6 * side, 26) - 3 if corner else 0.86 * side
    for px in range(min(13 if corner else 16, round(0.42 * side)), 8, -1):
        face = _face(px)
        if face.getlength(content) <= width:
            image = Image.fromarray(np.ascontiguousarray(cell))
            at = (min(0.6 * side, 26) / 2, min(0.45 * side, 15) / 2) if corner else (side / 2, side / 2)
            ImageDraw.Draw(image).text(at, content, fill=colour, font=face, anchor="mm")
            cell[:] = np.asarray(image)
            return


@lru_cache(maxsize=32)
def _face(px: int) -> ImageFont.FreeTypeFont:
    """Return the type of a cell. Pillow's other layout engine is there with libfribidi only."""
    return ImageFont.truetype(str(FONT_PATH), px, layout_engine=ImageFont.Layout.BASIC)
