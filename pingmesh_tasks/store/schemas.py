"""The columns of every table: names, types, units.

Timestamps are UTC in µs, durations are in µs and say so in their names, ratios are 0…1. Every write is checked
against this page, so that a reader may rely on it for as long as the objects live.
"""

from __future__ import annotations

import polars as pl

from pingmesh_tasks.errors import StoreError
from pingmesh_tasks.store import layout
from pingmesh_tasks.windows import LEVELS_S

UTC_US = pl.Datetime("us", "UTC")


#: One row a probe. `rtt_us` is null unless the answer was clean: err_code 0 and no retransmit.
PROBE = pl.Schema(
    {
        "ts": UTC_US,
        "src": pl.String(),
        "src_ip": pl.String(),
        "src_port": pl.UInt16(),
        "dst": pl.String(),
        "dst_ip": pl.String(),
        "dst_port": pl.UInt16(),
        "protocol": pl.String(),
        "scope": pl.String(),
        "msg_len": pl.UInt16(),
        "rtt_us": pl.UInt32(),
        "err_code": pl.UInt8(),
        "retransmits": pl.UInt8(),
    }
)

#: One row a source, destination and protocol; `sent` is 0 for a pair that was planned and gave nothing.
#: sent = answered + lost + refused + unreachable + reset + bad_reply + local_error.
#: Quantiles are exact nearest ranks of the window's clean answers; `retransmitted` is part of `answered` but of no
#: quantile. The ladder (`latency.ladder`) counts the same answers in fixed log buckets, empty buckets left out.
PAIR_LATENCY = pl.Schema(
    {
        "window": UTC_US,
        "src": pl.String(),
        "dst": pl.String(),
        "protocol": pl.String(),
        "scope": pl.String(),
        "sent": pl.UInt32(),
        "answered": pl.UInt32(),
        "lost": pl.UInt32(),
        "retransmitted": pl.UInt32(),
        "refused": pl.UInt32(),
        "unreachable": pl.UInt32(),
        "reset": pl.UInt32(),
        "bad_reply": pl.UInt32(),
        "local_error": pl.UInt32(),
        "rtt_min_us": pl.UInt32(),
        "rtt_p50_us": pl.UInt32(),
        "rtt_p90_us": pl.UInt32(),
        "rtt_p95_us": pl.UInt32(),
        "rtt_p99_us": pl.UInt32(),
        "rtt_max_us": pl.UInt32(),
        "rtt_mean_us": pl.Float32(),
        "jitter_us": pl.UInt32(),
        "ladder_bucket": pl.List(pl.UInt8),
        "ladder_count": pl.List(pl.UInt32),
    }
)

#: One metric of a window as a dense matrix: row = source · hosts + destination; `matrix.codes` says what a code is. A
#: part is a metric; its metadata name the plan, and so the order of the hosts.
MESH_MAP = pl.Schema({"code": pl.UInt16()})

#: One row a group of pairs (`matrix.groups`): two ToRs, podsets or DCs, a host as source or as destination, or the
#: mesh. `failed` pairs sent probes and got no answer, `missing` ones sent none. Quantiles are read from the ladder.
GROUP_LATENCY = pl.Schema(
    {
        "src": pl.String(),
        "dst": pl.String(),
        **dict.fromkeys(("pairs", "failed", "missing", "sent", "answered", "lost"), pl.UInt64()),
        **dict.fromkeys(
            ("rtt_min_us", "rtt_p50_us", "rtt_p90_us", "rtt_p95_us", "rtt_p99_us", "rtt_max_us"), pl.UInt32()
        ),
        "ladder_bucket": pl.List(pl.UInt8),
        "ladder_count": pl.List(pl.UInt64),
    }
)

#: One row a part of the mesh in an hour or day: what was promised of it, and what it kept (`detect.mesh.sla`). `kind`:
#: mesh, intra_tor, intra_dc, inter_dc (no src, dst), dc, podset (src and dst name them). `within` of the `pairs` that
#: sent probes kept the limits. `clean` probes were answered at the first try; `loss` is lost ÷ sent, null without
#: probes.
SLA = pl.Schema(
    {
        "window": UTC_US,
        "kind": pl.String(),
        "src": pl.String(),
        "dst": pl.String(),
        **dict.fromkeys(("pairs", "within", "sent", "answered", "clean", "lost"), pl.UInt64()),
        "within_share": pl.Float64(),
        "loss": pl.Float64(),
        "rtt_p50_us": pl.UInt32(),
        "rtt_p99_us": pl.UInt32(),
    }
)

