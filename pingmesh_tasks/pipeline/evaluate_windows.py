"""The alarm: looks at windows and at hot data, and what is remembered of them.

    tables of a window ──judge_mesh, judge_access──▶ anomaly, normal ──┐
                                                                       ├──▶ memory, with what is left to say (`tell`)
    hot/ of the last minute ──look─────────────────────────────────────┘   (and of the minutes that nobody looked at)

Every look changes the memory by one conditional put, whichever task it runs in, so that a window and a hot look at
the same time lose nothing. A hot look, of which there are many a minute, writes to `anomaly` only what it opened. A run
of an old window writes its rows of `anomaly` and leaves the memory alone: what was wrong then is nobody's alarm now.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from pingmesh_tasks.alerting import AlertState, Policy, advance, silence, transition
from pingmesh_tasks.alerting.alert_state import Silence
from pingmesh_tasks.alerting.hierarchy import hierarchy_of, members_of
from pingmesh_tasks.alerting.state_file import AlertFile
from pingmesh_tasks.detect.finding import MESH, Evaluation, anomaly_rows
from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.pipeline import hot_pairs as hot_data
from pingmesh_tasks.pipeline.access_logs import server_called
from pingmesh_tasks.pipeline.late_data import ended_in_time
from pingmesh_tasks.pipeline.plan import read_inventory
from pingmesh_tasks.pipeline.rulebook import read_rules
from pingmesh_tasks.pipeline.run import Part, Run, load_run_inventory
from pingmesh_tasks.settings import Settings
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.hot_batch import HotPiece
from pingmesh_tasks.store.objects import ObjectStore
from pingmesh_tasks.store.schemas import PAIR_LATENCY
from pingmesh_tasks.store.tables import newest_window, read_part, read_table, write_table
from pingmesh_tasks.topology.inventory import Inventory, LogServer
from pingmesh_tasks.topology.placement import place_of
from pingmesh_tasks.windows import Window, window_containing

log = logging.getLogger(__name__)
#: What the rules read of `pair_latency`.
PAIR_COLUMNS = [
    name
    for name in PAIR_LATENCY
    if name not in ("window", "rtt_min_us", "rtt_mean_us", "ladder_bucket", "ladder_count")
]
#: While something is wrong its end is looked for so often, at least.
BUSY_HEARTBEAT_S = 10.0
#: Batches are put a little after what is in them was read, and chunks are as long as ten seconds.
HOT_MARGIN_S = 15
#: So long may looks at the past hold up the look at the present.
LOOK_BACK_BUDGET_S = 20.0


def judge_mesh(run: Run, part: Part) -> dict[str, int]:
    """Look at the window's pairs, write its rows of `anomaly`, and what is normal from now on."""
    from pingmesh_tasks.detect.mesh.baseline import update_normal
    from pingmesh_tasks.detect.mesh.evaluate import MeshView, evaluate_mesh

    inventory, window = read_inventory(run, part), run.window
    pairs = read_table(run.store, "pair_latency", window, PAIR_COLUMNS)
    status = read_table(run.store, "host_status", window)
    before = _newest(run.store, "normal", window)
    view = MeshView(
        pairs,
        inventory,
        window.end,
        window.length_s,
        normal=before,
        status=status.filter(pl.col("stage") == "collect"),
    )
    evaluation = evaluate_mesh(view, read_rules(run.settings, run.store))
    write_table(run.store, "normal", window, update_normal(before, pairs, inventory))
    return _judged(run, evaluation, inventory, "pingmesh")


def judge_access(run: Run, name: str) -> dict[str, int]:
    """Look at what a data server's log brought in the window, and what is normal there from now on."""
    from pingmesh_tasks.detect.access.baseline import update_access_normal
    from pingmesh_tasks.detect.access.evaluate import AccessView, evaluate_access

    window, store, inventory = run.window, run.store, load_run_inventory(run)
    server = server_called(inventory, name)
    before = _newest(store, "access_normal", window, name)
    rejected = store.find(layout.quarantined_lines("access", window, name))
    view = AccessView(
        name,
        window.end,
        window.length_s,
        "window",
        read_part(store, "client", window, name),
        read_part(store, "operation", window, name),
        rejected=pl.read_ndjson(rejected) if rejected else None,
        session=read_part(store, "session", window, name),
        server_error=read_part(store, "server_error", window, name) if server.errors_path else None,
        log_status=read_part(store, "log_status", window, name),
        normal=before,
        country_of=_countries(server),
        place=place_of(server, inventory),
    )
    evaluation = evaluate_access(view, read_rules(run.settings, run.store))
    write_table(store, "access_normal", window, update_access_normal(before, view, window), name)
    return _judged(run, evaluation, inventory, "access_logs")


