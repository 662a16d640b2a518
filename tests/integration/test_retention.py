"""Retention on a real S3 server: what it says, what it deletes, and what a kill in the middle leaves."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import pytest

from pingmesh_tasks.errors import ConfigError, RetentionError, StoreError
from pingmesh_tasks.pipeline import retention
from pingmesh_tasks.settings import load_settings
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.objects import ObjectStore
from pingmesh_tasks.windows import window_containing

pytestmark = pytest.mark.integration
SETTINGS = load_settings({"PINGMESH_INVENTORY": "unused"})
NOW = datetime.now(UTC)
STAYS = [
    layout.cursor("east", "access"),
    layout.alert_state(),
    layout.hot_cursor(),
    layout.latest_artifact("heatmap", "png"),
    layout.plan("a" * 16),  # put a moment ago
    "somebody's/tables/probe/date=2020-01-01/hour=00/20200101T000000Z.parquet",
    "tables/mine/date=2020-01-01/hour=00/20200101T000000Z.parquet",
    "tables/notes.txt",
]


def at(days: float):
    return window_containing(NOW - timedelta(days=days), 300)


def fill(store: ObjectStore) -> list[str]:
    """Put what stays and what is too old; return the keys of the latter."""
    young = [layout.raw_probe(at(days), host) for days in (0, 6) for host in ("a", "b")]
    young += [layout.table("pair_latency", at(days), "000-of-001") for days in (0, 20)]
    old = [layout.raw_probe(at(days), host) for days in (8, 9) for host in ("a", "b")]
    old += [layout.table("pair_latency", at(days), "000-of-001") for days in (31, 32)]
    old += [layout.hot_batch(round((NOW.timestamp() - 90_000) * 1000), "0a0b0c0d", 1, notable=True)]
    for key in (*STAYS, *young, *old):
        store.put(key, b"0123456789")
    return sorted(old)


def prune(store: ObjectStore, *, dry_run: bool = False, max_share: float = 0.5, now: datetime = NOW):
    return retention.prune(store, SETTINGS, dry_run=dry_run, max_share=max_share, now=now)


def test_a_dry_run_says_what_would_go_and_deletes_nothing(store, caplog):
    old = fill(store)
    before = store.keys("")
    with caplog.at_level(logging.INFO):
        told = prune(store, dry_run=True)
    assert store.keys("") == before
    assert (told["dry_run"], told["objects"], told["bytes"]) == (True, len(old), 10 * len(old))
    assert told["kinds"]["raw/probe"] == {
        "objects": 4,
        "bytes": 40,
        "oldest": at(9).start.isoformat(),
        "newest": at(8).start.isoformat(),
    }
    assert "raw/probe: would delete 4 of 8 objects, 40 bytes" in caplog.text
    assert "3 other objects of these folders do not age" in caplog.text


def test_what_a_dry_run_said_is_what_the_run_deletes_and_a_second_one_finds_nothing(store):
    old = fill(store)
    before = store.keys("")
    said = prune(store, dry_run=True)
    done = prune(store)
    assert (done["deleted"], done["kinds"]) == (said["objects"], said["kinds"])
    assert sorted(set(before) - set(store.keys(""))) == old
    assert prune(store) == {"objects": 0, "bytes": 0, "kinds": {}, "refused": [], "dry_run": False, "deleted": 0}


def test_thousands_of_objects_go_in_batches_and_whatever_a_kill_left_goes_with_the_next_run(store, monkeypatch):
    old = fill(store) + [layout.raw_probe(at(8), f"host{n:04d}") for n in range(2_500)]
    for key in old[-2_500:]:
        store.put(key, b"")
    batches = []
    delete_batch = ObjectStore.delete_batch

    def dies_after_two(self: ObjectStore, keys: list[str]) -> None:
        if len(batches) == 2:
            raise StoreError("the server is gone")
        batches.append(len(keys))
        delete_batch(self, keys)

    with monkeypatch.context() as patched:
        patched.setattr(ObjectStore, "delete_batch", dies_after_two)
        with pytest.raises(StoreError):
            prune(store, max_share=1)
    assert batches == [1000, 1000]
    assert prune(store, max_share=1)["deleted"] == len(old) - 2000
    assert not set(old) & set(store.keys(""))
    assert set(STAYS) <= set(store.keys(""))


def test_a_guard_stops_the_kind_that_it_is_about_and_says_how_to_go_on(store):
    fill(store)
    probes = [layout.table("probe", at(7.5 + n / 100)) for n in range(120)]
    for key in probes:
        store.put(key, b"")
    assert prune(store, dry_run=True)["refused"] == ["tables/probe"]
    with pytest.raises(RetentionError, match=r"more than 50% of tables/probe .*\(7 other objects are deleted\)"):
        prune(store)
    assert set(probes) < set(store.keys(""))
    assert prune(store, max_share=1)["deleted"] == len(probes) - 1


def test_the_newest_of_a_log_stays_for_its_cursor_follows_from_it(store):
    keys = [layout.raw_log("access", "east", at(days)) for days in (90, 60)]
    for key in keys:
        store.put(key, b"")
    prune(store)
    assert store.keys(layout.raw_log_prefix("access", "east")) == [keys[1]]


def test_a_bucket_that_is_empty_or_of_another_program_stays_as_it_is(store):
    assert prune(store)["objects"] == 0
    store.put("photos/2019/cat.jpg", b"")
    assert prune(store)["deleted"] == 0
    assert store.keys("") == ["photos/2019/cat.jpg"]


def test_an_age_of_nothing_that_there_is_fails_before_anything_is_read(store):
    settings = SETTINGS.model_copy(update={"keep_d": {"table": 3}})
    with pytest.raises(ConfigError, match="did you mean 'tables'"):
        retention.prune(store, settings, dry_run=False, max_share=1)
