"""A fault of the settings hides no DAG: it is shown on each of them, and the first task fails with its text."""

from __future__ import annotations

from typing import Any

import pytest

from pingmesh_tasks.errors import ConfigError
from tests.dags.conftest import DAG_FILES, INVENTORY, ReadDags

FAULTS = {
    "a misspelt variable": (
        INVENTORY | {"PINGMESH_WINDOW": "300"},
        "PINGMESH_WINDOW is not a setting; did you mean PINGMESH_WINDOW_S?",
    ),
    "a window that cannot be scheduled": (INVENTORY | {"PINGMESH_WINDOW_S": "7"}, "PINGMESH_WINDOW_S='7'"),
    "a lease that ends before a window": (
        INVENTORY | {"PINGMESH_WINDOW_S": "3600"},
        "PINGMESH_LEASE_S=900 is not above PINGMESH_WINDOW_S=3600",
    ),
    "no inventory": ({}, "PINGMESH_INVENTORY is missing"),
}


@pytest.fixture(params=FAULTS.values(), ids=FAULTS)
def faulty(request: pytest.FixtureRequest, read_dags: ReadDags) -> tuple[Any, str]:
    environ, sentence = request.param
    return read_dags(environ), sentence


def test_every_dag_is_there(faulty):
    bag, _ = faulty
    assert bag.import_errors == {}
    assert set(bag.dags) == {file.stem for file in DAG_FILES}


def test_every_dag_shows_the_fault_and_what_follows_before_its_doc(faulty):
    bag, sentence = faulty
    for dag in bag.dags.values():
        banner, _, doc = dag.doc_md.partition("\n---\n")
        assert sentence in banner, dag.dag_id
        assert "every run fails" in banner
        assert doc.strip().startswith("###"), dag.dag_id
        assert "settings-fault" in dag.tags


def test_the_dag_processor_warns_of_it(faulty):
    bag, sentence = faulty
    warnings = [text for texts in bag.captured_warnings.values() for text in texts]
    assert len(warnings) == len(DAG_FILES)
    assert all(sentence in text for text in warnings)


def test_what_is_valid_keeps_its_value(read_dags):
    bag = read_dags(INVENTORY | {"PINGMESH_WINDOW": "60", "PINGMESH_SHARD_SIZE": "7", "PINGMESH_MAX_FAILED_SHARE": "2"})
    params = bag.dags["pingmesh"].params
    assert params["shard_size"] == 7
    assert params["max_failed_share"] == 0.5


def test_a_sound_environment_shows_nothing(dags):
    for dag in dags.values():
        assert dag.doc_md.strip().startswith("###")
        assert "settings-fault" not in dag.tags


@pytest.mark.parametrize("environ", [faults for faults, _ in FAULTS.values()], ids=FAULTS)
def test_the_first_task_fails_with_all_faults_and_is_not_retried(environ, airflow_home, monkeypatch):
    from pingmesh_tasks.orchestration import context
    from pingmesh_tasks.orchestration.retry import RETRY_POLICY

    monkeypatch.delenv("PINGMESH_INVENTORY", raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(context, "get_current_context", lambda: {"params": {}, "dag_run": None})
    with pytest.raises(ConfigError, match="the environment has faults") as caught:
        context.current_run()
    assert RETRY_POLICY.evaluate(caught.value, try_number=1, max_tries=2).action.value == "fail"
