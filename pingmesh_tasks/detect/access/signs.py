"""Signs of trouble at a data server that are not a matter of load: refusals, strangers, odd lines, silence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from pingmesh_tasks.detect.access.view import AccessView, CountryOf, PreparedLog
from pingmesh_tasks.detect.finding import Scope
from pingmesh_tasks.text import one_line

MAX_ROWS = 5
#: Outcomes of collecting a log that say that there is no log to read, and that it was read and nothing new was there.
NO_LOG, QUIET = {"missing", "unreadable"}, {"quiet"}
#: All outcomes of a data server that was reached; any other says why it was not (`fleet.connect`).
REACHED = NO_LOG | QUIET | {"first", "grown", "rotated", "truncated", "replaced", "adopted", "late"}
#: What stands for a country where there is none (`access.countries`).
NO_COUNTRY = ("local", "unknown")


def refused_clients(log: PreparedLog) -> None:
    """Logins that the server's hosts file turns away, of one user name or in all. The errors log has no dates."""
    rule, errors, server = "refused_clients", log.view.server_error, log.view.server
    if errors is None:
        return
    log.judged.add(rule)
    denied = errors.filter(pl.col("kind") == "denied")
    counts = denied.group_by(pl.col("user").fill_null("")).len("count").sort("count", "user", descending=[True, False])
    minutes, tried = _minutes(log), _addresses_of_refused(log)
    left, left_users = 0, []
    for user, count in counts.iter_rows():
        limit = log.limit(rule, "user_per_min", user=user)
        least = log.limit(rule, "least", user=user)
        if count < least or count / minutes < limit or not log.rules.is_on(rule, server=server, user=user):
            left += count
            left_users.append({"user": user, "refused": count})
            continue
        rows = [{"address": address} for address in tried.get(user, ())[:MAX_ROWS]]
        detail = f"{one_line(user)} was refused {count:,} times"
        _report_refused(log, "user", user, count, limit, detail, rows)
    limit = log.limit(rule, "server_per_min")
    if not log.rules.is_on(rule, server=server):
        return
    if left >= log.limit(rule, "least") and left / minutes >= limit:
        detail = f"{left:,} logins of {len(left_users):,} names were refused"
        _report_refused(log, "server", server, left, limit, detail, left_users[:MAX_ROWS])


def _report_refused(
    log: PreparedLog, scope: Scope, subject: str, count: int, limit: float, detail: str, rows: Sequence[dict[str, Any]]
) -> None:
    log.find(
        "refused_clients",
        scope,
        subject,
        value=count / _minutes(log),
        unit="refusals/min",
        threshold=limit,
        since=_start(log),
        detail=detail,
        advice="A client that is set up wrongly tries on and on; names or addresses that change look like a search.",
        affected=count,
        evidence=rows,
    )


def _start(log: PreparedLog) -> datetime:
    return log.view.at - timedelta(seconds=log.view.span_s)


def _minutes(log: PreparedLog) -> float:
    """Return the view's length; what is counted in less than a minute is counted as of one."""
    return max(log.view.span_s, 60.0) / 60


def _addresses_of_refused(log: PreparedLog) -> dict[str, list[str]]:
    """Return where refused users came from, as far as a session could be told to be the refused one."""
    if log.view.session is None:
        return {}
    refused = log.view.session.filter(pl.col("ended_by") == "refusal")
    found = refused.group_by("user").agg(pl.col("address").unique().sort())
    return dict(found.iter_rows())


