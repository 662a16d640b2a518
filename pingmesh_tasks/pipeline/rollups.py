"""The stages of the longer levels: hours out of windows, days out of hours; each replaces what it wrote.

    wait_for_windows → roll_up hour → roll_up day (so far)

A roll-up merges the windows that exist when it runs; another run adds those that came late. A level is made shard by
shard as the plan of its newest window divides the hosts, and is laid out for the page by the same builder as windows
are. Its footers note of how many windows it is made, so that a run after `retention` deleted some of them keeps the
fuller roll-up.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from pingmesh_tasks.detect.mesh.sla import COLUMNS as SLA_COLUMNS
from pingmesh_tasks.detect.mesh.sla import SlaBuilder
from pingmesh_tasks.errors import PingmeshError
from pingmesh_tasks.latency import rollup
from pingmesh_tasks.matrix.build import METADATA
from pingmesh_tasks.pipeline import mesh_matrix, pictures
from pingmesh_tasks.pipeline.late_data import run_ended
from pingmesh_tasks.pipeline.rulebook import read_rules
from pingmesh_tasks.pipeline.run import Run, load_run_inventory
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.objects import ObjectStore
from pingmesh_tasks.store.pieces import ParquetObject
from pingmesh_tasks.store.tables import drop_other_shards, write_table
from pingmesh_tasks.topology import pinglist
from pingmesh_tasks.topology.axis import HostAxis
from pingmesh_tasks.topology.inventory import Inventory
from pingmesh_tasks.windows import LEVELS_S, Window, levels_above, window_containing

log = logging.getLogger(__name__)
PAIRS, SLA = "pair_latency", "sla"
COLUMNS = sorted({*mesh_matrix.COLUMNS, *SLA_COLUMNS})
#: A level's windows are made of those of the level below; where that is no longer than a window, of the windows.
BELOW = {"hour": "window", "day": "hour"}


class NothingToMerge(PingmeshError):
    """There is no such level, or no data of it yet; the message says why."""


@dataclass(frozen=True)
class Source:
    """One window that is merged: the keys of its parts, and the plan that it was made by, where that is known."""

    window: Window
    keys: Sequence[str]
    plan: str | None


@dataclass(frozen=True)
class _Merge:
    """One window of a level, and what it is to be made of.

    Attributes:
        sources: The windows below it that have data, in order; never empty.
        missing: How many of the windows up to the run's hour have none.
    """

    level: str
    window: Window
    sources: Sequence[Source]
    missing: int


def is_ready(run: Run) -> bool:
    """Whether every window of the run's hour is complete: its map and groups are what a window writes last."""
    store = run.store
    return all(
        store.keys(layout.table(mesh_matrix.GROUP, window, "mesh"))
        for window in _windows(run.window, run.settings.window_s)
    )


def roll_up(run: Run, level: str) -> dict[str, int]:
    """Write the hour or day that the run's hour is (in): its pairs, its groups and map, its SLA report.

    Returns of how many windows it is made, how many are missing up to the run's hour, and what was merged.

    Raises:
        NothingToMerge: There is nothing to write, or less than what an earlier run wrote it from.
        ConfigError: The rules have faults.
        StoreError: The object store refused, or a part of a table is damaged.
    """
    merge = _survey(run, level)
    plan, inventory = _plan(run, merge.sources)
    axis = HostAxis.of(inventory)
    maker, sla = mesh_matrix.MapMaker(axis), SlaBuilder(axis, read_rules(run.settings, run.store))

    def lay_out(merged: pa.Table) -> None:
        pairs = _plain_names(merged.select(COLUMNS))
        maker.add(pairs)
        sla.add(pairs)

    stats = _merge_pairs(run.store, merge, plan, inventory, lay_out)
    sla_table = layout.at_level(SLA, level)
    report = sla.rows(merge.window, maker.groups.finish())
    write_table(run.store, sla_table, merge.window, report)
    pictures.keep(run.store, sla_table, merge.window, {"csv": report.write_csv().encode()})
    made_of = {"made_of": len(merge.sources), "missing": merge.missing}
    maker.keep(run.store, merge.window, level, plan=plan, **made_of)
    return made_of | {"pairs": stats.pairs, "silent": stats.silent, "rows": stats.rows}


def finish_roll_up(run: Run, level: str, dag_id: str) -> dict[str, int]:
    """Do the last `roll_up` of a run of the DAG `dag_id`, and note that the run ended.

    A run with nothing to merge has ended too. Raises what `roll_up` does.
    """
    try:
        merged = roll_up(run, level)
    except NothingToMerge:
        run_ended(run, dag_id)
        raise
    run_ended(run, dag_id)
    return merged


