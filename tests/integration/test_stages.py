"""The stages of a window on real SSH hosts and a real S3 server; only Airflow is absent."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from pingmesh_tasks.demo.fleet import demo_inventory_csv
from pingmesh_tasks.demo.object_store import EmbeddedObjectStore
from pingmesh_tasks.errors import FleetError, InventoryError, PinglistError, StoreError
from pingmesh_tasks.pipeline import mesh, pictures
from pingmesh_tasks.pipeline.plan import plan_window
from pingmesh_tasks.pipeline.run import Part, Run, load_run_inventory
from pingmesh_tasks.settings import load_settings
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.objects import ObjectStore
from pingmesh_tasks.store.tables import read_table
from pingmesh_tasks.topology.inventory import load_inventory
from pingmesh_tasks.windows import Window
from tests.support.fleet import FleetOfTest, running_fleet
from tests.support.segments import forged_chunk, header, packed, segment

pytestmark = pytest.mark.integration
WINDOW = Window.parse("20261121T220500Z", 300)
START_US = int(WINDOW.start.timestamp() * 1_000_000)
IDS_OF_SHARDS = ["000-of-002", "001-of-002"]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetOfTest]:
    """Four hosts that let our key in and hold a segment of WINDOW each, as their agents would have left it."""
    root = tmp_path_factory.mktemp("fleet")
    with running_fleet(root, 4) as fleet:
        (root / "inventory.csv").write_text(demo_inventory_csv(fleet.demo.hosts, fleet.demo.ssh_port))
        yield fleet


@pytest.fixture
def run(fleet: FleetOfTest, store: ObjectStore) -> Run:
    root = fleet.demo.root.parent
    settings = load_settings(
        {
            "PINGMESH_INVENTORY": str(root / "inventory.csv"),
            "PINGMESH_SHARD_SIZE": "2",
            "PINGMESH_COLLECT_GRACE_S": "0",
            "PINGMESH_SSH_TIMEOUT_S": "15",
            "PINGMESH_TIMELINE_WINDOWS": "2",
        }
    )
    run = Run(WINDOW, settings, store, fleet.access, fleet.bootstrap)
    for part in plan_window(run):
        assert set(mesh.ensure_keys(run, part)) <= {"ok", "unchanged"}
    for host in fleet.hosts:
        leave_segment(fleet, host.name)
    return run


def leave_segment(fleet: FleetOfTest, name: str, rtt_us: int = 100) -> Path:
    hosts = {host.name: host for host in fleet.hosts}
    table = [[h.name, h.address, h.probe_port, "tcp", "inter_dc", 0] for h in fleet.hosts if h.name != name]
    rows = [(i * 1000, i % len(table), rtt_us + i, 40_000, 0, 0) for i in range(30)]
    data = segment([rows], table, host=name, ip=hosts[name].address, start_us=START_US)
    spool = fleet.home(name) / ".pingmesh" / "spool"
    spool.mkdir(parents=True, exist_ok=True)
    file = spool / f"{WINDOW.id}.pms"
    file.write_bytes(data)
    return file


def all_stages(run: Run) -> list[Part]:
    parts = plan_window(run)
    for part in parts:
        mesh.collect_segments(run, part)
        mesh.build_probe_table(run, part)
        mesh.summarize_latency(run, part)
    return parts


def objects_of(store: ObjectStore, *prefixes: str) -> dict[str, bytes]:
    return {key: store.get(key) for prefix in prefixes for key in store.keys(prefix)}


def test_a_window_goes_from_segments_to_tables_and_pictures(run, store):
    parts = all_stages(run)
    assert [part.shard for part in parts] == IDS_OF_SHARDS
    probes = read_table(store, "probe", WINDOW)
    assert probes.height == 4 * 30
    pairs = read_table(store, "pair_latency", WINDOW)
    assert pairs.filter(pl.col("sent") == 10).height == 4 * 3
    assert pairs["rtt_min_us"].min() == 100
    assert mesh.check_fleet(run, parts[0]) == {"hosts": 4, "failed": 0}
    for kind, extensions in pictures.EXTENSIONS.items():
        keys = pictures.draw(kind, run, parts[0])
        assert [key for key in keys if key.startswith("artifacts/latest/")] == [
            layout.latest_artifact(kind, extension) for extension in extensions
        ]
        assert all(len(store.get(key)) > 1000 for key in keys)


def test_the_same_run_twice_leaves_equal_objects(run, store):
    def once() -> dict[str, bytes]:
        for part in all_stages(run):
            pictures.draw("heatmap", run, part)
        return objects_of(store, "raw/", "tables/probe/", "tables/pair_latency/", "artifacts/", "control/pinglist/")

    assert once() == once()


def test_a_rerun_with_other_shards_counts_no_probe_twice(run, store):
    all_stages(run)
    all_stages(replace(run, settings=run.settings.model_copy(update={"shard_size": 4})))
    assert read_table(store, "probe", WINDOW).height == 4 * 30
    status = read_table(store, "host_status", WINDOW)
    assert status.group_by("host", "stage").len()["len"].max() == 1


def test_a_dead_host_is_a_row_and_its_planned_pairs_are_rows_too(run, store, fleet):
    fleet.stop_host("host03")
    try:
        parts = all_stages(run)
    finally:
        fleet.start_host("host03")
    status = read_table(store, "host_status", WINDOW).filter(pl.col("stage") == "collect")
    assert dict(status.select("host", "outcome").iter_rows())["host03"] == "unreachable"
    silent = read_table(store, "pair_latency", WINDOW).filter(pl.col("src") == "host03")
    assert silent.height > 0
    assert silent["sent"].sum() == 0
    assert mesh.check_fleet(run, parts[0])["failed"] == 1


def test_too_many_dead_hosts_fail_the_run_with_their_names(run, fleet):
    strict = replace(run, settings=run.settings.model_copy(update={"max_failed_share": 0.2}))
    fleet.stop_host("host02")
    try:
        parts = all_stages(strict)
    finally:
        fleet.start_host("host02")
    with pytest.raises(FleetError, match=r"1 of 4 hosts failed .*\n  - host02: unreachable"):
        mesh.check_fleet(strict, parts[0])


def test_a_damaged_segment_is_set_aside_whole_and_shown(run, store, fleet):
    file = leave_segment(fleet, "host01")
    broken = bytearray(file.read_bytes())
    broken[-20] ^= 1
    file.write_bytes(bytes(broken))
    all_stages(run)
    assert store.get(layout.quarantined_segment(WINDOW, "host01")) == bytes(broken)
    assert store.find(layout.raw_probe(WINDOW, "host01")) is None
    status = read_table(store, "host_status", WINDOW).filter(pl.col("host") == "host01", pl.col("stage") == "collect")
    assert status["outcome"].item() == "segment_damaged"
    assert "chunk 0" in status["detail"].item()


def test_a_forged_segment_whose_columns_do_not_unpack_is_set_aside_when_the_table_is_built(run, store):
    all_stages(run)
    columns = b"no zlib at all"
    table = packed([["host02", "127.0.0.12", 8765, "tcp", "intra_dc", 0]])
    fields = header(host="host01", ip="127.0.0.11", rows=1, scheduled=1, sent=1, body_bytes=len(table) + len(columns))
    store.put(layout.raw_probe(WINDOW, "host01"), forged_chunk(fields | {"table_bytes": len(table)}, table, columns))
    for part in plan_window(run):
        mesh.build_probe_table(run, part)
    assert store.find(layout.quarantined_segment(WINDOW, "host01")) is not None
    status = read_table(store, "host_status", WINDOW).filter(pl.col("stage") == "build")
    assert status.select("host", "outcome").row(0) == ("host01", "segment_damaged")
    assert read_table(store, "probe", WINDOW)["src"].n_unique() == 3


def test_a_fleet_that_has_only_just_been_started_has_no_data_yet():
    assert mesh.has_no_data_yet({"no_data_yet": 3, "unreachable": 1})
    assert not mesh.has_no_data_yet({"no_data_yet": 3, "ok": 1})
    assert not mesh.has_no_data_yet({"unreachable": 4})


def test_a_store_that_is_down_during_collect_loses_and_doubles_nothing(run, tmp_path):
    server = EmbeddedObjectStore(tmp_path)
    away = replace(run, store=server.start())
    parts = plan_window(away)
    mesh.collect_segments(away, parts[0])
    server.kill()
    with pytest.raises(StoreError):
        mesh.collect_segments(away, parts[1])
    server.start()
    try:
        all_stages(away)  # what Airflow's retry does
        assert read_table(away.store, "probe", WINDOW).height == 4 * 30
    finally:
        server.stop()


def test_a_run_on_some_hosts_touches_only_them_and_keeps_what_is_known_of_the_others(run, store, fleet):
    all_stages(run)
    leave_segment(fleet, "host01", rtt_us=500)
    leave_segment(fleet, "host02", rtt_us=500)
    all_stages(replace(run, only_hosts=("host01",)))
    slowest = dict(read_table(store, "probe", WINDOW).group_by("src").agg(pl.col("rtt_us").min()).iter_rows())
    assert slowest == {"host01": 500, "host02": 100, "host03": 100, "host04": 100}
    collected = read_table(store, "host_status", WINDOW).filter(pl.col("stage") == "collect")
    assert sorted(collected["host"]) == ["host01", "host02", "host03", "host04"]


def test_a_host_that_is_not_in_the_inventory_is_refused_before_any_is_touched(run):
    with pytest.raises(InventoryError, match="host99"):
        plan_window(replace(run, only_hosts=("host99",)))


def test_a_plan_over_the_budget_is_refused_with_the_figure(run):
    with pytest.raises(PinglistError, match="probes"):
        poor = run.settings.model_copy(update={"budget_probes_per_s": 1, "interval_s": 0.1, "probe_timeout_s": 0.1})
        plan_window(replace(run, settings=poor))


def test_an_inventory_may_lie_in_the_bucket(run, store):
    text = Path(run.settings.inventory).read_bytes()
    store.put("control/inventory.csv", text)
    uri = f"s3://{store.access.bucket}/control/inventory.csv"
    there = replace(run, settings=run.settings.model_copy(update={"inventory": uri}))
    assert load_run_inventory(there).hosts == load_inventory(run.settings.inventory).hosts


def test_a_backfill_of_an_old_window_does_not_replace_a_newer_latest(run, store):
    parts = all_stages(run)
    newer = replace(run, window=WINDOW.shifted(1))
    pictures.draw("heatmap", newer, parts[0])
    latest = store.get(layout.latest_artifact("heatmap", "png"))
    assert pictures.draw("heatmap", run, parts[0]) == [layout.artifact("heatmap", WINDOW, "png")]
    assert store.get(layout.latest_artifact("heatmap", "png")) == latest
