"""The responder: answers probes, and nothing else."""

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

BACKLOG = 1024


class Responder:
    """Listens at one address and port, TCP and UDP.

    A TCP connect alone never wakes this process: the kernel answers it, and defers the accept until
    data arrives.

    Attributes:
        connections: By descriptor, oldest first.
        answered: Replies sent.
        refused: Requests and connections that were not from a probe, or too many.
    """

    def __init__(self, poller: Poller, family: int, address: str, port: int, now_s: float) -> None:
        """Listen. Raises OSError if the address or port cannot be had."""
        self.poller, self.family, self.now_s = poller, family, now_s
        self.connections: dict[int, Connection] = {}
        self.answered = self.refused = 0
        self.max_connections = MAX_CONNECTIONS
        self.listener = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
        self.datagrams = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
        try:
            self._listen(address, port)
        except OSError:
            self.listener.close()
            self.datagrams.close()
            raise
        poller.watch(self.listener.fileno(), select.EPOLLIN, self.accept)
        poller.watch(self.datagrams.fileno(), select.EPOLLIN, self.answer_datagrams)

    def answer_datagrams(self) -> None:
        """Answer the datagrams that wait, a bounded number per tick."""
        for _ in range(DATAGRAMS_PER_TICK):
            try:
                message = self.datagrams.recvmsg(MAX_UDP_PAYLOAD + 1, ANCILLARY_BYTES)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error for an earlier reply
            request, ancillary, _, sender = message
            reply = None
            if len(request) <= MAX_UDP_PAYLOAD:
                reply = reply_to(request, kernel_time_ns(ancillary))
            if reply is None:
                self.refused += 1
                continue
            try:
                self.datagrams.sendmsg([reply], source_of_reply(ancillary), 0, sender)
                self.answered += 1
            except OSError:
                self.refused += 1

    def accept(self) -> None:
        """Accept the connections that wait, a bounded number per tick."""
        for _ in range(ACCEPTS_PER_TICK):
            try:
                fd, _ = self.listener._accept()  # type: ignore[attr-defined]
            except BlockingIOError:
                return
            except OSError:  # no descriptor is left, or the connection is gone again
                self.drop_oldest()
                return
            connection = Connection(socket(self.family, SOCK_STREAM, 0, fd), self)
            while len(self.connections) >= self.max_connections:
                self.drop_oldest()
            self.connections[fd] = connection
            connection.advance()

    def drop_oldest(self) -> None:
        """Close the oldest connection, if there is one, to make room."""
        for connection in self.connections.values():
            self.refused += 1
            connection.close()
            break

    def expire(self, now_s: float) -> None:
        """Close the connections that are older than CONNECTION_S."""
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

    def _listen(self, address: str, port: int) -> None:
        v6 = self.family == AF_INET6
        self.listener.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        for sock in (self.listener, self.datagrams):
            if v6:
                sock.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, 1)
            sock.setsockopt(SOL_SOCKET, SO_TIMESTAMPING, STAMP_ARRIVALS)
            sock.bind((address, port))
        if address == WILDCARD[self.family]:
            self.datagrams.setsockopt(*(IPV6_RECVPKTINFO if v6 else IP_PKTINFO), 1)
        self.listener.setsockopt(IPPROTO_TCP, TCP_DEFER_ACCEPT, 1)
        # Accepted connections inherit the next two.
        self.listener.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        self.listener.setsockopt(SOL_SOCKET, SO_LINGER, RST_ON_CLOSE)
        self.listener.listen(BACKLOG)


class Connection:
    """One request and its reply; then the peer closes.

    After CONNECTION_S, or for anything else than a request, the agent closes by RST.
    """

    __slots__ = ("buffer", "deadline_s", "fd", "responder", "sock", "unsent")

    def __init__(self, sock: socket, responder: Responder) -> None:
        sock.setblocking(False)
        self.sock, self.fd, self.responder = sock, sock.fileno(), responder
        self.deadline_s = responder.now_s + CONNECTION_S
        self.buffer = b""
        self.unsent: memoryview | None = None  # of the reply; None before there is one

    def advance(self) -> None:
        """Receive and send as far as possible without blocking."""
        try:
            # Once the reply is sent, the peer has closed or has sent more than one request.
            done = self.receive() if self.unsent is None else not self.unsent
            if self.unsent:
                self.unsent = self.unsent[self.sock.send(self.unsent) :]
        except BlockingIOError:
            done = False
        except OSError:
            done = True
        if done:
            self.close()
        else:
            events = select.EPOLLOUT if self.unsent else select.EPOLLIN
            self.responder.poller.watch(self.fd, events, self.advance)

    def receive(self) -> bool:
        """Read more of the request. Returns whether to close without a reply."""
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

    def close(self) -> None:
        self.responder.connections.pop(self.fd, None)
        self.responder.poller.close(self.sock)