#: One row a host and stage of a window: what happened to it there.
HOST_STATUS = pl.Schema(
    {
        "window": UTC_US,
        "host": pl.String(),
        "stage": pl.String(),
        "outcome": pl.String(),
        "detail": pl.String(),
        "duration_ms": pl.UInt32(),
        "clock_offset_us": pl.Int64(),
        "agent_version": pl.String(),
        "pinglist_version": pl.String(),
        "segment_bytes": pl.UInt64(),
        "scheduled": pl.UInt64(),
        "skipped": pl.UInt64(),
    }
)

#: One row a connection line of a data server's log. `status` is ON or OFF, `socket` null where the server prints none.
#: `user` and `host` are what the client said, made safe (`text.safe_bytes`). `offset` is the byte of the raw
#: object at which the line begins: with server and window it names the line.
CLIENT = pl.Schema(
    {
        "link_time": UTC_US,
        "pid": pl.UInt32(),
        "user": pl.String(),
        "host": pl.String(),
        "status": pl.String(),
        "server": pl.String(),
        "address": pl.String(),
        "socket": pl.UInt64(),
        "offset": pl.UInt64(),
    }
)

#: One row a hook line. `node_path` is null for an operation on a whole tree; the last three are null unless the hook
#: library writes its extended form.
OPERATION = pl.Schema(
    {
        "link_time": UTC_US,
        "pid": pl.UInt32(),
        "hook_type": pl.String(),
        "tree": pl.String(),
        "shot": pl.Int64(),
        "node_path": pl.String(),
        "server": pl.String(),
        "offset": pl.UInt64(),
        "node_id": pl.Int64(),
        "thread": pl.UInt64(),
        "client_address": pl.String(),
    }
)

#: One row a session of a data server and window in which it was alive: what is known of it at the window's end. The
#: newest row of a `session` holds; those with `ended_by` null are carried into the next window (`access.sessions`).
#: `last_time` is its last line. `ended_by`: disconnect, reuse (its socket or pid went to another), silence, refusal.
#: `confidence` of the end: open, exact, at_least, at_most, doubtful, inferred. `attribution`: process, address, none;
#: `operations` (since the start) and `window_operations` are null where no line can be tied to a session.
SESSION = pl.Schema(
    {
        "window": UTC_US,
        "server": pl.String(),
        "session": pl.String(),
        "user": pl.String(),
        "host": pl.String(),
        "address": pl.String(),
        "pid": pl.UInt32(),
        "socket": pl.UInt64(),
        "start_time": UTC_US,
        "last_time": UTC_US,
        "end_time": UTC_US,
        "ended_by": pl.String(),
        "confidence": pl.String(),
        "duration_us": pl.Int64(),
        "attribution": pl.String(),
        "operations": pl.UInt64(),
        "window_operations": pl.UInt64(),
    }
)

#: One row a figure: a `measure` of a data server's window for one `key` of a `dimension`. A null key is all that no
#: other row of the measure and dimension names: everything in dimension `all`, the rest beyond the top keys elsewhere.
#: `access.usage.MEASURES` says how each measure merges over windows. Durations end in `_s`.
USAGE = pl.Schema(
    {
        "window": UTC_US,
        "server": pl.String(),
        "measure": pl.String(),
        "dimension": pl.String(),
        "key": pl.String(),
        "value": pl.Int64(),
    }
)

#: One row a line of a data server's errors log that is not blank. The lines have no date: what is known of the time is
#: that they were written after `collected_from` (null: unknown) and before `collected_until`.
#: `kind`: connected, denied (both name the user), dispatched (an address), bad_header, other (`text`, escaped).
SERVER_ERROR = pl.Schema(
    {
        "window": UTC_US,
        "server": pl.String(),
        "offset": pl.UInt64(),
        "collected_from": UTC_US,
        "collected_until": UTC_US,
        "kind": pl.String(),
        "user": pl.String(),
        "address": pl.String(),
        "text": pl.String(),
    }
)

#: One row a log of a data server and window: how its collection went (`access.collect.CollectOutcome`, or the outcome
#: of the host where it could not be reached) and what it brought. `backlog_bytes` are left for the next window,
#: `lost_bytes` were destroyed before they could be read.
LOG_STATUS = pl.Schema(
    {
        "window": UTC_US,
        "server": pl.String(),
        "kind": pl.String(),
        "outcome": pl.String(),
        "detail": pl.String(),
        "new_bytes": pl.UInt64(),
        "backlog_bytes": pl.UInt64(),
        "lost_bytes": pl.UInt64(),
    }
)

