"""What messages need besides their notifications: traces of the worst pairs, the heatmap, links.

All of it is collected before the first message is composed. Nothing here holds up a message: where
a trace or the heatmap cannot be had, the message goes without it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pingmesh_tasks.alerting.incident import Notification
from pingmesh_tasks.alerting.messages.links import links_of
from pingmesh_tasks.alerting.messages.message import AlertMessage, MessageTrace, compose
from pingmesh_tasks.detect.finding import MESH
from pingmesh_tasks.detect.traces.hops import find_loss, hop_evidence
from pingmesh_tasks.detect.traces.netbouncer import rank_traces
from pingmesh_tasks.errors import PingmeshError
from pingmesh_tasks.fleet.trace import trace_pairs
from pingmesh_tasks.pipeline.run import Run, load_run_inventory
from pingmesh_tasks.store import layout
from pingmesh_tasks.windows import window_containing

log = logging.getLogger(__name__)

#: How many pairs of a suspect are traced, in both directions.
TRACED_PAIRS = 2
TRACED_KINDS = ("opened", "escalated")
#: A heatmap older than this many windows shows another network than the message is about.
HEATMAP_WINDOWS = 3

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Heatmap:
    """A picture and its key in the bucket."""

    key: str
    png: bytes


@dataclass(frozen=True, slots=True)
class MessageParts:
    """What the messages of some notifications need.

    Attributes:
        ui_url: Where Airflow's UI is.
        heatmap: The newest heatmap, for notifications about the mesh.
        traces: By id of a notification the traces of its worst pairs.
    """

    ui_url: str | None = None
    heatmap: Heatmap | None = None
    traces: Mapping[str, Sequence[MessageTrace]] = field(default_factory=dict)

    def compose(self, notification: Notification) -> AlertMessage:
        """Return the message of a notification."""
        heatmap = self.heatmap if notification.source == MESH else None
        links = links_of(notification, self.ui_url, heatmap.key if heatmap else None)
        traces = self.traces.get(notification.id, ())
        return compose(notification, links, heatmap.png if heatmap else None, traces)


def collect_parts(run: Run, notifications: Sequence[Notification], ui_url: str | None, now: datetime) -> MessageParts:
    """Return what the messages of some notifications need; traces share one budget of time."""
    return MessageParts(ui_url, _newest_heatmap(run, now), _traces(run, notifications))


def worst_pairs(notification: Notification) -> list[Pair]:
    """Return the pairs that the evidence names first, each in the direction named first."""
    if notification.source != MESH or notification.kind not in TRACED_KINDS:
        return []
    named: dict[frozenset[str], Pair] = {}
    for row in notification.finding.evidence:
        if "src" in row and "dst" in row:
            named.setdefault(frozenset((row["src"], row["dst"])), (row["src"], row["dst"]))
    return list(named.values())[:TRACED_PAIRS]


def _traces(run: Run, notifications: Sequence[Notification]) -> Mapping[str, Sequence[MessageTrace]]:
    """Return by notification the traces of its worst pairs, in both directions."""
    pairs = {one.id: worst_pairs(one) for one in notifications}
    wanted = list(dict.fromkeys(pair for of_one in pairs.values() for pair in of_one))
    if not wanted or not run.settings.trace_budget_s:
        return {}
    try:
        traced = _trace(run, wanted)
    except PingmeshError as error:  # the message says so: the rest of it must not wait for a key
        log.error("nothing is traced: %s", error)
        why = f"It was not traced: {error}"
        traced = {(src, dst): MessageTrace(src, dst, why) for src, dst in wanted}
    return {
        one: [traced[way] for src, dst in of_one for way in ((src, dst), (dst, src)) if way in traced]
        for one, of_one in pairs.items()
    }


def _trace(run: Run, wanted: Sequence[Pair]) -> dict[Pair, MessageTrace]:
    """Trace pairs in both directions.

    Raises:
        PingmeshError: No trace can start.
    """
    inventory = load_run_inventory(run)
    known = {host.name for host in inventory.hosts}
    traces = trace_pairs(
        [pair for pair in wanted if set(pair) <= known],
        inventory,
        run.ssh,
        run.limits,
        home=run.settings.agent_home,
        budget_s=run.settings.trace_budget_s,
        protocol="tcp",
    )
    described = {}
    worst = rank_traces(traces)[:1]
    for trace in traces:
        loss = find_loss([trace])
        verdict = loss.words if trace.paths else trace.reason or loss.words
        if loss.kind == "loses" and worst:
            name, share = worst[0]
            verdict += f" Over all traces, {name} loses most ({share:.1%})."
        described[trace.source, trace.destination] = MessageTrace(
            trace.source, trace.destination, verdict, hop_evidence([trace]), loss.after
        )
    return described


def _newest_heatmap(run: Run, now: datetime) -> Heatmap | None:
    """Return the newest heatmap, if it is at most HEATMAP_WINDOWS windows old."""
    length_s = run.settings.window_s
    oldest = window_containing(now - timedelta(seconds=HEATMAP_WINDOWS * length_s), length_s)
    days = {oldest.start.date(): oldest.start, now.date(): now}
    prefixes = [layout.artifact_day_prefix("heatmap", day) for day in days.values()]
    try:
        keys = [key for prefix in prefixes for key in run.store.keys(prefix)]
        newest = max(keys, key=layout.window_id_of, default=None)
        if newest is None or layout.window_id_of(newest) < oldest.id:
            return None
        picture = run.store.find(newest)
    except PingmeshError as error:  # a message without the heatmap tells more than no message
        log.error("no heatmap: %s", error)
        return None
    return Heatmap(newest, picture) if picture else None
