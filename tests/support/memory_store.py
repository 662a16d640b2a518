"""An object store in memory: the same requests, without a server."""

from __future__ import annotations

from functools import cached_property

from obstore.store import MemoryStore

from pingmesh_tasks.store.objects import ObjectStore, S3Access


class MemoryObjects(ObjectStore):
    """An object store in memory."""

    def __init__(self) -> None:
        super().__init__(S3Access("memory", "key", "secret", "memory"))

    @cached_property
    def _s3(self) -> MemoryStore:  # type: ignore[override]
        return MemoryStore()

    def ensure_bucket(self) -> None:
        """The bucket exists."""


def contents(store: ObjectStore, *prefixes: str) -> dict[str, bytes]:
    """Return the objects below some prefixes; below none, all of them."""
    return {key: store.get(key) for prefix in prefixes or ("",) for key in store.keys(prefix)}
