"""What every stage of one transition is given besides the state."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pingmesh_tasks.alerting.policy import Policy
from pingmesh_tasks.alerting.suspect import ContainingSuspects, IsMember


@dataclass(frozen=True, slots=True)
class Conditions:
    """The policy, the time of the transition, and what the inventory says of suspects."""

    policy: Policy
    now: datetime
    containing: ContainingSuspects
    is_member: IsMember

    def age_s(self, moment: datetime) -> float:
        """Return how many seconds ago a moment was."""
        return (self.now - moment).total_seconds()
