"""Traces over SSH, from both ends, by the agents that dispatch installed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pingmesh_tasks.detect.traces.hops import find_loss
from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.fleet.agents import AgentRelease, dispatch_agents
from pingmesh_tasks.fleet.keys import ensure_keys
from pingmesh_tasks.fleet.trace import trace_pairs
from pingmesh_tasks.topology.inventory import Inventory
from pingmesh_tasks.topology.pinglist import PinglistPolicy, plan_pinglists
from tests.support.fleet import LIMITS, FleetOfTest, free_port, running_fleet

pytestmark = pytest.mark.integration
PATIENT_S = 15.0  # on a slow machine; what a message waits is a setting


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[FleetOfTest]:
    """Three hosts with running agents."""
    with running_fleet(tmp_path, 3) as fleet:
        port = free_port()
        fleet.hosts = [replace(host, probe_port=port) for host in fleet.hosts]
        assert {o.outcome for o in ensure_keys(fleet.hosts, fleet.access, fleet.bootstrap, LIMITS)} == {"ok"}
        dispatch(fleet)
        yield fleet


def dispatch(fleet: FleetOfTest, release: AgentRelease | None = None) -> None:
    lists = plan_pinglists(Inventory(tuple(fleet.hosts), True), PinglistPolicy())
    documents = {name: plan.document() for name, plan in lists.items()}
    outcomes = dispatch_agents(fleet.hosts, documents, release or AgentRelease.load(), fleet.access, LIMITS)
    assert {o.outcome for o in outcomes} <= {"ok", "unchanged"}, outcomes


def trace(fleet: FleetOfTest, *pairs: tuple[str, str], budget_s: float = PATIENT_S):
    return trace_pairs(pairs, Inventory(tuple(fleet.hosts), True), fleet.access, LIMITS, budget_s=budget_s)


def test_a_pair_is_traced_from_both_ends(fleet: FleetOfTest):
    there, back = trace(fleet, ("host01", "host02"))
    assert (there.source, there.destination) == ("host01", "host02") == (back.destination, back.source)
    assert there.reason is None and back.reason is None
    assert len(there.paths) == len(back.paths) == 16
    assert find_loss([there]).kind == find_loss([back]).kind == "clear"
    assert there.paths[0].hops[0].router == "127.0.0.12"
    assert there.port == fleet.hosts[1].probe_port


def test_a_host_that_is_down_is_a_reason_and_the_other_end_still_answers(fleet: FleetOfTest):
    fleet.stop_host("host02")
    there, back = trace(fleet, ("host01", "host02"))
    assert find_loss([there]).kind == "refused", "the demo's hosts share a kernel, which refuses for the dead one"
    assert back.paths == ()
    assert back.reason is not None and back.reason.startswith("unreachable: ")


def test_an_agent_of_an_older_release_is_a_reason(fleet: FleetOfTest):
    for home in (fleet.home("host01"), fleet.home("host02")):
        (home / ".pingmesh" / "agent.py").write_text("import sys; print('usage', file=sys.stderr); sys.exit(2)")
    reasons = [found.reason for found in trace(fleet, ("host01", "host02"))]
    assert len(reasons) == 2
    assert all(reason and "cannot trace" in reason for reason in reasons), reasons


def test_what_is_not_there_in_time_is_dropped_and_said(fleet: FleetOfTest):
    slow = fleet.home("host01") / ".pingmesh" / "agent.py"
    slow.write_text("import time; time.sleep(600)")
    began = time.monotonic()
    there, back = trace(fleet, ("host01", "host03"))
    assert PATIENT_S <= time.monotonic() - began < 600
    assert there.paths == () and not there.complete
    assert there.reason == f"not there within {PATIENT_S:.0f} s"
    assert len(back.paths) == 16 and back.reason is None, "the other end is not held up"


def test_a_budget_of_nothing_asks_nobody(fleet: FleetOfTest):
    found = trace(fleet, ("host01", "host02"), budget_s=0)
    assert [one.reason for one in found] == ["not there within 0 s"] * 2


def test_a_host_that_floods_us_is_cut_off(fleet: FleetOfTest):
    (fleet.home("host01") / ".pingmesh" / "agent.py").write_text("while True: print('x' * 100_000)")
    there, _ = trace(fleet, ("host01", "host02"))
    assert there.paths == ()
    assert there.reason is not None and "sent more than" in there.reason


def test_a_host_that_left_the_inventory_and_too_many_pairs_are_said(fleet: FleetOfTest):
    found = trace(fleet, ("host01", "gone"), budget_s=0)
    assert [trace.reason for trace in found] == [
        "no longer in the inventory: host01 or gone",
        "no longer in the inventory: gone or host01",
    ]
    everyone = [(a.name, b.name) for a in fleet.hosts for b in fleet.hosts if a is not b]
    assert len(trace(fleet, *everyone, budget_s=0)) == 12


def test_a_key_that_is_not_there_is_for_the_operator(fleet: FleetOfTest, tmp_path: Path):
    keyless = replace(fleet.access, private_key=tmp_path / "none")
    with pytest.raises(ConfigError, match="no private key"):
        trace_pairs([("host01", "host02")], Inventory(tuple(fleet.hosts), True), keyless, LIMITS, budget_s=5)
