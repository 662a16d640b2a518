"""Hot batches of eight hosts, and of a data server, as tailing puts them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

import numpy as np

from pingmesh_tasks.alerting.state_file import AlertFile
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.hot_batch import HotPiece, encode_batch
from pingmesh_tasks.store.objects import ObjectStore
from pingmesh_tasks.topology.inventory import parse_inventory
from pingmesh_tasks.windows import window_containing
from tests.support.segments import segment

HOSTS = [f"host{number:02d}" for number in range(1, 9)]
INVENTORY = "hosts:\n" + "".join(
    f"  - {{name: {name}, address: 127.0.1.{number}, dc: dc1, podset: ps{number % 2}, tor: tor1}}\n"
    for number, name in enumerate(HOSTS, 1)
)
LOG_SERVERS = "log_servers: [{name: data1, address: 127.0.1.99, path: /nowhere/access.log, timezone: UTC}]\n"


def put_probes(store: ObjectStore, now: datetime, dead: Callable[[float], bool]) -> None:
    """Write the batch that a follower has of the last minute, in which host04 was dead at some seconds."""
    start = now - timedelta(seconds=60)
    start_us = round(start.timestamp() * 1e6)
    window = window_containing(start, 60)
    hosts = {host.name: host for host in parse_inventory(INVENTORY, "x.yaml").hosts}
    pieces = []
    for src in HOSTS:
        table = [[name, hosts[name].address, 8765, "tcp", "intra_dc", 0] for name in HOSTS if name != src]
        rows = []
        for target, (name, *_) in enumerate(table):
            for second in np.arange(target * 0.1, 58, 2.0):
                if src == "host04" and dead(second):
                    continue
                lost = name == "host04" and dead(second)
                rows.append((round(second * 1e6), target, 0 if lost else 200, 40000 + target, int(lost), 0))
        rows.sort()
        data = segment([rows], table, host=src, ip=hosts[src].address, window=window.id, window_s=60, start_us=start_us)
        pieces.append(HotPiece("probe", src, window.id, 0, data, round(now.timestamp() * 1e6), 0))
    put_pieces(store, now, pieces)


def put_missed_minutes(store: ObjectStore, now: datetime) -> None:
    """Write the batches of three minutes; the last evaluation was at their beginning.

    host04 was dead from 2:40 to 1:50 ago.
    """
    begin = now - timedelta(seconds=180)
    AlertFile(store).update(lambda before: replace(before, last_evaluated={"hot mesh": begin}))
    for ago_s, dead in ((120, (20, 60)), (60, (0, 10)), (0, (60, 60))):
        put_probes(store, now - timedelta(seconds=ago_s), partial(_is_between, *dead))


def _is_between(first: float, last: float, second: float) -> bool:
    return first < second < last


def hammered(now: datetime) -> bytes:
    """Lines of a server that starts a process a client: bob's reads one node 40 times a second for half a minute."""
    begin = now - timedelta(seconds=30)
    date = begin.strftime("%a %b %e %H:%M:%S %Y")
    lines = [f"{date} (0) (pid 4711) Connection received from bob@ws1.example.org [198.51.100.7]"]
    for tick in range(1200):
        date = (begin + timedelta(seconds=tick / 40)).strftime("%a %b %e %H:%M:%S %Y")
        lines.append(f"{date} (pid 4711) GetData called for tree=east, shot=12345, node=\\EAST::TOP.DATA:IP")
    return ("\n".join(lines) + "\n").encode()


def put_log(store: ObjectStore, now: datetime, lines: bytes) -> None:
    put_pieces(store, now, [HotPiece("access", "data1", "1:2", 0, lines, round(now.timestamp() * 1e6))])


def put_pieces(store: ObjectStore, now: datetime, pieces: list[HotPiece]) -> None:
    written_ms = round(now.timestamp() * 1000) - 100
    store.put(layout.hot_batch(written_ms, "0a0b0c0d", 1, notable=True), encode_batch(pieces))
