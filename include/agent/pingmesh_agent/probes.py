"""The probes, one class per protocol.

A probe owns one socket from `launch` until the prober has its outcome. To add a protocol, write a
subclass with `launch` and `advance` and add it to PROTOCOLS.
"""

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
    RESET,
    STATUS_OF_ERRNO,
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

# struct tcp_info, an ABI since Linux 2.6: u8 tcpi_state at 0, u32 tcpi_rtt (us) at 68, u32
# tcpi_total_retrans at 100.
TCP_INFO_BYTES, STATE, RTT_US, TOTAL_RETRANS = 104, 0, 68, 100
SYN_SENT, CLOSED = 2, 7
U32 = struct.Struct("=I").unpack_from
MAX_RETRANSMITS = 255  # of the column

# TCP_INFO counts retransmissions of this host only. A retransmission of the peer shows as its
# timer: 1 s for a SYN-ACK (RFC 6298), 200 ms (TCP_RTO_MIN) and up to two round trips for a reply.
# Both limits are 10 ms lower. No answer without a retransmission can be so late.
SYN_REPEAT_US, REPEAT_US = 990_000, 190_000
NO_LIMIT_US = 1 << 32
MAX_RTT_US = 0xFFFFFFFF
CLOCK_JITTER_US = 50  # by which a round trip may be negative: two timestamps, one clock


class Probe:
    """One probe. `launch` and `advance` return a status, or PENDING; `advance` never blocks.

    Class attributes:
        kind: Socket type.
        sizes: Smallest and largest payload, bytes.
        young_ticks: Ticks in which the prober advances the probe before it leaves it to epoll.
        at_deadline: Status when the timeout has passed.
        wants: epoll events that the probe waits for.

    Attributes:
        repeat_us: Round trips that are not shorter contain a retransmission.
        settled: The outcome is recorded and the socket closed.
        stepped: The wall clock was set while the probe was in flight.
        watched_events: What epoll watches, 0 before.
    """

    kind = SOCK_STREAM
    sizes = (0, 0)
    young_ticks = 1
    at_deadline = TIMEOUT
    wants = select.EPOLLOUT

    __slots__ = (
        "address", "deadline_s", "index", "port", "repeat_us", "retransmits", "rtt_us",
        "segment", "sent_us", "settled", "size", "sock", "stepped", "ticks", "watched_events",
    )  # fmt: skip

    def __init__(
        self, sock: socket, address: tuple[str, int], size: int, index: int, segment: Segment
    ) -> None:
        self.sock, self.address, self.size = sock, address, size
        self.index, self.segment = index, segment
        self.port = self.rtt_us = self.retransmits = self.sent_us = 0
        self.ticks = self.watched_events = 0
        self.deadline_s = 0.0
        self.repeat_us = NO_LIMIT_US
        self.settled = self.stepped = False

    def launch(self) -> int:
        raise NotImplementedError

    def advance(self) -> int:
        raise NotImplementedError


class TcpProbe(Probe):
    """A TCP connect, closed by RST.

    The RTT is the kernel's, from SYN to SYN-ACK: no process on either host is involved.
    """

    __slots__ = ()

    def launch(self) -> int:
        self.repeat_us = SYN_REPEAT_US
        return STATUS_OF_ERRNO.get(self.sock.connect_ex(self.address), LOCAL_ERROR)

    def advance(self) -> int:
        info = self.sock.getsockopt(IPPROTO_TCP, TCP_INFO, TCP_INFO_BYTES)
        self.rtt_us = U32(info, RTT_US)[0]
        self.retransmits = min(MAX_RETRANSMITS, U32(info, TOTAL_RETRANS)[0])
        state = info[STATE]
        if state != SYN_SENT and state != CLOSED:
            self.rtt_us = self.rtt_us or 1
            return OK
        # A SYN that was rejected by ICMP leaves the state at SYN_SENT.
        fault = self.sock.getsockopt(SOL_SOCKET, SO_ERROR)
        return STATUS_OF_ERRNO.get(fault, LOCAL_ERROR) if fault or state == SYN_SENT else RESET


