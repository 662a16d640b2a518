"""Hot batches as the hot path reads them: the pieces of a span of time, and how far it has read.

A piece that is there twice counts once. A batch that cannot be decoded is left out: the batch path reads the same
bytes from the raw objects.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from pingmesh_tasks.errors import StoreError
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.hot_batch import HotCursor, HotPiece, decode_batch
from pingmesh_tasks.store.objects import ObjectStore

log = logging.getLogger(__name__)
_READERS = 8


def read_recent(store: ObjectStore, since: datetime, until: datetime) -> tuple[list[HotPiece], str | None]:
    """Return the pieces of the batches written in [since, until), each once, and the newest of their keys."""
    first, end = (layout.hot_since(round(moment.timestamp() * 1000)) for moment in (since, until))
    keys = [key for key in store.keys_after(layout.HOT, first) if key < end and layout.hot_facts(key)]
    with ThreadPoolExecutor(_READERS, thread_name_prefix="hot") as pool:
        batches = list(pool.map(lambda key: _read(store, key), keys))
    return unique(piece for batch in batches for piece in batch), max(keys, default=None)


def _read(store: ObjectStore, key: str) -> list[HotPiece]:
    data = store.find(key)
    if data is None:  # expired since it was listed
        return []
    try:
        return decode_batch(data, key)
    except StoreError as error:
        log.warning("%s", error)
        return []


def unique(pieces: Iterable[HotPiece]) -> list[HotPiece]:
    """Return each piece of bytes once, in the order in which they were read. News of a contact are all kept."""
    kept: dict[object, HotPiece] = {}
    for piece in sorted(pieces, key=lambda piece: piece.read_at_us):
        is_news = piece.kind in ("lost_contact", "roster")
        kept.setdefault((piece.identity, piece.read_at_us) if is_news else piece.identity, piece)
    return list(kept.values())


def save_cursor(store: ObjectStore, key: str, heartbeat_s: float | None = None) -> None:
    """Note that all batches up to `key` were evaluated: the arrival trigger starts after it when it is restarted.

    `heartbeat_s` asks it to fire for quiet batches that often (s) from now on, as while an incident is open.
    """
    store.put(layout.hot_cursor(), HotCursor(key, heartbeat_s).encode())


def moment(us: int) -> datetime:
    """Return a time in µs since the epoch as an aware datetime."""
    return datetime.fromtimestamp(us / 1e6, UTC)
