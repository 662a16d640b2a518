"""The plan: who probes whom follows from inventory and policy, and from nothing else."""

import hashlib
import json
import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import polars as pl
import pytest
from pingmesh_agent.limits import MAX_PROBES_PER_S, MAX_TARGETS
from pingmesh_agent.pinglist import parse_pinglist
from pingmesh_agent.probes import PROTOCOLS

from benchmarks.plan_pinglists import as_sets, fleet, plan_naively
from pingmesh_tasks.errors import ConfigError, InventoryError, PinglistError
from pingmesh_tasks.topology.inventory import Host, Inventory, canonical_json
from pingmesh_tasks.topology.pinglist import (
    AGENT_MAX_PROBES_PER_S,
    AGENT_MAX_TARGETS,
    ECHO_BYTES,
    PingList,
    PinglistPolicy,
    plan_document,
    plan_pinglists,
    plan_version,
    planned_pairs,
    read_plan,
    ring_offsets,
)


def uneven_fleet(seed: int) -> Inventory:
    """A random fleet: one to three DCs, podsets and ToRs of unequal sizes, ToR names that repeat."""
    dice = random.Random(seed)
    places = [
        (f"dc{dc}", f"p{podset}", f"t{tor}")
        for dc in range(dice.randint(1, 3))
        for podset in range(dice.randint(1, 3))
        for tor in range(dice.randint(1, 4))
        for _ in range(dice.randint(1, 6))
    ]
    hosts = [Host(f"h{i}", f"192.0.2.{i}", *place) for i, place in enumerate(places)]
    dice.shuffle(hosts)
    return Inventory(tuple(hosts), has_topology=True)


def flat_fleet(hosts: int) -> Inventory:
    return Inventory(tuple(Host(f"h{i}", f"10.0.{i >> 8}.{i & 255}") for i in range(hosts)))


def in_degree(lists: dict[str, PingList]) -> Counter[str]:
    return Counter(target.name for plan in lists.values() for target in plan.targets)


def peers(plan: PingList, scope: str) -> set[str]:
    return {target.name for target in plan.targets if target.scope == scope}


# --- three levels


@pytest.mark.parametrize("seed", range(40))
def test_the_plan_is_what_asking_every_pair_gives(seed):
    inventory = uneven_fleet(seed)
    policy = PinglistPolicy(inter_dc_hosts_per_podset=1 + seed % 3)
    assert as_sets(plan_pinglists(inventory, policy)) == plan_naively(inventory, policy)


@pytest.mark.parametrize("seed", range(20))
def test_nobody_probes_itself_or_a_peer_twice_and_nobody_is_left_out(seed):
    inventory = uneven_fleet(seed)
    lists = plan_pinglists(inventory)
    for name, plan in lists.items():
        names = [target.name for target in plan.targets]
        assert name not in names
        assert len(set(names)) == len(names)
    if len(inventory.hosts) > 1:
        assert set(in_degree(lists)) == set(lists)


def test_a_server_probes_its_whole_rack_and_its_namesake_in_every_other_rack_of_the_dc():
    lists = plan_pinglists(fleet(32, per_tor=4, tors_per_podset=2, podsets_per_dc=2))
    assert peers(lists["h1"], "intra_tor") == {"h0", "h2", "h3"}
    assert peers(lists["h1"], "intra_dc") == {"h5", "h9", "h13"}
    assert peers(lists["h5"], "intra_dc") == {"h1", "h9", "h13"}


def test_racks_of_equal_length_probe_each_other_in_pairs():
    lists = plan_pinglists(fleet(48, per_tor=4, tors_per_podset=3, podsets_per_dc=2))
    pairs = {(name, peer) for name, plan in lists.items() for peer in peers(plan, "intra_dc")}
    assert pairs == {(b, a) for a, b in pairs}


