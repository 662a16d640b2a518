"""What a burst of log costs the task that collects it: 100 MB over SSH into S3, beside `ssh host cat log | zstd`.

One demo host, a real SSH server, in another process; a real S3 server in a third. Both sides log in by key and pack
with zstd level 3. The peer's result stays on the local disk: it keeps no cursor, checks nothing and uploads nothing.
CPU is that of the collecting process alone (its threads within), of the two commands for the peer. Memory is the growth
of the peak RSS after a first small collection. Four times the log shows what grows with it: the packed object, which
is in memory while it is put (S3 takes a conditional creation as one request).

    python benchmarks/collect_access_log.py [--megabytes 100]
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from pingmesh_tasks.access.collect import CollectLimits, CollectOutcome, collect_log
from pingmesh_tasks.access.raw import read_raw
from pingmesh_tasks.demo.fleet import DEFAULT_USER, PASSWORD_VARIABLE, demo_hosts
from pingmesh_tasks.demo.object_store import EmbeddedObjectStore
from pingmesh_tasks.fleet.connect import FanoutLimits, HostOutcome, Session, SshAccess, for_each_host
from pingmesh_tasks.fleet.keys import ensure_keys
from pingmesh_tasks.store.objects import ObjectStore
from pingmesh_tasks.topology.inventory import Host
from pingmesh_tasks.windows import Window

ROOT = Path(__file__).parents[1]
PORT, PASSWORD = 2298, "benchmark"
LIMITS = FanoutLimits(host_timeout_s=600)
BAR_CPU_S = 3.0


def write_log(path: Path, size_bytes: int) -> None:
    """Hook lines as a busy server writes them, seeded."""
    draw = random.Random(3)
    types, nodes = ("GetNci", "GetData", "OpenTree", "PutData"), [f"PCRL{n:02d}" for n in range(40)]
    with path.open("wb") as log:
        while log.tell() < size_bytes:
            lines = (
                f"Sat Nov 21 {draw.randrange(24):02d}:{draw.randrange(60):02d}:{draw.randrange(60):02d} 2026 "
                f"(pid {draw.randrange(32768)}) {draw.choice(types)} called for tree=EAST, "
                f"shot={138000 + draw.randrange(3)}, node=\\EAST::TOP.MAGNETICS:{draw.choice(nodes)}\n"
                for _ in range(10_000)
            )
            log.write("".join(lines).encode())


def cpu_s(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def collect(host: Host, access: SshAccess, store: ObjectStore, server: str, path: Path) -> CollectOutcome:
    found: list[CollectOutcome] = []
    window = Window(datetime(2026, 11, 21, 22, 5, tzinfo=UTC), 300)
    limits = CollectLimits(run_bytes=2**31, run_s=600)

    async def work(session: Session) -> HostOutcome:
        found.append(await collect_log(session, server, "access", str(path), window, store, limits))
        return HostOutcome(host.name, "benchmark", "ok")

    [outcome] = for_each_host([host], work, access, LIMITS, stage="benchmark")
    assert outcome.outcome == "ok", outcome
    return found[0]


def ssh_and_zstd(host: Host, access: SshAccess, path: Path, to: Path) -> None:
    ssh = ["ssh", "-F", "none", "-i", str(access.private_key), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]
    ssh += ["-o", f"UserKnownHostsFile={access.known_hosts}", "-p", str(PORT), f"{access.username}@{host.address}"]
    with subprocess.Popen([*ssh, f"cat {path}"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as cat:
        subprocess.run(["zstd", "-q", "-3", "-T1", "-f", "-o", to], stdin=cat.stdout, check=True)
    assert cat.returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=100)
    size = parser.parse_args().megabytes * 10**6
    [demo] = demo_hosts(1)
    host = Host(demo.name, demo.address)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        logs = {factor: root / f"{factor}.log" for factor in (0, 1, 4)}
        for factor, path in logs.items():
            write_log(path, factor * size or 10**6)
        s3 = EmbeddedObjectStore(root / "s3")
        store = s3.start()
        access = SshAccess(DEFAULT_USER, root / "known_hosts", port=PORT, private_key=root / "key")
        command = [sys.executable, "-m", "pingmesh_tasks.demo.fleet", "--root", str(root / "hosts")]
        servers = subprocess.Popen(
            [*command, "--hosts", "1", "--port", str(PORT)],
            env=os.environ | {PASSWORD_VARIABLE: PASSWORD},
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        try:
            assert servers.stdout and servers.stdout.readline().startswith(b"ready")
            bootstrap = SshAccess(DEFAULT_USER, access.known_hosts, port=PORT, password=PASSWORD)
            assert {o.outcome for o in ensure_keys([host], access, bootstrap, LIMITS)} == {"ok"}
            collect(host, access, store, "warm", logs[0])
            rows, keys = [], []
            for factor in (1, 4):
                before, began, cpu = peak_mb(), time.monotonic(), cpu_s(resource.RUSAGE_SELF)
                outcome = collect(host, access, store, f"x{factor}", logs[factor])
                wall, cpu = time.monotonic() - began, cpu_s(resource.RUSAGE_SELF) - cpu
                rows.append((f"collect_log, {outcome.new_bytes / 1e6:.0f} MB", wall, cpu, f"{peak_mb() - before:+.0f}"))
                assert outcome.new_bytes == logs[factor].stat().st_size
                keys.append(outcome.key)
            began, cpu = time.monotonic(), cpu_s(resource.RUSAGE_CHILDREN)
            ssh_and_zstd(host, access, logs[1], root / "peer.zst")
            theirs = (time.monotonic() - began, cpu_s(resource.RUSAGE_CHILDREN) - cpu)
            rows.append((f"ssh cat | zstd -3, {size / 1e6:.0f} MB", *theirs, ""))
            packed = store.get(keys[0])
            packed_bytes = len(packed)
            assert b"".join(read_raw(packed)) == logs[1].read_bytes()
        finally:
            servers.send_signal(signal.SIGTERM)
            servers.wait()
            s3.stop()
    print(f"{'':32}{'wall s':>8}{'CPU s':>8}{'peak RSS MB':>13}")
    for label, wall, cpu, memory in rows:
        print(f"{label:32}{wall:8.2f}{cpu:8.2f}{memory:>13}")
    ours = rows[0]
    print(f"\nobject of the first: {packed_bytes / 1e6:.1f} MB")
    print(f"collect / peer: wall {ours[1] / theirs[0]:.2f}, CPU {ours[2] / theirs[1]:.2f}")
    print(f"bar: {BAR_CPU_S:g} CPU s for 100 MB: {'held' if ours[2] <= BAR_CPU_S * size / 1e8 else 'MISSED'}")


if __name__ == "__main__":
    main()
