"""Seeded input of the golden test: a mesh of 24 hosts over one hour, the logs of a data server.

Round trips are drawn as integers, so that they are equal on every CPU. Timeline, by window of
five minutes:

    0…5   nothing is wrong; a baseline forms
    6…9   HOST_DOWN is dead, LOSSY loses 40 % of its probes, SLOW_HOST is 1.5 ms slower and
          SLOW_PAIR 9 ms
    8…9   in addition all of TOR_DOWN is dead and the podset SLOW_PODSET is 20 ms slower
    10…11 nothing is wrong
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pingmesh_tasks.demo.access_log import DataServer
from pingmesh_tasks.demo.made_up_sessions import Hammer, Profile
from pingmesh_tasks.topology.inventory import Inventory
from pingmesh_tasks.topology.pinglist import PingList
from pingmesh_tasks.windows import Window
from tests.support.raw_objects import raw_object
from tests.support.segments import Row, chunk

SEED = 20261121
WINDOW_S, ROUNDS, CHUNKS = 300, 30, 5
HOUR = Window.parse("20261121T220000Z", 3_600)
WINDOWS = [Window(HOUR.start, WINDOW_S).shifted(step) for step in range(12)]
SERVER, ACCESS_WINDOWS = "east", 3
HOST_DOWN, LOSSY, SLOW_HOST = "d1p2t1h2", ("d1p1t1h1", "d1p1t2h1"), "d2p1t1h3"
SLOW_PAIR = ("d2p1t2h1", "d2p1t2h2")
TOR_DOWN, SLOW_PODSET = "d1p2t1", "d2p2"
_FAULTY, _WORSE = range(6, 10), range(8, 10)
_LEVEL_US = {"intra_tor": 60, "intra_dc": 150, "inter_dc": 2_000}


def write_inventory(path: Path) -> Path:
    """Write an inventory of 2 DCs of 2 podsets of 2 ToRs of 3 hosts, and one data server."""
    hosts = [
        f"  - {{name: d{d}p{p}t{t}h{h}, address: 10.{d}.{10 * p + t}.{h}, "
        f"dc: dc{d}, podset: podset{p}, tor: tor{t}}}"
        for d, p, t, h in (1 + np.array([*np.ndindex(2, 2, 2, 3)])).tolist()
    ]
    server = (
        f"  - {{name: {SERVER}, address: 10.1.11.1, path: /logs/access.log, "
        "errors_path: /logs/errors.log, timezone: Asia/Shanghai}"
    )
    path.write_text("\n".join(["hosts:", *hosts, "log_servers:", server, ""]))
    return path


def segments_of(
    number: int, inventory: Inventory, lists: dict[str, PingList]
) -> list[tuple[str, bytes]]:
    """Return the segment of every host that is alive in window `number`."""
    hosts = {host.name: host for host in inventory.hosts}
    made = []
    for position, (name, plan) in enumerate(lists.items()):
        if not _is_dead(number, name):
            data = _segment(number, position, name, hosts[name].address, plan)
            made.append((name, data))
    return made


def _segment(number: int, position: int, name: str, address: str, plan: PingList) -> bytes:
    window = WINDOWS[number]
    table = [
        [t.name, t.address, t.port, t.protocol, t.scope, t.payload_bytes] for t in plan.targets
    ]
    pair = np.random.default_rng([SEED, position])
    noise = np.random.default_rng([SEED, position, number])
    level = np.array([_LEVEL_US[target.scope] for target in plan.targets])
    base = level + pair.integers(0, level // 3)
    base = base + np.array([_slower_us(number, name, target.name) for target in plan.targets])
    loss_pct = np.array([_loss_pct(number, name, target.name) for target in plan.targets])
    parts = []
    for part in range(CHUNKS):
        rows: list[Row] = []
        for step in range(ROUNDS // CHUNKS):
            rtt = base + noise.integers(0, base // 4 + 1)
            rtt = np.where(noise.integers(0, 200, len(base)) == 0, rtt * 3, rtt)
            lost = noise.integers(0, 100, len(base)) < loss_pct
            again = noise.integers(0, 500, len(base)) == 0
            for target in range(len(base)):
                offset = step * 10_000_000 + target * 100_000
                us = 0 if lost[target] else int(rtt[target])
                port = 20_000 + (part * 31 + step * 7 + target) % 16_000
                rows.append((offset, target, us, port, int(lost[target]), int(again[target])))
        start_us = int(window.start.timestamp()) * 1_000_000 + part * 60_000_000
        fields = {"host": name, "ip": address, "window": window.id, "start_us": start_us}
        fields |= {"span_us": 60_000_000, "pinglist": plan.version}
        parts.append(chunk(rows, table if part == 0 else None, part, **fields))
    return b"".join(parts)


def _is_dead(number: int, name: str) -> bool:
    if number in _WORSE and name.startswith(TOR_DOWN):
        return True
    return number in _FAULTY and name == HOST_DOWN


def _slower_us(number: int, src: str, dst: str) -> int:
    us = 1_500 if number in _FAULTY and SLOW_HOST in (src, dst) else 0
    us += 9_000 if number in _FAULTY and (src, dst) == SLOW_PAIR else 0
    inside = src.startswith(SLOW_PODSET) and dst.startswith(SLOW_PODSET)
    return us + (20_000 if number in _WORSE and inside else 0)


def _loss_pct(number: int, src: str, dst: str) -> int:
    if _is_dead(number, dst):
        return 100
    return 40 if number in _FAULTY and (src, dst) == LOSSY else 0


def logs_of_server() -> list[dict[str, bytes]]:
    """Return what each of the first windows brings of the access log and the errors log.

    From 600 s on a user reads one node twenty times a second.
    """
    start_s = HOUR.start.timestamp()
    profile = Profile(
        users=60,
        lines_per_s=12.0,
        mode="inetd",
        start_s=start_s,
        reconnect_s=5.0,
        swing=0.0,
        garbage=0.01,
        refused=0.05,
        forged=0.002,
        hammer=Hammer("bob", 600.0, 20.0),
    )
    server = DataServer(profile, SEED)
    blocks = [server.advance(start_s + WINDOW_S * (i + 1)) for i in range(ACCESS_WINDOWS)]
    return [{"access": block.access, "errors": block.errors} for block in blocks]


def raw_log_object(kind: str, window: Window, lines: bytes) -> bytes:
    """Return the raw object of a log's lines, collected at the end of the window."""
    piece = {"path": f"/logs/{kind}.log", "device": 1, "inode": 2, "start": 0, "end": len(lines)}
    header = {"server": SERVER, "kind": kind, "window": window.id, "backlog_bytes": 0}
    header |= {
        "collected_at_us": int(window.end.timestamp() * 1_000_000),
        "pieces": [piece],
        "head": "",
    }
    return raw_object(header, [lines])
