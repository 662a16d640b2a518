"""What asking a host for news costs it: a conversation that stays, against a command each time, and a loop that sends.

A real OpenSSH server on this machine, with a spool in which nothing happens, as is the case nine seconds of ten. CPU
and memory are those of the server's processes for this login and of all that they start, by the kernel's accounts;
"left" is what still runs five seconds after the client's connection was cut without a word.

    conversation   tails.SEGMENT_SCRIPT waits for a question on its stdin (ours)
    command        the same look in a shell of its own each time, over a connection that stays
    loop           a shell that looks, sleeps and looks again, and sends when there is something to send

    python benchmarks/follow_cost.py [--seconds 20] [--rate 5]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import asyncssh

from pingmesh_tasks.fleet.connect import SshAccess
from pingmesh_tasks.fleet.live import LiveSession, Logins
from pingmesh_tasks.fleet.tails import SEGMENT_SCRIPT, SEGMENT_STEP_BYTES, ask
from pingmesh_tasks.topology.inventory import Host

BAR_RATIO = 0.5  # of the CPU that a command a question costs
LOOK = 'file=$1/spool/20261121T220500Z.part; size=$(stat -L -c %s "$file"); [ "$size" = "$2" ] || echo "$size"'
LOOP = f"while sleep $3; do {LOOK}; done"


def descendants(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            children.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
    found, waiting = [], [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def cpu_ms(pids: list[int]) -> float:
    """CPU that the processes, and children they have waited for, have used."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            ticks += sum(map(int, _stat(pid)[11:15]))
    return 1000 * ticks / os.sysconf("SC_CLK_TCK")


def shell_kib(pids: list[int]) -> int:
    """Memory of what sshd started, its own share of what is shared."""
    kib = 0
    for pid in pids:
        with contextlib.suppress(OSError, StopIteration):
            if "sshd" not in Path(f"/proc/{pid}/cmdline").read_text():
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                kib += int(next(line for line in lines if line.startswith("Pss:")).split()[1])
    return kib


@contextlib.asynccontextmanager
async def server(folder: Path) -> AsyncIterator[tuple[int, Logins, Host]]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    for name in ("host_key", "id"):
        key = asyncssh.generate_private_key("ssh-ed25519")
        (folder / name).touch(mode=0o600)
        (folder / name).write_bytes(key.export_private_key("openssh"))
        (folder / f"{name}.pub").write_bytes(key.export_public_key("openssh"))
    public = (folder / "host_key.pub").read_text()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}")
    config = folder / "config"
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\nAuthorizedKeysFile {folder}/id.pub\n"
        f"StrictModes no\nUsePAM no\nPidFile none\nPermitRootLogin yes\n"
        f"SetEnv HOME={folder}\n"  # no .bashrc of ours: some cost more than all that is measured here
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    daemon = subprocess.Popen([str(shutil.which("sshd")), "-D", "-f", str(config)], stderr=subprocess.DEVNULL)
    try:
        while socket.socket().connect_ex(("127.0.0.1", port)):
            await asyncio.sleep(0.05)
        access = SshAccess(getpass.getuser(), folder / "known_hosts", port, folder / "id")
        yield daemon.pid, Logins(access), Host("here", "127.0.0.1")
    finally:
        daemon.terminate()
        daemon.wait()


Follow = Callable[[LiveSession, str, float], Awaitable[None]]


async def conversation(session: LiveSession, home: str, pause_s: float) -> None:
    async with session.converse(SEGMENT_SCRIPT, home) as talk:
        while True:
            await ask(talk, str(SEGMENT_STEP_BYTES), SEGMENT_STEP_BYTES)
            asked["conversation"] += 1
            await asyncio.sleep(pause_s)


async def command(session: LiveSession, home: str, pause_s: float) -> None:
    while True:
        await session.run(LOOK, home, "5")
        asked["command"] += 1
        await asyncio.sleep(pause_s)


async def loop(session: LiveSession, home: str, pause_s: float) -> None:
    async with session.converse(LOOP, home, "5", str(pause_s)) as talk:
        await talk.line()


async def measured(
    follow: Follow, sshd: int, logins: Logins, host: Host, home: str, seconds: float, rate: float
) -> str:
    async with contextlib.AsyncExitStack() as stack:
        session = await stack.enter_async_context(logins.session(host))
        task = asyncio.create_task(follow(session, home, 1 / rate))
        await asyncio.sleep(2)
        before_asked, ours, before = asked[follow.__name__], time.process_time(), cpu_ms(descendants(sshd))
        await asyncio.sleep(seconds)
        pids = descendants(sshd)
        used, memory = cpu_ms(pids) - before, shell_kib(pids)
        ours = 1000 * (time.process_time() - ours)
        questions = asked[follow.__name__] - before_asked or seconds * rate  # the loop asks by itself
        session._session.connection.abort()  # type: ignore[attr-defined]  # as when we are killed
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(5)
        left = sum(Path(f"/proc/{pid}").exists() for pid in pids)
    results[follow.__name__] = used / questions
    return f"{follow.__name__:<14} {used / questions:>18.2f} {ours / questions:>18.2f} {memory:>12} {left:>6}"


results: dict[str, float] = {}
asked: Counter[str] = Counter()


async def run(seconds: float, rate: float) -> None:
    with tempfile.TemporaryDirectory(prefix="follow-cost-") as name:
        folder = Path(name)
        home = folder / ".pingmesh"
        (home / "spool").mkdir(parents=True)
        (home / "spool" / "20261121T220500Z.part").write_bytes(b"PMS1x")
        async with server(folder) as (sshd, logins, host):
            print(f"{'way':<14} {'host ms/question':>18} {'our ms/question':>18} {'shell KiB':>12} {'left':>6}")
            for follow in (conversation, command, loop):
                print(await measured(follow, sshd, logins, host, str(home), seconds, rate), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rate", type=float, default=5, help="questions a second")
    options = parser.parse_args()
    if not shutil.which("sshd"):
        print("not measured: no sshd here (package openssh-server)")
        return 0
    asyncio.run(run(options.seconds, options.rate))
    ratio = results["conversation"] / results["command"]
    print(f"conversation / command: {ratio:.2f} (bar {BAR_RATIO})")
    return 0 if ratio <= BAR_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
