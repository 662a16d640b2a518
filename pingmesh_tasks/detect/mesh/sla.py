"""Which parts of the mesh kept what is promised of them over an hour or a day.

A pair is within its limits if the share of its probes that were not answered at the first try is at most the rule
`loss`'s `limit`, and its p99 at most that of `latency_sla` for its distance: the same rule book that the alarm has,
overrides included. Pairs that sent nothing are not judged. Loss and quantiles of a part are those of all its probes.
Distances and podsets of which `groups` has no sums, for they are too many, are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pingmesh_tasks.detect.rules import Place, RuleBook
from pingmesh_tasks.matrix.groups import MOST_ROWS, GroupSums, group_rows
from pingmesh_tasks.matrix.positions import on_axis
from pingmesh_tasks.store.schemas import SLA, check_schema
from pingmesh_tasks.topology.axis import HostAxis
from pingmesh_tasks.topology.placement import placement
from pingmesh_tasks.windows import Window

COLUMNS = ["src", "dst", "sent", "answered", "retransmitted", "rtt_p99_us"]
SCOPES = ("intra_tor", "intra_dc", "inter_dc")
Ints = NDArray[np.int64]


class SlaBuilder:
    """Judges pairs (with `COLUMNS`, in any order) and counts them by DC, podset and distance."""

    def __init__(self, axis: HostAxis, rules: RuleBook) -> None:
        self.axis, self._rules = axis, rules
        sides = {kind: len(axis.spans[kind]) for kind in ("dc", "podset")}
        self._sides = {kind: side for kind, side in sides.items() if side**2 <= MOST_ROWS}
        self._members = {kind: axis.member(kind) for kind in self._sides}
        rows = {"mesh": 1, "scope": len(SCOPES), **{kind: side**2 for kind, side in self._sides.items()}}
        self._counts = {kind: np.zeros((count, 3), np.uint64) for kind, count in rows.items()}
        self._places: list[Place] = [placement(host) for host in axis.hosts]
        self._limits: dict[tuple[str, str], NDArray[np.float64]] = {}

    def add(self, pairs: pl.DataFrame) -> None:
        known = on_axis(pairs, self.axis)
        src, dst = (known[name].to_numpy().astype(np.int64) for name in ("src", "dst"))
        sent, answered = (known[name].to_numpy().astype(np.int64) for name in ("sent", "answered"))
        clean = answered - known["retransmitted"].to_numpy()
        scope = self._scope(src, dst)
        within = self._within(src, dst, scope, sent, clean, known["rtt_p99_us"])
        keys = {"mesh": np.zeros(len(src), np.int64), "scope": scope}
        keys |= {kind: of[src] * self._sides[kind] + of[dst] for kind, of in self._members.items()}
        for kind, key in keys.items():
            counts = self._counts[kind]
            for at, values in enumerate((sent > 0, within, clean)):
                counts[:, at] += np.bincount(key, weights=values, minlength=len(counts)).astype(np.uint64)

    def rows(self, window: Window, sums: Mapping[str, GroupSums]) -> pl.DataFrame:
        """Return the rows of `SLA`. `sums` are the sums of the same pairs (`GroupBuilder.finish`)."""
        parts = [self._part("mesh", "mesh", sums["mesh"], self._counts["mesh"])]
        for at, of_scope in enumerate(self._by_scope(sums)):
            parts.append(self._part(SCOPES[at], "mesh", of_scope, self._counts["scope"][at : at + 1]))
        parts += [self._part(kind, kind, sums[kind], self._counts[kind]) for kind in self._sides]
        found = pl.concat(parts).filter(pl.col("pairs") > 0).with_columns(window=pl.lit(window.start))
        sent = pl.col("sent")
        rows = found.with_columns(
            within_share=pl.col("within") / pl.col("pairs"),
            loss=pl.when(sent > 0).then(pl.col("lost") / sent),
        )
        rows = rows.select(list(SLA)).cast(dict(SLA))  # type: ignore[arg-type]
        check_schema("sla_hour", rows)
        return rows

    def _part(self, name: str, kind: str, sums: GroupSums, counts: NDArray[np.uint64]) -> pl.DataFrame:
        figures = group_rows(kind, sums, self.axis).drop("pairs")
        judged = {name: pl.Series(counts[:, at]) for at, name in enumerate(("pairs", "within", "clean"))}
        columns = ["src", "dst", "sent", "answered", "lost", "rtt_p50_us", "rtt_p99_us"]
        return figures.select(columns).with_columns(kind=pl.lit(name), **judged)

    def _by_scope(self, sums: Mapping[str, GroupSums]) -> Iterator[GroupSums]:
        """Yield the sums of each distance: those of the pairs of ToRs that are so far apart."""
        if "tor" not in sums:
            return
        first = np.array([span.start for span in self.axis.spans["tor"]])
        scope = self._scope(np.repeat(first, len(first)), np.tile(first, len(first)))
        folded = sums["tor"].folded(scope, len(SCOPES))
        for at in range(len(SCOPES)):
            yield folded.rows(slice(at, at + 1))

    def _scope(self, src: Ints, dst: Ints) -> Ints:
        """Return how far apart each pair is, as a place in SCOPES; without topology nobody knows: the widest."""
        if not self.axis.has_topology:
            return np.full(len(src), 2)
        apart = (self.axis.tor[src] != self.axis.tor[dst]).astype(np.int64)
        return np.asarray(apart + (self.axis.dc[src] != self.axis.dc[dst]))

    def _within(
        self, src: Ints, dst: Ints, scope: Ints, sent: Ints, clean: Ints, p99_us: pl.Series
    ) -> NDArray[np.bool_]:
        p99 = p99_us.cast(pl.Float64).fill_null(np.inf).to_numpy()
        kept = (sent > 0) & (sent - clean <= self._of_pairs("loss", "limit", src, dst) * sent)
        for at, name in enumerate(SCOPES):
            here = np.flatnonzero(scope == at)
            kept[here] &= p99[here] <= self._of_pairs("latency_sla", f"{name}_us", src[here], dst[here])
        return kept

    def _of_pairs(self, rule: str, limit: str, src: Ints, dst: Ints) -> NDArray[np.float64]:
        """Return a limit for each pair: that of the end which has one of its own, the higher one where both have."""
        of_hosts = self._limits.get((rule, limit))
        if of_hosts is None:
            of_hosts = self._limits[rule, limit] = self._rules.limits(rule, limit, self._places)
        usual = self._rules.limit(rule, limit)
        own = np.where(of_hosts == usual, np.nan, of_hosts)
        either = np.fmax(own[src], own[dst])
        return np.where(np.isnan(either), usual, either)
