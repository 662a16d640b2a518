"""What is deleted of the bucket, and what never is, over objects in memory."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import pytest

from pingmesh_tasks.errors import ConfigError, RetentionError
from pingmesh_tasks.pipeline import retention
from pingmesh_tasks.settings import load_settings
from pingmesh_tasks.store import layout
from pingmesh_tasks.windows import window_containing
from tests.support.memory_store import contents

NOW = datetime.now(UTC)
SETTINGS = load_settings({"PINGMESH_INVENTORY": "unused"})
STAYS = [layout.cursor("east", "access"), layout.alert_state(), layout.latest_artifact("heatmap", "png")]


def at(days: float):
    return window_containing(NOW - timedelta(days=days), 300)


@pytest.fixture
def old(store) -> list[str]:
    """Fill the store; return the keys of what is too old."""
    young = [layout.raw_probe(at(days), "a") for days in (0, 6)]
    gone = [layout.raw_probe(at(days), host) for days in (8, 9) for host in ("a", "b")]
    gone += [layout.table("pair_latency", at(31), "000-of-001")]
    gone += [layout.hot_batch(round((NOW.timestamp() - 90_000) * 1000), "0a0b0c0d", 1, notable=True)]
    for key in (*STAYS, *young, layout.table("pair_latency", at(2), "000-of-001"), "tables/notes.txt", *gone):
        store.put(key, b"0123456789")
    return sorted(gone)


def prune(store, *, dry_run=False, max_share=0.5, settings=SETTINGS):
    return retention.prune(store, settings, dry_run=dry_run, max_share=max_share, now=NOW)


def test_a_dry_run_deletes_nothing_and_logs_what_would_go(store, old, caplog):
    before = contents(store)
    with caplog.at_level(logging.INFO):
        told = prune(store, dry_run=True)
    assert contents(store) == before
    assert (told["objects"], told["bytes"], told["dry_run"]) == (6, 60, True)
    assert told["kinds"]["raw/probe"] == {
        "objects": 4,
        "bytes": 40,
        "oldest": at(9).start.isoformat(),
        "newest": at(8).start.isoformat(),
    }
    assert f"raw/probe: would delete 4 of 6 objects, 40 bytes, {at(9).start.isoformat()}" in caplog.text
    assert "in all it would delete 6 objects, 60 bytes" in caplog.text
    assert "2 other objects of these folders do not age" in caplog.text


def test_a_run_deletes_exactly_what_the_dry_run_said(store, old, caplog):
    before = set(contents(store))
    said = prune(store, dry_run=True)
    with caplog.at_level(logging.INFO):
        done = prune(store)
    assert sorted(before - set(contents(store))) == old
    assert (done["deleted"], done["kinds"], done["dry_run"]) == (6, said["kinds"], False)
    assert "deletes 4 of 6 objects" in caplog.text
    assert prune(store)["deleted"] == 0


def test_thousands_go_in_batches(store, old, monkeypatch):
    more = [layout.raw_probe(at(8), f"host{n:03d}") for n in range(250)]
    for key in more:
        store.put(key, b"x")
    sizes = []
    monkeypatch.setattr(retention, "BATCH", 100)
    delete = store.delete_batch
    monkeypatch.setattr(store, "delete_batch", lambda keys: (sizes.append(len(keys)), delete(keys)))
    prune(store, max_share=1)
    assert sizes == [100, 100, 56]
    assert not set(more) & set(contents(store))


def test_a_kind_of_which_too_much_is_too_old_is_left_alone_and_the_others_go(store, old, caplog):
    probes = [layout.table("probe", at(20).shifted(-n), "000-of-001") for n in range(100)]
    for key in [*probes, layout.table("probe", at(0), "000-of-001")]:
        store.put(key, b"x")
    with caplog.at_level(logging.INFO), pytest.raises(RetentionError) as caught:
        prune(store)
    assert str(caught.value).startswith("more than 50% of tables/probe is too old and was left alone (6 other")
    assert "refused: more than 50%" in caplog.text
    assert set(probes) < set(contents(store))
    assert not set(old) & set(contents(store))
    told = prune(store, dry_run=True)
    assert (told["refused"], told["objects"]) == (["tables/probe"], 0)
    assert prune(store, max_share=1)["deleted"] == 100


def test_ages_are_settings(store, old):
    forever = load_settings({"PINGMESH_INVENTORY": "x", "PINGMESH_KEEP_D": "raw=forever"})
    assert "raw/probe" not in prune(store, dry_run=True, settings=forever)["kinds"]
    long = load_settings({"PINGMESH_INVENTORY": "x", "PINGMESH_HOT_KEEP_H": "48"})
    assert "hot" not in prune(store, dry_run=True, settings=long)["kinds"]


def test_an_age_of_an_unknown_kind_is_refused(store, old):
    before = contents(store)
    with pytest.raises(ConfigError, match="PINGMESH_KEEP_D"):
        prune(store, settings=load_settings({"PINGMESH_INVENTORY": "x", "PINGMESH_KEEP_D": "tabels=7"}))
    assert contents(store) == before


def test_an_empty_bucket_has_nothing_to_delete(store):
    told = prune(store)
    assert told == {"objects": 0, "bytes": 0, "kinds": {}, "refused": [], "dry_run": False, "deleted": 0}