def strangers(log: PreparedLog) -> None:
    """A country, user or client that was never here before: one finding for each connection, the rarest first."""
    columns = {"country": "country", "user": "user", "client": "address"}
    for dimension, column in columns.items():
        rule = f"new_{dimension}"
        if log.view.normal is None or (dimension == "country" and log.view.country_of is None):
            continue
        if not log.rules.is_on(rule, server=log.view.server):
            continue
        if reason := _too_little_known(log, rule):
            log.cannot_judge(dimension, reason, f"* ({rule})")  # the other rules do judge them
            continue
        log.judged.add(rule)
        connects = with_country(log.connects, log.view.country_of) if dimension == "country" else log.connects
        of_server = (pl.col("server") == log.view.server) & (pl.col("dimension") == dimension)
        known = log.view.normal.filter(of_server)["key"].drop_nulls().unique()
        new = connects.drop_nulls(column).filter(~pl.col(column).is_in(known.implode()))
        if dimension == "country":
            new = new.filter(~pl.col("country").is_in(NO_COUNTRY))
        _report_strangers(log, rule, dimension, new)
        log.connects = log.connects.join(new, on="offset", how="anti", maintain_order="left")


def _too_little_known(log: PreparedLog, rule: str) -> str | None:
    """Return why nobody can be called new here, or None."""
    row = log.usual("all", "connects")
    hours = log.limit(rule, "history_h")
    if row is None or (log.until - row["first_seen"]).total_seconds() < hours * 3600:
        return f"no history yet: who is new is judged after {hours:g} hours"
    found = log.usual("all", rule)
    recent = list(found["recent"]) if found else []
    if recent and sum(recent) / len(recent) > log.limit(rule, "usual"):
        return f"new names are usual here: {sum(recent):,.0f} in the last {len(recent)} windows"
    return None


def _report_strangers(log: PreparedLog, rule: str, dimension: str, new: pl.DataFrame) -> None:
    """Report each new one; or the server, where they are many: a workshop, a new laboratory, a scan."""
    subject = "address" if dimension == "client" else "user"
    first = new.sort("offset").unique(subject, keep="first", maintain_order=True)
    counts = dict(new.group_by(subject).len().iter_rows())
    shown = ["user", "host", "address"] + ["country"] * (dimension == "country")
    rows = first.select(*shown, "link_time").to_dicts()
    unit = {"country": "users", "user": "users", "client": "clients"}[dimension]
    advice = "Ask whether somebody is expected; a name in this log is what the client says it is."
    if len(rows) > log.limit(rule, "most"):
        names = ", ".join(one_line(row[subject], 40) for row in rows[:MAX_ROWS])
        what = f"{len(rows)} {unit}" + (" from countries" if dimension == "country" else "")
        log.find(
            rule,
            "server",
            log.view.server,
            value=len(rows),
            unit=unit,
            threshold=1,
            since=rows[0]["link_time"],
            detail=f"{what} that were never here before: {names} …",
            advice=advice,
            affected=len(rows),
            evidence=[{name: row[name] for name in shown} for row in rows[:20]],
            severity="warning",
        )
        return
    for row in rows:
        who = one_line(row["user"], 60)
        told = {
            "country": f"{who} connects from {one_line(row.get('country') or '', 20)}, where nobody came from before",
            "user": f"{who} was never here before",
            "client": f"{who} comes from a client that was never here before",
        }[dimension]
        log.find(
            rule,
            "client" if dimension == "client" else "user",
            row[subject],
            value=counts[row[subject]],
            unit="connections",
            threshold=1,
            since=row["link_time"],
            detail=f"{told}: {one_line(row['host'], 60)} [{one_line(row['address'], 60)}]",
            advice=advice,
            affected=counts[row[subject]],
            evidence=[{name: row[name] for name in shown}],
            severity="warning",
        )


def with_country(connects: pl.DataFrame, country_of: CountryOf | None) -> pl.DataFrame:
    """Add the column `country` of each connection's address, null where nobody was asked."""
    addresses = connects["address"].unique().sort()
    countries = country_of(addresses.to_list()) if country_of and len(addresses) else [None] * len(addresses)
    table = pl.DataFrame({"address": addresses, "country": pl.Series(list(countries), dtype=pl.String)})
    return connects.join(table, on="address", how="left", maintain_order="left")


