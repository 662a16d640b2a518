"""Small texts that several workers read and change: pinned host keys, the fleet's public key.
 Where the workers share a bucket, the text is an object under optimistic concurrency; on one
machine it is a file under a lock. Both promise the same: a change is applied to the newest text,
whole or not at all, and no change is lost. Bytes that are no UTF-8 (a comment in another encoding)
pass through unharmed.
"""

from __future__ import annotations

import fcntl
import logging
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pingmesh_tasks.errors import ConfigError, StoreError
from pingmesh_tasks.store.objects import ObjectStore

log = logging.getLogger(__name__)

_TRIES, _LONGEST_PAUSE_S = 12, 2.0


class SharedText(Protocol):
    """A text that several workers read and change. An absent text is an empty one."""

    @property
    def place(self) -> str:
        """Where the text is, for messages: a path or an `s3://` URI."""
        ...

    def read(self) -> str:
        """Return the text. Raises ConfigError or StoreError."""
        ...

    def version(self) -> object:
        """Return a value that differs after each change, without reading the text. Raises
        StoreError."""
        ...

    def update(self, change: Callable[[str], str]) -> str:
        """Replace the newest text by `change(text)` and return it; nothing is written where they
        are equal.

        `change` may be called several times. What it raises is raised here. Raises ConfigError or
        StoreError.
        """
        ...


@dataclass(frozen=True)
class TextFile:
    """A text in a file, for the processes of one machine or of one shared directory. Written with
    mode 0600."""

    path: Path

    @property
    def place(self) -> str:
        return str(self.path)

    def read(self) -> str:
        try:
            return _decode(self.path.read_bytes())
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise ConfigError(f"{self.path} cannot be read: {error}") from None

    def version(self) -> object:
        try:
            stat = self.path.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def update(self, change: Callable[[str], str]) -> str:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with locked(self.path):
                before = self.read()
                after = change(before)
                if after != before:
                    replace_file(self.path, _encode(after), mode=0o600)
                return after
        except OSError as error:
            raise ConfigError(f"{self.path} cannot be written: {error}") from None


@dataclass(frozen=True)
class TextObject:
    """A text in the bucket. Where there is none yet, that of `seed` is taken over once, and `seed`
    stays as it is."""

    store: ObjectStore
    key: str
    seed: Path | None = None

    @property
    def place(self) -> str:
        return f"s3://{self.store.access.bucket}/{self.key}"

    def read(self) -> str:
        return self._load()[0]

    def version(self) -> object:
        return self.store.tag(self.key)

    def update(self, change: Callable[[str], str]) -> str:
        for attempt in range(_TRIES):
            before, tag = self._load()
            if tag is None and attempt == 0:
                self.store.ensure_bucket()  # the first text may come before the first run of a DAG
            after = change(before)
            if after == before or self.store.replace(self.key, _encode(after), tag) is not None:
                return after
            # spreads writers that collided; not a secret, so a weak random number does
            time.sleep(random.uniform(0, min(0.05 * 2**attempt, _LONGEST_PAUSE_S)))  # noqa: S311
        raise StoreError(f"{self.place} was changed by others {_TRIES} times in a row; run again")

    def _load(self) -> tuple[str, str | None]:
        found = self.store.get_with_tag(self.key)
        if found is None and self._take_over_seed():
            found = self.store.get_with_tag(self.key)
        return (_decode(found[0]), found[1]) if found else ("", None)

    def _take_over_seed(self) -> bool:
        seed = TextFile(self.seed).read() if self.seed else ""
        if not seed:
            return False
        if self.store.create(self.key, _encode(seed)):
            log.info("%s was copied to %s, which all workers use from now on", self.seed, self.place)
        return True


@dataclass(frozen=True)
class FixedText:
    """A text that only the operator changes, where `place` says."""

    text: str
    place: str

    def read(self) -> str:
        return self.text

    def version(self) -> object:
        return None

    def update(self, change: Callable[[str], str]) -> str:
        if change(self.text) != self.text:
            raise ConfigError(f"{self.place} is changed by its owner only")
        return self.text


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock named after `path`, across processes. The file itself may be replaced
    meanwhile."""
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def replace_file(path: Path, data: bytes, *, mode: int) -> None:
    """Put `data` in place of `path` at once: a reader sees the old bytes or the new ones, also
    after a crash."""
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
