"""The rule book: which rules look, with which limits, where, and when nobody wants to hear of it.

    rules:                                  # for everything
      loss: {limit: 0.01}
      new_country: off
    scopes:                                 # then for parts; the last that fits wins
      - where: {podset: dc2/podset1}
        rules: {latency_sla: {intra_dc_us: 9000}, black_hole: off}
    maintenance:                            # says nothing of what lies within
      - where: {tor: dc1/podset1/tor3}
        from: 2026-11-22T01:00:00Z
        until: 2026-11-22T05:00:00Z
      - where: {server: data1}
        daily: 02:00-04:30

`where` holds shell patterns on host, tor, podset, dc, server, user, client and node; all of them must fit. The rules
and limits there are, and by which kinds of place they may differ, stand in `detect.catalogue`. A bad file raises one
ConfigError with every fault in it; a limit in a scope that could have no effect is one.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from pingmesh_tasks.detect.catalogue import RULES, By
from pingmesh_tasks.errors import ConfigError

MAX_BYTES = 256 * 1024
MAX_FAULTS = 100
_DEPTH = 6
_LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
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
class Settings:
    """What a file says of rules, for everything or for one `where`."""

    limits: Mapping[tuple[str, str], float] = field(default_factory=dict)
    off: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Override:
    """Settings for what fits `where`."""

    where: Where
    settings: Settings


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

    settings: Settings = Settings()
    overrides: tuple[Override, ...] = ()
    maintenance: tuple[Maintenance, ...] = ()

    def limit(self, rule: str, limit: str, **place: str | Sequence[str]) -> float:
        """Return the limit in force at `place`: of the last override that fits, else of the book, else the default."""
        for override in reversed(self.overrides):
            value = override.settings.limits.get((rule, limit))
            if value is not None and override.where.fits(place):
                return value
        value = self.settings.limits.get((rule, limit))
        return RULES[rule].limit(limit).default if value is None else value

    def is_on(self, rule: str, **place: str | Sequence[str]) -> bool:
        """Tell whether `rule` looks at `place`; without a place, whether it looks anywhere."""
        if rule not in RULES:
            raise KeyError(rule)
        for override in reversed(self.overrides):
            off = override.settings.off.get(rule)
            if off is not None and (override.where.fits(place) if place else not off):
                return not off
        return not self.settings.off.get(rule, False)

    def is_on_within(self, rule: str, **place: str | Sequence[str]) -> bool:
        """Tell whether `rule` looks at `place` or at anything in it: a user of a server."""
        for override in reversed(self.overrides):
            off = override.settings.off.get(rule)
            if off is False and override.where.fits_within(place):
                return True
            if off and override.where.fits(place):
                return False
        return not self.settings.off.get(rule, False)

    def limits(self, rule: str, limit: str, places: Sequence[Place]) -> NDArray[np.float64]:
        """Return `limit` at each of many places, matching patterns only where an override has the limit."""
        values = np.full(len(places), self.limit(rule, limit))
        for override in self.overrides:
            value = override.settings.limits.get((rule, limit))
            if value is not None:
                values[[override.where.fits(place) for place in places]] = value
        return values

    def lowest(self, rule: str, limit: str) -> float:
        """Return the lowest that a limit is anywhere."""
        values = [override.settings.limits.get((rule, limit)) for override in self.overrides]
        return min([self.limit(rule, limit), *(value for value in values if value is not None)])

    def in_maintenance(self, at: datetime, **place: str | Sequence[str]) -> Maintenance | None:
        """Return the maintenance that `place` is in at the time `at`, if any."""
        return next((m for m in self.maintenance if m.covers(at) and m.where.fits(place)), None)


DEFAULT_RULES = RuleBook()


def load_rules(text: str, location: str) -> RuleBook:
    """Return the rule book written in `text` (YAML). Raises ConfigError that lists every fault."""
    faults: list[str] = []
    document = _parse(text, location)
    if document is None:
        return DEFAULT_RULES
    if not isinstance(document, dict):
        raise ConfigError(f"{location}: is no mapping; write 'rules:', 'scopes:' or 'maintenance:'")
    _known(document, ("rules", "scopes", "maintenance"), "section", faults)
    book = RuleBook(
        settings=_settings(document.get("rules"), "rules", faults),
        overrides=tuple(_overrides(document.get("scopes"), faults)),
        maintenance=tuple(_maintenances(document.get("maintenance"), faults)),
    )
    if faults:
        more = [f"and {len(faults) - MAX_FAULTS} more; mend these first"] if len(faults) > MAX_FAULTS else []
        told = "\n".join(f"  - {fault}" for fault in faults[:MAX_FAULTS] + more)
        raise ConfigError(f"{location}: {len(faults)} fault{'s' * (len(faults) != 1)}\n{told}")
    return book


def _parse(text: str, location: str) -> Any:
    """Return the document. Events come first, so that no alias is expanded and no nesting is without end."""
    if len(text.encode()) > MAX_BYTES:
        raise ConfigError(f"{location}: is bigger than {MAX_BYTES >> 10} KiB; is this the rules file?")
    depth = 0
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            line = event.start_mark.line + 1 if event.start_mark else 1
            if isinstance(event, yaml.AliasEvent):
                raise ConfigError(f"{location}: line {line}: has the alias '*{event.anchor}'; write the values out")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEPTH:
                raise ConfigError(f"{location}: line {line}: is nested deeper than rules are; compare the example")
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or str(error).partition("\n")[0]
        where = f"line {mark.line + 1}: " if mark else ""
        raise ConfigError(f"{location}: {where}is no YAML ({reason}); check indentation, colons and quotes") from None


def _settings(section: Any, path: str, faults: list[str], where: Where | None = None) -> Settings:
    """Read `{rule: {limit: value, off: true}}`; a rule may be just `off` or `on`."""
    kinds = {kind for kind, _ in where.patterns} if where else set()

    def differs(by: By, what: str) -> None:
        if not any(kinds.issubset(known) for known in by):
            may = " or by ".join(", ".join(known) for known in by)
            faults.append(f"{what} cannot differ by {', '.join(sorted(kinds))}; it can by {may}")

    limits: dict[tuple[str, str], float] = {}
    off: dict[str, bool] = {}
    for rule, values in _mapping(section, path, faults).items():
        if not _is_known(rule, RULES, f"{path}: there is no rule", faults):
            continue
        if isinstance(values, bool):  # YAML reads `off` as false, and `on` as true
            off[rule] = not values
            differs(RULES[rule].by, f"{path}.{rule}")
            continue
        known = {limit.name: limit for limit in RULES[rule].limits}
        for name, value in _mapping(values, f"{path}.{rule}", faults).items():
            name = {False: "off", True: "on"}.get(name, name) if isinstance(name, bool) else name
            if name in ("off", "on"):
                if isinstance(value, bool):
                    off[rule] = value is (name == "off")
                    differs(RULES[rule].by, f"{path}.{rule}.{name}")
                else:
                    faults.append(f"{path}.{rule}.{name} {_shown(value)} is neither true nor false")
            elif _is_known(name, {**known, "off": None}, f"{path}.{rule} has no limit", faults):
                limit = known[name]
                differs(limit.by or RULES[rule].by, f"{path}.{rule}.{name}")
                if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
                    faults.append(f"{path}.{rule}.{name} {_shown(value)} is no number; write it in {limit.unit}")
                elif not limit.least <= value <= limit.most:
                    faults.append(f"{path}.{rule}.{name} {value} is not in {limit.least:g} … {limit.most:g}")
                else:
                    limits[rule, name] = float(value)
    return Settings(limits, off)


def _overrides(section: Any, faults: list[str]) -> Iterator[Override]:
    for path, entry in _entries(section, "scopes", faults):
        _known(entry, ("where", "rules"), f"{path}: field", faults)
        if where := _where(entry.get("where"), path, faults):
            yield Override(where, _settings(entry.get("rules"), f"{path}.rules", faults, where))


def _maintenances(section: Any, faults: list[str]) -> Iterator[Maintenance]:
    for path, entry in _entries(section, "maintenance", faults):
        _known(entry, ("where", "from", "until", "daily", "note"), f"{path}: field", faults)
        where = _where(entry.get("where"), path, faults)
        start, end = (_moment(entry.get(name), f"{path}.{name}", faults) for name in ("from", "until"))
        daily = _daily(entry.get("daily"), f"{path}.daily", faults)
        if "daily" in entry and ("from" in entry or "until" in entry):
            faults.append(f"{path} has daily and from or until; write two entries")
        elif not {"daily", "until"} & entry.keys():
            faults.append(f"{path} has no end; write until: 2026-11-22T05:00:00Z, or daily: 02:00-04:30")
        elif start and end and end <= start:
            faults.append(f"{path} ends before it begins")
        if where:
            yield Maintenance(where, start, end, daily, str(entry.get("note") or "")[:200])


def _where(section: Any, path: str, faults: list[str]) -> Where | None:
    patterns = []
    for kind, pattern in _mapping(section, f"{path}.where", faults).items():
        if _is_known(kind, PLACES, f"{path}.where: there is no place", faults):
            if isinstance(pattern, str | int) and not isinstance(pattern, bool) and str(pattern).strip():
                patterns.append((str(kind), str(pattern)))
            else:
                faults.append(f"{path}.where.{kind} {_shown(pattern)} is no name or pattern; write for example '*'")
    if not patterns and not section:
        faults.append(f"{path} does not say where; write where: {{host: 'h1*'}}")
    return Where(tuple(patterns)) if patterns else None


def _moment(value: Any, path: str, faults: list[str]) -> datetime | None:
    if value is None:
        return None
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        faults.append(f"{path} {_shown(value)} is no time; write 2026-11-22T01:00:00Z")
        return None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _daily(value: Any, path: str, faults: list[str]) -> tuple[time, time] | None:
    if value is None:
        return None
    try:
        start, end = (time.fromisoformat(part.strip()) for part in str(value).split("-"))
        if start == end or start.tzinfo or end.tzinfo:
            raise ValueError
    except ValueError:
        faults.append(f"{path} {_shown(value)} are no hours; write '02:00-04:30' (UTC), in quotes")
        return None
    return start, end


def _entries(section: Any, path: str, faults: list[str]) -> Iterator[tuple[str, dict[Any, Any]]]:
    if section is None:
        return
    if not isinstance(section, list):
        faults.append(f"{path} is no list; write one '- where: …' for each")
        return
    for number, entry in enumerate(section, 1):
        if isinstance(entry, dict):
            yield f"{path}[{number}]", entry
        else:
            faults.append(f"{path}[{number}] is no mapping; write '- where: …'")


def _mapping(section: Any, path: str, faults: list[str]) -> dict[Any, Any]:
    if section is None:
        return {}
    if isinstance(section, dict):
        return section
    faults.append(f"{path} {_shown(section)} is no mapping; write 'name: value' lines below it")
    return {}


def _known(found: Mapping[Any, Any], known: Iterable[str], what: str, faults: list[str]) -> None:
    for name in found:
        _is_known(name, list(known), f"there is no {what}", faults)


def _is_known(name: Any, known: Iterable[str], text: str, faults: list[str]) -> bool:
    known = list(known)
    if name in known and isinstance(name, str):
        return True
    near = difflib.get_close_matches(str(name), known, 1, 0.6)
    faults.append(f"{text} {_shown(name)}; " + (f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"))
    return False


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:80] + "…"


def _names(names: str | Sequence[str]) -> Sequence[str]:
    return (names,) if isinstance(names, str) else names
