"""How close the agent's round-trip time is to that of `ping`, on an idle veth; a userland clock's error beside it.

The same two namespaces, 20 probes a second each: the agent's tcp, udp and tcp_echo in turn, with `ping` at the same
time, then a plain connect() timed by the interpreter's clock, as most tools do it. Rounds alternate; medians of all.
`ping` takes its send time in userland: with cold caches, at 20 a second, its own way to the kernel is most of what it
reports. So it is also run 500 times a second, where that way is warm, and the bar is against that.

    python benchmarks/rtt_accuracy.py [--quick]
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from veth_pair import AGENT, PORT, Pair, missing, peers, running_agent, veth_pair

sys.path.append(str(AGENT.parents[1]))
from pingmesh_agent.chunk import decode_body, read_chunks

BAR_US = 15.0
SPACING_S = 0.05  # no bursts: each probe of each tool finds the caches as cold as the next
PROTOCOLS = ("tcp", "udp", "tcp_echo")
USERLAND = """
import select, socket, sys, time
poll = select.epoll()
for number in range(int(sys.argv[2])):
    probe = socket.socket()
    probe.setblocking(False)
    start = time.perf_counter()
    probe.connect_ex((sys.argv[1], int(sys.argv[3])))
    poll.register(probe, select.EPOLLOUT)
    poll.poll(1)
    print((time.perf_counter() - start) * 1e6)
    probe.close()
    time.sleep(0.05)
"""


def by_ping(pair: Pair, count: int, spacing_s: float = SPACING_S) -> list[float]:
    command = pair.command("a", "ping", "-n", "-i", str(spacing_s), "-c", str(count), peers("a", 1)[0])
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [float(ms) * 1000 for ms in re.findall(r"time=([\d.]+) ms", said)]


def by_userland(pair: Pair, count: int) -> list[float]:
    command = pair.command("a", sys.executable, "-I", "-S", "-c", USERLAND, peers("a", 1)[0], str(count), str(PORT))
    return [float(us) for us in subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()]


def by_agent(pair: Pair, home: Path, protocol: str, count: int) -> tuple[list[float], list[float]]:
    """Clean round trips of the agent, and what `ping` measured meanwhile."""
    addresses = peers("a", round(1 / SPACING_S))
    with running_agent(pair, "a", home, [["b", address, PORT, protocol, "lab", 64] for address in addresses], 1.0):
        pinged = by_ping(pair, count)
    found: list[float] = []
    for path in (home / "spool").iterdir():
        with path.open("rb") as file:
            for header, body in read_chunks(file):
                _, (_, _, rtts, _, statuses, again) = decode_body(header, body)
                found += [rtt for rtt, status, n in zip(rtts, statuses, again, strict=True) if status == n == 0]
    return found, pinged


def main(quick: bool) -> int:
    if lack := missing("ping"):
        print(f"rtt_accuracy: {lack}")
        return 0
    rounds, seconds = (1, 3.0) if quick else (5, 8.0)
    count = round(seconds / SPACING_S)
    found: dict[str, list[float]] = {name: [] for name in ("warm", "ping", *PROTOCOLS, "userland")}
    with veth_pair() as pair, tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        with running_agent(pair, "b", home / "peer", []):
            for number in range(rounds):
                found["warm"] += by_ping(pair, 5 * count, 0.002)
                for protocol in PROTOCOLS:
                    by_us, by_peer = by_agent(pair, home / f"{protocol}{number}", protocol, count)
                    found[protocol] += by_us
                    found["ping"] += by_peer
                found["userland"] += by_userland(pair, count)
    peer = statistics.median(found["warm"])
    print(f"RTT over an idle veth, {rounds} round(s) of {count} probes each, Python {sys.version.split()[0]}")
    print(f"{'':40} {'n':>5} {'p50 us':>8} {'p99 us':>8} {'p50 - warm':>11} {'p50 / warm':>11}")
    names = {
        "warm": "ping, 500 a second",
        "ping": "ping",
        "userland": "connect() timed in userland",
        **{p: f"agent, {p}" for p in PROTOCOLS},
    }
    for key, values in found.items():
        p50, p99 = statistics.median(values), statistics.quantiles(values, n=100)[98]
        print(f"{names[key]:40} {len(values):5} {p50:8.1f} {p99:8.1f} {p50 - peer:+11.1f} {p50 / peer:11.2f}")
    error = abs(statistics.median(found["tcp"]) - peer)
    print(f"{f'|tcp - warm ping| <= {BAR_US:g} us':40} {error:5.1f} {'met' if error <= BAR_US else 'MISSED'}")
    return 0 if quick or error <= BAR_US else 1


if __name__ == "__main__":
    sys.exit(main("--quick" in sys.argv[1:]))
