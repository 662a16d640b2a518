"""How often which finding must be seen, by path, family, scope and severity."""

from __future__ import annotations

import random

import pytest

from pingmesh_tasks.alerting.policy import AT_ONCE, THREE_OF_FOUR, TWO_OF_THREE, Policy
from pingmesh_tasks.alerting.suspect import family_of, urgency
from pingmesh_tasks.detect.catalogue import ACCESS_RULES, NETWORK_RULES
from tests.support.findings import conditions, finding, tracked


@pytest.mark.parametrize(
    ("rule", "scope", "severity", "lane", "quorum"),
    [
        ("user_rate", "user", "warning", "hot", AT_ONCE),
        ("user_rate", "user", "warning", "window", AT_ONCE),
        ("host_down", "host", "critical", "hot", AT_ONCE),
        ("host_down", "host", "warning", "hot", TWO_OF_THREE),
        ("loss", "pair", "warning", "window", TWO_OF_THREE),
        ("no_data", "host", "critical", "hot", TWO_OF_THREE),
        ("no_data", "host", "critical", "window", THREE_OF_FOUR),
        ("no_data", "log", "critical", "window", THREE_OF_FOUR),
        ("no_data", "tor", "critical", "window", AT_ONCE),
        ("no_data", "tor", "warning", "window", TWO_OF_THREE),
        ("log_silent", "log", "critical", "window", AT_ONCE),
        ("log_silent", "log", "critical", "hot", TWO_OF_THREE),
        ("late_data", "server", "critical", "window", AT_ONCE),
    ],
)
def test_the_quorum_of_a_finding(rule, scope, severity, lane, quorum):
    assert Policy().quorum(finding(rule, scope, "x", severity), lane) == quorum


@pytest.mark.parametrize(
    ("observations", "is_confirmed"),
    [("", False), ("x", True), (".x", True), ("..", False), ("x.", True), ("x..", False)],
)
def test_two_of_the_last_three_evaluations_confirm_a_warning(observations, is_confirmed):
    slow = finding("latency_sla", "host", "d1p1t1h1", "warning")
    before = tracked(slow, observations={"hot": observations}, confirmed=False)
    assert before.judged("hot", slow, Policy(), conditions().now).confirmed == is_confirmed
    assert not before.judged("window", slow, Policy(), conditions().now).confirmed


def test_what_was_confirmed_once_stays_so():
    slow = finding("latency_sla", "host", "d1p1t1h1", "warning")
    assert tracked(slow).judged("hot", None, Policy(), conditions().now).confirmed


def test_a_path_is_noted_once_as_one_that_has_seen_it_and_only_if_it_has():
    host = finding("host_down", "host", "d1p1t1h1")
    now = conditions().now
    assert tracked(host).judged("hot", host, Policy(), now).seen_by == ("hot",)
    assert tracked(host).judged("window", host, Policy(), now).seen_by == ("hot", "window")
    assert tracked(host).judged("window", None, Policy(), now).seen_by == ("hot",)


def test_every_rule_of_data_servers_but_missing_data_is_about_use():
    assert {family_of(rule.name) for rule in ACCESS_RULES if rule.name not in ("no_data", "log_silent")} == {"use"}
    assert {family_of(rule.name) for rule in NETWORK_RULES if rule.name != "no_data"} == {"path"}
    assert family_of("no_data") == family_of("log_silent") == "data"


def test_severity_is_more_urgent_than_scope_and_that_than_confidence_count_and_name():
    ordered = [
        finding("b", "host", "b"),
        finding("b", "tor", "b", "warning", affected=1),
        finding("b", "host", "b", "warning", affected=2, confidence=1.0),
        finding("b", "host", "b", "warning", affected=1, confidence=1.0),
        finding("c", "host", "a", "warning", affected=1, confidence=1.0),
        finding("c", "host", "b", "warning", affected=1, confidence=1.0),
        finding("a", "host", "a", "warning", affected=9, confidence=0.5),
        finding("a", "pair", "a", "warning", affected=9),
        finding("a", "user", "a", "warning", affected=9),
    ]
    shuffled = random.Random(5).sample(ordered, len(ordered))
    assert sorted(shuffled, key=urgency) == ordered
