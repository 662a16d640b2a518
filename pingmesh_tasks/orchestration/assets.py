"""What the DAGs write, as Airflow assets: declared once, so that the UI can draw who makes and who uses what.

Their URIs are the first parts of the keys in the bucket. They have no scheme on purpose: one would make every task
process load the providers that might know it, boto3 among them.
"""

from __future__ import annotations

from airflow.sdk import Asset

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


def artifact(kind: str) -> Asset:
    """A picture or page of every window, and its `latest` twin."""
    return Asset(name=f"artifact_{kind}", uri=layout.ARTIFACTS + f"/{kind}")
