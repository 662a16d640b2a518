"""Too much: more connections, operations or sessions a minute than anybody needs, or than is usual.

The rules go from the narrowest suspect to the widest, and each takes away the lines that it explains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import polars as pl

from pingmesh_tasks.detect.access.view import OWN_PROCESS_SOCKET, UNTIED, UNTIED_ADVICE, PreparedLog, busiest, total
from pingmesh_tasks.detect.finding import Scope
from pingmesh_tasks.store.schemas import SESSION
from pingmesh_tasks.text import one_line

MAX_ROWS = 5


def node_rate(log: PreparedLog) -> None:
    """More operations a minute on one node, by all together, than it should need, or than it is used to."""
    log.judged.add("node_rate")
    counts = busiest(
        log.operation.drop_nulls("node_path"), ["tree", "node_path"], pl.col("user").n_unique().alias("users")
    )
    keyed = counts.with_columns(key=pl.concat_str("tree", pl.lit("/"), "node_path"))
    for row in log.excesses(keyed, "node_rate", "operations_per_min", "node", "operations"):
        name = one_line(row["key"])
        _report(log, "node_rate", "node", row, f"{name} has {row['value']:,} operations a minute")
        mine = (pl.col("tree") == row["tree"]) & (pl.col("node_path") == row["node_path"])
        log.operation = log.operation.filter(~mine.fill_null(False))


def user_rate(log: PreparedLog) -> None:
    """More operations a minute by one user than one should need, or than this one is used to."""
    _operations_by(log, "user_rate", "user")


def client_rate(log: PreparedLog) -> None:
    """More operations a minute from one client host than one should need, or than it is used to."""
    _operations_by(log, "client_rate", "client")


def _operations_by(log: PreparedLog, rule: str, dimension: Literal["user", "client"]) -> None:
    tied = log.operation.drop_nulls(dimension)
    if tied.is_empty() and len(log.operation):
        log.cannot_judge(dimension, UNTIED, f"* ({rule})")
        return
    log.judged.add(rule)
    other = "client" if dimension == "user" else "user"
    counts = busiest(tied, [dimension]).rename({dimension: "key"})
    for row in log.excesses(counts, rule, "operations_per_min", dimension, "operations"):
        is_mine = pl.col(dimension).eq_missing(pl.lit(row["key"]))
        mine = log.operation.filter(is_mine)
        evidence = busiest(mine, ["tree", "node_path"]).head(MAX_ROWS).select("tree", "node_path", per_min="value")
        others = mine[other].drop_nulls().unique().sort().head(MAX_ROWS)
        whence = f" ({', '.join(one_line(name, 40) for name in others)})" if len(others) else ""
        detail = f"{one_line(row['key'])}{whence} does {row['value']:,} operations a minute"
        _report(log, rule, dimension, row, detail, evidence=evidence.to_dicts())
        log.operation = log.operation.filter(~is_mine)


def no_attribution(log: PreparedLog) -> None:
    """More operations a minute that can be tied to nobody than a server should bear, or than it is used to."""
    log.judged.add("no_attribution")
    untied = log.operation.filter(~pl.col("alone"))
    for row in log.excesses(total(untied), "no_attribution", "operations_per_min", "all", "operations"):
        pids = untied.filter(pl.col("minute") == row["minute"])["pid"].value_counts(sort=True)
        evidence = [{"pid": pid, "per_min": count} for pid, count in pids.head(MAX_ROWS).iter_rows()]
        detail = f"{row['value']:,} operations a minute; {UNTIED}"
        _report(log, "no_attribution", "server", row, detail, advice=UNTIED_ADVICE, evidence=evidence)


def connect_rate(log: PreparedLog) -> None:
    """More connections a minute by one user, from one client host or in all than there should be, or than usual."""
    rule = "connect_rate"
    log.judged.add(rule)
    for dimension, column, other in (("user", "user", "address"), ("client", "address", "user")):
        counts = busiest(log.connects, [column], pl.col(other).unique().sort().alias("others"))
        keyed = counts.rename({column: "key"})
        limit = f"{dimension}_per_min"
        scope: Literal["user", "client"] = "user" if dimension == "user" else "client"
        for row in log.excesses(keyed, rule, limit, scope, "connects"):
            others = [one_line(name, 40) for name in row["others"][:MAX_ROWS]]
            more = f" and {len(row['others']) - MAX_ROWS} more" if len(row["others"]) > MAX_ROWS else ""
            whence = ("from " if dimension == "user" else "as ") + ", ".join(others) + more
            detail = f"{one_line(row['key'])} connects {row['value']:,} times a minute {whence}"
            _report(log, rule, scope, row, detail, unit="connections/min")
            log.connects = log.connects.filter(~pl.col(column).eq_missing(pl.lit(row["key"])))
    for row in log.excesses(total(log.connects), rule, "server_per_min", "all", "connects"):
        detail = f"{row['value']:,} connections a minute, of no single user or client"
        _report(log, rule, "server", row, detail, unit="connections/min")


def concurrency(log: PreparedLog) -> None:
    """More sessions open at once by one user, from one client host or in all than there should be, or than usual."""
    rule = "concurrency"
    if log.view.session is None or log.hot:
        return
    log.judged.add(rule)
    open_at = spans_of(log.view.session, log.view.at)
    for dimension, column in (("user", "user"), ("client", "address")):
        counts = most_at_once(open_at, column)
        scope: Literal["user", "client"] = "user" if dimension == "user" else "client"
        for row in log.excesses(counts, rule, scope, scope, "sessions"):
            detail = f"{one_line(row['key'])} has {row['value']:,} sessions open at once"
            _report(log, rule, scope, row, detail, unit="sessions")
            open_at = open_at.filter(~pl.col(column).eq_missing(pl.lit(row["key"])))
    for row in log.excesses(most_at_once(open_at, None), rule, "server", "all", "sessions"):
        detail = f"{row['value']:,} sessions are open at once"
        _report(log, rule, "server", row, detail, unit="sessions")


def spans_of(session: pl.DataFrame, at: datetime) -> pl.DataFrame:
    """Return `user`, `address`, `since` and `until` of sessions: a process of its own is there up to its last line."""
    own = pl.col("socket").eq_missing(OWN_PROCESS_SOCKET)
    until = pl.when(pl.col("ended_by").is_not_null()).then("end_time").when(own).then("last_time").otherwise(pl.lit(at))
    return session.filter(pl.col("ended_by").ne_missing("refusal")).select(
        "user", "address", since="start_time", until=until.cast(SESSION["end_time"])
    )


def most_at_once(spans: pl.DataFrame, column: str | None) -> pl.DataFrame:
    """Return for each key of `column` (None: for all) how many spans hold one moment at most: key, value, since."""
    key = pl.lit(None, pl.String) if column is None else pl.col(column)
    steps = pl.concat(
        [
            spans.select(key.alias("key"), at="since", step=pl.lit(1, pl.Int64)),
            spans.select(key.alias("key"), at="until", step=pl.lit(-1, pl.Int64)),
        ]
    )
    depth = steps.sort("at", "step", descending=[False, True]).with_columns(value=pl.col("step").cum_sum().over("key"))
    return (
        depth.sort("value", "at", "key", descending=[True, False, False])
        .unique("key", keep="first", maintain_order=True)
        .select("key", "value", since="at")
    )


def _report(
    log: PreparedLog,
    rule: str,
    scope: Scope,
    row: Mapping[str, Any],
    detail: str,
    *,
    unit: str = "operations/min",
    advice: str = "",
    evidence: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Report an excess over a limit or over its own normal, and say over which."""
    over_own = row["threshold"] < row["fixed"]
    against = f", usually at most {row['normal']:,.0f}" if row["normal"] is not None else ""
    subject = log.view.server if scope == "server" else row["key"]
    log.find(
        rule,
        scope,
        subject,
        value=row["value"],
        unit=unit,
        threshold=row["threshold"],
        since=row["since"],
        detail=detail + against,
        advice=advice,
        normal=row["normal"],
        affected=int(row["value"]),
        evidence=evidence,
        severity="warning" if over_own else None,
    )
