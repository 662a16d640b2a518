"""From hot pieces to what the rules look at: pairs of the last minute, and lines of a data server's logs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from pingmesh_tasks.fleet.inventory import Inventory
from pingmesh_tasks.store.hot import HotPiece


@dataclass(frozen=True, slots=True)
class Unheard:
    """A host that gave nothing in the span. `reason`: lost_contact, silent, not_followed, unknown. `age_s`: since."""

    host: str
    reason: str
    detail: str = ""
    age_s: float | None = None


@dataclass(frozen=True, slots=True)
class RecentAccess:
    """What a data server's logs said in the span. `lost_contact` is empty while there is contact."""

    client: pl.DataFrame
    operation: pl.DataFrame
    rejected: pl.DataFrame
    errors: pl.DataFrame
    skipped_bytes: int = 0
    lost_contact: str = ""


def recent_pairs(
    pieces: Iterable[HotPiece], inventory: Inventory, since: datetime, until: datetime
) -> tuple[pl.DataFrame, list[Unheard]]:
    """Return rows of `PAIR_LATENCY` for the probes sent in [since, until), and the hosts that gave none."""
    raise NotImplementedError


def recent_access(
    pieces: Iterable[HotPiece], server: str, timezone: str, since: datetime, until: datetime
) -> RecentAccess:
    """Return what the lines read in [since, until) of one data server are."""
    raise NotImplementedError
