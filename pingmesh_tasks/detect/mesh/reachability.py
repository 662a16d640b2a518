"""Who is dead, which pairs are swallowed, and who is silent.

A pair is dead if every probe of it failed. A host whose pairs are all dead is a dead host and says nothing of the
network (UdpPinger's elimination); a rack of dead hosts is a dead rack, and so on upwards: `scan` finds the part that
explains the dead pairs. A part of which most pairs live is a black hole: some addresses are swallowed for ever.
A host that sent nothing is a finding of its own unless something dead explains it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pingmesh_tasks.detect.finding import MESH, Finding, Scope
from pingmesh_tasks.detect.mesh.components import sum_by_host
from pingmesh_tasks.detect.mesh.scan import Demands, Evidence, Suspect, find_suspects
from pingmesh_tasks.detect.mesh.view import PreparedMesh

#: Fewer probes of a pair say nothing of it.
LEAST_TRIES = 3
#: A pair is dead by luck so seldom, at least: nothing is known of the ways a fabric has to fail.
_LUCK = 1e-4
#: A probe fails by chance at this share at least; a pair's failures count as surprising on top of its hosts' share.
_FAILS = 0.01
#: Of the pairs of a part so many must be dead: a few dead pairs are no fault of a podset.
_LEAST = {"pair": 0.4, "host": 0.005, "tor": 0.005}
DOWN_RULES = {"host": "host_down", "tor": "tor_down", "podset": "podset_down", "dc": "network_down"}
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Dead:
    """What is dead. `gone` marks rows that nothing can be said of any more, `down` hosts that are explained by it."""

    suspects: Sequence[Suspect]
    findings: Sequence[Finding]
    gone: Bools
    down: Bools


def find_dead(mesh: PreparedMesh) -> Dead:
    """Return the dead hosts, racks, podsets, spines and pairs."""
    rows = mesh.rows
    tries = rows.sent.astype(np.float32) - rows.local_error
    judged = tries >= LEAST_TRIES
    dead = judged & (rows.answered == 0)
    fails = _failing(mesh, tries, judged & ~dead)
    rate = np.full(len(rows), _LUCK, np.float32)
    likely = np.flatnonzero(fails**LEAST_TRIES > _LUCK)
    rate[likely] = np.maximum(np.float32(_LUCK), fails[likely] ** tries[likely])
    certainty = np.zeros(len(rows), np.float32)
    certainty[dead] = -tries[dead] * np.log(fails[dead])
    certainty[dead & (tries < mesh.pair_limits("black_hole", "min_probes"))] = 0
    evidence = Evidence(rows.a, rows.b, judged.astype(np.float32), dead.astype(np.float32), rate, certainty)
    demands = Demands(
        least=lambda scope, _: _LEAST.get(scope, 0.03),
        min_bad=lambda scope, _: 1 if scope == "pair" else 2,
        quietly=False,
        alike_in_tor=0.5,
    )
    suspects = find_suspects(mesh.places, evidence, demands, topology=mesh.topology)
    gone, down = dead.copy(), np.zeros(len(mesh.places.names), bool)
    findings = []
    for suspect in suspects:
        rule, threshold = _rule(mesh, suspect)
        if suspect.share >= threshold and rule != "black_hole":
            gone |= suspect.crossing
            if suspect.side != "out" and suspect.scope != "tier":
                down[suspect.hosts] = True
        place = mesh.place(suspect.scope, suspect.subject)
        if rule == "host_down" and len(suspect.rows) < mesh.rules.limit(rule, "min_peers", **place):
            continue
        if mesh.rules.is_on(rule, **place):
            findings.append(_dead_finding(mesh, suspect, rule, threshold))
    return Dead(suspects, findings, gone, down)


def find_silent(mesh: PreparedMesh, explained: Bools, expected: Bools) -> list[Finding]:
    """Return who sent nothing though it was `expected` to: hosts, or the rack, podset or DC all of which is silent."""
    heard = sum_by_host(mesh.places, mesh.rows.a, mesh.rows.sent) > 0
    silent = ~heard & expected & ~explained
    everyone = np.arange(len(silent))
    p = mesh.places
    levels: list[tuple[Scope, Sequence[str], NDArray[np.integer], NDArray[np.integer]]] = [
        ("mesh", (MESH,), np.zeros(len(silent), np.int64), p.dc if mesh.topology else everyone),
        ("dc", p.dc_names, p.dc, p.podset),
        ("podset", p.podset_names, p.podset, p.tor),
        ("tor", p.tor_names, p.tor, everyone),
        ("host", p.names, everyone, everyone),
    ]
    if not mesh.topology:
        levels = [levels[0], levels[-1]]
    found = []
    for scope, names, of, inner in levels:
        all_of = np.bincount(of[expected], minlength=len(names))
        silent_of = np.bincount(of[silent], minlength=len(names))
        for k in np.flatnonzero((silent_of > 0) & (silent_of == all_of)).tolist():
            member = (of == k) & silent
            if scope != "host" and len(np.unique(inner[member])) < 2:
                continue
            silent &= ~member
            if mesh.rules.is_on("no_data", **mesh.place(scope, names[k])):
                found.append(_silent_finding(mesh, scope, names[k], np.flatnonzero(member)))
    return found


def _failing(mesh: PreparedMesh, tries: NDArray[np.float32], alive: Bools) -> NDArray[np.float32]:
    """Return the share of failures to expect of a pair, from its hosts' other pairs, with room for what varies."""
    rows = mesh.rows
    failed = np.where(alive, tries - rows.answered, 0)
    tried = np.where(alive, tries, 0)
    by_host = [sum_by_host(mesh.places, rows.a, w) + sum_by_host(mesh.places, rows.b, w) for w in (failed, tried)]
    share = (by_host[0] / np.maximum(by_host[1], 1)).astype(np.float32)
    return np.clip(1.5 * np.maximum(share[rows.a], share[rows.b]), np.float32(_FAILS), np.float32(0.9))


