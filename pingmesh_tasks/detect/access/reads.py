"""Reads that hurt: the same data over and over, as by a script that polls without a pause; or a tree node by node.

Who reads is a process or a thread where it serves one client, and then the user or client behind it. Where one process
serves everybody, a node can only be said to be read too often: by its share of all reads, and if it is sudden. Who was
connected just then is a hint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pingmesh_tasks.detect.access.view import MINUTE, UNTIED, UNTIED_ADVICE, PreparedLog, busiest, node_name
from pingmesh_tasks.detect.finding import Scope
from pingmesh_tasks.text import one_line

BURST = timedelta(seconds=5)
_PER_MINUTE = MINUTE / BURST
#: In a process that serves everybody, a burst is so many times what the node had before, in so many spans of BURST.
#: And so many times its bursts of other times.
_MIN_SPANS, _SURPRISE, _ABOVE_PEAK = 4, 4.0, 1.5
#: From this correlation on, a user's presence goes with what was written; so many users may be named as possible ones.
_GOOD_FIT, _FEW = 0.7, 3
MAX_ROWS, _MOST_HITS = 5, 100
_DATA = ("tree", "shot", "node_path")
_NODE = ("tree", "node_path")


def heavy_reads(log: PreparedLog) -> None:
    """The same data (node of a shot) read over and over by one process or user; or a tree read node by node."""
    log.judged.add("heavy_reads")
    reads = log.operation.filter(pl.col("hook_type") == "GetData", pl.col("node_path").is_not_null())
    alone, shared = reads.filter("alone"), reads.filter(~pl.col("alone"))
    hits = _by_process(log, alone) + _by_user(log, alone) + _whole_trees(log, alone) + _by_server(log, shared)
    on = [hit for hit in hits if log.rules.is_on("heavy_reads", server=log.view.server, **_place(hit))]
    by_suspect: dict[tuple[Scope, str], list[dict[str, Any]]] = {}
    for hit in sorted(on, key=lambda hit: (-hit["value"] / hit["threshold"], str(hit))):
        by_suspect.setdefault(_suspect(hit, on), []).append(hit)
    for suspect, found in by_suspect.items():
        _report_reads(log, reads, suspect, found)


def _by_process(log: PreparedLog, reads: pl.DataFrame) -> list[dict[str, Any]]:
    """Return the data that one process, or thread of one, read too often within a minute or, hot, a few seconds."""
    reader, who = ["pid", "thread", "client", *_DATA], (pl.col("user").last(),)
    hits = _over(log, "process_per_min", busiest(_of_busy(log, "process_per_min", reads, "pid"), reader, *who))
    if log.hot:
        recent = reads.filter(pl.col("link_time") > log.until - BURST)
        hits += [_a_minute(hit) for hit in _over(log, "process_burst", busiest(recent, reader, *who))]
    return hits


def _by_user(log: PreparedLog, reads: pl.DataFrame) -> list[dict[str, Any]]:
    """Return the data that a user read too often from one client, in however many processes."""
    reads = _of_busy(log, "user_per_min", reads.drop_nulls("user"), "user")
    return _over(log, "user_per_min", busiest(reads, ["user", "client", *_DATA]))


def _of_busy(log: PreparedLog, limit: str, reads: pl.DataFrame, key: str) -> pl.DataFrame:
    """Return the reads of those with enough of them in a minute to reach a limit at all: mostly none."""
    counts = reads.group_by(key, "minute").len().filter(pl.col("len") >= log.rules.lowest("heavy_reads", limit))
    return reads.join(counts, on=[key, "minute"], how="semi", maintain_order="left") if len(counts) else reads.clear()


def _over(log: PreparedLog, limit: str, counts: pl.DataFrame) -> list[dict[str, Any]]:
    """Return the counts over a limit, with the `threshold`; no more than are of any use to name."""
    found = counts.with_columns(threshold=log.limits("heavy_reads", limit, counts))
    return found.filter(pl.col("value") >= pl.col("threshold")).head(_MOST_HITS).to_dicts()


def _a_minute(hit: dict[str, Any]) -> dict[str, Any]:
    """Return what was counted in BURST as a rate."""
    return hit | {name: hit[name] * _PER_MINUTE for name in ("value", "threshold")}


def _by_server(log: PreparedLog, reads: pl.DataFrame) -> list[dict[str, Any]]:
    """Return the nodes that are read too often, and more than others, in a process that serves everybody."""
    hits = _over(log, "server_per_min", _of_share(log, "server_share", reads))
    if log.hot and len(reads):
        recent = reads.filter(pl.col("link_time") > log.until - BURST)
        over = _over(log, "server_burst", _of_share(log, "server_burst_share", recent))
        hits += [_a_minute(hit) for hit in over if _is_sudden(log, reads, hit)]
    return hits


def _of_share(log: PreparedLog, limit: str, reads: pl.DataFrame) -> pl.DataFrame:
    """Return the nodes that have so much of all reads: the few that have the least share asked of any, then by node."""
    by_node = _shares(reads, busiest(reads, ["pid", *_NODE]))
    by_node = by_node.filter(pl.col("share") >= log.rules.lowest("heavy_reads", limit))
    return by_node.filter(pl.col("share") >= log.limits("heavy_reads", limit, by_node))


def _is_sudden(log: PreparedLog, reads: pl.DataFrame, hit: Mapping[str, Any]) -> bool:
    """Tell whether a burst is far above what the node has had lately: in this minute, and in the bursts of other times
    (after a shot, all displays read the same signals at once)."""
    before = _burst_before(log, reads, hit)
    node = node_name(hit["tree"], hit["node_path"])
    known = log.usual("node", "burst", node)
    enough = known is not None and known["windows"] >= log.limit("node_rate", "min_windows", node=node)
    at_peak = _ABOVE_PEAK * known["upper"] if known and enough else 0.0
    return before is not None and hit["value"] >= max(_SURPRISE * before, at_peak)


def _burst_before(log: PreparedLog, reads: pl.DataFrame, hit: Mapping[str, Any]) -> float | None:
    """Return how often the node is read in BURST at the quieter times of this minute, or None: the log is too young.

    The lower quartile of spans: a flood that began less than 45 seconds ago does not count as usual.
    """
    spans = (pl.lit(log.until) - pl.col("link_time")).dt.total_microseconds() // (BURST.total_seconds() * 1_000_000)
    first = log.operation.select(spans.max()).item()
    if first is None or first < _MIN_SPANS:
        return None
    own = reads.filter(*(pl.col(name) == hit[name] for name in _NODE)).select(span=spans)
    counts = own.filter(pl.col("span").is_between(1, first)).group_by("span").len()
    found = np.zeros(int(first))
    found[counts["span"].to_numpy().astype(int) - 1] = counts["len"].to_numpy()
    return float(np.quantile(found, 0.25))


def _whole_trees(log: PreparedLog, reads: pl.DataFrame) -> list[dict[str, Any]]:
    """Return the trees of which one process read very many nodes within a minute."""
    reader = ("pid", "thread", "client", "tree", "shot")
    counts = (
        _of_busy(log, "nodes_per_min", reads, "pid")
        .group_by(*reader, "minute")
        .agg(
            value=pl.col("node_path").n_unique().cast(pl.Int64),
            since=pl.col("link_time").min(),
            user=pl.col("user").last(),
        )
        .sort("value", "since", *reader, descending=[True, *[False] * 6])
    )
    return _over(log, "nodes_per_min", counts.with_columns(node_path=pl.lit(None, pl.String)))


def _shares(reads: pl.DataFrame, counts: pl.DataFrame) -> pl.DataFrame:
    """Add `share`: of all reads of the same minute."""
    everything = reads.group_by("minute").len("all")
    joined = counts.join(everything, on="minute", how="left", maintain_order="left")
    return joined.with_columns(share=pl.col("value") / pl.col("all"))


def _place(hit: Mapping[str, Any]) -> dict[str, str]:
    place = {name: hit[name] for name in ("user", "client") if hit.get(name) is not None}
    return place | ({"node": node_name(hit["tree"], hit["node_path"])} if hit["node_path"] else {})


def _suspect(hit: Mapping[str, Any], hits: Sequence[Mapping[str, Any]]) -> tuple[Scope, str]:
    """Return whom a hit names: the user, else the client, else who is known to do the same, else the node."""
    if hit.get("user") is not None:
        return "user", hit["user"]
    if hit.get("client") is not None:
        return "client", hit["client"]
    same = [other for other in hits if all(other[name] == hit[name] for name in _NODE)]
    users = {other["user"] for other in same if other.get("user") is not None}
    return ("user", users.pop()) if len(users) == 1 else ("node", node_name(hit["tree"], hit["node_path"] or "*"))


def _report_reads(
    log: PreparedLog, reads: pl.DataFrame, suspect: tuple[Scope, str], hits: Sequence[dict[str, Any]]
) -> None:
    """Report the hits of one suspect, the worst of which is the first, and take their lines away."""
    scope, subject = suspect
    worst = hits[0]
    nodes = pl.DataFrame([{name: hit[name] for name in _NODE} for hit in hits], schema=dict.fromkeys(_NODE, pl.String))
    trees = nodes.filter(pl.col("node_path").is_null())["tree"].unique()
    nobody = pl.col("user").is_null() & pl.col("client").is_null()
    whose = pl.lit(True) if scope == "node" else (pl.col(scope) == subject) | nobody
    theirs = log.operation.filter(whose)
    of_nodes = theirs.join(nodes.unique(), on=_NODE, how="semi")
    theirs = pl.concat([of_nodes, theirs.filter(pl.col("tree").is_in(trees.implode()))]).unique("offset").sort("offset")

    name = one_line(node_name(worst["tree"], worst["node_path"] or "*"))
    rate = f"at a rate of {worst['value']:,.0f} a minute"
    what = f"{name} is read {rate}" if worst["node_path"] else f"{name} is read node by node, {rate}"
    recent = pl.col("link_time") >= pl.lit(worst["since"])
    lately = theirs.filter(recent)
    share = len(lately.filter(pl.col("hook_type") == "GetData")) / max(1, len(reads.filter(recent)))
    more = len({(hit["tree"], hit["node_path"]) for hit in hits}) - 1
    tail = f", {min(share, 1.0):.0%} of all reads" + (f", and {more} more like it" if more else "")
    evidence = [_row(hit) for hit in hits[:MAX_ROWS]]
    advice = "Ask whether a script polls where it could wait for the next shot, and read once."
    confidence = 1.0
    if scope != "node":
        whence = f" from {one_line(worst['client'])}" if scope == "user" and worst.get("client") else ""
        detail = f"{what} by {one_line(subject)}{whence}{tail}"
    elif "share" not in worst:
        thread = "" if worst["thread"] is None else f", thread {worst['thread']}"
        detail = f"{what} by one client, of whom nothing is known but process {worst['pid']}{thread}{tail}"
    else:
        present = _who_was_there(log, theirs)
        evidence += present[:MAX_ROWS]
        names = " or ".join(row["connected"] for row in present)
        few = len(present) <= _FEW
        hint = f"; by who was connected when, it may be {names}" if few else f"; {len(present)} users came just then"
        detail = f"{what}{tail}; {UNTIED}" + (hint if present else "")
        advice, confidence = f"Look at who connected when it began. {UNTIED_ADVICE}", 0.9
    log.find(
        "heavy_reads",
        scope,
        subject,
        value=worst["value"],
        unit="reads/min" if worst["node_path"] else "nodes/min",
        threshold=worst["threshold"],
        since=min(hit["since"] for hit in hits),
        detail=detail,
        advice=advice,
        normal=_normal_reads(log, worst),
        confidence=confidence,
        affected=len(theirs.filter(pl.col("link_time") >= pl.lit(min(hit["since"] for hit in hits)))),
        evidence=evidence,
    )
    log.operation = log.operation.join(theirs, on="offset", how="anti", maintain_order="left")


def _normal_reads(log: PreparedLog, hit: Mapping[str, Any]) -> float | None:
    known = log.usual("node", "reads", node_name(hit["tree"], hit["node_path"])) if hit["node_path"] else None
    return None if known is None else float(known["upper"])


def _row(hit: Mapping[str, Any]) -> dict[str, Any]:
    names = ("tree", "shot", "node_path", "user", "client", "pid", "thread")
    row = {name: hit[name] for name in names if hit.get(name) is not None}
    return row | {"per_min": hit["value"], "limit": hit["threshold"]}


def _who_was_there(log: PreparedLog, theirs: pl.DataFrame) -> list[dict[str, Any]]:
    """Return the users whose presence goes with the lines, second by second: a hint, never a proof. Best fit first."""
    firsts = (log.operation["link_time"].min(), theirs["link_time"].min())
    start = min((first for first in firsts if isinstance(first, datetime)), default=log.until)
    length = int((log.until - start).total_seconds()) + 1
    second = (pl.col("link_time") - pl.lit(start)).dt.total_seconds().clip(0, length - 1)
    written = np.bincount(theirs.select(second).to_series().to_numpy(), minlength=length)
    there: dict[str, NDArray[np.bool_]] = {}
    for user, begin, end in _presence(log, start, second, length).iter_rows():
        there.setdefault(user, np.zeros(length, dtype=bool))[begin : end + 1] = True
    fits = [
        (float(np.corrcoef(mask, written)[0, 1]), user)
        for user, mask in there.items()
        if mask.any() and not mask.all() and written.std() > 0
    ]
    best = sorted((fit for fit in fits if fit[0] >= _GOOD_FIT), key=lambda fit: (-fit[0], fit[1]))
    return [{"connected": one_line(user, 40), "fit": fit} for fit, user in best]


def _presence(log: PreparedLog, start: datetime, second: pl.Expr, length: int) -> pl.DataFrame:
    """Return user, first and last second (of `length` from `start`) of each stretch of time that one was connected."""
    key = ("pid", "socket", "user", "address")
    number = pl.int_range(pl.len()).over(key)
    seen = log.view.client.join(log.forged, on="offset", how="anti", maintain_order="left").sort("offset")
    lines = seen.select(*key, "status", at_s=second)
    on = lines.filter(pl.col("status") == "ON").with_columns(number=number)
    off = lines.filter(pl.col("status") == "OFF").with_columns(number=number)
    came = on.join(off.select(*key, "number", gone_s="at_s"), on=[*key, "number"], how="left", nulls_equal=True)
    stays = came.select("user", "at_s", pl.col("gone_s").fill_null(length - 1))
    was_there = off.join(on, on=key, how="anti", nulls_equal=True).select("user", pl.lit(0, pl.Int64), gone_s="at_s")
    parts = [stays, was_there.rename({"literal": "at_s"})]
    if log.view.session is not None:
        older = log.view.session.filter(pl.col("ended_by").is_null(), pl.col("start_time") < pl.lit(start))
        older = older.join(lines, on=["pid", "socket"], how="anti", nulls_equal=True)
        parts.append(older.select("user", at_s=pl.lit(0, pl.Int64), gone_s=pl.lit(length - 1, pl.Int64)))
    return pl.concat(parts)
