"""The state of one walk of a trace: what was asked of each hop, what came back, what is next."""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing would add a megabyte
if TYPE_CHECKING:
    from _socket import socket
    from typing import Any

MAX_SILENT_RUN = 3  # hops in a row without an answer that end the first round of a walk
ALL_THE_WAY = 64  # the TTL of a packet to the target itself
HOP, SILENT = "hop", "silent"
FINAL = ("open", "refused", "closed")  # answers of the target itself


class Walk:
    """The path of the packets from one source port.

    In its first round a walk asks hop after hop. In later rounds it asks what `next_round` lists.

    Attributes:
        hops: By TTL: [router or None, RTT in us or None, outcome, packets, answers].
        ttl: The TTL of the next packet, or of the one in flight.
        again: TTLs left to ask in a later round; None in the first.
        ends: TTL at which the target, or an error that ends the path, answered.
        free_s: When the next packet may be sent.
        sent_s: When the last packet was sent.
    """

    __slots__ = (
        "again", "done", "ends", "free_s", "hops", "port", "round", "sent_s", "sock", "ttl",
    )  # fmt: skip

    def __init__(self, port: int, free_s: float) -> None:
        self.port, self.free_s = port, free_s
        self.hops: dict[int, list[Any]] = {}
        self.again: list[int] | None = None
        self.ttl, self.round, self.sent_s = 1, 1, 0.0
        self.sock: socket | None = None
        self.ends: int | None = None
        self.done = False

    def last_asked(self) -> int:
        """The last hop that was asked, answered or not."""
        return self.ends or max((ttl for ttl in self.hops if ttl != ALL_THE_WAY), default=0)

    def last_answered(self) -> int:
        """The last hop that answered."""
        answered = (ttl for ttl, hop in self.hops.items() if hop[4] and ttl != ALL_THE_WAY)
        return max(answered, default=0)

    def reached(self) -> bool:
        """Whether the target answered."""
        ends = (self.ends, ALL_THE_WAY)
        return any(self.hops[ttl][2] in FINAL for ttl in ends if ttl in self.hops)

    def record(self, router: str | None, rtt_us: int | None, outcome: str) -> None:
        """Count a packet with this TTL; an answer replaces what was known of the hop."""
        hop = self.hops.setdefault(self.ttl, [None, None, SILENT, 0, 0])
        hop[3] += 1
        if outcome == SILENT:
            return
        hop[:3] = [router, rtt_us, outcome]
        hop[4] += 1
        ends_here = outcome != HOP and self.ttl != ALL_THE_WAY
        if ends_here and (self.ends is None or self.ttl < self.ends):
            self.ends = self.ttl

    def goes_on(self, max_ttl: int, target_ttl: int) -> bool:
        """Whether the first round asks one hop more.

        Args:
            max_ttl: The highest TTL of the trace.
            target_ttl: The largest distance of the target that any walk found, or 0.
        """
        silent_run = self.ttl - self.last_answered()
        too_far = self.ttl >= max_ttl or 0 < target_ttl <= self.ttl
        return not (self.ends or too_far or silent_run >= MAX_SILENT_RUN)

    def next_round(self, rounds: int) -> list[int]:
        """TTLs to ask in round number `self.round`.

        Rounds up to `rounds` ask every hop again. The round after them asks what never answered:
        the target first, and the silent hops up to the second behind the last that answered.
        """
        hops = range(1, self.last_asked() + 1)
        if self.round <= rounds:
            return list(hops)
        near = self.last_answered() + 2
        silent = [ttl for ttl in hops if ttl <= near and not self._has_answered(ttl)]
        return silent if self.ends else [ALL_THE_WAY, *silent]

    def drop_needless(self) -> None:
        """Forget the TTLs behind the end of the path, and the target once it has answered."""
        last = self.last_asked()
        self.again = [
            ttl for ttl in self.again or () if ttl <= last or (ttl == ALL_THE_WAY and not self.ends)
        ]

    def result(self) -> dict[str, Any]:
        asked = [ttl for ttl in range(1, self.last_asked() + 1) if ttl in self.hops]
        return {
            "port": self.port,
            "reached": self.reached(),
            "hops": [[ttl, *self.hops[ttl]] for ttl in asked],
            "directly": self.hops.get(ALL_THE_WAY),
        }

    def _has_answered(self, ttl: int) -> bool:
        return ttl in self.hops and self.hops[ttl][4] > 0
