"""The agent when the network is slow or gone: what it costs its host, and what its figures are worth."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import quantiles

import polars as pl
import pytest

from tests.support.lab import Lab, laboratory
from tests.support.lab_agent import LabAgent

pytestmark = [pytest.mark.integration, pytest.mark.lab]

TIMEOUT = 1
NOWHERE = 500  # peers that never answer


@pytest.fixture
def lab() -> Iterator[Lab]:
    with laboratory(["prober", "peer"]) as built:
        yield built


def test_a_delay_of_2_ms_reads_as_ping_reads_it(lab: Lab, tmp_path: Path):
    """Both go through one relay at the same time, so that its own error is in both."""
    peer, prober = LabAgent(lab, "peer", tmp_path / "peer"), LabAgent(lab, "prober", tmp_path / "prober")
    peer.start()
    with lab.delay("prober", 2.0):
        lab.ping_ms("prober", "peer", pings=3)  # the relay's own first packets are slow
        protocols = [("tcp", 0), ("tcp_echo", 64), ("udp", 64)]
        prober.start([peer.target(protocol, size) for protocol, size in protocols], interval_s=0.1)
        pings_ms = lab.ping_ms("prober", "peer", pings=60, interval_s=0.05)
        prober.stop()
    probes = prober.probes()
    assert probes["err_code"].sum() == 0, probes["err_code"].value_counts()
    for protocol, _ in protocols:
        rtts_ms = probes.filter(pl.col("protocol") == protocol)["rtt_us"] / 1000
        seen = f"{protocol}: {sorted(rtts_ms)} ms, ping: {sorted(pings_ms)} ms"
        assert len(rtts_ms) >= 20, seen
        assert rtts_ms.min() >= 2.0, seen
        assert abs(rtts_ms.quantile(0.25) - quantiles(pings_ms, n=4)[0]) < 1, seen


@pytest.mark.parametrize("files", [1024, 128])
def test_an_agent_whose_peers_are_all_black_holed_survives_and_stays_small(lab: Lab, tmp_path: Path, files: int):
    prober = LabAgent(lab, "prober", tmp_path / "prober")
    targets = [[f"nowhere{i}", f"10.9.{i >> 8}.{i & 255}", 8765, "tcp", "intra_dc", 0] for i in range(NOWHERE)]
    with lab.black_hole("10.9.0.0/16"):
        prober.start(targets, "prlimit", f"--nofile={files}", interval_s=1.0, timeout_s=1.5)
        cpu_before_s, began = prober.cpu_s(), time.monotonic()
        time.sleep(3)
        open_files, rss_bytes = prober.open_files(), prober.rss_bytes()
        cpu_share = (prober.cpu_s() - cpu_before_s) / (time.monotonic() - began)
        assert prober.status()["running"], prober.said()
        prober.stop()
    probes, summaries = prober.probes(), prober.summaries()
    assert open_files <= files
    assert rss_bytes <= 16 << 20, f"{rss_bytes / 2**20:.1f} MB"
    assert cpu_share <= 0.10, f"{cpu_share:.1%} of a core for {NOWHERE} probes a second"
    timeouts = probes.filter(pl.col("err_code") == TIMEOUT)
    assert len(timeouts) >= files // 2
    assert probes["rtt_us"].null_count() == len(probes), "an RTT from a peer that never answered"
    scheduled, sent = (sum(getattr(s, name) for s in summaries) for name in ("scheduled", "sent"))
    skipped = sum((Counter(s.skipped) for s in summaries), Counter())
    assert scheduled == sent + skipped.total()
    assert sent == len(probes)
    if files < NOWHERE:
        assert skipped, "1.5 s of 500 probes a second do not fit into 128 sockets: the rest must be counted"
