"""The inventory: three formats, one set of rules, every fault told at once."""

import json
import random
from pathlib import Path

import pytest

from pingmesh_tasks.errors import InventoryError
from pingmesh_tasks.topology.inventory import (
    Host,
    Inventory,
    LogServer,
    canonical_json,
    load_inventory,
    natural_key,
    parse_inventory,
)

EXAMPLES = Path(__file__).parents[2] / "include" / "inventories"


def faults_of(text: str, location: str) -> tuple[str, ...]:
    with pytest.raises(InventoryError) as caught:
        parse_inventory(text, location)
    assert caught.value.location == location
    return caught.value.faults


def fault_of(text: str, location: str) -> str:
    (fault,) = faults_of(text, location)
    return fault


# --- what is read


def test_a_list_of_addresses_is_an_inventory_without_topology():
    inventory = parse_inventory("# servers\n192.0.2.10\n\n  192.0.2.9  # the old one\n", "pinglist.txt")
    assert [(host.name, host.address) for host in inventory.hosts] == [("192.0.2.9",) * 2, ("192.0.2.10",) * 2]
    assert len({host.tor_key for host in inventory.hosts}) == 1
    assert not inventory.has_topology


def test_a_host_listed_by_its_ipv6_address_is_called_by_it_with_dashes():
    names = {host.name for host in parse_inventory("2001:DB8::0:1\n::1\n", "p.txt").hosts}
    assert names == {"2001-db8--1", "0--1"}


def test_a_csv_gives_every_field_and_an_empty_cell_means_the_default():
    header = "name,address,dc,podset,tor,ssh_port,ssh_user,probe_port,labels\n"
    rows = "a,192.0.2.1,x,p,t,2222,me,9000,k=v;l=w\nb,192.0.2.2,x,p,t,,,,\n"
    a, b = parse_inventory(header + rows, "hosts.csv").hosts
    assert a == Host("a", "192.0.2.1", "x", "p", "t", 2222, "me", 9000)
    assert dict(a.labels) == {"k": "v", "l": "w"}
    assert b == Host("b", "192.0.2.2", "x", "p", "t")


def test_yaml_text_is_what_it_looks_like():
    text = """
hosts:
- {name: no, address: 192.0.2.1, tor: 1}
- {name: 007, address: 192.0.2.2, tor: 1e3}
- {name: 2026-11-21, address: 192.0.2.3, tor: 0x10}
"""
    hosts = parse_inventory(text, "hosts.yml").hosts
    assert {(host.name, host.tor) for host in hosts} == {("no", "1"), ("007", "1e3"), ("2026-11-21", "0x10")}


def test_yaml_lists_the_data_servers_too():
    text = """
hosts: [{name: a, address: 192.0.2.1}]
log_servers:
  - {name: east-1, address: 192.0.2.9, path: /var/log/mdsip/access.log, timezone: Asia/Shanghai}
"""
    inventory = parse_inventory(text, "i.yaml")
    assert inventory.log_servers == (
        LogServer("east-1", "192.0.2.9", "/var/log/mdsip/access.log", "Asia/Shanghai", "mdsip"),
    )


@pytest.mark.parametrize("name", ["pinglist.txt", "example.csv", "example.yaml"])
def test_the_examples_can_be_read(name):
    inventory = load_inventory(str(EXAMPLES / name))
    assert inventory.hosts
    assert inventory.has_topology == (name != "pinglist.txt")
    assert bool(inventory.log_servers) == (name == "example.yaml")


