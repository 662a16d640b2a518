"""Which algorithms a connection may use, in the words of Airflow's SSH connections (paramiko's),
for asyncssh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncssh

from pingmesh_tasks.errors import ConfigError

#: The kinds that Airflow's extra `disabled_algorithms` names, and asyncssh's option for each but
#: the host keys.
DISABLED_KINDS: Mapping[str, str] = {
    "ciphers": "encryption_algs",
    "macs": "mac_algs",
    "kex": "kex_algs",
    "pubkeys": "signature_algs",
    "keys": "",
}


@dataclass(frozen=True, slots=True)
class SshOptions:
    """Algorithms of a connection; asyncssh's defaults where nothing is said.

    Args:
        ciphers: The ciphers to offer, best first; empty for the defaults.
        disabled: Algorithms never to use, by kind (`DISABLED_KINDS`).
        compress: True prefers compression, False forbids it.
    """

    ciphers: Sequence[str] = ()
    disabled: Mapping[str, Sequence[str]] = field(default_factory=dict)
    compress: bool | None = None

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of asyncssh's connect. Raises ConfigError for names it does not know
        or none left."""
        chosen: dict[str, list[str]] = {}
        if self.ciphers:
            chosen["encryption_algs"] = list(self.ciphers)
        if self.compress is not None:
            chosen["compression_algs"] = ["zlib@openssh.com", "none"] if self.compress else ["none"]
        self._check(chosen)
        for kind, option in DISABLED_KINDS.items():
            disabled = set(self.disabled.get(kind, ()))
            if disabled and option:
                offered = chosen.get(option) or _defaults(option)
                chosen[option] = [name for name in offered if name not in disabled]
                if not chosen[option]:
                    raise ConfigError(f"disabled_algorithms leaves none of the {kind}; allow one of {offered}")
        return dict(chosen)

    def host_key_algorithms(self, offered: Sequence[str]) -> list[str]:
        """Return the kinds of host key to ask for, of those offered."""
        disabled = self.disabled.get("keys", ())
        return [name for name in offered if name not in disabled]

    @staticmethod
    def _check(arguments: Mapping[str, Any]) -> None:
        try:
            _connection_options(**arguments)
        except ValueError as error:
            raise ConfigError(f"the SSH options cannot be used: {error}") from None


def _defaults(option: str) -> list[str]:
    return [name.decode() for name in getattr(_connection_options(), option)]


def _connection_options(**arguments: Any) -> asyncssh.SSHClientConnectionOptions:
    return asyncssh.SSHClientConnectionOptions(config=None, agent_path=None, client_keys=None, **arguments)
