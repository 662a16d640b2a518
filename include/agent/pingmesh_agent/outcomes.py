"""The status codes of a probe, as in the status column of a segment."""

from __future__ import annotations

import errno

OK, TIMEOUT, REFUSED, HOST_UNREACHABLE, NET_UNREACHABLE = range(5)
RESET, BAD_REPLY, LOCAL_ERROR, NO_ECHO, TOO_BIG = range(5, 10)
PENDING = -1  # no outcome yet; never in a segment

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
