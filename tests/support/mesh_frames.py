"""Meshes that look like real ones, made up: inventories of any size and their `pair_latency`.

RTTs have the three levels of a data centre (30 µs in the ToR, 80 µs in the DC, 2 ms between DCs), a fixed offset per
pair and a little noise per window, so that windows of one mesh look alike but not equal.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import polars as pl

from pingmesh_tasks.store.schemas import PAIR_LATENCY
from pingmesh_tasks.topology.inventory import Host, Inventory
from pingmesh_tasks.windows import Window

WINDOW = Window(datetime(2026, 11, 21, 22, 5, tzinfo=UTC), 300)
LEVEL_US = {"intra_tor": 30.0, "intra_dc": 80.0, "inter_dc": 2_000.0}


@dataclass(frozen=True)
class Faults:
    """What is wrong in a window. Dead hosts answer nobody and report nothing; silent ones only report nothing."""

    dead: Collection[str] = ()
    silent: Collection[str] = ()
    failed_pairs: Collection[tuple[str, str]] = ()
    lossy_pairs: dict[tuple[str, str], float] = field(default_factory=dict)
    slow_pairs: dict[tuple[str, str], float] = field(default_factory=dict)


def inventory_of(count: int, *, dcs: int = 2, podsets: int = 2, per_tor: int = 4, topology: bool = True) -> Inventory:
    """Return `count` hosts spread over the DCs and podsets, `per_tor` hosts a ToR."""
    if not topology:
        return Inventory(tuple(Host(f"h{i:05}", _address(i)) for i in range(count)))
    per_podset = -(-count // (dcs * podsets))
    hosts = []
    for i in range(count):
        podset, inside = divmod(i, per_podset)
        dc, tor = podset // podsets, inside // per_tor
        name = f"d{dc + 1}p{podset % podsets + 1}t{tor + 1:02}-{inside % per_tor + 1:02}"
        hosts.append(Host(name, _address(i), f"dc{dc + 1}", f"podset{podset % podsets + 1}", f"tor{tor + 1}"))
    return Inventory(tuple(hosts), has_topology=True)


def planned(inventory: Inventory, *, full: bool = False, ring: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return (src, dst) positions: everybody with everybody, a ring of the next `ring` hosts, or three levels."""
    n = len(inventory.hosts)
    if ring:
        src = np.repeat(np.arange(n), ring)
        return src, (src + np.tile(np.arange(1, ring + 1), n)) % n
    src, dst = np.divmod(np.arange(n * n, dtype=np.int64), n)
    if full:
        keep = src != dst
        return src[keep], dst[keep]
    tor, dc = _codes(inventory)
    rank = np.zeros(n, dtype=np.int64)
    for i in range(1, n):
        rank[i] = rank[i - 1] + 1 if tor[i] == tor[i - 1] else 0
    out_src, out_dst = [], []
    for i in range(n):  # row by row: n × n booleans of 10 000 hosts would not fit
        same_dc = dc == dc[i]
        keep = (tor == tor[i]) | (same_dc & (rank == rank[i])) | (~same_dc & (rank == 0) & (rank[i] == 0))
        keep[i] = False
        found = np.flatnonzero(keep)
        out_src.append(np.full(len(found), i))
        out_dst.append(found)
    return np.concatenate(out_src), np.concatenate(out_dst)


