"""Whether an incident is over, and which finding leads it: each clause on its own."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pingmesh_tasks.alerting.resolution import resolve
from tests.support.findings import conditions, finding, incident, tracked
from tests.support.notices import NOON

SUBJECT = "dc1/p1/t1"
TOR = tracked(finding("tor_down", "tor", SUBJECT))
CLEAR = {"observations": {"hot": "x..."}}
HOST = tracked(finding("host_down", "host", "d1p1t1h1"))
OVER = tracked(TOR.finding, **CLEAR)


def outcome(lead, *others, after_s=0, policy=None, **more):
    return resolve(incident(lead, others=others, **more), conditions(after_s=after_s, **(policy or {})))


def test_an_incident_whose_lead_is_seen_stays_open():
    assert outcome(TOR).closed_by is None


@pytest.mark.parametrize(
    ("observations", "seen_by", "closed_by"),
    [
        ({"hot": "x.."}, ("hot",), None),
        ({"hot": "x..."}, ("hot",), "hot"),
        ({"hot": "x..x"}, ("hot",), None),
        ({"hot": "..."}, ("hot",), "hot"),
        ({"hot": "...", "window": "x."}, ("window",), None),
        ({"hot": "...", "window": "x.."}, ("window",), "window"),
        ({"hot": "x...", "window": "xx"}, ("hot", "window"), "hot"),
        ({"hot": "xx", "window": "x.."}, ("hot", "window"), None),
    ],
)
def test_the_path_that_saw_the_fault_ends_it_after_enough_clear_evaluations(observations, seen_by, closed_by):
    lead = tracked(TOR.finding, observations=observations, seen_by=seen_by, judged_at=dict.fromkeys(observations, NOON))
    assert outcome(lead).closed_by == closed_by


def test_windows_end_what_the_hot_path_has_not_judged_for_too_long():
    lead = tracked(TOR.finding, observations={"hot": "xx", "window": "x.."}, judged_at={"hot": NOON, "window": NOON})
    assert outcome(lead, after_s=899).closed_by is None
    assert outcome(lead, after_s=900).closed_by == "window"


def test_a_lead_that_left_the_inventory_is_over_after_three_evaluations_in_a_row():
    assert outcome(tracked(TOR.finding, absent_count=2)).closed_by is None
    assert outcome(tracked(TOR.finding, absent_count=3)).closed_by == "inventory"
    left = outcome(tracked(TOR.finding, absent_count=3), HOST)
    assert (left.closed_by, left.lead_removed_by, left.incident.lead) == (None, "inventory", HOST)


def test_a_lead_whose_rule_is_off_is_over_and_one_in_maintenance_is_not():
    assert outcome(tracked(TOR.finding, left_out="off")).closed_by == "rules"
    assert outcome(tracked(TOR.finding, left_out="maintenance")).closed_by is None


def test_what_waits_for_its_quorum_keeps_no_incident_open_and_waits_again():
    unconfirmed = tracked(HOST.finding, confirmed=False)
    ended = outcome(OVER, unconfirmed)
    assert (ended.closed_by, ended.waiting) == ("hot", (unconfirmed,))


def test_what_only_windows_saw_ends_with_a_lead_that_the_hot_path_saw_end():
    by_window = tracked(HOST.finding, observations={"window": "x"}, seen_by=("window",), judged_at={"window": NOON})
    assert outcome(OVER, by_window).closed_by == "hot"
    assert outcome(OVER, HOST).incident.lead == HOST
    assert outcome(TOR, by_window).incident.others == (by_window.without_evidence(),)


@pytest.mark.parametrize(("returns", "after_s", "is_held"), [(1, 0, False), (2, 899, True), (2, 900, False)])
def test_an_incident_that_flaps_is_held_open_until_it_was_clear_for_long_enough(returns, after_s, is_held):
    over = tracked(TOR.finding, **CLEAR, judged_at={"hot": NOON + timedelta(seconds=after_s)})
    held = outcome(over, after_s=after_s, returns=returns)
    lead = tracked(TOR.finding, observations={"hot": "...", "window": ".."}, absent_count=3)
    assert (held.closed_by is None) == is_held
    if is_held:
        assert held.incident.lead == over
    assert outcome(lead, returns=returns).closed_by == "inventory", "nothing holds what has left"


def test_each_further_return_doubles_the_hold_up_to_sixteen_times():
    holds = [conditions().policy.hold_s(returns) for returns in (1, 2, 3, 4, 5, 6, 7)]
    assert holds == [0, 900, 1800, 3600, 7200, 14400, 14400]


def same_suspect(rule, severity="critical"):
    return tracked(finding(rule, "tor", SUBJECT, severity))


def test_the_lead_stays_among_findings_of_its_suspect_unless_another_is_more_severe():
    warning = same_suspect("loss", "warning")
    assert outcome(TOR, same_suspect("loss")).incident.lead == TOR
    assert outcome(same_suspect("tor_down"), same_suspect("a_rule")).incident.lead.finding.rule == "tor_down"
    assert outcome(warning, TOR).incident.lead == TOR
    assert outcome(TOR, warning).incident.lead == TOR


def test_when_the_suspect_is_well_the_most_urgent_finding_leads_and_not_the_least():
    podset = tracked(finding("podset_failure", "podset", "dc1/p1"))
    pair = tracked(finding("loss", "pair", "d1p1t1h1>d1p1t2h1"))
    slow = tracked(finding("latency_sla", "dc", "dc1", "warning"))
    for others in ([pair, podset, HOST, slow], [slow, podset, HOST, pair]):
        renewed = outcome(OVER, *others).incident
        assert renewed.lead == podset
        assert [other.finding for other in renewed.others] == [HOST.finding, pair.finding, slow.finding]


def test_an_incident_began_when_the_first_of_its_leads_did():
    early = tracked(finding("host_down", "host", "d1p1t1h1", since=NOON - timedelta(hours=1)))
    assert outcome(OVER, early).incident.since == NOON - timedelta(hours=1)
    assert outcome(TOR, early).incident.since == NOON
