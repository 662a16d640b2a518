"""What an alert says: one notice, told in plain text, Slack blocks, an e-mail and JSON.

`compose` is pure. Text from hosts and logs is cut, kept to one line and escaped for where it goes. One template file
each in `templates/`; the JSON of the webhook is documented by `docs/webhook.schema.json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pingmesh_tasks import bundled
from pingmesh_tasks.alerting.incident import Notice
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
    """Where a reader can go on; None: there is no such place (`links_of`).

    `page` shows the incident, `heatmap` the map at the window of the heatmap, whose key in the bucket is `object`.
    """

    page: str | None = None
    heatmap: str | None = None
    object: str | None = None
    admin: str | None = None


@dataclass(frozen=True, slots=True)
class Trace:
    """The path of one pair in one direction. `verdict` is one sentence: where loss starts, or why it cannot be said.

    `hops` are rows of plain values (`detect.traces.hops.hop_evidence`), `after` the last router before the loss.
    """

    src: str
    dst: str
    verdict: str
    hops: Sequence[Mapping[str, Any]] = ()
    after: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """A notice ready for every channel. `heatmap` is the PNG that `html` shows as `cid:heatmap`."""

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
    notice: Notice, links: Links | None = None, heatmap: bytes | None = None, traces: Sequence[Trace] = ()
) -> Message:
    """Return the message of a notice. `heatmap` is a PNG; `traces` what the trace on anomaly found."""
    links = links or Links()
    facts = _facts(notice, links, heatmap is not None, traces)
    label, title = facts["label"], facts["title"]
    return Message(
        id=notice.id,
        incident=notice.incident,
        severity=notice.finding.severity,
        subject=cut(f"[{label}] {title}", 150),
        text=_templates(False).get_template("text.j2").render(facts),
        slack_text=_slack(cut(f"{facts['mark']} {label}: {title}. {facts['detail']}", 600)),
        slack_blocks=json.loads(_templates(False).get_template("slack.json.j2").render(facts)),
        html=_templates(True).get_template("email.html.j2").render(facts),
        webhook=_webhook(notice, links, traces, facts),
        heatmap=heatmap,
    )


def _facts(notice: Notice, links: Links, has_heatmap: bool, traces: Sequence[Trace]) -> dict[str, Any]:
    """Return what the templates speak of: texts of one line, not yet escaped."""
    finding = notice.finding
    tone, mark, label = wording.status(notice)
    over = notice.kind == "resolved" and notice.source != ALARM
    evidence = () if over else finding.evidence
    return {
        "tone": tone,
        "mark": mark,
        "label": label,
        "kind": notice.kind,
        "title": wording.title(notice),
        "detail": ("It was: " if over and finding.detail else "") + one_line(finding.detail, 500),
        "advice": "" if over else one_line(finding.advice, 400),
        "note": one_line(notice.note, 400),
        "facts": _figures(notice),
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
        "id": notice.id,
        "incident": notice.incident,
        "own": notice.source == ALARM or over,
        "at": wording.moment(notice.at),
    }


def _figures(notice: Notice) -> list[tuple[str, str]]:
    finding, past = notice.finding, notice.kind == "resolved"
    lasted = wording.span((notice.at - notice.since).total_seconds())
    figures = [
        ("Since", f"{wording.moment(notice.since)} ({lasted} {'in all' if past else 'ago'})"),
        ("Where", _place(notice)),
        ("Was" if past else "How bad", wording.how_bad(notice)),
        (
            "Affected",
            f"{wording.number(finding.affected)} pairs" if notice.source == MESH and finding.affected > 1 else "",
        ),
        ("Confidence", wording.amount(finding.confidence, "ratio") if finding.confidence < 1 else ""),
        ("Part of it", _members(notice)),
        ("Acknowledged", f"by {one_line(notice.acknowledged_by, 100)}" if notice.acknowledged_by else ""),
    ]
    return [(name, value) for name, value in figures if value]


def _place(notice: Notice) -> str:
    if notice.source == ALARM:
        return ""
    if notice.finding.rule == LATE_DATA:
        return f"DAG {one_line(notice.finding.subject, 120)}"
    suspect = wording.suspect(notice.finding)
    return suspect if notice.source == MESH else f"{suspect}, on data server {one_line(notice.source, 60)}"


def _members(notice: Notice) -> str:
    named = [one_line(member, 80) for member in notice.members[:8]]
    more = len(notice.members) - len(named) + notice.more_members
    return ", ".join([*named, *([f"and {more} more"] if more else [])])


def _webhook(notice: Notice, links: Links, traces: Sequence[Trace], facts: Mapping[str, Any]) -> dict[str, Any]:
    finding = notice.finding
    return {
        "schema": WEBHOOK_SCHEMA,
        "version": WEBHOOK_VERSION,
        "id": notice.id,
        "incident": notice.incident,
        "kind": notice.kind,
        "severity": finding.severity,
        "source": notice.source,
        "rule": finding.rule,
        "scope": finding.scope,
        "subject": finding.subject,
        "title": facts["title"],
        "detail": facts["detail"],
        "note": facts["note"],
        "advice": facts["advice"],
        "at": notice.at.isoformat(),
        "opened_at": notice.opened_at.isoformat(),
        "since": notice.since.isoformat(),
        "value": finding.value,
        "unit": finding.unit,
        "threshold": finding.threshold,
        "normal": finding.normal,
        "confidence": finding.confidence,
        "affected": finding.affected,
        "members": list(notice.members),
        "more_members": notice.more_members,
        "acknowledged_by": notice.acknowledged_by,
        "evidence": [dict(row) for row in finding.evidence],
        "traces": [
            {"src": t.src, "dst": t.dst, "verdict": t.verdict, "after": t.after, "hops": [dict(hop) for hop in t.hops]}
            for t in traces
        ],
        "links": {"page": links.page, "heatmap": links.heatmap, "object": links.object, "admin": links.admin},
    }


def _monospace(table: Mapping[str, Any]) -> str:
    """Return a table as lines of equal width, for a code block of Slack."""
    names = [name for name, _ in table["columns"]]
    rows = [[cut(cell, _SLACK_CELL) for cell in row] for row in [names, *table["rows"]]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)] if names else []
    figures = [is_figure for _, is_figure in table["columns"]]
    lines = [
        "  ".join(c.rjust(w) if f else c.ljust(w) for c, w, f in zip(row, widths, figures, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join(lines) if names else ""


def _slack(text: str) -> str:
    """Return text in which nothing acts in Slack's mrkdwn: no mention, no link, no end of a code block."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("```", "ˋˋˋ")


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
