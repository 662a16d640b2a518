"""What one look at a data server's lines sees: each line in its minute, each operation tied to who made it.

Who made an operation, as far as the log can tell (`reader`: a process, or a thread of one):

    a process for each client (inetd: socket 0)   its connection line names the user and the client
    one process for all, extended hook lines      the thread tells clients apart, the line names the address; the
                                                  user is known where one alone connected from there
    one process for all, plain lines (-m, -s)     nobody: `alone` is false, and no user may be accused

Names are what a client said: a user who claims another's name is reported under it. A line that a client forged by a
line break in its name is found where its date is far from its neighbours'; one with the right date cannot be told.

Minutes: the window lane counts by the clock's minutes. The hot lane counts the last 60 s, so that a limit is exceeded
as soon as the lines are there, and measures time by the log's own clock, which may differ from ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

import polars as pl

from pingmesh_tasks.detect.finding import Finding, Lane, Scope, Severity
from pingmesh_tasks.detect.rules import RuleBook
from pingmesh_tasks.store.schemas import SESSION
from pingmesh_tasks.text import one_line

MINUTE = timedelta(minutes=1)
#: A date that differs by more from those of the lines around it was not written by the server, whose own lines may be
#: late by the time that an unflushed buffer takes to fill.
OUT_OF_TIME = timedelta(minutes=10)
_NEIGHBOURS, _NEWEST = 41, 11
OWN_PROCESS_SOCKET = 0
#: A finding whose value is so many times its limit is critical.
CRITICAL_TIMES = 3.0

UNTIED = (
    "this server serves all clients in one process (-m or -s) and its log names no client with an operation, "
    "so that no user can be held responsible"
)
UNTIED_ADVICE = "For names, run the server with a process a client, or switch on PINGMESH_HOOK_EXTENDED."

Dimension = Literal["all", "user", "client", "country", "node"]
CountryOf = Callable[[Sequence[str]], Sequence[str]]


@dataclass(frozen=True, slots=True, eq=False)
class AccessView:
    """What is known of one data server.

    `client` and `operation` are rows of those tables, of the last minute (hot) or of a window; `offset` orders the
    lines of both. `rejected` has a `reason` a line, or reasons with their `count`. `session`: in the window lane the
    window's rows, in the hot lane those of the newest window that are still open (they name processes whose connection
    line is older than the lines at hand). None means that the lane has no such data. `normal` is the table
    `access_normal` of before. `up` says whether the machine is known to run, `silent_s` for how long no byte has come
    (hot lane). `country_of` answers a batch of addresses. `place` is where in the mesh the machine stands (`place_of`).
    """

    server: str
    at: datetime
    span_s: float
    lane: Lane
    client: pl.DataFrame
    operation: pl.DataFrame
    rejected: pl.DataFrame | None = None
    session: pl.DataFrame | None = None
    server_error: pl.DataFrame | None = None
    log_status: pl.DataFrame | None = None
    normal: pl.DataFrame | None = None
    up: bool | None = None
    silent_s: float | None = None
    country_of: CountryOf | None = None
    place: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class PreparedLog:
    """A view made ready, and what the rules have found in it so far.

    `operation` and `connects` lose the lines that a finding explains, so that one cause is found once. `operation` has
    the columns of its table, and `minute`, `alone`, `user`, `client`; `connects` are the `ON` lines with `minute`.
    `forged` are the connection and hook lines whose date cannot be, which are in neither. `until` is what the log's
    clock shows.
    """

    view: AccessView
    rules: RuleBook
    operation: pl.DataFrame
    connects: pl.DataFrame
    forged: pl.DataFrame
    until: datetime
    findings: list[Finding] = field(default_factory=list)
    judged: set[str] = field(default_factory=set)
    unjudged: dict[tuple[str, str], str] = field(default_factory=dict)

    @classmethod
    def at(cls, view: AccessView, rules: RuleBook) -> PreparedLog:
        client, operation, forged = without_forged(view.client, view.operation, timedelta(seconds=view.span_s))
        until = _clock(client, operation) or view.at
        tied = tie(client, operation, SESSION.to_frame() if view.session is None else view.session)
        connects = client.filter(pl.col("status") == "ON")
        return cls(view, rules, _in_minutes(tied, view, until), _in_minutes(connects, view, until), forged, until)

    @property
    def hot(self) -> bool:
        return self.view.lane == "hot"

    def limit(self, rule: str, name: str, **place: str) -> float:
        return float(self.rules.limit(rule, name, server=self.view.server, **place))

    def limits(self, rule: str, name: str, rows: pl.DataFrame) -> pl.Series:
        """Return a limit for each row, which is at its node, and at its `user` and `client` where it has them."""
        if not any((rule, name) in override.rules.limits for override in self.rules.overrides):
            return pl.Series([self.limit(rule, name)]).new_from_index(0, len(rows))
        known = [place for place in ("user", "client") if place in rows.columns]
        node = pl.concat_str("tree", pl.lit("/"), "node_path")
        places = [
            {"server": self.view.server} | {place: found for place, found in row.items() if found is not None}
            for row in rows.select(*known, node=node).iter_rows(named=True)
        ]
        return pl.Series(self.rules.limits(rule, name, places), dtype=pl.Float64)

    def cannot_judge(self, scope: str, reason: str, subject: str) -> None:
        """Note why a subject has no verdict; `* (rule)` where one rule cannot judge a scope: others may."""
        before = self.unjudged.get((scope, subject))
        self.unjudged[scope, subject] = f"{before}; {reason}" if before else reason

    def usual(self, dimension: Dimension, measure: str, key: str | None = None) -> Mapping[str, Any] | None:
        """Return the row of `access_normal` of a key, or None."""
        if self.view.normal is None:
            return None
        found = self.view.normal.filter(
            pl.col("server") == self.view.server,
            pl.col("dimension") == dimension,
            pl.col("measure") == measure,
            pl.col("key").eq_missing(pl.lit(key, pl.String)),
        )
        return found.row(0, named=True) if len(found) else None

    def excesses(
        self, counts: pl.DataFrame, rule: str, limit: str, dimension: Dimension, measure: str
    ) -> list[dict[str, Any]]:
        """Return the rows of `counts` (`key`, `value`, …) over `limit`, or over `times_normal` their own normal where
        there are `min_windows` of it and the value is at least `least`; with `threshold` and `normal`."""
        if counts.is_empty():
            return []
        server, names = self.view.server, counts["key"].to_list()
        places = [{"server": server} | ({dimension: name} if dimension != "all" else {}) for name in names]
        limits = {"fixed": limit, "times": "times_normal", "least": "least", "enough": "min_windows"}
        known = self.view.normal
        usual = (
            pl.DataFrame(schema={"key": pl.String, "normal": pl.Float64, "windows": pl.UInt32})
            if known is None
            else known.filter(
                pl.col("server") == server, pl.col("dimension") == dimension, pl.col("measure") == measure
            ).select("key", "windows", normal="upper")
        )
        own = pl.max_horizontal(pl.col("normal") * pl.col("times"), "least")
        rows = (
            counts.with_columns(pl.Series(name, self.rules.limits(rule, of, places)) for name, of in limits.items())
            .join(usual, on="key", how="left", nulls_equal=True, maintain_order="left")
            .with_columns(normal=pl.when(pl.col("windows") >= pl.col("enough")).then("normal"))
            .with_columns(own=pl.when(pl.col("normal").is_not_null()).then(own))
            .with_columns(threshold=pl.when(pl.col("value") >= pl.col("fixed")).then("fixed").otherwise("own"))
            .filter(pl.col("value") >= pl.col("threshold"))
        )
        return [
            row
            for row in rows.iter_rows(named=True)
            if self.rules.is_on(rule, server=server, **({dimension: row["key"]} if row["key"] is not None else {}))
        ]

    def find(
        self,
        rule: str,
        scope: Scope,
        subject: str,
        *,
        value: float,
        unit: str,
        threshold: float,
        since: datetime,
        detail: str,
        advice: str = "",
        normal: float | None = None,
        confidence: float = 1.0,
        affected: int = 1,
        evidence: Sequence[Mapping[str, Any]] = (),
        severity: Severity | None = None,
    ) -> None:
        """Note a finding. Names are made safe here; one about the same suspect as an earlier one joins that."""
        worst: Severity = severity or ("critical" if value >= CRITICAL_TIMES * threshold else "warning")
        subject = one_line(subject)
        rows = tuple({name: _plain(entry) for name, entry in row.items()} for row in evidence)
        for place, earlier in enumerate(self.findings):
            if (earlier.scope, earlier.subject) == (scope, subject):
                also = {"also": rule, "value": round(value, 1), "unit": unit, "limit": round(threshold, 1)}
                self.findings[place] = _joined(earlier, worst, also)
                return
        self.findings.append(
            Finding(
                rule,
                scope,
                subject,
                worst,
                float(value),
                unit,
                float(threshold),
                since,
                detail,
                advice,
                normal,
                confidence,
                affected,
                rows,
            )
        )


def _joined(finding: Finding, severity: Severity, also: Mapping[str, Any]) -> Finding:
    worst: Severity = "critical" if "critical" in (severity, finding.severity) else "warning"
    values = {name: getattr(finding, name) for name in Finding.__dataclass_fields__}
    return Finding(**values | {"severity": worst, "evidence": (*finding.evidence, also)})


def busiest(lines: pl.DataFrame, by: Sequence[str], *more: pl.Expr) -> pl.DataFrame:
    """Return for each key its busiest minute: `value` (lines), `minute`, `since` (its first line), and `more`."""
    keys = list(by)
    return (
        lines.group_by(*keys, "minute")
        .agg(pl.len().cast(pl.Int64).alias("value"), pl.col("link_time").min().alias("since"), *more)
        .sort("value", "since", *keys, descending=[True, *[False] * (1 + len(keys))])
        .unique(keys or None, keep="first", maintain_order=True)
    )


def total(lines: pl.DataFrame, *more: pl.Expr) -> pl.DataFrame:
    """Return the busiest minute of all lines, as `busiest`, with a null `key`."""
    return busiest(lines.with_columns(key=pl.lit(None, pl.String)), ["key"], *more)


def tie(client: pl.DataFrame, operation: pl.DataFrame, session: pl.DataFrame) -> pl.DataFrame:
    """Add to each operation who made it: `alone`, `user`, `client`; see the module. Sorted by `offset`."""
    received = client.filter(pl.col("status") == "ON")
    begun = pl.concat(
        [
            session.sort("start_time").select("pid", "socket", "user", "address", offset=pl.lit(-1, pl.Int64)),
            received.sort("offset").select("pid", "socket", "user", "address", pl.col("offset").cast(pl.Int64)),
        ]
    )
    is_own = pl.col("socket").eq_missing(OWN_PROCESS_SOCKET)
    own = begun.filter(is_own).select("pid", "offset", alone=True, user="user", client="address")
    own_mode = len(own) * 2 > len(begun)  # then a process whose connection line is older serves one client as well
    sources = begun.filter(~is_own).group_by("address").agg(pl.col("user").unique().alias("users"))
    one_user = sources.filter(pl.col("users").list.len() == 1).select(
        client_address="address", only_user=pl.col("users").list.first()
    )
    named = pl.col("client_address").is_not_null() | pl.col("thread").is_not_null()
    return (
        operation.with_columns(pl.col("offset").cast(pl.Int64))
        .sort("offset")
        .join_asof(own.sort("offset"), on="offset", by="pid", check_sortedness=False)
        .join(one_user, on="client_address", how="left", maintain_order="left")
        .with_columns(
            alone=pl.col("alone").fill_null(False) | named | own_mode,
            user=pl.coalesce("user", "only_user"),
            client=pl.coalesce("client", "client_address"),
        )
        .drop("only_user")
    )


def without_forged(
    client: pl.DataFrame, operation: pl.DataFrame, span: timedelta
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Return both tables without the lines whose date is far from that of their neighbours, and those lines.

    A median of the neighbours' dates follows a clock that was set, or summer time that ends: then all lines move.
    """
    lines = pl.concat([frame.select("offset", "link_time") for frame in (client, operation)]).sort("offset")
    oldest, newest = lines["link_time"].min(), lines["link_time"].max()
    nothing = lines.clear()
    if not isinstance(oldest, datetime) or not isinstance(newest, datetime) or newest - oldest <= span + OUT_OF_TIME:
        return client, operation, nothing
    around = min(_NEIGHBOURS, len(lines) - 1 + len(lines) % 2)
    middle = pl.col("link_time").to_physical().rolling_median(around, center=True)
    away = (pl.col("link_time").to_physical() - middle).abs() > OUT_OF_TIME.total_seconds() * 1e6
    forged = lines.filter(away)
    if forged.is_empty():
        return client, operation, nothing
    return (
        client.join(forged, on="offset", how="anti", maintain_order="left"),
        operation.join(forged, on="offset", how="anti", maintain_order="left"),
        forged,
    )


def node_name(tree: str, node_path: str) -> str:
    return f"{tree}/{node_path}"


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return one_line(value)
    return round(value, 3) if isinstance(value, float) else value


def _clock(client: pl.DataFrame, operation: pl.DataFrame) -> datetime | None:
    """Return the date of the newest lines: their median, so that a few that were forged cannot set the clock."""
    newest = pl.concat([frame.select("offset", "link_time").tail(_NEWEST) for frame in (client, operation)])
    found = newest.sort("offset").tail(_NEWEST)["link_time"].sort()
    return found[len(found) // 2] if len(found) else None


def _in_minutes(lines: pl.DataFrame, view: AccessView, until: datetime) -> pl.DataFrame:
    if view.lane == "window":
        return lines.with_columns(minute=pl.col("link_time").dt.truncate("1m"))
    return lines.filter(pl.col("link_time") > until - MINUTE).with_columns(minute=pl.lit(until - MINUTE))
