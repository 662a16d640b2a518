"""How well detection does on cases whose truth is known.

    watch = Watch(mesh)                      # learns an hour of this mesh when it is well
    outcome = watch.run(case)                # every window through the rules and the state: what was said, and when

Messages are counted by incident. It is *right* if it names, at first or when it is renamed, the suspect of a fault
that no other incident has named; *beside* if it is about somebody who does feel a fault (a second message of the same
fault, or a victim named for the culprit); *false* if nobody there feels anything.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import polars as pl

from pingmesh_tasks.alerting import AlertState, Policy, advance
from pingmesh_tasks.alerting.hierarchy import hierarchy_of
from pingmesh_tasks.alerting.incident import Notification
from pingmesh_tasks.alerting.suspect import suspect_of
from pingmesh_tasks.detect.finding import Evaluation, Lane
from pingmesh_tasks.detect.mesh.baseline import update_baseline
from pingmesh_tasks.detect.mesh.evaluate import MeshView, evaluate_mesh
from tests.support.mesh_cases import BEFORE, Case
from tests.support.mesh_clos import Mesh, Seen

WARM_UP = 12  # windows: an hour of 5 min


@dataclass(frozen=True, slots=True)
class Told:
    """A message: in which window of the case (from 0), what of."""

    window: int
    notice: Notification

    @property
    def suspect(self) -> tuple[str, str]:
        return (self.notice.finding.scope, self.notice.finding.subject)

    def __str__(self) -> str:
        finding = self.notice.finding
        return f"window {self.window}: {self.notice.kind} {finding.rule} {finding.scope} {finding.subject}"


@dataclass
class Incident:
    """All that was said of one incident: names it was given, by window of the case; when it was said to be over."""

    names: list[Told]
    closed: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a case. Windows in `opened` and `closed` count from the one in which its fault began, or ended.

    `first_right`: for each truth of which anything was said, whether the first word of it was right; `top` likewise
    for the first finding of each look at the fault, without the state's memory.
    """

    case: Case
    right: list[Told]
    beside: list[Told]
    false: list[Told]
    first_right: list[bool]
    opened: list[int]
    closed: list[int]
    still_open: int
    top: list[bool]

    @property
    def missed(self) -> int:
        return len(self.case.truths) - len(self.right)


class Watch:
    """Detection on one mesh, with what it has learnt of it."""

    def __init__(self, mesh: Mesh, lane: Lane = "window", warm_up: int = WARM_UP, policy: Policy | None = None) -> None:
        self.mesh, self.lane, self.policy = mesh, lane, policy or Policy()
        self.wider = hierarchy_of(mesh.inventory)
        self._warm_up = warm_up

    @cached_property
    def normal(self) -> pl.DataFrame | None:
        """What `detect.mesh.baseline` makes of the first windows of the mesh, which are well."""
        normal: pl.DataFrame | None = None
        for number in range(self._warm_up):
            normal = self.learn(normal, self.mesh.window(number))
        return normal

    def learn(self, normal: pl.DataFrame | None, seen: Seen) -> pl.DataFrame:
        return update_baseline(normal, seen.pairs, self.mesh.inventory)

    def look(self, seen: Seen, normal: pl.DataFrame | None) -> Evaluation:
        span_s = self.mesh.probes * self.mesh.interval_s
        status = seen.status if self.lane == "window" else None
        return evaluate_mesh(MeshView(seen.pairs, self.mesh.inventory, seen.at, span_s, self.lane, normal, status))

    def run(self, case: Case) -> Outcome:
        """Play a case from its first window to its last."""
        state, normal = AlertState(), self.normal
        last = BEFORE + case.lasts - 1
        incidents: dict[str, Incident] = {}
        top: list[bool] = []
        for at, (number, faults) in enumerate(case.windows()):
            seen = self.mesh.window(number, faults)
            evaluation = self.look(seen, normal)
            if BEFORE < at < last and evaluation.findings:  # the fault is there all the time
                top.append(any(suspect_of(evaluation.findings[0]) in truth.suspects for truth in case.truths))
            state = advance(state, evaluation, self.policy, seen.at, self.wider)
            for entry in state.outbox:
                _file(incidents, Told(at, entry.notification))
            state = replace(state, outbox=())
            normal = self.learn(normal, seen)
        return self._outcome(case, list(incidents.values()), len(state.open), top)

    def _outcome(self, case: Case, incidents: list[Incident], still_open: int, top: list[bool]) -> Outcome:
        """Compare what was said with what was the case."""
        right, beside, false, first_right, opened, closed = [], [], [], [], [], []
        waiting, unmentioned = list(case.truths), list(case.truths)
        for incident in incidents:
            first = incident.names[0]
            touched = [t for t in case.truths if first.window >= BEFORE and self.hosts_of(first.suspect) & t.hosts]
            if new := [truth for truth in touched if truth in unmentioned]:
                truth = next((truth for truth in new if first.suspect in truth.suspects), new[0])
                unmentioned.remove(truth)
                first_right.append(first.suspect in truth.suspects)
            hit = next(
                ((told, truth) for told in incident.names for truth in waiting if told.suspect in truth.suspects), None
            )
            if hit and touched:
                told, truth = hit
                waiting.remove(truth)
                right.append(told)
                opened.append(told.window - BEFORE + 1)
                if incident.closed is not None:
                    closed.append(incident.closed - (BEFORE + case.lasts - 1))
            else:
                (beside if touched else false).append(first)
        return Outcome(case, right, beside, false, first_right, opened, closed, still_open, top)

    def hosts_of(self, suspect: tuple[str, str]) -> frozenset[str]:
        """Return the hosts that a suspect is about."""
        scope, subject = suspect
        if scope == "pair":
            return frozenset(subject.split(">"))
        if scope == "host":
            return frozenset({subject})
        if scope == "mesh" or subject == "inter_dc":
            return frozenset(self.mesh.names)
        place = tuple(subject.removesuffix("/spine").split("/"))
        return frozenset(host.name for host in self.mesh.inventory.hosts if host.tor_key[: len(place)] == place)


def _file(incidents: dict[str, Incident], told: Told) -> None:
    """Keep a notice: a new name for its incident, or its end. Reminders and new severities are no news here."""
    incident = incidents.setdefault(told.notice.incident, Incident([]))
    if told.notice.kind == "resolved":
        incident.closed = told.window
    elif not incident.names or incident.names[-1].suspect != told.suspect:
        incident.names.append(told)
