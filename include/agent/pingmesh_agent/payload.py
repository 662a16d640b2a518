"""Requests and replies with a payload, and the kernel's timestamps of their packets."""

from __future__ import annotations

import struct
import time
from _socket import SOL_SOCKET, socket

# Request and reply are as long as each other: magic | token | length | ns that the peer held it | filling.
PAYLOAD = struct.Struct("!4sIII")
REQUEST, REPLY = (
    b"PMQ1",
    b"PMR1",
)  # two of them, so that two responders can never talk to each other
FILLING = bytes(range(256)) * 256
MAX_TCP_PAYLOAD, MAX_UDP_PAYLOAD = len(FILLING), 1400  # one datagram fits a frame
SO_TIMESTAMPING = 37  # SCM_TIMESTAMPING too; not in Python's socket module
STAMP_ARRIVALS = 8 | 16  # RX_SOFTWARE, SOFTWARE
STAMP_BOTH = STAMP_ARRIVALS | 2 | 2048  # TX_SOFTWARE, OPT_TSONLY: the time without a copy of the packet
MSG_ERRQUEUE = 0x2000
IP_RECVERR, IPV6_RECVERR = (
    (0, 11),
    (41, 25),
)  # level, option: an unreachable peer is said to be one, not lost
IP_PKTINFO, IPV6_RECVPKTINFO, IPV6_PKTINFO = (0, 8), (41, 49), (41, 50)
ANCILLARY_BYTES = 256
TIMESPEC = struct.Struct("@ll")
RST_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER 0: no TIME_WAIT is left behind


def kernel_time_ns(ancillary: list[tuple[int, int, bytes]]) -> int | None:
    """When the kernel saw the packet that these control messages came with (CLOCK_REALTIME), or None."""
    for level, kind, data in ancillary:
        if level == SOL_SOCKET and kind == SO_TIMESTAMPING and len(data) >= TIMESPEC.size:
            seconds, nanoseconds = TIMESPEC.unpack_from(data)
            return int(seconds) * 1_000_000_000 + int(nanoseconds) or None
    return None


def departure_ns(sock: socket) -> int | None:
    """When the kernel sent the last packet of `sock`, from its error queue; None if it does not say (yet)."""
    try:
        return kernel_time_ns(sock.recvmsg(0, ANCILLARY_BYTES, MSG_ERRQUEUE)[1])
    except BlockingIOError:
        return None


def source_of_reply(ancillary: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """Control messages by which a reply leaves from the address that was asked; a socket bound to all of a host's
    addresses would choose one of its own, and the peer would not know it."""
    for level, kind, data in ancillary:
        if (level, kind) == IP_PKTINFO:
            return [(level, kind, bytes(4) + data[4:])]  # whatever the interface
        if (level, kind) == IPV6_PKTINFO:
            return [(level, kind, data[:16] + bytes(4))]
    return []


def reply_to(request: bytes, arrived_ns: int | None) -> bytes | None:
    """The answer to a whole request, exactly as long; None for anything that is not one."""
    if len(request) < PAYLOAD.size:
        return None
    magic, token, size, _ = PAYLOAD.unpack_from(request)
    if magic != REQUEST or size != len(request):
        return None
    now_ns = time.time_ns()
    held_ns = max(0, min(0xFFFFFFFF, now_ns - (arrived_ns or now_ns)))
    return PAYLOAD.pack(REPLY, token, size, held_ns) + request[PAYLOAD.size :]
