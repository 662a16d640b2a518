"""The stages of a window of the mesh, on hosts that are played."""

from __future__ import annotations

import json
from dataclasses import replace

import polars as pl
import pytest

from pingmesh_tasks.errors import FleetError, StoreError
from pingmesh_tasks.pipeline import mesh
from pingmesh_tasks.pipeline.plan import plan_window
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.tables import read_table
from tests.pipeline.conftest import HOSTS, WINDOW
from tests.support.memory_store import contents
from tests.support.segments import forged_chunk, header, packed, segment

START_US = int(WINDOW.start.timestamp() * 1_000_000)


@pytest.fixture
def parts(run, fleet):
    """Both shards; every host has a segment of ten probes to each of its peers."""
    for number, name in enumerate(HOSTS, 1):
        fleet.segments[name] = segment_of(name, number)
    return plan_window(run)


def segment_of(name: str, number: int, rtt_us: int = 100) -> bytes:
    peers = [(peer, f"10.0.0.{i}") for i, peer in enumerate(HOSTS, 1) if peer != name]
    table = [[peer, address, 8765, "tcp", "intra_tor", 0] for peer, address in peers]
    rows = [(i * 1000, i % 5, rtt_us + i, 40_000, 0, 0) for i in range(50)]
    return segment([rows], table, host=name, ip=f"10.0.0.{number}", start_us=START_US)


def all_stages(run, parts):
    for part in parts:
        mesh.ensure_keys(run, part)
        mesh.dispatch_agents(run, part)
        mesh.collect_segments(run, part)
        mesh.build_probe_table(run, part)
        mesh.summarize_latency(run, part)


def outcomes(store, stage):
    status = read_table(store, "host_status", WINDOW).filter(pl.col("stage") == stage)
    assert set(status["window"]) == {WINDOW.start}
    return dict(status.select("host", "outcome").iter_rows())


def test_segments_of_all_hosts_become_probes_and_pairs(run, store, fleet, parts):
    all_stages(run, parts)
    assert read_table(store, "probe", WINDOW).height == 6 * 50
    pairs = read_table(store, "pair_latency", WINDOW)
    assert pairs.height == 6 * 5
    assert set(pairs["sent"]) == {10}
    assert pairs["rtt_min_us"].min() == 100
    for stage, outcome in {"keys": "unchanged", "dispatch": "ok", "collect": "ok"}.items():
        assert outcomes(store, stage) == dict.fromkeys(HOSTS, outcome)
    assert fleet.grace_s == 7


def test_each_stage_tells_what_it_did(run, parts):
    part = parts[0]
    assert mesh.ensure_keys(run, part) == {"unchanged": 3}
    assert mesh.dispatch_agents(run, part) == {"ok": 3}
    assert mesh.collect_segments(run, part) == {"ok": 3}
    assert mesh.build_probe_table(run, part) == {"segments": 3, "probes": 150, "damaged": 0}
    assert mesh.summarize_latency(run, part) == {"pairs": 15, "silent": 0, "probes_of_other_windows": 0}
    assert mesh.check_fleet(run, part) == {"hosts": 6, "failed": 0}


def test_every_agent_gets_its_own_ping_list(run, fleet, parts):
    for part in parts:
        mesh.dispatch_agents(run, part)
    assert sorted(fleet.documents) == HOSTS
    for name, document in fleet.documents.items():
        targets = {
            target["name"] if isinstance(target, dict) else target[0] for target in json.loads(document)["targets"]
        }
        assert targets == set(HOSTS) - {name}


def test_the_same_run_twice_leaves_equal_objects(run, store, parts):
    all_stages(run, parts)
    first = contents(store)
    all_stages(run, parts)
    assert contents(store) == first


def test_a_host_that_fails_is_a_row_and_its_pairs_are_silent(run, store, fleet, parts):
    fleet.sick["db-2"] = ("unreachable", "10.0.0.2 port 22: no route to host")
    all_stages(run, parts)
    status = read_table(store, "host_status", WINDOW).filter(host="db-2", stage="collect")
    assert status.select("outcome", "detail").row(0) == ("unreachable", "10.0.0.2 port 22: no route to host")
    silent = read_table(store, "pair_latency", WINDOW).filter(pl.col("src") == "db-2")
    assert (silent.height, silent["sent"].sum()) == (5, 0)
    assert mesh.check_fleet(run, parts[0]) == {"hosts": 6, "failed": 1}


def test_a_window_without_a_segment_has_empty_probes_and_all_pairs(run, store, fleet, parts):
    fleet.segments.clear()
    all_stages(run, parts)
    assert read_table(store, "probe", WINDOW).is_empty()
    assert read_table(store, "pair_latency", WINDOW)["sent"].to_list() == [0] * 30
    assert mesh.check_fleet(run, parts[0]) == {"hosts": 6, "failed": 0}, "no data yet is no fault"


def test_a_damaged_segment_is_kept_apart(run, store, fleet, parts):
    fleet.damaged.add("db-1")
    all_stages(run, parts)
    assert store.get(layout.quarantined_segment(WINDOW, "db-1")) == fleet.segments["db-1"]
    assert store.find(layout.raw_probe(WINDOW, "db-1")) is None
    assert outcomes(store, "collect")["db-1"] == "segment_damaged"
    assert read_table(store, "probe", WINDOW)["src"].n_unique() == 5


