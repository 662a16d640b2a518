"""A cache limited by bytes, and each of its values made once however many ask for it at the same time."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")
#: What holding a value costs beside its bytes.
OVERHEAD_BYTES = 1_000


@dataclass
class _Slot:
    lock: threading.Lock = field(default_factory=threading.Lock)
    value: Any = None
    size: int = -1  # not made yet
    until: float = float("inf")


class BytesCache:
    """Values by key, the least recently used thrown away beyond `most_bytes`. For threads.

    Values of objects that never change are kept until then, others for `seconds`.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._held = 0
        self._slots: OrderedDict[Hashable, _Slot] = OrderedDict()
        self._lock = threading.Lock()

    def get(
        self, key: Hashable, make: Callable[[], T], size_of: Callable[[T], int], seconds: float = float("inf")
    ) -> T:
        """Return the value of `key`, made by `make` unless it is here. What `make` raises passes and is not kept."""
        with self._lock:
            slot = self._slots.setdefault(key, _Slot())
            self._slots.move_to_end(key)
        with slot.lock:
            if slot.size < 0 or slot.until < time.monotonic():
                try:
                    value = make()
                except BaseException:
                    self._drop(key, slot)
                    raise
                self._keep(key, slot, value, size_of(value) + OVERHEAD_BYTES, seconds)
            return slot.value  # type: ignore[no-any-return]

    def _keep(self, key: Hashable, slot: _Slot, value: Any, size: int, seconds: float) -> None:
        with self._lock:
            if self._slots.get(key) is slot:
                self._held += size - max(slot.size, 0)
            slot.value, slot.size, slot.until = value, size, time.monotonic() + seconds
            for other_key in list(self._slots):
                if self._held <= self._most_bytes:
                    break
                other = self._slots[other_key]
                if other.size >= 0:
                    del self._slots[other_key]
                    self._held -= other.size

    def _drop(self, key: Hashable, slot: _Slot) -> None:
        with self._lock:
            if self._slots.get(key) is slot:
                del self._slots[key]
                self._held -= max(slot.size, 0)