def mesh_frame(
    inventory: Inventory,
    window: Window = WINDOW,
    seed: int = 0,
    faults: Faults | None = None,
    *,
    full: bool | None = None,
    ring: int = 0,
    sent: int = 30,
    ladder: bool = True,
) -> pl.DataFrame:
    """Return PAIR_LATENCY of one window. `full` None: a full mesh up to 200 hosts, three levels above."""
    faults = faults or Faults()
    hosts = inventory.hosts
    names = np.array([h.name for h in hosts], dtype=object)
    src, dst = planned(inventory, full=len(hosts) <= 200 if full is None else full, ring=ring)
    tor, dc = _codes(inventory)
    scope = np.where(tor[src] == tor[dst], 0, np.where(dc[src] == dc[dst], 1, 2))
    base = np.array(list(LEVEL_US.values()))[scope]
    pair_noise = np.random.default_rng(7).lognormal(0, 0.12, len(src))
    now = np.random.default_rng(1000 + seed).lognormal(0, 0.05, len(src))
    p50 = base * pair_noise * now + 4
    spread = np.random.default_rng(2000 + seed).gamma(2.0, 0.12, len(src))

    position = {h.name: i for i, h in enumerate(hosts)}
    lost = (np.random.default_rng(3000 + seed).random(len(src)) < 0.01).astype(np.int64)
    index = {}
    if faults.failed_pairs or faults.lossy_pairs or faults.slow_pairs:
        index = {(int(s), int(d)): i for i, (s, d) in enumerate(zip(src, dst, strict=True))}
    for (a, b), share in faults.lossy_pairs.items():
        lost[index[position[a], position[b]]] = round(share * sent)
    for (a, b), times in faults.slow_pairs.items():
        p50[index[position[a], position[b]]] *= times
    for a, b in faults.failed_pairs:
        lost[index[position[a], position[b]]] = sent
    lost[np.isin(dst, [position[h] for h in faults.dead])] = sent
    sends = np.full(len(src), sent)
    quiet = np.isin(src, [position[h] for h in (*faults.dead, *faults.silent)])
    sends[quiet] = lost[quiet] = 0
    answered = sends - lost
    clean = answered > 0
    p90, p95, p99 = p50 * (1 + 0.5 * spread), p50 * (1 + 0.8 * spread), p50 * (1 + 1.6 * spread)

    def rtt(values: np.ndarray) -> pl.Series:
        return pl.Series(np.where(clean, np.rint(values), np.nan)).fill_nan(None)

    zeros = np.zeros(len(src), dtype=np.uint32)
    frame = pl.DataFrame(
        {
            "window": pl.Series([window.start], dtype=PAIR_LATENCY["window"]).new_from_index(0, len(src)),
            "src": pl.Series(names.tolist(), dtype=pl.String).gather(src),
            "dst": pl.Series(names.tolist(), dtype=pl.String).gather(dst),
            "protocol": pl.Series(["tcp"]).new_from_index(0, len(src)),
            "scope": pl.Series(list(LEVEL_US)).gather(scope),
            "sent": sends,
            "answered": answered,
            "lost": lost,
            **dict.fromkeys(("retransmitted", "refused", "unreachable", "reset", "bad_reply", "local_error"), zeros),
            "rtt_min_us": rtt(p50 * 0.9),
            "rtt_p50_us": rtt(p50),
            "rtt_p90_us": rtt(p90),
            "rtt_p95_us": rtt(p95),
            "rtt_p99_us": rtt(p99),
            "rtt_max_us": rtt(p99 * 1.2),
            "rtt_mean_us": rtt(p50 * (1 + 0.2 * spread)),
            "jitter_us": rtt(p95 - p50),
        }
    )
    if ladder:
        buckets = np.stack([_bucket(p50), _bucket(p90), _bucket(p99)], axis=1)
        counts = np.stack([answered - answered // 10 - answered // 30, answered // 10, answered // 30], axis=1)
        frame = frame.with_columns(_ladders(buckets, counts))
    else:
        empty = pl.Series([[]], dtype=pl.List(pl.UInt8)).new_from_index(0, len(src))
        frame = frame.with_columns(ladder_bucket=empty, ladder_count=empty.cast(pl.List(pl.UInt32)))
    return frame.cast(dict(PAIR_LATENCY)).select(list(PAIR_LATENCY))  # type: ignore[arg-type]


def _ladders(buckets: np.ndarray, counts: np.ndarray) -> list[pl.Series]:
    """Return sparse ladders: one entry a bucket, ascending, none empty."""
    rows_b, rows_c = [], []
    for row_b, row_c in zip(buckets.tolist(), counts.tolist(), strict=True):
        merged: dict[int, int] = {}
        for b, c in zip(row_b, row_c, strict=True):
            if c:
                merged[b] = merged.get(b, 0) + c
        rows_b.append(list(merged))
        rows_c.append(list(merged.values()))
    return [
        pl.Series("ladder_bucket", rows_b, dtype=pl.List(pl.UInt8)),
        pl.Series("ladder_count", rows_c, dtype=pl.List(pl.UInt32)),
    ]


def _bucket(us: np.ndarray) -> np.ndarray:
    return np.clip(np.floor(40 * np.log10(us / 10)) + 1, 0, 241).astype(np.int64)


def _codes(inventory: Inventory) -> tuple[np.ndarray, np.ndarray]:
    tors = {k: i for i, k in enumerate(dict.fromkeys(h.tor_key for h in inventory.hosts))}
    dcs = {k: i for i, k in enumerate(dict.fromkeys(h.dc for h in inventory.hosts))}
    return np.array([tors[h.tor_key] for h in inventory.hosts]), np.array([dcs[h.dc] for h in inventory.hosts])


def _address(i: int) -> str:
    return f"10.{i >> 16 & 255}.{i >> 8 & 255}.{i & 255}"
