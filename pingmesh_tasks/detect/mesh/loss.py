"""Who loses probes: a pair, a host, a rack, a podset, or the spines that all podsets share.

A drop is a probe that was never answered or only after a retransmit: TCP hides a loss behind a second, and only the
retransmit tells. Drops are few, so they are added up over everything that crosses a part of the network and compared
with a baseline by an exact bound of the binomial tail (`scan`). How they were lost says what lost them: chance lets
the repeat through, a corrupt table entry swallows it as well.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pingmesh_tasks.detect.finding import Finding, Scope, Severity
from pingmesh_tasks.detect.mesh.components import sum_by_host
from pingmesh_tasks.detect.mesh.reachability import DOWN_RULES
from pingmesh_tasks.detect.mesh.rows import PROTOCOLS
from pingmesh_tasks.detect.mesh.scan import Demands, Evidence, Suspect, find_suspects
from pingmesh_tasks.detect.mesh.view import PreparedMesh

_NARROW = ("pair", "host")
_WIDE = ("podset", "dc", "tier", "mesh")
#: A learned baseline is never above this part of the limit, or a fault that lasts would become the normal.
_BASELINE_OF_LIMIT = 0.2
#: From this ratio of variance to mean on, some pairs lose all and others nothing: a hole by address, not by port.
_BIMODAL = 3.0
_REPEATS = tuple(PROTOCOLS.index(name) for name in ("tcp", "tcp_echo"))


def find_lossy(mesh: PreparedMesh, gone: NDArray[np.bool_]) -> Sequence[tuple[Suspect, Finding]]:
    """Return who drops more than is allowed, leaving out rows that are `gone` already."""
    rows = mesh.rows
    tries = np.where(gone, np.float32(0), np.maximum(rows.tries, 0))
    drops = rows.lost.astype(np.float32)
    drops += rows.unreachable
    drops += rows.retransmitted
    np.minimum(drops, tries, out=drops)
    evidence = Evidence(rows.a, rows.b, tries, drops, _baseline(mesh))

    def least(scope: Scope, subject: str) -> float:
        return mesh.limit("loss" if scope in _NARROW else "silent_loss", "limit", scope, subject)

    def min_bad(scope: Scope, subject: str) -> float:
        return mesh.limit("loss" if scope in _NARROW else "silent_loss", "min_drops", scope, subject)

    def min_pairs(scope: Scope, subject: str) -> float:
        return 2 if scope in _NARROW else mesh.limit("silent_loss", "min_pairs", scope, subject)

    demands = Demands(least, min_bad, min_pairs, alpha=1e-5)
    found = []
    for suspect in find_suspects(mesh.places, evidence, demands, topology=mesh.topology):
        rule = _rule(mesh, suspect)
        if mesh.rules.is_on(rule, **mesh.place(suspect.scope, suspect.subject)):
            found.append((suspect, _finding(mesh, suspect, rule, least(suspect.scope, suspect.subject))))
    return found


def _baseline(mesh: PreparedMesh) -> NDArray[np.float32]:
    """Return the share of drops to expect of each row: the book's there, or what its hosts have had lately if more.

    A host's share over all its pairs is half its own and half the others', hence a + b − mean.
    """
    rows, floor = mesh.rows, mesh.pair_limits("loss", "baseline")
    if mesh.normal is None:
        return np.full(len(rows), floor, np.float32)
    known = ~np.isnan(mesh.normal.loss)
    weight = np.where(known, np.float32(1), np.float32(0))
    loss = np.where(known, mesh.normal.loss, np.float32(0))
    totals = [sum_by_host(mesh.places, rows.a, w) + sum_by_host(mesh.places, rows.b, w) for w in (loss, weight)]
    share = totals[0] / np.maximum(totals[1], 1)
    mean = totals[0].sum() / max(totals[1].sum(), 1)
    share = (share - mean / 2).astype(np.float32)
    most = np.maximum(mesh.pair_limits("loss", "limit") * np.float32(_BASELINE_OF_LIMIT), floor)
    return np.asarray(np.clip(share[rows.a] + share[rows.b], floor, most))


def _rule(mesh: PreparedMesh, suspect: Suspect) -> str:
    """Return what the drops look like: a hole by port swallows the repeats as well."""
    rows = suspect.rows[np.isin(mesh.rows.protocol[suspect.rows], _REPEATS)]
    timeouts = mesh.rows.lost[rows].sum(dtype=np.int64)
    repeated = mesh.rows.retransmitted[rows].sum(dtype=np.int64)
    place = mesh.place(suspect.scope, suspect.subject)
    down = DOWN_RULES.get(suspect.scope)
    if down and suspect.side != "out" and suspect.share >= mesh.rules.limit(down, "share", **place):
        return down  # too few probes of any pair to call it dead, but none of them all was answered
    enough = timeouts >= mesh.rules.limit("port_black_hole", "min_timeouts", **place)
    certain = timeouts >= mesh.rules.limit("port_black_hole", "share", **place) * (timeouts + repeated)
    if enough and certain and suspect.share < 0.5 and suspect.scope != "pair" and not _stopped(mesh, suspect):
        return "black_hole" if suspect.uneven > _BIMODAL else "port_black_hole"
    if suspect.scope in ("tier", "dc", "mesh"):
        return "silent_loss"
    if suspect.scope in _NARROW or suspect.share >= mesh.rules.limit("loss", "limit", **place):
        return "loss"
    return "silent_loss"


def _stopped(mesh: PreparedMesh, suspect: Suspect) -> bool:
    """Tell whether the suspect's own hosts sent less than others: they died within the span, and no hole did it."""
    if suspect.scope in ("tier", "mesh"):
        return False
    sent = sum_by_host(mesh.places, mesh.rows.a, mesh.rows.sent)
    pairs = sum_by_host(mesh.places, mesh.rows.a)
    each = sent / np.maximum(pairs, 1)
    return bool(np.median(each[suspect.hosts]) < 0.95 * np.median(each))


