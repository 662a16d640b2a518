"""What is wrong with the network: one look at the pairs of one span of time.

pairs ─▶ who is dead ─▶ who loses ─▶ who is slow ─▶ who is silent ─▶ one finding a fault
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from pingmesh_tasks.detect.finding import MESH, Evaluation, Lane
from pingmesh_tasks.detect.rules import DEFAULT_RULES, RuleBook
from pingmesh_tasks.fleet.inventory import Inventory


@dataclass(frozen=True)
class MeshView:
    """What one look sees. `pairs`: rows of `pair_latency`, or those of its columns in `COLUMNS`, in any order.

    `at` is the end of the span of `span_s` seconds. `normal` is the table of `detect.normal`, of before this span;
    `status` rows of `host_status` of the span.
    """

    pairs: pl.DataFrame
    inventory: Inventory
    at: datetime
    span_s: float
    lane: Lane = "window"
    normal: pl.DataFrame | None = None
    status: pl.DataFrame | None = None


def evaluate_mesh(view: MeshView, rules: RuleBook = DEFAULT_RULES) -> Evaluation:
    """Return the findings of one look at the mesh: one a fault, the worst first."""
    return Evaluation(MESH, view.lane, view.at, frozenset())
