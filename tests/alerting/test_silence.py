"""Silences hide what they match and nothing else, and a form that cannot be meant is refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from pingmesh_tasks.alerting import AlertState
from pingmesh_tasks.alerting.alert_state import Silence
from pingmesh_tasks.alerting.silence import (
    LONGEST_SILENCE,
    MAX_SILENCES,
    acknowledge,
    open_incident,
    silence,
    silence_of,
    unsilence,
)
from pingmesh_tasks.errors import ConfigError
from tests.support.findings import finding, incident, tracked
from tests.support.notices import NOON

HOUR = timedelta(hours=1)
BOB = incident(tracked(finding("user_rate", "user", "bob"), "east"), "0a1b2c3d4e5f")
HOST = incident(tracked(finding("host_down", "host", "d1p1t1h1")), "f00dfeed1234")
STATE = AlertState(open=(BOB, HOST))


def wanted(name="s1", until=NOON + HOUR, **more) -> Silence:
    return Silence(name, "eve", NOON, until, **more)


@pytest.mark.parametrize("field", ["source", "scope", "subject", "rule"])
def test_each_pattern_must_match_what_it_is_for(field):
    fits = {"source": "ea*", "scope": "user", "subject": "b?b", "rule": "user_*"}
    assert silence_of([wanted(**fits)], BOB, NOON)
    assert not silence_of([wanted(**(fits | {field: "other"}))], BOB, NOON)
    assert silence_of([wanted(**{field: fits[field]})], BOB, NOON)


def test_patterns_tell_capitals_apart():
    assert not silence_of([wanted(subject="BOB")], BOB, NOON)


def test_a_silence_of_an_incident_hides_that_one_whatever_its_patterns():
    one = wanted(incident=BOB.id)
    assert silence_of([one], BOB, NOON) == one
    assert silence_of([one], HOST, NOON) is None


def test_a_silence_is_over_at_its_end():
    assert silence_of([wanted()], BOB, NOON + HOUR - timedelta(seconds=1))
    assert silence_of([wanted()], BOB, NOON + HOUR) is None


def test_a_silence_of_a_mistyped_incident_is_refused_with_the_one_that_was_meant():
    with pytest.raises(ConfigError, match="there is no incident '0a1b2c3d4e5x'; did you mean '0a1b2c3d4e5f'"):
        silence(STATE, wanted(incident="0a1b2c3d4e5x"), NOON)
    everything = "open are 0a1b2c3d4e5f .user bob., f00dfeed1234 .host d1p1t1h1.$"
    with pytest.raises(ConfigError, match=everything):
        silence(STATE, wanted(incident="zzzz"), NOON)
    with pytest.raises(ConfigError, match="none is open"):
        silence(AlertState(), wanted(incident="zzzz"), NOON)


def test_a_silence_of_an_incident_that_is_open_or_ended_lately_is_taken():
    for state in (STATE, AlertState(closed=(BOB,))):
        assert silence(state, wanted(incident=BOB.id), NOON).silences == (wanted(incident=BOB.id),)


def test_a_silence_must_end_later_than_now_and_within_ninety_days():
    with pytest.raises(ConfigError, match="2026-11-22 12:00 UTC is over already"):
        silence(STATE, wanted(until=NOON), NOON)
    assert silence(STATE, wanted(until=NOON + LONGEST_SILENCE), NOON).silences
    with pytest.raises(ConfigError, match="within 90 days"):
        silence(STATE, wanted(until=NOON + LONGEST_SILENCE + timedelta(seconds=1)), NOON)


def test_a_silence_replaces_that_of_its_id_and_those_that_are_over():
    state = AlertState(silences=(wanted("s1"), wanted("s2", NOON), wanted("s3")))
    after = silence(state, wanted("s1", reason="again"), NOON)
    assert [(one.id, one.reason) for one in after.silences] == [("s3", ""), ("s1", "again")]


def test_there_is_room_for_a_hundred_silences():
    state = AlertState(silences=tuple(wanted(f"s{n}") for n in range(MAX_SILENCES - 1)))
    state = silence(state, wanted("last"), NOON)
    assert len(state.silences) == MAX_SILENCES
    with pytest.raises(ConfigError, match="there are 100 silences"):
        silence(state, wanted("one more"), NOON)
    assert silence(state, wanted("last", reason="new"), NOON).silences[-1].reason == "new"


def test_the_texts_of_a_silence_are_bounded():
    long = "x" * 500
    texts = {"by": long, "reason": long, "source": long, "scope": long, "subject": long, "rule": long}
    [kept] = silence(STATE, replace(wanted(long), **texts), NOON).silences
    lengths = {name: len(getattr(kept, name)) for name in ("id", *texts)}
    wide = dict.fromkeys(("source", "scope", "subject", "rule"), 200)
    assert lengths == {"id": 100, "by": 100, "reason": 300} | wide


def test_a_silence_can_be_ended_and_one_that_is_not_there_names_those_that_are():
    state = AlertState(silences=(wanted("s1"), wanted("s2")))
    assert unsilence(state, "s1").silences == (wanted("s2"),)
    with pytest.raises(ConfigError, match="no silence 's9'; active are s1, s2"):
        unsilence(state, "s9")
    with pytest.raises(ConfigError, match="none is active"):
        unsilence(AlertState(), "s9")


def test_who_acknowledges_is_noted_with_the_time_on_that_incident_alone():
    after = acknowledge(STATE, HOST.id, "ann", NOON)
    assert [one.acknowledged_by for one in after.open] == [None, "ann at 12:00 UTC"]
    assert acknowledge(STATE, BOB.id, "", NOON).open[0].acknowledged_by == "someone at 12:00 UTC"
    with pytest.raises(ConfigError, match="no incident 'x' is open"):
        acknowledge(STATE, "x", "ann", NOON)


def test_an_incident_that_ended_is_not_open():
    assert open_incident(STATE, BOB.id) == BOB
    with pytest.raises(ConfigError, match="is open; none is open"):
        open_incident(AlertState(closed=(BOB,)), BOB.id)