#: One row a pair and protocol: what its last `windows` windows were like, in natural logarithms of µs, each centre with
#: a deviation (`detect.mesh.baseline`), and the share of its probes that was dropped. Null: it never had a clean
#: answer.
NORMAL = pl.Schema(
    {
        "src": pl.String(),
        "dst": pl.String(),
        "protocol": pl.String(),
        "windows": pl.UInt16(),
        "p50_ln": pl.Float32(),
        "p50_dev": pl.Float32(),
        "p99_ln": pl.Float32(),
        "p99_dev": pl.Float32(),
        "loss": pl.Float32(),
    }
)

#: One row a finding of one look at a source (`mesh` or a data server): see `detect.finding.Finding`. `lane` is hot
#: (seconds after the fact) or window. `value`, `threshold`, `normal` are in `unit`; `evidence` is a JSON list.
ANOMALY = pl.Schema(
    {
        "at": UTC_US,
        "lane": pl.String(),
        "source": pl.String(),
        "rule": pl.String(),
        "scope": pl.String(),
        "subject": pl.String(),
        "severity": pl.String(),
        "value": pl.Float64(),
        "unit": pl.String(),
        "threshold": pl.Float64(),
        "normal": pl.Float64(),
        "confidence": pl.Float64(),
        "affected": pl.UInt32(),
        "since": UTC_US,
        "detail": pl.String(),
        "advice": pl.String(),
        "evidence": pl.String(),
    }
)

#: One row a data server, key of a dimension (all: null key, user, client, country, node) and measure: what it had in
#: the `windows` in which it was seen, as `detect.access.baseline.MEASURES` says. `recent` are the newest values, the
#: oldest first; `median` and `upper` (the 90th percentile, nearest rank) are theirs.
ACCESS_NORMAL = pl.Schema(
    {
        "server": pl.String(),
        "dimension": pl.String(),
        "key": pl.String(),
        "measure": pl.String(),
        "windows": pl.UInt32(),
        "first_seen": UTC_US,
        "last_seen": UTC_US,
        "median": pl.Float64(),
        "upper": pl.Float64(),
        "recent": pl.List(pl.Float32()),
    }
)

#: One row a notification (`alerting.incident.Notification`). `kind`: opened, escalated, reminder or resolved. The
#: figures are those of the suspect's finding at that time; `members` and `evidence` are JSON lists.
NOTICE = pl.Schema(
    {
        "at": UTC_US,
        "notice": pl.String(),
        "incident": pl.String(),
        "kind": pl.String(),
        "source": pl.String(),
        "rule": pl.String(),
        "scope": pl.String(),
        "subject": pl.String(),
        "severity": pl.String(),
        "opened_at": UTC_US,
        "since": UTC_US,
        "value": pl.Float64(),
        "unit": pl.String(),
        "threshold": pl.Float64(),
        "normal": pl.Float64(),
        "confidence": pl.Float64(),
        "affected": pl.UInt32(),
        "title": pl.String(),
        "detail": pl.String(),
        "advice": pl.String(),
        "note": pl.String(),
        "members": pl.String(),
        "more_members": pl.UInt32(),
        "acknowledged_by": pl.String(),
        "evidence": pl.String(),
    }
)

SCHEMAS = {
    "probe": PROBE,
    "pair_latency": PAIR_LATENCY,
    "mesh_map": MESH_MAP,
    "group_latency": GROUP_LATENCY,
    "host_status": HOST_STATUS,
    "client": CLIENT,
    "operation": OPERATION,
    "session": SESSION,
    "usage": USAGE,
    "server_error": SERVER_ERROR,
    "log_status": LOG_STATUS,
    "normal": NORMAL,
    "anomaly": ANOMALY,
    "notice": NOTICE,
    "access_normal": ACCESS_NORMAL,
}

#: What hours and days have as well, of the same columns: `window` is their start (`latency.rollup`).
SCHEMAS |= {
    layout.at_level(table, level): SCHEMAS[table]
    for level in LEVELS_S
    for table in ("pair_latency", "mesh_map", "group_latency")
}
SCHEMAS |= {layout.at_level("sla", level): SLA for level in LEVELS_S}


def check_schema(table: str, frame: pl.DataFrame) -> None:
    """Raise StoreError unless `frame` has the columns of `table`, in order and of their types."""
    wanted = SCHEMAS[table]
    if frame.schema == wanted:
        return
    faults = [
        f"column {name} is {frame.schema.get(name)}, not {kind}"
        for name, kind in wanted.items()
        if frame.schema.get(name) != kind
    ]
    faults += [f"column {name} does not belong to it" for name in frame.columns if name not in wanted]
    raise StoreError(f"table {table}: " + ("; ".join(faults) or f"columns are out of order; they are {list(wanted)}"))