@pytest.mark.parametrize(
    "dressed",
    [
        pytest.param("\ufeffname,address\r\na,192.0.2.1\r\n", id="Windows, with BOM"),
        pytest.param("name,address\ra,192.0.2.1\r", id="old Macintosh"),
        pytest.param('"Name","Address"\n"a","192.0.2.1"\n', id="every cell quoted"),
        pytest.param("name;address\na;192.0.2.1\n", id="semicolons"),
        pytest.param("name\taddress\na\t192.0.2.1\n", id="tabs"),
        pytest.param("name,address\na,192.0.2.1,,\n,,,\n", id="padded with empty cells"),
        pytest.param(" name , address \n a , 192.0.2.1 ", id="spaces, no end of line"),
    ],
)
def test_what_a_spreadsheet_saves_is_read(dressed):
    assert parse_inventory(dressed, "hosts.csv").hosts == (Host("a", "192.0.2.1"),)


def test_hosts_are_sorted_by_place_and_name_with_numbers_as_numbers():
    hosts = [Host(f"n{i}", f"192.0.2.{i}", tor=f"t{i % 3 + 9}") for i in range(1, 25)]
    random.Random(1).shuffle(hosts)
    ordered = Inventory(tuple(hosts)).hosts
    assert [(h.tor, h.name) for h in ordered[:3]] == [("t9", "n3"), ("t9", "n6"), ("t9", "n9")]
    assert [h.tor for h in ordered] == ["t9"] * 8 + ["t10"] * 8 + ["t11"] * 8


def test_natural_order_does_not_depend_on_case_yet_is_total():
    assert sorted(["b10", "B9", "a", "b9", "10", "9"], key=natural_key) == ["9", "10", "a", "B9", "b9", "b10"]


# --- what is refused: where, what, and what to write instead


def test_every_fault_is_told_at_once_in_the_order_of_lines():
    text = "name,address,rack,ssh_port\nbad name,192.0.2.1,r,22\na,192.0.2.300,r,0\na,192.0.2.1,r\n,192.0.2.4,r,x\n"
    faults = faults_of(text, "hosts.csv")
    assert [fault.partition(":")[0] for fault in faults] == [
        "line 1",
        "line 2",
        "line 3",
        "line 3",
        "line 4",
        "line 5",
        "line 5",
    ]
    assert "unknown column 'rack'" in faults[0]
    assert "for example 'bad-name'" in faults[1]


def test_a_misspelt_column_or_field_gets_a_suggestion():
    assert (
        fault_of("name,address,adress\na,192.0.2.1,x\n", "h.csv")
        == "line 1: unknown column 'adress'; did you mean 'address'?"
    )
    fault = fault_of("hosts:\n- name: a\n  address: 192.0.2.1\n  podste: x\n", "h.yaml")
    assert fault == "line 4: unknown field 'podste'; did you mean 'podset'?"


@pytest.mark.parametrize(
    ("address", "hint"),
    [
        ("server.example.org", "getent hosts server.example.org"),
        ("192.0.2.0/24", "write the host's address alone, '192.0.2.0'"),
        ("192.0.2.1:22", "a port has its own field; write '192.0.2.1'"),
        ("192.0.2.010", "leading zeros may mean octal; write '192.0.2.10'"),
        ("192.0.2.256", "0 to 255"),
        ("[2001:db8::1]", "write '2001:db8::1'"),
        ("fe80::1%eth0", "another interface on every host"),
        ("0.0.0.0", "not the address of one host"),
        ("224.0.0.1", "not the address of one host"),
        ("255.255.255.255", "not the address of one host"),
        ("$(reboot)", "getent hosts NAME"),
        ("1", "write four numbers"),
        ("١٩٢.0.2.1", "write four numbers"),
    ],
)
def test_a_bad_address_is_told_why_it_is_bad(address, hint):
    fault = fault_of(f"{address}\n", "pinglist.txt")
    assert fault.startswith("line 1: address ")
    assert hint in fault


