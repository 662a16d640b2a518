"""The known_hosts file: which host key every host must show.

The file has OpenSSH's format (`ssh` and `ssh-keygen -F` read it; hashed names, patterns and `@cert-authority` lines
that an operator puts there are honoured). Only `pin` writes it: whole, under a lock, and never over a different key.
The invoking user's own ~/.ssh/known_hosts is never looked at.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncssh

from pingmesh_tasks.errors import ConfigError

DEFAULT_SSH_PORT = 22
HOST_KEY_ALGORITHMS = (
    "ssh-ed25519",
    *(f"ecdsa-sha2-nistp{bits}" for bits in (256, 384, 521)),
    "rsa-sha2-512",
    "rsa-sha2-256",
)


def entry_name(address: str, port: int) -> str:
    """How a host is called in the file: `10.0.0.7`, or `[10.0.0.7]:2200` on another port."""
    return address if port == DEFAULT_SSH_PORT else f"[{address}]:{port}"


class KnownHosts:
    """The host keys of one file, read once. Raises ConfigError for a line that cannot be understood."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._text = _read(path)
        try:
            self.entries = asyncssh.import_known_hosts(self._text)
        except ValueError as exc:
            raise ConfigError(f"{path}: {exc}; remove that line or write `<host> <key type> <base64 key>`") from None

    def knows(self, address: str, port: int) -> bool:
        """Return whether any key or authority is named for the host."""
        return _matches(self.entries, address, port)

    def algorithms(self, address: str, port: int) -> list[str] | None:
        """Return the kinds of host key to ask for: the pinned ones first. None where an authority vouches for the host.

        The others stay on offer, so that a host with a new kind of key shows it and is recognised as changed;
        otherwise the two sides just fail to agree, and a busy one sees no more than a closed connection.
        """
        keys, authorities, *_ = _match(self.entries, address, port)
        if authorities:
            return None
        pinned = [name.decode() for key in keys for name in key.sig_algorithms]
        return list(dict.fromkeys([*pinned, *HOST_KEY_ALGORITHMS]))

    def lines(self, address: str, port: int) -> list[int]:
        """Return the numbers, from 1, of the lines that speak of the host; hashed ones too."""
        found = []
        for number, line in enumerate(self._text.splitlines(), start=1):
            try:
                if _matches(asyncssh.import_known_hosts(line), address, port):
                    found.append(number)
            except ValueError:
                continue
        return found

    def pin(self, address: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Write the host's key down, durably. Returns False, and writes nothing, if another key was pinned meanwhile.

        Safe against other processes that pin at the same time: they agree on a lock beside the file.
        """
        name = entry_name(address, port)
        kind, blob = key.export_public_key("openssh").decode().split()[:2]
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(self.path):
            text = _read(self.path)
            fields = [line.split() for line in text.splitlines()]
            pinned = [line[1:3] for line in fields if len(line) >= 3 and name in line[0].split(",")]
            if [kind, blob] in pinned:
                return True
            if pinned:
                return False
            if text and not text.endswith("\n"):
                text += "\n"
            replace_file(self.path, f"{text}{name} {kind} {blob}\n".encode(), mode=0o600)
        return True


def _match(entries: asyncssh.SSHKnownHosts, address: str, port: int) -> Sequence[Sequence[Any]]:
    return entries.match(address, address, None if port == DEFAULT_SSH_PORT else port)


def _matches(entries: asyncssh.SSHKnownHosts, address: str, port: int) -> bool:
    found = _match(entries, address, port)
    return any(found[:2]) or any(found[3:6])


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path}: the known_hosts file cannot be read: {exc}") from None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock named after `path`, across processes. The file itself may be replaced meanwhile."""
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def replace_file(path: Path, data: bytes, *, mode: int) -> None:
    """Put `data` in place of `path` at once: a reader sees the old bytes or the new ones, also after a crash."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
