"""Rows of `pair_latency` written by hand: a well mesh as matrices, of which a test changes what it is about.

mesh = PairRows(inventory)
mesh.lost[:, 3] = 30
mesh.frame()
"""

from __future__ import annotations

import numpy as np
import polars as pl

from pingmesh_tasks.detect.mesh.rows import COUNTS, READ
from pingmesh_tasks.topology.inventory import Host, Inventory


def fabric(dcs: int = 1, podsets: int = 2, tors: int = 2, hosts: int = 4) -> Inventory:
    """Return an inventory; host `p1t2h3` (or `d1p1t2h3` where there are several DCs) says where it stands."""
    places = np.ndindex(dcs, podsets, tors, hosts)
    return Inventory(
        tuple(
            Host(
                (f"d{d + 1}" if dcs > 1 else "") + f"p{p + 1}t{t + 1}h{h + 1}",
                f"10.{d * podsets + p}.{t}.{h + 1}",
                f"dc{d + 1}",
                f"podset{p + 1}",
                f"tor{t + 1}",
            )
            for d, p, t, h in places
        ),
        has_topology=True,
    )


def flat(hosts: int) -> Inventory:
    """Return an inventory without topology: `h1` …"""
    return Inventory(tuple(Host(f"h{i + 1}", f"10.0.0.{i + 1}") for i in range(hosts)))


class PairRows:
    """Every pair of an inventory, `sent` probes each. Matrices (source, destination) of counts and of µs.

    A probe in `lost`, `refused`, `unreachable` or `local_error` is not answered; a source that is muted sent none.
    """

    def __init__(self, inventory: Inventory, sent: int = 30, p50_us: float = 100, p99_us: float = 300) -> None:
        self.inventory = inventory
        self.index = {host.name: i for i, host in enumerate(inventory.hosts)}
        size = len(self.index)
        self.planned = ~np.eye(size, dtype=bool)
        self.sent = np.full((size, size), sent)
        for name in ("lost", "retransmitted", "refused", "unreachable", "local_error"):
            setattr(self, name, np.zeros((size, size), int))
        self.p50_us, self.p99_us = np.full((size, size), p50_us), np.full((size, size), p99_us)

    def named(self, prefix: str) -> np.ndarray:
        """Return the positions of the hosts whose names begin with `prefix`."""
        return np.array([i for name, i in self.index.items() if name.startswith(prefix)])

    def between(self, a: str, b: str) -> np.ndarray:
        """Return which cells lie between hosts `a`… and hosts `b`…, in both directions."""
        inside = [np.isin(np.arange(len(self.index)), self.named(prefix)) for prefix in (a, b)]
        return (np.outer(*inside) | np.outer(*inside[::-1])) & self.planned

    def kill(self, prefix: str, *, silent: bool = True, outside_only: bool = False) -> PairRows:
        """Let nobody reach the hosts `prefix`…, nor they anybody; their own data are missing too if `silent`."""
        inside = np.isin(np.arange(len(self.index)), self.named(prefix))
        touched = inside[:, None] ^ inside if outside_only else inside[:, None] | inside
        self.lost = np.where(touched, self.sent, self.lost)
        return self.mute(prefix) if silent else self

    def mute(self, prefix: str) -> PairRows:
        rows = self.named(prefix)
        for name in COUNTS:
            if name != "answered":
                getattr(self, name)[rows] = 0
        return self

    def frame(self) -> pl.DataFrame:
        src, dst = np.nonzero(self.planned)
        names = np.array(list(self.index))
        counts = {name: getattr(self, name)[src, dst] for name in COUNTS if name != "answered"}
        counts["answered"] = counts["sent"] - sum(counts[n] for n in ("lost", "refused", "unreachable", "local_error"))
        assert (counts["answered"] >= counts["retransmitted"]).all()
        clean = counts["answered"] > counts["retransmitted"]
        times = {name: np.where(clean, us[src, dst], np.nan) for name, us in self._times().items()}
        frame = pl.DataFrame({"src": names[src], "dst": names[dst], "protocol": ["tcp"] * len(src), **counts, **times})
        return frame.with_columns(pl.col(*counts).cast(pl.UInt32), *(_whole(name) for name in times)).select(READ)

    def _times(self) -> dict[str, np.ndarray]:
        return {"rtt_p50_us": self.p50_us, "rtt_p99_us": self.p99_us}


def _whole(name: str) -> pl.Expr:
    return pl.col(name).fill_nan(None).cast(pl.UInt32)
