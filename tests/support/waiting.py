"""Waiting for what another process does, as long as a slow machine needs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def await_true(what: str, condition: Callable[[], Any], patience_s: float = 20) -> Any:
    """Ask until the answer counts as true and return it; fail, naming `what`, after `patience_s`."""
    deadline = time.monotonic() + patience_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not {what} within {patience_s:g} s"
        time.sleep(0.05)
    return found
