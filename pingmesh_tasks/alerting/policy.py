"""The policy: when a finding is confirmed, when an incident is over, when to notify."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pingmesh_tasks.alerting.suspect import family_of
from pingmesh_tasks.detect.finding import Finding, Lane


@dataclass(frozen=True, slots=True)
class Quorum:
    """A finding is confirmed once `seen` of the last `of` evaluations of one path saw it."""

    seen: int
    of: int


AT_ONCE, TWO_OF_THREE, THREE_OF_FOUR = Quorum(1, 1), Quorum(2, 3), Quorum(3, 4)


@dataclass(frozen=True, slots=True)
class Policy:
    """When to notify. Times are in seconds.

    Attributes:
        repeat_s: Interval of the reminders of an incident that nobody acknowledged.
        stale_after_s: An incident that no evaluation judged for so long is reported as stale.
        reopen_s: A fault that is back so soon after its end is the same incident.
        flap_limit: From this return on an incident ends only after `flap_hold_s` without its
            findings, and twice as long with each further return (up to 16 times).
        flap_hold_s: See `flap_limit`.
        echo_s: For so long after the hot path saw a fault end, a window that held its last moments
            does not open it again. At least the length of a window.
        storm: More findings of one rule in one evaluation that nothing inhibits are one incident of
            the whole source, until a third of them is left.
        absent_evaluations: So many evaluations of the mesh in a row by an inventory without the
            suspect end its incident.
        clear_evaluations: So many evaluations of a path in a row without the finding resolve it.
        retry_s: Wait before a channel that failed is tried again; doubled up to `retry_max_s`.
        retry_max_s: See `retry_s`.
        give_up_s: A notification that a channel refused for so long is given up for that channel.
        failing_after: After so many failures in a row the other channels report a channel.
    """

    repeat_s: float = 3600
    stale_after_s: float = 900
    reopen_s: float = 900
    flap_limit: int = 2
    flap_hold_s: float = 900
    echo_s: float = 600
    storm: int = 15
    absent_evaluations: int = 3
    clear_evaluations: Mapping[str, int] = field(default_factory=lambda: {"hot": 3, "window": 2})
    retry_s: float = 15
    retry_max_s: float = 900
    give_up_s: float = 86_400
    failing_after: int = 2

    def quorum(self, finding: Finding, lane: Lane) -> Quorum:
        """Return how often an evaluation must see the finding.

        Findings of use (counted, not sampled: no noise) and critical ones are confirmed at once;
        warnings about paths, and data that the hot path alone misses, by two evaluations of three.
        A window's segment of one host is missing now and then (5e-4 of them, simulated): two of
        three would be a false notification every fortnight at 512 hosts. A data server that
        restarts is out of reach for a window or two.
        """
        family = family_of(finding.rule)
        if family == "use":
            return AT_ONCE
        if finding.rule == "no_data" and lane == "window" and finding.scope in ("host", "log"):
            return THREE_OF_FOUR
        if finding.severity == "critical" and not (family == "data" and lane == "hot"):
            return AT_ONCE
        return TWO_OF_THREE

    def hold_s(self, returns: int) -> float:
        """Return for how long an incident that came back `returns` times must be clear to end."""
        if returns < self.flap_limit:
            return 0.0
        return self.flap_hold_s * 2.0 ** min(returns - self.flap_limit, 4)
