"""The last windows one after another: an animated picture, and one HTML file with a time slider.

Both have one colour scale for all windows, so that a change of colour is a change of latency. The page is a single file
that asks nothing of any network: its numbers are columns of bytes (see `_pack`), compressed and in base64, and the
names in it are data, never markup.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from pingmesh_tasks.matrix.positions import Pairs
from pingmesh_tasks.matrix.states import State
from pingmesh_tasks.render import raster, theme
from pingmesh_tasks.render.chart import draw_labels, draw_marks, draw_ramp, frame_for, marks_height
from pingmesh_tasks.render.heatmap import draw_corner, mesh_parts, ramp_title
from pingmesh_tasks.render.mesh_cells import Mesh, PictureAxis, axis_for, build_mesh, code_pairs, fold
from pingmesh_tasks.render.sheet import Sheet, header, text_width
from pingmesh_tasks.render.theme import METRICS, MUTED, Floats, Pixels, Scale, format_count, format_loss
from pingmesh_tasks.topology.inventory import Inventory
from pingmesh_tasks.windows import Window

Windows = Sequence[tuple[Window, Pairs]]

MOST_WINDOWS = 48
FRAME_MS, LAST_FRAME_MS = 700, 1_600
SIDE, EDGE, SIDEBAR, STRIP = 640, 36, 424, 96
PAGE_METRICS = ("rtt_p50_us", "rtt_p99_us", "loss")
#: A page holds at most so many cells over all its windows (12 of 400 × 400): 60 MB in the browser.
MOST_CELLS = 2_000_000
NO_RTT = 0xFFFF_FFFF


def timeline_format() -> str:
    """Return the file ending of what `render_timeline` makes here: `webp`, or `gif` where Pillow has no WebP."""
    return "webp" if features.check("webp") else "gif"


def render_timeline(windows: Windows, inventory: Inventory, *, metric: str = "rtt_p50_us") -> bytes:
    """Return an animation of `windows` (any order; the last 48), one frame a window, as `timeline_format()` says."""
    frames = [Image.fromarray(pixels) for pixels in timeline_frames(windows, inventory, metric=metric)]
    durations = [FRAME_MS] * (len(frames) - 1) + [LAST_FRAME_MS]
    out = io.BytesIO()
    common: dict[str, Any] = {"save_all": True, "append_images": frames[1:], "duration": durations, "loop": 0}
    if timeline_format() == "webp":
        frames[0].save(out, format="webp", lossless=True, method=2, quality=30, **common)
    else:
        frames[0].save(out, format="gif", optimize=False, **common)
    return out.getvalue()


def timeline_frames(windows: Windows, inventory: Inventory, *, metric: str = "rtt_p50_us") -> list[Pixels]:
    """Return the frames of `render_timeline` as RGB. What does not change is drawn once."""
    last = _last(windows)
    axis = axis_for(inventory)
    meshes = [build_mesh(pairs, axis, metric) for _, pairs in last]
    scale = theme.scale_for(metric, np.concatenate([m.value.ravel() for m in meshes]))
    frame = frame_for(axis, SIDE, largest=64, name_room=120)
    above, side = max(frame.margin, 50), frame.grid.side
    left, top = EDGE + max(frame.margin, 110), 30 + 42 + STRIP + above
    sheet = Sheet(left + side + 40 + SIDEBAR, max(top + side, top - above + 120 + marks_height(meshes)) + EDGE)
    header(sheet, METRICS[metric][0], [], x=EDGE)
    draw_labels(sheet, frame, left, top)
    draw_corner(sheet, left, top)
    y = draw_ramp(sheet, left + side + 40, top - above + 6, SIDEBAR - EDGE - 20, scale, ramp_title(metric))
    draw_marks(sheet, left + side + 40, y, meshes, counted=False)
    still = sheet.pixels()
    frames = []
    for i, mesh in enumerate(meshes):
        pixels = still.copy()
        pixels[top : top + side, left : left + side] = raster.paint(mesh, frame.grid, scale)
        strip = _strip(sheet.width, [window for window, _ in last], i, mesh, mesh_parts(inventory, axis, metric)[0])
        pixels[66 : 66 + STRIP] = strip
        frames.append(pixels)
    return frames


def render_timeline_html(windows: Windows, inventory: Inventory) -> bytes:
    """Return the page of `windows` (any order; the last 48, 12 of a large mesh): one file that needs no network."""
    axis = axis_for(inventory)
    last = _last(windows)[-max(1, MOST_CELLS // axis.size**2) :]
    built = [_meshes(pairs, axis) for _, pairs in last]
    columns = [_pack(meshes) for meshes in built]
    page = {
        "axis": _axis_data(axis),
        "hosts": len(inventory.hosts),
        "subtitle": "  ·  ".join(mesh_parts(inventory, axis, "rtt_p50_us")[:1]),
        "windows": [{"id": w.id, "start": int(w.start.timestamp()), "length_s": w.length_s} for w, _ in last],
        "states": {state.name: int(state) for state in State},
        "strangers": [meshes["loss"].strangers for meshes in built],
        "scales": {m: _scale_data(_common_scale(m, [meshes[m] for meshes in built])) for m in PAGE_METRICS},
        "ramp": theme.RAMP[::4].tolist(),
        "lossSteps": raster.LOSS_STEPS,
        "colours": {
            "failed": theme.FAILED,
            "failedMark": theme.FAILED_MARK,
            "unclean": theme.UNCLEAN,
            "uncleanMark": theme.UNCLEAN_MARK,
            "zeroLoss": theme.ZERO_LOSS,
            "loss": theme.LOSS_MARK,
        },
    }
    blob = base64.b64encode(gzip.compress(b"".join(columns), compresslevel=6, mtime=0)).decode()
    template = resources.files(__package__).joinpath("timeline.html").read_text(encoding="utf-8")
    return template.replace("/*PAGE*/null", _script_json(page), 1).replace("/*BLOB*/", blob, 1).encode()


def _meshes(pairs: Pairs, axis: PictureAxis) -> dict[str, Mesh]:
    coded = code_pairs(pairs, axis, *PAGE_METRICS)
    return {metric: fold(coded, metric) for metric in PAGE_METRICS}


def _strip(width: int, windows: Sequence[Window], current: int, mesh: Mesh, hosts: str) -> Pixels:
    """Return what changes above the cells: the window's time, its totals, and where in the row of windows it is."""
    window = windows[current]
    strip = Sheet(width, STRIP)
    clock = f"{window.start:%H:%M}–{window.end:%H:%M}"
    strip.text(EDGE, 6, clock, px=24, bold=True, colour=theme.ACCENT)
    at = EDGE + text_width(clock, 24, True) + 14
    where = f"{window.start:%Y-%m-%d} UTC  ·  window {current + 1} of {len(windows)}  ·  {hosts}"
    strip.text(at, 14, where, px=14, colour=MUTED)
    strip.text(EDGE, 42, _totals(mesh), px=14)
    full = width - 2 * EDGE
    strip.box(EDGE, 70, full, 8, "#e6eaef")
    strip.box(EDGE, 70, full * (current + 1) / len(windows), 8, theme.ACCENT)
    for i in range(1, len(windows)):
        strip.line([EDGE + full * i / len(windows)] * 2, [70, 78], colour=theme.PAPER)
    return strip.pixels()