def test_every_server_of_a_long_rack_probes_a_short_rack_and_the_load_is_even():
    long = [Host(f"a{i}", f"192.0.2.{i}", tor="long") for i in range(7)]
    short = [Host(f"b{i}", f"192.0.2.{100 + i}", tor="short") for i in range(3)]
    lists = plan_pinglists(Inventory((*long, *short), has_topology=True))
    assert [peers(lists[f"a{i}"], "intra_dc") for i in range(7)] == [{f"b{i % 3}"} for i in range(7)]
    assert [peers(lists[f"b{i}"], "intra_dc") for i in range(3)] == [{f"a{i}"} for i in range(3)]


def test_between_dcs_some_hosts_of_each_podset_from_different_racks_probe_their_like():
    inventory = fleet(48, per_tor=4, tors_per_podset=3, podsets_per_dc=2)
    lists = plan_pinglists(inventory, PinglistPolicy(inter_dc_hosts_per_podset=2))
    across = {name: peers(plan, "inter_dc") for name, plan in lists.items() if peers(plan, "inter_dc")}
    assert set(across) == {"h0", "h4", "h12", "h16", "h24", "h28", "h36", "h40"}
    assert across["h0"] == {"h24", "h28", "h36", "h40"}
    assert across["h40"] == {"h0", "h4", "h12", "h16"}


def test_a_podset_smaller_than_the_choice_sends_all_it_has():
    hosts = (Host("a", "192.0.2.1", "x"), Host("b", "192.0.2.2", "y"))
    lists = plan_pinglists(Inventory(hosts, True), PinglistPolicy(inter_dc_hosts_per_podset=9))
    assert [(t.name, t.scope) for t in lists["a"].targets] == [("b", "inter_dc")]


# --- without topology


@pytest.mark.parametrize("hosts", [1, 2, 3, 20])
def test_without_topology_everyone_probes_everyone_while_it_fits(hosts):
    lists = plan_pinglists(flat_fleet(hosts))
    assert as_sets(lists) == plan_naively(flat_fleet(hosts))
    assert all(len(plan.targets) == hosts - 1 for plan in lists.values())


@pytest.mark.parametrize(
    "policy",
    [
        PinglistPolicy(max_peers_per_host=298, ring_peers=7),
        PinglistPolicy(budget_probes_per_s=8_969, ring_peers=7),
        PinglistPolicy(max_peers_per_host=7, ring_peers=50),
    ],
)
def test_beyond_the_budget_each_host_probes_k_peers_and_is_probed_by_exactly_k(policy):
    lists = plan_pinglists(flat_fleet(300), policy)
    assert {len(plan.targets) for plan in lists.values()} == {7}
    assert set(in_degree(lists).values()) == {7}
    assert all(name not in peers(plan, "intra_tor") for name, plan in lists.items())


def test_the_full_mesh_is_kept_to_the_last_host_that_fits():
    lists = plan_pinglists(flat_fleet(300), PinglistPolicy(max_peers_per_host=299, budget_probes_per_s=8_970))
    assert {len(plan.targets) for plan in lists.values()} == {299}


@pytest.mark.parametrize(
    ("hosts", "count"), [(2, 1), (3, 2), (10, 9), (101, 5), (500, 499), (2_502, 100), (100_000, 100)]
)
def test_ring_offsets_are_different_and_never_lead_home(hosts, count):
    offsets = ring_offsets(hosts, count)
    assert len(set(offsets)) == len(offsets) == count
    assert all(0 < offset < hosts for offset in offsets)


@pytest.mark.parametrize(("hosts", "count"), [(101, 5), (200, 7), (41_000, 100)])
def test_in_a_large_ring_two_hosts_share_at_most_one_peer(hosts, count):
    offsets = ring_offsets(hosts, count)
    apart = Counter((b - a) % hosts for a in offsets for b in offsets if a != b)
    assert max(apart.values()) == 1


def test_a_ring_cannot_have_more_peers_than_hosts():
    with pytest.raises(PinglistError, match="at most 4 peers"):
        ring_offsets(5, 5)


# --- what a plan may cost


def test_a_plan_over_the_budget_is_refused_with_the_figure_and_what_to_set():
    with pytest.raises(
        PinglistError, match=r"32 hosts would send 32 probes/s \(320 pairs every 10 s\).*interval_s to 32"
    ):
        plan_pinglists(
            fleet(32, per_tor=2, tors_per_podset=2, podsets_per_dc=2), PinglistPolicy(budget_probes_per_s=10)
        )