class PayloadProbe(Probe):
    """What the probes with a payload share: the request, and the check of the reply."""

    __slots__ = ("departed_ns", "token")

    def request(self) -> bytes:
        """Make the request, with a new random token."""
        self.departed_ns: int | None = None
        self.token = int.from_bytes(os.urandom(4), "big")
        return PAYLOAD.pack(REQUEST, self.token, self.size, 0) + FILLING[PAYLOAD.size : self.size]

    def check_reply(self, reply: bytes, arrived_ns: int | None) -> int:
        """Return the status for a complete reply and set `rtt_us`.

        The RTT is the time from departure to arrival, less the time that the peer held the request.
        """
        if len(reply) != self.size:
            return BAD_REPLY
        magic, token, size, held_ns = PAYLOAD.unpack_from(reply)
        if (magic, token, size) != (REPLY, self.token, len(reply)):
            return BAD_REPLY
        if reply[PAYLOAD.size :] != FILLING[PAYLOAD.size : size]:
            return BAD_REPLY
        if self.stepped or self.departed_ns is None or arrived_ns is None:
            return LOCAL_ERROR  # there are no two times of one clock
        rtt_us = (arrived_ns - self.departed_ns - held_ns) // 1000
        if not self.retransmits and not -CLOCK_JITTER_US <= rtt_us <= MAX_RTT_US:
            return LOCAL_ERROR  # the clock was set between the two times
        self.rtt_us = max(1, min(MAX_RTT_US, rtt_us))
        return OK


class TcpEchoProbe(PayloadProbe, TcpProbe):
    """A TCP connect, then `size` bytes to the peer and back.

    Above about 14 KB (the first congestion window) TCP itself needs several round trips, and the
    RTT contains those of the reply.
    """

    __slots__ = ("reply", "unsent")
    sizes = (PAYLOAD.size, MAX_TCP_PAYLOAD)
    young_ticks = 3

    def launch(self) -> int:
        self.unsent: memoryview | None = None  # None before the connection is established
        self.reply = b""
        return TcpProbe.launch(self)

    @property
    def wants(self) -> int:  # type: ignore[override]
        request_sent = self.unsent is not None and not self.unsent
        return select.EPOLLIN if request_sent else select.EPOLLOUT

    @property
    def at_deadline(self) -> int:  # type: ignore[override]
        return TIMEOUT if self.unsent is None else NO_ECHO

    def advance(self) -> int:
        if self.unsent is None:
            status = TcpProbe.advance(self)
            if status != OK:
                return status
            connect_repeated = self.rtt_us >= SYN_REPEAT_US
            self.repeat_us = 0 if connect_repeated else REPEAT_US + 2 * self.rtt_us
            self.sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
            self.sock.setsockopt(SOL_SOCKET, SO_TIMESTAMPING, STAMP_BOTH)
            self.unsent = memoryview(self.request())
        if self.unsent:
            self.unsent = self.unsent[self.sock.send(self.unsent) :]
        stamp = departure_ns(self.sock)
        while stamp:  # one for each send; the last counts
            self.departed_ns, stamp = stamp, departure_ns(self.sock)
        data, ancillary, _, _ = self.sock.recvmsg(MAX_TCP_PAYLOAD, ANCILLARY_BYTES)
        self.reply += data
        if data and len(self.reply) < self.size:
            return PENDING
        info = self.sock.getsockopt(IPPROTO_TCP, TCP_INFO, TCP_INFO_BYTES)
        self.retransmits = min(MAX_RETRANSMITS, U32(info, TOTAL_RETRANS)[0])
        return self.check_reply(self.reply, kernel_time_ns(ancillary))


class UdpProbe(PayloadProbe):
    """One datagram to the peer and back.

    Each probe has a socket, so that the source port sweeps over the paths as that of TCP does.
    """

    __slots__ = ()
    kind = SOCK_DGRAM
    sizes = (PAYLOAD.size, MAX_UDP_PAYLOAD)
    young_ticks = 2
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
        return self.check_reply(data, kernel_time_ns(ancillary))


PROTOCOLS: dict[str, type[Probe]] = {"tcp": TcpProbe, "tcp_echo": TcpEchoProbe, "udp": UdpProbe}
