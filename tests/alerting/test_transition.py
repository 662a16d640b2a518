"""One transition as a whole: every list of the state stays within its bound."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from pingmesh_tasks import alerting
from pingmesh_tasks.alerting import AlertState, Policy, advance
from pingmesh_tasks.alerting.alert_state import Silence
from pingmesh_tasks.alerting.tracked_finding import distinct, trimmed
from pingmesh_tasks.alerting.transition import dismiss
from pingmesh_tasks.detect.finding import MESH, Evaluation
from pingmesh_tasks.errors import ConfigError
from tests.support.findings import finding, incident, tracked
from tests.support.notices import NOON

HOST = tracked(finding("host_down", "host", "d1p1t1h1"))


def pass_time(state: AlertState, after_s: float = 0) -> AlertState:
    return advance(state, None, Policy(), NOON + timedelta(seconds=after_s))


def test_the_entry_point_is_the_package_itself():
    seen = Evaluation(MESH, "hot", NOON, frozenset({"host_down"}), (HOST.finding,))
    state = alerting.advance(AlertState(), seen, Policy(), NOON)
    assert [entry.notification.kind for entry in state.outbox] == ["opened"]
    assert state.last_evaluated == {"hot mesh": NOON}


def test_time_alone_notifies_and_an_old_evaluation_changes_nothing_else():
    state = AlertState(open=(incident(HOST),), last_evaluated={"hot mesh": NOON})
    old = Evaluation(MESH, "hot", NOON, frozenset({"host_down"}))
    for evaluation in (None, old):
        after = advance(state, evaluation, Policy(), NOON)
        assert after.open[0].lead == HOST
        assert len(after.outbox) == 1


def test_where_no_inventory_is_known_nothing_has_left_it():
    state = AlertState(open=(incident(HOST),))
    for seconds in range(1, 5):
        at = NOON + timedelta(seconds=seconds)
        seen = Evaluation(MESH, "hot", at, frozenset({"host_down"}), (HOST.finding,))
        state = advance(state, seen, Policy(), at)
    assert len(state.open) == 1


def test_sixty_closed_incidents_are_kept_the_newest_of_them():
    ended = tuple(incident(HOST, f"i{n}", closed_at=NOON, closed_by="hot") for n in range(61))
    assert [one.id for one in pass_time(AlertState(closed=ended)).closed] == [f"i{n}" for n in range(1, 61)]


def test_four_hundred_paths_are_remembered_the_newest_of_them():
    evaluated = {f"hot s{n}": NOON + timedelta(seconds=n) for n in range(401)}
    kept = pass_time(AlertState(last_evaluated=evaluated)).last_evaluated
    assert list(kept) == [f"hot s{n}" for n in range(1, 401)]


@pytest.mark.parametrize(("count", "listed"), [(1, 12), (50, 12), (55, 10), (60, 10), (400, 2)])
def test_the_more_incidents_are_open_the_fewer_others_each_lists_and_it_counts_the_rest(count, listed):
    others = tuple(tracked(finding("loss", "host", f"h{n:02d}")) for n in range(12))
    leads = (tracked(finding("loss", "pair", f"a{n}>b{n}")) for n in range(count))
    opened = tuple(incident(lead, f"i{n}", others=others, unlisted=1) for n, lead in enumerate(leads))
    after = pass_time(AlertState(open=opened)).open
    assert {(len(one.others), one.unlisted) for one in after} == {(listed, 1 + 12 - listed)}


def test_silences_that_are_over_are_dropped():
    silences = tuple(Silence(f"s{n}", "eve", NOON, NOON + timedelta(seconds=n)) for n in (1, 2))
    assert [one.id for one in pass_time(AlertState(silences=silences), 1).silences] == ["s2"]


def test_what_an_ended_incident_still_had_waiting_waits_again_without_evidence():
    over = replace(HOST, observations={"hot": "x..."})
    waiting = tracked(finding("loss", "host", "d1p1t1h1", "warning", evidence=({"a": 1},)), confirmed=False)
    state = pass_time(AlertState(open=(incident(over, others=(waiting,)),)))
    assert (state.open, len(state.closed)) == ((), 1)
    assert state.pending == (waiting.without_evidence(),)
    assert state.pending[0].finding.evidence == ()


def test_an_incident_is_dismissed_alone_and_one_that_is_not_open_is_refused():
    state = AlertState(open=(incident(HOST, "one"), incident(HOST, "two")))
    after = dismiss(state, "one", "eve", NOON)
    assert ([one.id for one in after.open], after.closed[0].closed_by) == (["two"], "eve closed it by hand.")
    with pytest.raises(ConfigError, match="no incident 'six' is open"):
        dismiss(state, "six", "eve", NOON)


# ---------------------------------------------------------------- what of a finding is kept


def test_every_text_of_a_finding_is_cut_and_its_numbers_are_finite():
    long = "x" * 900
    inf = float("inf")
    given = {"unit": long, "detail": long, "advice": long, "value": inf, "threshold": -inf, "normal": inf}
    kept = trimmed(finding(long, "host", "h", **given))
    lengths = (len(kept.rule), len(kept.unit), len(kept.detail), len(kept.advice))
    assert lengths == (60, 40, 500, 400)
    assert (kept.value, kept.threshold, kept.normal) == (0.0, 0.0, 0.0)
    assert trimmed(finding("loss", "host", "h", value=2.5, normal=None)).normal is None
    assert trimmed(finding("loss", "host", "h", value=2.5, normal=1.5)).value == 2.5


def test_subjects_that_differ_still_do_when_they_are_cut():
    assert distinct("a" * 200) == "a" * 200
    one, other = distinct("a" * 200 + "b"), distinct("a" * 200 + "c")
    assert one != other
    assert (len(one), one[:190]) == (198, "a" * 189 + "…")
    assert distinct("\ud800") == "?"


def test_evidence_has_twenty_rows_of_twelve_columns_and_two_and_a_half_thousand_bytes():
    def rows(count, **cells):
        return trimmed(finding("loss", "host", "h", evidence=tuple(dict(cells) for _ in range(count)))).evidence

    assert len(rows(21, a=1)) == 20
    assert len(rows(1, **{f"c{n}": n for n in range(13)})[0]) == 12
    assert len(rows(20, text="x" * 85)) == 20
    assert 20 > len(rows(20, text="x" * 500, more="y" * 500)) >= 10
    [row] = rows(
        1, **{"n" * 50: 1, "text": "x" * 101, "nan": float("nan"), "f": 1.5, "none": None, "yes": True, "o": {1}}
    )
    assert row == {
        "n" * 39 + "…": 1,
        "text": "x" * 99 + "…",
        "nan": None,
        "f": 1.5,
        "none": None,
        "yes": True,
        "o": "{1}",
    }


def test_a_finding_that_is_listed_has_a_short_detail_and_no_evidence():
    full = tracked(finding("loss", "host", "h", detail="d" * 130, advice="a", evidence=({"a": 1},)))
    short = full.without_evidence().finding
    assert (short.detail, short.advice, short.evidence) == ("d" * 119 + "…", "", ())
