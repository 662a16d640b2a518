"""Notifications as rows of the table `notice`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import polars as pl

from pingmesh_tasks.alerting.incident import Notification
from pingmesh_tasks.alerting.messages.wording import title
from pingmesh_tasks.store.objects import ObjectStore
from pingmesh_tasks.store.schemas import NOTICE
from pingmesh_tasks.store.tables import write_table
from pingmesh_tasks.windows import window_containing

_OF_FINDING = (
    *("rule", "scope", "subject", "severity", "value", "unit", "threshold", "normal"),
    *("confidence", "affected", "detail", "advice"),
)


def write_notifications(
    store: ObjectStore, notifications: Iterable[Notification], window_s: int
) -> None:
    """Write the row of each notification under its id: a second write replaces the first.

    Args:
        store: The bucket.
        notifications: What was or will be sent.
        window_s: Length of the windows of the table, in seconds.

    Raises:
        StoreError: The store refuses.
    """
    for one in notifications:
        window = window_containing(one.at, window_s)
        write_table(store, "notice", window, notification_rows([one]), one.id)


def notification_rows(notifications: Iterable[Notification]) -> pl.DataFrame:
    """Return the rows of the table `notice`: one a notification."""
    return pl.DataFrame([_row(one) for one in notifications], schema=NOTICE, orient="row")


def _row(notification: Notification) -> dict[str, Any]:
    finding = notification.finding
    row = {name: getattr(finding, name) for name in _OF_FINDING}
    row |= {"notice": notification.id, "title": title(notification)}
    row["members"] = json.dumps(notification.members)
    row["evidence"] = json.dumps([dict(cells) for cells in finding.evidence])
    return {name: row[name] if name in row else getattr(notification, name) for name in NOTICE}
