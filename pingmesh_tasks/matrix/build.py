"""From `pair_latency` to a map: a dense matrix of codes for each metric, as a browser draws it.

Row = source, column = destination, in the order of the axis; each metric is an object of its own, Parquet with the one
column `code` in rows `source · N + destination`. So one metric is one request, and a pair, or all pairs of a source, is
one row group of a few thousand cells. The file's metadata say which plan and axis it is of.

A pair that several protocols probe has the worst of their codes.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.matrix import codes
from pingmesh_tasks.matrix.codes import CHANGE, METRICS, Codes
from pingmesh_tasks.matrix.positions import cells_of, on_axis
from pingmesh_tasks.matrix.states import State, has_no_data, states_of
from pingmesh_tasks.matrix.usual_medians import UsualMedians
from pingmesh_tasks.topology.axis import HostAxis
from pingmesh_tasks.topology.inventory import Inventory

#: Columns of `pair_latency` that a map is made from.
COLUMNS = ["src", "dst", "sent", "answered", "lost", *(m.column for m in METRICS.values() if m.column)]
#: Beyond it a matrix of hosts is 270 MB of codes, and no screen shows it.
MOST_HOSTS = 4_096
#: Sources in a row group: what must be read for one pair. At 2 500 hosts 16 cost 1 % of size and 4 ms of a full read.
SOURCES_PER_GROUP = 16
METADATA = "pingmesh.map"
#: The names by which each file counts its cells that are not measured.
_CELL_COUNTS = {
    State.NOT_PLANNED: "not_planned",
    State.UNCLEAN: "unclean",
    State.NO_DATA: "missing",
    State.FAILED: "failed",
}


@dataclass(frozen=True)
class MeshMap:
    """One window's codes by metric, each of shape (hosts, hosts). `strangers` counts rows of hosts not on the axis."""

    axis: HostAxis
    codes: dict[str, Codes]
    strangers: int = 0


class MapBuilder:
    """Puts parts of a window's `pair_latency` (with `COLUMNS`, in any order) where they belong.

    With `usual` (and the column `protocol`) the map has `change`: of a pair of which nothing is
    usual, `State.NOT_PLANNED`.
    Memory is 18 bytes a cell beside one part. Raises ConfigError beyond MOST_HOSTS.
    """

    def __init__(self, axis: HostAxis, usual: UsualMedians | None = None) -> None:
        count = len(axis.hosts)
        if count > MOST_HOSTS:
            raise ConfigError(f"a map of {count} hosts is too large, {MOST_HOSTS} are the most; look at its groups")
        self.axis, self._count, self._strangers, self._usual = axis, count, 0, usual
        names = [*([CHANGE.name] if usual else []), *METRICS]
        self._flat = {name: np.zeros(count * count, np.uint16) for name in names}

    def add(self, pairs: pl.DataFrame) -> None:
        known = on_axis(pairs, self.axis)
        self._strangers += pairs.height - known.height
        cell = cells_of(known["src"].to_numpy(), known["dst"].to_numpy(), self._count)
        once = not (np.diff(np.sort(cell)) == 0).any()
        encoded = _encode(known)
        if self._usual:
            usual_ln = self._usual.ln_of(known["protocol"], cell)
            encoded[CHANGE.name] = _encode_change(known["rtt_p50_us"], usual_ln, encoded["p50"])
        for name, found in encoded.items():
            flat = self._flat[name]
            if once:
                flat[cell] = np.maximum(flat[cell], found)
            else:
                np.maximum.at(flat, cell, found)

    def finish(self) -> MeshMap:
        side = self._count
        return MeshMap(
            self.axis, {name: flat.reshape(side, side) for name, flat in self._flat.items()}, self._strangers
        )


def build_mesh_map(parts: Iterable[pl.DataFrame], inventory: Inventory, usual: UsualMedians | None = None) -> MeshMap:
    """Return the map of a window's pairs."""
    builder = MapBuilder(HostAxis.of(inventory), usual)
    for part in parts:
        builder.add(part)
    return builder.finish()


def write_codes(matrix: Codes, metadata: Mapping[str, Any]) -> bytes:
    """Return one metric's matrix as Parquet. `metadata` (plain values) go with it."""
    data = io.BytesIO()
    pl.DataFrame({"code": matrix.ravel()}).write_parquet(
        data,
        compression="zstd",
        compression_level=3,
        row_group_size=max(1, SOURCES_PER_GROUP * len(matrix)),
        statistics=False,
        metadata={METADATA: json.dumps(dict(metadata))},
    )
    return data.getvalue()


def read_codes(data: bytes) -> tuple[Codes, dict[str, Any]]:
    """Return the matrix and the metadata of `write_codes`."""
    file = io.BytesIO(data)
    metadata = json.loads(pl.read_parquet_metadata(file)[METADATA])
    file.seek(0)
    flat = pl.read_parquet(file)["code"].to_numpy()
    side = int(metadata["hosts"])
    return flat.reshape(side, side), metadata


def map_parts(mesh: MeshMap, **metadata: Any) -> Iterator[tuple[str, bytes]]:
    """Yield each metric's name and Parquet."""
    common = {**metadata, "axis": mesh.axis.id, "hosts": len(mesh.axis.hosts), "strangers": mesh.strangers}
    for name, matrix in mesh.codes.items():
        yield name, write_codes(matrix, {**common, "metric": name, **figures(matrix)})


def figures(matrix: Codes) -> dict[str, Any]:
    """Return what a scale and a legend need: how many cells are in which state, and the spread of the measured."""
    counts = np.bincount(matrix.ravel(), minlength=codes.CODE_COUNT)
    measured = counts[1 : codes.MOST + 1]
    total = int(measured.sum())
    cells = {"measured": total} | {name: int(counts[state]) for state, name in _CELL_COUNTS.items()}
    if not total:
        return {"codes": None, "cells": cells}
    reached = np.cumsum(measured)
    ranks = {"low": 1, "p01": 0.01, "p50": 0.5, "p99": 0.99, "high": total}
    spread = {
        name: 1 + int(np.searchsorted(reached, max(1, rank * total if rank < 1 else rank)))
        for name, rank in ranks.items()
    }
    return {"codes": spread, "cells": cells}


def _encode(pairs: pl.DataFrame) -> dict[str, Codes]:
    """Return the codes of each metric, by row of `pairs`."""
    sent, answered, lost = (pairs[name].to_numpy().astype(np.float64) for name in ("sent", "answered", "lost"))
    probes = np.maximum(sent, 1)
    found = {
        "loss": codes.encode_share(lost / probes),
        "unanswered": codes.encode_share(1 - answered / probes),
        "sent": codes.encode_count(sent),
    }
    for values in found.values():
        values[has_no_data(sent)] = State.NO_DATA
    states = states_of(sent, answered, has_value=False)
    for metric in METRICS.values():
        if metric.column:
            us = pairs[metric.column]
            found[metric.name] = np.where(us.is_null().to_numpy(), states, codes.encode_us(_whole(us)))
    return found


def _encode_change(us: pl.Series, usual_ln: NDArray[np.float32], p50: Codes) -> Codes:
    """Return the codes of what became of the medians; the states are those of `p50`."""
    ratio = codes.encode_ratio(np.log(np.maximum(_whole(us), 1)) - usual_ln)
    return np.where(codes.is_measured(p50), ratio, p50)


def _whole(us: pl.Series) -> NDArray[np.uint32]:
    return us.cast(pl.UInt32).fill_null(0).to_numpy()
