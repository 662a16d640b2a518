"""A store full of windows for the page: a mesh of any size, made up and fast (2 500 hosts: 2 s a window).

    python -m tests.support.page_data --hosts 2500 --windows 12 --endpoint http://127.0.0.1:8333 --bucket pingmesh

Latency is log-normal about 30 µs in the ToR, 80 µs in the DC and 2 ms between DCs. One host is dead, one silent, one
ToR lossy, one podset slow, and one pair in a hundred is not planned. `pair_latency` of a large mesh is written for the
newest window only. With `--hostile`, names are what strangers write into logs.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from pingmesh_tasks.fleet.inventory import Host, Inventory
from pingmesh_tasks.fleet.pinglist import plan_document, plan_version
from pingmesh_tasks.maps import codes
from pingmesh_tasks.maps.axis import MapAxis
from pingmesh_tasks.maps.build import MeshMap, map_parts
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.objects import ObjectStore, S3Access
from pingmesh_tasks.windows import Window, window_containing

DCS, PODSETS, TORS = 5, 5, 5


def inventory_of(count: int) -> Inventory:
    """Return `count` hosts in at most 5 DCs of 5 podsets of 5 ToRs, as even as can be."""
    places = [(d, p, t) for d in range(DCS) for p in range(PODSETS) for t in range(TORS)]
    places = places[: max(1, min(len(places), count // 4))]
    hosts = []
    for i in range(count):
        dc, podset, tor = places[i * len(places) // count]
        name = f"d{dc + 1}p{podset + 1}t{tor + 1}-{i:04}"
        address = f"10.{i >> 16 & 255}.{i >> 8 & 255}.{i & 255}"
        hosts.append(Host(name, address, f"dc{dc + 1}", f"podset{podset + 1}", f"tor{tor + 1}"))
    return Inventory(tuple(hosts), has_topology=len(places) > 1)


@dataclass
class MadeMesh:
    """The latency of one made-up mesh; each window differs by noise."""

    inventory: Inventory

    def __post_init__(self) -> None:
        axis = MapAxis.of(self.inventory)
        n = len(axis.hosts)
        tor, podset, dc = (axis.member(kind) for kind in ("tor", "podset", "dc"))

        def same(of: np.ndarray) -> np.ndarray:
            return of[:, None] == of[None, :]

        rng = np.random.default_rng(7)
        base = np.where(same(tor), 30.0, np.where(same(dc), 80.0, 2_000.0))
        slow = podset == podset[n * 3 // 4]
        base *= np.where(slow[:, None] | slow[None, :], 2.0, 1.0)
        self.axis, self.base = axis, (base * rng.lognormal(0, 0.12, (n, n))).astype(np.float32)
        self.planned = rng.random((n, n)) >= (0.01 if n > 100 else 0)
        np.fill_diagonal(self.planned, False)
        self.dead, self.silent = n // 3, n // 2
        self.lossy = np.flatnonzero(tor == tor[n * 5 // 8])

    def codes(self, seed: int) -> MeshMap:
        """Return a window's map, made without its pairs."""
        rng = np.random.default_rng(1_000 + seed)
        n = len(self.axis.hosts)
        p50 = self.base * np.exp(0.05 * rng.standard_normal((n, n), np.float32))
        spread = rng.standard_exponential((n, n), np.float32) * 0.24
        sent = np.where(self.planned, 30, 0)
        lost = np.where(rng.random((n, n), np.float32) < 0.0008, 1, 0)
        lost[self.lossy] = rng.binomial(30, 0.08, (len(self.lossy), n))
        lost[:, self.dead] = 30
        us = {"p50": p50, "p90": p50 * (1 + spread / 2), "p99": p50 * (1 + spread * 1.6)}
        us |= {"max": us["p99"] * 1.2, "jitter": p50 * spread * 0.8}
        found = {name: codes.encode_us(np.rint(values).astype(np.uint32)) for name, values in us.items()}
        found["loss"] = found["unanswered"] = codes.encode_share(lost / 30)
        found["sent"] = codes.encode_count(sent)
        for name, values in found.items():
            if codes.METRICS[name].kind == "log":
                values[lost == 30] = codes.FAILED
            values[[self.dead, self.silent]] = codes.MISSING
            values[~self.planned] = codes.NOT_PLANNED
        return MeshMap(self.axis, {name: found[name].astype(np.uint16) for name in codes.METRICS}, 0)


def fill(
    store: ObjectStore, count: int, windows: int, *, window_s: int = 300, end: datetime | None = None
) -> list[Window]:
    """Write the maps of `windows` windows of a mesh of `count` hosts, the last one ending before `end` (now)."""
    inventory = inventory_of(count)
    version = plan_version(inventory)
    store.put(layout.plan(version), plan_document(inventory))
    mesh = MadeMesh(inventory)
    last = window_containing((end or datetime.now(UTC)) - timedelta(seconds=window_s), window_s)
    made = [last.shifted(step) for step in range(1 - windows, 1)]
    for seed, window in enumerate(made):
        for metric, data in map_parts(mesh.codes(seed), plan=version, window=window.id):
            store.put(layout.table("mesh_map", window, metric), data)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=2500)
    parser.add_argument("--windows", type=int, default=12)
    parser.add_argument("--window-s", type=int, default=300)
    parser.add_argument("--endpoint", default="http://127.0.0.1:8333")
    parser.add_argument("--bucket", default="pingmesh")
    given = parser.parse_args()
    key, secret = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
    store = ObjectStore(S3Access(given.bucket, key, secret, given.endpoint))
    store.ensure_bucket()
    made = fill(store, given.hosts, given.windows, window_s=given.window_s)
    print(f"{len(made)} windows of {given.hosts} hosts: {made[0].id} … {made[-1].id}")


if __name__ == "__main__":
    main()
