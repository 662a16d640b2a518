"""SSH to many hosts at once: log in, run a script, say what happened.

Everything the fleet does on a host is a POSIX shell script with bytes on stdin and a bounded answer on stdout; there
is no SFTP, which some servers do not have. A sick host is data: whatever a host does (dead, slow, hostile),
`for_each_host` returns its `HostOutcome` and goes on. What is not the host's doing (the object store down, a bug)
propagates.
 Invariants: only the given key, password and known_hosts text are used, nothing of the invoking
user's; no password or key is offered to a host before its host key was verified; no host makes us
hold more than `limit_bytes` of its output; a host's time budget is spent only while we wait for
that host.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import os
import random
import shlex
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import asyncssh

from pingmesh_tasks.errors import PingmeshError
from pingmesh_tasks.fleet.known_hosts import DEFAULT_SSH_PORT, KnownHosts, Pins, text_of
from pingmesh_tasks.fleet.private_key import PrivateKey, key_of
from pingmesh_tasks.fleet.ssh_options import SshOptions
from pingmesh_tasks.store.shared_text import SharedText
from pingmesh_tasks.text import joined_lines
from pingmesh_tasks.topology.inventory import Host

DETAIL_CHARS = 300
ANSWER_LIMIT_BYTES = 256 * 1024
STDERR_LIMIT_BYTES = 256 * 1024
STDERR_KEPT_BYTES = 2048
CHUNK_BYTES = 64 * 1024
#: Printed before a script's own output: what comes earlier is a login shell's chatter (a .bashrc that greets).
MARK = b"#pingmesh#\n"
_CLOSE_S = 2.0


@dataclass(frozen=True, slots=True)
class SshAccess:
    """How to log in. `Host.ssh_user` and `Host.ssh_port` override `username` and `port`. No repr
    shows the password.

    `known_hosts` and `private_key` as paths are files of one machine. The password is offered after
    the key, and like the key only to a host whose host key was verified.
    """

    username: str
    known_hosts: Path | SharedText
    port: int = DEFAULT_SSH_PORT
    private_key: Path | PrivateKey | None = None
    password: str | None = field(default=None, repr=False)
    connect_timeout_s: float = 10.0
    login_timeout_s: float = 20.0
    options: SshOptions = field(default_factory=SshOptions)


@dataclass(frozen=True, slots=True)
class FanoutLimits:
    """How many hosts at once, how long one may take, and how often a lost connection is tried again."""

    concurrency: int = 50
    host_timeout_s: float = 30.0
    retries: int = 1
    retry_delay_s: float = 1.0  # times 0.5 … 1.5, so that a fleet does not come back in step


@dataclass(frozen=True, slots=True)
class HostOutcome:
    """What happened to one host in one stage; the columns of `host_status` but for the window."""

    host: str
    stage: str
    outcome: str
    detail: str = ""
    duration_ms: int = 0
    clock_offset_us: int | None = None
    agent_version: str | None = None
    pinglist_version: str | None = None
    segment_bytes: int | None = None
    scheduled: int | None = None
    skipped: int | None = None


class HostFault(PingmeshError):
    """A sick host, raised in the work for one host; becomes its outcome. `retryable`: the next try may well pass."""

    def __init__(self, outcome: str, detail: str, *, retryable: bool = False) -> None:
        self.outcome = outcome
        self.detail = detail
        self.retryable = retryable
        super().__init__(f"{outcome}: {detail}")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a script gave back. `exit_status` is -1 after a signal; `stderr` is the readable end of it.

    `written_us` is when the host wrote the end of it, on our clock (UTC, µs since the epoch): when it came, less half
    a round trip.
    """

    exit_status: int
    stdout: bytes
    stderr: str
    written_us: int


class Session(Protocol):
    """One host, logged in."""

    @property
    def host(self) -> Host: ...

    async def run(self, script: str, *args: str, stdin: bytes = b"", limit_bytes: int = ANSWER_LIMIT_BYTES) -> Answer:
        """Run a POSIX shell script; `args` are its $1, $2 …, whatever characters they hold. Raises HostFault."""
        ...


Work = Callable[[Session], Awaitable[HostOutcome]]


