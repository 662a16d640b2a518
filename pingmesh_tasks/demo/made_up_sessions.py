"""Sessions on a made-up data server: who connects when, does what and leaves how. No text yet, only columns.

Where the behaviour comes from:
- Sessions begin as a Poisson process whose rate changes over the day, and a session's operations are log-normal in
  number: V. Paxson and S. Floyd, "Wide-Area Traffic: The Failure of Poisson Modeling", IEEE/ACM ToN 3(3), 1995, found
  so for remote logins. Drawn by thinning (P. Lewis and G. Shedler, Naval Research Logistics 26, 1979).
- Popularity is Zipf-like: see `population`.
- Seen in logs of real servers: a disconnect line that comes ten seconds late, after its socket was used again;
  CloseTree after the disconnect line where a client had a tree context of its own; no disconnect line for a refused
  client, or for one whose thread hangs; a user name that forges a line.
- Assumed: log-normal pauses between operations, one tree and one shot a session, that readers gather after each
  shot, and every figure in Profile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from pingmesh_tasks.demo.population import (
    FAVOURITES,
    HABITS,
    NODES_PER_TREE,
    OPERATIONS,
    Floats,
    Ints,
    Population,
    activity,
    zipf,
)
from pingmesh_tasks.errors import ConfigError

MODES = ("multi", "inetd")
HOOK_TYPES = ("OpenTree", "OpenTreeEdit", "WriteTree", "CloseTree", "GetData", "GetNci", "PutData", "PutNci")
EPOCH_SHOT = 138_000
MODEL_SHOT = -1
NO_NODE = -1
HAMMER_SESSION_S = 20.0
_SHOTS = 100_000
_LATE_S = 10.0
_PAUSE_SIGMA = 1.0
_LENGTH_SIGMA = 0.9

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Hammer:
    """A user who reads one node `per_s` times a second, from `after_s` on for `for_s`, in sessions of twenty seconds.

    With `every_s` it comes again so long after each beginning.
    """

    user: str
    after_s: float = 0.0
    per_s: float = 20.0
    for_s: float = float("inf")
    every_s: float = float("inf")


@dataclass(frozen=True, slots=True)
class Profile:
    """How busy a server is and how its users behave. Shares are of sessions, unless said otherwise.

    `lines_per_s` is the mean over a day and over the cycle of shots. A session has `operations` at least, and as
    many more as a log-normal of median `more_operations` says (0: never more). `garbage` is the share of all lines;
    `crlf` the share of hook lines that end in CR LF, as in logs that went through other hands. `swing` is how much of
    the traffic follows the users' day (0: only who comes changes, not how many). With `reconnect_s` the clients of a
    server that was there before come back within that time; without, the log begins with nobody. Of the sessions,
    `abandoned` hang in the middle, `impolite` close no tree, `refused` may not in, `forged` have a name that makes a
    second line, `late` are told gone too late, `own_context` close their tree after they are gone.
    """

    users: int = 1_000
    lines_per_s: float = 300.0
    mode: str = "multi"
    start_s: float = 1_795_298_400.0  # 2026-11-21 22:00 UTC
    timezone: str = "Asia/Shanghai"
    operations: int = 20
    more_operations: float = 6.0
    pause_s: float = 1.5
    garbage: float = 0.005
    crlf: float = 0.0
    abandoned: float = 0.06
    impolite: float = 0.3
    refused: float = 0.01
    forged: float = 0.0005
    late: float = 0.002
    own_context: float = 0.05
    shot_every_s: float = 600.0
    burst: float = 3.0
    burst_s: float = 60.0
    swing: float = 0.5
    reconnect_s: float | None = None
    hammer: Hammer | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ConfigError(f"mode {self.mode!r} is none of a data server's; write {' or '.join(MODES)}")
        if min(self.users, self.operations - 1) < 1 or min(self.lines_per_s, self.shot_every_s, self.pause_s) <= 0:
            raise ConfigError("a data server needs a user, two operations a session, and a rate and pauses above 0")
        for name in ("garbage", "crlf", "abandoned", "impolite", "refused", "forged", "late", "own_context", "swing"):
            if not 0 <= getattr(self, name) <= 1 or self.garbage == 1:
                raise ConfigError(f"{name} {getattr(self, name)} is no share; write 0 to 1 (garbage: less than 1)")


@dataclass(frozen=True, eq=False, slots=True)
class MadeUpSessions:
    """Sessions as parallel arrays, in order of `start_s`. `told_s` is when the disconnect line comes (NaN: never)."""

    start_s: Floats
    end_s: Floats
    told_s: Floats
    user: Ints
    refused: Flags
    forged: Flags
    hammers: Flags

    def rows(self) -> Iterator[tuple[float, float, float, int, bool, bool, bool]]:
        """Yield each session's fields, in the order above."""
        return zip(*(getattr(self, f.name).tolist() for f in fields(self)), strict=True)