def _rule(mesh: PreparedMesh, suspect: Suspect) -> tuple[str, float]:
    """Return the rule that a suspect falls under, and the share of dead pairs from which on it is down."""
    if suspect.scope == "pair":
        return "black_hole", 0.5
    if suspect.scope == "tier":
        rule = "network_down" if suspect.subject == "inter_dc" else "spine_failure"
        share = mesh.limit("network_down", "share", suspect.scope, suspect.subject)
    else:
        rule = "host_isolated" if suspect.side == "out" else DOWN_RULES.get(suspect.scope, "network_down")
        share = mesh.limit(rule, "share", suspect.scope, suspect.subject)
    return (rule, share) if suspect.share >= share else ("black_hole", share)


def _dead_finding(mesh: PreparedMesh, suspect: Suspect, rule: str, threshold: float) -> Finding:
    rows = suspect.rows
    total = int(suspect.n)
    refused = mesh.rows.refused[rows].sum(dtype=np.int64)
    failed = mesh.rows.sent[rows].sum(dtype=np.int64) - mesh.rows.local_error[rows].sum(dtype=np.int64)
    what = f"{suspect.bad:.0f} of {total} pairs have no answer at all"
    severity = "critical"
    if suspect.scope == "pair":
        probes = int(failed)
        detail = f"none of {probes} probes was answered, while others of both hosts are"
        advice = "Look at the routes and ACLs between these two addresses; a TCP probe cannot tell the direction."
        severity = "warning"
    elif rule == "black_hole":
        detail = f"{what}, the others of the same hosts are well: a black hole by address"
        advice = "Look for corrupt forwarding entries; a reload of the switch clears most of them."
    elif refused * 2 > failed and rule == "host_down":
        detail = "its kernel answers and refuses the probes: the agent does not run"
        advice = "Look at agent.log on the host; the next run of pingmesh starts the agent again."
        severity = "warning"
    elif rule == "host_isolated":
        detail = f"none of its own probes is answered ({what}), while it is reached by others"
        advice = "Look at its outgoing routes, firewall and the agent's source address."
    elif rule == "host_down":
        detail = f"nobody gets an answer from it: {what}" + _collected(mesh, suspect.subject)
        advice = "Look whether it is powered and its network is up, over another way than this network."
    else:
        detail = f"nothing passes: {what}"
        advice = "Look at power and uplinks of the switches there before any host."
    return mesh.finding(rule, suspect, severity, suspect.share, "ratio", threshold, detail, advice)  # type: ignore[arg-type]


def _collected(mesh: PreparedMesh, host: str) -> str:
    outcome = mesh.outcome.get(host)
    return f"; collection says {outcome}" if outcome else ""


def _silent_finding(mesh: PreparedMesh, scope: Scope, subject: str, hosts: NDArray[np.integer]) -> Finding:
    said = Counter(mesh.outcome.get(mesh.places.names[h], "nothing") for h in hosts.tolist())
    outcomes = ", ".join(f"{outcome} ({count})" if len(hosts) > 1 else outcome for outcome, count in said.most_common())
    told = f"; collection says {outcomes}" if set(said) != {"nothing"} else ""
    who = "it sent no data" if scope == "host" else f"none of its {len(hosts)} hosts sent data"
    return Finding(
        rule="no_data",
        scope=scope,
        subject=subject,
        severity="warning" if scope in ("host", "tor") else "critical",
        value=float(len(hosts)),
        unit="hosts",
        threshold=1.0,
        since=mesh.since,
        detail=f"{who} in this span{told}",
        advice="Look at host_status, then at agent.log on the host; others may still reach it.",
        affected=len(hosts),
        evidence=tuple({"host": mesh.places.names[h]} for h in hosts[:5].tolist()),
    )
