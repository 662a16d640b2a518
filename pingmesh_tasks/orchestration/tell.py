"""Say what the alarm's memory has to say: trace the suspects, write the messages, have them delivered.

What is due goes to `alerting.delivery`, which sends first and marks afterwards; here is what a message needs of the
fleet and the store: traces of the worst pairs, within one small budget, the heatmap, the links.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from airflow.sdk.exceptions import AirflowFailException

from pingmesh_tasks.alerting import Policy, outbox
from pingmesh_tasks.alerting.delivery import deliver
from pingmesh_tasks.alerting.incident import Notification
from pingmesh_tasks.alerting.messages.links import links_of
from pingmesh_tasks.alerting.messages.message import AlertMessage, MessageTrace, compose
from pingmesh_tasks.alerting.notification_table import write_notifications
from pingmesh_tasks.alerting.state_file import AlertFile
from pingmesh_tasks.alerting.trace_store import write_traces
from pingmesh_tasks.detect.finding import MESH
from pingmesh_tasks.detect.traces.hops import find_loss, hop_evidence
from pingmesh_tasks.detect.traces.netbouncer import rank_traces
from pingmesh_tasks.errors import PingmeshError
from pingmesh_tasks.fleet.trace import trace_pairs
from pingmesh_tasks.orchestration.channels import open_channels
from pingmesh_tasks.pipeline.mesh import Run, load_run_inventory
from pingmesh_tasks.store import layout
from pingmesh_tasks.windows import window_containing

log = logging.getLogger(__name__)

#: How many pairs of a suspect are traced, there and back.
TRACED_PAIRS = 2
TRACED_KINDS = ("opened", "escalated")
#: A heatmap older than this many windows shows another network than the message speaks of.
HEATMAP_WINDOWS = 3


def tell(run: Run, ui_url: str | None = None, sender: str = "notify") -> dict[str, int]:
    """Send what is due; return how many messages were `sent` and `failed`, nothing where nothing was due.

    `ui_url` is where Airflow's UI is; `sender` is the same for every try of one task, and no other's (`deliver`). While
    messages wait and every channel fails, the task fails without a retry: the outbox knows when to try again, and a
    retry that finds nothing due yet must not hide that nobody is told.
    """
    channels, off = open_channels(run.settings)
    for name, reason in off.items():
        log.info("channel %s is off: %s", name, reason)
    memory, now = AlertFile(run.store), datetime.now(UTC)
    state = memory.update(lambda before: outbox.set_channels(before, [channel.name for channel in channels], off, now))
    if state.outbox and not channels:
        log.warning("%d notices wait in the outbox: no channel is on", len(state.outbox))
    due = [notice for notice, _ in outbox.due(state, now, sender)]
    if not due:
        if state.outbox and channels and all(state.channels[channel.name].failures for channel in channels):
            raise AirflowFailException(f"no channel takes messages; {len(state.outbox)} wait in the outbox")
        return {}
    write_notifications(run.store, due, run.settings.window_s)
    traces, heatmap = _traces(run, due), _heatmap(run, now)

    def composed(notice: Notification) -> AlertMessage:
        key, picture = heatmap if notice.source == MESH else (None, None)
        return compose(notice, links_of(notice, ui_url, key), picture, traces.get(notice.id, ()))

    counts = deliver(memory, channels, composed, Policy(), lambda: datetime.now(UTC), sender=sender)
    write_traces(run.store, {notice.incident: traces[notice.id] for notice in due if traces.get(notice.id)})
    if counts["failed"] and not counts["sent"]:
        raise AirflowFailException("no channel took a message; they wait in the outbox; the log above says why")
    return dict(counts)


def _traces(run: Run, notices: Sequence[Notification]) -> dict[str, list[MessageTrace]]:
    """Return what tracing the worst pairs of each notice found, all of them within one budget."""
    pairs = {notice.id: _worst_pairs(notice) for notice in notices}
    wanted = list(dict.fromkeys(pair for of_notice in pairs.values() for pair in of_notice))
    if not wanted or not run.settings.trace_budget_s:
        return {}
    try:
        told = _traced(run, wanted)
    except PingmeshError as error:  # the message says so: what it tells besides must not wait for a key
        log.error("nothing is traced: %s", error)
        told = {(src, dst): MessageTrace(src, dst, f"It was not traced: {error}") for src, dst in wanted}
    return {
        notice_id: [told[way] for src, dst in of_notice for way in ((src, dst), (dst, src)) if way in told]
        for notice_id, of_notice in pairs.items()
    }


def _traced(run: Run, wanted: Sequence[tuple[str, str]]) -> dict[tuple[str, str], MessageTrace]:
    """Return what tracing some pairs found, in both directions. Raises PingmeshError where no trace can start."""
    inventory = load_run_inventory(run)
    known = {host.name for host in inventory.hosts}
    found = trace_pairs(
        [pair for pair in wanted if set(pair) <= known],
        inventory,
        run.ssh,
        run.limits,
        home=run.settings.agent_home,
        budget_s=run.settings.trace_budget_s,
        protocol="tcp",
    )
    told = {}
    worst = rank_traces(found)[:1]
    for trace in found:
        verdict = find_loss([trace])
        words = verdict.words if trace.paths else trace.reason or verdict.words
        if verdict.kind == "loses" and worst:
            name, loss = worst[0]
            words += f" Over all traces, {name} loses most ({loss:.1%})."
        hops = hop_evidence([trace])
        told[trace.source, trace.destination] = MessageTrace(
            trace.source, trace.destination, words, hops, verdict.after
        )
    return told


def _worst_pairs(notice: Notification) -> list[tuple[str, str]]:
    """Return the pairs that the evidence names first, each in one direction: both are traced."""
    if notice.source != MESH or notice.kind not in TRACED_KINDS:
        return []
    rows = [(row["src"], row["dst"]) for row in notice.finding.evidence if "src" in row and "dst" in row]
    there = {frozenset(pair): pair for pair in reversed(rows)}
    return list(dict.fromkeys(there[frozenset(pair)] for pair in rows))[:TRACED_PAIRS]


def _heatmap(run: Run, now: datetime) -> tuple[str, bytes] | tuple[None, None]:
    """Return the newest heatmap and its key, if it is new enough to be of the network that the message speaks of."""
    oldest = window_containing(now - timedelta(seconds=HEATMAP_WINDOWS * run.settings.window_s), run.settings.window_s)
    days = {oldest.start.date(): oldest.start, now.date(): now}
    try:
        keys = [key for day in days.values() for key in run.store.keys(layout.artifact_day_prefix("heatmap", day))]
        newest = max(keys, key=layout.window_id_of, default=None)
        picture = run.store.find(newest) if newest and layout.window_id_of(newest) >= oldest.id else None
    except PingmeshError as error:  # a message without it says more than none
        log.error("no heatmap: %s", error)
        return None, None
    return (newest, picture) if newest and picture else (None, None)
