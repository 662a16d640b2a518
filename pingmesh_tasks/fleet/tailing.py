"""Follow: what hosts and data servers wrote in the last seconds, for the alarm.

One connection an agent host and one a data server stay open; on each, a script waits to be asked for news (`tails`).
Asking over a conversation that stays was chosen by measurement over running a command each time, which costs the host
a shell and sshd a session a second, and over a script that sleeps and sends by itself, which lives on after the
connection died until it next has something to say, and cannot be paced by whoever reads: `benchmarks/follow_cost.py`.

This is the fast lane, and best effort: it begins with the newest chunk of a segment and at the end of a log, and what
a dead connection cost is not made up for beyond the current segment or log file. The windowed lane reads the same
bytes again and is the one that counts; nothing here touches raw objects or cursors.

Bounds: connections to `max_hosts` hosts, and to every data server; per connection one step of a file, one unfinished
chunk or line, and the SSH window. A log that grows faster than a step a question is followed at its end; what was
passed over is counted in the piece.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from pingmesh_tasks.errors import ConfigError, StoreError
from pingmesh_tasks.fleet.connect import HostFault, SshAccess, escaped
from pingmesh_tasks.fleet.home import DEFAULT_HOME, check_home
from pingmesh_tasks.fleet.live import LiveSession, Logins
from pingmesh_tasks.fleet.notable import LogWatch, NotableLimits, ProbeWatch
from pingmesh_tasks.fleet.tails import (
    LOG_SCRIPT,
    LOG_STEP_BYTES,
    SEGMENT_SCRIPT,
    SEGMENT_STEP_BYTES,
    LogTail,
    SegmentTail,
    ask,
)
from pingmesh_tasks.store.hot_batch import HotPiece
from pingmesh_tasks.topology.inventory import Host, Inventory, LogServer

log = logging.getLogger(__name__)

#: How many chunk lengths without a chunk make a host silent, in a contact that holds.
SILENT_CHUNKS = 2.5
_CLOCK_SCRIPT = "date +%s.%N"
_CLOCK_EVERY_S = 300.0
_GATHER_S = 0.2
_MUCH_BYTES = 32 * 1024  # more lines are looked at in a thread: some ms in which nobody else would be served


@dataclass(frozen=True, slots=True)
class FollowLimits:
    """How often, how many, how patient. Backoff doubles from `retry_s` to `retry_max_s`, times 0.5 … 1.5."""

    max_hosts: int = 250
    interval_s: float = 1.0
    idle_s: float = 5.0  # the longest pause on a host whose next chunk is not due
    answer_s: float = 5.0
    logins: int = 4
    retry_s: float = 1.0
    retry_max_s: float = 60.0
    roster_s: float = 10.0


@dataclass(slots=True)
class Contact:
    """How the following of one host or data server goes. Times are ours, UTC, µs since the epoch.

    `heard_us` is when the last chunk or line came; `why` says what is wrong, empty if nothing is.
    """

    name: str
    kind: str  # host, log
    since_us: int
    connected: bool = False
    heard_us: int | None = None
    why: str = ""

    def row(self) -> list[object]:
        return [self.name, self.kind, self.connected, self.since_us, self.heard_us, self.why]


@dataclass(frozen=True, slots=True)
class Roster:
    """What a follower follows: the data of a `roster` piece. `not_followed` hosts are beyond its number."""

    contacts: tuple[Contact, ...]
    not_followed: int = 0

    def encode(self) -> bytes:
        rows = [contact.row() for contact in self.contacts]
        return json.dumps({"not_followed": self.not_followed, "contacts": rows}, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes) -> Roster:
        """Raises KeyError, TypeError or ValueError for anything that `encode` did not make."""
        document = json.loads(data)
        rows = [(str(n), str(k), int(s), bool(c), h and int(h), str(w)) for n, k, c, s, h, w in document["contacts"]]
        return cls(tuple(Contact(*row) for row in rows), int(document["not_followed"]))


HandOver = Callable[[HotPiece, bool], None]


def choose_hosts(inventory: Inventory, most: int) -> tuple[Host, ...]:
    """Return the hosts to follow: all, or a sample of `most` with as many of each ToR as of any other, or one more.

    Always the same ones for the same inventory. With more ToRs than `most`, ToRs are left out evenly.
    """
    if len(inventory.hosts) <= most:
        return inventory.hosts
    racks: dict[tuple[str, str, str], list[Host]] = {}
    for host in inventory.hosts:
        racks.setdefault(host.tor_key, []).append(host)
    tiers = list(racks.values())
    if len(tiers) > most:
        tiers = [tiers[i * len(tiers) // most] for i in range(most)]
    in_turn = [rack[level] for level in range(max(map(len, tiers))) for rack in tiers if level < len(rack)]
    chosen = set(in_turn[:most])
    return tuple(host for host in inventory.hosts if host in chosen)


class Follower:
    """Follows an inventory until it is cancelled; `hand_over` gets each piece, and whether it is notable.

    `hand_over` is called in the event loop and must return at once. `change` exchanges the inventory while it runs.
    """

    def __init__(
        self,
        name: str,
        access: SshAccess,
        hand_over: HandOver,
        limits: FollowLimits | None = None,
        notable: NotableLimits | None = None,
        *,
        home: str = DEFAULT_HOME,
    ) -> None:
        check_home(home)
        self.name = name
        self._limits = limits or FollowLimits()
        self._notable = notable or NotableLimits()
        self._hand_over, self._home = hand_over, home
        self._logins = Logins(access)
        self._slots = asyncio.Semaphore(self._limits.logins)
        self._probes = ProbeWatch(self._notable)
        self._tasks: dict[Host | LogServer, asyncio.Task[None]] = {}
        self._contacts: dict[Host | LogServer, Contact] = {}
        self._not_followed = 0
        self.roster_changed = asyncio.Event()

    @property
    def roster(self) -> Roster:
        return Roster(tuple(self._contacts.values()), self._not_followed)

    async def run(self, inventory: Inventory) -> None:
        """Follow; never returns. Hosts that fail are tried again for ever."""
        await self._await_trust()
        try:
            self.change(inventory)
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._limits.roster_s):
                        await self.roster_changed.wait()
                        await asyncio.sleep(_GATHER_S)  # a rack that falls silent is one roster
                notable = self.roster_changed.is_set()
                self.roster_changed.clear()
                roster = HotPiece("roster", "follow", self.name, 0, self.roster.encode(), _now_us())
                self._hand_over(roster, notable)
        finally:
            tasks = [*self._tasks.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _await_trust(self) -> None:
        """Wait until there is a key to log in with: without one no host is contacted, so none is
        reported as lost."""
        reason, pause_s = "", self._limits.retry_s
        while True:
            try:
                await self._logins.trust()
                return
            except (ConfigError, StoreError) as error:
                if str(error) != reason:
                    reason = str(error)
                    log.warning("no host is followed until this is mended: %s", reason)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, self._limits.retry_max_s)

    def change(self, inventory: Inventory) -> None:
        """Follow another inventory from now on; those that are in both are not disturbed."""
        hosts = choose_hosts(inventory, self._limits.max_hosts)
        self._not_followed = len(inventory.hosts) - len(hosts)
        if self._not_followed:
            log.warning("%s of %s hosts are followed, some of every ToR", len(hosts), len(inventory.hosts))
        wanted: Sequence[Host | LogServer] = [*hosts, *inventory.log_servers]
        for gone in [entry for entry in self._tasks if entry not in wanted]:
            self._tasks.pop(gone).cancel()
            del self._contacts[gone]
        for entry in wanted:
            if entry not in self._tasks:
                kind = "host" if isinstance(entry, Host) else "log"
                self._contacts[entry] = contact = Contact(entry.name, kind, _now_us())
                work = _HostWork(self, entry, contact) if isinstance(entry, Host) else _LogWork(self, entry, contact)
                self._tasks[entry] = asyncio.create_task(self._keep_at(work))

    async def _keep_at(self, work: _Work) -> None:
        """Be in contact, and after each loss of it again. What a host does never gets out of here."""
        contact, tries = work.contact, 0
        await asyncio.sleep(random.uniform(0, self._limits.interval_s))  # noqa: S311
        while True:
            try:
                async with contextlib.AsyncExitStack() as stack:
                    async with self._slots:
                        session = await stack.enter_async_context(self._logins.session(work.target))
                    contact.connected, contact.since_us, contact.why = True, _now_us(), ""
                    began = time.monotonic()
                    try:
                        await work.follow(session)
                    finally:
                        contact.connected, contact.since_us = False, _now_us()
                        tries = 0 if time.monotonic() - began > 10 else tries
            except HostFault as fault:
                contact.why = escaped(f"{fault.outcome}: {fault.detail}")
            except Exception as error:  # our own fault: the others go on, and it is told
                log.exception("following %s failed", work.target.name)
                contact.why = escaped(f"failed: {error!r}")
            tries += 1
            if tries >= 2:
                self._lost(contact, notable=tries == 2)
            pause_s = min(self._limits.retry_s * 2 ** (tries - 1), self._limits.retry_max_s)
            await asyncio.sleep(min(pause_s * random.uniform(0.5, 1.5), self._limits.retry_max_s))  # noqa: S311

    def _lost(self, contact: Contact, *, notable: bool) -> None:
        piece = HotPiece("lost_contact", contact.name, contact.kind, 0, b"", _now_us(), detail=contact.why)
        self._hand_over(piece, notable)


class _Work:
    """The following of one host or data server, over connections that come and go."""

    target: Host

    def __init__(self, follower: Follower, contact: Contact) -> None:
        self.follower, self.contact = follower, contact
        self.limits = follower._limits
        self.clock_offset_us: int | None = None
        self._clock_due = 0.0

    async def follow(self, session: LiveSession) -> None:
        raise NotImplementedError

    async def look_at_clock(self, session: LiveSession) -> None:
        """Measure now and then how far the host's clock is ahead of ours; to the second where `date` knows no finer."""
        if time.monotonic() < self._clock_due:
            return
        self._clock_due = time.monotonic() + _CLOCK_EVERY_S
        answer = await session.run(_CLOCK_SCRIPT, limit_bytes=100)
        seconds, _, fraction = answer.stdout.decode("ascii", "replace").strip().partition(".")
        if seconds.isdigit() and len(seconds) < 12:
            fine_us = int(fraction[:6]) if fraction.isdigit() and len(fraction) == 9 else 500_000
            self.clock_offset_us = int(seconds) * 1_000_000 + fine_us - answer.written_us


