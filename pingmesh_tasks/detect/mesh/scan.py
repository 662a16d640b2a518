"""Which part of the network explains what is bad: the one engine under dead, lossy and slow pairs.

Each pair has `n` chances to be bad, was bad so often, and should have been at a small `rate`. Every part of the
network (host, ToR, podset, spines of a DC, links between DCs, DC, everything) is crossed by some pairs; D of their
chances went bad, E were expected to. How much likelier the part's own rate makes that is Kulldorff's scan statistic,

    D ln(D / E) − (D − E)       for D > E        (1997; exp(−it) bounds the chance of D by luck: Chernoff)

The part with the most of it is the suspect: a ToR at fault beats its podset, which is mostly well, and each of its
hosts, which explain little. Then what it explains is expected, and the rest is asked again: a second fault stays
visible, the ToR's hosts do not. Two guards: a part is refused unless more than half of its own parts suffer alike (two
dead racks are no dead podset), and unless it is beyond luck among all the parts that were asked (Bonferroni).

Sums by host and by pair of ToRs are all that a part's D and E need, so nothing here loops over pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pingmesh_tasks.detect.finding import Scope
from pingmesh_tasks.detect.mesh.components import WIDTH, Bools, Component, Floats, Ints, Sums, components_of
from pingmesh_tasks.topology.axis import HostAxis

#: A part is refused unless so many of its own parts suffer, at half of the worst one's rate or more.
ALIKE = 0.55
#: From this ratio of variance to mean on, what a part suffers is uneven.
_EVEN = 3.0
_MOSTLY = 0.5
#: What is bad at this rate is dead; a part of which half is dead and half is not is no suspect, its dead parts are.
_DEAD = 0.9
#: A part is refused if one narrower part has this share of what is bad in it, at twice its rate (or several, most).
_GOOD_SHARE = 0.25
_MOST_SUSPECTS, _MOST_TRIALS = 64, 400
_BITMAP = 1 << 28


@dataclass(frozen=True)
class Evidence:
    """One row a pair: positions of its hosts, its chances, how many were bad, and the share that is no wonder.

    `certainty` (nats, by row) is how sure it is that the pair itself is bad; None: what the scan says of it.
    """

    a: Ints
    b: Ints
    n: NDArray[np.float32]
    bad: NDArray[np.float32]
    rate: NDArray[np.float32]
    certainty: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Demands:
    """What a suspect, by its scope and subject, must reach: an excess share of bad chances, so many of them, in so many
    rows."""

    least: Callable[[Scope, str], float]
    min_bad: Callable[[Scope, str], float]
    min_pairs: Callable[[Scope, str], float] = lambda scope, subject: 2
    #: A part that is less bad than is demanded is expected all the same; else it is no suspect, its own parts may be.
    quietly: bool = True
    #: Of a rack's hosts so many must suffer. A black hole spares many; half of them is enough to blame what they share.
    alike_in_tor: float = ALIKE
    alpha: float = 1e-4


@dataclass(frozen=True)
class Suspect:
    """A part of the network and what it explains. `rows` are the bad rows that cross it, `hosts` who is in it.

    `side`: both, in (the pairs that end there) or out. `share` is bad / n over all rows that cross it. `uneven` is the
    ratio of variance to mean over its rows: 1 by chance, far more where some are always bad and others never.
    """

    scope: Scope
    subject: str
    side: str
    hosts: Ints
    crossing: Bools
    rows: Ints
    n: float
    bad: float
    expected: float
    uneven: float
    score: float
    confidence: float

    @property
    def share(self) -> float:
        return self.bad / max(self.n, 1e-9)


def find_suspects(places: HostAxis, evidence: Evidence, demands: Demands, *, topology: bool) -> list[Suspect]:
    """Return what explains the bad rows, in the order in which it was found: the most telling first."""
    scan = _Scan(places, evidence, components_of(places, topology))
    found: list[Suspect] = []
    for _ in range(_MOST_SUSPECTS):
        suspect = scan.next_suspect(demands)
        if suspect is None:
            break
        found.append(suspect)
    return scan.without_those_that_others_explain(found, demands)


@dataclass
class _Tally:
    """Sums of some rows: how many went bad, how many were expected to, and of how many."""

    bad: Sums
    expected: Sums
    n: Sums

    def __sub__(self, other: _Tally) -> _Tally:
        return _Tally(self.bad - other.bad, self.expected - other.expected, self.n - other.n)

    def of(self, component: Component, number: int) -> tuple[float, float, float]:
        return (
            float(component.totals(self.bad)[number]),
            float(component.totals(self.expected)[number]),
            float(component.totals(self.n)[number]),
        )


class _Scan:
    """The rows, what is expected of them by now, and their sums.

    A part is scored twice: by all rows, and by the `fresh` ones that no suspect crosses yet. What a dead podset does to
    everybody else's pairs is expected, but it would drown the few drops of a lossy rack elsewhere.
    """

    def __init__(self, places: HostAxis, evidence: Evidence, components: list[Component]) -> None:
        self.places, self.rows, self.components = places, evidence, components
        self.n, self.bad = evidence.n, evidence.bad
        self.bad_rows = np.flatnonzero(evidence.bad)
        self.expected = evidence.n * evidence.rate
        self.fresh = np.ones(len(evidence.a), bool)
        everything = self._tally(np.arange(len(evidence.a)), self.bad_rows)
        self.tallies = [everything]
        self.pairs = _Pairs(places, evidence, self.bad_rows)
        self.asked = sum(len(component.subjects) for component in components)
        self.refused_pairs = np.zeros(len(self.pairs.keys), bool)
        self.first_pair_scores = self._pair_scores()

    def next_suspect(self, demands: Demands) -> Suspect | None:
        """Return the best suspect that stands up to the demands and expect its rows from now on; None: there is none.

        A part that is beyond luck and yet less bad than is demanded is expected as well, and not told of: its own
        parts, some of which luck makes look worse, must stand out from it.
        """
        while (judged := self._next(demands)) is not None:
            suspect, told = judged
            self._expect(suspect)
            if told:
                return suspect
        return None

    def without_those_that_others_explain(self, found: list[Suspect], demands: Demands) -> list[Suspect]:
        """Ask the wide ones once more, now that the narrower ones are known: two podsets may have looked like a DC."""
        kept = list(found)
        for suspect in sorted(found, key=lambda one: -WIDTH[one.scope]):
            narrower = [one for one in kept if WIDTH[one.scope] < WIDTH[suspect.scope] and one.scope != "pair"]
            if len(narrower) < 2:
                continue
            rows = np.flatnonzero(suspect.crossing)
            n, bad = self.rows.n[rows], self.rows.bad[rows]
            expected = n * self.rows.rate[rows]
            for one in narrower:
                expected = np.maximum(expected, np.float32(one.share) * n * one.crossing[rows])
            rest = _score(np.array([bad.sum(dtype=np.float64)]), np.array([expected.sum(dtype=np.float64)]))
            if rest[0] < math.log(self.asked / demands.alpha):
                kept = [one for one in kept if one is not suspect]
        return kept

    def _next(self, demands: Demands) -> tuple[Suspect, bool] | None:
        """Return the best suspect, and whether it is as bad as is demanded.

        A part that is no suspect at all leaves room for the one with the next best score.
        """
        scores = [
            _score(component.totals(tally.bad), component.totals(tally.expected))
            for tally in self.tallies
            for component in self.components
        ]
        least = math.log(self.asked / demands.alpha)
        least_pair = math.log(max(len(self.rows.a), 1) / demands.alpha)
        pair_scores = self._pair_scores()
        pair_scores[self.refused_pairs | (pair_scores < self.first_pair_scores / 2)] = 0.0  # explained by something
        if self.rows.certainty is None:
            pair_scores[pair_scores < least_pair] = 0.0
        for _ in range(_MOST_TRIALS):
            tops = [values.max(initial=0.0) for values in scores]
            best, best_pair = max(tops), pair_scores.max(initial=0.0)
            if best <= least and best_pair <= 0:
                return None
            if best > least and best >= best_pair:
                at = next(i for i, top in enumerate(tops) if top >= best * (1 - 1e-6))
                number = int(scores[at].argmax())
                judged = self._judge(at, number, scores, best_pair, demands)
                scores[at][number] = 0.0
            else:
                number = int(pair_scores.argmax())
                judged = self._judge_pair(number, float(best_pair), best, least_pair, demands)
                pair_scores[number] = 0.0
                self.refused_pairs[number] = True  # found or refused, a pair is asked once
            if judged is not None:
                return judged
        return None

    def _pair_scores(self) -> Floats:
        return _score(self.pairs.sum(self.bad), self.pairs.sum(self.expected))

    def _judge(
        self, at: int, number: int, scores: list[Floats], best_pair: float, demands: Demands
    ) -> tuple[Suspect, bool] | None:
        tally, component = self.tallies[at // len(self.components)], self.components[at % len(self.components)]
        subject = component.subjects[number]
        bad, expected, n = tally.of(component, number)
        if bad < demands.min_bad(component.scope, subject):
            return None
        a, b = self.rows.a, self.rows.b
        bad_here = self.bad_rows[component.crossing(number, a[self.bad_rows], b[self.bad_rows])]
        if tally is not self.tallies[0]:
            bad_here = bad_here[self.fresh[bad_here]]
        bad_here = bad_here[self.bad[bad_here] > 0]
        if np.count_nonzero(self.bad[bad_here] > self.expected[bad_here]) < demands.min_pairs(component.scope, subject):
            return None
        clump = float((self.bad[bad_here] ** 2).sum() / self.bad[bad_here].sum())
        if self._has_faults_of_its_own(component, number, tally, clump):
            return None
        crossing = component.crossing(number, a, b)
        mine = crossing if tally is self.tallies[0] else crossing & self.fresh
        if not self._suffers_alike(component, number, mine, bad_here, 2 * clump, demands.alike_in_tor):
            return None
        member = component.of == number
        rivals = [self._rival(other, tally, member, (bad, n), values) for other, values in self._others(at, scores)]
        score = float(scores[at][number])
        gap = score - max([*rivals, best_pair if component.scope == "host" else 0.0], default=0.0)
        suspect = Suspect(
            scope=component.scope,
            subject=subject,
            side=component.side,
            hosts=np.flatnonzero(member),
            crossing=crossing,
            rows=bad_here,
            n=n,
            bad=bad,
            expected=expected,
            uneven=self._unevenness(np.flatnonzero(mine), bad / max(n, 1e-9)),
            score=score,
            confidence=_confidence(gap),
        )
        enough = bad - expected >= demands.least(component.scope, subject) * n
        return (suspect, enough) if enough or demands.quietly else None

    def _others(self, at: int, scores: list[Floats]) -> list[tuple[Component, Floats]]:
        """Return the parts of other scopes that were scored by the same rows as number `at`, and their scores."""
        first = at - at % len(self.components)
        scored = zip(self.components, scores[first : first + len(self.components)], strict=True)
        return [(other, values) for other, values in scored if other.scope != self.components[at - first].scope]

    def _rival(
        self, other: Component, tally: _Tally, member: Bools, rows: tuple[float, float], scores: Floats
    ) -> float:
        """Return the best score of `other` parts that hold a suspect or are held by it.

        Those with the very same rows are another name of it, and another rack's fault makes this one's no less certain.
        """
        same = np.isclose(other.totals(tally.bad), rows[0]) & np.isclose(other.totals(tally.n), rows[1])
        return float(np.where(same, 0.0, scores)[np.unique(other.of[member])].max())

    def _has_faults_of_its_own(self, component: Component, number: int, tally: _Tally, clump: float) -> bool:
        """Tell whether narrower parts, each far worse than the whole, have most of the bad: faults of their own.

        Two dead hosts anywhere make a DC likelier than either of them, and every podset of it suffers alike.
        """
        bad, expected, n = tally.of(component, number)
        excess = max(bad - expected, 1e-9)
        member = component.of == number
        for inner in self.components:
            if WIDTH[inner.scope] >= WIDTH[component.scope] or inner.scope == "tier":
                continue
            within = np.zeros(len(inner.subjects), bool)
            within[inner.of[member]] = True
            room = inner.totals(tally.n)
            its = np.clip(inner.totals(tally.bad) - inner.totals(tally.expected), 0, None)
            surely = its - 2 * np.sqrt(clump * its * np.clip(1 - its / np.maximum(room, 1e-9), 0, 1))
            rate = excess / max(n, 1e-9)
            far_worse = within & (surely >= (_DEAD if _DEAD / 2 < rate < _DEAD else 2 * rate) * room)
            if surely[far_worse].sum() >= _MOSTLY * excess or (surely[far_worse] >= _GOOD_SHARE * excess).any():
                return True
        return False

    def _suffers_alike(
        self, component: Component, number: int, crossing: Bools, bad_here: Ints, clump: float, in_tor: float
    ) -> bool:
        """Tell whether more than half of a part's own parts suffer, at half of the worst one's rate or more.

        `clump` is how many bad chances come together; with it, luck is allowed for. Of a host, two peers must suffer.
        """
        a, b = self.rows.a, self.rows.b
        if component.inner is None:
            peers = np.where(a[bad_here] == number, b[bad_here], a[bad_here])
            by_peer = np.bincount(peers, self.bad[bad_here] - self.expected[bad_here])
            return bool(np.count_nonzero(by_peer > 0) >= 2 and by_peer.max() <= 0.7 * by_peer[by_peer > 0].sum())
        member = component.of == number
        inner = np.where(member, component.inner, -1)
        rows = np.flatnonzero(crossing)
        room = self._by_inner(inner, rows, np.maximum(self.n - self.expected, 0))
        excess = self._by_inner(inner, rows, self.bad - self.expected)
        some = np.unique(inner[member])
        room, excess = room[some], np.maximum(excess[some], 0)
        excess, room = excess[room > 0], room[room > 0]
        if len(room) < 2:
            return False

        def luck(count: Floats) -> Floats:
            return np.asarray(2 * np.sqrt(clump * count * np.clip(1 - count / room, 0, 1)))

        worst = ((excess - luck(excess)) / room).max(initial=0.0)
        wanted = worst / 2 * room
        suffers = (excess > 0) & (excess >= wanted - luck(wanted))
        return bool(
            np.count_nonzero(suffers) >= 2 and suffers.mean() >= (in_tor if component.scope == "tor" else ALIKE)
        )

    def _by_inner(self, inner: Ints, rows: Ints, values: NDArray[np.float32]) -> Floats:
        """Sum `values` of `rows` by inner part, at each end that is in the part; a row within one counts once."""
        first, second, weights = inner[self.rows.a[rows]], inner[self.rows.b[rows]], values[rows]
        size = int(inner.max()) + 2
        sums = np.bincount(first + 1, weights, minlength=size)
        apart = first != second
        sums += np.bincount(second[apart] + 1, weights[apart], minlength=size)
        return np.asarray(sums[1:])

    def _judge_pair(
        self, number: int, score: float, rival: float, least: float, demands: Demands
    ) -> tuple[Suspect, bool] | None:
        rows = self.pairs.rows_of(number)
        n, bad, expected = (float(values[rows].sum()) for values in (self.n, self.bad, self.expected))
        certainty = score if self.rows.certainty is None else float(self.rows.certainty[rows].sum())
        subject = self._pair_name(rows)
        if certainty < least or bad < demands.min_bad("pair", subject):
            return None
        if bad - expected < demands.least("pair", subject) * n:
            return None
        crossing = np.zeros(len(self.rows.a), bool)
        crossing[rows] = True
        suspect = Suspect(
            scope="pair",
            subject=subject,
            side="both",
            hosts=np.unique([self.rows.a[rows[0]], self.rows.b[rows[0]]]),
            crossing=crossing,
            rows=rows[self.bad[rows] > 0],
            n=n,
            bad=bad,
            expected=expected,
            uneven=1.0,
            score=score,
            confidence=_confidence(score - rival),
        )
        return suspect, True

    def _pair_name(self, rows: Ints) -> str:
        """Name a pair as measured if only one direction suffers for certain, else in the inventory's order."""
        a, b, bad, n = (values[rows] for values in (self.rows.a, self.rows.b, self.bad, self.n))
        low, high = int(min(a[0], b[0])), int(max(a[0], b[0]))
        forward = a == low
        there, back = (float(bad[way].sum()) for way in (forward, ~forward))
        n_there, n_back = (float(n[way].sum()) for way in (forward, ~forward))
        if there < back and (n_there == 0 or _binomial_low(there, n_there, back / n_back)):
            return f"{self.places.names[high]}>{self.places.names[low]}"
        return f"{self.places.names[low]}>{self.places.names[high]}"

    def _unevenness(self, rows: Ints, share: float) -> float:
        """Return the ratio of variance to mean of what rows suffer, each expected to suffer at `share`; 1 is chance."""
        mean = self.n[rows] * np.float32(share)
        return float(((self.bad[rows] - mean) ** 2).sum() / max(float(mean.sum()) * (1 - share), 1e-9))

    def _expect(self, suspect: Suspect) -> None:
        """Expect from now on that rows which cross the suspect are bad at its rate.

        Where most are bad, they say nothing of what else they cross, and count no more. Where they are so unevenly (a
        black hole swallows some pairs and spares others), every chance counts for less, by the ratio of variance to
        mean (quasi-likelihood): the swallowed pairs are no faults of their own.
        """
        rows = np.flatnonzero(suspect.crossing)
        was_fresh = rows[self.fresh[rows]]
        before = self._tally(rows, rows)
        fresh = self.tallies[-1] - self._tally(was_fresh, was_fresh)
        share = np.float32(min(suspect.share, 1.0))
        self.expected[rows] = np.maximum(share * self.n[rows], self.expected[rows])
        weight = 0.0 if share >= _MOSTLY else 1 / suspect.uneven if suspect.uneven > _EVEN else 1.0
        if weight < 1:
            self.n, self.bad = self.n.copy(), self.bad.copy()
            for values in (self.n, self.bad, self.expected):
                values[rows] *= np.float32(weight)
        after = self._tally(rows, rows)
        self.tallies = [self.tallies[0] - (before - after), fresh]
        self.fresh[rows] = False

    def _tally(self, rows: Ints, bad_rows: Ints) -> _Tally:
        return _Tally(self._sums(bad_rows, self.bad), self._sums(rows, self.expected), self._sums(rows, self.n))

    def _sums(self, rows: Ints, weights: NDArray[np.float32]) -> Sums:
        return Sums.of(self.places, self.rows.a[rows], self.rows.b[rows], weights[rows])


