"""Channels in memory, for tests of what is notified."""

from __future__ import annotations

from dataclasses import dataclass, field

from pingmesh_tasks.alerting.channel import ChannelError
from pingmesh_tasks.alerting.messages.message import AlertMessage


@dataclass
class MemoryChannel:
    """A channel that keeps its messages, or refuses each for a `fault`."""

    name: str = "mail"
    fault: str = ""
    messages: list[AlertMessage] = field(default_factory=list)

    def send(self, message: AlertMessage) -> None:
        if self.fault:
            raise ChannelError(self.fault)
        self.messages.append(message)
