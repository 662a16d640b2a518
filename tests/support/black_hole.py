"""A peer that drops what is sent to it, without privileges."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator


@contextlib.contextmanager
def black_hole(address: str) -> Iterator[int]:
    """A port that drops every SYN: a listener whose queue is full."""
    with socket.socket() as listener, contextlib.ExitStack() as queue:
        listener.bind((address, 0))
        listener.listen(0)
        for _ in range(4):
            waiting = queue.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
