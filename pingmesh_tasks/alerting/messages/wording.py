"""The words of a message: titles, labels and tables. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pingmesh_tasks.alerting.figures import UNITS_IN_WORDS, amount, number
from pingmesh_tasks.alerting.incident import INVENTORY, RULES, Notification
from pingmesh_tasks.alerting.suspect import is_storm
from pingmesh_tasks.detect.finding import MESH, Finding
from pingmesh_tasks.text import one_line

#: The rule of a DAG whose run is late; its subject is the DAG.
LATE_DATA = "late_data"
_SCOPES = {
    "mesh": "The mesh",
    "dc": "DC",
    "tier": "Tier",
    "podset": "Podset",
    "tor": "ToR",
    "host": "Host",
    "pair": "Pair",
    "server": "Data server",
    "user": "User",
    "client": "Client",
    "node": "Node",
    "log": "The log of",
}
#: What is wrong with the suspect, by rule, or by rule and scope where that differs.
_FAULTS = {
    "host_down": "does not answer",
    "host_isolated": "reaches nobody",
    "no_data": "sends no data",
    "no_data log": "cannot be read",
    "loss": "loses probes",
    "latency_sla": "is too slow",
    "latency_normal": "is slower than usual",
    "black_hole": "drops all packets of some pairs",
    "port_black_hole": "drops all packets of some ports",
    "silent_loss": "loses packets at random",
    "tor_down": "is down",
    "podset_down": "is down",
    "podset_failure": "is in trouble",
    "spine_failure": "is in trouble",
    "user_rate": "does too many operations",
    "client_rate": "does too many operations",
    "node_rate": "has too many operations",
    "connect_rate": "has too many connections a minute",
    "concurrency": "has too many sessions at once",
    "heavy_reads": "is read too heavily",
    "heavy_reads user": "reads a node too heavily",
    "heavy_reads client": "reads a node too heavily",
    "refused_clients": "refuses clients",
    "new_user": "was never here before",
    "new_client": "was never here before",
    "new_country": "comes from a new country",
    "rejected_lines": "has lines that are none",
    "log_silent": "is silent",
    "no_attribution": "has a load that names nobody",
}
#: The same when it is over; every other rule "is over".
_ENDS = {
    "host_down": "answers again",
    "host_isolated": "reaches others again",
    "no_data": "sends data again",
    "no_data log": "can be read again",
    "loss": "loses no probes any more",
    "latency_sla": "is fast enough again",
    "latency_normal": "is as fast as usual again",
    "tor_down": "is up again",
    "podset_down": "is up again",
    "podset_failure": "is well again",
    "spine_failure": "is well again",
    "user_rate": "does no more than usual now",
    "client_rate": "does no more than usual now",
    "log_silent": "is written again",
}
_MARKS = {"critical": "▲", "warning": "◆", "resolved": "✔"}


def title(notification: Notification) -> str:
    """Return what is wrong in one line: `Host host04 does not answer`; at most 120 characters."""
    finding = notification.finding
    about_itself = _title_of_own(notification)
    if about_itself:
        return about_itself
    scope = _SCOPES[finding.scope]
    suspect_name = scope if finding.scope == "mesh" else f"{scope} {_subject(finding)}"
    if notification.kind == "resolved":
        return _title_of_end(notification, suspect_name)
    rule = _rule_name(finding)
    if is_storm(finding):
        return f"{suspect_name} has {finding.value:.0f} faults at once: {rule}"
    fault = _phrase(_FAULTS, finding)
    return f"{suspect_name} {fault}" if fault else f"{suspect_name}: {rule}"


def _title_of_own(notification: Notification) -> str | None:
    """Return the title of a notification about a channel, the outbox or late data; else None."""
    finding, is_over = notification.finding, notification.kind == "resolved"
    subject = _subject(finding)
    match finding.rule:
        case "channel_failed":
            return f"Channel {subject} {'works again' if is_over else 'does not take messages'}"
        case "channel_off":
            return f"No alarms go to {subject}"
        case "messages_dropped":
            return f"Messages that did not reach every channel: {subject}"
    if finding.rule == LATE_DATA:
        return f"Data of {subject} {'come in time again' if is_over else 'are late'}"
    return None


def _title_of_end(notification: Notification, suspect_name: str) -> str:
    finding, closed_by = notification.finding, notification.closed_by
    rule = _rule_name(finding)
    if closed_by == INVENTORY:
        left = suspect_name
        if notification.source != MESH:
            left = f"{_SCOPES['server']} {one_line(notification.source, 70)}"
        return f"{left} is no longer in the inventory"
    if closed_by == RULES:
        return f"{suspect_name}: {rule} is switched off"
    if closed_by not in (None, "hot", "window"):
        return f"{suspect_name}: {rule} was closed by hand"
    end = _phrase(_ENDS, finding)
    return f"{suspect_name} {end}" if end else f"{suspect_name}: {rule} is over"


def _subject(finding: Finding) -> str:
    is_pair = finding.scope == "pair"
    return one_line(finding.subject.replace(">", " → ") if is_pair else finding.subject, 70)


def _rule_name(finding: Finding) -> str:
    return one_line(finding.rule.replace("_", " "), 40)


def _phrase(phrases: Mapping[str, str], finding: Finding) -> str | None:
    return phrases.get(f"{finding.rule} {finding.scope}") or phrases.get(finding.rule)


def status(notification: Notification) -> tuple[str, str, str]:
    """Return the tone, mark and label of a notification. The label alone tells all of it."""
    if notification.kind == "resolved":
        return "resolved", _MARKS["resolved"], "Resolved"
    severity = notification.finding.severity
    how = {"opened": "", "escalated": ", got worse", "reminder": ", still open"}[notification.kind]
    return severity, _MARKS[severity], f"{severity.capitalize()}{how}"


def suspect(finding: Finding) -> str:
    """Return `ToR dc1/podset1/tor2`."""
    return f"{_SCOPES[finding.scope]} {one_line(finding.subject, 120)}"


def how_bad(notification: Notification) -> str:
    """Return value against limit and normal: `100 % (limit 1 %, normally 0.1 %)`.

    Empty where there is no figure.
    """
    finding = notification.finding
    if not finding.unit:
        return ""
    unit_in_words = (
        finding.unit in UNITS_IN_WORDS
    )  # "1 204 operations/min (limit 600)", but "2 ms (limit 500 µs)"
    beside = (
        [f"limit {amount(finding.threshold, finding.unit if unit_in_words else '')}"]
        if finding.threshold
        else []
    )
    if finding.normal is not None:
        beside.append(f"normally {amount(finding.normal, finding.unit if unit_in_words else '')}")
        if finding.normal > 0 and finding.value / finding.normal >= 2:
            beside.append(f"{number(finding.value / finding.normal)} × normal")
    return amount(finding.value, finding.unit) + (f" ({', '.join(beside)})" if beside else "")


def table(
    rows: Iterable[Mapping[str, Any]], most_rows: int, most_columns: int = 7
) -> dict[str, Any]:
    """Return rows of plain values as `{"columns": [(name, is_number)], "rows": [[text]]}`."""
    rows = list(rows)[:most_rows]
    names = list(dict.fromkeys(name for row in rows for name in row))[:most_columns]
    figures = [
        all(_is_number(row.get(name)) or row.get(name) is None for row in rows) for name in names
    ]
    shown = [one_line(name.removesuffix("_us").replace("_", " "), 30) for name in names]
    return {
        "columns": list(zip(shown, figures, strict=True)),
        "rows": [[_cell(name, row.get(name)) for name in names] for row in rows],
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if _is_number(value):
        ratio = (
            name in ("loss", "share", "ratio")
            or name.startswith(("loss_", "share_"))
            or name.endswith("_share")
        )
        if ratio and 0 <= value <= 1:
            return amount(value, "ratio")
        return amount(value, "us") if name.endswith("_us") else number(value)
    return one_line(str(value), 60)
