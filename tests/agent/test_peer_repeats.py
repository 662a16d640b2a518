"""What the peer had to send twice is known by its timer: our kernel counts our own repeats only."""

from __future__ import annotations

import pytest
from pingmesh_agent import probes
from pingmesh_agent.outcomes import OK

A = "127.0.0.21"


@pytest.mark.parametrize(("rtt_us", "retransmits"), [(980_000, 0), (1_000_131, 1)])
def test_a_connect_as_slow_as_a_syn_ack_timer_counts_as_retransmitted(
    mesh, pinglist, free_port, monkeypatch, rtt_us, retransmits
):
    """1,000,131 µs was measured with a counter of 0, on a path of 40 µs.

    The peer's retransmission arrived before this host made its own.
    """
    a = mesh.add(pinglist(targets=[["a", A, free_port, "tcp", "intra_tor", 0]], timeout_s=3))
    monkeypatch.setattr(probes, "U32", lambda info, at: (rtt_us if at == 68 else 0,))
    mesh.pass_time(1)
    statuses, repeats = a.spool.current.columns[4:]
    assert set(statuses) == {OK}
    assert set(repeats) == {retransmits}
