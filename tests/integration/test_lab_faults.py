"""What the agent makes of every fault that a network can show it.

One prober, and a dozen peers that are each broken in their own way, all at once: what happens to one peer must not
show in another one's figures. Faults are exact (nft rules in a router), so every expectation is too.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl
import pytest

from pingmesh_tasks.latency.segment import SegmentSummary
from pingmesh_tasks.latency.summary import summarize_pairs
from pingmesh_tasks.windows import window_containing
from tests.support.lab import PAYLOAD, SYN, SYN_ACK, laboratory
from tests.support.lab_agent import LabAgent
from tests.support.waiting import await_true

pytestmark = [pytest.mark.integration, pytest.mark.lab]

OK, TIMEOUT, REFUSED, HOST_UNREACHABLE, NET_UNREACHABLE, NO_ECHO = 0, 1, 2, 3, 4, 8
INTERVAL_S, TIMEOUT_S, HALF_S = 0.25, 1.5, 2.0
SMALL, LARGE = 64, 1200

WITH_AGENT = (
    *("healthy", "dropped", "dropped_back", "syn_lost", "synack_lost", "rejected", "firewalled", "unrouted"),
    *("payload_lost", "reply_lost", "narrow", "frozen", "killed", "healed"),
)
IN_EVERY_WAY = ("healthy", "dropped", "rejected", "unrouted", "frozen", "empty")  # tcp, tcp_echo and udp
HOSTS = ("prober", *WITH_AGENT, "empty")


@dataclass(frozen=True)
class Observed:
    """`probes`: rows of `probe`. `turn`: when `killed` was killed and `healed` was healed."""

    probes: pl.DataFrame
    summaries: list[SegmentSummary]
    turn: datetime
    log: str

    def of(self, peer: str, protocol: str = "tcp", payload_bytes: int | None = None) -> pl.DataFrame:
        rows = self.probes.filter((pl.col("dst") == peer) & (pl.col("protocol") == protocol)).sort("ts")
        if payload_bytes is not None:
            rows = rows.filter(pl.col("msg_len") == payload_bytes)
        assert len(rows) >= 6, f"only {len(rows)} {protocol} probes of {peer}; the agent's log:\n{self.log}"
        return rows


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    root = tmp_path_factory.mktemp("mesh")
    with laboratory(HOSTS) as lab, ExitStack() as faults:
        agents = {host: LabAgent(lab, host, root / host) for host in HOSTS}
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda host: agents[host].start(), WITH_AGENT))
        faults.enter_context(lab.drop("prober", "dropped"))
        faults.enter_context(lab.drop("dropped_back", "prober"))
        faults.enter_context(lab.lose_first("prober", "syn_lost", SYN, "sport"))
        faults.enter_context(lab.lose_first("synack_lost", "prober", SYN_ACK, "dport"))
        faults.enter_context(lab.lose_first("prober", "payload_lost", PAYLOAD, "sport"))
        faults.enter_context(lab.lose_first("reply_lost", "prober", PAYLOAD, "dport"))
        faults.enter_context(lab.fault(lab.path("prober", "rejected"), "reject with icmp type admin-prohibited"))
        firewalled = f"{lab.path('prober', 'firewalled')} meta l4proto tcp"
        faults.enter_context(lab.fault(firewalled, "reject with tcp reset"))
        faults.enter_context(lab.no_route("prober", "unrouted"))
        faults.enter_context(lab.fault(f"{lab.path('prober', 'narrow')} meta length > 1000", "drop"))
        until_healed = faults.enter_context(ExitStack())
        until_healed.enter_context(lab.drop("prober", "healed"))
        agents["frozen"].signal("STOP")

        targets = [agents[host].target("tcp") for host in (*WITH_AGENT, "empty")]
        for host in IN_EVERY_WAY:
            targets += [agents[host].target("tcp_echo", SMALL), agents[host].target("udp", SMALL)]
        targets += [agents[host].target("tcp_echo", SMALL) for host in ("payload_lost", "reply_lost")]
        targets += [agents["narrow"].target("tcp_echo", size) for size in (SMALL, LARGE)]
        prober = agents["prober"]
        prober.start(targets, interval_s=INTERVAL_S, timeout_s=TIMEOUT_S)
        time.sleep(HALF_S)
        agents["killed"].signal("KILL")
        await_true("dead", lambda: not agents["killed"].status()["running"])
        until_healed.close()
        turn = datetime.now(UTC)
        time.sleep(HALF_S)
        prober.stop()
        yield Observed(prober.probes(), prober.summaries(), turn, prober.said())


def counts(rows: pl.DataFrame) -> dict[int, int]:
    return dict(rows["err_code"].value_counts().sort("err_code").iter_rows())


every_way = pytest.mark.parametrize("protocol", ["tcp", "tcp_echo", "udp"])


@every_way
def test_a_healthy_peer_among_sick_ones_answers_every_probe_cleanly(observed: Observed, protocol):
    rows = observed.of("healthy", protocol)
    assert counts(rows) == {OK: len(rows)}
    assert rows["retransmits"].sum() == 0
    assert rows["rtt_us"].null_count() == 0
    assert rows["rtt_us"].median() < 5_000, "three namespaces of one machine are not milliseconds apart"


@pytest.mark.parametrize("peer", ["dropped", "dropped_back"])
def test_what_the_network_drops_is_lost_and_has_no_latency(observed: Observed, peer):
    """On the way there or on the way back: a probe cannot tell, and must not guess a latency."""
    rows = observed.of(peer)
    assert counts(rows) == {TIMEOUT: len(rows)}
    assert rows["rtt_us"].null_count() == len(rows)


@pytest.mark.parametrize("protocol", ["tcp_echo", "udp"])
def test_a_payload_probe_into_a_drop_is_lost_too(observed: Observed, protocol):
    rows = observed.of("dropped", protocol)
    assert counts(rows) == {TIMEOUT: len(rows)}
    assert rows["rtt_us"].null_count() == len(rows)


@pytest.mark.parametrize("peer", ["syn_lost", "synack_lost"])
def test_a_retransmitted_handshake_is_an_answer_and_in_no_percentile(observed: Observed, peer):
    """The kernel's RTT of such a connection is a retransmission timer (1 s) or worse, not the network.

    A SYN-ACK is repeated by the peer too, and once in a thousand times its repeat is here before our own.
    """
    rows = observed.of(peer)
    assert counts(rows) == {OK: len(rows)}
    assert rows["retransmits"].min() >= 1, rows.filter(pl.col("retransmits") == 0).to_dicts()
    assert rows["rtt_us"].null_count() == len(rows)


@pytest.mark.parametrize("peer", ["payload_lost", "reply_lost"])
def test_a_payload_that_had_to_be_sent_twice_is_in_no_percentile(observed: Observed, peer):
    connects, echoes = observed.of(peer), observed.of(peer, "tcp_echo")
    assert counts(connects) == {OK: len(connects)}
    assert connects["retransmits"].sum() == 0
    assert counts(echoes) == {OK: len(echoes)}
    assert echoes["retransmits"].min() >= 1, echoes.filter(pl.col("retransmits") == 0).to_dicts()
    assert echoes["rtt_us"].null_count() == len(echoes)


@every_way
def test_a_host_without_an_agent_refuses(observed: Observed, protocol):
    rows = observed.of("empty", protocol)
    assert counts(rows) == {REFUSED: len(rows)}
    assert rows["rtt_us"].null_count() == len(rows)


def test_a_firewall_that_resets_looks_like_a_refusal(observed: Observed):
    rows = observed.of("firewalled")
    assert counts(rows) == {REFUSED: len(rows)}


@every_way
def test_a_router_that_prohibits_makes_the_host_unreachable(observed: Observed, protocol):
    rows = observed.of("rejected", protocol)
    assert counts(rows) == {HOST_UNREACHABLE: len(rows)}
    assert rows["rtt_us"].null_count() == len(rows)


@every_way
def test_without_a_route_the_network_is_unreachable(observed: Observed, protocol):
    rows = observed.of("unrouted", protocol)
    assert counts(rows) == {NET_UNREACHABLE: len(rows)}
    assert rows["rtt_us"].null_count() == len(rows)


def test_a_frozen_agent_passes_connect_probes_and_fails_payload_probes(observed: Observed):
    """Its kernel goes on shaking hands: the network is well. Only a payload shows that nobody is at home."""
    connects, echoes, datagrams = (observed.of("frozen", protocol) for protocol in ("tcp", "tcp_echo", "udp"))
    assert counts(connects) == {OK: len(connects)}
    assert connects["retransmits"].sum() == 0
    assert counts(echoes) == {NO_ECHO: len(echoes)}
    assert counts(datagrams) == {TIMEOUT: len(datagrams)}


def test_a_path_that_loses_large_packets_shows_in_large_payloads_only(observed: Observed):
    connects, small, large = (
        observed.of("narrow"),
        observed.of("narrow", "tcp_echo", SMALL),
        observed.of("narrow", "tcp_echo", LARGE),
    )
    assert counts(connects) == {OK: len(connects)}
    assert counts(small) == {OK: len(small)}
    assert counts(large) == {NO_ECHO: len(large)}


def test_a_killed_agent_turns_from_answering_to_refusing(observed: Observed):
    rows = observed.of("killed")
    before, after = rows.filter(pl.col("ts") < observed.turn), rows.filter(pl.col("ts") > observed.turn)
    assert set(counts(before)) <= {OK, REFUSED}, counts(before)
    assert before["err_code"][0] == OK
    assert counts(after) == {REFUSED: len(after)}


def test_a_healed_path_answers_again(observed: Observed):
    rows = observed.of("healed")
    after = rows.filter(pl.col("ts") > observed.turn)
    assert rows["err_code"][0] != OK or rows["retransmits"][0] > 0
    assert counts(after) == {OK: len(after)}
    assert after["rtt_us"].null_count() == 0


def test_every_scheduled_probe_is_a_row_or_a_count(observed: Observed):
    scheduled = sum(summary.scheduled for summary in observed.summaries)
    sent = sum(summary.sent for summary in observed.summaries)
    skipped = sum(sum(summary.skipped.values()) for summary in observed.summaries)
    assert scheduled == sent + skipped
    assert sent == len(observed.probes)
    targets = len(WITH_AGENT) + 1 + len(IN_EVERY_WAY) * 2 + 2 + 2
    took_s = (observed.probes["ts"].max() - observed.probes["ts"].min()).total_seconds()
    planned = targets * took_s / INTERVAL_S
    assert took_s > 1.5 * HALF_S
    assert 0.9 * planned < scheduled < 1.1 * planned, f"{scheduled} scheduled of {planned:.0f} planned"


def test_in_the_table_of_pairs_every_fault_has_its_column(observed: Observed):
    window = window_containing(observed.turn, 3600)  # the probes of one run may lie on both sides of a minute
    pairs = summarize_pairs(observed.probes, window).filter(pl.col("protocol") == "tcp")
    counted = {row["dst"]: row for row in pairs.iter_rows(named=True)}
    for peer, column in {
        "healthy": "answered",
        "dropped": "lost",
        "syn_lost": "retransmitted",
        "empty": "refused",
        "rejected": "unreachable",
        "unrouted": "unreachable",
    }.items():
        row = counted[peer]
        assert row[column] == row["sent"] > 0, row
        assert (row["rtt_p99_us"] is None) == (peer != "healthy"), row
