"""A channel: anything that takes a message. Those of Airflow's hooks are in `orchestration/channels.py`."""

from __future__ import annotations

from typing import Protocol

from pingmesh_tasks.alerting.messages.message import Message
from pingmesh_tasks.errors import PingmeshError


class ChannelError(PingmeshError):
    """A channel did not take a message. Says which, where and why, and shows no secret."""


class Channel(Protocol):
    """One way to tell people. `send` returns once the other side has taken the message, within about ten seconds."""

    @property
    def name(self) -> str: ...

    def send(self, message: Message) -> None:
        """Send one message. Raises ChannelError; the message may have arrived all the same."""