def _survey(run: Run, level: str) -> _Merge:
    """Return what the level's window is to be made of. Raises NothingToMerge."""
    levels = levels_above(run.settings.window_s)
    if level not in levels:
        raise NothingToMerge(f"windows of {run.settings.window_s} s are as long as a {level}: they say it already")
    window = window_containing(run.window.start, LEVELS_S[level])
    below = BELOW[level] if BELOW[level] in levels else "window"
    wanted = _windows(window, LEVELS_S.get(below, run.settings.window_s))
    sources = [source for at in wanted if (source := _source(run.store, below, at)).keys]
    if not sources:
        raise NothingToMerge(f"nothing was measured in the {level} {window.id}")
    before = int(_footer(run.store, level, window).get("made_of", 0))
    if before > len(sources):
        raise NothingToMerge(
            f"{level} {window.id} is made of {before} {below}s, of which only {len(sources)} are left: kept as it is"
        )
    past = {at for at in wanted if at.end <= run.window.end}
    missing = len(past - {source.window for source in sources})
    if missing:
        log.warning("%s %s: %d of %d %ss are not there (yet)", level, window.id, missing, len(past), below)
    return _Merge(level, window, sources, missing)


def _merge_pairs(
    store: ObjectStore,
    merge: _Merge,
    plan: str,
    inventory: Inventory,
    lay_out: Callable[[pa.Table], None],
) -> rollup.RollupStats:
    """Write the pairs of the level's window, shard by shard; `lay_out` gets all merged rows."""
    table = layout.at_level(PAIRS, merge.level)
    shards = _shards(merge.sources[-1], inventory)
    stats = rollup.RollupStats()
    for shard, wants in shards.items():
        pieces = [_pieces(store, source, shard, wants, same=source.plan == plan) for source in merge.sources]
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "pairs.parquet")
            stats += rollup.roll_up(pieces, merge.window, file, seen=lay_out)
            store.put(layout.table(table, merge.window, shard), file)
    drop_other_shards(store, table, merge.window, len(shards))
    return stats


def _windows(whole: Window, length_s: int) -> list[Window]:
    """Return the windows of a length in a longer one."""
    first = Window(whole.start, length_s)
    return [first.shifted(step) for step in range(whole.length_s // length_s)]


def _source(store: ObjectStore, level: str, window: Window) -> Source:
    keys = store.keys(layout.table_prefix(layout.at_level(PAIRS, level), window))
    notes = _footer(store, level, window) if keys else {}
    return Source(window, keys, str(notes["plan"]) if "plan" in notes else None)


def _footer(store: ObjectStore, level: str, window: Window) -> dict[str, Any]:
    """Return the notes that the map maker left in a window's groups; none where it did not write them."""
    groups = ParquetObject.find(store, layout.table(layout.at_level(mesh_matrix.GROUP, level), window, "mesh"))
    return groups.note_json(METADATA) if groups else {}


def _plan(run: Run, sources: Sequence[Source]) -> tuple[str, Inventory]:
    """Return the plan of the newest window that names one, or, where none does, one of the inventory as it is now."""
    for source in reversed(sources):
        document = run.store.find(layout.plan(source.plan)) if source.plan else None
        if source.plan and document:
            return source.plan, pinglist.read_plan(document)[0]
    inventory = load_run_inventory(run)
    version = pinglist.plan_version(inventory, run.policy)
    run.store.put(layout.plan(version), pinglist.plan_document(inventory, run.policy))
    return version, inventory


def _shards(newest: Source, inventory: Inventory) -> dict[str, Callable[[str], bool]]:
    """Return the shards that the newest window is divided into, and whether a source belongs to each.

    Sources that left the inventory within the hour belong to the first.
    """
    shard = layout.shard_of(newest.keys[0])
    count = int(shard.rpartition("-")[2]) if shard else 1
    names = [host.name for host in inventory.hosts]
    shard_index = {
        name: index
        for index in range(count)
        for name in names[len(names) * index // count : len(names) * (index + 1) // count]
    }
    return {layout.shard(index, count): partial(_belongs, shard_index, index) for index in range(count)}


def _belongs(shards: Mapping[str, int], index: int, src: str) -> bool:
    return shards.get(src, 0) == index


def _pieces(
    store: ObjectStore, source: Source, shard: str, wants: Callable[[str], bool], *, same: bool
) -> list[rollup.SourceRange]:
    """Return what a window has of a shard's sources: its own part if it was divided alike, else some of every part."""
    count = layout.of_shards(int(shard.rpartition("-")[2]))
    if same and all((layout.shard_of(key) or "").endswith(count) for key in source.keys):
        return [piece for key in source.keys if layout.shard_of(key) == shard for piece in _row_groups(store, key)]
    return [rollup.only_sources(piece, wants) for key in source.keys for piece in _row_groups(store, key)]


def _row_groups(store: ObjectStore, key: str) -> list[rollup.SourceRange]:
    file = ParquetObject.find(store, key)
    if file is None:  # it was replaced since it was listed
        return []
    column = file.metadata.schema.names.index("src")
    pieces = []
    for group in range(file.metadata.num_row_groups):
        bounds = file.metadata.row_group(group).column(column).statistics
        is_known = bounds is not None and bounds.has_min_max
        first, last = (bounds.min, bounds.max) if is_known else ("", chr(0x10FFFF))
        pieces.append(rollup.SourceRange(first, last, partial(file.read, [group], rollup.COLUMNS)))
    return pieces


def _plain_names(table: pa.Table) -> pl.DataFrame:
    frame = pl.DataFrame(table)
    return frame.with_columns(pl.col(name).cast(pl.String) for name in ("src", "dst"))
