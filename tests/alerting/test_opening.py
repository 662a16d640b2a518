"""Where a finding goes: to an incident that explains it, to one of its own, or to those that wait."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from pingmesh_tasks.alerting import AlertState
from pingmesh_tasks.alerting.inhibition import Candidate
from pingmesh_tasks.alerting.opening import open_or_join
from pingmesh_tasks.detect.finding import MESH
from tests.support.findings import conditions, finding, incident, tracked
from tests.support.notices import NOON

TOR = tracked(finding("tor_down", "tor", "dc1/p1/t1"))
HOST = tracked(finding("host_down", "host", "d1p1t1h1", since=NOON - timedelta(seconds=9), evidence=({"src": "a"},)))


def place(finding, state=AlertState(), may_open=True, **more):  # noqa: B008 (it is frozen)
    return open_or_join(state, [Candidate(finding, may_open)], conditions(**more))


def test_a_finding_that_may_opens_an_incident_since_its_beginning():
    [opened] = place(HOST).open
    assert (opened.lead, opened.opened_at, opened.since) == (HOST, NOON, NOON - timedelta(seconds=9))
    assert len(opened.id) == 12


def test_a_finding_that_may_not_waits_without_its_evidence():
    after = place(HOST, may_open=False)
    assert (after.open, after.pending) == ((), (HOST.without_evidence(),))


def test_a_finding_joins_the_incident_of_its_suspect_before_one_that_explains_it():
    wide, own = incident(TOR, "wide"), incident(HOST, "own")
    other = tracked(finding("loss", "host", "d1p1t1h1"))
    joined = {one.id: one.others for one in place(other, AlertState(open=(wide, own))).open}
    assert joined == {"wide": (), "own": (other,)}
    [home] = place(other, AlertState(open=(wide,)), may_open=False).open
    assert home.others == (other,)


def test_a_finding_joins_no_incident_of_another_source():
    assert len(place(HOST, AlertState(open=(incident(tracked(HOST.finding, "east")),))).open) == 2


def test_a_finding_that_joins_or_opens_waits_no_more():
    waiting = AlertState(open=(incident(TOR),), pending=(HOST,))
    assert place(HOST, waiting).pending == ()
    assert place(HOST, AlertState(pending=(HOST,))).pending == ()


@pytest.mark.parametrize(("after_s", "returns"), [(900, 3), (901, 0)])
def test_an_incident_that_ended_a_moment_ago_is_opened_again(after_s, returns):
    closed = incident(HOST, "i1", closed_at=NOON, closed_by="hot", returns=2, notification_count=4, others=(TOR,))
    after = place(HOST, AlertState(closed=(closed,)), after_s=after_s)
    [opened] = after.open
    assert opened.returns == returns
    assert (opened.id == "i1") == (returns > 0)
    assert (after.closed == ()) == (returns > 0)
    assert (opened.closed_at, opened.closed_by, opened.others, opened.last_notification) == (None, None, (), None)
    if returns:
        assert (opened.notification_count, opened.opened_at) == (4, NOON)
        assert opened.last_seen == NOON + timedelta(seconds=after_s)


def test_an_incident_of_another_suspect_or_source_or_that_was_merged_is_not_opened_again():
    ended = {"closed_at": NOON, "closed_by": "hot"}
    for closed in (
        incident(HOST, "i1", merged_into="i0", **ended),
        incident(TOR, "i1", **ended),
        incident(tracked(HOST.finding, "east"), "i1", **ended),
    ):
        assert place(HOST, AlertState(closed=(closed,))).open[0].id != "i1"


def test_of_two_incidents_of_a_suspect_the_one_that_ended_last_is_opened_again():
    ended = {"closed_at": NOON, "closed_by": "hot"}
    older, newer = incident(HOST, "older", **ended), incident(HOST, "newer", **ended)
    assert place(HOST, AlertState(closed=(older, newer))).open[0].id == "newer"


def full(source=MESH):
    leads = (tracked(finding("loss", "pair", f"a{n}>b{n}", "warning"), source) for n in range(60))
    return AlertState(open=tuple(incident(lead, f"i{n}") for n, lead in enumerate(leads)))


def test_the_last_place_is_taken_and_then_one_incident_stands_for_the_whole_source():
    one_left = replace(full(), open=full().open[1:])
    assert place(HOST, one_left).open[-1].lead == HOST
    after = place(HOST, full())
    assert len(after.open) == 61
    whole = after.open[-1].lead.finding
    assert (whole.scope, whole.value, whole.severity) == ("mesh", 61, "critical")
    other = tracked(finding("host_down", "host", "d2p1t1h1"))
    joined = place(other, after)
    assert len(joined.open) == 61
    assert joined.open[-1].others == (other,)


def test_what_was_not_seen_lately_waits_no_more():
    def waits(letters, after_s=0):
        waiting = tracked(HOST.finding, observations=letters, confirmed=False)
        return bool(place(TOR, AlertState(pending=(waiting,)), after_s=after_s).pending)

    assert waits({"hot": "x.."})
    assert not waits({"hot": "x..."})
    assert waits({"hot": "x...", "window": "x"})
    assert waits({"hot": "x"}, after_s=1_799)
    assert not waits({"hot": "x"}, after_s=1_800)


def test_of_too_many_that_wait_the_most_urgent_stay():
    waiting = [tracked(finding("loss", "host", f"h{n}", affected=n + 1), confirmed=False) for n in range(205)]
    kept = open_or_join(AlertState(), [Candidate(one, False) for one in waiting], conditions()).pending
    assert [one.finding.affected for one in kept] == list(range(205, 5, -1))
