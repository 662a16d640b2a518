"""epoll, and the handlers of its events."""

from __future__ import annotations

import select
from _socket import socket

from pingmesh_agent.limits import EVENTS_PER_TICK

TYPE_CHECKING = False  # importing typing would add a megabyte
if TYPE_CHECKING:
    from typing import Callable


class Poller:
    """Calls the handler of each descriptor that is ready.

    Handlers read without blocking, so that a call without need does no harm.
    """

    def __init__(self) -> None:
        self.epoll = select.epoll()
        self.handlers: dict[int, Callable[[], None]] = {}

    def watch(self, fd: int, events: int, handler: Callable[[], None]) -> None:
        if fd in self.handlers:
            self.epoll.modify(fd, events)
        else:
            self.epoll.register(fd, events)
        self.handlers[fd] = handler

    def close(self, sock: socket) -> None:
        """Close a socket, watched or not."""
        self.handlers.pop(sock.fileno(), None)
        sock.close()

    def poll(self) -> None:
        for fd, _ in self.epoll.poll(0, EVENTS_PER_TICK):
            handler = self.handlers.get(fd)
            if handler:
                handler()
