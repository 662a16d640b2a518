"""Sessions: who was connected to a data server from when to when, and what they did, as far as its log can tell.

`pair_sessions` reads the connection lines of a window in the order of the log and keeps, for every (process, socket),
the session that holds it. What a line means then follows from what the kernel allows:

- received: a session begins. A socket, or a process that serves one connection (socket 0), can be given to another only
  after it was let go: whoever held it has ended, `ended_by` reuse. So wrapped process ids, clients refused after their
  line and disconnect lines that never came need no guess.
- disconnected: ends the holder, if it names the holder's user, host and address. If it names another, it is the late
  line of a session that reuse has ended already; if nobody holds the socket, the log had not told of the beginning.
  Neither changes anything.

Servers that print no socket (older ones) are paired by process, user, host and address, the newest session first, and
know no reuse. A process of its own writes no disconnect line at all: its session ends with its last line, which is
known to be so when the process id is used again or the process has been silent for `idle_s`.

Sessions without an end are carried: the rows of the newest window before are all the state there is, so a rerun gives
the same rows, and windows give the sessions that one long window would give, but where a session is silent for longer
than the policy's limits. Carried sessions are limited in age and number.

How sure the end of a session is (`confidence`):

    open      it has not ended, as far as the log tells
    exact     its disconnect line gives the second
    doubtful  the session of the same user before it on the same socket left no disconnect line: this may be that one's
    at_most   its socket was given to another at `end_time`: it ended then or before
    at_least  it has a process of its own: `end_time` is its last line; or it was given up as silent
    inferred  refused: it alone fits an `Access denied` of the errors log
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from pingmesh_tasks.errors import StoreError
from pingmesh_tasks.store.schemas import OPERATION, SERVER_ERROR, SESSION, check_schema
from pingmesh_tasks.windows import Window

OWN_PROCESS_SOCKET = 0
_IDENTITY = ("user", "host", "address")


@dataclass(frozen=True, slots=True)
class SessionPolicy:
    """When a session without an end is given up, `ended_by` silence, so that what is carried stays bounded.

    A process of its own has its own lines: `idle_s` without one. Of a session in a process that serves everybody only
    the beginning is sure to be seen, so it gets `abandoned_s`. Beyond `carried_max` the longest silent go first.
    """

    idle_s: int = 3_600
    abandoned_s: int = 86_400
    carried_max: int = 100_000


DEFAULT_POLICY = SessionPolicy()


@dataclass(frozen=True, slots=True)
class Sessions:
    """Rows of `SESSION`, sorted by start, and what could not be tied to a single session.

    `unpaired` disconnect lines fit no open session, `unattributed` operations no session, `untied_refusals` several.
    """

    table: pl.DataFrame
    unpaired: int
    unattributed: int
    untied_refusals: int


def pair_sessions(
    client: pl.DataFrame,
    carried: pl.DataFrame | None,
    window: Window,
    *,
    operation: pl.DataFrame | None = None,
    errors: pl.DataFrame | None = None,
    caught_up: bool = True,
    policy: SessionPolicy = DEFAULT_POLICY,
) -> Sessions:
    """Return the sessions of one data server that were alive in a window.

    `client`, `operation` and `errors` (`SERVER_ERROR`) are what was collected for the window, `carried` the `SESSION`
    rows of the newest window before it that has any (those that ended are left out here). Pass `errors` only where both
    logs were read to their ends: the refusals in it are then of this window's connections. `caught_up` False says that
    the collector left a backlog: silence means nothing then, and nobody is given up. Raises StoreError for a frame
    that is not of its schema, or of several servers.
    """
    operation = OPERATION.to_frame() if operation is None else operation
    errors = SERVER_ERROR.to_frame() if errors is None else errors
    carried = SESSION.to_frame() if carried is None else carried
    _check(client=client, operation=operation, session=carried, server_error=errors)
    client = client.sort("offset")
    held = carried.filter(pl.col("ended_by").is_null()).sort("start_time", "session")
    sessions, unpaired = _follow(client, held, window)
    sessions, attributed = _attribute(sessions, operation)
    sessions, refused = _refuse(sessions, errors)
    if caught_up:
        sessions = _give_up(sessions, window, policy)
    return Sessions(
        table=_finish(sessions, window),
        unpaired=unpaired,
        unattributed=len(operation) - attributed,
        untied_refusals=len(errors.filter(pl.col("kind") == "denied")) - refused,
    )


def _check(**frames: pl.DataFrame) -> None:
    servers: set[str] = set()
    for table, frame in frames.items():
        check_schema(table, frame)
        servers.update(frame["server"].unique())
    if len(servers) > 1:
        raise StoreError(f"sessions are paired server by server; these tables are of {', '.join(sorted(servers))}")


def _follow(client: pl.DataFrame, held: pl.DataFrame, window: Window) -> tuple[pl.DataFrame, int]:
    """Follow the connection lines; return a row a session and the number of disconnect lines that end none.

    Rows are columns of `SESSION` plus `from_offset` (null: carried) and `to_offset` (null: alive) in this window's log.
    """
    begun = client.filter(pl.col("status") == "ON").select(
        "server",
        pl.format(f"{window.id}.{{}}", "offset").alias("session"),
        *_IDENTITY,
        "pid",
        "socket",
        pl.col("link_time").alias("start_time"),
        pl.col("link_time").alias("last_time"),
        pl.lit("open").alias("confidence"),
        pl.lit(0, pl.UInt64).alias("operations"),
        pl.col("offset").alias("from_offset"),
    )
    rows = pl.concat([held.select(name for name in begun.columns if name in held.columns), begun], how="diagonal")
    count = len(rows)
    identities: list[Hashable] = list(rows.select(_IDENTITY).iter_rows())
    confidence: list[str] = rows["confidence"].to_list()
    end_us: list[int | None] = [None] * count
    ended_by: list[str | None] = [None] * count
    to_offset: list[int | None] = [None] * count

    holders: dict[Hashable, list[int]] = {}
    for number, (pid, socket, identity) in enumerate(zip(held["pid"], held["socket"], identities, strict=False)):
        holders.setdefault((pid, socket, socket is None and identity), []).append(number)

    def end(number: int, by: str, at_us: int, offset: int, sure: str) -> None:
        end_us[number], ended_by[number], to_offset[number] = at_us, by, offset
        confidence[number] = sure

    number, unpaired = len(held) - 1, 0
    columns = ("status", "pid", "socket", pl.col("link_time").to_physical(), "offset", *_IDENTITY)
    for status, pid, socket, at_us, offset, *names in client.select(columns).iter_rows():
        identity = tuple(names)
        holder = holders.setdefault((pid, socket, socket is None and identity), [])
        if status == "ON":
            number += 1
            if holder and socket is not None:
                before = holder.pop()
                end(before, "reuse", at_us, offset, "at_most")
                if identities[before] == identity and socket != OWN_PROCESS_SOCKET:
                    confidence[number] = "doubtful"
            holder.append(number)
        elif holder and identities[holder[-1]] == identity:
            last = holder.pop()
            end(last, "disconnect", at_us, offset, "exact" if confidence[last] == "open" else confidence[last])
        else:
            unpaired += 1
    return rows.with_columns(
        pl.Series("confidence", confidence, pl.String),
        pl.Series("end_time", end_us, pl.Int64).cast(SESSION["end_time"]),
        pl.Series("ended_by", ended_by, pl.String),
        pl.Series("to_offset", to_offset, pl.UInt64),
    ), unpaired


def _attribute(sessions: pl.DataFrame, operation: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Tie operations to sessions: by process where it serves one connection, else by the client's address where the
    hook writes it and one session alone is open from there. Return the sessions and how many operations were tied."""
    spans = sessions.with_row_index("number").with_columns(pl.col("number").cast(pl.Int64))
    own = pl.col("socket").eq_missing(OWN_PROCESS_SOCKET)
    operation = operation.sort("offset")
    by_process = _only_one(operation, spans.filter(own), ["pid"])
    by_address = _only_one(
        operation.with_columns(address=pl.col("client_address")), spans.filter(~own), ["pid", "address"]
    )
    tied = (
        operation.select("link_time", number=pl.coalesce(by_process, by_address))
        .drop_nulls("number")
        .group_by("number")
        .agg(pl.len().cast(pl.UInt64).alias("window_operations"), pl.col("link_time").max().alias("last_operation"))
    )
    attribution = (
        pl.when(own)
        .then(pl.lit("process"))
        .when((pl.col("operations") > 0) | (pl.col("window_operations") > 0))
        .then(pl.lit("address"))
        .otherwise(pl.lit("none"))
    )
    counted = (
        spans.join(tied, on="number", how="left", maintain_order="left")
        .with_columns(pl.col("operations", "window_operations").fill_null(0))
        .with_columns(
            attribution.alias("attribution"),
            operations=pl.col("operations") + pl.col("window_operations"),
            last_time=pl.max_horizontal("last_time", "last_operation"),
        )
    )
    return counted.drop("number", "last_operation"), int(tied["window_operations"].sum())