@pytest.mark.parametrize("name", ["a b", "-rf", ".hidden", "a/../../b", "$(id)", "a;b", "ä", "x" * 64, "a\tb", "a'b"])
def test_a_name_that_is_no_file_name_or_no_word_of_a_command_is_refused(name):
    fault = fault_of("hosts:\n- address: 192.0.2.1\n  name: " + json.dumps(name), "h.yaml")
    assert fault.startswith("line 3: name ")
    assert "is no name; write" in fault


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("ssh_port", "65536", "from 1 to 65535"),
        ("ssh_port", "0", "from 1 to 65535"),
        ("ssh_port", "22.0", "from 1 to 65535"),
        ("ssh_port", "²", "from 1 to 65535"),
        ("probe_port", "443", "no root; write one from 1024"),
        ("ssh_user", "-oProxyCommand=id", "is no user name"),
        ("ssh_user", "a b", "is no user name"),
        ("tor", "rack 1", "for example 'rack-1'"),
        ("labels", "rack", "write key=value"),
        ("labels", "a=1;a=2", "has a label twice"),
    ],
)
def test_a_bad_value_is_refused_with_the_rule(field, value, reason):
    fault = fault_of(f"name,address,{field}\na,192.0.2.1,{value}\n", "h.csv")
    assert fault.startswith(f"line 2: {field} {value!r} ")
    assert reason in fault


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("a,192.0.2.1\na,192.0.2.2\n", "name 'a' is on line 2 already"),
        ("a,192.0.2.1\nA,192.0.2.2\n", "name 'A', which differs only by case from 'a', is on line 2 already"),
        ("a,192.0.2.1\nb,192.0.2.1\n", "address '192.0.2.1' is on line 2 already"),
        ("a,2001:db8::1\nb,2001:DB8:0::0001\n", "address '2001:db8::1' is on line 2 already"),
        ("a,192.0.2.1\nb,::ffff:192.0.2.1\n", "address '192.0.2.1' is on line 2 already"),
    ],
)
def test_two_hosts_of_one_name_or_address_are_refused(rows, told):
    assert told in fault_of("name,address\n" + rows, "h.csv")


def test_one_address_written_twice_is_one_fault_in_a_plain_list():
    assert fault_of("192.0.2.1\n192.0.2.2\n192.0.2.1\n", "p.txt").startswith("line 3: address '192.0.2.1' is on line 1")


def test_the_rest_is_still_checked_beside_a_duplicate():
    assert len(faults_of("192.0.2.1\n192.0.2.1\nwhat\n", "p.txt")) == 2


def test_a_place_that_only_some_hosts_have_is_refused():
    fault = fault_of("name,address,tor\na,192.0.2.1,t\nb,192.0.2.2,\n", "h.csv")
    assert fault.startswith("line 3: has no tor, other hosts have one")


def test_a_mesh_of_two_address_families_is_refused_at_the_fewer():
    fault = fault_of("192.0.2.1\n192.0.2.2\n2001:db8::1\n", "p.txt")
    assert fault.startswith("line 3: address '2001:db8::1' is IPv6, most hosts have IPv4")


def test_probes_and_ssh_do_not_share_a_port():
    assert "share port 8765" in fault_of("name,address,ssh_port\na,192.0.2.1,8765\n", "h.csv")


