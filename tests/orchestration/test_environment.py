"""What DAG files take from the environment."""

from __future__ import annotations

import warnings

import pytest

from pingmesh_tasks.orchestration.environment import SettingsWarning, dag_environment


@pytest.fixture
def environ(monkeypatch):
    monkeypatch.setenv("PINGMESH_INVENTORY", "hosts.csv")
    return monkeypatch


def test_sound_settings_are_taken_without_a_word(environ):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        environment = dag_environment()
    assert environment.settings.inventory == "hosts.csv"
    assert environment.doc("### Doc") == "### Doc"
    assert environment.doc(None) == ""
    assert environment.tags("mesh") == ["pingmesh", "mesh"]


def test_a_fault_is_warned_of_where_the_dag_file_asks(environ):
    environ.setenv("PINGMESH_SHARD_SIZE", "0")
    with pytest.warns(SettingsWarning, match="PINGMESH_SHARD_SIZE='0'") as caught:
        environment = dag_environment()
    assert caught[0].filename == __file__
    assert environment.settings.shard_size == 250
    assert "PINGMESH_SHARD_SIZE='0'" in environment.doc("### Doc")
    assert environment.doc("### Doc").endswith("\n---\n### Doc")
    assert environment.tags("mesh", "x") == ["pingmesh", "mesh", "x", "settings-fault"]
