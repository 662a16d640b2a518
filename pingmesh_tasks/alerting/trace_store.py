"""The traces of incidents, stored for the page: what a message showed is not in the message alone.

One object holds those of the newest incidents, about 2 kB each. Whoever writes last wins: where two
processes notify at the same time, the page may lose the traces of one incident; its message has
them still.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pingmesh_tasks.alerting.messages.message import MessageTrace
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.objects import ObjectStore

VERSION = 1
MAX_INCIDENTS = 60


def write_traces(store: ObjectStore, traces: Mapping[str, Sequence[MessageTrace]]) -> None:
    """Store the traces of incidents (by id), in place of older ones of the same incidents.

    Raises:
        StoreError: The store refuses.
    """
    new = {incident: [asdict(trace) for trace in of] for incident, of in traces.items() if of}
    if not new:
        return
    older = {incident: of for incident, of in read_traces(store).items() if incident not in new}
    newest = dict(list((older | new).items())[-MAX_INCIDENTS:])
    document = {"version": VERSION, "traces": newest}
    store.put(layout.alert_traces(), json.dumps(document).encode())


def read_traces(store: ObjectStore) -> dict[str, list[dict[str, Any]]]:
    """Return the traces of each incident that has some: `src`, `dst`, `verdict`, `hops`, `after`.

    An object of another version, or a damaged one, counts as none: the next message replaces it.

    Raises:
        StoreError: The store refuses.
    """
    try:
        document = json.loads(store.find(layout.alert_traces()) or b"{}")
        return dict(document["traces"]) if document.get("version") == VERSION else {}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
