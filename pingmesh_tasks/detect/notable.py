"""Which fresh bytes of an access log are worth a look at once: a guess from the bytes alone, no tables needed.

A wrong yes costs one early look, a wrong no the wait for the next regular one.
"""

from __future__ import annotations

import re
from collections import Counter

#: So often a second in one batch: the same data read; connections of one client, or in all; lines that are none.
SAME_READS_PER_S, SAME_CLIENT_PER_S, CONNECTIONS_PER_S, STRANGE_PER_S = 10.0, 4.0, 40.0, 10.0
MIN_COUNT = 10

_READ = re.compile(rb"GetData called for ([^\r\n]{1,400})")
_CONNECTION = re.compile(rb"Connection received from ([^\r\n]{1,400})")
_LINE = re.compile(rb" called for tree=| Connection (?:received|disconnected) from ")


def looks_notable(data: bytes, span_s: float) -> bool:
    """Tell whether `data`, which a server wrote in `span_s` seconds, may be a flood. It may be cut at both ends."""
    seconds = max(span_s, 1.0)

    def often(count: int, per_s: float) -> bool:
        return count >= max(MIN_COUNT, per_s * seconds)

    connections = _CONNECTION.findall(data)
    strange = data.count(b"\n") - len(_LINE.findall(data))
    return (
        often(_most(_READ.findall(data)), SAME_READS_PER_S)
        or often(_most(connections), SAME_CLIENT_PER_S)
        or often(len(connections), CONNECTIONS_PER_S)
        or often(strange, STRANGE_PER_S)
    )


def _most(found: list[bytes]) -> int:
    return max(Counter(found).values(), default=0)
