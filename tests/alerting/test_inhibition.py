"""Which finding inhibits which: the level above, the family of the rule, the severity, each on its own."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from pingmesh_tasks.alerting import AlertState
from pingmesh_tasks.alerting.hierarchy import hierarchy_of
from pingmesh_tasks.alerting.inhibition import inhibit
from pingmesh_tasks.alerting.inhibition_rule import inhibits
from pingmesh_tasks.alerting.observation import Observation
from pingmesh_tasks.alerting.storm import fold_storms, storm_of
from pingmesh_tasks.detect.finding import MESH, Evaluation
from tests.support.findings import FABRIC, conditions, finding, incident, tracked
from tests.support.notices import NOON

CONTAINING = hierarchy_of(FABRIC)
DC = finding("loss", "dc", "dc1")
PODSET = finding("podset_down", "podset", "dc1/p1")
TOR = finding("tor_down", "tor", "dc1/p1/t1")
HOST = finding("host_down", "host", "d1p1t1h1")
SPINE = finding("loss", "tier", "dc1/spine")
LADDER = [DC, PODSET, TOR, HOST, finding("loss", "pair", "d1p1t1h1>d1p1t2h1")]


def explains(cause, effect, source=MESH) -> bool:
    return inhibits(source, cause, effect, CONTAINING)


@pytest.mark.parametrize("wide", range(5))
@pytest.mark.parametrize("narrow", range(5))
def test_each_level_inhibits_every_level_below_it_and_none_above(wide, narrow):
    assert explains(LADDER[wide], LADDER[narrow]) == (wide <= narrow)


def test_a_component_inhibits_nothing_of_another_one():
    assert not explains(finding("loss", "dc", "dc2"), TOR)
    assert not explains(finding("podset_down", "podset", "dc1/p2"), TOR)
    assert not explains(TOR, finding("host_down", "host", "d1p1t2h1"))


def test_a_spine_inhibits_pairs_that_cross_it_and_neither_hosts_nor_pairs_within_a_podset():
    assert explains(SPINE, finding("loss", "pair", "d1p1t1h1>d1p2t1h1"))
    assert not explains(SPINE, finding("loss", "pair", "d1p1t1h1>d1p1t2h1"))
    assert not explains(SPINE, HOST)
    assert explains(DC, SPINE)


def test_a_warning_inhibits_nothing_critical_not_even_of_its_own_suspect():
    assert not explains(replace(TOR, severity="warning"), HOST)
    assert explains(replace(TOR, severity="warning"), replace(HOST, severity="warning"))
    assert not explains(replace(HOST, severity="warning"), HOST)
    assert explains(HOST, replace(HOST, severity="warning", rule="loss"))


def test_missing_data_inhibit_missing_data_only_and_a_fault_of_paths_inhibits_both():
    missing = finding("no_data", "tor", "dc1/p1/t1")
    assert not explains(missing, HOST)
    assert explains(missing, finding("no_data", "host", "d1p1t1h1"))
    assert explains(TOR, finding("no_data", "host", "d1p1t1h1"))


def test_a_dead_host_inhibits_the_use_of_the_data_server_on_it_and_use_no_fault_of_paths():
    use = finding("user_rate", "user", "bob")
    assert explains(HOST, use, "east")
    assert not explains(HOST, use, "west")
    assert not explains(finding("concurrency", "server", "east"), finding("no_data", "log", "east"), "east")


USER = finding("user_rate", "user", "bob", evidence=({"tree": "efit", "node_path": "\\IP"},))
NODE = finding("node_rate", "node", "efit/\\IP")


def test_a_user_inhibits_a_node_where_one_names_the_other_and_never_the_other_way_round():
    assert explains(USER, NODE, "east")
    assert explains(replace(USER, evidence=()), replace(NODE, evidence=({"user": "bob"},)), "east")
    assert not explains(NODE, USER, "east")
    assert not explains(replace(USER, evidence=()), NODE, "east")
    assert not explains(replace(USER, evidence=({"tree": "efit"},)), NODE, "east")
    assert not explains(USER, replace(USER, subject="eve"), "east")
    named = replace(USER, subject="eve", evidence=({"user": "bob"},))
    assert not explains(USER, named, "east") and not explains(named, USER, "east")


def test_a_storm_of_a_rule_inhibits_use_by_that_rule_and_by_no_other():
    storm = storm_of("east", [USER, replace(USER, subject="eve")])
    assert explains(storm, replace(USER, subject="zoe"), "east")
    assert not explains(storm, finding("heavy_reads", "user", "zoe"), "east")
    assert not explains(replace(storm, unit="ratio"), replace(USER, subject="zoe"), "east")


# ---------------------------------------------------------------- storms


def users(count: int, **more):
    return [finding("user_rate", "user", f"user{n:02d}", affected=n + 1, **more) for n in range(count)]


def fold(findings, leads=(), limit=3, source="east"):
    return fold_storms(source, findings, leads, lambda rule: limit, CONTAINING)


def test_as_many_findings_of_a_rule_as_the_limit_stay_single_and_one_more_folds_them():
    assert fold(users(3)) == users(3)
    [storm] = fold(users(4))
    assert (storm.scope, storm.subject, storm.value, storm.unit) == ("server", "east", 4.0, "findings")
    assert storm.detail == "4 findings at once (user): user03, user02, user01, …"
    assert storm.affected == 1 + 2 + 3 + 4
    assert [row["subject"] for row in storm.evidence] == ["user03", "user02", "user01", "user00"]


def test_a_storm_began_when_the_first_of_its_findings_did():
    early = replace(users(1)[0], since=NOON - timedelta(hours=1))
    [storm] = fold([*users(4)[1:], early])
    assert storm.since == early.since


def test_findings_of_other_rules_stay_beside_a_storm():
    other = finding("heavy_reads", "user", "bob")
    assert fold([*users(4), other])[1:] == [other]


def hosts(*names):
    return [finding("loss", "host", name) for name in names]


FOUR = hosts("d1p1t1h1", "d1p1t1h2", "d1p1t2h1", "d1p1t2h2")


def test_what_an_open_incident_or_another_finding_inhibits_is_no_part_of_a_storm():
    assert len(fold(FOUR, source=MESH)) == 1
    assert fold(FOUR, [TOR], source=MESH) == FOUR
    assert fold([*FOUR, TOR], source=MESH) == [*FOUR, TOR]
    assert fold(FOUR, [finding("host_down", "host", "d1p1t1h1")], source=MESH) == FOUR
    assert len(fold(FOUR, [finding("tor_down", "tor", "dc2/p1/t1")], source=MESH)) == 1


def test_what_is_inhibited_stays_beside_a_storm_of_the_rest():
    outside = hosts("d2p1t1h1", "d2p1t2h1", "d2p2t1h1", "d2p2t2h1")
    storm, *rest = fold([*FOUR[:2], *outside], [TOR], source=MESH)
    assert (storm.value, rest) == (4.0, FOUR[:2])


# ---------------------------------------------------------------- the stage


def candidates(*new, closed=(), opened=(), lane="window", at=NOON, waiting=(), **more):
    state = AlertState(open=tuple(opened), closed=tuple(closed))
    source = (*new, *waiting)[0].source
    evaluation = Evaluation(source, lane, at, frozenset())
    observation = Observation(state, tuple(new), tuple(waiting))
    return inhibit(observation, evaluation, conditions(at, **more))


def ended(lead, by="hot", **more):
    return incident(tracked(lead, more.pop("source", MESH)), closed_by=by, closed_at=NOON, **more)


def test_the_most_urgent_candidate_comes_first_whether_it_is_new_or_waited():
    new, waiting = tracked(HOST), tracked(TOR)
    assert [c.finding for c in candidates(new, waiting=[waiting])] == [waiting, new]


def test_only_confirmed_findings_may_open():
    assert candidates(tracked(HOST))[0].may_open
    assert not candidates(tracked(HOST, confirmed=False))[0].may_open


def test_a_window_does_not_repeat_what_the_hot_path_saw_end_or_what_left_the_inventory():
    late = {"at": NOON + timedelta(seconds=600)}
    for by in ("hot", "inventory"):
        assert candidates(tracked(HOST), closed=[ended(TOR, by)], **late) == ()
    for by in ("window", "rules", "eve closed it by hand."):
        assert len(candidates(tracked(HOST), closed=[ended(TOR, by)], **late)) == 1
    assert len(candidates(tracked(HOST), closed=[ended(TOR)], at=NOON + timedelta(seconds=601))) == 1
    assert len(candidates(tracked(HOST), closed=[ended(TOR)], lane="hot", **late)) == 1
    assert len(candidates(tracked(SPINE), closed=[ended(TOR)], **late)) == 1
    assert len(candidates(tracked(HOST, "east"), closed=[ended(HOST)], **late)) == 1
    waiting = candidates(waiting=[tracked(HOST)], closed=[ended(TOR)], **late)
    assert len(waiting) == 1, "what waits already is no echo"


NO_DATA = tracked(finding("no_data", "log", "east"), "east")


def test_a_data_server_without_contact_opens_nothing_while_its_machine_is_dead_or_was_a_moment_ago():
    def opens(one=NO_DATA, **more):
        return candidates(one, lane="hot", **more)[0].may_open

    assert not opens(opened=[incident(tracked(HOST))])
    assert not opens(closed=[ended(HOST, "window")], at=NOON + timedelta(seconds=600))
    assert opens(closed=[ended(HOST, "window")], at=NOON + timedelta(seconds=601))
    assert opens(closed=[ended(HOST, merged_into="i2")])
    assert opens(opened=[incident(tracked(finding("loss", "host", "d1p1t1h1")))])
    assert opens(opened=[incident(tracked(finding("host_down", "host", "d1p1t1h2")))])
    assert opens(opened=[incident(tracked(HOST, "east"))])
    assert opens(tracked(finding("log_silent", "log", "east"), "east"), opened=[incident(tracked(HOST))])
    assert opens(tracked(finding("no_data", "host", "d1p1t1h1")), opened=[incident(tracked(HOST))])
