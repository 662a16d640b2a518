"""What `fleet_admin` does by hand, on real SSH hosts: a host of the mesh and a data server."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pingmesh_tasks.errors import ConfigError, FleetError, InventoryError
from pingmesh_tasks.pipeline import fleet_admin
from pingmesh_tasks.pipeline.run import Run
from pingmesh_tasks.settings import load_settings
from pingmesh_tasks.windows import Window
from tests.support.fleet import FleetOfTest, running_fleet

pytestmark = pytest.mark.integration


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[FleetOfTest]:
    with running_fleet(tmp_path, 2) as fleet:
        yield fleet


@pytest.fixture
def run(fleet: FleetOfTest, tmp_path: Path) -> Run:
    host, server = fleet.hosts
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text(
        f"hosts: [{{name: {host.name}, address: {host.address}}}]\n"
        f"log_servers: [{{name: data1, address: {server.address}, path: /var/log/mdsip.log, timezone: UTC}}]\n"
    )
    settings = load_settings({"PINGMESH_INVENTORY": str(inventory), "PINGMESH_SSH_TIMEOUT_S": "15"})
    store = None  # nothing here is stored
    return Run(Window.parse("20261121T220500Z", 300), settings, store, fleet.access, fleet.bootstrap)  # type: ignore[arg-type]


def act(run: Run, action: str, **options: object) -> dict[str, int]:
    defaults = {"dry_run": False, "remove_key": False, "hook_directory": "~/lib"}
    return fleet_admin.act(run, action, **(defaults | options))  # type: ignore[arg-type]


def keys_of(fleet: FleetOfTest) -> list[bool]:
    files = [fleet.home(host.name) / ".ssh" / "authorized_keys" for host in fleet.hosts]
    return [file.exists() and bool(file.read_text().strip()) for file in files]


def test_a_dry_run_installs_no_key_and_a_real_one_does_on_hosts_and_data_servers(run, fleet):
    act(run, "install_keys", dry_run=True)
    assert keys_of(fleet) == [False, False]
    assert act(run, "install_keys") == {"ok": 2}
    assert act(run, "install_keys") == {"unchanged": 2}
    assert keys_of(fleet) == [True, True]


def test_cleaning_with_remove_key_leaves_nothing_on_either(run, fleet):
    act(run, "install_keys")
    assert act(run, "clean_hosts", remove_key=True) == {"ok": 2}
    assert keys_of(fleet) == [False, False]


@pytest.mark.needs("cc", "make")
def test_the_hook_goes_to_data_servers_only(run, fleet):
    act(run, "install_keys")
    assert act(run, "deploy_hook") == {"ok": 1}
    built = [(fleet.home(host.name) / "lib" / "libTreeShrHooks.so").exists() for host in fleet.hosts]
    assert built == [False, True]


def test_hosts_that_fail_are_named_after_the_others_are_done(run, fleet):
    fleet.stop_host("host01")
    with pytest.raises(FleetError, match=r"install_keys failed on 1 of 2 hosts:\n  - host01: unreachable"):
        act(run, "install_keys")
    assert keys_of(fleet) == [False, True]


def test_names_pick_hosts_and_data_servers_and_an_unknown_one_is_refused(run, fleet):
    assert act(replace(run, only_hosts=("data1",)), "install_keys") == {"ok": 1}
    assert keys_of(fleet) == [False, True]
    with pytest.raises(InventoryError, match="host99"):
        act(replace(run, only_hosts=("host99",)), "install_keys")


def test_an_action_that_is_none_is_refused(run):
    with pytest.raises(ConfigError, match="'reboot' is not known; choose install_keys"):
        act(run, "reboot")


def test_the_host_key_of_a_host_that_was_installed_anew_is_forgotten_and_pinned_again(run, fleet):
    act(run, "install_keys")
    pins = fleet.access.known_hosts.read_text()
    fleet.stop_host("host01")
    (fleet.demo.root / "host01" / "host_key").unlink()
    fleet.start_host("host01")
    with pytest.raises(FleetError, match="host_key_changed"):
        act(run, "install_keys")
    with pytest.raises(ConfigError, match="forget_host_keys needs the names"):
        act(run, "forget_host_keys")
    named = replace(run, only_hosts=("host01",))
    assert act(named, "forget_host_keys", dry_run=True) == {"unchanged": 1}
    assert fleet.access.known_hosts.read_text() == pins
    assert act(named, "forget_host_keys") == {"ok": 1}
    assert act(named, "forget_host_keys") == {"unchanged": 1}
    assert act(run, "install_keys") == {"ok": 1, "unchanged": 1}
    assert len(fleet.access.known_hosts.read_text().splitlines()) == 2


def test_a_host_key_behind_a_pattern_is_not_forgotten_and_its_line_is_named(run, fleet):
    act(run, "install_keys")
    path = fleet.access.known_hosts
    kind_and_blob = path.read_text().split()[1:3]
    path.write_text(path.read_text() + " ".join(["127.0.0.*", *kind_and_blob]) + "\n")
    with pytest.raises(FleetError, match=r"line 2 of .*known_hosts also names it; edit that line"):
        act(replace(run, only_hosts=("host01",)), "forget_host_keys")
