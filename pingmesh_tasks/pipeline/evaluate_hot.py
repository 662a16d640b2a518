"""The hot path of the alarm: evaluate what was read of every host and data server in the last `hot_horizon_s` seconds.

    hot/ ──read_recent──▶ pieces ──▶ evaluations of now, and of the times since the last one ──▶ incidents

Catch-up: where evaluations were missed (a task hung, the scheduler was down), the times since are evaluated first, so
that a fault that came and went is notified too. There are many hot evaluations a minute, so only an incident that one
opens is written to `anomaly`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from pingmesh_tasks.alerting.alert_state import AlertState
from pingmesh_tasks.alerting.state_file import AlertFile
from pingmesh_tasks.detect.finding import MESH, Evaluation, anomaly_rows
from pingmesh_tasks.detect.rules import RuleBook
from pingmesh_tasks.pipeline import hot_access, hot_batches, hot_contacts, hot_pairs
from pingmesh_tasks.pipeline.history import newest_table
from pingmesh_tasks.pipeline.incidents import incident_counts, update_incidents
from pingmesh_tasks.pipeline.rulebook import read_rules
from pingmesh_tasks.pipeline.run import Run, load_run_inventory
from pingmesh_tasks.store.hot_batch import HotPiece
from pingmesh_tasks.store.tables import write_table
from pingmesh_tasks.topology.inventory import Inventory, LogServer
from pingmesh_tasks.topology.placement import place_of
from pingmesh_tasks.windows import Window, window_containing

#: Catch-up after missed evaluations: how far back (s) and in what steps (s).
CATCH_UP_S, CATCH_UP_STEP_S = 300.0, 15.0
#: How long (s) catch-up may hold up the evaluation of now; what is left of it is then given up.
CATCH_UP_BUDGET_S = 20.0
#: Batches are put a little after what is in them was read, and chunks are up to ten seconds long.
HOT_MARGIN_S = 15
#: Longest time (s) between two evaluations while an incident is open.
BUSY_HEARTBEAT_S = 10.0


@dataclass(frozen=True)
class _Span:
    """The time [since, until) that is evaluated, and what was read in it."""

    run: Run
    inventory: Inventory
    rules: RuleBook
    since: datetime
    until: datetime
    pieces: Sequence[HotPiece]

    @property
    def seconds(self) -> float:
        return (self.until - self.since).total_seconds()

    @property
    def window(self) -> Window:
        """The window that the end of the span is in: baselines are of earlier ones."""
        return window_containing(self.until, self.run.settings.window_s)


def evaluate_hot(run: Run, now: datetime | None = None) -> dict[str, int]:
    """Evaluate the hot data of the mesh and of every data server, catch-up first; update the incidents.

    Returns how many pieces were read, how many findings there are, and the incidents' counts.
    Raises ConfigError for faults of the rules, InventoryError and StoreError.
    """
    now = now or datetime.now(UTC)
    horizon = timedelta(seconds=run.settings.hot_horizon_s)
    inventory, rules = load_run_inventory(run), read_rules(run.settings, run.store)
    last = AlertFile(run.store).load().last_evaluated.get(f"hot {MESH}")
    times = evaluation_times(last, now, horizon)
    margin = timedelta(seconds=HOT_MARGIN_S)
    pieces, newest_key = hot_batches.read_recent(run.store, times[0] - horizon - margin, now)
    evaluations: list[Evaluation] = []
    began_s = time.monotonic()
    for until in times:
        if until == now or time.monotonic() - began_s < CATCH_UP_BUDGET_S:
            span = _Span(run, inventory, rules, until - horizon, until, _read_within(pieces, until - horizon, until))
            evaluations += _evaluations_of(span)
    state = update_incidents(run, inventory, [(one, one.at) for one in evaluations] or [(None, now)])
    for evaluation in evaluations:
        _keep_opened(run, evaluation, state)
    if newest_key:
        hot_batches.save_cursor(run.store, newest_key, BUSY_HEARTBEAT_S if state.open else None)
    findings = sum(len(evaluation.findings) for evaluation in evaluations)
    return {"pieces": len(pieces), "findings": findings} | incident_counts(state)


def evaluation_times(last: datetime | None, now: datetime, horizon: timedelta) -> list[datetime]:
    """Return the ends of the spans to evaluate, oldest first; the last is `now`.

    Where the `last` evaluation is longer ago than the `horizon` that one covers, every
    `CATCH_UP_STEP_S` since then is among them, `CATCH_UP_S` back at most.
    """
    if last is None or now - last <= horizon:
        return [now]
    steps = int(min((now - last).total_seconds(), CATCH_UP_S) // CATCH_UP_STEP_S)
    return [now - timedelta(seconds=CATCH_UP_STEP_S) * step for step in range(steps, -1, -1)]


def _read_within(pieces: Sequence[HotPiece], since: datetime, until: datetime) -> list[HotPiece]:
    from_us, to_us = (since.timestamp() - HOT_MARGIN_S) * 1e6, until.timestamp() * 1e6
    return [piece for piece in pieces if from_us <= piece.read_at_us < to_us]


def _evaluations_of(span: _Span) -> list[Evaluation]:
    """Return the evaluations of one span; none where nothing was read: no tailing is not "all clear"."""
    if not span.pieces:
        return []
    return [_evaluate_mesh(span), *(_evaluate_server(span, server) for server in span.inventory.log_servers)]


def _evaluate_mesh(span: _Span) -> Evaluation:
    from pingmesh_tasks.detect.mesh.evaluate import MeshView, evaluate_mesh

    pairs, silent = hot_pairs.recent_pairs(span.pieces, span.inventory, span.since, span.until)
    baseline = newest_table(span.run.store, "normal", span.window)
    known = set() if baseline is None else set(baseline["src"].unique())
    view = MeshView(
        pairs,
        span.inventory,
        span.until,
        span.seconds,
        "hot",
        normal=baseline,
        status=hot_contacts.status_rows(silent, span.window.start, known),
    )
    return evaluate_mesh(view, span.rules)


def _evaluate_server(span: _Span, server: LogServer) -> Evaluation:
    from pingmesh_tasks.access.countries import Countries
    from pingmesh_tasks.detect.access.evaluate import AccessView, evaluate_access

    store = span.run.store
    recent = hot_access.recent_access(span.pieces, server, span.since, span.until)
    session = newest_table(store, "session", span.window, server.name)
    view = AccessView(
        server.name,
        span.until,
        span.seconds,
        "hot",
        recent.client,
        recent.operation,
        rejected=recent.rejected,
        session=None if session is None else hot_access.current_sessions(session, span.until),
        server_error=recent.errors,
        log_status=recent.status,
        normal=newest_table(store, "access_normal", span.window, server.name),
        up=recent.up,
        silent_s=recent.silent_s,
        country_of=Countries(server.countries).of,
        place=place_of(server, span.inventory),
    )
    return hot_access.mark_gaps(evaluate_access(view, span.rules), recent)


def _keep_opened(run: Run, evaluation: Evaluation, state: AlertState) -> None:
    """Write a row of `anomaly` for each incident that a hot evaluation opened: it may be over before its window is."""
    window = window_containing(evaluation.at, run.settings.window_s)
    for incident in state.open:
        if (incident.source, incident.opened_at) == (evaluation.source, evaluation.at):
            rows = anomaly_rows(replace(evaluation, findings=(incident.lead.finding,)))
            write_table(run.store, "anomaly", window, rows, f"hot-{incident.id}")
