"""DAG files as the DAG processor reads them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

REPO = Path(__file__).parents[2]
DAG_FILES = sorted((REPO / "dags").glob("*.py"))
INVENTORY = {"PINGMESH_INVENTORY": "include/inventories/example.yaml"}

ReadDags = Callable[[dict[str, str]], Any]


@pytest.fixture(scope="session")
def airflow_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setenv("AIRFLOW_HOME", str(tmp_path_factory.mktemp("airflow")))
    patch.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
    yield
    patch.undo()


@pytest.fixture(scope="session")
def read_dags(airflow_home: None) -> ReadDags:
    """Return the DagBag of all DAG files, with exactly these `PINGMESH_*` variables set."""
    from airflow.dag_processing.dagbag import DagBag

    def read(environ: dict[str, str]) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            for name in list(os.environ):
                if name.startswith("PINGMESH_"):
                    patch.delenv(name)
            for name, value in environ.items():
                patch.setenv(name, value)
            bag = DagBag(str(REPO / "dags"), collect_dags=False)
            with warnings.catch_warnings(record=True):  # the bag keeps them, and warns again
                warnings.simplefilter("always")
                for file in DAG_FILES:
                    bag.process_file(str(file))
        return bag

    return read


@pytest.fixture(scope="session")
def dags(read_dags: ReadDags) -> dict[str, Any]:
    """All DAGs, by id, with valid settings."""
    bag = read_dags(INVENTORY)
    assert bag.import_errors == {}
    assert not bag.captured_warnings
    return dict(bag.dags)
