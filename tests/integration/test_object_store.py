"""The object store against a real S3 server."""

import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import polars as pl
import pytest

from pingmesh_tasks.demo import object_store
from pingmesh_tasks.demo.object_store import EmbeddedObjectStore
from pingmesh_tasks.errors import PingmeshError, StoreError
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.objects import ObjectStore
from pingmesh_tasks.store.schemas import HOST_STATUS
from pingmesh_tasks.store.tables import drop_other_shards, has_table, read_table, write_table
from pingmesh_tasks.windows import Window

pytestmark = pytest.mark.integration
WINDOW = Window.parse("20261121T220500Z", 300)


def status(host: str) -> pl.DataFrame:
    row = {"window": WINDOW.start, "host": host, "stage": "collect", "outcome": "ok", "detail": ""}
    return pl.DataFrame([row | dict.fromkeys(HOST_STATUS.names()[5:])], schema=HOST_STATUS)


def test_what_was_put_is_read_back_and_listed(store, tmp_path):
    store.put("a/b", b"one")
    store.put("a/b", b"two")
    big = tmp_path / "big"
    big.write_bytes(b"x" * 20_000_000)
    store.put("a/big", big)
    assert store.get("a/b") == b"two"
    assert store.keys("a/b") == ["a/b", "a/big"]
    store.download("a/big", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == big.read_bytes()


def test_keys_come_sorted_bytewise_whatever_order_the_server_lists_them_in(store):
    for key in ("o/a/b", "o/a-b", "o/a b", "o/ab"):
        store.put(key, b"")
    assert store.keys("o/") == sorted(["o/a/b", "o/a-b", "o/a b", "o/ab"])


def test_an_object_that_is_not_there_is_none_or_an_error_that_names_it(store):
    assert store.find("no/such") is None
    with pytest.raises(StoreError, match="get 'no/such' in bucket"):
        store.get("no/such")


def test_deleting_twice_is_no_fault(store):
    store.put("gone", b"")
    store.delete(["gone"])
    store.delete(["gone"])
    assert store.keys("") == []


def test_an_object_is_created_once_and_never_changed_by_a_second_creation(store, tmp_path):
    large = tmp_path / "large"
    large.write_bytes(bytes(12 * 2**20))
    assert store.create("a", b"first")
    assert not store.create("a", b"second")
    assert store.create("b", large)
    assert not store.create("b", b"second")
    assert (store.get("a"), len(store.get("b"))) == (b"first", 12 * 2**20)


def test_of_many_that_create_one_object_at_once_one_wins(store):
    for key in ("race-1", "race-2", "race-3"):
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(lambda n, key=key: store.create(key, b"%d" % n * 10_000), range(8)))
        assert won.count(True) == 1
        assert store.get(key) == b"%d" % won.index(True) * 10_000


def test_a_wrong_key_is_refused_and_its_secret_is_not_shown(store):
    stranger = ObjectStore(replace(store.access, secret_access_key="not-the-secret"))
    with pytest.raises(StoreError) as caught:
        stranger.put("x", b"")
    with pytest.raises(StoreError):
        stranger.create("x", b"")
    assert "not-the-secret" not in str(caught.value)
    assert "not-the-secret" not in repr(stranger.access)
    with pytest.raises(StoreError):
        stranger.ensure_bucket()


def test_a_bucket_may_be_made_twice(store):
    store.ensure_bucket()
    store.ensure_bucket()


def test_a_server_that_is_down_is_an_error_and_its_data_are_there_when_it_is_back(tmp_path):
    server = EmbeddedObjectStore(tmp_path)
    store = server.start()
    store.put("kept", b"1")
    server.kill()
    with pytest.raises(StoreError):
        store.put("lost", b"2")
    server.start()
    try:
        assert store.get("kept") == b"1"
        assert store.find("lost") is None
    finally:
        server.stop()


def test_two_servers_cannot_take_one_port(s3_server, tmp_path):
    with pytest.raises(PingmeshError, match="is taken"):
        EmbeddedObjectStore(tmp_path, port=s3_server.port).start()


def test_a_server_draws_other_ports_when_a_stranger_was_quicker(tmp_path, monkeypatch):
    free_ports, lost = object_store._free_ports, object_store._free_ports(0)
    draws = iter([lost])
    monkeypatch.setattr(object_store, "_free_ports", lambda wanted: next(draws, None) or free_ports(wanted))
    with socket.create_server((object_store.LOOPBACK, lost[-1])), EmbeddedObjectStore(tmp_path) as store:
        assert store.get("control/started") == b""


def test_a_server_draws_no_port_that_the_kernel_may_hand_out_to_a_client():
    for _ in range(100):
        ports = object_store._free_ports(0)
        all_ten = {port + above for port in ports for above in (0, object_store.GRPC_OFFSET)}
        assert len(all_ten) == 10
        assert max(all_ten) < 32_768


def test_a_table_is_written_twice_and_read_once(store):
    write_table(store, "host_status", WINDOW, status("a"))
    write_table(store, "host_status", WINDOW, status("a"))
    assert read_table(store, "host_status", WINDOW).equals(status("a"))
    assert has_table(store, "host_status", WINDOW)
    assert not has_table(store, "host_status", WINDOW.shifted(1))


def test_a_rerun_with_other_shards_leaves_no_row_twice(store):
    write_table(store, "host_status", WINDOW, status("a"), "000-of-002")
    write_table(store, "host_status", WINDOW, status("b"), "001-of-002")
    write_table(store, "host_status", WINDOW, pl.concat([status("a"), status("b")]), "000-of-001")
    drop_other_shards(store, "host_status", WINDOW, 1)
    assert read_table(store, "host_status", WINDOW)["host"].to_list() == ["a", "b"]


def test_a_window_without_a_table_has_no_rows_and_all_columns(store):
    assert read_table(store, "probe", WINDOW, ["src", "rtt_us"]).columns == ["src", "rtt_us"]


def test_a_frame_of_another_shape_is_refused_with_the_column(store):
    with pytest.raises(StoreError, match="column detail is Int32, not String"):
        write_table(store, "host_status", WINDOW, status("a").with_columns(pl.lit(1).alias("detail")))
    assert store.keys("") == []


def test_the_keys_of_a_window_are_the_documented_ones():
    assert layout.raw_probe(WINDOW, "a1") == "raw/probe/date=2026-11-21/hour=22/20261121T220500Z/a1.pms"
    assert layout.table("probe", WINDOW) == "tables/probe/date=2026-11-21/hour=22/20261121T220500Z.parquet"
    assert layout.table("probe", WINDOW, "000-of-002").endswith("/20261121T220500Z.000-of-002.parquet")
    assert layout.artifact("heatmap", WINDOW, "png").startswith("artifacts/heatmap/date=2026-11-21/hour=22/")
    assert layout.latest_artifact("heatmap", "png") == "artifacts/latest/heatmap.png"
