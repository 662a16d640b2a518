"""A sheet of paper in pixels: text, lines and images at exact places, and the PNG of it.

Matplotlib's figure coordinates grow upwards and in fractions; a layout of cells, gaps and labels is easier to read,
and sharper, in whole pixels from the top left. Uses the object-oriented API only: no pyplot, no rcParams, so two
threads may draw at once. Same input, same bytes: nothing of the time or the machine goes into the file.
"""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Rectangle
from matplotlib.text import Text
from PIL import Image

from pingmesh_tasks.render.theme import INK, MUTED, PAPER, RULE, Pixels

DPI = 100
Anchor = Literal["left", "center", "right"]
Rise = Literal["top", "center", "bottom", "baseline"]


class Sheet:
    """A picture in the making, `width` × `height` px. Text artists stay in `texts` for whoever checks the layout."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor=PAPER)
        self.canvas = FigureCanvasAgg(self.figure)
        self.texts: list[Text] = []

    def text(
        self,
        x: float,
        y: float,
        content: str,
        *,
        px: float = 15,
        colour: str = INK,
        bold: bool = False,
        ha: Anchor = "left",
        va: Rise = "top",
        rotation: float = 0,
    ) -> Text:
        """Write `content` at (x, y), never as math: a `$` in a name is a `$`."""
        artist = self.figure.text(
            x / self.width,
            1 - y / self.height,
            content,
            color=colour,
            ha=ha,
            va=va,
            rotation=rotation,
            fontproperties=font(px, bold),
            parse_math=False,
        )
        self.texts.append(artist)
        return artist

    def line(self, xs: list[float], ys: list[float], *, colour: str = RULE, width: float = 1.0) -> None:
        points = ([x / self.width for x in xs], [1 - y / self.height for y in ys])
        self.figure.add_artist(Line2D(*points, color=colour, linewidth=width * 72 / DPI, solid_capstyle="butt"))

    def box(self, x: float, y: float, w: float, h: float, colour: str, edge: str | None = None) -> None:
        place, frame = (x, self.height - y - h), edge or "none"
        self.figure.add_artist(
            Rectangle(place, w, h, facecolor=colour, edgecolor=frame, linewidth=0.72, transform=None)
        )

    def ring(self, x: float, y: float, radius: float, colour: str, width: float = 2.5) -> None:
        """Draw a ring around (x, y), with a paper edge so that it shows on any cell."""
        for edge, line in ((PAPER, width + 2.5), (colour, width)):
            place, points = (x, self.height - y), line * 72 / DPI
            self.figure.add_artist(Circle(place, radius, fill=False, edgecolor=edge, linewidth=points, transform=None))

    def image(self, x: int, y: int, pixels: Pixels) -> None:
        """Put RGB pixels with their top left at (x, y), one to one."""
        self.figure.add_artist(_Pixels(x, self.height - y - pixels.shape[0], pixels))

    def axes(self, x: float, y: float, w: float, h: float) -> Axes:
        """Return plain axes in the box with its top left at (x, y): no frame but the bottom, a light grid."""
        axes = self.figure.add_axes((x / self.width, 1 - (y + h) / self.height, w / self.width, h / self.height))
        axes.set_facecolor(PAPER)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(RULE)
        axes.tick_params(which="both", length=0, pad=6, labelcolor=MUTED)
        axes.tick_params(which="both", labelsize=13 * 72 / DPI, labelfontfamily="DejaVu Sans")
        axes.grid(True, color="#e6eaef", linewidth=0.8)
        axes.set_axisbelow(True)
        return axes

    def pixels(self) -> Pixels:
        """Return the drawn sheet as RGB, shape (height, width, 3)."""
        self.canvas.draw()  # type: ignore[no-untyped-call]
        rgba = np.asarray(self.canvas.buffer_rgba())  # type: ignore[no-untyped-call]
        return rgba[:, :, :3].copy()

    def png(self) -> bytes:
        return png_of(self.pixels())


class _Pixels(Artist):
    """An image that is copied to its place: `figimage` would resample it first, which takes ten times as long."""

    def __init__(self, x: int, y: int, pixels: Pixels) -> None:
        super().__init__()
        opaque = np.full((*pixels.shape[:2], 1), 255, dtype=np.uint8)
        self.place, self.rgba = (x, y), np.concatenate([pixels[::-1], opaque], axis=2)
        self.set_zorder(0)

    def draw(self, renderer: RendererBase) -> None:
        context = renderer.new_gc()
        renderer.draw_image(context, *self.place, self.rgba)
        context.restore()


def png_of(pixels: Pixels) -> bytes:
    """Return RGB pixels as a PNG without any metadata."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="png", compress_level=5)
    return out.getvalue()


def wrap_parts(parts: list[str], width: float, px: float) -> list[str]:
    """Join `parts` with middle dots into lines no wider than `width` px."""
    lines: list[str] = []
    for part in parts:
        joined = f"{lines[-1]}  ·  {part}" if lines else part
        if lines and text_width(joined, px) <= width:
            lines[-1] = joined
        else:
            lines.append(part)
    return lines


def header(sheet: Sheet, title: str, parts: list[str], *, x: int = 40, y: int = 30) -> int:
    """Write the title and, below it, `parts` in as many lines as they need. Return the y below them."""
    sheet.text(x, y, title, px=27, bold=True)
    y += 42
    for line in wrap_parts(parts, sheet.width - 2 * x, 15):
        sheet.text(x, y, line, px=15, colour=MUTED)
        y += 23
    return y


@lru_cache(maxsize=64)
def font(px: float, bold: bool = False) -> FontProperties:
    """Return the font that matplotlib ships, so that a picture does not depend on the machine."""
    return FontProperties(family="DejaVu Sans", size=px * 72 / DPI, weight="bold" if bold else "normal")


@lru_cache(maxsize=1)
def _ruler() -> Any:
    return FigureCanvasAgg(Figure(figsize=(0.1, 0.1), dpi=DPI)).get_renderer()  # type: ignore[no-untyped-call]


@lru_cache(maxsize=8192)
def text_width(content: str, px: float, bold: bool = False) -> float:
    """Return the width in px that `content` takes."""
    width, _, _ = _ruler().get_text_width_height_descent(content, font(px, bold), False)
    return float(width)
