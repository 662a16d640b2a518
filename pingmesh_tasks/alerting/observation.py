"""One turn of the alarm: what a look changes, and what is to be said of it.

The order matters. A look is noted in every symptom that it judged; new symptoms join what explains them or, with
their quorum reached, open an incident; an incident that explains another takes it in; then each incident is settled
(who is its suspect now, is it over?) and speaks if there is something new.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from pingmesh_tasks.alerting.alert_state import AlertState
from pingmesh_tasks.alerting.hierarchy import all_known
from pingmesh_tasks.alerting.incident import (
    INVENTORY,
    RULES,
    Incident,
    Key,
    Kind,
    Notice,
    Policy,
    Said,
    Symptom,
    distinct,
    incident_id,
    key_of,
    only_named,
    trimmed,
)
from pingmesh_tasks.alerting.inhibition import (
    RANK,
    Known,
    Suspect,
    Wider,
    explains,
    fold_storms,
    is_storm,
    precedence,
    storm_of,
    urgency,
    whole_of,
)
from pingmesh_tasks.alerting.silence import silenced
from pingmesh_tasks.detect.finding import MESH, Evaluation, Finding
from pingmesh_tasks.text import cut

MAX_OPEN, MAX_CLOSED, MAX_PENDING = 60, 60, 200
MAX_OTHERS, MAX_OTHERS_IN_ALL = 12, 600
#: What leaves a machine without contact.
_CUT_OFF = {"host_down", "tor_down", "podset_down", "network_down", "no_data"}


class Turn:
    """The tables of one transition; `look` and `settle` change them, `state` reads them out."""

    def __init__(
        self, state: AlertState, policy: Policy, now: datetime, wider: Wider, known: Known = all_known
    ) -> None:
        self.before, self.policy, self.now, self.wider, self.known = state, policy, now, wider, known
        self.open = {incident.id: incident for incident in state.open}
        self.pending = {symptom.key: symptom for symptom in state.pending}
        self.closed = list(state.closed)
        self.looked_at = dict(state.looked_at)
        self.notices: list[Notice] = []

    def state(self) -> AlertState:
        """Return the state after the turn, without its notices (`notices` has them)."""
        return replace(
            self.before,
            open=tuple(self._bounded(incident) for incident in self.open.values()),
            pending=tuple(self.pending.values()),
            closed=tuple(self.closed[-MAX_CLOSED:]),
            silences=tuple(silence for silence in self.before.silences if silence.until > self.now),
            looked_at=self.looked_at,
        )

    def _bounded(self, incident: Incident) -> Incident:
        """Return an incident that lists the fewer others the more incidents are open."""
        most = max(2, MAX_OTHERS_IN_ALL // len(self.open))
        more = max(0, len(incident.others) - most)
        return replace(incident, others=incident.others[:most], unlisted=incident.unlisted + more)

    # ------------------------------------------------------------------ a look

    def look(self, evaluation: Evaluation) -> None:
        """Take in what a look saw. One that is not newer than the last of its source and lane changes nothing."""
        last = self.looked_at.get(f"{evaluation.lane} {evaluation.source}")
        if last is not None and evaluation.at <= last:
            return
        self.looked_at[f"{evaluation.lane} {evaluation.source}"] = evaluation.at
        if evaluation.source == MESH:  # every look at the mesh is one at the inventory, for all sources
            for incident in self.open.values():
                lead, *others = map(self._missed, incident.symptoms)
                self.open[incident.id] = replace(incident, lead=lead, others=tuple(others))
        seen = {key_of(evaluation.source, finding): finding for finding in self._findings(evaluation)}
        known: set[Key] = set(self.pending)
        for incident in self._of(evaluation.source):
            symptoms = [self._looked(symptom, evaluation, seen) for symptom in incident.symptoms]
            known |= {symptom.key for symptom in symptoms}
            hit = any(symptom.key in seen for symptom in symptoms)
            self.open[incident.id] = replace(
                incident,
                lead=symptoms[0],
                others=tuple(symptoms[1:]),
                unlisted=0,
                last_seen=max(self.now, incident.last_seen) if hit else incident.last_seen,
            )
        for key, symptom in list(self.pending.items()):
            if symptom.source == evaluation.source:
                self.pending[key] = self._looked(symptom, evaluation, seen)
        fresh = [
            self._looked(Symptom(evaluation.source, finding), evaluation, seen)
            for key, finding in seen.items()
            if key not in known and not self._is_echo(evaluation, finding)
        ]
        waiting = [symptom for key, symptom in self.pending.items() if key in seen]
        for symptom in sorted((*fresh, *waiting), key=lambda symptom: urgency(symptom.finding)):
            self._place(symptom)
        self._forget_pending()
        self._merge(evaluation.source)

    def _findings(self, evaluation: Evaluation) -> list[Finding]:
        """Return the findings of a look, bounded, each suspect once a rule, storms folded."""
        worst_last = sorted(map(trimmed, evaluation.findings), key=urgency, reverse=True)
        findings = {key_of(evaluation.source, finding): finding for finding in worst_last}
        leads = [incident.lead.finding for incident in self._of(evaluation.source)]
        stormy = {lead.rule for lead in leads if is_storm(lead)}
        return fold_storms(
            evaluation.source,
            list(findings.values()),
            [lead for lead in leads if not is_storm(lead)],
            lambda rule: self.policy.storm // 3 if rule in stormy else self.policy.storm,
            self.wider,
        )

    def _missed(self, symptom: Symptom) -> Symptom:
        """Return a symptom with how often in a row what it is about was not in the inventory."""
        return replace(symptom, absent=0 if self.known(symptom.source, symptom.finding) else symptom.absent + 1)

    def _looked(self, symptom: Symptom, evaluation: Evaluation, seen: dict[Key, Finding]) -> Symptom:
        finding = seen.get(symptom.key)
        if finding is None:
            left_out = evaluation.left_out(symptom.finding)
            if left_out or not (_judged(symptom, evaluation) and self.known(symptom.source, symptom.finding)):
                return replace(symptom, left_out=left_out)
        return symptom.looked(evaluation.lane, finding, self.policy, self.now)

    def _is_echo(self, evaluation: Evaluation, finding: Finding) -> bool:
        """Whether a window brings what the hot lane has seen end, or what has left the inventory since."""
        return evaluation.lane == "window" and any(
            incident.source == evaluation.source
            and incident.closed_by in ("hot", INVENTORY)
            and incident.closed_at is not None
            and evaluation.at <= incident.closed_at + timedelta(seconds=self.policy.echo_s)
            and explains(evaluation.source, incident.lead.finding, finding, self.wider)
            for incident in self.closed
        )

    def _place(self, symptom: Symptom) -> None:
        """Let a symptom that was just seen join what explains it, open an incident, or wait for its quorum."""
        self.pending.pop(symptom.key, None)
        if home := self._home(symptom):
            self.open[home.id] = _with_other(home, symptom)
        elif not symptom.confirmed or self._is_told_of_its_machine(symptom):
            self.pending[symptom.key] = only_named(symptom)
        elif len(self.open) < MAX_OPEN:
            self._open(symptom)
        else:  # never silently: it joins what stands for the whole source, or becomes that
            leads = (incident.lead.finding for incident in self._of(symptom.source))
            whole = storm_of(symptom.source, [symptom.finding, *leads])
            if home := self._home(replace(symptom, finding=whole)):
                self.open[home.id] = _with_other(home, symptom)
            else:
                self._open(replace(symptom, finding=whole))

    def _is_told_of_its_machine(self, symptom: Symptom) -> bool:
        """Whether a data server gives no data because its machine is dead, or all are out of reach: that is told.

        After the end of that it is waited for: contact comes back a little later.
        """
        if symptom.source == MESH or symptom.finding.rule != "no_data":
            return False
        echo = timedelta(seconds=self.policy.echo_s)
        lately = (i for i in self.closed if not i.merged_into and i.closed_at and self.now <= i.closed_at + echo)
        return any(
            incident.source == MESH
            and incident.lead.finding.rule in _CUT_OFF
            and explains(symptom.source, incident.lead.finding, symptom.finding, self.wider)
            for incident in (*self.open.values(), *lately)
        )

    def _home(self, symptom: Symptom) -> Incident | None:
        same = (i for i in self._of(symptom.source) if i.lead.suspect == symptom.suspect)
        wider = (
            incident
            for incident in self._of(symptom.source)
            if explains(symptom.source, incident.lead.finding, symptom.finding, self.wider)
        )
        return next(same, None) or next(wider, None)

    def _open(self, symptom: Symptom) -> None:
        """Open an incident, or the one that was closed a moment ago again."""
        finding = symptom.finding
        earlier = next((i for i in reversed(self.closed) if self._is_back(i, symptom)), None)
        if earlier is None:
            opened_id = incident_id(symptom.source, finding.scope, finding.subject, self.now)
            incident = Incident(opened_id, symptom.source, self.now, finding.since, symptom, self.now)
        else:
            self.closed.remove(earlier)
            incident = replace(
                earlier,
                lead=symptom,
                others=(),
                last_seen=self.now,
                said=None,
                returns=earlier.returns + 1,
                closed_at=None,
                closed_by=None,
            )
        self.open[incident.id] = incident

    def _is_back(self, incident: Incident, symptom: Symptom) -> bool:
        return (
            incident.merged_into is None
            and (incident.source, incident.lead.suspect) == (symptom.source, symptom.suspect)
            and incident.closed_at is not None
            and (self.now - incident.closed_at).total_seconds() <= self.policy.reopen_s
        )

    def _forget_pending(self) -> None:
        """Drop waiting symptoms that recent looks did not see, and the least urgent of too many."""
        waiting = [
            symptom
            for symptom in self.pending.values()
            if any("x" in looks[-3:] for looks in symptom.looks.values())
            and (self.now - symptom.last_judged).total_seconds() < 2 * self.policy.stale_after_s
        ]
        waiting.sort(key=lambda symptom: urgency(symptom.finding))
        self.pending = {symptom.key: only_named(symptom) for symptom in waiting[:MAX_PENDING]}

    # ------------------------------------------------------------------ one fault

    def _merge(self, source: str) -> None:
        """Let each incident take in those that its suspect explains. The oldest that was told keeps its id."""
        for cause in sorted(self._of(source), key=lambda incident: urgency(incident.lead.finding)):
            for effect in self._of(source):
                alive = cause.id in self.open and effect.id in self.open and cause.id != effect.id
                if alive and explains(source, cause.lead.finding, effect.lead.finding, self.wider):
                    cause = self._absorb(self.open[cause.id], effect)

    def _absorb(self, cause: Incident, effect: Incident) -> Incident:
        told = sorted(
            (incident for incident in (cause, effect) if incident.said), key=lambda incident: incident.opened_at
        )
        kept = told[0] if told else cause
        gone = effect if kept is cause else cause
        del self.open[cause.id], self.open[effect.id]
        merged = replace(
            kept,
            lead=cause.lead,
            others=(),
            since=min(cause.since, effect.since),
            last_seen=max(cause.last_seen, effect.last_seen),
            absorbed=tuple(dict.fromkeys((*kept.absorbed, *gone.absorbed, *([gone.id] if gone.said else []))))[-10:],
        )
        for symptom in (*cause.others, *effect.symptoms):
            merged = _with_other(merged, symptom)
        self.open[merged.id] = merged
        self.closed.append(
            replace(gone, others=(), closed_at=self.now, merged_into=merged.id, lead=only_named(gone.lead))
        )
        return merged

    # ------------------------------------------------------------------ what now?

    def settle(self) -> None:
        """Bring every incident to the present: its suspect, its end, its notices."""
        for incident in list(self.open.values()):
            self._settle(incident)

    def _settle(self, incident: Incident) -> None:
        gone = {symptom.key: by for symptom in incident.symptoms if (by := self._gone(symptom))}
        left = [symptom for symptom in incident.symptoms if symptom.key not in gone]
        live = [symptom for symptom in left if symptom.cleared_by(self.policy, self.now) is None]
        if incident.lead.cleared_by(self.policy, self.now) == "hot":  # what only a window saw is the past of this fault
            live = [symptom for symptom in live if "hot" in symptom.seen_by]
        held = (self.now - incident.last_seen).total_seconds() < self.policy.hold_s(incident.returns)
        gone_by = gone.get(incident.lead.key)
        confirmed = [symptom for symptom in live if symptom.confirmed]
        confirmed = confirmed or ([incident.lead] if held and not gone_by else [])
        if not confirmed:
            self._close(incident, gone_by or incident.lead.cleared_by(self.policy, self.now) or "window")
            for symptom in live:  # it never had its quorum: it waits for it again
                self.pending[symptom.key] = only_named(symptom)
            return
        suspects = [symptom for symptom in confirmed if symptom.suspect == incident.lead.suspect] or confirmed
        lead = min(suspects, key=lambda symptom: (-RANK[symptom.finding.severity], symptom.key != incident.lead.key))
        if lead.suspect != incident.lead.suspect:
            lead = min(suspects, key=lambda symptom: urgency(symptom.finding))
        others = sorted((s for s in live if s.key != lead.key), key=lambda symptom: urgency(symptom.finding))
        self._speak(
            replace(
                incident,
                lead=lead,
                others=tuple(map(only_named, others)),
                since=min(incident.since, lead.finding.since),
            ),
            _LEFT[gone_by],
        )

    def _gone(self, symptom: Symptom) -> str | None:
        """Return who ends a symptom whether it is over or not: the inventory, the rules, or nobody."""
        if symptom.absent >= self.policy.gone_looks:
            return INVENTORY
        return RULES if symptom.left_out == "off" else None

    def _close(self, incident: Incident, by: str) -> None:
        del self.open[incident.id]
        incident = replace(incident, others=(), closed_at=self.now, closed_by=by)
        if incident.said and not silenced(self.before.silences, incident, self.now):
            lasted = _span((self.now - incident.since).total_seconds())
            left = incident.lead.finding.subject if incident.source == MESH else incident.source
            gone = f"{cut(left, 120)} {_LEFT[INVENTORY]}."
            note = f"It lasted {lasted}; {gone if by == INVENTORY else _ENDS.get(by, by)}"
            incident = self._say(incident, "resolved", note)
        self.closed.append(replace(incident, lead=only_named(incident.lead), said=None, acknowledged_by=None))

    def close_by_hand(self, incident: Incident, by: str) -> None:
        self._close(incident, f"{by} closed it by hand.")

    def _speak(self, incident: Incident, left_because: str) -> None:
        """Say what is new about an open incident, if anything is, and put it back.

        `left_because` is said of a suspect that is none any more.
        """
        finding, said = incident.lead.finding, incident.said
        in_maintenance = incident.lead.left_out == "maintenance"
        if in_maintenance or silenced(self.before.silences, incident, self.now):
            self.open[incident.id] = replace(incident, silenced=True)
            return
        unhidden, incident = incident.silenced, replace(incident, silenced=False)
        stale_s = (self.now - max(symptom.last_judged for symptom in incident.symptoms)).total_seconds()
        stale = stale_s >= self.policy.stale_after_s
        took_in = f"It takes in {_plural(len(incident.absorbed), 'earlier incident')}." if incident.absorbed else ""
        kind: Kind = "reminder"
        if said is None:
            kind = "opened"
            notes = [_STILL_THERE if unhidden else "", self._back_note(incident)]
        elif (changes := _worse(said, finding)) != []:
            kind, notes = "escalated", [*changes, took_in]
            incident = replace(incident, acknowledged_by=None)
        elif (said.scope, said.subject) != incident.lead.suspect:
            notes = [f"{said.scope} {said.subject} {left_because}; what is left is {finding.scope} {finding.subject}."]
        elif unhidden:
            notes = [_STILL_THERE]
        elif stale and not incident.stale_said:
            notes = [f"It cannot be judged any more: no data say whether it is over, for {_span(stale_s)} now."]
        elif not incident.acknowledged_by and (self.now - said.at).total_seconds() >= self.policy.repeat_s:
            notes = [f"It cannot be judged: no data for {_span(stale_s)}." if stale else "", took_in]
        else:
            self.open[incident.id] = replace(incident, stale_said=stale)
            return
        self.open[incident.id] = replace(
            self._say(incident, kind, " ".join(filter(None, notes))), stale_said=stale, absorbed=()
        )

    def _back_note(self, incident: Incident) -> str:
        if not incident.returns:
            return ""
        note = f"It is back: {_plural(incident.returns, 'return')} since {incident.opened_at:%H:%M} UTC."
        hold_s = self.policy.hold_s(incident.returns)
        return f"{note} It flaps: it counts as over once it was quiet for {_span(hold_s)}." if hold_s else note

    def _say(self, incident: Incident, kind: Kind, note: str) -> Incident:
        finding, number = incident.lead.finding, incident.notices + 1
        notice = Notice(
            id=f"{incident.id}-{kind}{number}",
            incident=incident.id,
            kind=kind,
            at=self.now,
            source=incident.source,
            finding=finding,
            opened_at=incident.opened_at,
            since=incident.since,
            note=note,
            members=tuple(map(_named, incident.others)),
            more_members=incident.unlisted,
            acknowledged_by=incident.acknowledged_by,
            closed_by=incident.closed_by,
        )
        self.notices.append(notice)
        said = Said(self.now, finding.scope, finding.subject, finding.severity)
        return replace(incident, said=said, notices=number)

    def _of(self, source: str) -> list[Incident]:
        return [incident for incident in self.open.values() if incident.source == source]


_ENDS = {
    "hot": "the last looks found it clear.",
    "window": "the last windows were clear.",
    RULES: "its rule is off now.",
}
#: What became of a suspect that is none any more, by who ended it.
_LEFT = {None: "is well again", INVENTORY: "is no longer in the inventory", RULES: "is left out by the rules"}
_STILL_THERE = "A silence or a maintenance is over, and this is still there."


def _judged(symptom: Symptom, evaluation: Evaluation) -> bool:
    """Whether a look that did not see the symptom would have."""
    finding = symptom.finding
    ends = finding.subject.split(">", 1) if finding.scope == "pair" else ()
    needed: set[Suspect] = {
        (finding.scope, finding.subject),
        (finding.scope, "*"),
        (whole_of(symptom.source), symptom.source),
        *(("host", end) for end in ends),
    }
    unjudged = {(scope, distinct(subject)) for scope, subject in evaluation.unjudged}
    return finding.rule in evaluation.judged and not needed & unjudged


def _with_other(incident: Incident, symptom: Symptom) -> Incident:
    """Return the incident with one more symptom; the least urgent of too many is counted only."""
    by_key = {other.key: other for other in (*incident.others, symptom) if other.key != incident.lead.key}
    ordered = sorted(by_key.values(), key=lambda other: urgency(other.finding))
    return replace(
        incident,
        others=tuple(ordered[:MAX_OTHERS]),
        unlisted=incident.unlisted + max(0, len(ordered) - MAX_OTHERS),
    )


def _worse(said: Said, finding: Finding) -> list[str]:
    """Return in words how a finding is worse than what was said: more severe, or of a suspect that explains more."""
    changes = []
    if RANK[finding.severity] > RANK[said.severity]:
        changes.append(f"It was a {said.severity}; now it is {finding.severity}.")
    if precedence(finding.scope) < precedence(said.scope):
        changes.append(f"The suspect was {said.scope} {said.subject}; now it is {finding.scope} {finding.subject}.")
    return changes


def _named(symptom: Symptom) -> str:
    return f"{symptom.finding.scope} {symptom.finding.subject}: {symptom.finding.rule.replace('_', ' ')}"


def _plural(count: int, thing: str) -> str:
    return f"{count} {thing}{'s' * (count != 1)}"


def _span(seconds: float) -> str:
    """Return `40 s`, `12 min`, `3 h 5 min`, `2 d 4 h`."""
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    if minutes < 2:
        return f"{int(seconds)} s"
    if hours < 2:
        return f"{minutes} min"
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
