"""What detection says: findings, and what it was able to judge.

    frames of one span of time ──rules──▶ Evaluation(findings, unjudged) ──state──▶ incidents ──▶ messages

A `Finding` names one suspect, once, however many pairs suffer. An `Evaluation` is all that one look at one source
(the mesh, or one data server) gave; it also says which rules looked and which subjects had too little data for a
verdict, since silence must neither raise an alarm by guess nor end one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import polars as pl

from pingmesh_tasks.store.schemas import ANOMALY

MESH = "mesh"
Lane = Literal["hot", "window"]
Severity = Literal["warning", "critical"]
#: What a finding can be about, from wide to narrow. `tier` is the spines of a DC, or the links between DCs.
Scope = Literal["mesh", "dc", "tier", "podset", "tor", "host", "pair", "server", "user", "client", "node", "log"]
#: Why the rule book leaves out what a finding says: its rule is off there, or it lies within a maintenance.
LeftOut = Literal["", "off", "maintenance"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One suspect and why. Everything that came from hosts or logs is made safe for one line before it gets here.

    `subject` is the suspect's name within its scope: `host04`, `host01>host04`, `dc1/p2/t3`, `bob`, `exp/\\\\IP`.
    `value`, `threshold` and `normal` are in `unit`; `normal` is None where there is no history to compare with.
    `confidence` is 0…1; `affected` counts the pairs, sessions or lines that suffer. `evidence` is a few rows of
    plain values (worst pairs, hops, figures), `detail` one sentence, `advice` what to look at first.
    """

    rule: str
    scope: Scope
    subject: str
    severity: Severity
    value: float
    unit: str
    threshold: float
    since: datetime
    detail: str
    advice: str = ""
    normal: float | None = None
    confidence: float = 1.0
    affected: int = 1
    evidence: tuple[Mapping[str, Any], ...] = ()


def nothing_left_out(finding: Finding) -> LeftOut:
    """The rule book where none says so."""
    return ""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One look of one lane at one source (`mesh`, or the name of a data server).

    `judged` are the rules that looked; a rule that is off, or whose data are not part of this lane, is not in it.
    `unjudged` are (scope, subject) that had too little data for a verdict, with the reason. `left_out` answers for what
    an earlier look found: not to see it again says nothing where the rule book kept this one from looking.
    """

    source: str
    lane: Lane
    at: datetime
    judged: frozenset[str]
    findings: tuple[Finding, ...] = ()
    unjudged: Mapping[tuple[str, str], str] = field(default_factory=dict)
    left_out: Callable[[Finding], LeftOut] = field(default=nothing_left_out, compare=False, repr=False)


def anomaly_rows(evaluation: Evaluation) -> pl.DataFrame:
    """Return the rows of the table `anomaly`: one a finding."""
    return pl.DataFrame([_row(evaluation, finding) for finding in evaluation.findings], schema=ANOMALY, orient="row")


def _row(evaluation: Evaluation, finding: Finding) -> dict[str, Any]:
    row = {name: getattr(finding, name) for name in Finding.__dataclass_fields__}
    row |= {"at": evaluation.at, "lane": evaluation.lane, "source": evaluation.source}
    row["evidence"] = json.dumps([dict(entry) for entry in finding.evidence], default=str)
    return {name: row[name] for name in ANOMALY}