def _finding(mesh: PreparedMesh, suspect: Suspect, rule: str, threshold: float) -> Finding:
    rows = suspect.rows
    lost = int(mesh.rows.lost[rows].sum(dtype=np.int64) + mesh.rows.unreachable[rows].sum(dtype=np.int64))
    again = int(mesh.rows.retransmitted[rows].sum(dtype=np.int64))
    what = f"{suspect.bad:.0f} of {suspect.n:.0f} probes dropped ({lost} never answered, {again} sent again)"
    if rule == "port_black_hole":
        detail = f"{what}: those that fail do so for good, as if by address and port"
        advice = "Look for corrupt forwarding or ECMP entries; probe with many source ports to find those that fail."
    elif rule == "black_hole":
        detail = f"{what}, all by a few of its pairs, since some time within this span: a black hole by address"
        advice = "Look for corrupt forwarding entries; a reload of the switch clears most of them."
    elif suspect.scope == "tier":
        detail = f"{what}, in pairs that cross it only: one of its switches or links drops packets"
        advice = "Trace the worst pairs with many source ports; look at CRC and fabric counters of the spines."
    else:
        detail = what
        advice = {
            "pair": "Trace it from both ends.",
            "host": "Look at its cable, transceiver, card and the port of its ToR.",
        }.get(suspect.scope, "Look at the switches' drop and CRC counters; trace the worst pairs.")
    return mesh.finding(
        rule,
        suspect,
        _severity(suspect),
        suspect.share,
        "ratio",
        threshold,
        detail,
        advice,
        normal=suspect.expected / max(suspect.n, 1),
    )


def _severity(suspect: Suspect) -> Severity:
    """A few per cent of everything is worse than half of one pair."""
    least = 0.01 if suspect.scope in _WIDE else 0.2 if suspect.scope == "host" else 0.05
    return "critical" if suspect.scope != "pair" and suspect.share >= least else "warning"
