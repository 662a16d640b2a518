"""The traces of incidents, kept for the page: what a message showed of the way must not be in the message alone.

One object holds those of the newest incidents, about 2 kB each. Whoever writes last wins: of two messages at the same
time one incident's traces may be lost, and the message still has them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pingmesh_tasks.alerting.messages.message import Trace
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.objects import ObjectStore

VERSION = 1
MOST_INCIDENTS = 60


def keep_traces(store: ObjectStore, found: Mapping[str, Sequence[Trace]]) -> None:
    """Keep the traces of incidents (by id), in place of older ones of the same. Raises StoreError."""
    rows = {incident: [asdict(trace) for trace in traces] for incident, traces in found.items() if traces}
    if not rows:
        return
    kept = {incident: traces for incident, traces in read_traces(store).items() if incident not in rows} | rows
    newest = dict(list(kept.items())[-MOST_INCIDENTS:])
    store.put(layout.alert_traces(), json.dumps({"version": VERSION, "traces": newest}).encode())


def read_traces(store: ObjectStore) -> dict[str, list[dict[str, Any]]]:
    """Return the traces of each incident that has some: `src`, `dst`, `verdict`, `hops`, `after`. Raises StoreError.

    What another version wrote, or is damaged, is as if it were not there: the next message replaces it.
    """
    try:
        document = json.loads(store.find(layout.alert_traces()) or b"{}")
        return dict(document["traces"]) if document.get("version") == VERSION else {}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
