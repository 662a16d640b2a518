"""The way back from rows of `anomaly`, for tests that nothing of a finding is lost on the way there."""

from __future__ import annotations

import json
from collections.abc import Iterable

import polars as pl

from pingmesh_tasks.detect.finding import Finding


def findings_of(rows: pl.DataFrame) -> Iterable[Finding]:
    """Return the findings that rows of `anomaly` hold."""
    names = [name for name in Finding.__dataclass_fields__ if name != "evidence"]
    for row in rows.iter_rows(named=True):
        yield Finding(**{name: row[name] for name in names}, evidence=tuple(json.loads(row["evidence"])))
