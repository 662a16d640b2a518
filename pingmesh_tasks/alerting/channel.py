"""A channel: anything that takes a message. Airflow's are in `orchestration/channels.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from pingmesh_tasks.alerting.messages.message import AlertMessage
from pingmesh_tasks.errors import PingmeshError


class ChannelError(PingmeshError):
    """A channel did not take a message. Names the channel and the reason, and shows no secret."""


class Channel(Protocol):
    """One way to reach people."""

    @property
    def name(self) -> str: ...

    def send(self, message: AlertMessage) -> None:
        """Send one message; return once the other side has taken it, within about ten seconds.

        Raises:
            ChannelError: It was refused; it may have arrived all the same.
        """


class Channels(NamedTuple):
    """The channels that are on, and by name why the others are off."""

    on: Sequence[Channel]
    off: Mapping[str, str]

    @property
    def names(self) -> list[str]:
        """The names of the channels that are on."""
        return [channel.name for channel in self.on]