def look(run: Run) -> dict[str, int]:
    """Look at the hot data of the last `hot_horizon_s` seconds of every host and data server.

    Where nobody has looked for longer, the times since are looked at first: what was wrong only then is told too.
    """
    now = datetime.now(UTC)
    horizon = timedelta(seconds=run.settings.hot_horizon_s)
    inventory = load_run_inventory(run)
    moments = hot_data.moments_to_look_at(AlertFile(run.store).load().last_evaluated.get(f"hot {MESH}"), now, horizon)
    pieces, newest = hot_data.read_recent(run.store, moments[0] - horizon - timedelta(seconds=HOT_MARGIN_S), now)
    evaluations: list[Evaluation] = []
    began_s = time.monotonic()
    for moment in moments:
        if moment == now or time.monotonic() - began_s < LOOK_BACK_BUDGET_S:
            evaluations += _look_back_from(run, inventory, pieces, moment, horizon)
    after = remember(run, inventory, [(evaluation, evaluation.at) for evaluation in evaluations] or [(None, now)])
    for evaluation in evaluations:
        _keep_opened(run, evaluation, after)
    if newest:
        hot_data.save_cursor(run.store, newest, BUSY_HEARTBEAT_S if after.open else None)
    return {"pieces": len(pieces), "findings": sum(len(e.findings) for e in evaluations)} | _counts(after)


def remember(run: Run, inventory: Inventory, looks: Sequence[tuple[Evaluation | None, datetime]]) -> AlertState:
    """Change the alarm's memory by some looks (None: only time has passed), each as of a time, and return it."""
    policy = policy_of(run.settings)
    containing, is_member = hierarchy_of(inventory), members_of(inventory)

    def change(before: AlertState) -> AlertState:
        after = before
        for evaluation, now in looks:
            after = advance(after, evaluation, policy, now, containing, is_member)
        return after

    return AlertFile(run.store).update(change)


def policy_of(settings: Settings) -> Policy:
    """Return when to speak. A window's look comes up to two windows after what the hot lane saw."""
    return Policy(repeat_s=settings.alert_repeat_s, echo_s=max(Policy().echo_s, 2 * settings.window_s))


def administer(run: Run, form: Mapping[str, Any]) -> dict[str, int]:
    """Do what the form of `alert_admin` says; log what is open, silenced and waiting. Raises ConfigError."""
    now = datetime.now(UTC)
    by, action = str(form.get("by") or "someone"), form["action"]

    def change(before: AlertState) -> AlertState:
        match action:
            case "acknowledge":
                return silence.acknowledge(before, _incident(form), by, now)
            case "dismiss":
                return transition.dismiss(before, _incident(form), by, now)
            case "silence":
                return silence.silence(before, wanted, now)
            case "unsilence":
                return silence.unsilence(before, str(form.get("silence_id") or ""))
            case "list":
                return before
        raise ConfigError(f"{action!r} is no action; choose list, acknowledge, silence, unsilence or dismiss")

    wanted = Silence(
        id=secrets.token_hex(4),
        by=by,
        made_at=now,
        until=now + timedelta(hours=float(form.get("hours") or 4)),
        reason=str(form.get("comment") or ""),
        incident=form.get("incident") or None,
        **{name: str(form.get(name) or "*") for name in ("source", "scope", "subject", "rule")},
    )
    after = AlertFile(run.store).update(change)
    for incident in after.open:
        finding = incident.lead.finding
        log.info(
            "open: %s %s %s: %s%s",
            incident.id,
            incident.source,
            finding.rule,
            finding.detail,
            f" (acknowledged by {incident.acknowledged_by})" if incident.acknowledged_by else "",
        )
    for one in after.silences:
        what = one.incident or f"{one.source} {one.scope} {one.subject} {one.rule}"
        log.info("silence: %s of %s until %s by %s: %s", one.id, what, one.until, one.by, one.reason)
    return _counts(after)


