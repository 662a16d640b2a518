"""What the DAGs write, as Airflow assets: declared once, so that the UI can draw who makes and who uses what.

Their URIs are the first parts of the keys in the bucket. They have no scheme on purpose: one would make every task
process load the providers that might know it, boto3 among them.
"""

from __future__ import annotations

from airflow.sdk import Asset, AssetWatcher

from pingmesh_tasks.settings import Settings
from pingmesh_tasks.store import layout

RAW_PROBES = Asset(name="raw_probes", uri="raw/probe")
PROBE = Asset(name="probe", uri="tables/probe")
PAIR_LATENCY = Asset(name="pair_latency", uri="tables/pair_latency")
RAW_ACCESS = Asset(name="raw_access", uri="raw/access")
CLIENT = Asset(name="client", uri="tables/client")
OPERATION = Asset(name="operation", uri="tables/operation")
SESSION = Asset(name="session", uri="tables/session")
USAGE = Asset(name="usage", uri="tables/usage")
HOST_STATUS = Asset(name="host_status", uri="tables/host_status")
ANOMALY = Asset(name="anomaly", uri="tables/anomaly")
NOTICE = Asset(name="notice", uri="tables/notice")
MESH_MAP = Asset(name="mesh_map", uri="tables/mesh_map")


def rolled_up(table: str, level: str) -> Asset:
    """What hours or days (`level`) have of a table."""
    name = layout.at_level(table, level)
    return Asset(name=name, uri="tables/" + name)


def artifact(kind: str) -> Asset:
    """A picture or page of every window, and its `latest` twin."""
    return Asset(name=f"artifact_{kind}", uri=layout.ARTIFACTS + f"/{kind}")


def hot(settings: Settings) -> Asset:
    """What was read of hosts and logs in the last seconds, with the triggers that fetch it and tell that it is there.

    Airflow runs an asset's watchers in the triggerer for as long as a DAG that is not paused is scheduled on it. Their
    module is loaded here, since most DAG files that read this one have no use for it.
    """
    from pingmesh_tasks.orchestration.triggers import ArrivalTrigger, FollowTrigger

    arrival = ArrivalTrigger(heartbeat_s=settings.alert_heartbeat_s)
    watchers = [AssetWatcher(name="arrival", trigger=arrival)]
    if settings.follow:
        follow = FollowTrigger(
            inventory=settings.inventory,
            max_hosts=settings.follow_max_hosts,
            interval_s=settings.follow_interval_s,
            keep_h=settings.hot_keep_h,
        )
        watchers.append(AssetWatcher(name="follow", trigger=follow))
    return Asset(name="hot", uri="hot", watchers=watchers)