def for_each_host(
    hosts: Iterable[Host],
    work: Work,
    access: SshAccess,
    limits: FanoutLimits | None = None,
    *,
    stage: str,
    pin_new_hosts: bool = False,
) -> list[HostOutcome]:
    """Do `work` on every host, `limits.concurrency` at a time; return one outcome a host, in the order of `hosts`.

    `work` must be idempotent: it is repeated once when the connection was lost. With
    `pin_new_hosts`, a host that the known_hosts text does not name is accepted and, once the login
    passed, pinned; otherwise it is refused. Raises ConfigError for a key, known_hosts text or
    option that cannot be used, StoreError where the bucket that holds them cannot be asked, and
    whatever `work` raises but HostFault.
    """
    return asyncio.run(_fan_out(list(hosts), work, access, limits or FanoutLimits(), stage, pin_new_hosts))


def escaped(text: str) -> str:
    """Return the detail of an outcome: one line of at most DETAIL_CHARS characters."""
    return joined_lines(text, DETAIL_CHARS)


async def _fan_out(
    hosts: list[Host], work: Work, access: SshAccess, limits: FanoutLimits, stage: str, pin_new_hosts: bool
) -> list[HostOutcome]:
    asyncssh.set_log_level(logging.WARNING)  # seven lines a connection otherwise
    trust = load_trust(access)
    slots = asyncio.Semaphore(limits.concurrency)

    async def one(host: Host) -> HostOutcome:
        async with slots:
            started = time.monotonic()
            login = Login(host, access, trust, pin_new_hosts, started + limits.host_timeout_s)
            outcome = await _attempts(login, work, limits, stage)
            detail = outcome.detail.replace(access.password, "***") if access.password else outcome.detail
            return replace(outcome, detail=escaped(detail), duration_ms=round((time.monotonic() - started) * 1000))

    return await asyncio.gather(*(one(host) for host in hosts))


async def _attempts(login: Login, work: Work, limits: FanoutLimits, stage: str) -> HostOutcome:
    tries = 0
    while True:
        try:
            async with logged_in(login) as session:
                return await work(session)
        except HostFault as fault:
            if not fault.retryable or tries == limits.retries:
                return HostOutcome(login.host.name, stage, fault.outcome, fault.detail)
            tries += 1
            await asyncio.sleep(limits.retry_delay_s * random.uniform(0.5, 1.5))  # noqa: S311


@dataclass(frozen=True, slots=True)
class Trust:
    """What the logins of one fan-out share: the private key, the pinned host keys, asyncssh's
    options."""

    keys: list[asyncssh.SSHKey]
    pins: Pins
    arguments: Mapping[str, Any]


def load_trust(access: SshAccess) -> Trust:
    """Read the key and the pinned host keys. Raises ConfigError for one that cannot be used,
    StoreError."""
    keys = [] if access.private_key is None else [key_of(access.private_key).load()]
    return Trust(keys, Pins(text_of(access.known_hosts)), access.options.arguments())


@dataclass(frozen=True, slots=True)
class Login:
    """One host and all that logging in to it needs. `deadline` is on the monotonic clock."""

    host: Host
    access: SshAccess
    trust: Trust
    pin_new_hosts: bool
    deadline: float

    @property
    def known(self) -> KnownHosts:
        return self.trust.pins.known

    @property
    def port(self) -> int:
        return self.host.ssh_port or self.access.port

    @property
    def username(self) -> str:
        return self.host.ssh_user or self.access.username

    @property
    def where(self) -> str:
        return f"{self.host.address} port {self.port}"

    def seconds_left(self, at_most_s: float = float("inf")) -> float:
        return max(0.0, min(at_most_s, self.deadline - time.monotonic()))


class _Client(asyncssh.SSHClient):
    """Takes an unpinned host key if told to, and remembers it."""

    def __init__(self, login: Login) -> None:
        self._may_pin = login.pin_new_hosts and not login.known.knows(login.host.address, login.port)
        self.new_key: asyncssh.SSHKey | None = None

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        if self._may_pin:
            self.new_key = key
        return self._may_pin


@asynccontextmanager
async def logged_in(login: Login) -> AsyncIterator[SshSession]:
    """Log in, and be out again at the end; at once, without a goodbye, where that is an error. Raises HostFault."""
    sock = await _open_socket(login)
    connection, new_key = await _log_in(login, sock)
    try:
        if new_key is not None:
            login = await _pin(login, new_key)
        yield SshSession(login, connection)
    except BaseException:
        connection.abort()
        raise
    connection.close()
    with suppress(Exception):  # the work is done; a host that does not say goodbye costs two seconds
        async with asyncio.timeout(_CLOSE_S):
            await connection.wait_closed()
    connection.abort()


