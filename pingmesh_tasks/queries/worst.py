"""The worst cells of a map, by name. Hosts that are altogether silent are told once, not as thousands of cells."""

from __future__ import annotations

from typing import Any

import numpy as np

from pingmesh_tasks.matrix.codes import ALL_METRICS, Codes, decode, state_of
from pingmesh_tasks.matrix.states import State
from pingmesh_tasks.queries.group_names import span_of
from pingmesh_tasks.queries.page import Page
from pingmesh_tasks.queries.window_index import MapWindow
from pingmesh_tasks.topology.axis import HostAxis

#: A host of whose planned cells so many are failed or without data is told as a host.
HOST_SHARE = 0.5


def worst(page: Page, at: MapWindow, metric: str, count: int, src: str | None, dst: str | None) -> dict[str, Any]:
    """Return the `count` worst cells from group `src` to group `dst` (None: all), and the hosts that are silent."""
    codes, told = page.full(at, metric)
    axis = page.axis(str(told["plan"]))
    rows, columns = span_of(axis, src), span_of(axis, dst)
    hosts = _silent_hosts(codes, axis)
    block = codes[rows.start : rows.stop, columns.start : columns.stop].copy()
    gone = np.zeros(len(axis.hosts), np.bool_)
    gone[[host["row"] for host in hosts]] = True
    block[gone[rows.start : rows.stop]] = State.NOT_PLANNED
    block[:, gone[columns.start : columns.stop]] = State.NOT_PLANNED
    cells = [
        {
            "rank": rank + 1,
            "src": axis.names[rows.start + row],
            "dst": axis.names[columns.start + column],
            "row": rows.start + row,
            "column": columns.start + column,
            **_cell(int(block[row, column]), metric),
        }
        for rank, (row, column) in enumerate(_greatest(block, count))
    ]
    return {"window": at.window.id, "metric": metric, "worst": cells, "hosts": hosts}


def _cell(code: int, metric: str) -> dict[str, Any]:
    value = float(decode(np.array([code]), ALL_METRICS[metric].kind)[0])
    return {"state": state_of(code).label, "code": code, "value": round(value, 4) if np.isfinite(value) else None}


def _greatest(block: Codes, count: int) -> list[tuple[int, int]]:
    """Return the cells with the greatest codes, equal ones in the order of the matrix."""
    flat = block.ravel()
    if not len(flat):
        return []
    count = min(count, len(flat))
    limit = max(int(np.partition(flat, -count)[-count]), 1)
    over = np.flatnonzero(flat > limit)
    over = over[np.argsort(flat[over], kind="stable")[::-1]] if len(over) else over
    level = np.flatnonzero(flat == limit)[: count - len(over)]
    return [(int(cell) // block.shape[1], int(cell) % block.shape[1]) for cell in [*over, *level]]


def _silent_hosts(codes: Codes, axis: HostAxis) -> list[dict[str, Any]]:
    planned = codes != State.NOT_PLANNED
    bad = (codes == State.FAILED) | (codes == State.NO_DATA)

    def share(along: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.asarray(bad.sum(axis=along) / np.maximum(planned.sum(axis=along), 1))

    source, destination = share(1), share(0)
    found = np.flatnonzero(np.maximum(source, destination) >= HOST_SHARE)
    return [
        {
            "host": axis.names[i],
            "row": int(i),
            "as_source": round(float(source[i]), 4),
            "as_destination": round(float(destination[i]), 4),
        }
        for i in found
    ]
