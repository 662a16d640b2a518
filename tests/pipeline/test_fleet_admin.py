"""What `fleet_admin` does by hand, on hosts that are played."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from pingmesh_tasks.errors import ConfigError, FleetError, InventoryError
from pingmesh_tasks.pipeline import fleet_admin
from pingmesh_tasks.topology.inventory import LogServer
from tests.pipeline.conftest import HOSTS, SERVER


def act(run, action: str, **options):
    defaults = {"dry_run": False, "remove_key": False, "hook_directory": "/opt/lib"}
    return fleet_admin.act(run, action, **(defaults | options))


@pytest.mark.parametrize(
    ("action", "options", "asked"),
    [
        ("install_keys", {}, "ensure_keys"),
        ("install_keys", {"dry_run": True}, "ensure_keys dry_run"),
        ("stop_agents", {}, "stop_agents"),
        ("stop_agents", {"dry_run": True}, "stop_agents dry_run"),
        ("clean_hosts", {}, "clean_hosts remove_key=False"),
        ("clean_hosts", {"remove_key": True}, "clean_hosts remove_key=True"),
        ("clean_hosts", {"dry_run": True}, "clean_hosts remove_key=False dry_run"),
    ],
)
def test_an_action_is_done_on_every_host_and_data_server(run, fleet, action, options, asked):
    outcome = "unchanged" if action == "install_keys" else "ok"
    assert act(run, action, **options) == {outcome: 7}
    assert fleet.done == [(asked, [*HOSTS, SERVER])]


@pytest.mark.parametrize("dry_run", [True, False])
def test_the_hook_goes_to_data_servers_only(run, fleet, dry_run):
    assert act(run, "deploy_hook", dry_run=dry_run) == {"ok": 1}
    assert fleet.done == [("deploy_hook /opt/lib" + " dry_run" * dry_run, [SERVER])]


def test_a_data_server_is_reached_as_the_inventory_says():
    server = LogServer("data1", "10.0.0.9", "/log", "UTC", ssh_port=2222, ssh_user="mds")
    host = server.as_host()
    assert (host.name, host.address, host.ssh_port, host.ssh_user) == ("data1", "10.0.0.9", 2222, "mds")


def test_a_host_that_is_a_data_server_too_is_touched_once(run, fleet, inventory_file):
    inventory_file.write_text(inventory_file.read_text().replace("10.0.0.9", "10.0.0.6"))
    act(run, "stop_agents")
    assert fleet.done == [("stop_agents", [*HOSTS[:5], SERVER])]


def test_names_pick_hosts_and_data_servers(run, fleet):
    act(replace(run, only_hosts=("db-3", SERVER)), "stop_agents")
    act(replace(run, only_hosts=(SERVER,)), "stop_agents")
    assert fleet.done == [("stop_agents", ["db-3", SERVER]), ("stop_agents", [SERVER])]


def test_a_name_that_is_neither_is_refused_before_any_host_is_touched(run, fleet):
    with pytest.raises(InventoryError, match="host99"):
        act(replace(run, only_hosts=(SERVER, "host99")), "stop_agents")
    assert fleet.done == []


def test_hosts_that_fail_are_named_after_all_are_done(run, fleet, caplog):
    fleet.sick = {"db-2": ("unreachable", "no route"), "db-4": ("auth_failed", "key refused")}
    with caplog.at_level(logging.INFO), pytest.raises(FleetError) as caught:
        act(run, "stop_agents")
    assert str(caught.value).splitlines() == [
        "stop_agents failed on 2 of 7 hosts:",
        "  - db-2: unreachable: no route",
        "  - db-4: auth_failed: key refused",
    ]
    assert "db-1: ok" in caplog.text
    assert "db-2: unreachable no route" in caplog.text


def test_of_many_hosts_that_fail_twenty_are_named(run, fleet, inventory_file):
    hosts = [f"  - {{name: h{n}, address: 10.1.0.{n}}}" for n in range(1, 31)]
    inventory_file.write_text("\n".join(["hosts:", *hosts, ""]))
    fleet.sick = {f"h{n}": ("timeout", "") for n in range(1, 31)}
    with pytest.raises(FleetError) as caught:
        act(run, "stop_agents")
    assert len(str(caught.value).splitlines()) == 1 + 20


def test_an_unknown_action_touches_no_host(run, fleet):
    with pytest.raises(ConfigError, match="'reboot' is not known; choose install_keys"):
        act(run, "reboot")
    assert fleet.done == []