def rejected_lines(log: PreparedLog) -> None:
    """Bursts of lines that are none, and of lines that a client forged.

    A forged line comes from a user name with a line break in it: a whole line of a log, mostly a connection of somebody
    else. What gives it away is a date far from its neighbours'. One with the right date is not told from a true one.
    """
    log.judged.add("rejected_lines")
    _rejected(log)
    _forged(log)


def _rejected(log: PreparedLog) -> None:
    rule, reasons, minutes = "rejected_lines", rejected_counts(log.view.rejected), _minutes(log)
    count = sum(reasons.values())
    lines = len(log.view.client) + len(log.view.operation) + count
    schema = {"key": pl.String, "value": pl.Float64}
    counts = pl.DataFrame({"key": [None], "value": [count / minutes]}, schema=schema)
    over = log.excesses(counts, rule, "per_min", "all", "rejected")
    if not over or count < log.limit(rule, "share") * lines:
        return
    parts = ", ".join(f"{number:,} {one_line(reason, 30)}" for reason, number in list(reasons.items())[:MAX_ROWS])
    log.find(
        rule,
        "log",
        log.view.server,
        value=count / minutes,
        unit="lines/min",
        threshold=over[0]["threshold"],
        since=_start(log),
        detail=f"{count:,} of {lines:,} lines are none: {parts}",
        advice="glued or partial: a library prints and does not flush. stray_text: the quarantine shows what it says. "
        "malformed: look for a client that sends odd names.",
        normal=over[0]["normal"],
        affected=count,
        evidence=[{"reason": reason, "lines": number} for reason, number in reasons.items()],
        severity="warning",
    )


def rejected_counts(rejected: pl.DataFrame | None) -> dict[str, int]:
    """Return how many lines were rejected for each reason, the most frequent first."""
    if rejected is None:
        return {}
    amount = pl.col("count").sum() if "count" in rejected.columns else pl.len()
    counts = rejected.group_by("reason").agg(amount.cast(pl.Int64).alias("lines"))
    return dict(counts.sort("lines", "reason", descending=[True, False]).iter_rows())


def _forged(log: PreparedLog) -> None:
    count, limit = len(log.forged), log.limit("rejected_lines", "forged_per_min")
    if not count or count / _minutes(log) < limit:
        return
    dates = log.forged["link_time"].sort().dt.strftime("%Y-%m-%d %H:%M")
    client = log.view.client.join(log.forged.select("offset"), on="offset", how="semi")
    names = client.group_by("user", "host", "address").len("lines").sort("lines", "user", descending=[True, False])
    log.find(
        "rejected_lines",
        "log",
        log.view.server,
        value=count / _minutes(log),
        unit="forged lines/min",
        threshold=limit,
        since=_start(log),
        detail=f"{count:,} lines bear dates ({dates[0]} to {dates[-1]} UTC) that the lines around them contradict: a "
        "client may send a name with line breaks in it, which then looks like lines of a log",
        advice="Trust no name in these lines; the connection line just before them has the address they came from.",
        affected=count,
        evidence=names.head(MAX_ROWS).to_dicts(),
    )


def no_data(log: PreparedLog) -> None:
    """Nobody can read the log: what its users do nobody knows, so nothing is said to be over either.

    A moment without contact is none to the hot lane, and a data server that was never read, for it is being set up.
    """
    view, status = log.view, _status(log.view)
    why, on = _why_unread(status), log.rules.is_on("no_data", server=view.server)
    if why or view.up is False:
        log.cannot_judge("server", f"the log was not read: {why or 'there is no contact yet'}", view.server)
    elif on and (status or view.up):
        log.judged.add("no_data")
    if status and status["outcome"] in NO_LOG:
        for scope in ("user", "client", "node", "server"):
            log.cannot_judge(scope, f"the log is {status['outcome']}", "*")
    unread_s = view.span_s if view.silent_s is None else view.silent_s
    least_s = log.limit("log_silent", "least_s") if log.hot else 0.0
    was_read = not log.hot or (view.normal is not None and len(view.normal) > 0)
    if not (why and on and was_read and unread_s >= least_s):
        return
    log.judged.add("no_data")
    log.find(
        "no_data",
        "log",
        view.server,
        value=unread_s,
        unit="s",
        threshold=least_s,
        since=view.at - timedelta(seconds=unread_s),
        detail=f"its log cannot be read, so nobody knows what its users do; collection says {why}",
        advice="See whether the machine is up and whether Airflow can log in there; its users may still be served.",
        severity="critical",
    )