def _only_one(operation: pl.DataFrame, spans: pl.DataFrame, by: list[str]) -> pl.Series:
    """Return for each operation the number of the one session of its key that is open at its place, or null.

    Along the log, a beginning adds 1 and the session's number to its key's sums and an end takes both away: where the
    first sum is 1, the second is the number.
    """
    begun = spans.select(*by, "number", offset=pl.col("from_offset").cast(pl.Int64).fill_null(-1), open=1)
    ended = spans.drop_nulls("to_offset").select(
        *by, number=-pl.col("number"), offset=pl.col("to_offset").cast(pl.Int64), open=-1
    )
    steps = pl.concat([begun, ended]).sort("offset", "open").with_columns(pl.col("number", "open").cum_sum().over(by))
    at = operation.select(*by, pl.col("offset").cast(pl.Int64)).set_sorted("offset")
    found = at.join_asof(steps, on="offset", by=by, check_sortedness=False)
    return found.select(pl.when(pl.col("open") == 1).then("number")).to_series()


def _refuse(sessions: pl.DataFrame, errors: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """End the sessions that a refusal in the errors log can only mean; return how many refusals were tied.

    A refused client's connection began in this window, left no disconnect line and did nothing. It is the one meant
    where it alone of its user's is like that and the user's others account for all that were let in.
    """
    by_user = errors.group_by("user").agg(
        (pl.col("kind") == "denied").sum().alias("denied"), (pl.col("kind") == "connected").sum().alias("connected")
    )
    fits = (
        pl.col("from_offset").is_not_null()
        & (pl.col("operations") == 0)
        & (pl.col("ended_by").is_null() | (pl.col("ended_by") == "reuse"))
    )
    begun = pl.col("from_offset").is_not_null()
    marked = (
        sessions.join(by_user.filter(pl.col("denied") > 0), on="user", how="left", maintain_order="left")
        .with_columns(fits.alias("fits"))
        .with_columns(
            refused=pl.col("fits")
            & (pl.col("denied") > 0)
            & (pl.col("fits").sum().over("user") == 1)
            & (pl.col("connected") <= begun.sum().over("user") - 1)
        )
        .with_columns(pl.col("refused").fill_null(False))
    )
    refused = pl.col("refused")
    ended = marked.with_columns(
        ended_by=pl.when(refused).then(pl.lit("refusal")).otherwise("ended_by"),
        confidence=pl.when(refused).then(pl.lit("inferred")).otherwise("confidence"),
        end_time=pl.when(refused).then("start_time").otherwise("end_time"),
    )
    return ended.drop("denied", "connected", "fits", "refused"), int(marked["refused"].sum())


def _give_up(sessions: pl.DataFrame, window: Window, policy: SessionPolicy) -> pl.DataFrame:
    """End the open sessions that have been silent for too long, or are too many to carry."""
    own = pl.col("socket").eq_missing(OWN_PROCESS_SOCKET)
    limit = pl.when(own).then(timedelta(seconds=policy.idle_s)).otherwise(timedelta(seconds=policy.abandoned_s))
    alive = pl.col("ended_by").is_null()
    silent = pl.lit(window.end) - pl.col("last_time") > limit
    longest_silent = sessions.with_row_index("row").filter(alive).sort("last_time", "session")["row"]
    too_many = longest_silent.head(max(0, len(longest_silent) - policy.carried_max))
    given_up = alive & (silent | pl.int_range(pl.len(), dtype=pl.UInt32).is_in(too_many.implode()))
    return sessions.with_columns(
        ended_by=pl.when(given_up).then(pl.lit("silence")).otherwise("ended_by"),
        confidence=pl.when(given_up).then(pl.lit("at_least")).otherwise("confidence"),
        end_time=pl.when(given_up).then("last_time").otherwise("end_time"),
    )


def _finish(sessions: pl.DataFrame, window: Window) -> pl.DataFrame:
    """Return rows of `SESSION`: ends that agree with all lines, and nothing claimed where nothing is known."""
    own_reused = (pl.col("ended_by") == "reuse") & pl.col("socket").eq_missing(OWN_PROCESS_SOCKET)
    tied = pl.col("attribution") != "none"
    return (
        sessions.with_columns(
            window=pl.lit(window.start),
            confidence=pl.when(own_reused).then(pl.lit("at_least")).otherwise("confidence"),
            # The clocks of two lines may differ by a second, and summer time may end: no session has a negative length.
            end_time=pl.when(own_reused)
            .then("last_time")
            .when(pl.col("end_time").is_not_null())
            .then(pl.max_horizontal("start_time", "end_time")),
            operations=pl.when(tied).then("operations"),
            window_operations=pl.when(tied).then("window_operations"),
        )
        .with_columns(
            last_time=pl.when(pl.col("ended_by") == "disconnect")
            .then(pl.max_horizontal("last_time", "end_time"))
            .otherwise("last_time"),
            duration_us=(pl.col("end_time") - pl.col("start_time")).dt.total_microseconds(),
        )
        .select(SESSION.names())
        .cast(SESSION)
        .sort("start_time", "session")
    )