def test_what_the_refusal_advises_is_enough():
    inventory, tight = flat_fleet(300), PinglistPolicy(budget_probes_per_s=100, ring_peers=50)
    with pytest.raises(PinglistError, match="set interval_s to 150, ring_peers to 3"):
        plan_pinglists(inventory, tight)
    plan_pinglists(inventory, replace(tight, interval_s=150))
    plan_pinglists(inventory, replace(tight, ring_peers=3))


@pytest.mark.parametrize(
    ("inventory", "policy", "advice"),
    [
        (fleet(50, per_tor=50), PinglistPolicy(max_peers_per_host=48), "49 intra_tor.*its ToR is too big"),
        (fleet(40, per_tor=2), PinglistPolicy(max_peers_per_host=15), "19 intra_dc.*split the inventory by DC"),
        (
            fleet(60, per_tor=5, tors_per_podset=1, podsets_per_dc=6),
            PinglistPolicy(max_peers_per_host=20, inter_dc_hosts_per_podset=5),
            "30 inter_dc.*fewer inter_dc_hosts_per_podset",
        ),
    ],
)
def test_a_host_with_too_many_peers_is_refused_with_the_level_that_costs(inventory, policy, advice):
    with pytest.raises(PinglistError, match=advice):
        plan_pinglists(inventory, policy)


def test_a_host_is_never_told_to_send_more_than_its_agent_does():
    quick = PinglistPolicy(interval_s=0.1, timeout_s=0.1, ring_peers=30)
    with pytest.raises(
        PinglistError, match=r"119 peers every 0\.1 s, an agent sends at most 1000 probes/s; set interval_s to 1"
    ):
        plan_pinglists(fleet(120, per_tor=120), quick)
    assert {len(plan.targets) for plan in plan_pinglists(flat_fleet(101), quick).values()} == {100}
    assert {len(plan.targets) for plan in plan_pinglists(flat_fleet(102), quick).values()} == {30}


def test_the_cost_is_checked_for_the_whole_fleet_even_if_one_source_is_asked_for():
    with pytest.raises(PinglistError):
        plan_pinglists(fleet(32, per_tor=2), PinglistPolicy(budget_probes_per_s=10), sources=["h0"])


# --- the policy


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"protocol": "icmp"}, "protocol 'icmp' is none of tcp, tcp_echo, udp"),
        ({"payload_bytes": 64}, "does not go with a probe that only connects"),
        ({"protocol": "udp", "payload_bytes": 1_401}, "is not in 16 … 1400"),
        ({"protocol": "tcp_echo", "payload_bytes": 15}, "is not in 16 … 65535"),
        ({"protocol": "tcp_echo", "payload_bytes": -1}, "is not in 16 … 65535"),
        ({"interval_s": 0}, "interval_s 0.0 is not in 0.05"),
        ({"interval_s": float("nan")}, "interval_s nan is not in 0.05"),
        ({"timeout_s": 11}, "is not in 0.05 … 10"),
        ({"window_s": 5}, "a window would have no probe"),
        ({"window_s": 900}, "agents would stop between two runs; write 2700"),
        ({"spool_keep_s": 60}, "before they are collected"),
        ({"ring_peers": 0}, "ring_peers 0 is less than 1"),
        ({"max_peers_per_host": 70_000}, "is not in 1 … 20000"),
    ],
)
def test_a_policy_that_cannot_work_is_refused(wrong, told):
    with pytest.raises(ConfigError, match=told):
        PinglistPolicy(**wrong)


def test_all_faults_of_a_policy_are_told_together():
    with pytest.raises(ConfigError, match=r"protocol.*timeout_s.*ring_peers"):
        PinglistPolicy(protocol="x", timeout_s=0, ring_peers=0)


@pytest.mark.parametrize(
    ("protocol", "given", "sent"), [("tcp", 0, 0), ("tcp_echo", 0, 64), ("udp", 0, 64), ("udp", 1_400, 1_400)]
)
def test_an_echo_probe_always_has_a_payload(protocol, given, sent):
    lists = plan_pinglists(flat_fleet(2), PinglistPolicy(protocol=protocol, payload_bytes=given))
    assert [(t.protocol, t.payload_bytes) for t in lists["h0"].targets] == [(protocol, sent)]


