"""The run that the golden test records: batch stages, alarm and page over `tests.golden.mesh`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.plan_pinglists import fleet
from pingmesh_tasks.access.errors_log import parse_errors_log
from pingmesh_tasks.access.grammar import parse_access_log
from pingmesh_tasks.access.sessions import pair_sessions
from pingmesh_tasks.alerting import AlertState
from pingmesh_tasks.alerting.incident import Notification
from pingmesh_tasks.alerting.messages.links import links_of
from pingmesh_tasks.alerting.messages.mail import build_mail
from pingmesh_tasks.alerting.messages.message import AlertMessage, compose
from pingmesh_tasks.alerting.notification_table import notification_rows
from pingmesh_tasks.detect.access.evaluate import AccessView, evaluate_access
from pingmesh_tasks.detect.finding import MESH, Evaluation, Finding
from pingmesh_tasks.detect.mesh.evaluate import MeshView, evaluate_mesh
from pingmesh_tasks.fleet.connect import SshAccess
from pingmesh_tasks.latency.segment import decode_segment
from pingmesh_tasks.matrix.groups import KINDS
from pingmesh_tasks.pipeline import access_logs as access_stages
from pingmesh_tasks.pipeline import evaluate_windows, incidents, pictures, rollups, usage_pictures
from pingmesh_tasks.pipeline import mesh as mesh_stages
from pingmesh_tasks.pipeline.mesh_matrix import build_mesh_map
from pingmesh_tasks.pipeline.plan import plan_window
from pingmesh_tasks.pipeline.run import Run, load_run_inventory
from pingmesh_tasks.queries import group_series, pairs, table_lists, worst
from pingmesh_tasks.queries.page import Page
from pingmesh_tasks.settings import load_settings
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.schemas import HOST_STATUS, LOG_STATUS
from pingmesh_tasks.store.tables import read_part, read_table, write_table
from pingmesh_tasks.topology.inventory import load_inventory
from pingmesh_tasks.topology.pinglist import (
    plan_document,
    plan_pinglists,
    plan_version,
    planned_pairs,
)
from pingmesh_tasks.windows import Window, window_containing
from tests.golden import mesh
from tests.golden.recording import Recording, canonical
from tests.support import notices
from tests.support.memory_store import MemoryObjects

REPO = Path(__file__).parents[2]
SAMPLES = REPO / "tests" / "samples" / "mdsplus"
OBJECTS, FINDINGS, PAGE = "objects.json", "findings.json", "page.json"
UI_URL = "http://localhost:8080"
#: The mesh windows of which every object and picture is recorded: a healthy one, and a faulty one.
RECORDED = (mesh.WINDOWS[5], mesh.WINDOWS[9])


def run_all(folder: Path) -> Recording:
    """Run everything and return what it gives. `folder` holds the inventory."""
    recording = Recording()
    run = _new_run(folder)
    looks = _mesh_windows(run, recording)
    looks += _access_windows(run, recording)
    _incidents(run, recording, looks)
    _draw(run)
    rollups.roll_up(replace(run, window=mesh.HOUR), "hour")
    _objects(run, recording)
    _page(run, recording)
    _fixed_messages(recording)
    _samples(recording)
    _pinglists(recording)
    recording.text("layout.txt", "\n".join(_layout_keys()))
    return recording


def _new_run(folder: Path) -> Run:
    inventory = mesh.write_inventory(folder / "inventory.yaml")
    settings = load_settings(
        {
            "PINGMESH_INVENTORY": str(inventory),
            "PINGMESH_SHARD_SIZE": "16",
            "PINGMESH_LATENCY_SLOW_US": "500",
        }
    )
    ssh = SshAccess("nobody", folder / "known_hosts")
    return Run(mesh.WINDOWS[0], settings, MemoryObjects(), ssh, dispatches=False)


# ---------------------------------------------------------------- the mesh


def _mesh_windows(run: Run, recording: Recording) -> list[tuple[Evaluation, datetime]]:
    looks = []
    inventory = load_run_inventory(run)
    lists = plan_pinglists(inventory, run.policy)
    for number, window in enumerate(mesh.WINDOWS):
        here = replace(run, window=window)
        parts = plan_window(here)
        segments = mesh.segments_of(number, inventory, lists)
        for name, data in segments:
            if window in RECORDED:
                recording.hashed("segments.json", f"{window.id} {name}", decode_segment(data))
            run.store.put(layout.raw_probe(window, name), data)
        if number == 9:
            cut = layout.raw_probe(window, segments[0][0])
            run.store.put(cut, run.store.get(cut)[:-100])
        _write_status(here, {name for name, _ in segments})
        for part in parts:
            mesh_stages.build_probe_table(here, part)
            mesh_stages.summarize_latency(here, part)
        build_mesh_map(here, parts[0])
        before = mesh.WINDOWS[number - 1] if number else None
        view = MeshView(
            read_table(run.store, "pair_latency", window),
            inventory,
            window.end,
            window.length_s,
            normal=read_table(run.store, "normal", before) if before else None,
            status=read_table(run.store, "host_status", window).filter(stage="collect"),
        )
        evaluation = evaluate_mesh(view)
        evaluate_windows.evaluate_mesh_window(here, parts[0])
        _findings(recording, f"mesh {window.id}", evaluation)
        looks.append((evaluation, window.end))
    return looks


def _write_status(run: Run, alive: set[str]) -> None:
    names = [host.name for host in load_run_inventory(run).hosts]
    rows = [
        {
            "window": run.window.start,
            "host": name,
            "stage": "collect",
            "outcome": "ok" if name in alive else "unreachable",
            "detail": "" if name in alive else "no answer within 30 s",
        }
        for name in names
    ]
    columns = pl.DataFrame(rows, schema_overrides={"window": HOST_STATUS["window"]})
    missing = [
        pl.lit(None, kind).alias(name) for name, kind in HOST_STATUS.items() if name not in columns
    ]
    frame = columns.with_columns(missing).select(list(HOST_STATUS))
    write_table(run.store, "host_status", run.window, frame, f"collect-{layout.shard(0, 2)}")


def _findings(recording: Recording, look: str, evaluation: Evaluation) -> None:
    for finding in evaluation.findings:
        fields = {name: getattr(finding, name) for name in Finding.__dataclass_fields__}
        name = f"{look} {finding.rule} {finding.scope} {finding.subject}"
        recording.hashed(FINDINGS, f"{name} evidence", fields.pop("evidence"))
        recording.value(FINDINGS, name, fields)
    not_judged = {" ".join(subject): why for subject, why in evaluation.unjudged.items()}
    recording.value(FINDINGS, f"{look} unjudged", not_judged)
    recording.hashed(FINDINGS, f"{look} judged", sorted(evaluation.judged))


# ---------------------------------------------------------------- the access log


def _access_windows(run: Run, recording: Recording) -> list[tuple[Evaluation, datetime]]:
    looks = []
    name = mesh.SERVER
    for window, logs in zip(mesh.WINDOWS, mesh.logs_of_server(), strict=False):
        here = replace(run, window=window)
        rows = []
        for kind, lines in logs.items():
            run.store.put(
                layout.raw_log(kind, name, window), mesh.raw_log_object(kind, window, lines)
            )
            row = {"window": window.start, "server": name, "kind": kind, "outcome": "grown"}
            rows.append(
                row | {"detail": "", "new_bytes": len(lines), "backlog_bytes": 0, "lost_bytes": 0}
            )
        write_table(run.store, "log_status", window, pl.DataFrame(rows, schema=LOG_STATUS), name)
        access_stages.build_access_tables(here, name)
        access_stages.pair_sessions(here, name)
        access_stages.summarize_usage(here, name)
        if window == mesh.WINDOWS[mesh.ACCESS_WINDOWS - 1]:
            usage_pictures.draw_usage(here)
        view = AccessView(
            name,
            window.end,
            window.length_s,
            "window",
            read_part(run.store, "client", window, name),
            read_part(run.store, "operation", window, name),
            rejected=pl.read_ndjson(
                run.store.get(layout.quarantined_lines("access", window, name))
            ),
            session=read_part(run.store, "session", window, name),
            server_error=read_part(run.store, "server_error", window, name),
            log_status=read_part(run.store, "log_status", window, name),
        )
        evaluation = evaluate_access(view)
        evaluate_windows.evaluate_access_window(here, name)
        _findings(recording, f"access {window.id}", evaluation)
        looks.append((evaluation, window.end + timedelta(seconds=10)))
    return looks


def _samples(recording: Recording) -> None:
    """Record what the logs of real data servers give."""
    window = mesh.WINDOWS[0]
    for path in sorted(SAMPLES.glob("*.log")):
        if path.name.startswith("access"):
            read = parse_access_log(path, server=mesh.SERVER, timezone="UTC")
            for table in ("client", "operation", "rejected"):
                recording.hashed("samples.json", f"{path.name} {table}", getattr(read, table))
            dates = pl.concat([read.client["link_time"], read.operation["link_time"]])
            if len(dates):
                day = window_containing(dates.min(), 86_400)
                paired = pair_sessions(read.client, None, day, operation=read.operation)
                recording.hashed("samples.json", f"{path.name} session", paired.table)
        else:
            errors = parse_errors_log(
                path,
                server=mesh.SERVER,
                window=window,
                collected_from=None,
                collected_until=window.end,
            )
            recording.hashed("samples.json", f"{path.name} server_error", errors.table)


# ---------------------------------------------------------------- incidents and messages


def _incidents(run: Run, recording: Recording, looks: list[tuple[Evaluation, datetime]]) -> None:
    """Follow the incidents, look by look, and compose the message of each new notice."""
    inventory = load_run_inventory(run)
    seen: set[str] = set()
    told: list[Notification] = []
    for evaluation, at in sorted(looks, key=lambda look: look[1]):
        after = incidents.update_incidents(run, inventory, [(evaluation, at)])
        told += [entry.notification for entry in after.outbox if entry.notification.id not in seen]
        seen |= {entry.notification.id for entry in after.outbox}
        recording.value(
            "incidents.json", f"{at:%H:%M:%S} {evaluation.source}", _open_incidents(after)
        )
    recording.hashed(OBJECTS, "notice rows", notification_rows(told))
    heatmap = layout.artifact("heatmap", mesh.WINDOWS[8], "png")
    for number, notice in enumerate(told):
        message = compose(notice, links_of(notice, UI_URL, heatmap))
        name = f"{number:02d}-{notice.kind}-{notice.finding.rule}-{notice.source}"
        is_first = number in _first_of_each_kind(told)
        _message(recording, name, message, whole=is_first, html=is_first and notice.source == MESH)


def _first_of_each_kind(told: list[Notification]) -> set[int]:
    """Return the positions of the first notice of each kind, of the mesh and of data servers."""
    first: dict[tuple[str, bool], int] = {}
    for number, notice in enumerate(told):
        first.setdefault((notice.kind, notice.source == MESH), number)
    return set(first.values())


def _open_incidents(state: AlertState) -> list[Any]:
    return [
        {
            "id": one.id,
            "lead": [one.lead.finding.rule, one.lead.finding.subject],
            "others": len(one.others),
        }
        for one in state.open
    ]


def _fixed_messages(recording: Recording) -> None:
    """Record messages of notices written by hand: with a trace, a picture, and hostile names."""
    cases = {
        "flood": compose(notices.notice(finding=notices.FLOOD, source="data1"), notices.LINKS),
        "escalated": compose(notices.ESCALATED, notices.LINKS, b"PNG", [notices.TRACE]),
        "reminder": compose(notices.notice("reminder", acknowledged_by="ann"), notices.LINKS),
        "hostile": compose(notices.EVIL, notices.LINKS, b"PNG", [notices.TRACE]),
        "no-links": compose(notices.RESOLVED),
    }
    for name, message in cases.items():
        _message(recording, f"fixed-{name}", message)


def _message(
    recording: Recording,
    name: str,
    message: AlertMessage,
    *,
    whole: bool = False,
    html: bool = False,
) -> None:
    """Record subject and text of a message, and the other forms as text or as hashes.

    Args:
        whole: Whether Slack blocks, webhook and mail headers are text too.
        html: Whether the HTML is text too, beside its hash.
    """
    mail = build_mail(message, "pm@example.org", ["a@example.org"])
    headers = "\n".join(
        f"{key}: {value}" for key, value in mail.items() if key not in ("Date", "Content-Type")
    )
    parts = {
        "mail headers": headers,
        "slack text": message.slack_text,
        "slack blocks": canonical(message.slack_blocks, 1),
        "webhook": canonical(message.webhook, 1),
    }
    recording.hashed("messages.json", f"{name} html", message.html.encode())
    lines = [message.subject, "", message.text]
    for part, text in parts.items():
        if whole:
            lines += ["", f"=== {part}", text]
        else:
            recording.hashed("messages.json", f"{name} {part}", text.encode())
    recording.text(f"messages/{name}.txt", "\n".join(lines))
    if html:
        recording.text(f"messages/{name}.html.txt", message.html)


# ---------------------------------------------------------------- pictures, objects, page


def _draw(run: Run) -> None:
    for window in RECORDED:
        here = replace(run, window=window)
        part = plan_window(here)[0]
        for kind in pictures.EXTENSIONS:
            pictures.draw(kind, here, part)


def _objects(run: Run, recording: Recording) -> None:
    """Record every object of the store; of windows that are not RECORDED, the number of objects.

    The first windows are complete too: the data server has its logs there.
    """
    ids = {window.id for window in (*RECORDED, mesh.HOUR, *mesh.WINDOWS[: mesh.ACCESS_WINDOWS])}
    other: dict[str, int] = {}
    for key in run.store.keys(""):
        window_id = next((part[:16] for part in key.split("/") if part[8:9] == "T"), None)
        if window_id is None or (window_id in ids and not key.startswith("raw/probe/")):
            recording.stored_object(OBJECTS, key, run.store.get(key))
        else:
            kind = "/".join(key.split("/")[:2])
            other[kind] = other.get(kind, 0) + 1
    recording.value(OBJECTS, "number of other objects by kind", other)
    for window in mesh.WINDOWS:
        for table in ("pair_latency", "normal", "anomaly"):
            recording.hashed(
                "windows.json", f"{table} {window.id}", read_table(run.store, table, window)
            )


def _page(run: Run, recording: Recording) -> None:
    page = Page(run.store, run.settings)
    for name, answer in _answers(page, run):
        if isinstance(answer, dict) and len(canonical(answer)) < 600:
            recording.value(PAGE, name, answer)
        else:
            recording.hashed(PAGE, name, answer)


def _answers(page: Page, run: Run) -> Iterator[tuple[str, Any]]:
    at, hour = page.window(mesh.WINDOWS[9].id), page.window(mesh.HOUR.id, "hour")
    span = (mesh.HOUR.start, mesh.HOUR.end)
    src, dst = mesh.LOSSY
    plan = str(page.identity(at)["plan"])
    yield "axis", page.axis(plan).document()
    yield "windows", [one["id"] for one in page.windows(*span, 100, "window")["windows"]]
    for metric in ("p50", "loss", "change"):
        yield f"matrix {metric}", page.matrix(at, metric, 0, "max")
        yield f"matrix {metric} pooled", page.matrix(at, metric, 1, "mean")
        yield f"worst {metric}", worst.worst(page, at, metric, 5, None, None)
    yield "matrix p99 of the hour", page.matrix(hour, "p99", 0, "max")
    yield "pair", pairs.pair(page, at, src, dst)
    yield "pair of the hour", pairs.pair(page, hour, src, dst)
    yield "pair series", pairs.pair_series(page, src, dst, *span, 96)
    for kind in KINDS:
        yield f"groups {kind}", group_series.groups(page, at, kind)
    yield "series mesh", group_series.series(page, "mesh", None, None, *span, 96)
    yield "series host", group_series.series(page, "host", src, None, *span, 96)
    yield "cdf mesh", group_series.cdf(page, at, "mesh", None, None)
    yield "cdf dc", group_series.cdf(page, at, "dc", "dc1", "dc2")
    yield "anomalies", table_lists.anomalies(page, *span, 100, {})
    yield "fleet", table_lists.fleet(page, mesh.WINDOWS[9].id)
    for window in mesh.WINDOWS[: mesh.ACCESS_WINDOWS]:
        yield f"usage {window.id}", table_lists.usage(page, window.id)
        yield f"sessions {window.id}", table_lists.sessions(page, window.id, 50)
        yield f"logs {window.id}", table_lists.logs(page, window.id)
    yield "incidents", table_lists.incidents(page, "all")


# ---------------------------------------------------------------- plans and keys


def _pinglists(recording: Recording) -> None:
    inventories = {
        path.name: load_inventory(str(path))
        for path in sorted((REPO / "include/inventories").glob("*.*"))
    }
    inventories["60 hosts"] = fleet(60, per_tor=4, tors_per_podset=3, podsets_per_dc=2)
    for name, inventory in inventories.items():
        lists = plan_pinglists(inventory)
        summary = {
            "hosts": len(lists),
            "targets": sum(len(plan.targets) for plan in lists.values()),
            "version": plan_version(inventory),
        }
        recording.value("pinglists.json", name, summary)
        recording.hashed("pinglists.json", f"{name} plan document", plan_document(inventory))
        documents = {host: json.loads(plan.document()) for host, plan in lists.items()}
        recording.hashed("pinglists.json", f"{name} documents", documents)
        recording.hashed("pinglists.json", f"{name} pairs", planned_pairs(lists))


def _layout_keys() -> Iterator[str]:
    window = Window.parse("20261121T220500Z", 300)
    day = window.start
    shard = layout.shard(1, 3)
    keys = [
        layout.plan("0123456789abcdef"),
        layout.raw_probe_prefix(window),
        layout.raw_probe(window, "db-1"),
        layout.table_prefix("probe", window),
        layout.table("probe", window),
        layout.table("probe", window, shard),
        layout.table_day_prefix("probe", day),
        layout.at_level("pair_latency", "window"),
        layout.at_level("pair_latency", "hour"),
        layout.at_level("pair_latency", "day"),
        layout.quarantined_segment(window, "db-1"),
        layout.raw_log_prefix("access", "east"),
        layout.raw_log_prefix("access", "east", day),
        layout.raw_log("access", "east", window),
        layout.raw_log("errors", "east", window),
        layout.cursor("east", "access"),
        layout.alert_state(),
        layout.alert_traces(),
        layout.quarantined_lines("access", window, "east"),
        layout.artifact("heatmap", window, "png"),
        layout.artifact_day_prefix("heatmap", day),
        layout.latest_artifact("heatmap", "png"),
        layout.hot_batch(1_795_298_700_123, "0a1b2c3d", 7, notable=True),
        layout.hot_batch(1_795_298_700_123, "0a1b2c3d", 1_000_008, notable=False),
        layout.hot_since(1_795_298_700_123),
        layout.hot_cursor(),
    ]
    for key in keys:
        facts = layout.facts(key)
        shown = canonical(asdict(facts)) if facts else "-"
        yield f"{key}  {layout.shard_of(key) or '-'}  {shown}"
    yield " ".join(layout.AGING)
