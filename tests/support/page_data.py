"""A store full of windows for the page: everything that it shows of a mesh of any size, made up and fast.

    python -m tests.support.page_data --hosts 2500 --windows 12 --endpoint http://127.0.0.1:8333 --bucket pingmesh

Latency is log-normal about 30 µs in the ToR, 80 µs in the DC and 2 ms between DCs. One host is dead, one silent, one
ToR lossy, one podset slow, and one pair in a hundred is not planned. `pair_latency` is written for the newest window
only, and what is normal for the one before it; the first window has no normal. Users and findings have names as
strangers write them into logs with `--hostile`.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pyarrow as pa

from pingmesh_tasks.alerting import AlertState, Policy, advance
from pingmesh_tasks.alerting.state_file import to_json
from pingmesh_tasks.detect.finding import Evaluation, Finding, anomaly_rows
from pingmesh_tasks.detect.mesh.matrix_pattern import pattern_of
from pingmesh_tasks.latency.ladder import NO_RTT, Ladders, ladder_buckets
from pingmesh_tasks.matrix import codes
from pingmesh_tasks.matrix.build import MeshMap, map_parts
from pingmesh_tasks.matrix.groups import GroupBuilder, PairColumns, group_parts
from pingmesh_tasks.matrix.states import State
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.objects import ObjectStore, S3Access
from pingmesh_tasks.store.schemas import HOST_STATUS, LOG_STATUS, NORMAL, PAIR_LATENCY, SESSION
from pingmesh_tasks.store.tables import write_table
from pingmesh_tasks.topology.axis import HostAxis
from pingmesh_tasks.topology.inventory import Host, Inventory
from pingmesh_tasks.topology.pinglist import plan_document, plan_version
from pingmesh_tasks.windows import Window, window_containing
from tests.support.usage_frames import HOSTILE, busy

DCS, PODSETS, TORS = 5, 5, 5
PROBES = 30
SERVER = "east"
NAMES = ("alice", "bob", "陈思远", "dave", "erin", "frank")
#: Of so many windows the normal is said to be.
NORMAL_WINDOWS = 40
_UNIT_BUCKETS = 3


def inventory_of(count: int) -> Inventory:
    """Return `count` hosts in at most 5 DCs of 5 podsets of 5 ToRs, as even as can be."""
    tors = max(1, min(DCS * PODSETS * TORS, count // 4))
    hosts = []
    for i in range(count):
        place = i * tors // count * (DCS * PODSETS * TORS) // tors
        dc, podset, tor = place // (PODSETS * TORS), place // TORS % PODSETS, place % TORS
        name = f"d{dc + 1}p{podset + 1}t{tor + 1}-{i:04}"
        address = f"10.{i >> 16 & 255}.{i >> 8 & 255}.{i & 255}"
        hosts.append(Host(name, address, f"dc{dc + 1}", f"podset{podset + 1}", f"tor{tor + 1}"))
    return Inventory(tuple(hosts), has_topology=tors > 1)


@dataclass(frozen=True)
class WindowOfPairs:
    """One window's figures, each of shape (hosts, hosts): µs where `answered`, counts of probes."""

    us: dict[str, np.ndarray]
    sent: np.ndarray
    lost: np.ndarray

    @property
    def answered(self) -> np.ndarray:
        return self.sent - self.lost


