"""How good the alarm is, on a small sample: a case of each kind of fault on simulated meshes, from first to last look.

`benchmarks/detection_quality.py` plays hundreds of them and prints figures; here are those that must never go wrong.
"""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest

from pingmesh_tasks.alerting import AlertState, advance
from tests.support.mesh_cases import FAINT, KINDS, draw_case
from tests.support.mesh_clos import SHAPES, Mesh
from tests.support.mesh_score import WARM_UP, Outcome, Watch

SURE = tuple(kind for kind in KINDS if kind not in (*FAINT, "nothing"))
SEED = 77


@cache
def watch_of(hosts: int) -> Watch:
    return Watch(Mesh(SHAPES[hosts], SEED))


@cache
def outcome_of(hosts: int, kind: str) -> Outcome:
    watch = watch_of(hosts)
    return watch.run(draw_case(watch.mesh, kind, SEED + tuple(KINDS).index(kind)))


def told(outcome: Outcome) -> str:
    said = [("right", outcome.right), ("beside", outcome.beside), ("false", outcome.false)]
    lines = [f"{name}: {each}: {each.notice.finding.detail}" for name, messages in said for each in messages]
    return "\n".join([str(outcome.case.faults), *lines])


every_sure_kind = pytest.mark.parametrize("kind", SURE)


@every_sure_kind
def test_a_fault_in_a_small_mesh_is_told_once_by_its_name_and_told_to_be_over(kind: str):
    outcome = outcome_of(64, kind)
    assert not outcome.missed, told(outcome)
    assert not outcome.beside and not outcome.false, told(outcome)
    assert all(outcome.first_right), told(outcome)
    assert max(outcome.opened) <= 4, f"windows until it was told: {outcome.opened}"
    assert len(outcome.closed) == len(outcome.case.truths)
    assert max(outcome.closed) <= 4, f"windows until it was over: {outcome.closed}"
    assert not outcome.still_open


@pytest.mark.parametrize("kind", ["podset_down", "spine_loss_1%", "address_black_hole", "two_faults"])
def test_a_fault_among_512_hosts_is_told_once_by_its_name(kind: str):
    outcome = outcome_of(512, kind)
    assert not outcome.missed, told(outcome)
    assert not outcome.beside and not outcome.false, told(outcome)


def test_a_podset_that_is_down_is_one_message_and_one_that_it_is_over():
    """128 hosts and thousands of pairs suffer."""
    outcome = outcome_of(512, "podset_down")
    assert len(outcome.right) == len(outcome.closed) == 1
    assert not outcome.beside and not outcome.false, told(outcome)


def test_hours_of_a_healthy_mesh_give_no_message():
    watch, state = watch_of(512), AlertState()
    normal = watch.normal
    for number in range(WARM_UP, WARM_UP + 36):
        seen = watch.mesh.window(number)
        state = advance(state, watch.look(seen, normal), watch.policy, seen.at, watch.wider)
        normal = watch.learn(normal, seen)
    assert [entry.notification.finding.detail for entry in state.outbox] == []


def test_a_mesh_that_nobody_has_seen_before_is_judged_without_a_normal():
    """The first window after installation: what is dead is dead, and nothing is called unusual."""
    mesh = Mesh(SHAPES[64], SEED)
    watch = Watch(mesh, warm_up=0)
    case = draw_case(mesh, "tor_down", SEED)
    looks = [watch.look(mesh.window(number, faults), None) for number, faults in case.windows()]
    assert [finding.scope for finding in looks[3].findings] == ["tor"]
    assert "latency_normal" not in looks[3].judged
    assert not looks[0].findings and not looks[-1].findings


def test_the_same_seed_is_the_same_story():
    one, other = (
        Watch(Mesh(SHAPES[64], SEED), warm_up=3).run(draw_case(watch_of(64).mesh, "tor_loss", 5)) for _ in "12"
    )
    assert told(one) == told(other)


def test_the_kinds_of_faults_that_are_drawn_differ():
    mesh = watch_of(64).mesh
    drawn = Counter(str(draw_case(mesh, kind, SEED).faults) for kind in KINDS)
    assert len(drawn) == len(KINDS)
