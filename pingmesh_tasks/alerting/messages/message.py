"""The message of a notification: plain text, Slack blocks, an e-mail and JSON.

`compose` is pure. Text from hosts and logs is cut, kept to one line and escaped for where it goes.
The templates are in `templates/`; `docs/webhook.schema.json` documents the JSON of the webhook.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pingmesh_tasks import bundled
from pingmesh_tasks.alerting.figures import amount, moment, number, span
from pingmesh_tasks.alerting.incident import Notification
from pingmesh_tasks.alerting.messages import wording
from pingmesh_tasks.alerting.messages.wording import LATE_DATA
from pingmesh_tasks.alerting.outbox import ALARM
from pingmesh_tasks.detect.finding import MESH
from pingmesh_tasks.text import cut, one_line

TEMPLATES = bundled.files("templates", __package__)
#: Name of the heatmap inside an e-mail.
HEATMAP_CID = "heatmap"
WEBHOOK_SCHEMA, WEBHOOK_VERSION = "pingmesh.notice", 1
_MAIL_ROWS, _SLACK_ROWS, _TEXT_ROWS = 20, 6, 10
_SLACK_SECTION, _SLACK_CELL = 2_800, 26


@dataclass(frozen=True, slots=True)
class Links:
    """Links of a message (`links_of`); None where there is no such place.

    Attributes:
        page: The page, at the incident.
        heatmap: The page, at the window of the heatmap.
        object: The key of the heatmap in the bucket.
        admin: The form of the DAG `alert_admin`.
    """

    page: str | None = None
    heatmap: str | None = None
    object: str | None = None
    admin: str | None = None


@dataclass(frozen=True, slots=True)
class MessageTrace:
    """The traced path of one pair in one direction.

    Attributes:
        verdict: One sentence: where loss starts, or why that is not known.
        hops: Rows of plain values (`detect.traces.hops.hop_evidence`).
        after: The last router before the loss.
    """

    src: str
    dst: str
    verdict: str
    hops: Sequence[Mapping[str, Any]] = ()
    after: str | None = None


@dataclass(frozen=True, slots=True)
class AlertMessage:
    """A notification for every channel; `html` shows `heatmap` (PNG) as `cid:heatmap`."""

    id: str
    incident: str
    severity: str
    subject: str
    text: str
    slack_text: str
    slack_blocks: list[dict[str, Any]]
    html: str
    webhook: Mapping[str, Any]
    heatmap: bytes | None = None


def compose(
    notification: Notification,
    links: Links | None = None,
    heatmap: bytes | None = None,
    traces: Sequence[MessageTrace] = (),
) -> AlertMessage:
    """Return the message of a notification; `heatmap` is a PNG."""
    links = links or Links()
    facts = _facts(notification, links, heatmap is not None, traces)
    label, title = facts["label"], facts["title"]
    return AlertMessage(
        id=notification.id,
        incident=notification.incident,
        severity=notification.finding.severity,
        subject=cut(f"[{label}] {title}", 150),
        text=_templates(False).get_template("text.j2").render(facts),
        slack_text=_slack(cut(f"{facts['mark']} {label}: {title}. {facts['detail']}", 600)),
        slack_blocks=json.loads(_templates(False).get_template("slack.json.j2").render(facts)),
        html=_templates(True).get_template("email.html.j2").render(facts),
        webhook=_webhook(notification, links, traces, facts),
        heatmap=heatmap,
    )


def _facts(
    notification: Notification, links: Links, has_heatmap: bool, traces: Sequence[MessageTrace]
) -> dict[str, Any]:
    """Return what the templates speak of: texts of one line, not yet escaped."""
    finding = notification.finding
    tone, mark, label = wording.status(notification)
    over = notification.kind == "resolved" and notification.source != ALARM
    evidence = () if over else finding.evidence
    return {
        "tone": tone,
        "mark": mark,
        "label": label,
        "kind": notification.kind,
        "title": wording.title(notification),
        "detail": ("It was: " if over and finding.detail else "") + one_line(finding.detail, 500),
        "advice": "" if over else one_line(finding.advice, 400),
        "note": one_line(notification.note, 400),
        "facts": _figures(notification),
        "evidence": wording.table(evidence, _MAIL_ROWS),
        "evidence_short": wording.table(evidence, _TEXT_ROWS, 6),
        "evidence_slack": _monospace(wording.table(evidence, _SLACK_ROWS, 5)),
        "evidence_rows": len(evidence),
        "traces": [
            {
                "path": f"{one_line(trace.src, 60)} → {one_line(trace.dst, 60)}",
                "verdict": one_line(trace.verdict, 400),
                "hops": wording.table(trace.hops, 12),
            }
            for trace in traces[:4]
        ],
        "has_heatmap": has_heatmap,
        "cid": HEATMAP_CID,
        "links": links,
        "id": notification.id,
        "incident": notification.incident,
        "own": notification.source == ALARM or over,
        "at": moment(notification.at),
    }


def _figures(notification: Notification) -> list[tuple[str, str]]:
    finding, past = notification.finding, notification.kind == "resolved"
    lasted = span((notification.at - notification.since).total_seconds())
    who = notification.acknowledged_by
    figures = [
        ("Since", f"{moment(notification.since)} ({lasted} {'in all' if past else 'ago'})"),
        ("Where", _place(notification)),
        ("Was" if past else "How bad", wording.how_bad(notification)),
        ("Affected", _affected(notification)),
        ("Confidence", amount(finding.confidence, "ratio") if finding.confidence < 1 else ""),
        ("Part of it", _members(notification)),
        ("Acknowledged", f"by {one_line(who, 100)}" if who else ""),
    ]
    return [(name, value) for name, value in figures if value]


def _affected(notification: Notification) -> str:
    """Return how many pairs suffer; data servers count sessions and lines, which texts name."""
    count = notification.finding.affected
    return f"{number(count)} pairs" if notification.source == MESH and count > 1 else ""


def _place(notification: Notification) -> str:
    if notification.source == ALARM:
        return ""
    if notification.finding.rule == LATE_DATA:
        return f"DAG {one_line(notification.finding.subject, 120)}"
    suspect = wording.suspect(notification.finding)
    return (
        suspect
        if notification.source == MESH
        else f"{suspect}, on data server {one_line(notification.source, 60)}"
    )


def _members(notification: Notification) -> str:
    named = [one_line(member, 80) for member in notification.members[:8]]
    more = len(notification.members) - len(named) + notification.more_members
    return ", ".join([*named, *([f"and {more} more"] if more else [])])


def _webhook(
    notification: Notification,
    links: Links,
    traces: Sequence[MessageTrace],
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    finding = notification.finding
    return {
        "schema": WEBHOOK_SCHEMA,
        "version": WEBHOOK_VERSION,
        "id": notification.id,
        "incident": notification.incident,
        "kind": notification.kind,
        "severity": finding.severity,
        "source": notification.source,
        "rule": finding.rule,
        "scope": finding.scope,
        "subject": finding.subject,
        "title": facts["title"],
        "detail": facts["detail"],
        "note": facts["note"],
        "advice": facts["advice"],
        "at": notification.at.isoformat(),
        "opened_at": notification.opened_at.isoformat(),
        "since": notification.since.isoformat(),
        "value": finding.value,
        "unit": finding.unit,
        "threshold": finding.threshold,
        "normal": finding.normal,
        "confidence": finding.confidence,
        "affected": finding.affected,
        "members": list(notification.members),
        "more_members": notification.more_members,
        "acknowledged_by": notification.acknowledged_by,
        "evidence": [dict(row) for row in finding.evidence],
        "traces": [
            {
                "src": t.src,
                "dst": t.dst,
                "verdict": t.verdict,
                "after": t.after,
                "hops": [dict(hop) for hop in t.hops],
            }
            for t in traces
        ],
        "links": {
            "page": links.page,
            "heatmap": links.heatmap,
            "object": links.object,
            "admin": links.admin,
        },
    }


def _monospace(table: Mapping[str, Any]) -> str:
    """Return a table as lines of equal width, for a code block of Slack."""
    names = [name for name, _ in table["columns"]]
    rows = [[cut(cell, _SLACK_CELL) for cell in row] for row in [names, *table["rows"]]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)] if names else []
    figures = [is_figure for _, is_figure in table["columns"]]
    lines = [
        "  ".join(
            c.rjust(w) if f else c.ljust(w) for c, w, f in zip(row, widths, figures, strict=True)
        ).rstrip()
        for row in rows
    ]
    return "\n".join(lines) if names else ""


def _slack(text: str) -> str:
    """Return text in which nothing acts in mrkdwn: no mention, link or end of a code block."""
    return (
        text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("```", "ˋˋˋ")
    )


def _slack_cut(text: str) -> str:
    return cut(text, _SLACK_SECTION)


@cache
def _templates(html: bool) -> Environment:
    """Return the templates; those of HTML escape everything that they are given."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=html,  # noqa: S701 (plain text and JSON have no HTML to escape; slack.json.j2 escapes its own)
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["zip"] = zip
    environment.filters |= {"slack": _slack, "slack_cut": _slack_cut, "json": _json}
    return environment


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
