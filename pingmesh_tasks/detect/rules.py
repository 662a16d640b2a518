"""The rule book: which rules are on, with which limits, where, and when they are muted.

A limit is looked up at a place, and the last override whose patterns fit the place decides; then the book's own value,
then the default of `detect.catalogue`. `detect.rules_file` reads a book from YAML.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from pingmesh_tasks.detect.catalogue import RULES

PLACES = ("host", "tor", "podset", "dc", "server", "user", "client", "node")

#: Where something is: `{"host": "h1", "tor": "dc1/podset1/tor1"}`; a pair has two of each.
Place = Mapping[str, str | Sequence[str]]


@dataclass(frozen=True, slots=True)
class Where:
    """Patterns by kind of place; fits if each one fits one of the names of its kind."""

    patterns: tuple[tuple[str, str], ...]

    def fits(self, place: Place) -> bool:
        return all(
            any(fnmatchcase(name, pattern) for name in _names(place.get(kind, ()))) for kind, pattern in self.patterns
        )

    def fits_within(self, place: Place) -> bool:
        """Tell whether it fits something in `place`, of which other kinds of place than those told may be known."""
        return Where(tuple(of for of in self.patterns if of[0] in place)).fits(place)

    def __str__(self) -> str:
        return ", ".join(f"{kind} {pattern}" for kind, pattern in self.patterns)


@dataclass(frozen=True, slots=True)
class RuleLimits:
    """What a file says of rules, for everything or for one `where`."""

    limits: Mapping[tuple[str, str], float] = field(default_factory=dict)
    off: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Override:
    """Settings for what fits `where`."""

    where: Where
    rules: RuleLimits


@dataclass(frozen=True, slots=True)
class Maintenance:
    """A time in which nobody wants to hear of what fits `where`: once, from … until, or daily (UTC, may pass 0:00)."""

    where: Where
    start: datetime | None = None
    end: datetime | None = None
    daily: tuple[time, time] | None = None
    note: str = ""

    def covers(self, at: datetime) -> bool:
        if self.daily is None:
            return (self.start is None or self.start <= at) and (self.end is None or at < self.end)
        start, end = self.daily
        now = at.astimezone(UTC).time()
        return start <= now < end if start < end else now >= start or now < end

    def __str__(self) -> str:
        if self.daily:
            when = "daily {:%H:%M}-{:%H:%M} UTC".format(*self.daily)
        else:
            when = f"until {self.end:%Y-%m-%d %H:%M} UTC" if self.end else "without an end"
        return f"maintenance of {self.where} {when}" + (f": {self.note}" if self.note else "")


@dataclass(frozen=True, slots=True)
class RuleBook:
    """The limits in force. `book.limit("loss", "limit", host="h1", tor="dc1/podset1/tor1")`."""

    rules: RuleLimits = RuleLimits()
    overrides: tuple[Override, ...] = ()
    maintenance: tuple[Maintenance, ...] = ()

    def limit(self, rule: str, limit: str, **place: str | Sequence[str]) -> float:
        """Return the limit in force at `place`: of the last override that fits, else of the book, else the default."""
        for override in reversed(self.overrides):
            value = override.rules.limits.get((rule, limit))
            if value is not None and override.where.fits(place):
                return value
        value = self.rules.limits.get((rule, limit))
        return RULES[rule].limit(limit).default if value is None else value

    def is_on(self, rule: str, **place: str | Sequence[str]) -> bool:
        """Tell whether `rule` looks at `place`; without a place, whether it looks anywhere."""
        if rule not in RULES:
            raise KeyError(rule)
        for override in reversed(self.overrides):
            off = override.rules.off.get(rule)
            if off is not None and (override.where.fits(place) if place else not off):
                return not off
        return not self.rules.off.get(rule, False)

    def is_on_within(self, rule: str, **place: str | Sequence[str]) -> bool:
        """Tell whether `rule` looks at `place` or at anything in it: a user of a server."""
        for override in reversed(self.overrides):
            off = override.rules.off.get(rule)
            if off is False and override.where.fits_within(place):
                return True
            if off and override.where.fits(place):
                return False
        return not self.rules.off.get(rule, False)

    def limits(self, rule: str, limit: str, places: Sequence[Place]) -> NDArray[np.float64]:
        """Return `limit` at each of many places, matching patterns only where an override has the limit."""
        values = np.full(len(places), self.limit(rule, limit))
        for override in self.overrides:
            value = override.rules.limits.get((rule, limit))
            if value is not None:
                values[[override.where.fits(place) for place in places]] = value
        return values

    def lowest(self, rule: str, limit: str) -> float:
        """Return the lowest that a limit is anywhere."""
        values = [override.rules.limits.get((rule, limit)) for override in self.overrides]
        return min([self.limit(rule, limit), *(value for value in values if value is not None)])

    def in_maintenance(self, at: datetime, **place: str | Sequence[str]) -> Maintenance | None:
        """Return the maintenance that `place` is in at the time `at`, if any."""
        return next((m for m in self.maintenance if m.covers(at) and m.where.fits(place)), None)


DEFAULT_RULES = RuleBook()


def _names(names: str | Sequence[str]) -> Sequence[str]:
    return (names,) if isinstance(names, str) else names