def test_a_segment_whose_columns_do_not_unpack_is_kept_apart_when_the_table_is_built(run, store, parts):
    all_stages(run, parts)
    columns, table = b"no zlib at all", packed([["db-2", "10.0.0.2", 8765, "tcp", "intra_tor", 0]])
    fields = header(host="db-1", ip="10.0.0.1", rows=1, scheduled=1, sent=1, body_bytes=len(table) + len(columns))
    forged = forged_chunk(fields | {"table_bytes": len(table)}, table, columns)
    store.put(layout.raw_probe(WINDOW, "db-1"), forged)
    told = [mesh.build_probe_table(run, part) for part in parts]
    assert [one["damaged"] for one in told] == [1, 0]
    assert store.get(layout.quarantined_segment(WINDOW, "db-1")) == forged
    assert outcomes(store, "build") == {"db-1": "segment_damaged"}


def test_a_run_on_some_hosts_touches_only_them_and_keeps_the_rows_of_the_others(run, store, fleet, parts):
    all_stages(run, parts)
    fleet.done.clear()
    fleet.segments["db-1"] = segment_of("db-1", 1, rtt_us=900)
    fleet.segments["db-2"] = segment_of("db-2", 2, rtt_us=900)
    fleet.sick["db-3"] = ("timeout", "")
    all_stages(replace(run, only_hosts=("db-1",)), parts)
    assert {name for _, names in fleet.done for name in names} == {"db-1"}
    fastest = dict(read_table(store, "probe", WINDOW).group_by("src").agg(pl.col("rtt_us").min()).iter_rows())
    assert fastest == dict.fromkeys(HOSTS, 100) | {"db-1": 900}
    assert outcomes(store, "collect") == dict.fromkeys(HOSTS, "ok")
    status = read_table(store, "host_status", WINDOW)
    assert status.group_by("host", "stage").len()["len"].max() == 1


def test_a_host_that_this_run_may_touch_loses_its_old_row(run, store, fleet, parts):
    mesh.collect_segments(run, parts[0])
    fleet.sick["db-1"] = ("timeout", "")
    mesh.collect_segments(replace(run, only_hosts=("db-1",)), parts[0])
    assert outcomes(store, "collect") == {"db-1": "timeout", "db-2": "ok", "db-3": "ok"}


@pytest.mark.parametrize(("allowed", "fails"), [(0.5, False), (0.49, True), (0, True), (1, False)])
def test_a_run_fails_where_more_hosts_failed_than_it_allows(new_run, fleet, parts, allowed, fails):
    run = new_run(max_failed_share=allowed)
    for name in HOSTS[:3]:
        fleet.sick[name] = ("unreachable", f"{name} is off")
    for part in parts:
        mesh.collect_segments(run, part)
    if not fails:
        assert mesh.check_fleet(run, parts[0])["failed"] == 3
        return
    with pytest.raises(FleetError) as caught:
        mesh.check_fleet(run, parts[0])
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("3 of 6 hosts failed in window 20261121T220500Z")
    assert lines[1:] == [f"  - {name}: unreachable: {name} is off" for name in HOSTS[:3]]


def test_of_many_hosts_that_failed_ten_are_named(new_run, fleet, inventory_file):
    hosts = [f"  - {{name: h{n:02d}, address: 10.1.0.{n}}}" for n in range(1, 31)]
    inventory_file.write_text("\n".join(["hosts:", *hosts, ""]))
    fleet.sick = {f"h{n:02d}": ("timeout", "") for n in range(1, 31)}
    run = new_run(shard_size=100)
    [part] = plan_window(run)
    mesh.collect_segments(run, part)
    with pytest.raises(FleetError, match="30 of 30 hosts failed") as caught:
        mesh.check_fleet(run, part)
    assert len(str(caught.value).splitlines()) == 1 + 10


def test_a_fleet_that_was_only_touched_by_other_stages_has_not_failed(run, fleet, parts):
    fleet.sick = dict.fromkeys(HOSTS, ("auth_failed", ""))
    mesh.ensure_keys(run, parts[0])
    assert mesh.check_fleet(run, parts[0]) == {"hosts": 6, "failed": 0}


@pytest.mark.parametrize(
    ("counts", "no_data_yet"),
    [
        ({"no_data_yet": 3, "unreachable": 1}, True),
        ({"no_data_yet": 3, "ok": 1}, False),
        ({"unreachable": 4}, False),
        ({}, False),
    ],
)
def test_a_fleet_that_has_only_just_been_started_has_no_data_yet(counts, no_data_yet):
    assert mesh.has_no_data_yet(counts) is no_data_yet


def test_probes_of_another_window_are_counted_and_left_out(run, store, fleet, parts):
    later = START_US + 300_000_000
    table = [["db-2", "10.0.0.2", 8765, "tcp", "intra_tor", 0]]
    rows = [(i * 1000, 0, 100, 40_000, 0, 0) for i in range(4)]
    fleet.segments["db-1"] = segment([rows], table, host="db-1", ip="10.0.0.1", start_us=later)
    mesh.collect_segments(run, parts[0])
    mesh.build_probe_table(run, parts[0])
    assert mesh.summarize_latency(run, parts[0])["probes_of_other_windows"] == 4


def test_a_summary_without_its_probes_names_the_key(run, parts):
    with pytest.raises(StoreError, match=r"tables/probe/.*000-of-002"):
        mesh.summarize_latency(run, parts[0])


def test_a_store_that_takes_nothing_is_no_fault_of_a_host(run, fleet, parts, monkeypatch):
    async def refuse(key: str, data: bytes) -> None:
        raise StoreError("down")

    monkeypatch.setattr(run.store, "put_async", refuse)
    with pytest.raises(StoreError, match="down"):
        mesh.collect_segments(run, parts[0])