# --- one plan everywhere


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_the_inventory_does_not_matter(seed):
    hosts = list(uneven_fleet(seed).hosts)
    plans = []
    for _ in range(3):
        random.Random(len(plans)).shuffle(hosts)
        inventory = Inventory(tuple(hosts), True)
        plans.append((plan_version(inventory), {n: p.document() for n, p in plan_pinglists(inventory).items()}))
    assert all(a == b for a, b in pairwise(plans))


@pytest.mark.parametrize("inventory", [fleet(60, per_tor=5, tors_per_podset=3, podsets_per_dc=2), flat_fleet(40)])
@pytest.mark.parametrize("policy", [PinglistPolicy(), PinglistPolicy(max_peers_per_host=30, ring_peers=5)])
def test_the_lists_of_some_sources_are_those_of_the_whole_plan(inventory, policy):
    whole = plan_pinglists(inventory, policy)
    some = plan_pinglists(inventory, policy, sources=["h31", "h2"])
    assert some == {name: whole[name] for name in ("h2", "h31")}
    with pytest.raises(InventoryError, match="no host 'h99'"):
        plan_pinglists(inventory, policy, sources=["h99"])


def test_a_target_is_one_object_in_all_lists():
    lists = plan_pinglists(flat_fleet(50))
    assert len({id(target) for plan in lists.values() for target in plan.targets}) == 50


def test_adding_a_rack_leaves_the_lists_of_other_dcs_alone():
    inventory = fleet(48, per_tor=4, tors_per_podset=3, podsets_per_dc=2)
    new = tuple(Host(f"new{i}", f"10.9.9.{i}", "dc0", "p0", "t9") for i in range(4))
    before, after = plan_pinglists(inventory), plan_pinglists(Inventory(inventory.hosts + new, True))
    changed = {name for name, plan in before.items() if plan.version != after[name].version}
    assert changed == {host.name for host in inventory.hosts if host.dc == "dc0"}


def test_a_change_that_is_not_in_a_list_leaves_its_version():
    hosts = fleet(8, per_tor=4).hosts
    moved = [replace(host, ssh_port=2222, ssh_user="me", labels={"a": "b"}) for host in hosts]
    before, after = plan_pinglists(Inventory(hosts, True)), plan_pinglists(Inventory(tuple(moved), True))
    assert {n: p.version for n, p in before.items()} == {n: p.version for n, p in after.items()}


@pytest.mark.parametrize("change", [{"address": "192.0.2.99"}, {"probe_port": 9_000}])
def test_a_host_that_moves_changes_its_own_list_and_those_that_probe_it(change):
    hosts = list(fleet(40, per_tor=4).hosts)
    before = plan_pinglists(Inventory(tuple(hosts), True))
    hosts[0] = replace(hosts[0], **change)
    after = plan_pinglists(Inventory(tuple(hosts), True))
    changed = {name for name, plan in before.items() if plan.version != after[name].version}
    assert changed == {"h0"} | {name for name, plan in before.items() if "h0" in {t.name for t in plan.targets}}


# --- what is stored and what is sent


def test_the_document_of_a_list_is_canonical_and_its_version_is_the_hash_of_the_rest():
    plan = plan_pinglists(fleet(48, per_tor=4, tors_per_podset=3, podsets_per_dc=2))["h0"]
    document = json.loads(plan.document())
    assert plan.document() == canonical_json(document)
    version = document.pop("version")
    assert version == plan.version == hashlib.sha256(canonical_json(document)).hexdigest()[:16]
    assert document["targets"][0] == ["h1", "10.0.0.1", 8765, "tcp", "intra_tor", 0]
    assert len(document["targets"]) == len(plan.targets)
    assert set(document) == {
        "host", "address", "probe_port", "interval_s", "window_s", "timeout_s", "lease_s", "spool_max_bytes",
        "spool_keep_s", "targets",
    }  # fmt: skip