def _status(view: AccessView) -> Mapping[str, Any] | None:
    """Return the last that is known of reading the access log."""
    access = None if view.log_status is None else view.log_status.filter(pl.col("kind") == "access")
    return access.row(-1, named=True) if access is not None and len(access) else None


def _why_unread(status: Mapping[str, Any] | None) -> str | None:
    """Return why the data server was not reached, where that is known."""
    if status is None or status["outcome"] in REACHED:
        return None
    return one_line(": ".join(filter(None, (status["outcome"], status["detail"]))), 200)


def log_silent(log: PreparedLog) -> None:
    """The log is gone, was cut, or says nothing for longer than ever while the machine is up."""
    view, status = log.view, _status(log.view)
    if view.up is False or _why_unread(status):
        return
    outcome = status["outcome"] if status else None
    lines = len(view.client) + len(view.operation)
    if status and outcome in NO_LOG:
        log.judged.add("log_silent")
        told = f": {one_line(status['detail'], 200)}" if status["detail"] else ""
        advice = "See whether the server runs, where its standard output goes, and who may read it."
        _report_log(log, view.span_s, "s", 0.0, f"the log is {outcome}{told}", advice, critical=True)
        return
    if status and status["lost_bytes"]:
        told = f"{status['lost_bytes']:,} bytes of the log were destroyed before they were read"
        advice = "Rotate more rarely, keep more old logs, or make the window shorter."
        _report_log(log, status["lost_bytes"], "bytes", 1.0, told, advice, critical=False)
    if lines:
        log.judged.add("log_silent")
    elif outcome is None and view.silent_s is None:
        return
    elif outcome is not None and outcome not in QUIET:
        log.cannot_judge("log", f"no line of it is known: {outcome}", "* (log_silent)")
    else:
        _silence(log, view.span_s if view.silent_s is None else view.silent_s)


def _silence(log: PreparedLog, silent_s: float) -> None:
    """Judge a silence by the longest ones lately."""
    usual = log.usual("all", "gap_s")
    if usual is None or usual["windows"] < log.limit("log_silent", "min_windows"):
        reason = "no history yet: nobody knows for how long this log may be silent"
        log.cannot_judge("log", reason, "* (log_silent)")
        return
    log.judged.add("log_silent")
    longest = float(max(usual["recent"]))
    limit = max(log.limit("log_silent", "least_s"), log.limit("log_silent", "times_normal") * longest)
    if silent_s >= limit:
        told = f"not a line for {silent_s:,.0f} s; lately it was never silent for more than {longest:,.0f} s"
        advice = "See whether the data server still answers: it may hang, have ended, or write elsewhere."
        _report_log(log, silent_s, "s", limit, told, advice, critical=True, normal=longest)


def _report_log(
    log: PreparedLog,
    value: float,
    unit: str,
    threshold: float,
    detail: str,
    advice: str,
    *,
    critical: bool,
    normal: float | None = None,
) -> None:
    log.find(
        "log_silent",
        "log",
        log.view.server,
        value=value,
        unit=unit,
        threshold=threshold,
        since=log.view.at - timedelta(seconds=value if unit == "s" else log.view.span_s),
        detail=detail,
        advice=advice,
        normal=normal,
        confidence=1.0 if log.view.up or log.view.log_status is not None else 0.7,
        severity="critical" if critical else "warning",
    )