def _judged(run: Run, evaluation: Evaluation, inventory: Inventory, dag_id: str) -> dict[str, int]:
    """Keep what a window's look found, and remember it if the window is a recent one."""
    write_table(run.store, "anomaly", run.window, anomaly_rows(evaluation), evaluation.source)
    for finding in evaluation.findings:
        log.info("%s %s %s: %s", finding.severity, finding.rule, finding.subject, finding.detail)
    counts = {"findings": len(evaluation.findings), "unjudged": len(evaluation.unjudged)}
    if not run.dispatches:
        log.info("window %s is long over: the alarm's memory is left alone", run.window.id)
        return counts
    now = datetime.now(UTC)
    ended_in_time(run.store, dag_id, policy_of(run.settings), now)
    return counts | _counts(remember(run, inventory, [(evaluation, now)]))


def _look_back_from(
    run: Run, inventory: Inventory, pieces: Sequence[HotPiece], until: datetime, horizon: timedelta
) -> list[Evaluation]:
    """Look at what was there of `pieces` at the moment `until`, as far back as `horizon`; nothing where none was."""
    since = until - horizon
    from_us, to_us = (moment.timestamp() * 1e6 for moment in (since - timedelta(seconds=HOT_MARGIN_S), until))
    there = [piece for piece in pieces if from_us <= piece.read_at_us < to_us]
    if not there:
        return []
    of_servers = [_look_at_server(run, inventory, server, there, since, until) for server in inventory.log_servers]
    return [_look_at_mesh(run, inventory, there, since, until), *of_servers]


def _keep_opened(run: Run, evaluation: Evaluation, after: AlertState) -> None:
    """Write a row of `anomaly` for each incident that a hot look opened: no window may see it, and nobody be told."""
    window = window_containing(evaluation.at, run.settings.window_s)
    for incident in after.open:
        if (incident.source, incident.opened_at) == (evaluation.source, evaluation.at):
            rows = anomaly_rows(replace(evaluation, findings=(incident.lead.finding,)))
            write_table(run.store, "anomaly", window, rows, f"hot-{incident.id}")


def _look_at_mesh(
    run: Run, inventory: Inventory, pieces: Sequence[HotPiece], since: datetime, now: datetime
) -> Evaluation:
    from pingmesh_tasks.detect.mesh.evaluate import MeshView, evaluate_mesh

    pairs, unheard = hot_data.recent_pairs(pieces, inventory, since, now)
    window = window_containing(now, run.settings.window_s)
    normal = _newest(run.store, "normal", window)
    known = set() if normal is None else set(normal["src"].unique())
    view = MeshView(
        pairs,
        inventory,
        now,
        (now - since).total_seconds(),
        "hot",
        normal=normal,
        status=hot_data.status_rows(unheard, window.start, known),
    )
    return evaluate_mesh(view, read_rules(run.settings, run.store))


def _look_at_server(
    run: Run, inventory: Inventory, server: LogServer, pieces: Sequence[HotPiece], since: datetime, now: datetime
) -> Evaluation:
    from pingmesh_tasks.detect.access.evaluate import AccessView, evaluate_access

    recent = hot_data.recent_access(pieces, server, since, now)
    window = window_containing(now, run.settings.window_s)
    session = _newest(run.store, "session", window, server.name)
    view = AccessView(
        server.name,
        now,
        (now - since).total_seconds(),
        "hot",
        recent.client,
        recent.operation,
        rejected=recent.rejected,
        session=None if session is None else hot_data.present(session, now),
        server_error=recent.errors,
        log_status=recent.status,
        normal=_newest(run.store, "access_normal", window, server.name),
        up=recent.up,
        silent_s=recent.silent_s,
        country_of=_countries(server),
        place=place_of(server, inventory),
    )
    return hot_data.with_gaps(evaluate_access(view, read_rules(run.settings, run.store)), recent)


def _newest(store: ObjectStore, table: str, before: Window, part: str | None = None) -> pl.DataFrame | None:
    """Return a table, or one part of it, of the newest window before `before`; None where there is none."""
    newest = newest_window(store, table, before, part)
    if newest is None:
        return None
    return read_part(store, table, newest, part) if part else read_table(store, table, newest)


def _countries(server: LogServer) -> Any:
    from pingmesh_tasks.access.countries import Countries

    return Countries(server.countries).of


def _incident(form: Mapping[str, Any]) -> str:
    if not form.get("incident"):
        raise ConfigError("which incident? its id is in the message and in the log of the action list")
    return str(form["incident"])


def _counts(memory: AlertState) -> dict[str, int]:
    kinds = Counter(entry.notification.kind for entry in memory.outbox)
    return {"open": len(memory.open), "to_say": kinds.total()}
