"""The alarm's memory as JSON, and in the object store.

One object holds it. `AlertFile.update` reads it, changes it and puts it back on the condition that nobody else did in
between; who loses reads again and does its change again, so a change must be a pure function of the state.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from functools import cache

from pydantic import TypeAdapter, ValidationError

from pingmesh_tasks.alerting.alert_state import AlertState
from pingmesh_tasks.errors import StoreError
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.objects import ObjectStore

VERSION = 1
MAX_BYTES = 4 * 2**20
_TRIES, _LONGEST_PAUSE_S = 12, 2.0


def to_json(state: AlertState) -> bytes:
    """Return the state as JSON: `{"version": 1, "state": {…}}`."""
    return json.dumps({"version": VERSION, "state": _adapter().dump_python(state, mode="json")}).encode()


def from_json(data: bytes) -> AlertState:
    """Return the state that `to_json` wrote. Raises StoreError for anything else, or for that of a newer version."""
    try:
        document = json.loads(data)
        version = document["version"]
        if version != VERSION:
            raise StoreError(f"the alarm's state is of version {version}, this program knows {VERSION}; upgrade it")
        return _adapter().validate_python(document["state"])
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise StoreError(f"the alarm's state is damaged ({str(error)[:200]}); remove it to start anew") from None


class AlertFile:
    """The state in the bucket. Many may hold one; `update` never loses a change of another's."""

    def __init__(self, store: ObjectStore, key: str | None = None) -> None:
        self._store, self._key = store, key or layout.alert_state()

    def load(self) -> AlertState:
        """Return the state as it is now; an empty one where there is none yet."""
        return self._load()[0]

    def update(self, change: Callable[[AlertState], AlertState]) -> AlertState:
        """Apply `change` to the newest state, keep the result and return it. Raises StoreError.

        `change` may be called several times, each time on what another writer left. Nothing is written where it
        changes nothing.
        """
        for attempt in range(_TRIES):
            state, tag = self._load()
            changed = change(state)
            if changed == state:
                return state
            data = to_json(changed)
            if len(data) > MAX_BYTES:
                raise StoreError(f"the alarm's state has {len(data)} bytes, more than {MAX_BYTES}; this is a bug")
            if self._store.replace(self._key, data, tag) is not None:
                return changed
            # what makes writers wait in turns is no secret, so a weak random number does
            time.sleep(random.uniform(0, min(0.05 * 2**attempt, _LONGEST_PAUSE_S)))  # noqa: S311
        raise StoreError(f"{self._key!r} was changed by others {_TRIES} times in a row; run again")

    def _load(self) -> tuple[AlertState, str | None]:
        found = self._store.get_with_tag(self._key)
        if found is None:
            return AlertState(), None
        data, tag = found
        return from_json(data), tag


@cache
def _adapter() -> TypeAdapter[AlertState]:
    return TypeAdapter(AlertState)
