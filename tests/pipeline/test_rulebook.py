"""Where the rules in force come from."""

from __future__ import annotations

import pytest

from pingmesh_tasks.detect.rules import DEFAULT_RULES
from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.pipeline.rulebook import half_of, notable_limits, read_rules

LOWER = b"rules: {heavy_reads: {process_per_min: 50}}\n"


def test_without_a_file_the_defaults_are_in_force(run, store):
    assert read_rules(run.settings, store) is DEFAULT_RULES


def test_a_file_or_an_object_changes_them(new_run, store, tmp_path, monkeypatch):
    (tmp_path / "rules.yaml").write_bytes(LOWER)
    monkeypatch.setattr(store, "in_bucket", lambda bucket: store)
    store.put("rules.yaml", LOWER)
    for location in (tmp_path / "rules.yaml", "s3://memory/rules.yaml"):
        rules = read_rules(new_run(rules=location).settings, store)
        assert rules.limit("heavy_reads", "process_per_min") == 50


def test_the_home_directory_may_be_written_as_a_tilde(new_run, store, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "rules.yaml").write_bytes(LOWER)
    assert read_rules(new_run(rules="~/rules.yaml").settings, store).limit("heavy_reads", "process_per_min") == 50


@pytest.mark.parametrize("data", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_names_the_setting_and_the_path(new_run, store, tmp_path, data):
    path = tmp_path / "rules.yaml"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ConfigError, match=r"PINGMESH_RULES='.*/rules.yaml' cannot be read"):
        read_rules(new_run(rules=path).settings, store)


def test_notable_limits_follow_the_rules_in_force(new_run, store, tmp_path):
    (tmp_path / "rules.yaml").write_bytes(LOWER)
    assert notable_limits(new_run(rules=tmp_path / "rules.yaml").settings, store).same_read_of_pid == 25


def test_every_notable_limit_is_half_of_a_rules_or_three_quarters_of_a_burst():
    def of(rule: str, limit: str, share: float) -> int:
        return max(1, round(DEFAULT_RULES.lowest(rule, limit) * share))

    limits = half_of(DEFAULT_RULES)
    assert limits.same_read_of_pid == of("heavy_reads", "process_per_min", 0.5)
    assert limits.same_read_of_pid_burst == of("heavy_reads", "process_burst", 0.75)
    assert limits.same_read == of("heavy_reads", "server_per_min", 0.5)
    assert limits.same_read_burst == of("heavy_reads", "server_burst", 0.75)
    assert limits.lines_of_pid == of("user_rate", "operations_per_min", 0.5)
    assert limits.connects_of_client == of("connect_rate", "user_per_min", 0.5)
    assert limits.connects == of("connect_rate", "server_per_min", 0.5)
    assert limits.rejected == of("rejected_lines", "per_min", 0.5)
    assert limits.denied == of("refused_clients", "user_per_min", 0.5)
    assert limits.silent_after_s == of("log_silent", "least_s", 0.5)
