"""What of the hot data is worth waking somebody for: cheap looks at counts and lines, no verdicts.

A batch that is not notable waits for the next look, half a minute away at most; a notable one starts that look at
once. So a look may well be wrong in calling something notable, it costs one run; `detect` judges. Half of a rule's
limit is notable, of a burst three quarters, so that the look happens when the limit is about to be reached. Everything
is counted over the last minute, in counters whose size is bounded: names come from hosts and logs.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pingmesh_tasks.fleet.tails import ChunkFacts

SPAN_S = 60.0
_MAX_NAMES = 20_000
_SLICE_S = 5.0
_CONNECTIONS_OF_ONE = 2  # received and disconnected

_OPERATION = re.compile(rb"\(pid (\d{1,10})\) (\w{1,40}) called for ([^\r\n]{1,400})")
_CONNECTION = re.compile(rb"\(pid (\d{1,10})\) Connection (?:received|disconnected) from ([^\r\n]{1,400})")
_DENIED = b"Access denied"


@dataclass(frozen=True, slots=True)
class NotableLimits:
    """From what on something is notable. Shares and counts are of one chunk, one target, or one minute of a log; a
    `burst` is of the last 5 to 10 s. The same read is of one node of one shot."""

    failed_share: float = 0.05
    failures_of_target: int = 2
    same_read_of_pid: int = 120
    same_read_of_pid_burst: int = 38
    same_read: int = 300
    same_read_burst: int = 45
    lines_of_pid: int = 3_000
    connects_of_client: int = 120
    connects: int = 1_500
    rejected: int = 150
    denied: int = 3
    silent_after_s: float = 60.0
    silent_from_lines: int = 30


class _Recent:
    """Counts of the last `SPAN_S`, in slices; the names beyond `_MAX_NAMES` are not told apart."""

    def __init__(self) -> None:
        self._slices: deque[tuple[float, Counter[bytes | str]]] = deque()
        self.total: Counter[bytes | str] = Counter()

    def add(self, counts: Counter[bytes | str], now_s: float) -> None:
        self.forget(now_s)
        if len(self.total) > _MAX_NAMES:
            counts = Counter({name: n for name, n in counts.items() if name in self.total})
        if not self._slices or now_s - self._slices[-1][0] >= _SLICE_S:
            self._slices.append((now_s, Counter()))
        self._slices[-1][1].update(counts)
        self.total.update(counts)

    def burst(self, name: bytes | str) -> int:
        """Return how often a name was counted in the last one or two slices."""
        return sum(counts[name] for _, counts in list(self._slices)[-2:])

    def forget(self, now_s: float) -> None:
        while self._slices and now_s - self._slices[0][0] >= SPAN_S:
            for name, n in self._slices.popleft()[1].items():
                self.total[name] -= n
                if self.total[name] <= 0:
                    del self.total[name]


class ProbeWatch:
    """Looks at the chunks of all hosts: one target that several of them miss stands out sooner than to one alone."""

    def __init__(self, limits: NotableLimits) -> None:
        self._limits = limits
        self._failures = _Recent()

    def notable(self, chunks: Iterable[ChunkFacts], now_s: float) -> bool:
        found = False
        for chunk in chunks:
            if not chunk.failed:
                continue
            self._failures.add(Counter(dict(chunk.failing)), now_s)
            found = found or chunk.failed >= max(1.0, self._limits.failed_share * chunk.rows)
            found = found or any(self._failures.total[dst] >= self._limits.failures_of_target for dst in chunk.failing)
        return found


class LogWatch:
    """Looks at the lines of one data server's logs."""

    def __init__(self, limits: NotableLimits) -> None:
        self._limits = limits
        self._reads, self._reads_of_pid, self._pids = _Recent(), _Recent(), _Recent()
        self._clients, self._kinds = _Recent(), _Recent()
        self._denied = _Recent()  # the errors log's own: the other may be looked at in a thread meanwhile
        self._connections_of_pid: Counter[bytes] = Counter()
        self._last_line_s: float | None = None
        self._silence_told = False

    def notable(self, kind: str, lines: bytes, skipped_bytes: int, now_s: float) -> bool:
        """Look at new lines. Skipped bytes are always notable: more came than can be followed."""
        if kind == "errors":
            denied = lines.count(_DENIED)
            self._denied.add(Counter({"denied": denied}), now_s)
            return denied > 0 and self._denied.total["denied"] >= self._limits.denied
        self._last_line_s, self._silence_told = now_s, False
        operations = _OPERATION.findall(lines)
        connections = _CONNECTION.findall(lines)
        count = lines.count(b"\n")
        strange = max(count - len(operations) - len(connections), 0)
        own = self._own_pids(pid for pid, _ in connections)
        reads: Counter[bytes | str] = Counter()
        of_pid: Counter[bytes | str] = Counter()
        for pid, hook, what in operations:
            if hook == b"GetData":
                reads[what] += 1
                of_pid[pid + b" " + what] += own(pid)
        pids: Counter[bytes | str] = Counter(pid for pid, _, _ in operations if own(pid))
        clients: Counter[bytes | str] = Counter(client for _, client in connections)
        self._reads.add(reads, now_s)
        self._reads_of_pid.add(of_pid, now_s)
        self._pids.add(pids, now_s)
        self._clients.add(clients, now_s)
        kinds = {"lines": count, "strange": strange, "connects": len(connections)}
        self._kinds.add(Counter({name: n for name, n in kinds.items() if n}), now_s)
        limits, total = self._limits, self._kinds.total
        return (
            skipped_bytes > 0
            or _over(self._reads_of_pid, of_pid, limits.same_read_of_pid, limits.same_read_of_pid_burst)
            or _over(self._reads, reads, limits.same_read, limits.same_read_burst)
            or _over(self._pids, pids, limits.lines_of_pid)
            or _over(self._clients, clients, limits.connects_of_client)
            or (bool(connections) and total["connects"] >= limits.connects)
            or (strange > 0 and total["strange"] >= limits.rejected)
        )

    def _own_pids(self, connected: Iterable[bytes]) -> Callable[[bytes], bool]:
        """Return what tells if a process is one client's own: it connects once; one that serves all does it often."""
        self._connections_of_pid.update(connected)
        if len(self._connections_of_pid) > _MAX_NAMES:
            shared = {pid: n for pid, n in self._connections_of_pid.items() if n > _CONNECTIONS_OF_ONE}
            self._connections_of_pid = Counter(shared)
        return lambda pid: self._connections_of_pid[pid] <= _CONNECTIONS_OF_ONE

    def fell_silent(self, now_s: float) -> bool:
        """Whether a log that was busy has said nothing for a while; True once for a silence."""
        if self._last_line_s is None or self._silence_told:
            return False
        if now_s - self._last_line_s < self._limits.silent_after_s:
            return False
        was_busy = self._kinds.total["lines"] >= self._limits.silent_from_lines
        self._silence_told = True
        return was_busy


def _over(recent: _Recent, names: Iterable[bytes | str], limit: int, burst: int | None = None) -> bool:
    """Whether one of `names`, those that were just counted, is at a limit."""
    return any(recent.total[name] >= limit or (burst is not None and recent.burst(name) >= burst) for name in names)
