"""From evaluations to incidents: one conditional put of the alert state, whichever task it happens in.

A window and a hot evaluation may end at the same time: both changes are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pingmesh_tasks.alerting import AlertState, Policy, advance
from pingmesh_tasks.alerting.hierarchy import hierarchy_of, members_of
from pingmesh_tasks.alerting.state_file import AlertFile
from pingmesh_tasks.detect.finding import Evaluation
from pingmesh_tasks.pipeline.run import Run
from pingmesh_tasks.settings import Settings
from pingmesh_tasks.topology.inventory import Inventory


def update_incidents(
    run: Run, inventory: Inventory, evaluations: Sequence[tuple[Evaluation | None, datetime]]
) -> AlertState:
    """Advance the alert state by some evaluations (None: only time has passed), each as of a time.

    Returns the state as it was kept. Raises StoreError.
    """
    policy = policy_of(run.settings)
    containing, is_member = hierarchy_of(inventory), members_of(inventory)

    def change(before: AlertState) -> AlertState:
        after = before
        for evaluation, now in evaluations:
            after = advance(after, evaluation, policy, now, containing, is_member)
        return after

    return AlertFile(run.store).update(change)


def policy_of(settings: Settings) -> Policy:
    """Return when to notify.

    A window's evaluation comes up to two windows after the hot path saw the same fault.
    """
    return Policy(repeat_s=settings.alert_repeat_s, echo_s=max(Policy().echo_s, 2 * settings.window_s))


def incident_counts(state: AlertState) -> dict[str, int]:
    """Return how many incidents are open and how many notifications wait, as tasks return it."""
    return {"open": len(state.open), "waiting": len(state.outbox)}