class _Pairs:
    """The unordered pairs of which some chance went bad, and the rows of both of their directions."""

    def __init__(self, places: HostAxis, evidence: Evidence, bad_rows: Ints) -> None:
        hosts = len(places.names)
        key_of = np.minimum(evidence.a, evidence.b).astype(np.int64) * hosts + np.maximum(evidence.a, evidence.b)
        if hosts * hosts <= _BITMAP:
            wanted = np.zeros(hosts * hosts, bool)
            wanted[key_of[bad_rows]] = True
            self.keys = np.flatnonzero(wanted)
            rows = np.flatnonzero(wanted[key_of])
        else:
            self.keys = np.unique(key_of[bad_rows])
            rows = np.flatnonzero(np.isin(key_of, self.keys))
        number = np.searchsorted(self.keys, key_of[rows])
        order = np.argsort(number, kind="stable")
        self.rows, self.number = rows[order], number[order]

    def sum(self, values: NDArray[np.float32]) -> Floats:
        return np.bincount(self.number, values[self.rows], minlength=len(self.keys)).astype(np.float64)

    def rows_of(self, number: int) -> Ints:
        first, last = np.searchsorted(self.number, [number, number + 1])
        return self.rows[first:last]


def _score(bad: Floats, expected: Floats) -> Floats:
    """Return Kulldorff's statistic; 0 where no more is bad than expected."""
    expected = np.maximum(expected, 1e-12)
    with np.errstate(divide="ignore", invalid="ignore"):
        score = bad * np.log(bad / expected) - (bad - expected)
    return np.where(bad > expected, score, 0.0)


def _confidence(gap: float) -> float:
    return 1 - 0.5 * math.exp(-max(gap, 0.0) / 2)


def _binomial_low(bad: float, n: float, rate: float) -> bool:
    """Tell whether `bad` of `n` is too few, by a thousandth, for chances that go bad at `rate` (Chernoff)."""
    if n == 0 or bad >= rate * n:
        return False
    share = bad / n
    terms = share * math.log(share / rate) if share else 0.0
    rest = (1 - share) * math.log((1 - share) / max(1 - rate, 1e-9))
    return n * (terms + rest) > math.log(1_000)
