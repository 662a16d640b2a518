"""What `pingmesh doctor` finds, with an Airflow that a test makes up."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pingmesh_tasks.errors import ConfigError, StoreError
from pingmesh_tasks.pipeline.checkup import DAGS, examine, masked
from pingmesh_tasks.store.objects import S3Access

SECRET = "hunter2hunter2"
REPO = Path(__file__).parents[2]


class EmptyBucket:
    access = S3Access("pingmesh", "key", SECRET, "http://127.0.0.1:8333")

    def find(self, key):
        return None

    def read_uri(self, uri):
        raise StoreError(f"get {uri!r}: there is no such object")


class ClosedBucket(EmptyBucket):
    def find(self, key):
        raise StoreError(f"get 'x' in bucket 'pingmesh' at http://key:{SECRET}@192.0.2.1: refused")


@dataclass
class MadeUpAirflow:
    """Everything is as it should be, except what a test replaces."""

    store: object = field(default_factory=EmptyBucket)
    ssh_fault: str = ""
    on: list = field(default_factory=lambda: ["slack"])
    errors: dict = field(default_factory=dict)
    folder: Path | None = REPO / "dags"
    plugin: list = field(default_factory=list)
    known_pools: set | None = field(default_factory=lambda: {"default_pool"})

    def open_store(self, settings):
        if self.store is None:
            raise ConfigError("no credentials for the object store; define the connection 'pingmesh_s3'")
        return self.store

    def login(self, settings, store):
        if self.ssh_fault:
            raise ConfigError(self.ssh_fault)
        return "pingmesh at port 22"

    def pools(self):
        return self.known_pools

    def channels(self, settings):
        return self.on, {"e-mail": "there is no connection 'pingmesh_smtp'"}

    def parse_dags(self, folder):
        return set(DAGS) - {Path(file).stem for file in self.errors}, self.errors

    def dags_folder(self):
        return self.folder

    def plugin_faults(self):
        return self.plugin


@pytest.fixture
def environ(tmp_path):
    (tmp_path / "hosts.csv").write_text("name,address\na,192.0.2.1\nb,192.0.2.2\n")
    return {"PINGMESH_INVENTORY": str(tmp_path / "hosts.csv")}


def found(environ, airflow):
    """Return the checks of each state by name."""
    checks = list(examine(environ, airflow))
    return {state: {c.name: c for c in checks if c.state == state} for state in ("ok", "warning", "fault", "skipped")}


def test_a_good_installation_has_no_fault(environ):
    checks = found(environ, MadeUpAirflow())
    assert not checks["fault"]
    assert not checks["warning"]
    assert not checks["skipped"]
    assert set(checks["ok"]) == {
        *("files", "settings", "bucket", "inventory", "ping lists", "ssh", "pool", "rules"),
        *("notifications", "DAG files", "DAGs folder", "plugin"),
    }
    assert checks["ok"]["inventory"].detail == "2 hosts, without topology; 0 data servers"


def test_each_fault_of_the_settings_is_one_and_what_depends_on_them_is_skipped(environ):
    checks = list(examine(environ | {"PINGMESH_WINDOW_S": "7", "PINGMESH_INVENTRY": "x"}, MadeUpAirflow()))
    faults = [check.detail for check in checks if check.state == "fault"]
    assert len(faults) == 2
    assert any("did you mean PINGMESH_INVENTORY?" in fault for fault in faults)
    assert "bucket" in {check.name for check in checks if check.state == "skipped"}


def test_an_inventory_with_faults_lists_each(environ):
    Path(environ["PINGMESH_INVENTORY"]).write_text("name,address\na,nowhere\na,192.0.2.1\n")
    checks = list(examine(environ, MadeUpAirflow()))
    assert [check.state for check in checks if check.name == "inventory"] == ["fault", "fault"]
    assert [check.state for check in checks if check.name == "ping lists"] == ["skipped"]


def test_a_plan_over_the_budget_is_a_fault(environ):
    environ |= {
        "PINGMESH_BUDGET_PROBES_PER_S": "1",
        "PINGMESH_INTERVAL_S": "0.1",
        "PINGMESH_PROBE_TIMEOUT_S": "0.1",
    }
    assert "ping lists" in found(environ, MadeUpAirflow())["fault"]


@pytest.mark.parametrize(
    ("changes", "name", "advice"),
    [
        ({"store": None}, "bucket", "pingmesh_s3"),
        ({"store": ClosedBucket()}, "bucket", "PINGMESH_S3_ENDPOINT"),
        (
            {"ssh_fault": "the Airflow connection 'pingmesh_ssh' has no login"},
            "ssh",
            "pingmesh_ssh",
        ),
        (
            {"errors": {"/d/pingmesh.py": "ImportError: no module"}},
            "DAG files",
            "versions of the lock",
        ),
        ({"known_pools": set()}, "pool", "airflow pools set default_pool"),
        ({"plugin": ["Airflow has not loaded the plugin pingmesh"]}, "plugin", "Install"),
    ],
)
def test_a_fault_of_the_installation_says_what_to_do(environ, changes, name, advice):
    checks = found(environ, MadeUpAirflow(**changes))
    assert set(checks["fault"]) == {name}
    assert advice in checks["fault"][name].advice


def test_without_the_database_of_airflow_its_pools_are_not_checked(environ):
    checks = found(environ, MadeUpAirflow(known_pools=None))
    assert set(checks["skipped"]) == {"pool"}
    assert not checks["fault"]


def test_what_only_weakens_the_installation_is_a_warning(environ, tmp_path):
    checks = found(environ, MadeUpAirflow(on=[], folder=tmp_path))
    assert set(checks["warning"]) == {"notifications", "DAGs folder"}
    assert not checks["fault"]
    assert all(check.advice for check in checks["warning"].values())


def test_no_check_shows_a_secret(environ):
    environ["PINGMESH_S3_ENDPOINT"] = f"http://key:{SECRET}@192.0.2.1"
    for airflow in (MadeUpAirflow(), MadeUpAirflow(store=ClosedBucket())):
        assert all(SECRET not in f"{check}" for check in examine(environ, airflow))
    assert masked(f"s3 at http://key:{SECRET}@host/x") == "s3 at http://***@host/x"