def _totals(mesh: Mesh) -> str:
    sent, unanswered = int(mesh.sent.sum()), int(mesh.sent.sum() - mesh.answered.sum())
    if not sent:
        return "nothing measured"
    text = f"{format_count(sent)} probes sent  ·  {format_loss(unanswered / sent)} unanswered"
    failed, no_data = int(mesh.failed.sum()), int(mesh.no_data.sum())
    if failed or no_data:
        text += f"  ·  {format_count(failed)} pairs failed, {format_count(no_data)} without data"
    return text


def _pack(meshes: dict[str, Mesh]) -> bytes:
    """Return one window's cells as little-endian columns, each of n × n entries, row = source:

    state u16 · p50 µs u32 · p99 µs u32 (NO_RTT: none) · lost share u16 (1/65535) · unanswered share u16 · sent u32 ·
    pairs u32 · failed pairs u32 · pairs without data u32.
    """
    p50, p99, loss = (meshes[m] for m in PAGE_METRICS)
    columns = [
        p50.state.astype("<u2"),
        _whole_us(p50.value),
        _whole_us(p99.value),
        np.rint(np.nan_to_num(loss.value) * 65_535).astype("<u2"),
        np.rint(np.nan_to_num(p50.unanswered) * 65_535).astype("<u2"),
        *(np.minimum(c, 0xFFFF_FFFF).astype("<u4") for c in (p50.sent, p50.pairs, p50.failed, p50.no_data)),
    ]
    return b"".join(c.tobytes() for c in columns)


def _whole_us(us: Floats) -> NDArray[np.uint32]:
    return np.asarray(np.where(np.isfinite(us), np.rint(np.nan_to_num(us)), NO_RTT), dtype="<u4")


def _axis_data(axis: PictureAxis) -> dict[str, Any]:
    levels = [[[s.start, s.stop, s.label] for s in level] for level in axis.brackets]
    sizes = np.bincount(axis.member, minlength=axis.size).tolist()
    return {"kind": axis.kind, "labels": axis.labels, "levels": levels, "sizes": sizes}


def _common_scale(metric: str, meshes: Sequence[Mesh]) -> Scale:
    return theme.scale_for(metric, np.concatenate([m.value.ravel() for m in meshes]))


def _scale_data(scale: Scale) -> dict[str, Any]:
    return {"low": scale.low, "high": scale.high, "ticks": scale.ticks(6)}


def _script_json(value: object) -> str:
    """Return JSON that is inert inside a script element: no name can close it or open a comment."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), sort_keys=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _last(windows: Windows) -> list[tuple[Window, Pairs]]:
    if not windows:
        raise ValueError("a timeline needs at least one window; give (window, pairs) tuples")
    return sorted(windows, key=lambda item: item[0].start)[-MOST_WINDOWS:]
