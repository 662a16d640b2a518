"""The access log of a busy MDSplus data server, made up line by line in the server's own format. Seeded.

    log = generate(lines=3_000_000, seed=1, profile=BENCHMARK)
    for chunk in log:          # whole lines, about 2 MB
        file.write(chunk)
    log.truth.rejected         # what a reader must find

The format is that of `mdsip` and of our hook library: `DATE` is ctime(); connection lines end in CR LF and name the
socket, hook lines end in LF and name the tree, the shot and the node. In mode `multi` (`mdsip -m`) one process serves
everybody and says when a client goes; in mode `inetd` each client has a process of its own, whose pid wraps around at
32 768, socket 0, and nothing says when it goes. Beside it runs the server's stderr, undated: see `AccessLog.blocks`.

What users do and where that comes from is told in `sessions` and `population`. Seen in real logs: dates that step back
by a second between processes, and every form of garbage but `bad_time`, `binary` and `empty`, which are assumed.
Garbage is added to the log; no true line is lost to it. A pid that wraps around may meet one that still runs, which a
kernel would pass over.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import numpy.typing as npt

from pingmesh_tasks.demo.made_up_sessions import HOOK_TYPES, NO_NODE, Behaviour, Calls, Hammer, MadeUpSessions, Profile
from pingmesh_tasks.demo.population import Floats, Ints, Population, draw_population
from pingmesh_tasks.errors import ConfigError

#: Lines that fit no kind: as the template library prints them, other libraries' text, cut in front, cut behind, two
#: lines in one, an hour or day that no clock shows, random bytes, nothing at all.
GARBAGE = ("undated", "stray", "no_head", "cut", "glued", "bad_time", "binary", "empty")
CHUNK_LINES = 20_000
_PID_MIN, _PID_MAX = 300, 32_768
_FIRST_SOCKET = 4
_ON, _OFF, _HOOK = 0, 1, 2
_REJECTED = _HOOK + len(HOOK_TYPES)
_SCANS_PER_SESSION = 0.02

Codes = npt.NDArray[np.uint8]
Pieces = npt.NDArray[np.object_]

#: Three million of these are the grammar's benchmark: 8 % client, 91 % operation, 1 % garbage; 10 % CR LF.
BENCHMARK = Profile(operations=10, more_operations=3.0, garbage=0.01, crlf=0.022, swing=0.0)
#: The older system's case: with `generate(users=1_000)`, 1 000 users × 20 operations, about 30 000 lines.
HEADLINE = Profile(more_operations=0, garbage=0.01, abandoned=0.0, refused=0.0, forged=0.0)


@dataclass(slots=True)
class Truth:
    """How many lines of each kind there are: what a reader must find. `errors` counts those of the stderr log."""

    client_on: int = 0
    client_off: int = 0
    operations: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def lines(self) -> int:
        return self.client_on + self.client_off + self.operations.total() + self.rejected.total()

    def count(self, codes: Codes) -> None:
        found = np.bincount(codes, minlength=_REJECTED + len(GARBAGE)).tolist()
        self.client_on += found[_ON]
        self.client_off += found[_OFF]
        self.operations.update({name: n for name, n in zip(HOOK_TYPES, found[_HOOK:_REJECTED], strict=True) if n})
        self.rejected.update({name: n for name, n in zip(GARBAGE, found[_REJECTED:], strict=True) if n})


@dataclass(frozen=True, slots=True)
class Block:
    """What both logs got until `until_s`: whole lines."""

    until_s: float
    access: bytes
    errors: bytes


def generate(
    lines: int | None = None, users: int | None = None, *, seed: int = 1, profile: Profile | None = None
) -> AccessLog:
    """Return a log of exactly `lines` lines; or of `users` users who come once each; or, without either, no end.

    Equal arguments give equal bytes. Memory is bounded by the sessions that are open at once.
    """
    profile = profile or Profile()
    if users is not None:
        profile = replace(profile, users=users)
    return AccessLog(DataServer(profile, seed, once=users is not None and lines is None), lines)


class AccessLog:
    """A log to be read once: iterate over it for chunks of the access log, or over `blocks()` for both logs."""

    def __init__(self, server: DataServer, lines: int | None) -> None:
        self._server, self._lines = server, lines

    @property
    def truth(self) -> Truth:
        """What was handed out so far."""
        return self._server.truth

    def __iter__(self) -> Iterator[bytes]:
        return (block.access for block in self.blocks())

    def blocks(self) -> Iterator[Block]:
        length_s = CHUNK_LINES / self._server.profile.lines_per_s
        while not self._server.is_idle:
            left = None if self._lines is None else self._lines - self.truth.lines
            if left == 0:
                return
            block = self._server.advance(self._server.now_s + length_s, at_most=left)
            if block.access:
                yield block


class DataServer:
    """The server at work: `advance` returns what it writes until a moment, and `truth` counts it."""

    def __init__(self, profile: Profile, seed: int, *, once: bool = False) -> None:
        self.profile, self.truth, self.now_s = profile, Truth(), profile.start_s
        self._rng = np.random.default_rng([seed, profile.users, 2, int(profile.start_s)])
        self._people = draw_population(profile.users, seed)
        self._behaviour = Behaviour(profile, self._people, self._rng)
        self._texts = _Texts(self._people, profile.timezone)
        self._hammer_peer = b""
        if profile.hammer:
            self._hammer_peer = self._peer_of(profile.hammer.user)
        self._pending = _Lines.none()
        self._said: list[tuple[float, str, bytes]] = []
        self._pid = int(self._rng.integers(_PID_MIN, _PID_MAX))
        self._free_sockets: list[int] = []
        self._next_socket = _FIRST_SOCKET
        self._open: list[tuple[float, int]] = []  # a heap of (end, socket)
        self._roster: tuple[Floats, Ints] | None = None
        if once:
            end_s = profile.start_s + profile.users / self._behaviour.sessions_per_s
            starts = np.sort(self._rng.uniform(profile.start_s, end_s, profile.users))
            self._roster = starts, self._rng.permutation(profile.users)

    @property
    def is_idle(self) -> bool:
        """Whether nothing will ever be written again."""
        return self._roster is not None and not len(self._roster[0]) and not len(self._pending.at_s)

    def advance(self, until_s: float, *, at_most: int | None = None) -> Block:
        """Return what is written from now until `until_s`, but no more than the first `at_most` lines of it."""
        sessions, calls = self._behaviour.act(*self._arrivals(until_s))
        written = self._write(sessions, calls)
        due, self._pending = _Lines.joined([self._pending, *written]).split(until_s)
        due = _Lines.joined([due, self._garbage(due.at_s)]).sorted().first(at_most)
        self.truth.count(due.code)
        self._said.sort(key=lambda said: said[0])
        ended = next((number for number, said in enumerate(self._said) if said[0] >= until_s), len(self._said))
        told, self._said = self._said[:ended], self._said[ended:]
        self.truth.errors.update(kind for _, kind, _ in told)
        self.now_s = until_s
        return Block(until_s, self._texts.render(due), b"".join(text for _, _, text in told))

    def hammer(self, hammer: Hammer) -> None:
        """Let a user hammer one node, from `hammer.after_s` from now on."""
        self._hammer_peer = self._peer_of(hammer.user)
        self._behaviour.hammer(hammer, self.now_s)

    def _peer_of(self, user: str) -> bytes:
        peers = dict(zip(self._people.names, self._people.peers, strict=True))
        return peers.get(user.encode(), user.encode() + b"@ws999.campus.example [198.18.31.231]")

    def _arrivals(self, until_s: float) -> tuple[Floats, Ints, Floats]:
        if self._roster is None:
            return self._behaviour.arrive(self.now_s, until_s)
        starts, users = self._roster
        here = int(np.searchsorted(starts, until_s))
        self._roster = starts[here:], users[here:]
        return starts[:here], users[:here], np.zeros(here)

    def _write(self, sessions: MadeUpSessions, calls: Calls) -> list[_Lines]:
        """Return the lines of new sessions, most of which lie ahead, and note what stderr will say."""
        heads: list[bytes] = []
        lines: list[tuple[float, float, int, bytes]] = []  # time, printed time or NaN, code, text
        multi = self.profile.mode == "multi"
        clock_s = self._rng.exponential(0.001, len(sessions.start_s))
        for number, (start, end, told, user, refused, forged, hammers) in enumerate(sessions.rows()):
            socket = self._accept(start, end) if multi else self._fork()
            peer = self._hammer_peer if hammers else self._people.peers[user]
            heads.append(b" (pid %d) " % self._pid)
            self._tell(start, peer.rpartition(b"@")[0], self._people.addresses[user], refused)
            around = b" (%d) (pid %d) Connection %%s from " % (socket, self._pid)
            ends = [(start, _ON, around % b"received")]
            if multi and told == told:  # not NaN
                ends.append((told, _OFF, around % b"disconnected"))
            for at, code, text in ends:
                if forged:
                    lines.append((at, at, code, text + b"mallory@h [10.9.9.9]\r\n"))
                    lie = b"Sat Nov 21 22:00:00 2026 (9) (pid 1) Connection received from admin@"
                    lines.append((at, np.nan, _ON, lie + peer.rpartition(b"@")[2] + b"\r\n"))
                else:
                    lines.append((at, at if multi else at - clock_s[number], code, text + peer + b"\r\n"))
        connections = _Lines.plain(lines)
        late_s = 0.0 if multi else self._rng.exponential(0.001, len(calls.at_s))
        ends_crlf = self._rng.random(len(calls.at_s)) < self.profile.crlf
        return [connections, self._texts.calls(calls, _objects(heads), calls.at_s - late_s, ends_crlf)]

    def _accept(self, start: float, end: float) -> int:
        """Return the lowest free socket, as a kernel gives it."""
        while self._open and self._open[0][0] < start:
            heapq.heappush(self._free_sockets, heapq.heappop(self._open)[1])
        if self._free_sockets:
            socket = heapq.heappop(self._free_sockets)
        else:
            socket, self._next_socket = self._next_socket, self._next_socket + 1
        heapq.heappush(self._open, (end, socket))
        return socket

    def _fork(self) -> int:
        """Let the next process begin; the machine starts others in between. Its socket is always 0."""
        self._pid += int(self._rng.integers(1, 4))
        if self._pid >= _PID_MAX:
            self._pid += _PID_MIN - _PID_MAX
        return 0

    def _tell(self, at_s: float, user: bytes, address: str, refused: bool) -> None:
        """Note what stderr says of a connection, and of the scans that leave no line in the access log."""
        if refused:
            self._said.append((at_s, "denied", b"Access denied: " + user + b"\n"))
        else:
            self._said.append((at_s, "connected", b"Connected: " + user + b"\n"))
            if self.profile.mode == "multi":
                self._said.append((at_s, "dispatched", f"dispatched client {address}\n".encode()))
        if self._rng.random() < _SCANS_PER_SESSION:
            ndims, kind = self._rng.integers(0, (256, 15)).tolist()
            fault = f"GetMdsMsg shutdown connection -1: bad msg header, header.ndims={ndims}, client_type={kind}\n"
            self._said += [(at_s, "empty", b"\n"), (at_s, "bad_header", fault.encode())]

    def _garbage(self, at_s: Floats) -> _Lines:
        """Return garbage for a block whose lines are written at `at_s`: where the traffic is."""
        share = self.profile.garbage
        count = self._rng.binomial(len(at_s), share / (1 - share)) if len(at_s) and share < 1 else 0
        kinds = self._rng.integers(0, len(GARBAGE), count).tolist()
        times = self._rng.choice(at_s, count).tolist() if count else []
        shot = int(self._behaviour.newest_shot(np.array([self.now_s]))[0])
        lines = [
            (at, np.nan, _REJECTED + kind, self._texts.garbage(GARBAGE[kind], at, self._pid, shot, self._rng))
            for kind, at in zip(kinds, times, strict=True)
        ]
        return _Lines.plain(lines)


@dataclass(frozen=True, eq=False, slots=True)
class _Lines:
    """Lines as columns. The text is the date of `printed_s` (none if NaN), and after it the pieces in their order."""

    at_s: Floats
    printed_s: Floats
    code: Codes
    pieces: tuple[Pieces, ...]

    @classmethod
    def none(cls) -> _Lines:
        return cls.plain([])

    @classmethod
    def plain(cls, lines: list[tuple[float, float, int, bytes]]) -> _Lines:
        """Lines of one piece."""
        at, printed, code = (np.array([line[column] for line in lines], dtype=float) for column in range(3))
        nothing = np.full(len(lines), b"", dtype=object)
        text = _objects([line[3] for line in lines])
        return cls(at, printed, code.astype(np.uint8), (text, nothing, nothing, nothing))

    @classmethod
    def joined(cls, parts: list[_Lines]) -> _Lines:
        columns = [[part.at_s, part.printed_s, part.code, *part.pieces] for part in parts]
        at, printed, code, *pieces = (np.concatenate(column) for column in zip(*columns, strict=True))
        return cls(at, printed, code, tuple(pieces))

    def taken(self, which: Any) -> _Lines:
        pieces = tuple(piece[which] for piece in self.pieces)
        return _Lines(self.at_s[which], self.printed_s[which], self.code[which], pieces)

    def split(self, until_s: float) -> tuple[_Lines, _Lines]:
        due = self.at_s < until_s
        return self.taken(due), self.taken(~due)

    def sorted(self) -> _Lines:
        return self.taken(np.argsort(self.at_s, kind="stable"))

    def first(self, count: int | None) -> _Lines:
        return self if count is None or count >= len(self.at_s) else self.taken(slice(count))


class _Texts:
    """The pieces that lines are made of."""

    def __init__(self, people: Population, timezone: str) -> None:
        self._zone = _zone(timezone)
        self._people = people
        self._trees = len(people.tree_names)
        hooks = [f"{hook} called for tree={tree}, shot=" for hook in HOOK_TYPES for tree in people.tree_names]
        nodes = [*people.nodes, "N/A"]
        self._hooks = _objects([hook.encode() for hook in hooks])
        self._ends = _objects([f"{node}{end}".encode() for end in ("\n", "\r\n") for node in nodes])

    def calls(self, calls: Calls, heads: Pieces, printed_s: Floats, ends_crlf: npt.NDArray[np.bool_]) -> _Lines:
        shots, which = np.unique(calls.shot, return_inverse=True)
        nodes = len(self._people.nodes)
        node = np.where(calls.node == NO_NODE, nodes, calls.node) + ends_crlf * (nodes + 1)
        pieces = (
            heads[calls.session],
            self._hooks[calls.hook * self._trees + calls.tree],
            _objects([b"%d, node=" % shot for shot in shots.tolist()])[which],
            self._ends[node],
        )
        return _Lines(calls.at_s, printed_s, (_HOOK + calls.hook).astype(np.uint8), pieces)

    def render(self, lines: _Lines) -> bytes:
        seconds, which = np.unique(np.floor(lines.printed_s), return_inverse=True)
        dates = _objects([self.date(second) for second in seconds.tolist()])
        return b"".join(np.stack([dates[which], *lines.pieces], axis=1).ravel().tolist())

    def date(self, moment_s: float) -> bytes:
        """ctime() in the server's zone; nothing for NaN."""
        return datetime.fromtimestamp(moment_s, self._zone).ctime().encode() if moment_s == moment_s else b""

    def garbage(self, kind: str, at_s: float, pid: int, shot: int, rng: np.random.Generator) -> bytes:
        """Return one line, with its end, that no reader may take for a line of a log."""
        node = self._people.nodes[int(rng.integers(len(self._people.nodes)))]
        tree = node[1:].partition(":")[0]
        hook = "GetData" if rng.random() < 0.5 else "GetNci"
        date = self.date(at_s).decode()
        head, rest = f"{date} (pid {pid}) {hook} called for ", f"tree={tree}, shot={shot}, node={node}"
        cut = int(rng.integers(1, len(head) + len(f"tree={tree}, sho")))
        if kind == "undated":
            return f"{hook} hook called for {rest}\n".encode()
        if kind == "stray":
            return _STRAY[int(rng.integers(len(_STRAY)))]
        if kind == "no_head":
            return f"{head}{rest}\n"[int(rng.integers(2, len(head))) :].encode()
        if kind == "cut":
            return f"{head}{rest}"[:cut].encode() + b"\n"
        if kind == "glued":
            return f"{head}{rest}"[:cut].encode() + f"{head}{rest}\n".encode()
        if kind == "bad_time":
            return f"{date[:11]}25{date[13:]} (pid {pid}) {hook} called for {rest}\n".encode()
        if kind == "binary":
            return b"\xfe" + rng.bytes(int(rng.integers(1, 200))).replace(b"\n", b"\0") + b"\n"
        return b"\n"


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError(f"{name!r} is no IANA time zone; write one such as Asia/Shanghai or UTC") from None


_STRAY = (
    b"this is not yet supported\n",
    b"TDIHOOK _d\n",
    b"%TREE-W-NOMATCH, no node in tree matches\n",
    b"Segmentation fault\n",
    b"*** stack smashing detected ***: terminated\r\n",
)


def _objects(values: list[bytes]) -> Pieces:
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found
