"""Triggers that live in Airflow's triggerer: the follower, and the arrival of what it writes.

hosts, logs ──FollowTrigger──▶ hot/ ──ArrivalTrigger──▶ asset HOT ──▶ anomaly_alerts
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent


class FollowTrigger(BaseEventTrigger):
    """Follows the hosts and logs of an inventory and puts what is new under `hot/`. Never fires."""

    def __init__(self, inventory: str, max_hosts: int = 250, interval_s: float = 1.0, keep_h: int = 24) -> None:
        super().__init__()
        self.inventory, self.max_hosts, self.interval_s, self.keep_h = inventory, max_hosts, interval_s, keep_h

    def serialize(self) -> tuple[str, dict[str, Any]]:
        names = ("inventory", "max_hosts", "interval_s", "keep_h")
        return f"{__name__}.FollowTrigger", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        raise NotImplementedError
        yield


class ArrivalTrigger(BaseEventTrigger):
    """Fires for new batches under `hot/`: at once for a notable one, else every `heartbeat_s`.

    The event's payload is `{"from": key, "to": key, "count": n, "notable": n}`.
    """

    def __init__(self, heartbeat_s: float = 30.0, poll_s: float = 0.5, min_gap_s: float = 1.0) -> None:
        super().__init__()
        self.heartbeat_s, self.poll_s, self.min_gap_s = heartbeat_s, poll_s, min_gap_s

    def serialize(self) -> tuple[str, dict[str, Any]]:
        names = ("heartbeat_s", "poll_s", "min_gap_s")
        return f"{__name__}.ArrivalTrigger", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        raise NotImplementedError
        yield
