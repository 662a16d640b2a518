"""The order of hosts, and where each one stands."""

from pingmesh_tasks.topology.axis import HostAxis, Span
from pingmesh_tasks.topology.inventory import Host, Inventory, LogServer
from pingmesh_tasks.topology.placement import place_of, placement

HOSTS = (
    Host("a1", "10.0.0.1", "dc1", "p1", "t1"),
    Host("a2", "10.0.0.2", "dc1", "p1", "t1"),
    Host("b1", "10.0.0.3", "dc1", "p1", "t2"),
    Host("c1", "10.0.0.4", "dc1", "p2", "t1"),
    Host("d1", "10.0.0.5", "dc2", "p1", "t1"),
)
AXIS = HostAxis.of(Inventory(HOSTS, has_topology=True))


def test_groups_of_one_name_in_other_groups_are_others():
    assert AXIS.tor.tolist() == [0, 0, 1, 2, 3]
    assert AXIS.podset.tolist() == [0, 0, 0, 1, 2]
    assert AXIS.dc.tolist() == [0, 0, 0, 0, 1]
    assert AXIS.tor_names == ("dc1/p1/t1", "dc1/p1/t2", "dc1/p2/t1", "dc2/p1/t1")
    assert (AXIS.podset_names, AXIS.dc_names) == (("dc1/p1", "dc1/p2", "dc2/p1"), ("dc1", "dc2"))


def test_spans_cover_the_axis_from_wide_to_narrow():
    assert list(AXIS.spans) == ["dc", "podset", "tor"]
    assert AXIS.spans["dc"] == (Span("dc1", "dc1", 0, 4), Span("dc2", "dc2", 4, 5))
    assert AXIS.spans["tor"][1] == Span("dc1/p1/t2", "t2", 2, 3)


def test_a_host_is_found_by_its_name():
    assert AXIS.names == ("a1", "a2", "b1", "c1", "d1") and len(AXIS) == 5
    assert AXIS.position["c1"] == 3 and AXIS.host_type.categories.to_list() == list(AXIS.names)


def test_an_axis_without_hosts_has_no_groups():
    empty = HostAxis((), has_topology=False)
    assert empty.spans == {"dc": (), "podset": (), "tor": ()}
    assert empty.tor.tolist() == [] and empty.document()["hosts"] == ()


def test_the_document_says_where_each_group_stands():
    told = AXIS.document()
    assert (told["axis"], told["topology"], told["hosts"]) == (AXIS.id, True, AXIS.names)
    assert told["addresses"] == [host.address for host in HOSTS]
    assert told["podsets"][1] == {"name": "dc1/p2", "label": "p2", "start": 3, "stop": 4}
    assert [len(told[f"{kind}s"]) for kind in ("dc", "podset", "tor")] == [2, 3, 4]


def test_a_data_server_stands_where_the_host_of_its_address_does():
    place = {"host": "c1", "tor": "dc1/p2/t1", "podset": "dc1/p2", "dc": "dc1"}
    assert placement(HOSTS[3]) == place
    inventory = Inventory(HOSTS, True)
    assert place_of(LogServer("east", "10.0.0.4", "/log", "UTC"), inventory) == place
    assert place_of(LogServer("far", "10.9.9.9", "/log", "UTC"), inventory) == {}
