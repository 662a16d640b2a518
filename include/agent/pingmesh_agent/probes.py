"""The probes, one class a protocol."""

from __future__ import annotations

import os
import select
import struct
from _socket import (
    AF_INET6,
    IPPROTO_TCP,
    SO_ERROR,
    SOCK_DGRAM,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_INFO,
    TCP_NODELAY,
    socket,
)

from pingmesh_agent.outcomes import (
    BAD_REPLY,
    LOCAL_ERROR,
    NO_ECHO,
    OK,
    PENDING,
    REPEAT_US,
    RESET,
    STATUS_OF_ERRNO,
    SYN_REPEAT_US,
    TIMEOUT,
)
from pingmesh_agent.payload import (
    ANCILLARY_BYTES,
    FILLING,
    IP_RECVERR,
    IPV6_RECVERR,
    MAX_TCP_PAYLOAD,
    MAX_UDP_PAYLOAD,
    PAYLOAD,
    REPLY,
    REQUEST,
    SO_TIMESTAMPING,
    STAMP_BOTH,
    departure_ns,
    kernel_time_ns,
)
from pingmesh_agent.segment import Segment


# A probe owns one socket from launch to settlement. To add a protocol (icmp, http): a subclass with launch() and
# advance(), and a line in PROTOCOLS.
class Probe:
    """One probe under way. launch() and advance() return its status, or PENDING; advance() never blocks."""

    kind = SOCK_STREAM
    sizes = (0, 0)  # smallest and largest payload
    looks = 1  # ticks after which it is no longer looked at each tick, but given to epoll
    at_deadline = TIMEOUT
    wants = select.EPOLLOUT

    __slots__ = ("address", "deadline_s", "index", "port", "repeat_us", "retransmits", "rtt_us", "segment", "sent_us",
                 "settled", "size", "sock", "stepped", "tries", "waits_for")  # fmt: skip

    def __init__(self, sock: socket, address: tuple[str, int], size: int, index: int, segment: Segment) -> None:
        self.sock, self.address, self.size, self.index, self.segment = (
            sock,
            address,
            size,
            index,
            segment,
        )
        self.port = self.rtt_us = self.retransmits = self.tries = self.sent_us = self.waits_for = 0
        self.deadline_s = 0.0
        self.repeat_us = 1 << 32  # a round trip from here on had something sent twice in it
        self.settled = self.stepped = False

    def launch(self) -> int:
        raise NotImplementedError

    def advance(self) -> int:
        raise NotImplementedError


class TcpProbe(Probe):
    """A TCP connect, closed by RST. The RTT is the kernel's own, from SYN to SYN-ACK: no process has a part in it."""

    __slots__ = ()

    def launch(self) -> int:
        self.repeat_us = SYN_REPEAT_US
        return STATUS_OF_ERRNO.get(self.sock.connect_ex(self.address), LOCAL_ERROR)

    def advance(self) -> int:
        info = self.sock.getsockopt(IPPROTO_TCP, TCP_INFO, 104)
        self.rtt_us, self.retransmits = U32(info, 68)[0], min(255, U32(info, 100)[0])
        if info[0] not in {SYN_SENT, CLOSED}:
            self.rtt_us = self.rtt_us or 1
            return OK
        fault = self.sock.getsockopt(SOL_SOCKET, SO_ERROR)  # a rejected SYN leaves the state at SYN_SENT
        return STATUS_OF_ERRNO.get(fault, LOCAL_ERROR) if fault or info[0] == SYN_SENT else RESET


