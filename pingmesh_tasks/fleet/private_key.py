"""The fleet's private key: one that the operator gives, or a pair of our own that is made once.
 Every worker must have the same key. Its public half is recorded where the workers meet (the
bucket; on one machine a `.pub` file beside the key), so that a worker without the key never makes
another one: it fails and names the key.
 Making the pair survives a kill at any moment: the private key is written under a name of its own
first, then recorded, then renamed. A recorded key without its file is finished or reported, never
replaced.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import asyncssh

from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.store.shared_text import SharedText, TextFile, locked, replace_file

log = logging.getLogger(__name__)

KEY_COMMENT = "pingmesh"
#: How to give a worker the key, for messages.
_PROVIDE = (
    "give every worker that key: as extra `private_key` of the Airflow connection pingmesh_ssh "
    "(a secrets backend can hold it), or in one PINGMESH_SSH_DIR that all workers share"
)


class PrivateKey(Protocol):
    """Where the private key comes from."""

    def load(self) -> asyncssh.SSHKey:
        """Return the key. Raises ConfigError for one that is absent, cannot be used or is not the
        fleet's."""
        ...

    def ensure(self) -> asyncssh.SSHKey:
        """Return the key as `load` does, and see that its public half is recorded; an own pair is
        made if need be."""
        ...

    def version(self) -> object:
        """Return a value that differs after the key was exchanged, without reading it."""
        ...


@dataclass(frozen=True, slots=True)
class GivenKey:
    """A private key that the operator gave, as `text` or in `file`. It is never written.

    `origin` names where it was given, for messages; `record` is where its public half is kept for
    other workers.
    """

    origin: str
    text: str | None = field(default=None, repr=False)
    file: Path | None = None
    passphrase: str | None = field(default=None, repr=False)
    record: SharedText | None = None

    def load(self) -> asyncssh.SSHKey:
        try:
            if self.file is not None:
                return asyncssh.read_private_key(self.file, self.passphrase)
            return asyncssh.import_private_key(self.text or "", self.passphrase)
        except (
            OSError,
            ValueError,
        ) as error:  # asyncssh's errors of keys and passphrases are ValueErrors
            raise ConfigError(f"the private key of {self.origin} cannot be used: {error}") from None

    def ensure(self) -> asyncssh.SSHKey:
        key = self.load()
        if self.record is not None:
            before = self.record.read()
            if _blob(before) != _blob(public_line(key)):
                self.record.update(lambda _: public_line(key))
                log.info(
                    "%s holds the fleet's public key now: %s",
                    self.record.place,
                    key.get_fingerprint(),
                )
        return key

    def version(self) -> object:
        return TextFile(self.file).version() if self.file else None


@dataclass(frozen=True, slots=True)
class OwnKey:
    """The fleet's own key pair, made at first use: the private key in `path`, its public half in
    `record`."""

    path: Path
    record: SharedText

    def load(self) -> asyncssh.SSHKey:
        recorded = self.record.read()
        if not self.path.exists():
            if recorded:
                raise ConfigError(self._lacks(recorded))
            raise ConfigError(f"no private key at {self.path}; run ensure_keys first, it makes one")
        key = self._read(self.path)
        if recorded and _blob(recorded) != _blob(public_line(key)):
            raise ConfigError(self._differs(key, recorded))
        return key

    def ensure(self) -> asyncssh.SSHKey:
        try:
            started = self.path.exists() or self._candidate.exists()
            if not started and (recorded := self.record.read()):
                raise ConfigError(self._lacks(recorded))
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with locked(self.path):
                if not self.path.exists():
                    self._make()
                key = self._read(self.path)
                recorded = self.record.update(lambda text: text or public_line(key))
        except OSError as error:
            raise ConfigError(f"private key {self.path}: {error}") from None
        if _blob(recorded) != _blob(public_line(key)):
            raise ConfigError(self._differs(key, recorded))
        return key

    def version(self) -> object:
        return TextFile(self.path).version()

    @property
    def is_to_be_made(self) -> bool:
        """Whether `ensure` would make the fleet's first key."""
        return not self.path.exists() and not self.record.read()

    @property
    def _candidate(self) -> Path:
        return self.path.with_name(f"{self.path.name}.unrecorded")

    def _make(self) -> None:
        """Make the pair and record it; leave nothing if another worker's is recorded."""
        if not self._candidate.exists():
            made = asyncssh.generate_private_key("ssh-ed25519", comment=KEY_COMMENT)
            replace_file(self._candidate, made.export_private_key("openssh"), mode=0o600)
        key = self._read(self._candidate)
        recorded = self.record.update(lambda text: text or public_line(key))
        if _blob(recorded) != _blob(public_line(key)):
            self._candidate.unlink()
            raise ConfigError(self._lacks(recorded))
        self._candidate.rename(self.path)

    def _read(self, path: Path) -> asyncssh.SSHKey:
        try:
            return asyncssh.read_private_key(path)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"the private key {path} cannot be used: {error}; it must be readable and have no "
                "passphrase, or be absent"
            ) from None

    def _lacks(self, recorded: str) -> str:
        return (
            f"this worker has no private key at {self.path}, and the fleet has one: "
            f"{_fingerprint(recorded)}, recorded in {self.record.place}; {_PROVIDE}. If that key is lost, "
            f"remove {self.record.place} and run ensure_keys: it makes a new key and installs it by the "
            "bootstrap password"
        )

    def _differs(self, key: asyncssh.SSHKey, recorded: str) -> str:
        return (
            f"the private key {self.path} is {key.get_fingerprint()}, and the fleet's key is "
            f"{_fingerprint(recorded)}, recorded in {self.record.place}; {_PROVIDE}. If {self.path} is "
            f"the new key of the fleet, remove {self.record.place} and run ensure_keys"
        )


def key_of(private_key: Path | PrivateKey) -> PrivateKey:
    """Return the key that is given; a path is an own pair on one machine, recorded beside it."""
    if isinstance(private_key, Path):
        return OwnKey(private_key, TextFile(private_key.with_name(f"{private_key.name}.pub")))
    return private_key


def public_line(key: asyncssh.SSHKey) -> str:
    """Return the public half in OpenSSH's format, with the comment `pingmesh`."""
    kind, blob = key.export_public_key("openssh").decode().split()[:2]
    return f"{kind} {blob} {KEY_COMMENT}\n"


def _blob(line: str) -> list[str]:
    return line.split()[:2]


def _fingerprint(line: str) -> str:
    try:
        return asyncssh.import_public_key(line).get_fingerprint()
    except ValueError:
        return "an unreadable key"
