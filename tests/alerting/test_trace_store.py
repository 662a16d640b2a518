"""Traces outlive the message that showed them."""

from __future__ import annotations

import pytest

from pingmesh_tasks.alerting.messages.message import MessageTrace
from pingmesh_tasks.alerting.trace_store import MAX_INCIDENTS, read_traces, write_traces
from pingmesh_tasks.store import layout
from tests.support.memory_store import MemoryObjects

HOPS = (
    {
        "hop": 1,
        "router": "10.0.1.1",
        "ports": 16,
        "stop_here": 4,
        "sent_beyond": 64,
        "loss_beyond": 0.25,
    },
)
TRACE = MessageTrace("host01", "host03", "after 10.0.1.1; 4 of 16 ports stop there", HOPS, "10.0.1.1")


@pytest.fixture
def store() -> MemoryObjects:
    return MemoryObjects()


def test_an_incident_has_the_traces_of_its_newest_message(store):
    assert read_traces(store) == {}
    write_traces(store, {"a1": [TRACE], "b2": []})
    assert list(read_traces(store)) == ["a1"]
    write_traces(store, {"a1": [TRACE, TRACE]})
    write_traces(store, {"a1": []})
    (first, _) = read_traces(store)["a1"]
    assert first == {
        "src": "host01",
        "dst": "host03",
        "verdict": "after 10.0.1.1; 4 of 16 ports stop there",
        "after": "10.0.1.1",
        "hops": list(HOPS),
    }


def test_only_those_of_the_newest_incidents_are_kept(store):
    write_traces(store, {f"incident{i}": [TRACE] for i in range(MAX_INCIDENTS)})
    write_traces(store, {"incident0": [TRACE], "another": [TRACE]})
    kept = read_traces(store)
    assert len(kept) == MAX_INCIDENTS
    assert list(kept)[-2:] == ["incident0", "another"]
    assert "incident1" not in kept


def test_what_cannot_be_read_is_replaced(store):
    for damaged in (b"{", b"[]", b'{"version": 1}', b'{"version": 2, "traces": {"a1": []}}'):
        store.put(layout.alert_traces(), damaged)
        assert read_traces(store) == {}
    write_traces(store, {"a1": [TRACE]})
    assert list(read_traces(store)) == ["a1"]
