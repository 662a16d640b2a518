"""What the page's API says of the alarm, on a real S3 server."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from pingmesh_tasks.alerting import AlertState, Policy, advance
from pingmesh_tasks.alerting.alert_state import ChannelHealth, Silence
from pingmesh_tasks.alerting.messages.message import MessageTrace
from pingmesh_tasks.alerting.silence import acknowledge, silence
from pingmesh_tasks.alerting.state_file import to_json
from pingmesh_tasks.alerting.trace_store import write_traces
from pingmesh_tasks.detect.finding import Evaluation, Finding
from pingmesh_tasks.store import layout
from tests.support.page_api_server import TOKEN, page_app, serving

NOW = datetime(2026, 11, 21, 22, 10, tzinfo=UTC)
DOWN = Finding(
    rule="host_down",
    scope="host",
    subject="host03",
    severity="critical",
    value=1.0,
    unit="share",
    threshold=0.5,
    since=NOW - timedelta(minutes=1),
    detail="nobody reaches host03",
    advice="look at its power",
)
HOP = {"hop": 1, "router": "10.0.1.1", "ports": 16, "stop_here": 16, "sent_beyond": 64, "loss_beyond": 1.0}


@pytest.fixture
def ask(store):
    """`ask(**parameters)`: the answer of `incidents` where host03 is down."""
    seen = advance(AlertState(), Evaluation("mesh", "window", NOW, frozenset({"host_down"}), (DOWN,)), Policy(), NOW)
    incident = seen.open[0].id
    seen = acknowledge(seen, incident, "alice", NOW)
    quiet = Silence("5113ce00", "bob", NOW, NOW + timedelta(hours=4), "a new link", incident=incident)
    seen = replace(
        silence(seen, quiet, NOW), channels={"slack": ChannelHealth(True, 3, NOW), "email": ChannelHealth(False)}
    )
    store.put(layout.alert_state(), to_json(seen))
    write_traces(store, {incident: [MessageTrace("host01", "host03", "after 10.0.1.1", (HOP,), "10.0.1.1")]})
    with (
        serving(page_app(store)) as url,
        httpx.Client(base_url=url, headers={"authorization": f"Bearer {TOKEN}"}, timeout=30) as client,
    ):
        yield lambda **query: client.get("/api/v1/incidents", params=query)


def test_an_incident_has_who_looks_after_it_and_the_traces_of_its_messages(ask):
    (incident,) = ask().json()["incidents"]
    assert (incident["subject"], incident["state"], incident["opened_at"]) == (
        "host03",
        "open",
        "2026-11-21T22:10:00.000000Z",
    )
    assert incident["acknowledged_by"] == "alice at 22:10 UTC"
    (trace,) = incident["traces"]
    assert (trace["src"], trace["dst"], trace["after"], trace["hops"]) == ("host01", "host03", "10.0.1.1", [HOP])


def test_silences_and_channels_are_told_with_every_state_of_incidents(ask):
    for state in ("open", "closed", "all"):
        told = ask(state=state).json()
        (quiet,) = told["silences"]
        assert (quiet["id"], quiet["by"], quiet["reason"]) == ("5113ce00", "bob", "a new link")
        assert quiet["until"] == "2026-11-22T02:10:00.000000Z"
        assert told["channels"] == [
            {"channel": "email", "on": False, "failures": 0, "since": None},
            {"channel": "slack", "on": True, "failures": 3, "since": "2026-11-21T22:10:00.000000Z"},
        ]
        assert list(told["looked_at"]) == ["window mesh"]


def test_damaged_traces_hide_no_incident(ask, store):
    store.put(layout.alert_traces(), b"{")
    (incident,) = ask().json()["incidents"]
    assert incident["traces"] == []


def test_the_file_of_incidents_has_a_row_each(ask):
    lines = ask(format="csv", download=1).text.splitlines()
    assert len(lines) == 2
    assert "host03" in lines[1]
