"""From an inventory to shards."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from pingmesh_tasks.errors import InventoryError, PinglistError
from pingmesh_tasks.pipeline.plan import Shard, plan_window, read_inventory
from pingmesh_tasks.pipeline.run import Part, load_run_inventory
from pingmesh_tasks.store import layout
from tests.pipeline.conftest import HOSTS, WINDOW
from tests.support.memory_store import contents


def names(run, part):
    return [host.name for host in Shard(run, part).hosts]


def test_the_shards_divide_the_hosts_in_their_order(new_run):
    run = new_run(shard_size=4)
    parts = plan_window(run)
    assert [part.shard for part in parts] == ["000-of-002", "001-of-002"]
    assert [names(run, part) for part in parts] == [HOSTS[:3], HOSTS[3:]]


@pytest.mark.parametrize(("size", "count"), [(1, 6), (5, 2), (6, 1), (100, 1)])
def test_no_shard_is_larger_than_the_shard_size(new_run, size, count):
    run = new_run(shard_size=size)
    parts = plan_window(run)
    assert len(parts) == count
    assert [name for part in parts for name in names(run, part)] == HOSTS
    assert max(len(names(run, part)) for part in parts) <= size


def test_a_part_survives_its_way_through_an_xcom(run):
    [part, _] = plan_window(run)
    assert Part(**part.document()) == part


def test_every_task_of_a_run_reads_the_inventory_that_was_planned(run, inventory_file):
    [part, _] = plan_window(run)
    planned = load_run_inventory(run)
    inventory_file.write_text("hosts: [{name: other, address: 10.9.9.9}, {name: next, address: 10.9.9.8}]\n")
    assert read_inventory(run, part).hosts == planned.hosts


def test_the_same_plan_twice_is_one_object(run, store):
    plan_window(run)
    first = contents(store)
    plan_window(run)
    assert contents(store) == first
    assert len(first) == 1


def test_only_hosts_narrows_what_is_touched_and_not_what_is_planned(run):
    [part, other] = plan_window(replace(run, only_hosts=("db-2",)))
    shard = Shard(replace(run, only_hosts=("db-2",)), part)
    assert [host.name for host in shard.chosen] == ["db-2"]
    assert [host.name for host in shard.hosts] == HOSTS[:3]
    untouched = Shard(replace(run, only_hosts=("db-2",)), other)
    assert untouched.chosen == []
    assert untouched.lists(untouched.chosen) == {}
    assert sorted(shard.lists(shard.chosen)) == ["db-2"]


def test_a_host_that_is_not_in_the_inventory_is_refused_before_anything_is_written(run, store):
    with pytest.raises(InventoryError, match="db-99"):
        plan_window(replace(run, only_hosts=("db-1", "db-99")))
    assert contents(store) == {}


def test_a_plan_over_the_budget_is_refused_before_anything_is_written(new_run, store):
    with pytest.raises(PinglistError, match="probes"):
        plan_window(new_run(budget_probes_per_s=1, interval_s=0.1, probe_timeout_s=0.1))
    assert contents(store) == {}


def test_parts_of_another_division_are_deleted_and_those_of_this_one_stay(run, store):
    gone = [layout.table(table, WINDOW, "000-of-003") for table in ("probe", "pair_latency", "host_status")]
    gone += [layout.table("host_status", WINDOW, "collect-002-of-003")]
    stays = [layout.table("pair_latency", WINDOW, "001-of-002"), layout.table("probe", WINDOW.shifted(1), "000-of-003")]
    for key in gone + stays:
        store.put(key, b"x")
    plan_window(run)
    left = contents(store)
    assert not set(gone) & set(left)
    assert set(stays) < set(left)


def test_the_settings_become_the_policy_of_the_ping_lists(new_run):
    policy = new_run(
        protocol="udp", payload_bytes=64, interval_s=20, probe_timeout_s=2, lease_s=1000, spool_max_mib=3,
        spool_keep_h=5, inter_dc_hosts_per_podset=4, max_peers_per_host=99, ring_peers=9, budget_probes_per_s=1234,
    ).policy  # fmt: skip
    assert (policy.protocol, policy.payload_bytes, policy.interval_s, policy.timeout_s) == ("udp", 64, 20, 2)
    assert (policy.window_s, policy.lease_s) == (300, 1000)
    assert (policy.spool_max_bytes, policy.spool_keep_s) == (3 * 2**20, 5 * 3600)
    assert (policy.inter_dc_hosts_per_podset, policy.max_peers_per_host) == (4, 99)
    assert (policy.ring_peers, policy.budget_probes_per_s) == (9, 1234)


def test_the_settings_bound_the_fan_out(new_run):
    limits = new_run(ssh_concurrency=11, ssh_timeout_s=12).limits
    assert (limits.concurrency, limits.host_timeout_s) == (11, 12)


def test_the_log_names_the_pool_that_must_exist(new_run, caplog):
    with caplog.at_level(logging.INFO):
        plan_window(new_run(ssh_pool="pingmesh_ssh"))
    assert "6 hosts in 2 shards; their tasks run in Airflow's pool 'pingmesh_ssh': `airflow pools list`" in caplog.text