class _HostWork(_Work):
    def __init__(self, follower: Follower, host: Host, contact: Contact) -> None:
        super().__init__(follower, contact)
        self.target = host
        self._tail = SegmentTail(host.name)
        self._span_s = 10.0
        self._silence_told = False

    async def follow(self, session: LiveSession) -> None:
        self._tail.reconnected()
        heard = time.monotonic()
        async with session.converse(SEGMENT_SCRIPT, self.follower._home) as talk:
            while True:
                await self.look_at_clock(session)
                async with _answer_within(self.limits.answer_s, self.target):
                    news = await ask(talk, self._tail.question(), SEGMENT_STEP_BYTES)
                for piece, chunks in self._tail.take(news, _now_us()):
                    heard = time.monotonic()
                    self._span_s = min(max(chunks[-1].span_us / 1e6, 1.0), 600.0)
                    self.contact.heard_us, self.contact.why, self._silence_told = piece.read_at_us, "", False
                    piece = _with_clock(piece, self.clock_offset_us)
                    self.follower._hand_over(piece, self.follower._probes.notable(chunks, heard))
                self._look_for_silence(heard, no_file=not news.file)
                due_s = heard + self._span_s - time.monotonic()
                pause_s = self.limits.interval_s if news.at_end else self.limits.interval_s / 4
                await asyncio.sleep(max(pause_s, min(due_s - self.limits.interval_s, self.limits.idle_s)))

    def _look_for_silence(self, heard: float, *, no_file: bool) -> None:
        silent_s = time.monotonic() - heard
        if silent_s < SILENT_CHUNKS * self._span_s:
            return
        self.contact.why = self._tail.damage or (
            "no agent writes a segment" if no_file else f"no chunk for {SILENT_CHUNKS} times its length"
        )
        if not self._silence_told:
            self._silence_told = True
            self.follower.roster_changed.set()


