"""The assets of the DAGs, and what watches the hot data."""

from __future__ import annotations

from pingmesh_tasks.orchestration import assets
from pingmesh_tasks.orchestration.triggers import ArrivalTrigger, FollowTrigger
from pingmesh_tasks.settings import load_settings


def watchers(**changes: str) -> dict:
    settings = load_settings(
        {"PINGMESH_INVENTORY": "hosts.csv"} | {f"PINGMESH_{k.upper()}": v for k, v in changes.items()}
    )
    return {watcher.name: watcher.trigger for watcher in assets.hot(settings).watchers}


def arguments(trigger) -> dict:
    """What Airflow stores of a trigger, and makes it of again."""
    if isinstance(trigger, dict):
        return trigger["kwargs"]
    return trigger.serialize()[1]


def test_hot_data_are_tailed_and_their_arrival_is_watched():
    both = watchers(alert_heartbeat_s="12", follow_max_hosts="7", follow_interval_s="3", hot_keep_h="5")
    assert set(both) == {"arrival", "follow"}
    assert arguments(both["arrival"])["heartbeat_s"] == 12
    wanted = {"inventory": "hosts.csv", "max_hosts": 7, "interval_s": 3, "keep_h": 5}
    assert arguments(both["follow"]) == wanted


def test_without_following_only_the_arrival_is_watched():
    assert set(watchers(follow="false")) == {"arrival"}


def test_a_trigger_is_made_again_of_what_airflow_stores():
    for trigger in (ArrivalTrigger(11, 0.2, 2, 9), FollowTrigger("hosts.csv", 9, 2, 3)):
        path, given = trigger.serialize()
        assert path == f"pingmesh_tasks.orchestration.triggers.{type(trigger).__name__}"
        assert type(trigger)(**given).serialize() == (path, given)


def test_an_asset_is_named_after_what_it_stands_for():
    assert (assets.rolled_up("pair_latency", "hour").name, assets.rolled_up("sla", "day").uri) == (
        "pair_latency_hour",
        "tables/sla_day",
    )
    assert assets.artifact("heatmap").uri == "artifacts/heatmap"
    assert assets.artifact("heatmap").name == "artifact_heatmap"
