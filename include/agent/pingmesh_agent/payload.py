"""Requests and replies with a payload, and the kernel's timestamps of their packets.

Request and reply are equally long: `magic | token | length | ns that the peer held it | filling`,
big-endian. Their magics differ, so that two responders can never keep answering each other.
"""

from __future__ import annotations

import struct
import time
from _socket import SOL_SOCKET, socket

PAYLOAD = struct.Struct("!4sIII")
REQUEST, REPLY = b"PMQ1", b"PMR1"
FILLING = bytes(range(256)) * 256
MAX_TCP_PAYLOAD, MAX_UDP_PAYLOAD = len(FILLING), 1400  # one datagram fits in an Ethernet frame

# Constants of Linux that Python's socket module does not have.
SO_TIMESTAMPING = 37  # SCM_TIMESTAMPING too
STAMP_ARRIVALS = 8 | 16  # RX_SOFTWARE, SOFTWARE
STAMP_BOTH = STAMP_ARRIVALS | 2 | 2048  # TX_SOFTWARE; OPT_TSONLY: without a copy of the packet
MSG_ERRQUEUE = 0x2000
IP_RECVERR, IPV6_RECVERR = (0, 11), (41, 25)  # (level, option): tells unreachable from lost
IP_PKTINFO, IPV6_RECVPKTINFO, IPV6_PKTINFO = (0, 8), (41, 49), (41, 50)
ANCILLARY_BYTES = 256
TIMESPEC = struct.Struct("@ll")
RST_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER of 0 s: no TIME_WAIT is left behind


def kernel_time_ns(ancillary: list[tuple[int, int, bytes]]) -> int | None:
    """When the kernel saw the packet of these control messages (CLOCK_REALTIME), or None."""
    for level, kind, data in ancillary:
        if level == SOL_SOCKET and kind == SO_TIMESTAMPING and len(data) >= TIMESPEC.size:
            seconds, nanoseconds = TIMESPEC.unpack_from(data)
            return int(seconds) * 1_000_000_000 + int(nanoseconds) or None
    return None


def departure_ns(sock: socket) -> int | None:
    """When the kernel sent the oldest packet in the error queue of `sock`; None if it is empty."""
    try:
        return kernel_time_ns(sock.recvmsg(0, ANCILLARY_BYTES, MSG_ERRQUEUE)[1])
    except BlockingIOError:
        return None


def source_of_reply(ancillary: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """Control messages that make a reply leave from the address to which the request was sent.

    A socket that is bound to all addresses would choose one by the route, and the peer's socket,
    which is connected, would not accept a reply from there.
    """
    for level, kind, data in ancillary:
        if (level, kind) == IP_PKTINFO:
            return [(level, kind, bytes(4) + data[4:])]  # interface 0: any
        if (level, kind) == IPV6_PKTINFO:
            return [(level, kind, data[:16] + bytes(4))]
    return []


def reply_to(request: bytes, arrived_ns: int | None) -> bytes | None:
    """The reply to a whole request, exactly as long; None if `request` is not a request."""
    if len(request) < PAYLOAD.size:
        return None
    magic, token, size, _ = PAYLOAD.unpack_from(request)
    if magic != REQUEST or size != len(request):
        return None
    now_ns = time.time_ns()
    held_ns = max(0, min(0xFFFFFFFF, now_ns - (arrived_ns or now_ns)))
    return PAYLOAD.pack(REPLY, token, size, held_ns) + request[PAYLOAD.size :]
