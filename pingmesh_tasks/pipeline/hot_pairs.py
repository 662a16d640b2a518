"""From hot pieces to what the rules on the mesh read: the pairs of a span, and the hosts that gave none. Pure.

A chunk that cannot be read is left out: the batch path reads the same bytes from the raw objects.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pingmesh_tasks.detect.mesh.recent import last_changes
from pingmesh_tasks.errors import SegmentError
from pingmesh_tasks.latency.probe_table import probe_rows
from pingmesh_tasks.latency.segment import SegmentColumns, Targets, read_columns
from pingmesh_tasks.latency.summary import summarize_rows
from pingmesh_tasks.pipeline.hot_batches import unique
from pingmesh_tasks.pipeline.hot_contacts import SilentHost, silent_hosts
from pingmesh_tasks.store.hot_batch import HotPiece
from pingmesh_tasks.topology.inventory import Inventory
from pingmesh_tasks.windows import Window, window_containing

log = logging.getLogger(__name__)
_PER_PROBE = ("ts_us", "target", "rtt_us", "src_port", "status", "retransmits")
_WINDOW_S = 60  # the window of a span of hot data is a name only


def recent_pairs(
    pieces: Sequence[HotPiece], inventory: Inventory, since: datetime, until: datetime
) -> tuple[pl.DataFrame, list[SilentHost]]:
    """Return rows of `PAIR_LATENCY` for the probes sent in [since, until) by our clock, and the hosts that gave none.

    The column `window` has no meaning here.
    """
    window = window_containing(until, _WINDOW_S)
    from_us, to_us = (round(moment.timestamp() * 1e6) for moment in (since, until))
    chunks = _chunks(pieces)
    starts = _starts(chunks, from_us, to_us)
    by_list: dict[tuple[str, Targets], list[SegmentColumns]] = {}
    for columns in chunks:
        start_us = np.array([starts.get(name, from_us) for name in columns.targets.names], np.int64)
        inside = (columns.ts_us >= start_us[columns.target]) & (columns.ts_us < to_us)
        if inside.any():
            by_list.setdefault((columns.host, columns.targets), []).append(_part(columns, inside, window))
    rows = [probe_rows(_whole(parts)) for parts in by_list.values()]
    sources = {host for host, _ in by_list}
    silent = silent_hosts(pieces, [host.name for host in inventory.hosts if host.name not in sources], until)
    return summarize_rows(rows, window, None), silent


def _chunks(pieces: Sequence[HotPiece]) -> list[SegmentColumns]:
    """Return the probes of each piece, their times by our clock."""
    chunks = []
    for piece in unique(piece for piece in pieces if piece.kind == "probe"):
        try:
            columns = read_columns(piece.data)
        except SegmentError as error:
            log.warning("a hot piece of %s is left out: %s", piece.source, error)
            continue
        chunks.append(replace(columns, ts_us=columns.ts_us - (piece.clock_offset_us or 0)))
    return chunks


def _starts(probes: Sequence[SegmentColumns], from_us: int, to_us: int) -> dict[str, int]:
    """Return, for the hosts that died or came back in the span, the time from which their probes count
    (`detect.mesh.recent`, µs since the epoch).

    Only probes to hosts that failed at least one source are read: in a healthy mesh almost none.
    """
    failing = {
        columns.targets.names[target]
        for columns in probes
        for target in np.unique(columns.target[columns.status != 0]).tolist()
    }
    parts = []
    for columns in probes:
        names = columns.targets.names
        of_failing = np.array([name in failing for name in names], bool)
        keep = of_failing[columns.target] & (columns.ts_us >= from_us) & (columns.ts_us < to_us)
        if keep.any():
            dst = pl.Series(names, dtype=pl.String).gather(columns.target[keep])
            part = {"ts": columns.ts_us[keep], "dst": dst, "answered": columns.status[keep] == 0}
            parts.append(pl.DataFrame(part).with_columns(src=pl.lit(columns.host)))
    return dict(last_changes(pl.concat(parts)).iter_rows()) if parts else {}


def _part(columns: SegmentColumns, inside: NDArray[np.bool_], window: Window) -> SegmentColumns:
    """Return the probes that are `inside`, all at the start of `window`: only that they are in the span matters."""
    kept: dict[str, Any] = {name: getattr(columns, name)[inside] for name in _PER_PROBE}
    kept["ts_us"] = np.full(len(kept["ts_us"]), int(window.start.timestamp()) * 1_000_000)
    return replace(columns, **kept)


def _whole(parts: Sequence[SegmentColumns]) -> SegmentColumns:
    """Return the probes of several chunks of one host and target table as one."""
    joined: dict[str, Any] = {name: np.concatenate([getattr(p, name) for p in parts]) for name in _PER_PROBE}
    return replace(parts[0], **joined)
