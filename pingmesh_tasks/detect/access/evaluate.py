"""What is wrong at a data server: one look at the lines of one span of its log.

    view ─▶ lines in their minutes, each tied to who made it ─▶ rules, the narrowest suspect first ─▶ findings

A cause is found once: the lines that a finding explains are taken away before the wider rules look. Where the server's
mode lets no operation be tied to a user, no user is accused: the suspect is then the node or the server, and says so.
Limits are counts per minute; the hot lane needs no whole minute to exceed them. The rules and their limits stand in
`detect.catalogue`.
"""

from __future__ import annotations

from collections.abc import Callable

from pingmesh_tasks.detect.access import rates as rates
from pingmesh_tasks.detect.access import signs as signs
from pingmesh_tasks.detect.access.reads import heavy_reads
from pingmesh_tasks.detect.access.view import AccessView, PreparedLog
from pingmesh_tasks.detect.catalogue import RULES
from pingmesh_tasks.detect.finding import Evaluation, Finding, LeftOut
from pingmesh_tasks.detect.rules import DEFAULT_RULES, RuleBook
from pingmesh_tasks.text import one_line

__all__ = ["AccessView", "evaluate_access"]

#: In the order in which they look, by the name that turns each off. `strangers` and `no_data` ask themselves.
STEPS: tuple[tuple[str | None, Callable[[PreparedLog], None]], ...] = (
    ("heavy_reads", heavy_reads),
    ("user_rate", rates.user_rate),
    ("client_rate", rates.client_rate),
    ("node_rate", rates.node_rate),
    ("no_attribution", rates.no_attribution),
    ("connect_rate", rates.connect_rate),
    ("concurrency", rates.concurrency),
    ("refused_clients", signs.refused_clients),
    (None, signs.strangers),
    ("rejected_lines", signs.rejected_lines),
    (None, signs.no_data),
    ("log_silent", signs.log_silent),
)


def evaluate_access(view: AccessView, rules: RuleBook = DEFAULT_RULES) -> Evaluation:
    """Return the findings of one look at one data server, the worst first.

    A server in maintenance, itself or the place where it stands, is judged by no rule. The rows of `view` may be of
    this server only.
    """

    def left_out(finding: Finding) -> LeftOut:
        place = {"server": view.server, finding.scope: finding.subject}
        if rules.in_maintenance(view.at, **(view.place | place)):
            return "maintenance"
        return "" if finding.rule not in RULES or rules.is_on(finding.rule, **place) else "off"

    if maintenance := rules.in_maintenance(view.at, **view.place, server=view.server):
        reason = {("server", view.server): one_line(str(maintenance), 200)}
        return Evaluation(view.server, view.lane, view.at, frozenset(), unjudged=reason, left_out=left_out)
    log = PreparedLog.at(view, rules)
    for name, rule in STEPS:
        if name is None or rules.is_on_within(name, server=view.server):
            rule(log)
    found = [finding for finding in log.findings if left_out(finding) != "maintenance"]
    found.sort(key=lambda finding: (finding.severity != "critical", -finding.value / max(finding.threshold, 1e-9)))
    return Evaluation(view.server, view.lane, view.at, frozenset(log.judged), tuple(found), log.unjudged, left_out)