@pytest.mark.parametrize(
    ("text", "location", "told"),
    [
        ("", "h.csv", "is empty"),
        ("\ufeff \n\n", "h.txt", "is empty"),
        ("# nobody yet\n", "h.txt", "line 1: has no host"),
        ("name,address\n", "h.csv", "line 1: has no host"),
        ("hosts: []\n", "h.yaml", "line 1: has no host"),
        ("hosts:\n", "h.yaml", "line 1: has no host"),
        ("192.0.2.1\n", "hosts", "its ending tells no format; name it .txt"),
        ("192.0.2.1\n", "v1.csv/hosts.json", "its ending tells no format"),
        ("192.0.2.1\n192.0.2\0.2\n", "h.txt", "line 2: has a NUL byte"),
        ("192.0.2.1 server\n", "h.txt", "line 1: has 2 words; write one address a line"),
        ("a,192.0.2.1\n", "h.csv", "column 'name' is missing"),
        ("name,address,name\na,192.0.2.1,b\n", "h.csv", "line 1: column 'name' is there twice"),
        ("name,address\na,192.0.2.1\nb\n", "h.csv", "line 3: has 1 cells, the header 2"),
        ("name,address\na,192.0.2.1,x\n", "h.csv", "line 2: has 3 cells, the header 2"),
        ('name,address\na,"192.0.2.1\n', "h.csv", "line 2: is no CSV"),
        ('name,address\n"a"b,192.0.2.1\n', "h.csv", "line 2: is no CSV"),
        ("- name: a\n", "h.yaml", "line 1: is no mapping; write 'hosts:'"),
        ("hosts:\n  a: 192.0.2.1\n", "h.yaml", "line 2: hosts is no list"),
        ("hosts:\n- 192.0.2.1\n", "h.yaml", "line 2: is no mapping; write '- name: …'"),
        ("hostes:\n- {name: a, address: 192.0.2.1}\n", "h.yaml", "did you mean 'hosts'?"),
        ("hosts:\n- {name: a, name: b, address: 192.0.2.1}\n", "h.yaml", "line 2: 'name' is there twice"),
        ("hosts:\n- {name: [a], address: 192.0.2.1}\n", "h.yaml", "line 2: 'seq' is no plain value"),
        ("hosts:\n- {name: !!binary YQ==, address: 192.0.2.1}\n", "h.yaml", "'binary' is no plain value"),
        ("hosts:\n- {name: {a: b}, address: 192.0.2.1}\n", "h.yaml", "is a mapping; write one value"),
        ("hosts:\n- {[a]: b, name: a, address: 192.0.2.1}\n", "h.yaml", "line 2: has a key that is no text"),
        ("hosts:\n- name: a\n   address: x\n", "h.yaml", "line 3: is not valid YAML"),
        ("hosts:\n- name: 'a\n", "h.yaml", "is not valid YAML"),
        ("hosts: []\n---\nhosts: []\n", "h.yaml", "line 2: starts a second document"),
        ("hosts: [{name: \x07, address: 192.0.2.1}]\n", "h.yaml", "is not valid YAML"),
        ("a: &a [x]\nhosts: *a\n", "h.yaml", "line 2: has the alias '*a'; write the values out"),
        ("[" * 5_000, "h.yaml", "is nested deeper than 6 levels"),
    ],
)
def test_a_broken_file_is_refused_with_what_to_do(text, location, told):
    faults = faults_of(text, location)
    assert any(told in fault for fault in faults), faults


def test_a_bomb_of_aliases_is_refused_before_it_is_built():
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60))
    assert "line 2: has the alias '*a0'" in faults_of(bomb + "hosts: *a59\n", "h.yaml")[0]


def test_a_data_server_needs_a_zone_that_exists():
    text = """
hosts: [{name: a, address: 192.0.2.1}]
log_servers:
- {name: s, address: 192.0.2.2, path: /l, timezone: Asia/Shangai}
- {name: S, address: 192.0.2.2, path: log, format: nginx}
"""
    faults = faults_of(text, "i.yaml")
    assert faults[0].startswith("line 4: timezone 'Asia/Shangai' is no IANA time zone; did you mean 'Asia/Shanghai'")
    assert [fault for fault in faults if "timezone is missing" in fault]
    assert [fault for fault in faults if "write an absolute path" in fault]
    assert [fault for fault in faults if "write mdsip" in fault]
    assert [fault for fault in faults if "differs only by case from 's'" in fault]


@pytest.mark.parametrize("zone", ["../etc/passwd", "/etc/localtime", "", "UTC\0"])
def test_a_zone_is_a_name_and_no_path(zone):
    server = f"{{name: s, address: 192.0.2.2, path: /l, timezone: {json.dumps(zone)}}}"
    text = f"hosts: [{{name: a, address: 192.0.2.1}}]\nlog_servers: [{server}]\n"
    assert "timezone" in fault_of(text, "i.yaml")


