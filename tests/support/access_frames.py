"""Rows of `client`, `operation` and `server_error` as a log of one data server would give them, in the log's order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl

from pingmesh_tasks.store.schemas import CLIENT, OPERATION, SERVER_ERROR
from pingmesh_tasks.windows import Window

WINDOW = Window(datetime(2026, 11, 21, 22, 5, tzinfo=UTC), 300)
SERVER = "east"


class Log:
    """Collects lines; every line takes 100 bytes. Times are seconds after the start of WINDOW."""

    def __init__(self, server: str = SERVER) -> None:
        self.server = server
        self.lines: list[dict[str, object]] = []

    def _line(self, at_s: float, **fields: object) -> None:
        link_time = WINDOW.start + timedelta(seconds=at_s)
        offset = 100 * len(self.lines)
        self.lines.append({"link_time": link_time, "server": self.server, "offset": offset} | fields)

    def on(self, user, at_s=0.0, *, pid=77, socket: int | None = 4, host="pc1", address="10.0.0.1", status="ON"):
        self._line(at_s, user=user, pid=pid, socket=socket, host=host, address=address, status=status)

    def off(self, user, at_s=0.0, **fields):
        self.on(user, at_s, status="OFF", **fields)

    def op(
        self,
        at_s=0.0,
        *,
        pid=77,
        hook_type="GetData",
        tree="EAST",
        shot=138_000,
        node=r"\EAST::IP",
        client=None,
        thread=None,
    ):
        fields = {"hook_type": hook_type, "tree": tree, "shot": shot, "node_path": node, "client_address": client}
        self._line(at_s, pid=pid, node_id=None, thread=thread, **fields)

    def frames(self, first: int = 0, last: int | None = None) -> tuple[pl.DataFrame, pl.DataFrame]:
        """`client` and `operation` of the lines from number `first` to `last`."""
        some = self.lines[first:last]
        return (
            pl.DataFrame([line for line in some if "status" in line], schema=CLIENT),
            pl.DataFrame([line for line in some if "tree" in line], schema=OPERATION),
        )


def errors(*lines: tuple[str, str], window: Window = WINDOW) -> pl.DataFrame:
    """`server_error` of lines such as ("denied", "bob")."""
    rows = [
        {
            "window": window.start,
            "server": SERVER,
            "offset": 30 * number,
            "collected_from": window.start,
            "collected_until": window.end,
            "kind": kind,
            "user": user if kind in {"connected", "denied"} else None,
        }
        for number, (kind, user) in enumerate(lines)
    ]
    return pl.DataFrame(rows, schema=SERVER_ERROR)
