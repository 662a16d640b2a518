"""Import what the Pingmesh of 2018 recorded: one JSON object a line, each with entries of

    [Timestamp s, SrcIP, SrcPort, DstIP, DstPort, Protocol, ProbingType, MsgLen, RTT s, ErrCode]

Its SrcIP is the server that answered and its DstIP the one that asked: they change places here. It knew servers by
their address alone, so the address is the name as well. RTT was taken in user space, around send and receive: larger
than the kernel's by what the scheduler took, so compare these records with each other and not with an agent's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import polars as pl

from pingmesh_tasks.errors import StoreError
from pingmesh_tasks.store.schemas import PROBE

SCOPES = {"tor": "intra_tor"}
LOCAL_ERROR = 7  # what an ErrCode other than 0 meant is not on record


def read_2018(path: Path) -> pl.DataFrame:
    """Return rows of `PROBE` from a file, or from all `*.ndjson` of a directory, sorted by ts, src, dst.

    Raises StoreError, naming file and line, at the first line that is no such record.
    """
    files = sorted(path.glob("*.ndjson")) if path.is_dir() else [path]
    rows = [row for file in files for row in _rows(file)]
    seconds = pl.col("ts") * 1_000_000
    return (
        pl.DataFrame(rows, schema=dict(PROBE) | {"ts": pl.Int64}, orient="row")
        .with_columns(seconds.cast(PROBE["ts"]))
        .sort("ts", "src", "dst")
    )


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(file.read_text().splitlines(), start=1):
        try:
            yield from map(_row, json.loads(line)["entries"])
        except (ValueError, TypeError, KeyError) as error:
            raise StoreError(
                f"{file}:{number}: no record of 2018: {error!r:.80}; each line is an object with entries"
            ) from None


def _row(entry: list[Any]) -> dict[str, Any]:
    ts_s, responder, responder_port, prober, prober_port, protocol, probing_type, msg_len, rtt_s, code = entry
    responder, prober = str(ip_address(responder)), str(ip_address(prober))
    return {
        "ts": int(ts_s),
        "src": prober,
        "src_ip": prober,
        "src_port": int(prober_port),
        "dst": responder,
        "dst_ip": responder,
        "dst_port": int(responder_port),
        "protocol": str(protocol),
        "scope": SCOPES.get(probing_type, str(probing_type)),
        "msg_len": int(msg_len),
        "rtt_us": round(rtt_s * 1_000_000) if code == 0 else None,
        "err_code": LOCAL_ERROR if code else 0,
        "retransmits": 0,
    }