async def _open_socket(login: Login) -> socket.socket:
    """Connect by TCP first and alone: it tells an unreachable host from one whose sshd hangs."""
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(login.host.address).version == 6 else socket.AF_INET
    except ValueError:
        raise HostFault("failed", f"address {login.host.address!r} is no IP address") from None
    try:
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except OSError as exc:
        raise HostFault("failed", f"no socket on this side: {exc}") from None
    try:
        async with asyncio.timeout(login.seconds_left(login.access.connect_timeout_s)):
            await asyncio.get_running_loop().sock_connect(sock, (login.host.address, login.port))
    except TimeoutError:
        sock.close()
        raise HostFault(
            "unreachable", f"no TCP connection to {login.where} within {login.access.connect_timeout_s:g} s"
        ) from None
    except OSError as exc:
        sock.close()
        reason = os.strerror(exc.errno) if exc.errno else str(exc)
        raise HostFault(
            "unreachable", f"{login.where}: {reason}", retryable=isinstance(exc, ConnectionResetError)
        ) from None
    except BaseException:
        sock.close()
        raise
    return sock


async def _pin(login: Login, key: asyncssh.SSHKey) -> Login:
    """Pin the host's key and return the login without the time that took. Raises HostFault,
    StoreError."""
    began = time.monotonic()
    if not await login.trust.pins.pin(login.host.address, login.port, key):
        raise HostFault("host_key_changed", _changed_key_advice(login))
    return replace(login, deadline=login.deadline + time.monotonic() - began)


async def _log_in(login: Login, sock: socket.socket) -> tuple[asyncssh.SSHClientConnection, asyncssh.SSHKey | None]:
    """Return the connection, and the host's key where it is to be pinned. Raises HostFault."""
    host_keys = login.known.algorithms(login.host.address, login.port) or ()
    limit_s = login.seconds_left(login.access.login_timeout_s)
    client = _Client(login)
    try:
        async with asyncio.timeout(limit_s):
            connection, _ = await asyncssh.create_connection(
                lambda: client,
                login.host.address,
                login.port,
                sock=sock,
                username=login.username,
                client_keys=login.trust.keys or None,
                password=login.access.password,
                known_hosts=login.known.entries,
                server_host_key_algs=login.access.options.host_key_algorithms(host_keys),
                preferred_auth="publickey,keyboard-interactive,password",
                config=None,
                agent_path=None,
                gss_host=None,
                connect_timeout=None,
                login_timeout=None,
                **login.trust.arguments,
            )
    except Exception as exc:  # whatever a host sends must not reach the other hosts
        raise _login_fault(login, exc, limit_s) from None
    return connection, client.new_key


def _login_fault(login: Login, exc: Exception, limit_s: float) -> HostFault:
    match exc:
        case TimeoutError():
            return HostFault("timeout", f"{login.where} took the connection but no login within {limit_s:.0f} s")
        case asyncssh.HostKeyNotVerifiable() if "revoked" in str(exc) or login.known.knows(
            login.host.address, login.port
        ):
            return HostFault("host_key_changed", _changed_key_advice(login))
        case asyncssh.HostKeyNotVerifiable():
            return HostFault(
                "host_key_unknown",
                f"{login.where} is not in {login.known.place}; ensure_keys pins it at the first contact by password, "
                "or check the host's key and add it by hand",
            )
        case asyncssh.PermissionDenied():
            offered = [
                name for name, given in (("key", login.trust.keys), ("password", login.access.password)) if given
            ]
            return HostFault(
                "auth_failed", f"{login.where} refused the {' and the '.join(offered) or 'login'} of {login.username}"
            )
    return connection_fault(login, exc)


def _changed_key_advice(login: Login) -> str:
    lines = login.known.lines(login.host.address, login.port)
    place = f"line {', '.join(map(str, lines))} of {login.known.place}" if lines else login.known.place
    return f"{login.where} shows another host key than {place}; if the host was reinstalled, remove that line"


def connection_fault(login: Login, exc: Exception) -> HostFault:
    """Return what an error of a connection says of the host."""
    if isinstance(exc, asyncssh.ConnectionLost | ConnectionResetError | BrokenPipeError):
        reason = "closed the connection (sshd restarting, or at its MaxStartups)"
        return HostFault("unreachable", f"{login.where} {reason}", retryable=True)
    if isinstance(exc, asyncssh.ChannelOpenError):
        return HostFault("failed", f"{login.where} opens no session: {exc}", retryable=True)
    if isinstance(exc, asyncssh.DisconnectError):
        busy = exc.code == asyncssh.DISC_TOO_MANY_CONNECTIONS
        return HostFault("failed", f"{login.where} disconnected: {exc.reason}", retryable=busy)
    return HostFault("failed", f"{login.where}: {type(exc).__name__}: {exc}")


