"""Who is slow: against a fixed limit of p99, and against what the same pairs had lately.

A pair is slow if its p99 is over the limit of its distance, or its median or p99 is far above its own normal. One
late answer of thirty makes a p99, so a slow p99 counts only where many pairs of one part of the network have it
(`scan`); a pair alone is told of when its median is slow, which takes half of its probes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pingmesh_tasks.detect.finding import Finding, Scope
from pingmesh_tasks.detect.mesh.baseline import LEAST_DEVIATION, Baseline
from pingmesh_tasks.detect.mesh.scan import Demands, Evidence, Suspect, find_suspects
from pingmesh_tasks.detect.mesh.view import PreparedMesh

#: Of the probes of a healthy pair, so many may be slow together: what half of them being slow is weighed against.
_SLOW_PROBES = 0.02
_LIMITS = ("intra_tor_us", "intra_dc_us", "inter_dc_us")
Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Slow:
    """Which rows are slow by the fixed limit and against their normal, and which so in their median."""

    limit: Floats
    over_limit: Bools
    over_normal: Bools
    median: Bools


def find_slow(mesh: PreparedMesh, gone: NDArray[np.bool_]) -> Sequence[tuple[Suspect, Finding]]:
    """Return who is slow, leaving out rows that are `gone` already."""
    rows = mesh.rows
    slow = _slow_rows(mesh)
    judged = ~np.isnan(rows.rtt_p99_us) & ~gone
    bad = (slow.over_limit | slow.over_normal) & judged
    clean = rows.answered.astype(np.float32) - rows.retransmitted
    certainty = np.where(slow.median, _certainty(clean), np.float32(0))
    rate = np.full(len(rows), mesh.pair_limits("latency_sla", "baseline"), np.float32)
    evidence = Evidence(rows.a, rows.b, judged.astype(np.float32), bad.astype(np.float32), rate, certainty)

    def least(scope: Scope, subject: str) -> float:
        if scope == "pair":
            return 0.4
        return min(mesh.limit(rule, "share", scope, subject) for rule in ("latency_sla", "latency_normal"))

    demands = Demands(least, lambda scope, _: 1 if scope == "pair" else 3, alpha=1e-5)
    found = []
    for suspect in find_suspects(mesh.places, evidence, demands, topology=mesh.topology):
        by_limit = bool(np.count_nonzero(slow.over_limit[suspect.rows]) * 2 >= len(suspect.rows))
        rule = _rule(suspect, by_limit)
        limits = "latency_sla" if by_limit else "latency_normal"
        if suspect.scope != "pair" and suspect.share < mesh.limit(limits, "share", suspect.scope, suspect.subject):
            continue  # enough only for the other rule
        if mesh.rules.is_on(rule, **mesh.place(suspect.scope, suspect.subject)):
            found.append((suspect, _finding(mesh, suspect, rule, slow, by_limit)))
    return found


def _slow_rows(mesh: PreparedMesh) -> Slow:
    rows, places = mesh.rows, mesh.places
    if mesh.topology:
        distance = (places.tor[rows.a] != places.tor[rows.b]).astype(np.uint8)
        distance += places.dc[rows.a] != places.dc[rows.b]
    else:
        distance = np.full(len(rows), 2, np.uint8)
    limit = np.empty(len(rows), np.float32)
    for level, name in enumerate(_LIMITS):
        of_all = mesh.pair_limits("latency_sla", name)
        here = distance == level
        limit[here] = of_all if np.ndim(of_all) == 0 else np.asarray(of_all)[here]
    on = mesh.rules.is_on("latency_sla")
    over_limit = (rows.rtt_p99_us > limit) & on
    median = (rows.rtt_p50_us > limit) & on
    over_normal = np.zeros(len(rows), bool)
    if mesh.normal is not None and mesh.rules.is_on("latency_normal"):
        shifted, tail = _over_normal(mesh, mesh.normal)
        over_normal, median = shifted | tail, median | shifted
    return Slow(limit, over_limit, over_normal, median)


def _over_normal(mesh: PreparedMesh, normal: Baseline) -> tuple[Bools, Bools]:
    """Return which rows' medians, and which rows' p99, are far above their normal."""
    rows = mesh.rows
    factor = np.log(mesh.pair_limits("latency_normal", "factor"))
    deviations = mesh.pair_limits("latency_normal", "deviations")
    enough = normal.windows >= mesh.pair_limits("latency_normal", "min_windows")

    def far(now_us: Floats, centre: Floats, deviation: Floats, rise: str) -> Bools:
        with np.errstate(divide="ignore"):
            away = np.log(now_us) - centre
        beyond = away > np.maximum(factor, deviations * np.maximum(deviation, np.float32(LEAST_DEVIATION)))
        return np.asarray(beyond & (now_us > np.exp(centre) + mesh.pair_limits("latency_normal", rise)) & enough)

    return (
        far(rows.rtt_p50_us, normal.p50_ln, normal.p50_dev, "rise_us"),
        far(rows.rtt_p99_us, normal.p99_ln, normal.p99_dev, "tail_rise_us"),
    )


def _certainty(clean: Floats) -> Floats:
    """Return how sure it is (nats) that half of so many probes are not slow by luck: k ln(1/q) − ln C(n, k)."""
    half = clean - np.ceil(clean / 2) + 1
    return np.maximum(half * np.float32(-np.log(_SLOW_PROBES)) - clean * np.float32(np.log(2)), 0)


def _rule(suspect: Suspect, by_limit: bool) -> str:
    if suspect.scope == "podset":
        return "podset_failure"
    if suspect.scope == "tier" and suspect.subject != "inter_dc":
        return "spine_failure"
    return "latency_sla" if by_limit else "latency_normal"


def _finding(mesh: PreparedMesh, suspect: Suspect, rule: str, slow: Slow, by_limit: bool) -> Finding:
    rows = suspect.rows
    medians = np.count_nonzero(slow.median[rows]) * 2 >= len(rows)
    column, what = (mesh.rows.rtt_p50_us, "median") if medians else (mesh.rows.rtt_p99_us, "p99")
    value = float(np.median(column[rows]))
    usual = np.nan
    if mesh.normal is not None:
        centre = mesh.normal.p50_ln if medians else mesh.normal.p99_ln
        known = centre[rows][~np.isnan(centre[rows])]
        usual = float(np.exp(np.median(known))) if len(known) else np.nan
    threshold = float(np.median(slow.limit[rows]))
    if not by_limit:
        factors = np.broadcast_to(mesh.pair_limits("latency_normal", "factor"), len(mesh.rows))
        threshold = usual * float(np.median(factors[rows]))
    against = f"normal {usual:,.0f} µs" if np.isfinite(usual) else "no normal yet"
    share = "" if suspect.scope == "pair" else f"{suspect.bad:.0f} of {suspect.n:.0f} pairs are slow: "
    detail = f"{share}{what} {value:,.0f} µs, {against}, limit {threshold:,.0f} µs"
    advice = {
        "pair": "Trace it from both ends: a detour, or a queue on one of its paths.",
        "host": "Look at the host's load, its card and its port; the network around it is not slow.",
        "tor": "Look at the queues and the load of the rack's uplinks.",
        "podset": "Look at the queues, load and links of the podset's leaves.",
    }.get(suspect.scope, "Look at the load and the links of the spines; count the links that are up.")
    critical = suspect.scope not in ("pair", "host") and suspect.share >= 0.5
    return mesh.finding(
        rule,
        suspect,
        "critical" if critical else "warning",
        value,
        "us",
        threshold,
        detail,
        advice,
        normal=usual,
        worst=column[rows],
    )
