"""What is wrong with the network: one look at the pairs of one span of time, one finding a fault.

    pairs ─▶ who is dead ─▶ who loses ─▶ who is slow ─▶ who is silent ─▶ findings, the worst first

Each step leaves out what those before it explain: a dead host's pairs are not lossy, and its silence is no news.
Within a step `scan` names the part of the network that explains the most, then what is left. Hosts in maintenance
are taken out before anything is looked at, so that they raise nothing and excuse nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pingmesh_tasks.detect.catalogue import NETWORK_RULES
from pingmesh_tasks.detect.finding import MESH, Evaluation, Finding, Lane, LeftOut, Severity
from pingmesh_tasks.detect.mesh.baseline import Baseline, read_baseline
from pingmesh_tasks.detect.mesh.components import sum_by_host
from pingmesh_tasks.detect.mesh.loss import find_lossy
from pingmesh_tasks.detect.mesh.reachability import LEAST_TRIES, find_dead, find_silent
from pingmesh_tasks.detect.mesh.rows import Rows, code_rows
from pingmesh_tasks.detect.mesh.slowness import find_slow
from pingmesh_tasks.detect.mesh.view import PreparedMesh
from pingmesh_tasks.detect.rules import DEFAULT_RULES, RuleBook
from pingmesh_tasks.topology.axis import HostAxis
from pingmesh_tasks.topology.inventory import Inventory

#: What collection says of a host from which nothing can be expected yet.
_NOT_YET = "no_data_yet"
#: A place that lost so much of a span died within it: its hosts' silence is explained.
_PLACES, _DYING = ("tor", "podset", "dc", "mesh"), 0.2
_PATTERNS = {"podset_failure", "spine_failure"}
_NEED_NORMAL = {"latency_normal"}


@dataclass(frozen=True)
class MeshView:
    """What one look sees. `pairs`: rows of `pair_latency`, or those of its columns that `rows.Rows` has, in any order.

    `at` is the end of the span of `span_s` seconds. `normal` is the table of `detect.mesh.baseline`, of before this
    span; `status` rows of `host_status` of the span.
    """

    pairs: pl.DataFrame
    inventory: Inventory
    at: datetime
    span_s: float
    lane: Lane = "window"
    normal: pl.DataFrame | None = None
    status: pl.DataFrame | None = None


def evaluate_mesh(view: MeshView, rules: RuleBook = DEFAULT_RULES) -> Evaluation:
    """Return the findings of one look at the mesh: one a fault, the worst first.

    `unjudged` names the hosts that nothing can be said of, and why; a pair is unjudged if either of its hosts is.
    """
    places = HostAxis.of(view.inventory)
    rows = code_rows(view.pairs, places)
    normal = read_baseline(view.normal, rows, places) if view.normal is not None else None
    mesh = PreparedMesh(
        places, view.inventory.has_topology, rows, rules, view.at, view.span_s, view.lane, normal, _outcomes(view)
    )
    unjudged, expected, out = _take_out(mesh)
    dead = find_dead(mesh)
    lossy = find_lossy(mesh, dead.gone)
    slow = find_slow(mesh, dead.gone)
    explained = dead.down.copy()
    for suspect, _ in lossy:
        if suspect.scope == "host" or (suspect.scope in _PLACES and suspect.share >= _DYING):
            explained[suspect.hosts] = True
    silent = find_silent(mesh, explained, expected)
    patterns = [f for s, f in slow if f.rule in _PATTERNS and s.share >= 0.5]  # congestion: slow first, lossy second
    findings = _one_a_subject([*dead.findings, *patterns, *(f for _, f in lossy), *(f for _, f in slow), *silent])
    unjudged |= _too_few(mesh, expected, dead.down)
    judged = {rule.name for rule in NETWORK_RULES if rules.is_on(rule.name)}
    if normal is None:
        judged -= _NEED_NORMAL
    return Evaluation(MESH, view.lane, view.at, frozenset(judged), tuple(findings), unjudged, _left_out(mesh, out))


def _outcomes(view: MeshView) -> Mapping[str, str]:
    """Return what collection said of each host, the worst stage if there are several."""
    if view.status is None:
        return {}
    said = view.status.filter(~pl.col("outcome").is_in(["ok", "unchanged"])).unique("host", keep="last")
    return dict(zip(said["host"].to_list(), said["outcome"].to_list(), strict=True))


def _take_out(mesh: PreparedMesh) -> tuple[dict[tuple[str, str], str], NDArray[np.bool_], NDArray[np.bool_]]:
    """Take the hosts that are in maintenance out of `mesh`.

    Return why hosts are not judged, which hosts ought to have sent, and which are out.
    """
    expected, out = np.ones(len(mesh.places.names), bool), np.zeros(len(mesh.places.names), bool)
    unjudged: dict[tuple[str, str], str] = {}
    for position, name in enumerate(mesh.places.names):
        if mesh.outcome.get(name) == _NOT_YET:
            expected[position] = False
            unjudged["host", name] = "its agent started after this span did"
    if any(m.covers(mesh.at) for m in mesh.rules.maintenance):
        for position, place in enumerate(mesh.host_places):
            if maintenance := mesh.rules.in_maintenance(mesh.at, **place):
                out[position] = True
                unjudged["host", mesh.places.names[position]] = str(maintenance)
        keep = ~(out[mesh.rows.a] | out[mesh.rows.b])
        mesh.rows = mesh.rows.where(keep)
        mesh.normal = _where(mesh.normal, keep)
        expected &= ~out
    return unjudged, expected, out


def _left_out(mesh: PreparedMesh, out: NDArray[np.bool_]) -> Callable[[Finding], LeftOut]:
    """Return the function that says whether a finding's rule is off, or nothing is left of its suspect without `out`.

    A pair is gone with either of its hosts; a rack, podset or DC with the last; the links between DCs with the last
    but one DC. Of names that nobody knows, it says nothing.
    """
    p = mesh.places
    positions = {name: i for i, name in enumerate(p.names)}
    groups = {"tor": (p.tor, p.tor_names), "podset": (p.podset, p.podset_names), "dc": (p.dc, p.dc_names)}

    def in_maintenance(scope: str, subject: str) -> bool:
        match scope:
            case "host" | "pair":
                return any(out[positions[name]] for name in subject.split(">"))
            case "mesh":
                return bool(out.all())
            case "tier" if subject == "inter_dc":
                return len(np.unique(p.dc[~out])) < 2
            case "tier":
                scope, subject = "dc", subject.partition("/")[0]
        of, names = groups[scope]
        return bool(out[of == names.index(subject)].all())

    def left_out(finding: Finding) -> LeftOut:
        scope, subject = finding.scope, finding.subject
        try:
            if out.any() and in_maintenance(scope, subject):
                return "maintenance"
            return "" if mesh.rules.is_on(finding.rule, **mesh.place(scope, subject)) else "off"
        except (KeyError, ValueError):
            return ""

    return left_out


def _where(normal: Baseline | None, keep: NDArray[np.bool_]) -> Baseline | None:
    if normal is None:
        return None
    return replace(normal, **{name: getattr(normal, name)[keep] for name in normal.__dataclass_fields__})


def _too_few(mesh: PreparedMesh, expected: NDArray[np.bool_], down: NDArray[np.bool_]) -> dict[tuple[str, str], str]:
    """Return the hosts of which too little is known: they sent nothing, or no pair of theirs has enough probes."""
    rows: Rows = mesh.rows
    heard = sum_by_host(mesh.places, rows.a, rows.sent) > 0
    enough = rows.sent >= LEAST_TRIES
    told = sum_by_host(mesh.places, rows.a, enough) + sum_by_host(mesh.places, rows.b, enough) > 0
    names = mesh.places.names
    few = {("host", names[h]): "it sent no data" for h in np.flatnonzero(~heard & expected & ~down)}
    few |= {
        ("host", names[h]): f"fewer than {LEAST_TRIES} probes of any pair" for h in np.flatnonzero(~told & expected)
    }
    if not told.any():
        few["mesh", MESH] = "no pair has enough probes"
    return few


def _one_a_subject(findings: Iterable[Finding]) -> list[Finding]:
    """Keep the first finding of a subject and let it tell of the others; the worst and widest come first."""
    kept: dict[tuple[str, str], Finding] = {}
    for finding in findings:
        key = (finding.scope, finding.subject)
        if kept.get(key) is finding:
            continue
        if key in kept:
            first = kept[key]
            worse: Severity = "critical" if "critical" in (first.severity, finding.severity) else "warning"
            kept[key] = replace(first, severity=worse, detail=f"{first.detail}; {finding.rule}: {finding.detail}")
        else:
            kept[key] = finding
    return sorted(kept.values(), key=lambda f: (f.severity != "critical", -f.affected))
