"""The pinned host keys: which host key every host must show.
 The text has OpenSSH's known_hosts format (`ssh` and `ssh-keygen -F` read it; hashed names,
patterns and `@cert-authority` lines that an operator puts there are honoured). It lies in the
bucket, or in a file (`store.shared_text`), and only `Pins.pin` adds to it: never over a different
key. The invoking user's own ~/.ssh/known_hosts is never read.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import asyncssh

from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.store.shared_text import SharedText, TextFile

DEFAULT_SSH_PORT = 22
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]")
HOST_KEY_ALGORITHMS = (
    "ssh-ed25519",
    *(f"ecdsa-sha2-nistp{bits}" for bits in (256, 384, 521)),
    "rsa-sha2-512",
    "rsa-sha2-256",
)


def entry_name(address: str, port: int) -> str:
    """Return a host's name in the text: `10.0.0.7`, or `[10.0.0.7]:2200` on another port."""
    return address if port == DEFAULT_SSH_PORT else f"[{address}]:{port}"


class KnownHosts:
    """The host keys of one text. Raises ConfigError for a line that cannot be understood; `place`
    is for messages."""

    def __init__(self, text: str, place: str) -> None:
        self.place = place
        # asyncssh drops a line with a comment beyond ASCII, and its host would be an unknown one
        self._text = _BEYOND_ASCII.sub("_", text)
        try:
            self.entries = asyncssh.import_known_hosts(self._text)
        except ValueError as exc:
            raise ConfigError(f"{place}: {exc}; remove that line or write `<host> <key type> <base64 key>`") from None

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
        """Return the numbers, from 1, of the lines that name the host; hashed ones too."""
        plain, patterns = self._index
        numbers = plain.get(entry_name(address, port)) or plain.get(address, [])
        return sorted({*numbers, *(n for n, line in patterns.items() if _matches(line, address, port))})

    @cached_property
    def _index(self) -> tuple[Mapping[str, list[int]], Mapping[int, asyncssh.SSHKnownHosts]]:
        """Line numbers by plain name, and the lines whose name is a pattern or a hash."""
        plain: dict[str, list[int]] = defaultdict(list)
        patterns: dict[int, asyncssh.SSHKnownHosts] = {}
        for number, line in enumerate(self._text.splitlines(), start=1):
            fields = line.split()
            if not fields or fields[0].startswith("#"):
                continue
            names = fields[1] if fields[0].startswith("@") else fields[0]
            if any(character in names for character in "*?|/!"):
                patterns[number] = asyncssh.import_known_hosts(line)
                continue
            for name in names.split(","):
                plain[name].append(number)
        return plain, patterns


@dataclass(frozen=True, slots=True)
class Pin:
    """One host key to pin: `name` is `entry_name`, then the key's type and its base64 text."""

    name: str
    kind: str
    blob: str


def with_pins(text: str, pins: Iterable[Pin]) -> tuple[str, list[bool]]:
    """Return the text with the pins added, and for each whether its key is the pinned one now.

    A key that is there already adds no line; a host with another key keeps it.
    """
    pinned: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for line in text.splitlines():
        fields = line.split()
        if len(fields) >= 3:
            for name in fields[0].split(","):
                pinned[name].add((fields[1], fields[2]))
    accepted = []
    for pin in pins:
        if not pinned[pin.name]:
            pinned[pin.name].add((pin.kind, pin.blob))
            text += "\n" * (bool(text) and not text.endswith("\n")) + f"{pin.name} {pin.kind} {pin.blob}\n"
        accepted.append((pin.kind, pin.blob) in pinned[pin.name])
    return text, accepted


def without_names(text: str, names: Collection[str]) -> str:
    """Return the text without plain names (`entry_name`): a line goes with its last name.

    Patterns, hashed names and marked lines (`@cert-authority`, `@revoked`) stay.
    """
    kept = []
    for line in text.splitlines(keepends=True):
        fields = line.split(maxsplit=1)
        if len(fields) < 2 or fields[0].startswith(("#", "@")):
            kept.append(line)
            continue
        left = [name for name in fields[0].split(",") if name not in names]
        if left:
            kept.append(f"{','.join(left)} {fields[1]}" if left != fields[0].split(",") else line)
    return "".join(kept)


class Pins:
    """The pinned host keys as they were read, and the way to pin one. For one event loop.

    `known` is replaced where another worker turns out to have pinned a different key.
    """

    def __init__(self, source: SharedText) -> None:
        """Read the text. Raises ConfigError or StoreError."""
        self._source = source
        self.known = KnownHosts(source.read(), source.place)
        self._waiting: list[tuple[Pin, asyncio.Future[bool]]] = []
        self._writing = asyncio.Lock()

    async def pin(self, address: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Pin a host's key, durably. Returns False, and changes nothing, if another key was pinned
        meanwhile.

        Hosts that wait for a write share the next one: a fleet's first contact is dozens of writes,
        not thousands. Raises ConfigError or StoreError.
        """
        kind, blob = key.export_public_key("openssh").decode().split()[:2]
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((Pin(entry_name(address, port), kind, blob), done))
        async with self._writing:
            if not done.done():
                await self._write_waiting()
        return await done

    async def _write_waiting(self) -> None:
        batch, self._waiting = self._waiting, []
        try:
            accepted = await asyncio.to_thread(self._write, [pin for pin, _ in batch])
        except Exception as error:
            for _, done in batch:
                _settle(done, error)
        except BaseException:
            for _, done in batch:
                done.cancel()
            raise
        else:
            for (_, done), answer in zip(batch, accepted, strict=True):
                _settle(done, answer)

    def _write(self, pins: Sequence[Pin]) -> list[bool]:
        accepted: list[bool] = []

        def change(text: str) -> str:
            nonlocal accepted
            changed, accepted = with_pins(text, pins)
            return changed

        text = self._source.update(change)
        if not all(accepted):
            self.known = KnownHosts(text, self._source.place)
        return accepted


def text_of(known_hosts: Path | SharedText) -> SharedText:
    """Return the text of a known_hosts file, or the one that is given."""
    return TextFile(known_hosts) if isinstance(known_hosts, Path) else known_hosts


def _settle(done: asyncio.Future[bool], result: bool | Exception) -> None:
    if done.done():  # its host was given up meanwhile
        return
    if isinstance(result, Exception):
        done.set_exception(result)
    else:
        done.set_result(result)


def _match(entries: asyncssh.SSHKnownHosts, address: str, port: int) -> Sequence[Sequence[Any]]:
    return entries.match(address, address, None if port == DEFAULT_SSH_PORT else port)


def _matches(entries: asyncssh.SSHKnownHosts, address: str, port: int) -> bool:
    keys = _match(entries, address, port)
    return any(keys[:2]) or any(keys[3:6])