class PayloadProbe(Probe):
    """What the probes with a payload share: a request, two kernel times, and a reply to be held against both."""

    __slots__ = ("departed_ns", "token")

    def request(self) -> bytes:
        self.departed_ns: int | None = None
        self.token = int.from_bytes(os.urandom(4), "big")
        return PAYLOAD.pack(REQUEST, self.token, self.size, 0) + FILLING[PAYLOAD.size : self.size]

    def judge(self, reply: bytes, arrived_ns: int | None) -> int:
        """Status of a probe whose reply is complete; sets rtt_us: there and back, less the time the peer held it."""
        if len(reply) != self.size:
            return BAD_REPLY
        magic, token, size, held_ns = PAYLOAD.unpack_from(reply)
        if (magic, token, size) != (REPLY, self.token, len(reply)):
            return BAD_REPLY
        if reply[PAYLOAD.size :] != FILLING[PAYLOAD.size : size]:
            return BAD_REPLY
        if self.stepped or self.departed_ns is None or arrived_ns is None:
            return LOCAL_ERROR  # no two times of one clock
        rtt_us = (arrived_ns - self.departed_ns - held_ns) // 1000
        if not self.retransmits and not -50 <= rtt_us < 1 << 32:
            return LOCAL_ERROR  # the clock was set between them
        self.rtt_us = max(1, min(0xFFFFFFFF, rtt_us))
        return OK


class TcpEchoProbe(PayloadProbe, TcpProbe):
    """A TCP connect, then `size` bytes there and back. Above about 14 KB (the first congestion window) TCP itself
    needs several round trips, and the RTT has those of the way back."""

    __slots__ = ("reply", "unsent")
    sizes = (PAYLOAD.size, MAX_TCP_PAYLOAD)
    looks = 3

    def launch(self) -> int:
        self.unsent: memoryview | None = None
        self.reply = b""
        return TcpProbe.launch(self)

    @property
    def wants(self) -> int:  # type: ignore[override]
        return select.EPOLLIN if self.unsent is not None and not self.unsent else select.EPOLLOUT

    @property
    def at_deadline(self) -> int:  # type: ignore[override]
        return TIMEOUT if self.unsent is None else NO_ECHO

    def advance(self) -> int:
        if self.unsent is None:
            status = TcpProbe.advance(self)
            if status != OK:
                return status
            self.repeat_us = REPEAT_US + 2 * self.rtt_us if self.rtt_us < SYN_REPEAT_US else 0
            self.sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
            self.sock.setsockopt(SOL_SOCKET, SO_TIMESTAMPING, STAMP_BOTH)
            self.unsent = memoryview(self.request())
        if self.unsent:
            self.unsent = self.unsent[self.sock.send(self.unsent) :]
        stamp = departure_ns(self.sock)
        while stamp:  # one for each send
            self.departed_ns, stamp = stamp, departure_ns(self.sock)
        data, ancillary, _, _ = self.sock.recvmsg(MAX_TCP_PAYLOAD, ANCILLARY_BYTES)
        self.reply += data
        if data and len(self.reply) < self.size:
            return PENDING
        self.retransmits = min(255, U32(self.sock.getsockopt(IPPROTO_TCP, TCP_INFO, 104), 100)[0])
        return self.judge(self.reply, kernel_time_ns(ancillary))


class UdpProbe(PayloadProbe):
    """One datagram there and back; a socket each, so that the source port sweeps over the paths as TCP's does."""

    __slots__ = ()
    kind = SOCK_DGRAM
    sizes = (PAYLOAD.size, MAX_UDP_PAYLOAD)
    looks = 2
    wants = select.EPOLLIN

    def launch(self) -> int:
        v6 = self.sock.family == AF_INET6
        self.sock.setsockopt(*(IPV6_RECVERR if v6 else IP_RECVERR), 1)
        self.sock.setsockopt(SOL_SOCKET, SO_TIMESTAMPING, STAMP_BOTH)
        self.sock.connect(self.address)
        self.sock.send(self.request())
        return PENDING

    def advance(self) -> int:
        self.departed_ns = self.departed_ns or departure_ns(self.sock)
        data, ancillary, _, _ = self.sock.recvmsg(MAX_UDP_PAYLOAD + 1, ANCILLARY_BYTES)
        return self.judge(data, kernel_time_ns(ancillary))


PROTOCOLS: dict[str, type[Probe]] = {"tcp": TcpProbe, "tcp_echo": TcpEchoProbe, "udp": UdpProbe}
U32 = struct.Struct("=I").unpack_from
SYN_SENT, CLOSED = 2, 7  # tcpi_state