def data_server(**fields: object) -> str:
    """An inventory whose one data server has these fields besides those it must have."""
    server = {"name": "s", "address": "192.0.2.2", "path": "/l", "timezone": "UTC"} | fields
    return json.dumps({"hosts": [{"name": "a", "address": "192.0.2.1"}], "log_servers": [server]})


def test_a_data_server_may_say_how_to_reach_it_what_to_drop_and_where_its_users_are():
    text = """
hosts: [{name: a, address: 192.0.2.1}]
log_servers:
- name: s
  address: 192.0.2.2
  path: /var/log/mdsip/access.log
  errors_path: /var/log/mdsip/errors.log
  timezone: Asia/Shanghai
  ssh_port: 2200
  ssh_user: logs
  drop:
  - 'from monitor@'
  - 'tree=TEST, '
  countries:
    198.51.100.0/24: de
    2001:DB8:0::/32: NO
"""
    (server,) = parse_inventory(text, "i.yaml").log_servers
    assert (server.ssh_port, server.ssh_user) == (2200, "logs")
    assert server.errors_path == "/var/log/mdsip/errors.log"
    assert server.drop == ("from monitor@", "tree=TEST, ")
    assert server.countries == {"198.51.100.0/24": "DE", "2001:db8::/32": "NO"}


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("errors_path", "errors.log", "write an absolute path"),
        ("ssh_port", "0", "from 1 to 65535"),
        ("ssh_user", "-o", "is no user name"),
        ("drop", "monitor", "is no list of texts; write one '- …' for each"),
        ("drop", [{"a": "b"}], "is no list of texts"),
        ("drop", ["["], "has the pattern '[', which is no regular expression (unclosed character class)"),
        ("drop", ["(?=x)"], "look-around"),
        ("drop", ["ok", ".*"], "has the pattern '.*', which drops every line"),
        ("drop", ["ok", ""], "has a pattern of 0 characters"),
        ("drop", ["x" * 1_001], "has a pattern of 1001 characters; write 1 to 1000"),
        ("countries", "DE", "is one value; write a mapping"),
        ("countries", ["DE"], "'seq' is no plain value"),
        ("countries", {"198.51.100.1/24": "DE"}, "its host bits are set; write '198.51.100.0/24'"),
        ("countries", {"198.51.100.0/33": "DE"}, "write an address and a prefix length"),
        ("countries", {"everywhere": "DE"}, "write an address and a prefix length"),
        ("countries", {"198.51.100.0/24": "Germany"}, "write its ISO 3166 code of two letters"),
        ("countries", {"2001:db8::/32": "DE", "2001:DB8::/32": "FR"}, "has the network '2001:db8::/32' twice"),
        ("path", ["/l"], "'seq' is no plain value"),
        ("path", {"a": "/l"}, "is a mapping; write one value"),
    ],
)
def test_what_a_data_server_may_not_say_is_refused_with_the_rule(field, value, told):
    assert any(told in fault for fault in faults_of(data_server(**{field: value}), "i.yaml"))


def test_a_data_server_survives_being_stored_and_is_checked_again():
    fields = {"drop": ["a b ", "c"], "countries": {"10.0.0.0/8": "CN"}, "errors_path": "/e", "ssh_port": "2200"}
    inventory = parse_inventory(data_server(**fields), "i.yaml")
    document = json.loads(canonical_json(inventory.to_document()))
    assert Inventory.from_document(document) == inventory
    assert hash(inventory.log_servers[0]) == hash(Inventory.from_document(document).log_servers[0])
    document["log_servers"][0]["drop"] = ["("]
    with pytest.raises(InventoryError, match=r"entry 1: drop .*unclosed group"):
        Inventory.from_document(document)
    document["log_servers"][0]["drop"] = "abc"
    with pytest.raises(InventoryError, match="entry 1: drop 'abc' is one value; write a list"):
        Inventory.from_document(document)