class MadeMesh:
    """The latency of one made-up mesh; each window differs by noise."""

    def __init__(self, inventory: Inventory) -> None:
        axis = HostAxis.of(inventory)
        n = len(axis.hosts)
        tor, podset, dc = (axis.member(kind) for kind in ("tor", "podset", "dc"))
        rng = np.random.default_rng(7)
        base = np.where(tor[:, None] == tor, 30.0, np.where(dc[:, None] == dc, 80.0, 2_000.0))
        if n > 20:
            slow = podset == podset[n * 3 // 4]
            base *= np.where(slow[:, None] | slow, 2.0, 1.0)
        self.axis, self.base = axis, (base * rng.lognormal(0, 0.12, (n, n))).astype(np.float32)
        self.planned = rng.random((n, n)) >= (0.01 if n > 100 else 0)
        np.fill_diagonal(self.planned, False)
        self.dead, self.silent = n // 3, n // 2
        self.lossy = np.flatnonzero(tor == tor[n * 5 // 8]) if n > 20 else np.empty(0, np.int64)

    @property
    def names(self) -> tuple[str, ...]:
        return self.axis.names

    def window(self, seed: int) -> WindowOfPairs:
        rng = np.random.default_rng(1_000 + seed)
        n = len(self.names)
        p50 = self.base * np.exp(0.05 * rng.standard_normal((n, n), np.float32))
        spread = rng.standard_exponential((n, n), np.float32) * 0.24
        us = {"p50": p50, "p90": p50 * (1 + spread / 2), "p99": p50 * (1 + spread * 1.6)}
        us |= {"min": p50 * 0.9, "max": us["p99"] * 1.2, "jitter": p50 * spread * 0.8}
        sent = np.where(self.planned, PROBES, 0).astype(np.uint32)
        sent[[self.dead, self.silent]] = 0
        lost = np.where(rng.random((n, n), np.float32) < 0.0008, 1, 0)
        lost[self.lossy] = rng.binomial(PROBES, 0.08, (len(self.lossy), n))
        lost[:, self.dead] = PROBES
        whole = {name: np.maximum(np.rint(values), 1).astype(np.uint32) for name, values in us.items()}
        return WindowOfPairs(whole, sent, np.minimum(lost, sent).astype(np.uint32))

    def codes(self, made: WindowOfPairs, *, usual: bool = True) -> MeshMap:
        """Return the map of a window; what is `usual` for a pair is its base."""
        probes = np.maximum(made.sent, 1)
        found = {name: codes.encode_us(made.us[name]) for name in ("p50", "p90", "p99", "max", "jitter")}
        for values in found.values():
            values[made.answered == 0] = State.FAILED
        found |= {"loss": codes.encode_share(made.lost / probes), "sent": codes.encode_count(made.sent)}
        found["unanswered"] = found["loss"].copy()
        ratio = np.log(made.us["p50"] / self.base) if usual else np.full(self.base.shape, np.nan)
        found["change"] = np.where(made.answered == 0, State.FAILED, codes.encode_ratio(ratio)).astype(np.uint16)
        for values in found.values():
            values[made.sent == 0] = State.NO_DATA
            values[~self.planned] = State.NOT_PLANNED
        return MeshMap(self.axis, {name: found[name] for name in ("change", *codes.METRICS)})

    def normal(self) -> pl.DataFrame:
        """Return what is normal, as `detect.mesh.baseline` leaves it."""
        src, dst = np.nonzero(self.planned)
        names, ln = pl.Series(self.names), pl.Series(np.log(self.base[src, dst]))
        rows = {"src": names.gather(src), "dst": names.gather(dst), "p50_ln": ln, "p99_ln": ln + 0.3}
        plain = {"protocol": "tcp", "windows": NORMAL_WINDOWS, "p50_dev": 0.06, "p99_dev": 0.1, "loss": 0.001}
        frame = pl.DataFrame(rows).with_columns(**{name: pl.lit(value) for name, value in plain.items()})
        return frame.select(list(NORMAL)).cast(dict(NORMAL)).sort("src", "dst")  # type: ignore[arg-type]

    def groups(self, made: WindowOfPairs) -> GroupBuilder:
        builder = GroupBuilder(self.axis)
        src, dst = np.nonzero(self.planned)
        answered = made.answered[src, dst]
        bucket, count = self._ladders(made, src, dst)
        ladders = Ladders(
            offsets=np.arange(len(src) + 1) * _UNIT_BUCKETS,
            bucket=bucket,
            count=count,
            min_us=np.where(answered > 0, made.us["min"][src, dst], NO_RTT).astype(np.uint32),
            max_us=np.where(answered > 0, made.us["max"][src, dst], 0).astype(np.uint32),
        )
        builder.add_columns(PairColumns(src, dst, made.sent[src, dst], answered, made.lost[src, dst], ladders))
        return builder

    def pairs(self, made: WindowOfPairs, window: Window, rows: slice) -> pl.DataFrame:
        """Return `pair_latency` of some sources, sorted as it should be."""
        src, dst = np.nonzero(self.planned[rows])
        src = src + rows.start
        answered = made.answered[src, dst]
        bucket, count = self._ladders(made, src, dst)
        clean = pl.Series(answered > 0)
        offsets = pa.array(np.arange(len(src) + 1, dtype=np.int64) * _UNIT_BUCKETS)
        ladder = [
            pl.Series(pl.from_arrow(pa.LargeListArray.from_arrays(offsets, pa.array(values))))
            for values in (bucket, count)
        ]
        names = pl.Series(self.names)
        tor, dc = self.axis.member("tor"), self.axis.member("dc")
        scope = np.where(tor[src] == tor[dst], 0, np.where(dc[src] == dc[dst], 1, 2))
        none = pl.Series([None], dtype=pl.UInt32)
        us = {f"rtt_{name}_us": made.us[name][src, dst] for name in ("min", "p50", "p90", "p99", "max")}
        us |= {"rtt_p95_us": made.us["p99"][src, dst], "rtt_mean_us": us["rtt_p50_us"]}
        us |= {"jitter_us": made.us["jitter"][src, dst]}
        columns = {
            "window": pl.Series([window.start], dtype=PAIR_LATENCY["window"]).new_from_index(0, len(src)),
            "src": names.gather(src),
            "dst": names.gather(dst),
            "protocol": pl.Series(["tcp"]).new_from_index(0, len(src)),
            "scope": pl.Series(["intra_tor", "intra_dc", "inter_dc"]).gather(scope),
            "sent": made.sent[src, dst],
            "answered": answered,
            "lost": made.lost[src, dst],
            **dict.fromkeys(
                ("retransmitted", "refused", "unreachable", "reset", "bad_reply", "local_error"),
                np.zeros(len(src), np.uint32),
            ),
            **{name: pl.Series(values).zip_with(clean, none) for name, values in us.items()},
            "ladder_bucket": ladder[0],
            "ladder_count": ladder[1],
        }
        frame = pl.DataFrame({name: columns[name] for name in PAIR_LATENCY}).cast(dict(PAIR_LATENCY))  # type: ignore[arg-type]
        frame = frame.with_columns(
            pl.when(pl.col("answered") > 0).then(pl.col(name)).otherwise([])
            for name in ("ladder_bucket", "ladder_count")
        )
        return frame.sort("src", "dst", "protocol")

    def _ladders(self, made: WindowOfPairs, src: np.ndarray, dst: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return each pair's three buckets, ascending, and their counts (0 where nothing was answered)."""
        buckets = np.stack([ladder_buckets(made.us[name][src, dst]) for name in ("p50", "p90", "p99")], axis=1)
        buckets[:, 1] = np.maximum(buckets[:, 1], buckets[:, 0] + 1)
        buckets[:, 2] = np.maximum(buckets[:, 2], buckets[:, 1] + 1)
        answered = made.answered[src, dst].astype(np.int64)
        tail, top = answered * 3 // 10, (answered > 0).astype(np.int64)
        counts = np.stack([answered - tail, np.maximum(tail - top, 0), np.minimum(tail, top)], axis=1)
        return buckets.ravel(), counts.ravel().astype(np.uint32)


def fill(
    store: ObjectStore,
    count: int,
    windows: int,
    *,
    window_s: int = 300,
    end: datetime | None = None,
    pairs: bool = True,
    hostile: bool = False,
) -> list[Window]:
    """Write everything of `windows` windows of a mesh of `count` hosts, the last one ending before `end` (now)."""
    inventory = inventory_of(count)
    version = plan_version(inventory)
    store.put(layout.plan(version), plan_document(inventory))
    mesh = MadeMesh(inventory)
    last = window_containing((end or datetime.now(UTC)) - timedelta(seconds=window_s), window_s)
    made = [last.shifted(step) for step in range(1 - windows, 1)]
    names = HOSTILE if hostile else NAMES
    state = AlertState()
    for seed, window in enumerate(made):
        about = {"plan": version, "window": window.id}
        figures = mesh.window(seed)
        for kind, data in group_parts(mesh.groups(figures).finish(), mesh.axis, **about):
            store.put(layout.table("group_latency", window, kind), data)
        _write_map(store, mesh.codes(figures, usual=seed > 0), window, version, made[seed - 1] if seed else None)
        _write_fleet(store, mesh, window)
        _write_use(store, window, names)
        found = Evaluation(
            "mesh", "window", window.end, frozenset({"host_down", "loss"}), _findings(mesh, window, names)
        )
        write_table(store, "anomaly", window, anomaly_rows(found), "mesh")
        state = advance(state, found, Policy(), window.end)
    store.put(layout.alert_state(), to_json(state))
    if pairs and windows > 1:
        write_table(store, "normal", made[-2], mesh.normal())
    for shard in range(0, count if pairs else 0, 250):
        rows = mesh.pairs(figures, last, slice(shard, min(shard + 250, count)))
        write_table(store, "pair_latency", last, rows, layout.shard(shard // 250, -(-count // 250)))
    return made


def _write_map(store: ObjectStore, mesh: MeshMap, window: Window, plan: str, before: Window | None) -> None:
    noted = {"plan": plan, "window": window.id, "normal": before and before.id, "pattern": pattern_of(mesh)}
    for metric, data in map_parts(mesh, **noted):
        store.put(layout.table("mesh_map", window, metric), data)


def _write_fleet(store: ObjectStore, mesh: MadeMesh, window: Window) -> None:
    n = len(mesh.names)
    for stage in ("keys", "dispatch", "collect"):
        outcome = np.full(n, "ok", object)
        outcome[mesh.dead] = "unreachable"
        outcome[mesh.silent] = "no_segment" if stage == "collect" else "ok"
        rows = {
            "window": [window.start] * n,
            "host": mesh.names,
            "stage": [stage] * n,
            "outcome": outcome.tolist(),
            "detail": ["" if one == "ok" else f"{one}: no answer within 30 s" for one in outcome],
            "duration_ms": np.arange(n) % 400 + 20,
            "clock_offset_us": (np.arange(n) % 500 - 250).astype(np.int64),
            "agent_version": ["3f0c12ab77e1d2c4"] * n,
            "pinglist_version": ["91ac0deadbeef123"] * n,
            "segment_bytes": np.full(n, 40_000),
            "scheduled": np.full(n, PROBES * n),
            "skipped": np.zeros(n, np.int64),
        }
        frame = pl.DataFrame(rows, schema_overrides=dict(HOST_STATUS)).cast(dict(HOST_STATUS))  # type: ignore[arg-type]
        write_table(store, "host_status", window, frame, f"{stage}-000-of-001")


def _write_use(store: ObjectStore, window: Window, names: tuple[str, ...]) -> None:
    write_table(store, "usage", window, busy(names, window=window.start, server=SERVER), SERVER)
    rows = [
        {
            "window": window.start,
            "server": SERVER,
            "session": f"s{i:04}",
            "user": name,
            "host": names[-1 - i % len(names)],
            "address": f"192.0.2.{i % 250}",
            "pid": 1_000 + i,
            "socket": 4 + i,
            "start_time": window.start - timedelta(minutes=7 * i),
            "last_time": window.end - timedelta(seconds=5),
            "end_time": window.end - timedelta(seconds=5) if i % 3 == 0 else None,
            "ended_by": "disconnect" if i % 3 == 0 else None,
            "confidence": "exact" if i % 3 == 0 else "open",
            "duration_us": (7 * 60 * i + 290) * 1_000_000,
            "attribution": "process",
            "operations": 100 * i,
            "window_operations": 10 * i,
        }
        for i, name in enumerate(names)
    ]
    write_table(store, "session", window, pl.DataFrame(rows, schema=SESSION), SERVER)
    log = {"window": window.start, "server": SERVER, "kind": "access", "outcome": "grown", "detail": ""}
    log |= {"new_bytes": 34_000, "backlog_bytes": 0, "lost_bytes": 0}
    write_table(store, "log_status", window, pl.DataFrame([log], schema=LOG_STATUS), SERVER)


def _findings(mesh: MadeMesh, window: Window, names: tuple[str, ...]) -> tuple[Finding, ...]:
    host = mesh.names[mesh.dead]
    down = Finding(
        rule="host_down",
        scope="host",
        subject=host,
        severity="critical",
        value=1.0,
        unit="share",
        threshold=0.5,
        since=window.start,
        detail=f"nobody reaches {host}, and it reports nothing ({names[0]})",
        advice="look at its power, its link and its agent",
        affected=2 * len(mesh.names),
        evidence=({"src": mesh.names[0], "dst": host, "sent": PROBES, "lost": PROBES, "note": names[-3]},),
    )
    if not len(mesh.lossy):
        return (down,)
    lossy = Finding(
        rule="loss",
        scope="tor",
        subject=mesh.axis.spans["tor"][mesh.axis.member("tor")[mesh.lossy[0]]].name,
        severity="warning",
        value=0.08,
        unit="share",
        threshold=0.01,
        since=window.start,
        detail="probes from this ToR are lost wherever they go",
        advice="trace from two of its hosts",
        normal=0.0005,
        confidence=0.9,
        affected=len(mesh.lossy) * len(mesh.names),
    )
    return (down, lossy)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=2500)
    parser.add_argument("--windows", type=int, default=12)
    parser.add_argument("--window-s", type=int, default=300)
    parser.add_argument("--endpoint", default="http://127.0.0.1:8333")
    parser.add_argument("--bucket", default="pingmesh")
    parser.add_argument("--hostile", action="store_true")
    given = parser.parse_args()
    key, secret = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
    store = ObjectStore(S3Access(given.bucket, key, secret, given.endpoint))
    store.ensure_bucket()
    made = fill(store, given.hosts, given.windows, window_s=given.window_s, hostile=given.hostile)
    print(f"{len(made)} windows of {given.hosts} hosts: {made[0].id} … {made[-1].id}")


if __name__ == "__main__":
    main()
