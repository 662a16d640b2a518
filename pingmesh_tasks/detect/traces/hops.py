"""Where on the way packets are lost: a verdict over the hops of traces. Pure.

Two questions, in this order:
- *Do ports stop?* A source port whose packets never reach the target, asked directly too, stops after the last hop
  that answered: a black hole is in that router or behind it. Ports vote; what most of them say, weighed by how many of
  the ports that pass the same router stop, is the answer. Replies take a way of their own: a port that is fine on the
  way there but loses its answers seems to stop somewhere, so that traces from both ends belong together.
- *Do packets get lost on ports that arrive?* Then routers of one distance are compared: of the packets that went
  beyond each, pooled over all ports that pass it, how many were answered (fbtracert pools the same way; the contrast
  within a tier is the one of facts with a fair coin: Fisher's exact test). Where a tier has one router, the test of
  fbtracert's `isLossy` (main.go of facebookarchive/fbtracert) on the pooled hit rates says where loss starts.

A silent hop is never read as a fault when a later one answers. Distances whose routers answer more rarely than the
target does limit their ICMP, and are left out of the counts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from math import comb
from typing import Any, Literal

from pingmesh_tasks.fleet.trace_paths import FINAL, PathTrace, PortPath

#: Chance at which a difference between two routers, or of a hop from the target, is taken for one.
SIGNIFICANT = 0.01
#: One port of many that does not arrive may be two random losses; a hole takes more.
PORTS_OF_A_HOLE = 2

Kind = Literal["clear", "stops", "loses", "refused", "unknown"]


@dataclass(frozen=True, slots=True)
class LossStart:
    """Where loss starts. `after` is the last router before it; None: before the first router, or not known.

    `ports` stop (or `packets` are lost) of `of`; `confidence` is 0 … 1; `words` is the sentence of a message.
    """

    kind: Kind
    words: str
    after: str | None = None
    ports: int = 0
    of: int = 0
    confidence: float = 0.0


@dataclass(frozen=True, slots=True)
class HopRow:
    """One router, pooled over all ports that pass it: `beyond_sent` packets were to go farther, some came back."""

    router: str
    ttl: int
    ports: int
    stopped: int
    beyond_sent: int
    beyond_answered: int

    @property
    def loss(self) -> float:
        """Share of the packets beyond this router that nobody answered, 0 … 1."""
        return 1 - self.beyond_answered / self.beyond_sent if self.beyond_sent else 0.0


def find_loss(traces: Iterable[PathTrace]) -> LossStart:
    """Return where loss starts, pooled over traces of one direction (or of one target). Never raises."""
    traces = list(traces)
    paths = [path for trace in traces for path in trace.paths if path.hops]
    if not paths:
        reasons = dict.fromkeys(trace.reason for trace in traces if trace.reason)
        return LossStart("unknown", "; ".join(reasons) or "no trace was made")
    closed = {_end_of(path) for path in paths if path.hops[-1].what == "closed"}
    stopped = [path for path in paths if not path.reached and _end_of(path) not in closed]
    if len(stopped) >= min(PORTS_OF_A_HOLE, len(paths)):
        return _stop(paths, stopped)
    if closed:  # a host limits how often it says so, as routers do: no rate can be read from it
        words = "the host says that its UDP port is closed: nothing listens on the probe port"
        return LossStart("refused", words, None, 0, len(paths), 1.0)
    if (loss := _loss(paths)) is not None:
        return loss
    if stopped:
        return LossStart(
            "unknown", f"{len(stopped)} of {len(paths)} ports got no answer: too few for a verdict", None, 1, len(paths)
        )
    endings = Counter(path.hops[-1].what for path in paths)
    if endings["refused"] * 2 > len(paths):
        words = f"all {len(paths)} ports reach the host, and it refuses: nothing listens on the probe port"
        return LossStart("refused", words, None, 0, len(paths), 1.0)
    sent = sum(hop.sent for path in paths for hop in path.hops if hop.what in FINAL)
    return LossStart("clear", f"all {len(paths)} ports arrive ({sent} packets at the target)", None, 0, len(paths), 1.0)


def hop_table(traces: Iterable[PathTrace]) -> tuple[HopRow, ...]:
    """Return every router that answered, the nearest first, with what became of packets beyond it."""
    return _table([path for trace in traces for path in trace.paths])


def hop_evidence(traces: Iterable[PathTrace], limit: int = 12) -> tuple[dict[str, Any], ...]:
    """Return the table as plain values for `Finding.evidence`: routers with the most loss beyond them first."""
    worst = sorted(hop_table(traces), key=lambda row: (-row.stopped, -row.loss, row.ttl, row.router))[:limit]
    return tuple(
        {
            "hop": row.ttl,
            "router": row.router,
            "ports": row.ports,
            "stop_here": row.stopped,
            "sent_beyond": row.beyond_sent,
            "loss_beyond": round(row.loss, 4),
        }
        for row in worst
    )


def _stop(paths: list[PortPath], stopped: list[PortPath]) -> LossStart:
    ends = Counter(_end_of(path) for path in stopped)
    through = Counter(router for path in paths for router in _routers(path).values())

    def certainty(router: str | None) -> float:
        pass_it = through[router] if router else len(paths)
        return ends[router] / max(1, pass_it) * ends[router] / len(stopped)

    router = max(ends, key=lambda name: (certainty(name), name or ""))
    count, of = ends[router], len(paths)
    confidence = certainty(router) * (1 - 0.5**count)
    ports = f"{count} of {of} ports stop there"
    if router is None:
        own = next((hop.what for path in stopped for hop in path.hops if hop.what.startswith("this host: ")), None)
        words = own or (
            "neither a router nor the target answers: look at the target if no router lies between, "
            "else at the source and its first router"
        )
        words = f"{words} ({count} of {of} ports)"
        return LossStart("stops", words, None, count, of, confidence)
    said = Counter(hop.what for path in stopped for hop in path.hops if hop.router == router and _is_error(hop.what))
    words = f"after {router}; {ports}"
    if said:
        words += f" ({router} says {said.most_common(1)[0][0]})"
    if count == of == through[router]:
        words += ": all ways lead through it; what follows, the target's link or the target, does not answer"
    return LossStart("stops", words, router, count, of, confidence)


def _loss(paths: list[PortPath]) -> LossStart | None:
    """Loss on ports that arrive: the tier with the clearest contrast, or where the pooled hit rates fall."""
    rows = [row for row in _table(paths) if row.beyond_sent]
    tiers: dict[int, list[HopRow]] = defaultdict(list)
    for row in rows:
        tiers[row.ttl].append(row)
    found: list[tuple[float, HopRow, int, int]] = []
    for tier in tiers.values():
        for row in tier:
            others = [other for other in tier if other is not row]
            sent, answered = sum(o.beyond_sent for o in others), sum(o.beyond_answered for o in others)
            if others:
                chance = _chance(row.beyond_sent - row.beyond_answered, row.beyond_sent, sent - answered, sent)
                found.append((chance * len(rows), row, sent - answered, sent))
    best = min(found, default=None, key=lambda entry: entry[0])
    if best is not None and best[0] < SIGNIFICANT:
        chance, row, other_lost, other_sent = best
        lost = row.beyond_sent - row.beyond_answered
        words = (
            f"after {row.router}; {lost} of {row.beyond_sent} packets beyond it are lost ({row.loss:.1%}), "
            f"{other_lost} of {other_sent} beyond its neighbours"
        )
        return LossStart("loses", words, row.router, lost, row.beyond_sent, 1 - chance)
    return _loss_on_one_way(paths)


def _loss_on_one_way(paths: list[PortPath]) -> LossStart | None:
    counts, target_sent, target_answered = _by_distance(paths)
    ttls = [ttl for ttl in sorted(counts) if not _limits(counts[ttl], target_sent, target_answered)]
    rates = [counts[ttl][1] / counts[ttl][0] for ttl in ttls] + [target_answered / target_sent if target_sent else 1.0]
    lost = target_sent - target_answered
    # The target is no router: it limits nothing, so that it needs no second hop to bear witness.
    start = next((i for i, rate in enumerate(rates[:-1]) if all(later < rate for later in rates[i + 1 :])), None)
    if start is None or not lost or _chance(lost, target_sent, *_lost_sent(counts[ttls[start]])) >= SIGNIFICANT:
        return None
    routers = sorted({routers[ttls[start]] for path in paths if ttls[start] in (routers := _routers(path))})
    words = f"after {' or '.join(routers)}; {lost} of {target_sent} packets to the target are lost"
    return LossStart("loses", words, routers[0] if len(routers) == 1 else None, lost, target_sent, 0.5)


def _table(paths: list[PortPath]) -> tuple[HopRow, ...]:
    counts, target_sent, target_answered = _by_distance(paths)
    limited = {ttl for ttl, count in counts.items() if _limits(count, target_sent, target_answered)}
    rows: dict[tuple[int, str], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for path in paths:
        end = None if path.reached else _end_of(path)
        for ttl, router in _routers(path).items():
            row = rows[ttl, router]
            row[0] += 1
            row[1] += router == end
            for hop in path.hops:
                if hop.ttl > ttl and hop.ttl not in limited:
                    row[2] += hop.sent
                    row[3] += hop.answered
            if path.directly:
                row[2] += path.directly.sent
                row[3] += path.directly.answered
    return tuple(HopRow(router, ttl, *row) for (ttl, router), row in sorted(rows.items()))


def _routers(path: PortPath) -> dict[int, str]:
    """The routers of one way by distance; the target is none."""
    return {hop.ttl: hop.router for hop in path.hops if hop.router and hop.what not in FINAL}


def _end_of(path: PortPath) -> str | None:
    """The last router that answered, or None."""
    return max(_routers(path).items(), default=(0, None))[1]


def _is_error(what: str) -> bool:
    return what.startswith("icmp ")


def _by_distance(paths: list[PortPath]) -> tuple[dict[int, tuple[int, int]], int, int]:
    """(sent, answered) by distance over ways that arrive, then both at the target."""
    counts: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    target = [0, 0]
    for path in paths:
        if not path.reached:
            continue
        for hop in path.hops:
            into = target if hop.what in FINAL else counts[hop.ttl]
            into[0] += hop.sent
            into[1] += hop.answered
        if path.directly:
            target[0] += path.directly.sent
            target[1] += path.directly.answered
    return {ttl: (sent, answered) for ttl, (sent, answered) in counts.items()}, target[0], target[1]


def _limits(count: tuple[int, int], target_sent: int, target_answered: int) -> bool:
    """Whether a distance answers so much more rarely than the target that its routers must limit their answers."""
    return _chance(*_lost_sent(count), target_sent - target_answered, target_sent) < SIGNIFICANT


def _lost_sent(count: tuple[int, int]) -> tuple[int, int]:
    return count[0] - count[1], count[0]


def _chance(lost: int, sent: int, other_lost: int, other_sent: int) -> float:
    """How likely so many losses (or more) fall on these packets if both lose alike: Fisher's exact test, one-sided."""
    total, all_lost = sent + other_sent, lost + other_lost
    if not sent or not other_sent or not all_lost:
        return 1.0
    ways = sum(comb(sent, k) * comb(other_sent, all_lost - k) for k in range(lost, min(sent, all_lost) + 1))
    return ways / comb(total, all_lost)
