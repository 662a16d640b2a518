"""What of the hot data is worth waking somebody for: cheap looks at counts and lines, no verdicts.

A batch that is not notable waits for the next look, half a minute away at most; a notable one starts that look at
once. So a look may well be wrong in calling something notable, it costs one run; `detect` judges. Half of a rule's
limit is notable, so that the look happens before the limit is reached. Everything is counted over the last minute, in
counters whose size is bounded: names come from hosts and logs.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass

from pingmesh_tasks.fleet.tails import ChunkFacts

SPAN_S = 60.0
_MAX_NAMES = 20_000
_SLICE_S = 5.0

_LINE = re.compile(
    rb"\(pid (\d{1,10})\) (?:(Connection) |\w+ called for tree=([^,\n]{0,80}), shot=[^,\n]*, node=(\S{0,300}))"
)
_DENIED = b"Access denied"


@dataclass(frozen=True, slots=True)
class NotableLimits:
    """From what on something is notable. The shares and counts are of one chunk, one target, or one minute of a log."""

    failed_share: float = 0.05
    failures_of_target: int = 2
    lines_of_pid: int = 300
    lines_of_node: int = 150
    connects: int = 60
    rejected: int = 50
    denied: int = 1
    silent_after_s: float = 30.0
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
        self._pids, self._nodes, self._kinds = _Recent(), _Recent(), _Recent()
        self._last_line_s: float | None = None
        self._silence_told = False

    def notable(self, kind: str, lines: bytes, skipped_bytes: int, now_s: float) -> bool:
        """Look at new lines. Skipped bytes are always notable: more came than can be followed."""
        if kind == "errors":
            denied = lines.count(_DENIED)
            self._kinds.add(Counter({"denied": denied}), now_s)
            return denied > 0 and self._kinds.total["denied"] >= self._limits.denied
        self._last_line_s, self._silence_told = now_s, False
        pids: Counter[bytes | str] = Counter()
        nodes: Counter[bytes | str] = Counter()
        known = connects = 0
        for pid, connection, tree, node in _LINE.findall(lines):
            known += 1
            pids[pid] += 1
            if connection:
                connects += 1
            else:
                nodes[tree + b"/" + node] += 1
        count = lines.count(b"\n")
        self._pids.add(pids, now_s)
        self._nodes.add(nodes, now_s)
        kinds = {"lines": count, "rejected": max(count - known, 0), "connects": connects}
        self._kinds.add(Counter({name: n for name, n in kinds.items() if n}), now_s)
        limits, total = self._limits, self._kinds.total
        return (
            skipped_bytes > 0
            or any(self._pids.total[pid] >= limits.lines_of_pid for pid in pids)
            or any(self._nodes.total[node] >= limits.lines_of_node for node in nodes)
            or (bool(connects) and total["connects"] >= limits.connects)
            or (count > known and total["rejected"] >= limits.rejected)
        )

    def fell_silent(self, now_s: float) -> bool:
        """Whether a log that was busy has said nothing for a while; True once for a silence."""
        if self._last_line_s is None or self._silence_told:
            return False
        if now_s - self._last_line_s < self._limits.silent_after_s:
            return False
        was_busy = self._kinds.total["lines"] >= self._limits.silent_from_lines
        self._silence_told = True
        return was_busy
