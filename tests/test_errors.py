"""The list of faults in an error."""

import pytest

from pingmesh_tasks.errors import ConfigError, InventoryError, StoreError, faults_of
from pingmesh_tasks.settings import load_settings


def test_each_fault_of_an_inventory_names_the_inventory():
    error = InventoryError("hosts.csv", ["line 2: name is missing", "line 3: address is missing"])
    assert faults_of(error) == ["hosts.csv: line 2: name is missing", "hosts.csv: line 3: address is missing"]


def test_each_fault_of_the_settings_names_its_variable_alone():
    with pytest.raises(ConfigError) as raised:
        load_settings({"PINGMESH_WINDOW_S": "7"})
    faults = faults_of(raised.value)
    assert len(faults) == 2
    assert all(fault.startswith("PINGMESH_") for fault in faults)


def test_each_fault_of_something_else_names_it():
    error = ConfigError(
        "the Airflow connection 'x' has faults:\n  - extra 'a' is not known\n  - extra 'b' is not known"
    )
    assert faults_of(error)[1] == "the Airflow connection 'x': extra 'b' is not known"


def test_an_error_without_a_list_is_one_fault_on_one_line():
    assert faults_of(StoreError("put 'k':\n  refused")) == ["put 'k': refused"]