def test_a_file_full_of_faults_is_told_in_a_bounded_message():
    faults = faults_of("x\n" * 3_000, "p.txt")
    assert len(faults) == 1_001
    assert faults[-1] == "and 2000 more; mend these first"


# --- files and objects


def test_a_missing_file_is_told_with_the_folder_it_was_looked_for_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InventoryError, match=f"hosts.csv: 1 fault\n.*no such file in {tmp_path}"):
        load_inventory("hosts.csv")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"192.0.2.1\n\xff192.0.2.2\n", "line 2: byte 0xff is not UTF-8"),
        ("192.0.2.1\n".encode("utf-16"), "save it as 'CSV UTF-8'"),
        (b"#" * (64 * 2**20 + 1), "is bigger than 64 MiB"),
    ],
)
def test_bytes_that_are_no_text_are_refused(tmp_path, data, told):
    (tmp_path / "p.txt").write_bytes(data)
    with pytest.raises(InventoryError, match=told):
        load_inventory(str(tmp_path / "p.txt"))


def test_a_folder_is_no_inventory(tmp_path):
    with pytest.raises(InventoryError, match="cannot be read"):
        load_inventory(str(tmp_path))


def test_an_object_is_read_by_the_reader_that_is_given():
    read = {"s3://fleet/hosts.csv": b"name,address\na,192.0.2.1\n"}.__getitem__
    assert load_inventory("s3://fleet/hosts.csv", read=read).hosts == (Host("a", "192.0.2.1"),)


@pytest.mark.parametrize("location", ["s3://fleet/hosts.csv", "https://example.org/hosts.csv"])
def test_an_object_without_a_reader_is_refused(location):
    with pytest.raises(InventoryError, match=r"pass read=|only paths and s3:// URIs"):
        load_inventory(location)


# --- the value


@pytest.fixture
def fleet() -> Inventory:
    return load_inventory(str(EXAMPLES / "example.yaml"))


def test_a_host_is_found_by_name_and_an_unknown_one_gets_suggestions(fleet):
    assert fleet.host("web-1").address == "192.0.2.11"
    with pytest.raises(InventoryError, match="no host 'web-3'; did you mean 'web-"):
        fleet.host("web-3")


def test_a_subset_lists_every_unknown_name(fleet):
    assert [host.name for host in fleet.subset(["web-2", "store-1", "web-2"]).hosts] == ["web-2", "store-1"]
    with pytest.raises(InventoryError) as caught:
        fleet.subset(["web-1", "Store-1", "zzz"])
    assert caught.value.faults == (
        "there is no host 'Store-1'; did you mean 'store-1'?",
        "there is no host 'zzz'; it has web-1, web-2, store-1, …",
    )
    with pytest.raises(InventoryError, match="name at least one"):
        fleet.subset([])


@pytest.mark.parametrize("name", ["pinglist.txt", "example.csv", "example.yaml"])
def test_an_inventory_survives_being_stored(name):
    inventory = load_inventory(str(EXAMPLES / name))
    again = Inventory.from_document(json.loads(canonical_json(inventory.to_document())))
    assert again == inventory
    assert [dict(host.labels) for host in again.hosts] == [dict(host.labels) for host in inventory.hosts]
    assert canonical_json(again.to_document()) == canonical_json(inventory.to_document())


def test_a_stored_inventory_is_checked_like_one_written_by_hand(fleet):
    document = fleet.to_document()
    document["hosts"][1]["name"] = "../../etc"
    with pytest.raises(InventoryError, match=r"entry 2: name '\.\./\.\./etc' is no name"):
        Inventory.from_document(document)
    with pytest.raises(InventoryError, match="is no inventory document"):
        Inventory.from_document({"hosts": 3})
