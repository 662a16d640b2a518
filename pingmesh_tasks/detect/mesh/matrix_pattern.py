"""The pattern of a map in one word (`detect.mesh.patterns`), from its p99 alone: what is noted in the map's files."""

from __future__ import annotations

from typing import Any

import numpy as np

from pingmesh_tasks.detect.mesh.patterns import classify_rows
from pingmesh_tasks.detect.mesh.rows import Rows
from pingmesh_tasks.matrix import codes
from pingmesh_tasks.matrix.build import MeshMap
from pingmesh_tasks.matrix.states import State

#: Of more suspects only their number is noted.
MOST_SUSPECTS = 20


def pattern_of(mesh: MeshMap) -> dict[str, Any]:
    """Return the pattern's name, its first suspects and how many there are, and the shares that are white and red."""
    p99 = mesh.codes["p99"]
    planned = p99 != State.NOT_PLANNED
    code = p99[planned]
    src = np.repeat(np.arange(len(p99), dtype=np.int32), planned.sum(axis=1))
    dst = np.concatenate([np.flatnonzero(row).astype(np.int32) for row in planned])
    us = codes.decode(np.arange(codes.CODE_COUNT), "log").astype(np.float32)
    none = np.broadcast_to(np.uint8(0), len(code))
    rows = Rows(
        a=src,
        b=dst,
        protocol=none,
        sent=none,
        answered=(code != State.FAILED) & (code != State.NO_DATA),
        lost=none,
        retransmitted=none,
        refused=none,
        unreachable=none,
        local_error=none,
        rtt_p50_us=np.broadcast_to(np.float32(np.nan), len(code)),
        rtt_p99_us=us[code],
    )
    found = classify_rows(rows, mesh.axis)
    return {
        "name": found.name,
        "suspects": list(found.suspects[:MOST_SUSPECTS]),
        "count": len(found.suspects),
        "white": round(found.white, 4),
        "red": round(found.red, 4),
    }
