"""Outcomes of one probe: the codes in the status column of a segment."""

from __future__ import annotations

import errno

(
    OK,
    TIMEOUT,
    REFUSED,
    HOST_UNREACHABLE,
    NET_UNREACHABLE,
    RESET,
    BAD_REPLY,
    LOCAL_ERROR,
    NO_ECHO,
    TOO_BIG,
) = range(10)
PENDING = -1
# TCP_INFO counts our repeats only. What the peer had to send twice shows as its timer: 1 s for a SYN-ACK (RFC 6298),
# 200 ms (TCP_RTO_MIN) and a round trip or two for a reply; both less a tick. No clean answer can be so late.
SYN_REPEAT_US, REPEAT_US = 990_000, 190_000
STATUS_OF_ERRNO = {
    0: PENDING,
    errno.EINPROGRESS: PENDING,
    errno.ETIMEDOUT: TIMEOUT,
    errno.ECONNREFUSED: REFUSED,
    errno.EHOSTUNREACH: HOST_UNREACHABLE,
    errno.EHOSTDOWN: HOST_UNREACHABLE,
    errno.ENETUNREACH: NET_UNREACHABLE,
    errno.ENETDOWN: NET_UNREACHABLE,
    errno.ECONNRESET: RESET,
    errno.EPIPE: RESET,
    errno.EMSGSIZE: TOO_BIG,
}
