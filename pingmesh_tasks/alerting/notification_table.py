"""What is said, as rows of the table `notice`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import polars as pl

from pingmesh_tasks.alerting.incident import Notice
from pingmesh_tasks.alerting.messages.wording import title
from pingmesh_tasks.store.objects import ObjectStore
from pingmesh_tasks.store.schemas import NOTICE
from pingmesh_tasks.store.tables import write_table
from pingmesh_tasks.windows import window_containing

_OF_FINDING = (
    *("rule", "scope", "subject", "severity", "value", "unit", "threshold", "normal"),
    *("confidence", "affected", "detail", "advice"),
)


def keep_notices(store: ObjectStore, notices: Iterable[Notice], window_s: int) -> None:
    """Write the row of each notice, under its id: a second try replaces it. Raises StoreError."""
    for notice in notices:
        write_table(store, "notice", window_containing(notice.at, window_s), notice_rows([notice]), notice.id)


def notice_rows(notices: Iterable[Notice]) -> pl.DataFrame:
    """Return the rows of the table `notice`: one a notice."""
    return pl.DataFrame([_row(notice) for notice in notices], schema=NOTICE, orient="row")


def _row(notice: Notice) -> dict[str, Any]:
    row = {name: getattr(notice.finding, name) for name in _OF_FINDING}
    row |= {"notice": notice.id, "title": title(notice)}
    row |= {"members": json.dumps(notice.members), "evidence": json.dumps([dict(r) for r in notice.finding.evidence])}
    return {name: row[name] if name in row else getattr(notice, name) for name in NOTICE}
