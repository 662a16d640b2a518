"""The responder."""

from __future__ import annotations

import select
from _socket import (
    AF_INET6,
    IPPROTO_IPV6,
    IPPROTO_TCP,
    IPV6_V6ONLY,
    SO_LINGER,
    SO_REUSEADDR,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_DEFER_ACCEPT,
    TCP_NODELAY,
    socket,
)

from pingmesh_agent.addresses import WILDCARD
from pingmesh_agent.limits import (
    ACCEPTS_PER_TICK,
    CONNECTION_S,
    DATAGRAMS_PER_TICK,
    MAX_CONNECTIONS,
)
from pingmesh_agent.payload import (
    ANCILLARY_BYTES,
    IP_PKTINFO,
    IPV6_RECVPKTINFO,
    MAX_TCP_PAYLOAD,
    MAX_UDP_PAYLOAD,
    PAYLOAD,
    REQUEST,
    RST_ON_CLOSE,
    SO_TIMESTAMPING,
    STAMP_ARRIVALS,
    kernel_time_ns,
    reply_to,
    source_of_reply,
)
from pingmesh_agent.poller import Poller


class Responder:
    """Answers probes, and nothing else. A bare connect never wakes this process: the kernel defers the accept."""

    def __init__(self, poller: Poller, family: int, address: str, port: int, now_s: float) -> None:
        self.poller, self.family, self.now_s = poller, family, now_s
        self.connections: dict[int, Connection] = {}  # oldest first
        self.answered = self.refused = 0
        self.max_connections = MAX_CONNECTIONS
        self.listener = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
        self.datagrams = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
        try:
            self.listener.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
            for sock in (self.listener, self.datagrams):
                if family == AF_INET6:
                    sock.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, 1)
                sock.setsockopt(SOL_SOCKET, SO_TIMESTAMPING, STAMP_ARRIVALS)
                sock.bind((address, port))
            self.listener.setsockopt(IPPROTO_TCP, TCP_DEFER_ACCEPT, 1)
            self.listener.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)  # this and the next are inherited by connections
            self.listener.setsockopt(SOL_SOCKET, SO_LINGER, RST_ON_CLOSE)
            self.listener.listen(1024)
        except OSError:
            self.listener.close()
            self.datagrams.close()
            raise
        if address == WILDCARD[family]:
            self.datagrams.setsockopt(*(IPV6_RECVPKTINFO if family == AF_INET6 else IP_PKTINFO), 1)
        poller.watch(self.listener.fileno(), select.EPOLLIN, self.accept)
        poller.watch(self.datagrams.fileno(), select.EPOLLIN, self.answer_datagrams)

    def answer_datagrams(self) -> None:
        for _ in range(DATAGRAMS_PER_TICK):
            try:
                request, ancillary, _, sender = self.datagrams.recvmsg(MAX_UDP_PAYLOAD + 1, ANCILLARY_BYTES)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error for an earlier reply
            reply = reply_to(request, kernel_time_ns(ancillary)) if len(request) <= MAX_UDP_PAYLOAD else None
            if reply is None:
                self.refused += 1
                continue
            try:
                self.datagrams.sendmsg([reply], source_of_reply(ancillary), 0, sender)
                self.answered += 1
            except OSError:
                self.refused += 1

    def accept(self) -> None:
        for _ in range(ACCEPTS_PER_TICK):
            try:
                fd, _ = self.listener._accept()  # type: ignore[attr-defined]
            except BlockingIOError:
                return
            except OSError:  # out of descriptors, or gone again
                self.drop_oldest()
                return
            connection = Connection(socket(self.family, SOCK_STREAM, 0, fd), self)
            while len(self.connections) >= self.max_connections:
                self.drop_oldest()
            self.connections[fd] = connection
            connection.advance()

    def drop_oldest(self) -> None:
        for connection in self.connections.values():
            self.refused += 1
            connection.close()
            break

    def expire(self, now_s: float) -> None:
        self.now_s = now_s
        while self.connections:
            oldest = next(iter(self.connections.values()))
            if oldest.deadline_s > now_s:
                break
            oldest.close()

    def close(self) -> None:
        for connection in list(self.connections.values()):
            connection.close()
        self.poller.close(self.listener)
        self.poller.close(self.datagrams)


class Connection:
    """One request and one reply; then the peer closes. Anything else, or five seconds: closed by RST, unanswered."""

    __slots__ = ("buffer", "deadline_s", "fd", "responder", "sock", "unsent")

    def __init__(self, sock: socket, responder: Responder) -> None:
        sock.setblocking(False)
        self.sock, self.fd, self.responder = sock, sock.fileno(), responder
        self.deadline_s = responder.now_s + CONNECTION_S
        self.buffer = b""
        self.unsent: memoryview | None = None

    def advance(self) -> None:
        try:
            done = self.receive() if self.unsent is None else self.after_reply()
            if self.unsent:
                self.unsent = self.unsent[self.sock.send(self.unsent) :]
        except BlockingIOError:
            done = False
        except OSError:
            done = True
        if done:
            self.close()
        else:
            self.responder.poller.watch(self.fd, select.EPOLLOUT if self.unsent else select.EPOLLIN, self.advance)

    def receive(self) -> bool:
        data, ancillary, _, _ = self.sock.recvmsg(MAX_TCP_PAYLOAD, ANCILLARY_BYTES)
        self.buffer += data
        if len(self.buffer) < PAYLOAD.size:
            return not data
        magic, _, size, _ = PAYLOAD.unpack_from(self.buffer)
        if magic != REQUEST or not len(self.buffer) <= size <= MAX_TCP_PAYLOAD:
            self.responder.refused += 1
            return True
        if len(self.buffer) < size:
            return not data
        reply = reply_to(self.buffer, kernel_time_ns(ancillary))
        if reply:
            self.responder.answered += 1
            self.unsent = memoryview(reply)
            self.buffer = b""
        return reply is None

    def after_reply(self) -> bool:
        return not self.unsent  # the peer closed, or sent more than it should

    def close(self) -> None:
        self.responder.connections.pop(self.fd, None)
        self.responder.poller.close(self.sock)