class SshSession:
    """`Session` over one asyncssh connection."""

    def __init__(self, login: Login, connection: asyncssh.SSHClientConnection) -> None:
        self.login = login
        self.connection = connection
        self.budget_s: float | None = None  # for each script; None: what the login left of the host's time

    @property
    def host(self) -> Host:
        return self.login.host

    async def run(self, script: str, *args: str, stdin: bytes = b"", limit_bytes: int = ANSWER_LIMIT_BYTES) -> Answer:
        budget_s = self.login.seconds_left() if self.budget_s is None else self.budget_s
        try:
            async with asyncio.timeout(budget_s):
                process = await self.connection.create_process(shell_command(script, args), encoding=None)
                (stdout, came_us), (stderr, _), _ = await asyncio.gather(
                    _read(process.stdout, limit_bytes + len(MARK) + CHUNK_BYTES),
                    _read(process.stderr, STDERR_LIMIT_BYTES),
                    _feed(process.stdin, stdin),
                )
                await process.wait_closed()
        except HostFault:
            raise
        except TimeoutError:
            raise HostFault("timeout", f"{self.login.where} did not finish within the time for one host") from None
        except Exception as exc:  # as above: a host's doing, whatever it is
            raise connection_fault(self.login, exc) from None
        if process.exit_status is None and process.exit_signal is None:
            raise HostFault("unreachable", f"{self.login.where} went away in mid-command", retryable=True)
        error_text = stderr[-STDERR_KEPT_BYTES:].decode("utf-8", "replace").strip()
        _, mark, answer = stdout.partition(MARK)
        if not mark:
            said = stdout[:STDERR_KEPT_BYTES].decode("utf-8", "replace")
            raise HostFault(
                "failed", f"{self.login.username} on {self.login.where} gets no /bin/sh: {said} {error_text}"
            )
        status = process.exit_status if process.exit_status is not None else -1
        return Answer(status, answer, error_text, came_us - self._round_trip_us() // 2)

    def _round_trip_us(self) -> int:
        """The kernel's smoothed round trip of this very connection (TCP_INFO)."""
        sock = self.connection.get_extra_info("socket")
        try:
            return int(struct.unpack_from("I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 68)[0])
        except (OSError, struct.error):
            return 0


def shell_command(script: str, args: Iterable[str]) -> str:
    """Return the command that runs a script in the C locale under /bin/sh, whatever the login shell; MARK first."""
    marked = f"echo '{MARK.decode().strip()}'; LC_ALL=C; export LC_ALL\n{script}"
    return "exec /bin/sh -c " + shlex.join([marked, "sh", *args])


async def _read(reader: asyncssh.SSHReader[bytes], limit_bytes: int) -> tuple[bytes, int]:
    """Return all that comes, and when the last of it came, in µs since the epoch."""
    chunks: list[bytes] = []
    size, came_us = 0, 0
    while chunk := await reader.read(CHUNK_BYTES):
        size, came_us = size + len(chunk), time.time_ns() // 1000
        if size > limit_bytes:
            raise HostFault("failed", f"the host sent more than {limit_bytes} bytes where it should not")
        chunks.append(chunk)
    return b"".join(chunks), came_us


async def _feed(writer: asyncssh.SSHWriter[bytes], data: bytes) -> None:
    with suppress(OSError, asyncssh.Error):  # the script may end early; its exit status says why
        for start in range(0, len(data), CHUNK_BYTES):
            writer.write(data[start : start + CHUNK_BYTES])
            await writer.drain()
        writer.write_eof()


def parse_object(text: bytes) -> dict[str, Any]:
    """Return the JSON object in `text`, an empty one if it is none: what a host says may be anything."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def is_disk_full(stderr: str) -> bool:
    """Return whether a host's command failed for want of space; scripts run in the C locale, so the words are fixed."""
    return "No space left on device" in stderr or "Disk quota exceeded" in stderr


def offset_us(host_now_us: int, answer: Answer) -> int:
    """Return how far a host's clock is ahead of ours, in µs, from the time it wrote at the end of an answer.

    Good to some ms, to some ten ms while we are busy with many hosts: enough to find a clock that is off.
    """
    return host_now_us - answer.written_us