class _LogWork(_Work):
    def __init__(self, follower: Follower, server: LogServer, contact: Contact) -> None:
        super().__init__(follower, contact)
        self.target = server.as_host()
        self._paths = {"access": server.path} | ({"errors": server.errors_path} if server.errors_path else {})
        self._tails = {kind: LogTail(kind, server.name) for kind in self._paths}
        self._watch = LogWatch(follower._notable)

    async def follow(self, session: LiveSession) -> None:
        tasks = [asyncio.create_task(self._follow_one(session, kind)) for kind in self._paths]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow_one(self, session: LiveSession, kind: str) -> None:
        tail, path = self._tails[kind], self._paths[kind]
        async with session.converse(LOG_SCRIPT, path, *tail.resume()) as talk:
            while True:
                await self.look_at_clock(session)
                async with _answer_within(self.limits.answer_s, self.target):
                    news = await ask(talk, str(LOG_STEP_BYTES), LOG_STEP_BYTES)
                if piece := tail.take(news, _now_us()):
                    self.contact.heard_us = piece.read_at_us
                    look = partial(self._watch.notable, kind, piece.data, piece.skipped_bytes, time.monotonic())
                    notable = await asyncio.to_thread(look) if len(piece.data) > _MUCH_BYTES else look()
                    self.follower._hand_over(_with_clock(piece, self.clock_offset_us), notable)
                if kind == "access":
                    self.contact.why = "" if news.file else f"there is no readable file {path}"
                    if self._watch.fell_silent(time.monotonic()):
                        self.follower.roster_changed.set()
                await asyncio.sleep(self.limits.interval_s)


@contextlib.asynccontextmanager
async def _answer_within(limit_s: float, host: Host) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(limit_s):
            yield
    except TimeoutError:
        raise HostFault("timeout", f"{host.name} gave no answer within {limit_s:g} s", retryable=True) from None


def _with_clock(piece: HotPiece, clock_offset_us: int | None) -> HotPiece:
    return replace(piece, clock_offset_us=clock_offset_us)


def _now_us() -> int:
    return time.time_ns() // 1000
