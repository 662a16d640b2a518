"""Looking at a sheet as a reader does: what does it say, and can it be read?"""

from __future__ import annotations

import numpy as np

from pingmesh_tasks.render.sheet import Sheet


def shown_texts(sheet: Sheet) -> list[str]:
    return [t.get_text() for t in sheet.texts]


def assert_readable(sheet: Sheet) -> None:
    """Fail if any two texts overlap as drawn, or one leaves the sheet."""
    sheet.pixels()
    renderer = sheet.canvas.get_renderer()
    boxes = [(t.get_text(), t.get_window_extent(renderer)) for t in sheet.texts]
    for text, box in boxes:
        assert box.x0 >= 0 and box.x1 <= sheet.width and box.y0 >= 0 and box.y1 <= sheet.height, text
    edges = np.array([[b.x0, b.y0, b.x1, b.y1] for _, b in boxes])
    slack = 1.5  # px; a box has room for descenders that its text may not have
    inside_x = (edges[:, None, 0] < edges[None, :, 2] - slack) & (edges[None, :, 0] < edges[:, None, 2] - slack)
    inside_y = (edges[:, None, 1] < edges[None, :, 3] - slack) & (edges[None, :, 1] < edges[:, None, 3] - slack)
    clash = np.argwhere(np.triu(inside_x & inside_y, 1))
    assert not [(boxes[i][0], boxes[j][0]) for i, j in clash]
