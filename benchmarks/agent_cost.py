"""What the agent costs its host: CPU and memory at 2,500 peers every 10 s, prober and responder, tcp.

Two agents in two network namespaces probe each other over a veth, so that each sends 250 probes a second and answers
250. On a veth a process is also billed for the kernel's work at both ends, which on a network card is billed to
nobody: the figures are on the pessimistic side. fping sends to the same 2,500 addresses at the same rate in the same
run (and needs no responder: the kernel answers it).

    python benchmarks/agent_cost.py [--quick]
"""

from __future__ import annotations

import contextlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from veth_pair import PORT, Pair, missing, peers, running_agent, veth_pair

PEERS, INTERVAL_S = 2500, 10.0
CPU_BAR_PERCENT, RSS_BAR_MB, FPING_BAR = 2.5, 16.0, 1.2


def cpu_seconds(pid: int) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def peak_mb(pid: int) -> float:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


def agents(pair: Pair, seconds: float) -> list[tuple[float, float]]:
    """(CPU seconds per second, peak resident MB) of each of two agents that run for `seconds` after a warm-up."""
    with tempfile.TemporaryDirectory() as home, contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(running_agent(pair, side, Path(home, side), [
                [f"peer{i}", address, PORT, "tcp", "intra_dc", 0] for i, address in enumerate(peers(side, PEERS))
            ]))
            for side in "ab"
        ]  # fmt: skip
        time.sleep(4)
        before, start = [cpu_seconds(process.pid) for process in started], time.monotonic()
        time.sleep(seconds)
        elapsed = time.monotonic() - start
        return [((cpu_seconds(p.pid) - b) / elapsed, peak_mb(p.pid)) for p, b in zip(started, before, strict=True)]


def fping_us_per_probe(pair: Pair) -> float:
    """CPU of one round of fping over the same addresses at the same rate."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = pair.command("a", "fping", "-q", "-c", "1", "-i", str(INTERVAL_S * 1000 / PEERS))
    subprocess.run(
        command, input="\n".join(peers("a", PEERS)), text=True, check=False, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / PEERS * 1e6


def main(quick: bool) -> int:
    if lack := missing("fping"):
        print(f"agent_cost: {lack}")
        return 0
    rounds, seconds = (1, 6.0) if quick else (3, 20.0)
    answered: list[tuple[float, float]] = []
    fping: list[float] = []
    with veth_pair() as pair:
        for _ in range(rounds):
            fping.append(fping_us_per_probe(pair))
            answered += agents(pair, seconds)
        pair.black_hole(True)
        dark = agents(pair, seconds)

    def row(name: str, measured: list[tuple[float, float]]) -> tuple[float, float, float]:
        cpu, rss = statistics.median(cpu for cpu, _ in measured), max(rss for _, rss in measured)
        per_probe = cpu / (PEERS / INTERVAL_S) * 1e6
        print(f"{name:34} {cpu * 100:7.2f} {rss:8.1f} {per_probe:10.0f}")
        return cpu * 100, rss, per_probe

    print(f"{PEERS} peers every {INTERVAL_S:g} s, Python {sys.version.split()[0]}, {rounds} round(s) of {seconds:g} s")
    print(f"{'':34} {'% core':>7} {'RSS MB':>8} {'us/probe':>10}")
    cpu, rss, per_probe = row("agent: probes and answers", answered)
    dark_cpu, dark_rss, _ = row("agent: every peer black-holed", dark)
    peer = statistics.median(fping)
    print(f"{'fping, same addresses and rate':34} {peer * PEERS / INTERVAL_S / 1e4:7.2f} {'':8} {peer:10.0f}")
    checks = [
        (f"CPU <= {CPU_BAR_PERCENT} % of a core", max(cpu, dark_cpu), CPU_BAR_PERCENT),
        (f"RSS <= {RSS_BAR_MB} MB", max(rss, dark_rss), RSS_BAR_MB),
        (f"CPU per probe <= {FPING_BAR} x fping", per_probe / peer, FPING_BAR),
    ]
    for name, value, bar in checks:
        print(f"{name:34} {value:7.2f} {'met' if value <= bar else 'MISSED'}")
    return 0 if quick or all(value <= bar for _, value, bar in checks) else 1


if __name__ == "__main__":
    sys.exit(main("--quick" in sys.argv[1:]))
