"""What a scope of the rules file can change: exactly what some look asks for at such a place; all else is refused.

Looks at meshes and logs with every kind of fault are listened to. What they ask for, and where, is what a scope may
set: a limit that nothing asks for there would be accepted and have no effect.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import combinations

import numpy as np
import polars as pl
import pytest

from pingmesh_tasks.access.sessions import pair_sessions
from pingmesh_tasks.detect.access.baseline import update_access_baseline
from pingmesh_tasks.detect.access.evaluate import AccessView, evaluate_access
from pingmesh_tasks.detect.catalogue import ACCESS_RULES, RULES, Rule
from pingmesh_tasks.detect.mesh.baseline import update_baseline
from pingmesh_tasks.detect.mesh.evaluate import MeshView, evaluate_mesh
from pingmesh_tasks.detect.rules import PLACES, Override, RuleBook, RuleLimits, Where
from pingmesh_tasks.detect.rules_file import load_rules
from pingmesh_tasks.errors import ConfigError
from tests.support.access_frames import SERVER, WINDOW, Log, errors
from tests.support.pair_rows import PairRows, fabric

#: Rule, limit (or `off`), and the kinds of place that were told.
Asked = set[tuple[str, str, frozenset[str]]]
#: A book that has an override of every limit, nowhere.
_NOWHERE = RuleLimits({(rule.name, limit.name): limit.default for rule in RULES.values() for limit in rule.limits})
_OVERRIDES = (Override(Where((("host", "nowhere"),)), _NOWHERE),)
_DEFAULTS = RuleLimits()


def listening(asked: Asked, settings: RuleLimits = _DEFAULTS) -> RuleBook:
    class Book(RuleBook):
        def limit(self, rule, limit, **place):
            asked.add((rule, limit, frozenset(place)))
            return super().limit(rule, limit, **place)

        def limits(self, rule, limit, places):
            asked.update((rule, limit, frozenset(place)) for place in places)
            return super().limits(rule, limit, places)

        def is_on(self, rule, **place):
            asked.add((rule, "off", frozenset(place)))
            return super().is_on(rule, **place)

        def is_on_within(self, rule, **place):
            asked.add((rule, "off", frozenset(place)))
            return super().is_on_within(rule, **place)

    return Book(settings, _OVERRIDES)


def meshes() -> Iterator[PairRows]:
    """A mesh with each fault."""
    for dead in ("d1p2t1h3", "d1p2t1", "d1p2", "d1", "d"):
        yield PairRows(fabric(dcs=3, podsets=3)).kill(dead, silent=False)
    isolated = PairRows(fabric())
    isolated.lost[5] = 30
    yield isolated
    yield PairRows(fabric()).mute("p1t2h2")
    holed = PairRows(fabric())
    holed.lost[1, 9] = holed.lost[9, 1] = 30
    yield holed
    for lossy in ("p2t2", "p2t2h1", "p2"):
        mesh = PairRows(fabric(podsets=3))
        mesh.retransmitted[mesh.between(lossy, "p")] = 1
        yield mesh
    swallowing = PairRows(fabric(podsets=3))
    swallowing.lost[swallowing.between("p2t2h1", "p")] = 1
    yield swallowing
    slower = PairRows(fabric())
    slower.p50_us[slower.between("p1t2h2", "p")] = 1_500
    slower.p99_us[slower.between("p1t2h2", "p")] = 2_500
    yield slower
    little = PairRows(fabric(podsets=4, tors=4, hosts=8), sent=60)
    here = little.between("p2t2", "p") & (np.random.default_rng(5).random(little.planned.shape) < 0.1)
    little.retransmitted[here] = 1
    yield little
    for ends in ([("p1t2h2", "p")], [("p2", "p1"), ("p2", "p3")], [("p1", "p2"), ("p1", "p3"), ("p2", "p3")]):
        mesh = PairRows(fabric(podsets=3))
        for a, b in ends:
            mesh.p50_us[mesh.between(a, b)], mesh.p99_us[mesh.between(a, b)] = 7_000, 9_000
        yield mesh


def busy_log() -> Log:
    """Bob in a process of his own, and others in one process for all, of whom nobody knows what they do."""
    log = Log()
    log.on("bob", pid=500, socket=0)
    for number in range(9):
        log.on(f"u{number}", pid=77, socket=4 + number, address=f"10.0.1.{number}")
    for number in range(200):
        log.op(number / 4, pid=500)
        log.op(number / 4, pid=77, node=rf"\EAST::N{number % 40}" if number < 150 else r"\EAST::IP")
    log.on("forger", -86_400, pid=1, socket=99)
    return log


def logs() -> Iterator[AccessView]:
    """A log with each fault, in both lanes, as soon as limits are low enough."""
    client, operation = busy_log().frames()
    window = AccessView(SERVER, WINDOW.end, 300, "window", client, operation)
    normal = None
    for number in range(-20, 0):
        shift = pl.col("link_time") + (WINDOW.shifted(number).start - WINDOW.start)
        before = replace(window, client=client.filter(user="u1").with_columns(shift), operation=operation.clear())
        normal = update_access_baseline(normal, before, WINDOW.shifted(number))
    window = replace(
        window,
        normal=normal,
        session=pair_sessions(client, None, WINDOW, operation=operation).table,
        server_error=errors(("denied", "eve"), ("denied", "eve")),
        rejected=pl.DataFrame({"reason": ["glued"], "count": [1_500]}),
        country_of=lambda addresses: ["DE"] * len(addresses),
    )
    yield window
    yield replace(window, lane="hot", span_s=60, at=WINDOW.start + (WINDOW.end - WINDOW.start) / 5)
    yield replace(window, client=client.clear(), operation=operation.clear(), silent_s=600.0)


def low(rule: Rule, *aside: str) -> RuleLimits:
    """Limits as low as they go, but those of `aside`, whose lines are left to wider suspects; all other rules off."""
    spared = {name for suspect in aside for name in (suspect, f"{suspect}_per_min")}
    limits = {(rule.name, limit.name): 1e9 if limit.name in spared else limit.least for limit in rule.limits}
    limits.pop((rule.name, "usual"), None)  # from it on nobody is a stranger
    return RuleLimits(limits, {other.name: True for other in ACCESS_RULES if other is not rule})


@cache
def asked() -> Asked:
    heard: Asked = set()
    for mesh in meshes():
        normal = None
        for _ in range(6):
            normal = update_baseline(normal, PairRows(mesh.inventory).frame(), mesh.inventory)
        evaluate_mesh(MeshView(mesh.frame(), mesh.inventory, WINDOW.end, 300, normal=normal), listening(heard))
    for view in logs():
        for rule in ACCESS_RULES:
            for aside in ((), ("user",), ("user", "client")):
                evaluate_access(view, listening(heard, low(rule, *aside)))
    return heard


def is_accepted(rule: str, limit: str, value: object, kinds: tuple[str, ...]) -> bool:
    where = dict.fromkeys(kinds, "x*")
    try:
        load_rules(json.dumps({"scopes": [{"where": where, "rules": {rule: {limit: value}}}]}), "rules.yaml")
    except ConfigError:
        return False
    return True


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_scope_can_set_what_a_look_asks_for_there_and_nothing_else(rule):
    for name, value in [("off", True), *((limit.name, limit.default) for limit in rule.limits)]:
        for kinds in (*combinations(PLACES, 1), *combinations(PLACES, 2)):
            is_asked = any((rule.name, name) == (a, b) and set(kinds) <= places for a, b, places in asked())
            assert is_accepted(rule.name, name, value, kinds) is is_asked, f"{rule.name}.{name} by {kinds}"
