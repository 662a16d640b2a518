"""Live: a host that stays logged in, and scripts there that are talked with.
 `connect` goes to many hosts, does one thing and leaves; here a connection lasts for days. The
logins are the same, with the same promises: only the given key and known_hosts text are used, and
no host key but the pinned one is taken.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import asyncssh

from pingmesh_tasks.errors import ConfigError, StoreError
from pingmesh_tasks.fleet.connect import (
    ANSWER_LIMIT_BYTES,
    CHUNK_BYTES,
    MARK,
    Answer,
    HostFault,
    Login,
    Session,
    SshAccess,
    SshSession,
    Trust,
    connection_fault,
    load_trust,
    logged_in,
    shell_command,
)
from pingmesh_tasks.fleet.known_hosts import text_of
from pingmesh_tasks.fleet.private_key import key_of
from pingmesh_tasks.topology.inventory import Host

log = logging.getLogger(__name__)

_LINE_BYTES = 4096
#: How often, at most, the pinned host keys are asked whether they changed.
_RECHECK_S = 2.0
_WINDOW_BYTES = 256 * 1024  # what a host may send before it is read: the memory of a connection


class Conversation(Protocol):
    """A script that runs on a host for long and answers: a line in, some bytes out. Raises HostFault, as `Session`."""

    async def ask(self, line: str) -> None:
        """Write one line to the script's stdin."""
        ...

    async def line(self) -> bytes:
        """Return the next line of its stdout, without its end."""
        ...

    async def exactly(self, size: int) -> bytes:
        """Return the next `size` bytes of its stdout."""
        ...


class LiveSession(Session, Protocol):
    """One host, logged in for long: `Session.run` has as much time for each script as a login has."""

    def converse(self, script: str, *args: str) -> AbstractAsyncContextManager[Conversation]:
        """Start a script to talk with; it is left, and finds its stdin closed, at the end of the context."""
        ...


class Logins:
    """Logins to many hosts over hours and days. The key and the pinned host keys are read again
    when they change."""

    def __init__(self, access: SshAccess, timeout_s: float = 20.0) -> None:
        self._access, self._timeout_s = access, timeout_s
        self._trust: Trust | None = None
        self._version: object = None
        self._checked = float("-inf")
        self._reading = asyncio.Lock()
        asyncssh.set_log_level(logging.WARNING)

    @asynccontextmanager
    async def session(self, host: Host) -> AsyncIterator[LiveSession]:
        """Log in to a host whose key is pinned, and stay.

        Raises HostFault, also in the midst of it; ConfigError or StoreError as `trust` does.
        """
        trust = await self.trust()
        login = Login(host, self._access, trust, False, time.monotonic() + self._timeout_s)
        async with logged_in(login) as session:
            session.budget_s = self._timeout_s
            yield _Live(session)

    async def trust(self) -> Trust:
        """Return the key and the pinned host keys; those read before where they cannot be read now.

        Raises ConfigError or StoreError if they were never read.
        """
        async with self._reading:
            if self._trust is None or time.monotonic() - self._checked >= _RECHECK_S:
                try:
                    await asyncio.to_thread(self._read)
                except (ConfigError, StoreError) as error:
                    if self._trust is None:
                        raise
                    log.warning("the key and the pinned host keys stay as they were read before: %s", error)
                self._checked = time.monotonic()
            assert self._trust is not None  # noqa: S101
            return self._trust

    def _read(self) -> None:
        key = self._access.private_key
        version = (text_of(self._access.known_hosts).version(), key_of(key).version() if key else None)
        if self._trust is None or version != self._version:
            self._trust, self._version = load_trust(self._access), version


class _Live:
    """`LiveSession` over a session of `connect`."""

    def __init__(self, session: SshSession) -> None:
        self._session = session

    @property
    def host(self) -> Host:
        return self._session.host

    async def run(self, script: str, *args: str, stdin: bytes = b"", limit_bytes: int = ANSWER_LIMIT_BYTES) -> Answer:
        return await self._session.run(script, *args, stdin=stdin, limit_bytes=limit_bytes)

    @asynccontextmanager
    async def converse(self, script: str, *args: str) -> AsyncIterator[_Conversation]:
        try:
            async with asyncio.timeout(self._session.login.access.login_timeout_s):
                process = await self._session.connection.create_process(
                    shell_command(script, args), encoding=None, stderr=asyncssh.DEVNULL, window=_WINDOW_BYTES
                )
                talk = _Conversation(self._session.login, process)
                await talk.begin()
        except HostFault:
            raise
        except TimeoutError:
            raise HostFault("timeout", f"{self._session.login.where} runs no script within its time") from None
        except Exception as exc:  # as in `run`
            raise connection_fault(self._session.login, exc) from None
        try:
            yield talk
        finally:
            process.close()


class _Conversation:
    """`Conversation` with one process of a connection. Holds one piece that was read beyond what was asked."""

    def __init__(self, login: Login, process: asyncssh.SSHClientProcess[bytes]) -> None:
        self._login, self._process = login, process
        self._held = bytearray()

    async def begin(self) -> None:
        """Read up to the mark, past a login shell's chatter."""
        while MARK not in self._held:
            if len(self._held) > CHUNK_BYTES:
                raise HostFault("failed", f"{self._login.where} gets no /bin/sh: {bytes(self._held[:200])!r}")
            await self._more()
        del self._held[: self._held.index(MARK) + len(MARK)]

    async def ask(self, line: str) -> None:
        try:
            self._process.stdin.write(line.encode() + b"\n")
            await self._process.stdin.drain()
        except (OSError, asyncssh.Error):
            raise self._gone() from None

    async def line(self) -> bytes:
        while (end := self._held.find(b"\n")) < 0:
            if len(self._held) > _LINE_BYTES:
                raise HostFault("failed", f"{self._login.where} answered with a line that has no end")
            await self._more()
        return self._take(end + 1)[:-1]

    async def exactly(self, size: int) -> bytes:
        while len(self._held) < size:
            await self._more()
        return self._take(size)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._held[:size])
        del self._held[:size]
        return taken

    async def _more(self) -> None:
        try:
            data = await self._process.stdout.read(CHUNK_BYTES)
        except (OSError, asyncssh.Error):
            raise self._gone() from None
        if not data:
            raise self._gone()
        self._held += data

    def _gone(self) -> HostFault:
        return HostFault("unreachable", f"{self._login.where} ended the conversation", retryable=True)
