"""The rule book: limits by place, rules that are off, maintenance, and files with faults in them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from pingmesh_tasks.detect.catalogue import RULES
from pingmesh_tasks.detect.rules import DEFAULT_RULES
from pingmesh_tasks.detect.rules_example import example_rules
from pingmesh_tasks.detect.rules_file import load_rules
from pingmesh_tasks.errors import ConfigError

EXAMPLE = Path(__file__).parents[2] / "include" / "rules" / "rules.example.yaml"
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def faults_of(text: str) -> str:
    with pytest.raises(ConfigError) as error:
        load_rules(text, "rules.yaml")
    return str(error.value)


def test_every_rule_says_what_it_looks_for_where_it_is_from_and_its_units():
    for rule in RULES.values():
        assert rule.doc.endswith(".") and rule.source
        for limit in rule.limits:
            assert limit.unit and limit.doc
            assert limit.least <= limit.default <= limit.most


def test_the_example_has_every_rule_at_its_default():
    assert EXAMPLE.read_text() == example_rules(), "run: python -m pingmesh_tasks.detect.rules_example > " + str(
        EXAMPLE
    )
    book = load_rules(example_rules(), "example")
    for rule in RULES.values():
        assert book.is_on(rule.name, host="h1")
        for limit in rule.limits:
            assert book.limit(rule.name, limit.name) == limit.default


@pytest.mark.parametrize("text", ["", "# nothing\n", "rules:\nscopes:\nmaintenance:\n"])
def test_a_file_that_says_nothing_changes_nothing(text):
    assert load_rules(text, "rules.yaml") == DEFAULT_RULES


def test_the_last_scope_that_fits_wins():
    book = load_rules(
        """
        rules: {loss: {limit: 0.02}}
        scopes:
          - where: {podset: dc1/podset1}
            rules: {loss: {limit: 0.03}}
          - where: {podset: "dc1/*", host: "db-*"}
            rules: {loss: {limit: 0.04}}
        """,
        "rules.yaml",
    )
    assert book.limit("loss", "limit") == 0.02
    assert book.limit("loss", "limit", host="web-1", podset="dc1/podset1") == 0.03
    assert book.limit("loss", "limit", host="db-1", podset="dc1/podset1") == 0.04
    assert book.limit("loss", "limit", host=["web-1", "db-1"], podset=["dc1/podset1", "dc2/podset9"]) == 0.04
    assert book.limit("loss", "limit", host="db-1", podset="dc2/podset1") == 0.02
    assert book.limit("loss", "min_drops", host="db-1") == RULES["loss"].limit("min_drops").default


@pytest.mark.parametrize("off", ["off", "{off: true}", "{on: false}", "no", "false"])
def test_a_rule_can_be_off_in_a_part_however_yaml_spells_it(off):
    book = load_rules(f"scopes: [{{where: {{tor: dc1/p1/t1}}, rules: {{black_hole: {off}}}}}]", "rules.yaml")
    assert not book.is_on("black_hole", host="h1", tor="dc1/p1/t1")
    assert book.is_on("black_hole", host="h2", tor="dc1/p1/t2")
    assert book.is_on("black_hole")  # somewhere


def test_a_rule_that_is_off_can_be_on_in_a_part():
    book = load_rules("{rules: {loss: off}, scopes: [{where: {host: a}, rules: {loss: on}}]}", "rules.yaml")
    assert book.is_on("loss", host="a") and not book.is_on("loss", host="b") and book.is_on("loss")


def test_maintenance_covers_its_time_and_place_only():
    book = load_rules(
        """
        maintenance:
          - {where: {tor: dc1/p1/*}, from: 2026-11-22T11:00:00Z, until: 2026-11-22T12:00:00Z, note: firmware}
          - {where: {server: data1}, daily: "23:30-01:00"}
        """,
        "rules.yaml",
    )
    during = book.in_maintenance(NOON.replace(hour=11), host="h", tor="dc1/p1/t3")
    assert str(during) == "maintenance of tor dc1/p1/* until 2026-11-22 12:00 UTC: firmware"
    assert book.in_maintenance(NOON, host="h", tor="dc1/p1/t3") is None
    assert book.in_maintenance(NOON.replace(hour=11), tor="dc1/p2/t3") is None
    for hour, minute, covered in ((23, 29, False), (23, 30, True), (0, 59, True), (1, 0, False)):
        at = NOON.replace(hour=hour, minute=minute)
        assert (book.in_maintenance(at, server="data1") is not None) is covered


def test_all_faults_are_told_at_once_with_the_nearest_names():
    told = faults_of(
        """
        rule: {}
        rules:
          los: {limit: 1}
          loss: {limt: 1, limit: 1.5, min_drops: many, baseline: .nan}
          no_data: 3
        scopes:
          - {where: {rack: a}, rules: {loss: {limit: 0.1}}}
          - {rules: {}}
        maintenance:
          - {where: {host: a}}
          - {where: {host: a}, from: 2026-11-22T11:00:00Z, until: yesterday}
          - {where: {host: a}, from: 2026-11-22T11:00:00Z, until: 2026-11-21T11:00:00Z}
          - {where: {host: a}, daily: 2-4}
        """
    )
    for fault in (
        "13 faults",
        "the file has no 'rule'; did you mean 'rules'?",
        "rules has no 'los'; did you mean 'loss'",
        "rules.loss has no 'limt'; did you mean 'limit'",
        "rules.loss.limit 1.5 is not in 0 … 1",
        "rules.loss.min_drops 'many' is not a number; write it in probes",
        "rules.loss.baseline nan is not a number",
        "rules.no_data 3 is not a mapping",
        "scopes[1].where has no 'rack'; known: host, tor",
        "scopes[2].where does not say where",
        "maintenance[1] has no end",
        "maintenance[2].until 'yesterday' is not a time",
        "maintenance[3] ends before it begins",
        "maintenance[4].daily",
    ):
        assert fault in told, told


def test_a_scope_without_effect_is_a_fault_that_says_what_can_differ_by_what():
    told = faults_of(
        """
        scopes:
          - {where: {host: h1}, rules: {host_down: off, tor_down: off, network_down: {share: 0.5}}}
          - {where: {server: data1, user: anna}, rules: {user_rate: {least: 10}, loss: {limit: 0.1}}}
          - {where: {user: anna, client: pc1}, rules: {connect_rate: {least: 10, on: true}}}
        """
    )
    for fault in (
        "5 faults",
        "scopes[1].rules.tor_down.off cannot differ by host; it can by dc, podset, tor",
        "scopes[1].rules.network_down.share cannot differ by host; it can by dc",
        "scopes[2].rules.loss.limit cannot differ by server, user; it can by dc, podset, tor, host",
        "scopes[3].rules.connect_rate.least cannot differ by client, user; it can by server, user or by server, client",
        "scopes[3].rules.connect_rate.on cannot differ by client, user",
    ):
        assert fault in told, told


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: &a [1]\nb: *a", "alias"),
        ("[" * 50 + "]" * 50, "nested"),
        ("rules: {loss: {limit: 0.1}}" + " " * 300_000, "larger than"),
        ("rules: [", "is not valid YAML"),
        ("rules: !!python/object/apply:os.system [ls]", "is not valid YAML"),
        ("- rules", "is not a mapping"),
        ("rules:\n---\nrules:", "line 2: starts a second document"),
        ("rules: {loss: 2026-13-45}", "is no"),
    ],
)
def test_a_hostile_or_broken_file_is_refused(text, why):
    assert why in faults_of(text)
