"""What one evaluation notes in the findings that are tracked: seen, clear, or not judged."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from pingmesh_tasks.alerting import AlertState
from pingmesh_tasks.alerting.observation import is_newer, observe
from pingmesh_tasks.alerting.storm import storm_of
from pingmesh_tasks.detect.finding import MESH, Evaluation
from tests.support.findings import conditions, finding, incident, tracked
from tests.support.notices import NOON

HOST = finding("host_down", "host", "d1p1t1h1")
PAIR = finding("loss", "pair", "d1p1t1h1>d2p1t1h1")
USER = finding("user_rate", "user", "bob")
JUDGED = frozenset({"host_down", "loss", "user_rate"})


def evaluation(*findings, source=MESH, unjudged=(), lane="hot", left_out=None, **more) -> Evaluation:
    given = {"at": NOON, "judged": JUDGED} | more
    rest = {"left_out": lambda _: left_out} if left_out else {}
    return Evaluation(source, lane, given["at"], given["judged"], findings, dict.fromkeys(unjudged, "few"), **rest)


def lead_after(lead, evaluated, **more):
    state = AlertState(open=(incident(lead),))
    return observe(state, evaluated, conditions(**more)).state.open[0].lead


@pytest.mark.parametrize("lane", ["hot", "window"])
def test_only_an_evaluation_newer_than_the_last_of_its_source_and_path_counts(lane):
    state = AlertState(last_evaluated={f"{lane} mesh": NOON})
    assert not is_newer(state, evaluation(lane=lane))
    assert is_newer(state, evaluation(lane=lane, at=NOON + timedelta(microseconds=1)))
    assert is_newer(state, evaluation(lane="hot" if lane == "window" else "window"))
    assert is_newer(state, evaluation(lane=lane, source="east"))


def test_a_finding_that_is_seen_again_is_the_newest_one_and_one_that_is_not_is_clear():
    worse = replace(HOST, value=9.0)
    seen = lead_after(tracked(HOST), evaluation(worse), after_s=5)
    assert (seen.finding.value, seen.observations) == (9.0, {"hot": "xx"})
    assert seen.judged_at == {"hot": NOON + timedelta(seconds=5)}
    assert lead_after(tracked(HOST), evaluation()).observations == {"hot": "x."}


def test_eight_evaluations_of_a_path_are_remembered():
    lead = tracked(HOST, observations={"hot": "x.......", "window": "x"})
    assert lead_after(lead, evaluation()).observations == {"hot": "........", "window": "x"}


@pytest.mark.parametrize(
    ("what", "source", "unjudged"),
    [
        (HOST, MESH, ("host", "d1p1t1h1")),
        (HOST, MESH, ("host", "*")),
        (HOST, MESH, ("mesh", "mesh")),
        (PAIR, MESH, ("host", "d1p1t1h1")),
        (PAIR, MESH, ("host", "d2p1t1h1")),
        (USER, "east", ("user", "*")),
        (USER, "east", ("server", "east")),
    ],
)
def test_a_subject_that_could_not_be_judged_is_neither_seen_nor_clear(what, source, unjudged):
    lead = tracked(what, source)
    assert lead_after(lead, evaluation(source=source, unjudged=[unjudged])) == lead
    other = (unjudged[0], "another")
    assert lead_after(lead, evaluation(source=source, unjudged=[other])) != lead


def test_a_rule_that_did_not_run_judges_nothing():
    assert lead_after(tracked(HOST), evaluation(judged=frozenset({"loss"}))) == tracked(HOST)


def test_a_subject_that_is_not_in_the_inventory_is_not_judged_and_its_absence_is_counted():
    gone = tracked(finding("host_down", "host", "who"), absent_count=1)
    assert lead_after(gone, evaluation()) == replace(gone, absent_count=2)
    assert lead_after(tracked(HOST, absent_count=2), evaluation()).absent_count == 0
    of_server = tracked(USER, "north")
    assert lead_after(of_server, evaluation()).absent_count == 1
    assert lead_after(of_server, evaluation(source="north")).absent_count == 0, "only the mesh's count"


def test_the_others_of_an_incident_are_judged_and_counted_as_its_lead_is():
    other = tracked(PAIR, absent_count=2)
    state = AlertState(open=(incident(tracked(HOST), others=(other,), unlisted=4),))
    [after] = observe(state, evaluation(HOST), conditions()).state.open
    assert (after.others[0].observations, after.others[0].absent_count) == ({"hot": "x."}, 0)
    assert after.unlisted == 0


@pytest.mark.parametrize("reason", ["off", "maintenance"])
def test_what_the_rule_book_left_out_is_not_judged_and_why_is_noted_until_it_is_seen(reason):
    after = lead_after(tracked(HOST), evaluation(left_out=reason))
    assert (after.observations, after.left_out) == ({"hot": "x"}, reason)
    assert lead_after(after, evaluation(HOST)).left_out == ""
    assert lead_after(after, evaluation()).left_out == reason, "clear, but still noted"
    assert lead_after(after, evaluation(unjudged=[("host", "*")])).left_out == ""


def test_an_incident_was_last_seen_when_one_of_its_findings_was():
    state = AlertState(open=(incident(tracked(HOST), others=(tracked(PAIR),)),))

    def last_seen(*findings, after_s=5):
        return observe(state, evaluation(*findings), conditions(after_s=after_s)).state.open[0].last_seen

    assert last_seen() == NOON
    assert last_seen(PAIR) == NOON + timedelta(seconds=5)
    assert last_seen(PAIR, after_s=-5) == NOON


def test_what_no_incident_has_is_new_or_waited_and_other_sources_are_left_alone():
    waited = tracked(PAIR, confirmed=False)
    foreign = tracked(USER, "east", confirmed=False)
    state = AlertState(open=(incident(tracked(HOST)), incident(tracked(USER, "east"), "i2")), pending=(waited, foreign))
    new = finding("loss", "host", "d1p1t1h2")
    seen = observe(state, evaluation(HOST, PAIR, new), conditions())
    assert [one.finding for one in seen.new] == [new]
    assert [one.key for one in seen.waiting] == [waited.key]
    assert seen.state.pending[1] == foreign
    assert seen.state.open[1] == state.open[1]
    assert observe(state, evaluation(HOST), conditions()).waiting == ()


def test_of_two_findings_of_one_rule_and_subject_the_more_urgent_counts():
    warning = replace(HOST, severity="warning")
    for order in ((HOST, warning), (warning, HOST)):
        [new] = observe(AlertState(), evaluation(*order), conditions()).new
        assert new.finding.severity == "critical"


def many(count):
    return [
        finding("host_down", "host", f"d{d}p{p}t{t}h{h}")
        for d in (1, 2)
        for p in (1, 2)
        for t in (1, 2)
        for h in (1, 2)
    ][:count]


def test_a_storm_lasts_until_a_third_of_its_limit_is_left():
    storm = AlertState(open=(incident(tracked(storm_of(MESH, many(16)))),))

    def new(state, count):
        return [one.finding.scope for one in observe(state, evaluation(*many(count)), conditions(storm=9)).new]

    assert new(AlertState(), 9) == ["host"] * 9
    assert new(AlertState(), 10) == ["mesh"]
    assert new(storm, 4) == [], "it is seen again"
    assert new(storm, 3) == ["host"] * 3
