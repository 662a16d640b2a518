"""Which incidents become one, which id that keeps, and what is noted of the others."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from pingmesh_tasks.alerting import AlertState
from pingmesh_tasks.alerting.grouping import group
from pingmesh_tasks.alerting.incident import LastNotification
from pingmesh_tasks.detect.finding import MESH
from tests.support.findings import conditions, finding, incident, tracked
from tests.support.notices import NOON

MINUTE = timedelta(minutes=1)
TOLD = LastNotification(NOON, "host", "d1p1t1h1", "critical")
TOR = tracked(finding("tor_down", "tor", "dc1/p1/t1"))
HOST = tracked(finding("host_down", "host", "d1p1t1h1", evidence=({"src": "a"},)))
OTHER = tracked(finding("host_down", "host", "d1p1t1h2"))
PODSET = tracked(finding("podset_down", "podset", "dc1/p1"))


def grouped(*incidents, source=MESH):
    return group(AlertState(open=incidents), source, conditions(after_s=60))


@pytest.mark.parametrize(
    ("tor_told", "host_told", "kept"),
    [(None, None, "tor"), (TOLD, None, "tor"), (None, TOLD, "host"), (TOLD, TOLD, "host")],
)
def test_the_older_of_those_that_were_notified_keeps_its_id(tor_told, host_told, kept):
    tor = incident(TOR, "tor", opened_at=NOON + MINUTE, last_notification=tor_told)
    host = incident(HOST, "host", last_notification=host_told)
    for order in ((tor, host), (host, tor)):
        after = grouped(*order)
        [one] = after.open
        assert (one.id, one.lead) == (kept, TOR)
        assert [other.finding for other in one.others] == [HOST.finding]
        [gone] = after.closed
        assert (gone.merged_into, gone.closed_at, gone.closed_by) == (kept, NOON + MINUTE, None)
        assert gone.others == () and gone.lead.finding.evidence == ()
        is_noted = (tor_told if kept == "host" else host_told) is not None
        assert one.merged_ids == ((gone.id,) if is_noted else ())


def test_the_merged_incident_spans_both():
    early = incident(HOST, "host", since=NOON - MINUTE, last_seen=NOON)
    late = incident(TOR, "tor", since=NOON, last_seen=NOON + MINUTE)
    for order in ((early, late), (late, early)):
        [one] = grouped(*order).open
        assert (one.since, one.last_seen) == (NOON - MINUTE, NOON + MINUTE)


def test_the_others_of_both_are_listed():
    pair, far = (tracked(finding("loss", "pair", f"d1p1t1h1>d2p1t1h{n}")) for n in (1, 2))
    [one] = grouped(incident(TOR, "tor", others=(pair,)), incident(HOST, "host", others=(far,))).open
    assert {other.key for other in one.others} == {pair.key, far.key, HOST.key}


def test_three_levels_become_one():
    told = {"last_notification": TOLD}
    incidents = (
        incident(HOST, "host", **told),
        incident(TOR, "tor", **told),
        incident(PODSET, "podset", **told),
        incident(OTHER, "other", **told),
    )
    after = grouped(*incidents)
    [one] = after.open
    assert one.lead == PODSET
    assert {*one.merged_ids, one.id} == {"host", "tor", "podset", "other"}
    assert len(after.closed) == 3


def test_a_dead_dc_takes_in_its_racks_and_leaves_those_of_another_dc():
    dc = tracked(finding("loss", "dc", "dc1"))
    far = tracked(finding("tor_down", "tor", "dc2/p1/t1"))
    after = grouped(incident(TOR, "tor"), incident(far, "far"), incident(dc, "dc"))
    assert {one.id for one in after.open} == {"far", "dc"}


def test_incidents_of_other_sources_stay():
    user = tracked(finding("user_rate", "user", "bob"), "east")
    node = tracked(finding("node_rate", "node", "efit/IP", evidence=({"user": "bob"},)), "east")
    incidents = (incident(user, "user"), incident(node, "node"))
    assert grouped(*incidents).open == incidents
    assert len(grouped(*incidents, source="east").open) == 1


def test_ids_that_were_merged_before_are_kept_once_and_ten_at_most():
    ids = tuple(f"a{n}" for n in range(9))
    tor = incident(TOR, "tor", merged_ids=ids, last_notification=TOLD)
    host = incident(HOST, "host", merged_ids=("a8", "b1"), last_notification=TOLD, opened_at=NOON + MINUTE)
    [one] = grouped(tor, host).open
    assert one.merged_ids == (*ids[1:], "b1", "host")


def test_an_incident_lists_twelve_others_the_most_urgent_first_and_counts_the_rest():
    one = incident(TOR)
    for n in range(20):
        one = one.with_other(tracked(finding("host_down", "host", f"h{n:02d}", affected=n + 1)))
    assert [other.finding.affected for other in one.others] == list(range(20, 8, -1))
    assert one.unlisted == 8
    again = one.with_other(replace(one.others[3], absent_count=1))
    assert (len(again.others), again.others[3].absent_count, again.unlisted) == (12, 1, 8)
    assert one.with_other(TOR) == one, "the lead is no other"
