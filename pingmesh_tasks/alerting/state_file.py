"""The alert state as JSON, and as one object of the bucket.

`AlertFile.update` reads the object, changes the state and puts it back on the condition that nobody
else did in between. Who loses that race reads again and does its change again, so a change must be
a pure function of the state.

The JSON is a stored format: its keys stay when an attribute of the state is renamed (`_STATE`), so
that an upgrade of the package loses no open incident.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from pingmesh_tasks.alerting.alert_state import AlertState
from pingmesh_tasks.errors import StoreError
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.objects import ObjectStore

VERSION = 1
MAX_BYTES = 4 * 2**20
_TRIES, _FIRST_PAUSE_S, _LONGEST_PAUSE_S = 12, 0.05, 2.0


@dataclass(frozen=True, slots=True)
class _Stored:
    """How a dataclass is stored.

    Attributes:
        keys: The stored keys of attributes that are stored under another name.
        parts: How attributes are stored whose values are dataclasses, lists of them, or, where they
            are in `mappings`, values of a mapping.
        mappings: Attributes whose value is a mapping of names to dataclasses.
    """

    keys: Mapping[str, str]
    parts: Mapping[str, _Stored] = field(default_factory=dict)
    mappings: frozenset[str] = frozenset()


_FINDING = _Stored({"observations": "looks", "absent_count": "absent"})
_INCIDENT = _Stored(
    {
        "last_notification": "said",
        "notification_count": "notices",
        "stale_notified": "stale_said",
        "merged_ids": "absorbed",
    },
    {"lead": _FINDING, "others": _FINDING},
)
_STATE = _Stored(
    {"last_evaluated": "looked_at", "dropped_notifications": "dropped_notices"},
    {
        "open": _INCIDENT,
        "closed": _INCIDENT,
        "pending": _FINDING,
        "outbox": _Stored({"notification": "notice"}),
        "channels": _Stored({"reported": "said"}),
    },
    frozenset({"channels"}),
)


def to_json(state: AlertState) -> bytes:
    """Return the state as JSON: `{"version": 1, "state": {…}}`."""
    stored = _renamed(_adapter().dump_python(state, mode="json"), _STATE, to_stored=True)
    return json.dumps({"version": VERSION, "state": stored}).encode()


def from_json(data: bytes) -> AlertState:
    """Return the state that `to_json` wrote.

    Raises:
        StoreError: The data are damaged, or of another version.
    """
    try:
        document = json.loads(data)
        version = document["version"]
        if version != VERSION:
            raise StoreError(
                f"the alarm's state is of version {version}, this program knows {VERSION}; "
                "upgrade it"
            )
        return _adapter().validate_python(_renamed(document["state"], _STATE, to_stored=False))
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        reason = str(error)[:200]
        raise StoreError(
            f"the alarm's state is damaged ({reason}); remove it to start anew"
        ) from None


class AlertFile:
    """The state in the bucket. Several processes may use it; no change of another one is lost."""

    def __init__(self, store: ObjectStore) -> None:
        self._store, self._key = store, layout.alert_state()

    def load(self) -> AlertState:
        """Return the state as it is now; an empty one where there is none yet.

        Raises:
            StoreError: The store refuses, or the object is damaged.
        """
        return self._load()[0]

    def update(self, change: Callable[[AlertState], AlertState]) -> AlertState:
        """Apply `change` to the newest state, store the result and return it.

        `change` may be called several times, each time on what another writer left. Nothing is
        written where it changes nothing.

        Raises:
            StoreError: The store refuses, the object is damaged, or other writers won every race.
        """
        retrying = Retrying(
            retry=retry_if_exception_type(_LostRace),
            stop=stop_after_attempt(_TRIES),
            wait=wait_random_exponential(multiplier=_FIRST_PAUSE_S, max=_LONGEST_PAUSE_S),
            reraise=True,
        )
        return retrying(self._update_once, change)

    def _update_once(self, change: Callable[[AlertState], AlertState]) -> AlertState:
        state, tag = self._load()
        changed = change(state)
        if changed == state:
            return state
        data = to_json(changed)
        if len(data) > MAX_BYTES:
            raise StoreError(
                f"the alarm's state has {len(data)} bytes, more than {MAX_BYTES}; this is a bug"
            )
        if self._store.replace(self._key, data, tag) is None:
            raise _LostRace(
                f"{self._key!r} was changed by others {_TRIES} times in a row; run again"
            )
        return changed

    def _load(self) -> tuple[AlertState, str | None]:
        found = self._store.get_with_tag(self._key)
        if found is None:
            return AlertState(), None
        data, tag = found
        return from_json(data), tag


class _LostRace(StoreError):
    """Another writer replaced the object since it was read."""


def _renamed(value: Any, stored: _Stored, *, to_stored: bool) -> Any:
    """Return plain values in which the keys of dataclasses are attributes, or stored keys.

    Keys of anything else stay: rows of evidence may have a column `looks`.
    """
    if isinstance(value, list):
        return [_renamed(item, stored, to_stored=to_stored) for item in value]
    if not isinstance(value, dict):
        return value
    attributes = {key: name for name, key in stored.keys.items()}
    renamed: dict[str, Any] = {}
    for key, inner in value.items():
        name: str = key if to_stored or key not in attributes else attributes[key]
        part = stored.parts.get(name)
        if part and name in stored.mappings and isinstance(inner, dict):
            inner = {k: _renamed(item, part, to_stored=to_stored) for k, item in inner.items()}
        elif part:
            inner = _renamed(inner, part, to_stored=to_stored)
        renamed[stored.keys.get(name, name) if to_stored else name] = inner
    return renamed


@cache
def _adapter() -> TypeAdapter[AlertState]:
    return TypeAdapter(AlertState)
