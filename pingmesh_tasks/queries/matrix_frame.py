"""A map as it is sent to the browser: a header that says what it is, then the codes as they are drawn.

"PMM1" | u32 length | JSON of that length, spaces up to a multiple of 8 | u16 codes, row by row, little-endian
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any, Literal

from pingmesh_tasks.matrix.build import read_codes
from pingmesh_tasks.matrix.codes import ALL_METRICS, Codes, pool_max, pool_mean
from pingmesh_tasks.queries.cache import BytesCache
from pingmesh_tasks.queries.refusal import NoAnswer
from pingmesh_tasks.queries.window_index import MAP, MapWindow
from pingmesh_tasks.store.objects import ObjectStore

MAGIC = b"PMM1"
MOST_LOD = 6
Pool = Literal["max", "mean"]
Matrix = tuple[Codes, dict[str, Any]]


def read_matrix(store: ObjectStore, cache: BytesCache, at: MapWindow, metric: str) -> Matrix:
    """Return one metric's full matrix and what its file says of it; kept in the cache, for it never changes.

    Raises NoAnswer where the map has no such metric.
    """
    key = at.key(MAP, metric)

    def read() -> Matrix:
        data = store.find(key)
        if data is None:
            raise NoAnswer("no_table", f"the {at.level} {at.window.id} has no {metric}; a new run of it may make one")
        return read_codes(data)

    return cache.get((key, at.version), read, lambda matrix: matrix[0].nbytes)


def matrix_answer(at: MapWindow, metric: str, lod: int, pool: Pool, matrix: Matrix) -> bytes:
    """Return the bytes of a matrix at a level of detail."""
    full, told = matrix
    codes = (pool_max if pool == "max" else pool_mean)(full, lod)
    header = {
        "window": at.window.id,
        "level": at.level,
        "metric": metric,
        "unit": ALL_METRICS[metric].unit,
        "code": ALL_METRICS[metric].kind,
        "lod": lod,
        "pool": pool,
        "side": len(codes),
        **{name: told[name] for name in ("hosts", "plan", "axis", "codes", "cells")},
        **{name: told.get(name) for name in ("normal", "pattern")},
    }
    return frame(header, codes)


def frame(header: Mapping[str, Any], codes: Codes) -> bytes:
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join((MAGIC, struct.pack("<I", len(text)), text, codes.astype("<u2", copy=False).data.cast("B")))
