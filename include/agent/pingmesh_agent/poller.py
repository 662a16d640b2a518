"""epoll and its handlers."""

from __future__ import annotations

import select
from _socket import socket

from pingmesh_agent.limits import EVENTS_PER_TICK

TYPE_CHECKING = False  # importing typing would cost a megabyte on every host
if TYPE_CHECKING:
    from typing import Callable


class Poller:
    """epoll and who is to be told. A handler may be called without need: all of them read without blocking."""

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
        self.handlers.pop(sock.fileno(), None)
        sock.close()

    def poll(self) -> None:
        for fd, _ in self.epoll.poll(0, EVENTS_PER_TICK):
            handler = self.handlers.get(fd)
            if handler:
                handler()
