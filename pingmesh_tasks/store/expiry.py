"""What is too old to keep: from a listing of the bucket and the ages of each kind to what may be deleted.

    listing ──survey──▶ Plan: how much of each kind goes, whether a guard stops it ──prunes(entry)──▶ yes or no

Pure, and of constant memory: the listing is read twice, once to plan and once to delete. Only keys that the layout
knows, of kinds that this program writes, ever go. An object's age is that of its window, which its key tells, so that
a bucket which was copied ages on. These stay at any age:

- cursors, the alarm's memory, `artifacts/latest/`, and whatever is not ours;
- the newest window of each kind, of raw logs that of each data server: what is normal, where a log was left;
- a plan that was in use within a day of any window that stays, or later: its table may name it. Each run of
  `pingmesh` writes its plan again, so an object's time of change is when it was last in use.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.objects import StoredObject
from pingmesh_tasks.store.schemas import SCHEMAS
from pingmesh_tasks.suggestions import suggest
from pingmesh_tasks.windows import LEVELS_S

HOT, PLANS = layout.HOT.rstrip("/"), layout.PLANS
#: The pictures and reports that this program writes.
ARTIFACTS = ("heatmap", "history", "cdf", "bars", "timeline", "usage", "usage_day", "sla_hour", "sla_day")
#: Everything that ages, by the first folders of its keys; another kind is not ours.
KINDS = (
    *("raw/probe", "raw/access", "raw/errors", "quarantine/probe", "quarantine/access"),
    *map(layout.kind_of_table, SCHEMAS),
    *map(layout.kind_of_artifact, ARTIFACTS),
    *(HOT, PLANS),
)
#: Groups of kinds that an age can be given for; hours and days are those of tables and artifacts.
GROUPS = ("raw", "quarantine", "tables", "hours", "days", "artifacts")
#: Kinds with fewer objects than this may go at any share: of a few, most may well be old.
GUARDED_FROM = 100
_NAMES_PLANS = tuple(
    layout.kind_of_table(layout.at_level(table, level))
    for table in ("pair_latency", "group_latency", "mesh_map")
    for level in ("window", *LEVELS_S)
)
_PLAN_MARGIN = timedelta(days=1)
_AGES_AGO = datetime.min.replace(tzinfo=UTC)


def group_of(kind: str) -> str:
    """Return the group whose age holds for a kind that has none of its own."""
    root, _, name = kind.partition("/")
    if root in ("tables", layout.ARTIFACTS):
        return next((f"{level}s" for level in LEVELS_S if name.endswith(f"_{level}")), root)
    return root


@dataclass(frozen=True)
class Ages:
    """How long what is kept, in days, by group (`GROUPS`) or by kind (`tables/probe`); None is for good."""

    days: Mapping[str, int | None]
    hot_h: float = 24

    def __post_init__(self) -> None:
        names = {*GROUPS, *KINDS} - {HOT, PLANS}
        faults = []
        for name in sorted(self.days.keys() - names):
            faults.append(f"{name!r} is not a kind of object; {suggest(name, sorted(names))}")
        if faults:
            raise ConfigError("PINGMESH_KEEP_D: " + "; ".join(faults))

    def cutoff(self, kind: str, now: datetime) -> datetime:
        """Return when the oldest window of a kind begins that is kept."""
        if kind == HOT:
            return now - timedelta(hours=self.hot_h)
        days = self.days.get(kind, self.days.get(group_of(kind)))
        return _AGES_AGO if days is None else now - timedelta(days=days)


@dataclass(slots=True)
class Pile:
    """Some objects of a kind: how many, their bytes, and when the oldest and the newest of their windows begin."""

    objects: int = 0
    size: int = 0
    oldest: datetime | None = None
    newest: datetime | None = None

    def add(self, start: datetime, size: int, objects: int = 1) -> None:
        self.objects += objects
        self.size += size
        self.oldest = start if self.oldest is None else min(self.oldest, start)
        self.newest = start if self.newest is None else max(self.newest, start)

    def __iadd__(self, other: Pile) -> Pile:
        if other.oldest and other.newest:
            self.add(other.oldest, other.size, other.objects)
            self.add(other.newest, 0, 0)
        return self


@dataclass(frozen=True)
class ExpiryPlan:
    """What may go. `old` and `all` are by kind, `refused` are kinds of which too large a share would go at once."""

    cutoffs: Mapping[str, datetime]
    #: The newest window of each series that the survey saw: it stays, and so does all of a series that it did not see.
    newest: Mapping[tuple[str, str], datetime]
    all: Mapping[str, Pile]
    old: Mapping[str, Pile]
    refused: tuple[str, ...]
    strangers: int = 0

    def prunes(self, entry: StoredObject) -> bool:
        """Whether an object, as a listing tells it now, is to be deleted."""
        facts = layout.facts(entry.key)
        if facts is None or facts.kind not in self.old or facts.kind in self.refused:
            return False
        start = facts.start or entry.modified
        return start < self.cutoffs[facts.kind] and self.newest.get((facts.kind, facts.server), start) != start


@dataclass(slots=True)
class _Series:
    """The objects of one kind, of raw logs those of one data server."""

    newest: datetime = _AGES_AGO
    at_newest: Pile = field(default_factory=Pile)
    old: Pile = field(default_factory=Pile)
    #: The newest old window but the newest.
    runner_up: datetime | None = None
    kept: Pile = field(default_factory=Pile)

    def add(self, start: datetime, size: int, cutoff: datetime) -> None:
        if start > self.newest:
            self.newest, self.at_newest = start, Pile()
        if start == self.newest:
            self.at_newest.add(start, size)
        if start >= cutoff:
            self.kept.add(start, size)
            return
        last = self.old.newest
        if last is not None and start != last:
            self.runner_up = max(min(start, last), self.runner_up or _AGES_AGO)
        self.old.add(start, size)

    def spare_newest(self) -> None:
        """Count the newest window as kept, where it is old."""
        if self.kept.objects or not self.old.objects:
            return
        self.kept += self.at_newest
        left = self.old.objects - self.at_newest.objects
        self.old = Pile(left, self.old.size - self.at_newest.size, self.old.oldest, self.runner_up) if left else Pile()


def survey(listing: Iterable[StoredObject], ages: Ages, now: datetime, max_share: float = 1.0) -> ExpiryPlan:
    """Return what of a listing, in any order, may go. More than `max_share` (0…1) of a kind at once is refused."""
    cutoffs = {kind: ages.cutoff(kind, now) for kind in KINDS}
    series: dict[tuple[str, str], _Series] = {}
    plans: list[tuple[datetime, int]] = []
    strangers = 0
    for entry in listing:
        facts = layout.facts(entry.key)
        if facts is None or facts.kind not in cutoffs:
            strangers += 1
        elif facts.start is None:
            plans.append((entry.modified, entry.size))
        else:
            one = series.setdefault((facts.kind, facts.server), _Series())
            one.add(facts.start, entry.size, cutoffs[facts.kind])
    everything, old = {kind: Pile() for kind in KINDS}, {kind: Pile() for kind in KINDS}
    for (kind, _), one in series.items():
        if kind != HOT:
            one.spare_newest()
        for pile in (one.kept, one.old):
            everything[kind] += pile
        old[kind] += one.old
    refused = {kind for kind in KINDS if kind != HOT and _is_too_much(old[kind], everything[kind], max_share)}

    in_use = [one.kept.oldest for (kind, _), one in series.items() if kind in _NAMES_PLANS]
    in_use += [everything[kind].oldest for kind in refused & set(_NAMES_PLANS)]
    cutoffs[PLANS] = min(filter(None, (now - _PLAN_MARGIN, *in_use))) - _PLAN_MARGIN
    last = max(plans, default=(now, 0))[0]
    for modified, size in plans:
        everything[PLANS].add(modified, size)
        if modified < cutoffs[PLANS] and modified != last:
            old[PLANS].add(modified, size)
    if _is_too_much(old[PLANS], everything[PLANS], max_share):
        refused.add(PLANS)

    newest = {of: _AGES_AGO if of[0] == HOT else one.newest for of, one in series.items()} | {(PLANS, ""): last}
    return ExpiryPlan(cutoffs, newest, everything, old, tuple(sorted(refused)), strangers)


def _is_too_much(old: Pile, everything: Pile, max_share: float) -> bool:
    return everything.objects >= GUARDED_FROM and old.objects > max_share * everything.objects
