"""What one window costs the controller: dispatch to a fleet where nothing is to do, against OpenSSH's own client.

200 demo hosts, each a real SSH server on an address of its own, all in one other process. Both sides log in by key, run
the same script on every host and read its answer; OpenSSH is the `ssh` command, one process a host, as many at once as
the fan-out has hosts at once. The machine also runs the servers and the remote commands: wall time is what both share,
CPU is the client's alone.

    python benchmarks/fleet_fanout.py [--hosts 200] [--concurrency 50]
"""

from __future__ import annotations

import argparse
import os
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from pingmesh_tasks.demo.fleet import DEFAULT_USER, PASSWORD_VARIABLE, demo_hosts
from pingmesh_tasks.fleet.agents import INTERPRETERS, LOOK_PROGRAM, LOOK_SCRIPT
from pingmesh_tasks.fleet.connect import FanoutLimits, HostOutcome, Session, SshAccess, for_each_host
from pingmesh_tasks.fleet.keys import ensure_keys
from pingmesh_tasks.topology.inventory import Host

ROOT = Path(__file__).parents[1]
PORT, PASSWORD = 2299, "benchmark"
HOME = "~/.pingmesh"
LOOK = (HOME, "renew", LOOK_PROGRAM, *INTERPRETERS)


def cpu_s(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def measured(act: Callable[[], int], who: int) -> tuple[int, float, float]:
    """(hosts that answered, wall s, CPU s)"""
    began, cpu = time.monotonic(), cpu_s(who)
    answered = act()
    return answered, time.monotonic() - began, cpu_s(who) - cpu


def fan_out(hosts: list[Host], access: SshAccess, limits: FanoutLimits) -> int:
    async def look(session: Session) -> HostOutcome:
        answer = await session.run(LOOK_SCRIPT, *LOOK)
        return HostOutcome(session.host.name, "benchmark", "ok" if answer.exit_status == 0 else "failed")

    return sum(o.outcome == "ok" for o in for_each_host(hosts, look, access, limits, stage="benchmark"))


def openssh(hosts: list[Host], access: SshAccess, limits: FanoutLimits) -> int:
    command = "exec /bin/sh -c " + shlex.join([LOOK_SCRIPT, "sh", *LOOK])
    options = ["-F", "none", "-i", str(access.private_key), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]
    options += ["-o", f"UserKnownHostsFile={access.known_hosts}", "-p", str(access.port)]

    def one(host: Host) -> bool:
        line = ["ssh", *options, f"{access.username}@{host.address}", command]
        return subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0

    with ThreadPoolExecutor(limits.concurrency) as pool:
        return sum(pool.map(one, hosts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, default=200)
    parser.add_argument("--concurrency", type=int, default=50)
    options = parser.parse_args()
    hosts = [Host(h.name, h.address) for h in demo_hosts(options.hosts)]
    limits = FanoutLimits(concurrency=options.concurrency, host_timeout_s=120)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        access = SshAccess(DEFAULT_USER, root / "known_hosts", port=PORT, private_key=root / "key")
        command = [sys.executable, "-m", "pingmesh_tasks.demo.fleet", "--root", str(root / "hosts")]
        servers = subprocess.Popen(
            [*command, "--hosts", str(options.hosts), "--port", str(PORT)],
            env=os.environ | {PASSWORD_VARIABLE: PASSWORD},
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        try:
            assert servers.stdout and servers.stdout.readline().startswith(b"ready")
            bootstrap = SshAccess(DEFAULT_USER, access.known_hosts, port=PORT, password=PASSWORD)
            began = time.monotonic()
            first = ensure_keys(hosts, access, bootstrap, limits)
            assert {o.outcome for o in first} == {"ok"}, first
            print(f"first contact with {len(hosts)} hosts, pin and install: {time.monotonic() - began:.1f} s")
            rows = [
                ("fleet fan-out, one process", *measured(lambda: fan_out(hosts, access, limits), resource.RUSAGE_SELF)),
                (
                    "ssh command, one a host",
                    *measured(lambda: openssh(hosts, access, limits), resource.RUSAGE_CHILDREN),
                ),
            ]
        finally:
            servers.send_signal(signal.SIGTERM)
            servers.wait()
    print(f"\n{'':28}{'answered':>9}{'wall s':>8}{'CPU s':>8}{'CPU ms/host':>13}{'hosts/s':>9}")
    for name, answered, wall, cpu in rows:
        each = cpu / len(hosts) * 1000
        print(f"{name:28}{answered:9}{wall:8.2f}{cpu:8.2f}{each:13.1f}{len(hosts) / wall:9.0f}")
    ours, theirs = rows
    print(f"\nfan-out / ssh: wall {ours[2] / theirs[2]:.2f}, CPU {ours[3] / theirs[3]:.2f}")


if __name__ == "__main__":
    main()
