"""The demo's hosts and their inventory."""

import pytest

from pingmesh_tasks.demo.fleet import demo_data_server, demo_hosts, demo_inventory_csv, demo_inventory_yaml
from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.topology.inventory import load_inventory


def test_eight_hosts_are_two_data_centres_of_two_podsets_of_two_hosts():
    hosts = demo_hosts()
    assert [h.address for h in hosts] == [f"127.0.0.{n}" for n in range(11, 19)]
    assert [(h.dc, h.podset) for h in hosts[::2]] == [
        ("dc1", "podset1"),
        ("dc1", "podset2"),
        ("dc2", "podset1"),
        ("dc2", "podset2"),
    ]
    assert all((a.dc, a.podset, a.tor) == (b.dc, b.podset, b.tor) for a, b in zip(hosts[::2], hosts[1::2], strict=True))


def test_the_inventory_is_one_that_the_loader_takes(tmp_path):
    path = tmp_path / "inventory.csv"
    path.write_text(demo_inventory_csv(demo_hosts(), 2222))
    inventory = load_inventory(str(path))
    assert inventory.has_topology
    assert [(h.name, h.ssh_port) for h in inventory.hosts] == [(h.name, 2222) for h in demo_hosts()]


def test_more_hosts_than_addresses_are_refused():
    with pytest.raises(ConfigError, match="240"):
        demo_hosts(241)


def test_a_data_server_stands_beside_the_mesh(tmp_path):
    hosts = demo_hosts()
    server = demo_data_server(hosts, tmp_path)
    assert server.host.address == "127.0.0.19"
    path = tmp_path / "inventory.yaml"
    path.write_text(demo_inventory_yaml(hosts, 2222, server))
    inventory = load_inventory(str(path))
    assert [(h.name, h.dc, h.podset, h.ssh_port) for h in inventory.hosts] == [
        (h.name, h.dc, h.podset, 2222) for h in hosts
    ]
    (log,) = inventory.log_servers
    assert (log.name, log.address, log.ssh_port, log.timezone) == ("data1", "127.0.0.19", 2222, "Asia/Shanghai")
    assert (log.path, log.errors_path) == (str(server.log), str(server.errors))
    assert server.log == tmp_path / "data1" / "home" / "mdsip" / "access.log"
    assert set(log.countries.values()) >= {"CN", "US", "DE", "KR"}


def test_an_inventory_without_a_data_server_has_none(tmp_path):
    path = tmp_path / "inventory.yaml"
    path.write_text(demo_inventory_yaml(demo_hosts(3)))
    assert load_inventory(str(path)).log_servers == ()