@dataclass(frozen=True, eq=False, slots=True)
class Calls:
    """Calls of the hook as parallel arrays; `session` is an index into the sessions drawn with them."""

    at_s: Floats
    session: Ints
    hook: Ints
    tree: Ints
    shot: Ints
    node: Ints


class Behaviour:
    """Draws sessions of a profile's users from `rng`."""

    def __init__(self, profile: Profile, people: Population, rng: np.random.Generator) -> None:
        self._profile, self._people, self._rng = profile, people, rng
        hours = np.arange(0, 24, 0.25)
        day = np.array([self._weights(hour).sum() for hour in hours])
        self._hours, self._day = hours, 1 - profile.swing + profile.swing * day / day.mean()
        self._hammer: Hammer | None = None
        self._bouts: list[tuple[float, float, Hammer]] = []  # next session, begin of the bout, whose
        if profile.hammer:
            self.hammer(profile.hammer, profile.start_s)
        trial = np.zeros(4_000)
        users = self._choose(len(trial), profile.start_s)
        sessions, calls = self.act(trial + profile.start_s, users, np.zeros(len(trial)))
        lines = len(calls.at_s) + len(trial)
        if profile.mode == "multi":
            lines += int(np.isfinite(sessions.told_s).sum())
        self.sessions_per_s = profile.lines_per_s * (1 - profile.garbage) * len(trial) / lines
        self._returning = np.empty(0)
        if profile.reconnect_s is not None:  # as many as write at the profile's rate; the slow ones are still missing
            pace = np.bincount(calls.session, minlength=len(trial)) / (sessions.end_s - sessions.start_s)
            back = round(profile.lines_per_s * len(calls.at_s) / lines / pace[sessions.end_s > sessions.start_s].mean())
            self._returning = np.sort(profile.start_s + rng.uniform(0, profile.reconnect_s, back))

    def hammer(self, hammer: Hammer, now_s: float) -> None:
        """Let a user hammer, `after_s` from now on, beside what was told before; the rate is that of the last told."""
        self._hammer, begin_s = hammer, now_s + hammer.after_s
        self._bouts.append((begin_s, begin_s, hammer))

    def arrive(self, from_s: float, until_s: float) -> tuple[Floats, Ints, Floats]:
        """Return (start, user, seconds that it hammers) of the sessions that begin in [from_s, until_s), in order."""
        p = self._profile
        highest = self.sessions_per_s * self._day.max() * (1 + p.burst)
        starts = np.sort(self._rng.uniform(from_s, until_s, self._rng.poisson(highest * (until_s - from_s))))
        rate = self.sessions_per_s * self._daily(starts) * self._after_shot(starts)
        back = int(np.searchsorted(self._returning, until_s))
        starts = np.concatenate([starts[self._rng.uniform(0, highest, len(starts)) < rate], self._returning[:back]])
        self._returning = self._returning[back:]
        users = self._choose(len(starts), from_s)
        hammering = self._hammering(until_s)
        hammer_s = np.concatenate([np.zeros(len(starts)), [length for _, length in hammering]])
        starts = np.concatenate([starts, [at for at, _ in hammering]])
        users = np.concatenate([users, np.zeros(len(hammering), dtype=np.int64)])
        order = np.argsort(starts, kind="stable")
        return starts[order], users[order], hammer_s[order]

    def _hammering(self, until_s: float) -> list[tuple[float, float]]:
        """Take (start, length in s) of the hammering sessions that begin before `until_s`."""
        begun, bouts = [], []
        for at, begin, hammer in self._bouts:
            end = begin + hammer.for_s
            while at < min(end, until_s):
                begun.append((at, min(HAMMER_SESSION_S, end - at)))
                at += HAMMER_SESSION_S + 0.5
            if at < end:
                bouts.append((at, begin, hammer))
            elif np.isfinite(hammer.every_s):
                bouts.append((begin + hammer.every_s, begin + hammer.every_s, hammer))
        self._bouts = bouts
        return sorted(begun)

    def newest_shot(self, moment_s: Floats) -> Ints:
        """Return the latest shot's number, which follows from the clock alone."""
        return EPOCH_SHOT + (moment_s // self._profile.shot_every_s).astype(np.int64) % _SHOTS

    def act(self, start_s: Floats, user: Ints, hammer_s: Floats) -> tuple[MadeUpSessions, Calls]:
        """Return the sessions that begin so, and every call of the hook in them, by session and in time."""
        p, people, rng = self._profile, self._people, self._rng
        count, hammers = len(start_s), hammer_s > 0
        per_s = self._hammer.per_s if self._hammer else 1.0
        habit, refused = people.habit[user], (rng.random(count) < p.refused) & ~hammers
        thick = (habit == list(HABITS).index("thick")) & ~hammers
        hangs = (rng.random(count) < p.abandoned) & ~hammers & ~refused
        own_context = (rng.random(count) < p.own_context) & (p.mode == "multi") & ~hangs & ~thick
        closes = ((rng.random(count) >= p.impolite) | own_context | hammers) & ~hangs
        choice = (rng.random(count) < 0.2).astype(np.int64)
        tree = np.where(hammers, 0, people.trees[user, choice])

        length = np.full(count, p.operations)
        if p.more_operations:
            length += (p.more_operations * np.exp(_LENGTH_SIGMA * rng.standard_normal(count))).astype(np.int64)
        length = np.where(hangs, rng.integers(1, length + 1), length)
        length = np.where(hammers, np.maximum(2, np.rint(hammer_s * per_s)), length).astype(np.int64)
        length = np.where(refused, 0, length)

        session = np.repeat(np.arange(count), length)
        first = np.cumsum(length) - length
        is_first = np.zeros(len(session), dtype=bool)
        is_first[first[length > 0]] = True
        last = (first + length - 1)[length > 0]
        kind = self._operations(habit[session])
        kind[hammers[session]] = _KIND["read"]
        kind[is_first] = _KIND["open"]
        kind[last[closes[length > 0]]] = _KIND["close"]
        kind[thick[session]] = _KIND["resolve"]

        pace = p.pause_s * np.exp(0.5 * rng.standard_normal(count) - 0.125)
        pause = pace[session] * np.exp(_PAUSE_SIGMA * rng.standard_normal(len(session)) - _PAUSE_SIGMA**2 / 2)
        pause = np.where(hammers[session], 1 / per_s, pause)
        pause[is_first] = rng.uniform(0.01, 0.05, int(is_first.sum()))
        passed = np.concatenate([[0.0], np.cumsum(pause)])
        at_s = start_s[session] + passed[1:] - passed[first[session]]
        end_s = start_s.copy()
        end_s[length > 0] = at_s[last]
        end_s += np.where(own_context, -0.002, 0.02 + rng.random(count) * pace)
        end_s = np.maximum(end_s, start_s + 0.005)
        told_s = end_s + np.where(rng.random(count) < p.late, _LATE_S, 0.0)
        told_s[hangs | refused] = np.nan

        rank = np.searchsorted(np.cumsum(zipf(FAVOURITES, 1.0))[:-1], rng.random(len(session)))
        node = people.favourites[user[session], choice[session], rank]
        node[hammers[session]] = people.wanted[0][0]
        shot = self._shots(start_s, user, habit)
        sessions = MadeUpSessions(
            start_s, end_s, told_s, user, refused, (rng.random(count) < p.forged) & ~refused, hammers
        )
        return sessions, self._calls(at_s, session, kind, tree[session], shot[session], node)

    def _calls(self, at_s: Floats, session: Ints, kind: Ints, tree: Ints, shot: Ints, node: Ints) -> Calls:
        """Return the calls that operations make, fractions of a millisecond apart."""
        people = self._people
        whole_family = np.isin(kind, (_KIND["open"], _KIND["close"]))
        length = np.where(whole_family, (people.families >= 0).sum(axis=1)[tree], _CALLS[kind])
        operation = np.repeat(np.arange(len(kind)), length)
        step = np.arange(len(operation)) - (np.cumsum(length) - length)[operation]
        gap_s = self._rng.uniform(0.0002, 0.001, len(kind))
        in_family = whole_family[operation]
        hook = _HOOKS[kind[operation], np.where(in_family, 0, step)]
        place = node[operation] % NODES_PER_TREE
        found = (
            node[operation] - place + (place + np.where(kind[operation] == _KIND["search"], step, 0)) % NODES_PER_TREE
        )
        nodeless = _NODELESS[hook]
        return Calls(
            at_s=at_s[operation] + step * gap_s[operation],
            session=session[operation],
            hook=hook,
            tree=np.where(
                nodeless, people.families[tree[operation], np.where(in_family, step, 0)], people.node_tree[found]
            ),
            shot=shot[operation],
            node=np.where(nodeless, NO_NODE, found),
        )

    def _operations(self, habit: Ints) -> Ints:
        kind: Ints = (self._rng.random(len(habit))[:, None] >= _LIKELY[habit]).sum(axis=1)
        return kind

    def _shots(self, start_s: Floats, user: Ints, habit: Ints) -> Ints:
        """Return each session's shot: the newest, one of the latest, the user's reference, or the model."""
        newest = self.newest_shot(start_s)
        earlier = newest - self._rng.geometric(1 / 30, len(user))
        reference = EPOCH_SHOT - 1 - self._people.reference_shot[user]
        kind = np.searchsorted([0.50, 0.75, 0.95], self._rng.random(len(user)))
        kind[habit == list(HABITS).index("writer")] = 0
        shot: Ints = np.choose(kind, [newest, earlier, reference, np.full(len(user), MODEL_SHOT)])
        return shot

    def _choose(self, count: int, moment_s: float) -> Ints:
        """Return the users of `count` sessions: the eager ones more often, the awake ones too."""
        weights = np.cumsum(self._weights(moment_s / 3600 % 24))
        users: Ints = np.searchsorted(weights, self._rng.uniform(0, weights[-1], count)).astype(np.int64)
        return users

    def _weights(self, hour_utc: float) -> Floats:
        return self._people.weight * activity(hour_utc)[self._people.lab]

    def _daily(self, moment_s: Floats) -> Floats:
        factor: Floats = np.interp(moment_s / 3600 % 24, self._hours, self._day, period=24)
        return factor

    def _after_shot(self, moment_s: Floats) -> Floats:
        """Return the factor by which sessions begin more often just after a shot; its mean over a cycle is 1."""
        p = self._profile
        since = moment_s % p.shot_every_s
        mean = 1 + p.burst * p.burst_s / p.shot_every_s * (1 - np.exp(-p.shot_every_s / p.burst_s))
        factor: Floats = (1 + p.burst * np.exp(-since / p.burst_s)) / mean
        return factor


_KIND = {name: number for number, name in enumerate(OPERATIONS)}
_CALLS = np.array([len(hooks) for hooks in OPERATIONS.values()])
_HOOKS = np.array(
    [[HOOK_TYPES.index(hook) for hook in hooks] + [0] * (_CALLS.max() - len(hooks)) for hooks in OPERATIONS.values()]
)
_NODELESS = np.array([hook in ("OpenTree", "OpenTreeEdit", "WriteTree", "CloseTree") for hook in HOOK_TYPES])
#: Running sums of each habit's shares, up to the last but one kind of operation.
_LIKELY = np.array([np.cumsum([shares.get(name, 0.0) for name in OPERATIONS])[:-1] for _, shares in HABITS.values()])
