"""The stages of the longer levels: hours out of windows, days out of hours; each replaces what it wrote.

    wait_for_windows → roll_up hour → roll_up day (so far)

What is merged is whatever is there of the hour when it is run; a run again takes in what came late. A level is made
shard by shard as the plan of its newest window divides the hosts, and is laid out for the page by the same builder as
windows are. Its footers say of how many windows it is made, so that a run after `retention` has pruned some of them
leaves the fuller roll-up as it is.
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
from pingmesh_tasks.latency import rollup
from pingmesh_tasks.matrix.build import METADATA
from pingmesh_tasks.pipeline import mesh_matrix, pictures
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


class NothingToMerge(Exception):
    """There is no such level, or nothing of it yet; the message says why."""


@dataclass(frozen=True)
class Source:
    """One window that is merged: the keys of its parts, and the plan that it was made by, where that is known."""

    window: Window
    keys: Sequence[str]
    plan: str | None


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
    Raises NothingToMerge.
    """
    levels = levels_above(run.settings.window_s)
    if level not in levels:
        raise NothingToMerge(f"windows of {run.settings.window_s} s are as long as a {level}: they say it already")
    window = window_containing(run.window.start, LEVELS_S[level])
    below = BELOW[level] if BELOW[level] in levels else "window"
    wanted = _windows(window, LEVELS_S.get(below, run.settings.window_s))
    sources = [source for at in wanted if (source := _source(run.store, below, at)).keys]
    if not sources:
        raise NothingToMerge(f"nothing was measured in the {level} {window.id}")
    before = _made_of(run.store, level, window)
    if before > len(sources):
        raise NothingToMerge(
            f"{level} {window.id} is made of {before} {below}s, of which only {len(sources)} are left: kept as it is"
        )
    past = {at for at in wanted if at.end <= run.window.end}
    missing = len(past - {source.window for source in sources})
    if missing:
        log.warning("%s %s: %d of %d %ss are not there (yet)", level, window.id, missing, len(past), below)
    plan, inventory = _plan(run, sources)
    rules = read_rules(run.settings, run.store)
    table = layout.at_level(PAIRS, level)
    shards = _shards(sources[-1], inventory)
    maker, sla = mesh_matrix.MapMaker(HostAxis.of(inventory)), SlaBuilder(HostAxis.of(inventory), rules)

    def lay_out(merged: pa.Table) -> None:
        pairs = _plain_names(merged.select(COLUMNS))
        maker.add(pairs)
        sla.add(pairs)

    stats = rollup.RollupStats()
    for shard, wants in shards.items():
        pieces = [_pieces(run.store, source, shard, wants, same=source.plan == plan) for source in sources]
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "pairs.parquet")
            stats += rollup.roll_up(pieces, window, file, seen=lay_out)
            run.store.put(layout.table(table, window, shard), file)
    drop_other_shards(run.store, table, window, len(shards))
    report = sla.rows(window, maker.groups.finish())
    write_table(run.store, layout.at_level(SLA, level), window, report)
    pictures.keep(run.store, layout.at_level(SLA, level), window, {"csv": report.write_csv().encode()})
    maker.keep(run.store, window, level, plan=plan, made_of=len(sources), missing=missing)
    told = {"made_of": len(sources), "missing": missing}
    return told | {"pairs": stats.pairs, "silent": stats.silent, "rows": stats.rows}


def _windows(whole: Window, length_s: int) -> list[Window]:
    """Return the windows of a length in a longer one."""
    first = Window(whole.start, length_s)
    return [first.shifted(step) for step in range(whole.length_s // length_s)]


def _source(store: ObjectStore, level: str, window: Window) -> Source:
    keys = store.keys(layout.table_prefix(layout.at_level(PAIRS, level), window))
    told = _footer(store, level, window) if keys else {}
    return Source(window, keys, str(told["plan"]) if "plan" in told else None)


def _made_of(store: ObjectStore, level: str, window: Window) -> int:
    told: int = _footer(store, level, window).get("made_of", 0)
    return told


def _footer(store: ObjectStore, level: str, window: Window) -> dict[str, Any]:
    """Return what the map maker noted of a window; nothing where it has not been there."""
    found = ParquetObject.find(store, layout.table(layout.at_level(mesh_matrix.GROUP, level), window, "mesh"))
    return found.note_json(METADATA) if found else {}


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
    found = layout.shard_of(newest.keys[0])
    count = int(found.rpartition("-")[2]) if found else 1
    names = [host.name for host in inventory.hosts]
    of = {
        name: index
        for index in range(count)
        for name in names[len(names) * index // count : len(names) * (index + 1) // count]
    }
    return {layout.shard(index, count): partial(_belongs, of, index) for index in range(count)}


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
        told = file.metadata.row_group(group).column(column).statistics
        first, last = (told.min, told.max) if told is not None and told.has_min_max else ("", chr(0x10FFFF))
        pieces.append(rollup.SourceRange(first, last, partial(file.read, [group], rollup.COLUMNS)))
    return pieces


def _plain_names(table: pa.Table) -> pl.DataFrame:
    frame = pl.DataFrame(table)
    return frame.with_columns(pl.col(name).cast(pl.String) for name in ("src", "dst"))
