"""Alerting: findings become incidents, and incidents become notifications.

from pingmesh_tasks.alerting import AlertState, Policy, advance
"""

from pingmesh_tasks.alerting.alert_state import AlertState
from pingmesh_tasks.alerting.policy import Policy
from pingmesh_tasks.alerting.transition import advance

__all__ = ["AlertState", "Policy", "advance"]
