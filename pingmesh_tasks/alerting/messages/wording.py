"""The words and figures of a message: titles, amounts with their units, times, and text made safe for one line."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from pingmesh_tasks.alerting.incident import INVENTORY, RULES, Notice
from pingmesh_tasks.alerting.inhibition import is_storm
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
#: What is wrong with the suspect, as the end of a sentence; of one scope where a rule says it differently there.
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
_RATIOS, _MICROSECONDS, _SECONDS = ("ratio", "share", "loss"), ("us", "µs", "rtt_us"), ("s", "seconds")
_UNITS_IN_WORDS = (*_RATIOS, *_MICROSECONDS, *_SECONDS)
_MARKS = {"critical": "▲", "warning": "◆", "resolved": "✔"}


def title(notice: Notice) -> str:
    """Return what is wrong in one line: `Host host04 does not answer`. Safe for one line, at most 120 characters."""
    finding = notice.finding
    subject = one_line(finding.subject.replace(">", " → ") if finding.scope == "pair" else finding.subject, 70)
    if finding.rule == "channel_failed":
        return f"Channel {subject} {'works again' if notice.kind == 'resolved' else 'does not take messages'}"
    if finding.rule == "channel_off":
        return f"No alarms go to {subject}"
    if finding.rule == "messages_dropped":
        return f"Messages that did not reach every channel: {subject}"
    if finding.rule == LATE_DATA:
        return f"Data of {subject} {'come in time again' if notice.kind == 'resolved' else 'are late'}"
    who = _SCOPES[finding.scope] if finding.scope == "mesh" else f"{_SCOPES[finding.scope]} {subject}"
    rule = one_line(finding.rule.replace("_", " "), 40)
    if notice.kind == "resolved":
        if notice.closed_by == INVENTORY:
            left = who if notice.source == MESH else f"{_SCOPES['server']} {one_line(notice.source, 70)}"
            return f"{left} is no longer in the inventory"
        if notice.closed_by == RULES:
            return f"{who}: {rule} is switched off"
        if notice.closed_by not in (None, "hot", "window"):
            return f"{who}: {rule} was closed by hand"
        return f"{who} {end}" if (end := _said(_ENDS, finding)) else f"{who}: {rule} is over"
    if is_storm(finding):
        return f"{who} has {finding.value:.0f} faults at once: {rule}"
    return f"{who} {fault}" if (fault := _said(_FAULTS, finding)) else f"{who}: {rule}"


def _said(words: Mapping[str, str], finding: Finding) -> str | None:
    return words.get(f"{finding.rule} {finding.scope}") or words.get(finding.rule)


def status(notice: Notice) -> tuple[str, str, str]:
    """Return (tone, mark, label): how a notice is coloured, marked and called. The label alone says it all."""
    if notice.kind == "resolved":
        return "resolved", _MARKS["resolved"], "Resolved"
    severity = notice.finding.severity
    how = {"opened": "", "escalated": ", got worse", "reminder": ", still open"}[notice.kind]
    return severity, _MARKS[severity], f"{severity.capitalize()}{how}"


def suspect(finding: Finding) -> str:
    """Return `ToR dc1/podset1/tor2`."""
    return f"{_SCOPES[finding.scope]} {one_line(finding.subject, 120)}"


def how_bad(notice: Notice) -> str:
    """Return value against limit and normal: `100 % (limit 1 %, normally 0.1 %)`; empty where there is no figure."""
    finding = notice.finding
    if not finding.unit:
        return ""
    said_once = finding.unit in _UNITS_IN_WORDS  # "1 204 operations/min (limit 600)", but "2 ms (limit 500 µs)"
    beside = [f"limit {amount(finding.threshold, finding.unit if said_once else '')}"] if finding.threshold else []
    if finding.normal is not None:
        beside.append(f"normally {amount(finding.normal, finding.unit if said_once else '')}")
        if finding.normal > 0 and finding.value / finding.normal >= 2:
            beside.append(f"{number(finding.value / finding.normal)} × normal")
    return amount(finding.value, finding.unit) + (f" ({', '.join(beside)})" if beside else "")


def amount(value: float, unit: str) -> str:
    """Return a value in words: a ratio in percent, µs as µs, ms or s, seconds as a span, anything else as it is."""
    if unit in _RATIOS:
        return f"{number(100 * value)} %"
    if unit in _MICROSECONDS:
        for limit, name, size in ((999.5, "µs", 1.0), (999_500.0, "ms", 1e3), (math.inf, "s", 1e6)):
            if value < limit:
                return f"{number(value / size)} {name}"
    if unit in _SECONDS:
        return span(value)
    return f"{number(value)} {one_line(unit, 40)}".strip()


def number(value: float) -> str:
    """Return three significant digits at most, thousands apart: `0.31`, `12.5`, `1 204`."""
    if not math.isfinite(value):
        return "–"
    if abs(value) >= 100:
        return f"{value:,.0f}".replace(",", "\u202f")
    text = f"{value:.1f}" if abs(value) >= 9.995 else f"{value:.2f}"
    text = text.rstrip("0").rstrip(".")
    return text if text not in ("0", "-0") or value == 0 else f"{value:.1g}"


def moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def span(seconds: float) -> str:
    """Return `40 s`, `12 min`, `3 h 5 min`, `2 d 4 h`."""
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    if minutes < 2:
        return f"{number(seconds)} s" if seconds < 10 else f"{int(seconds)} s"
    if hours < 2:
        return f"{minutes} min"
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def table(rows: Iterable[Mapping[str, Any]], most_rows: int, most_columns: int = 7) -> dict[str, Any]:
    """Return `{"columns": [(name, is_number)], "rows": [[text]]}` of rows of plain values, as a reader wants them."""
    rows = list(rows)[:most_rows]
    names = list(dict.fromkeys(name for row in rows for name in row))[:most_columns]
    figures = [all(_is_number(row.get(name)) or row.get(name) is None for row in rows) for name in names]
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
        ratio = name in ("loss", "share", "ratio") or name.startswith(("loss_", "share_")) or name.endswith("_share")
        if ratio and 0 <= value <= 1:
            return amount(value, "ratio")
        return amount(value, "us") if name.endswith("_us") else number(value)
    return one_line(str(value), 60)