@pytest.mark.parametrize("payload_bytes", [0, 16, 1_400])
@pytest.mark.parametrize("protocol", ["tcp", "tcp_echo", "udp"])
def test_the_agent_understands_the_document_and_sends_what_it_says(protocol, payload_bytes):
    policy = PinglistPolicy(protocol=protocol, payload_bytes=0 if protocol == "tcp" else payload_bytes)
    plan = plan_pinglists(flat_fleet(3), policy)["h1"]
    told = parse_pinglist(plan.document())
    assert (told.host, told.version, told.interval_s, told.port) == ("h1", plan.version, 10.0, 8765)
    assert (told.timeout_s, told.lease_s, told.spool_max_bytes, told.spool_keep_s) == (3.0, 900, 2**28, 86_400)
    assert [target.entry for target in told.targets] == json.loads(plan.document())["targets"]


def test_our_bounds_are_those_of_the_agent():
    assert MAX_TARGETS == AGENT_MAX_TARGETS
    assert MAX_PROBES_PER_S == AGENT_MAX_PROBES_PER_S
    for protocol, (least, most) in ECHO_BYTES.items():
        low, high = PROTOCOLS[protocol].sizes
        assert (least, most) == (low, min(high, 65_535)), protocol  # a length has 16 bits in the tables


def test_the_version_of_a_list_stays_over_releases():
    assert plan_pinglists(flat_fleet(3))["h0"].version == "77ff41ea6a16d0bd"


def test_a_stored_plan_gives_the_same_lists():
    inventory, policy = uneven_fleet(3), PinglistPolicy(protocol="udp", interval_s=20)
    document = plan_document(inventory, policy)
    again = read_plan(document)
    assert again == (inventory, policy)
    assert plan_document(*again) == document
    assert plan_version(*again) == hashlib.sha256(document).hexdigest()[:16]
    assert plan_pinglists(*again) == plan_pinglists(inventory, policy)


def test_a_plan_of_ten_and_of_ten_point_zero_seconds_is_one_plan():
    assert plan_version(flat_fleet(2), PinglistPolicy(interval_s=10)) == plan_version(flat_fleet(2))


@pytest.mark.parametrize(
    "damage",
    [
        lambda plan: b"",
        lambda plan: b"[]",
        lambda plan: b"\xff",
        lambda plan: plan[:-20],
        lambda plan: plan.replace(b'"v":1', b'"v":2'),
        lambda plan: plan.replace(b'"h1"', b'"../h1"'),
        lambda plan: plan.replace(b'"ring_peers"', b'"ring_pears"'),
        lambda plan: plan.replace(b'"timeout_s":3.0', b'"timeout_s":-3.0'),
    ],
)
def test_bytes_that_are_no_plan_are_refused(damage):
    with pytest.raises(PinglistError, match="this is no plan of format 1"):
        read_plan(damage(plan_document(flat_fleet(3))))


# --- pairs


def test_planned_pairs_has_a_row_for_every_target():
    lists = plan_pinglists(uneven_fleet(7))
    pairs = planned_pairs(lists)
    assert pairs.rows() == [
        (name, t.name, t.protocol, t.scope, plan.address, t.address, t.port)
        for name, plan in lists.items()
        for t in plan.targets
    ]
    assert pairs.schema["dst_port"] == pl.UInt16
    assert pairs.columns == ["src", "dst", "protocol", "scope", "src_ip", "dst_ip", "dst_port"]


@pytest.mark.parametrize("lists", [{}, plan_pinglists(flat_fleet(1))])
def test_no_pairs_is_an_empty_frame_of_the_same_shape(lists):
    pairs = planned_pairs(lists)
    assert pairs.height == 0
    assert pairs.schema == planned_pairs(plan_pinglists(flat_fleet(2))).schema


def test_a_host_without_targets_has_no_row_beside_those_that_have():
    lists = plan_pinglists(flat_fleet(3))
    lists["h1"] = replace(lists["h1"], targets=())
    assert planned_pairs(lists)["src"].unique().sort().to_list() == ["h0", "h2"]
