"""A second reading of an access log, to hold the grammar against: by hand, a line at a time, from the description.

It shares nothing with `pingmesh_tasks.access` and is written the other way round: no regular expression takes a line
apart, dates are right when ctime() gives them back, times go through zoneinfo.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

PRINTABLE = frozenset(range(0x21, 0x7F))


def split_lines(log: bytes) -> Iterator[tuple[int, bytes]]:
    """(offset, line without its newline); a last line without one counts."""
    offset = 0
    for line in log.split(b"\n"):
        if line or offset + len(line) < len(log):
            yield offset, line
        offset += len(line) + 1


def reference(line: bytes, timezone: str) -> tuple[str, dict[str, object]]:
    """What a line (without its newline) is: "client" or "operation" with its fields, or "rejected" with none.

    What a client or its address may choose is left as bytes.
    """
    text = line.removesuffix(b"\r")
    link_time = utc(text[:24], timezone)
    for read in (operation, client):
        fields = read(text[24:])
        if fields is not None and link_time is not None and in_range(fields):
            return read.__name__, {"link_time": link_time} | fields
        if fields is not None:
            break
    return "rejected", {}


def utc(date: bytes, timezone: str) -> datetime | None:
    try:
        local = datetime.strptime(date.decode("ascii"), "%a %b %d %H:%M:%S %Y")  # noqa: DTZ007
    except ValueError:
        return None
    if local.ctime().encode() != date:
        return None
    first = local.replace(tzinfo=ZoneInfo(timezone), fold=0).astimezone(UTC)
    exists = first.astimezone(ZoneInfo(timezone)).replace(tzinfo=None) == local
    return first if exists else None


def operation(rest: bytes) -> dict[str, object] | None:
    head, found, fields = rest.partition(b" called for tree=")
    if not found or not head.startswith(b" (pid ") or b") " not in head:
        return None
    pid, _, hook_type = head[6:].partition(b") ")
    parts = fields.split(b", ")
    extended = len(parts) == 6
    names = [b"", b"shot=", b"node=", b"nid=", b"thread=", b"client="][: len(parts)]
    if len(parts) not in {3, 6} or not all(p.startswith(n) for p, n in zip(parts, names, strict=True)):
        return None
    tree, shot, node, *more = (part[len(name) :] for part, name in zip(parts, names, strict=True))
    whole = is_number(pid) and is_number(shot, signed=True) and re.fullmatch(rb"[A-Za-z]+", hook_type)
    plain = all(set(name) <= PRINTABLE - {ord(",")} for name in (tree, node, *more[2:]))
    if not whole or not plain or (extended and not (is_number(more[0], signed=True) and is_number(more[1]))):
        return None
    return {
        "pid": int(pid),
        "hook_type": hook_type.decode(),
        "tree": tree.decode(),
        "shot": int(shot),
        "node_path": None if node == b"N/A" else node.decode(),
        "node_id": int(more[0]) if extended else None,
        "thread": int(more[1]) if extended else None,
        "client_address": more[2].decode() if extended and more[2] != b"N/A" else None,
    }


def client(rest: bytes) -> dict[str, object] | None:
    head, found, _ = rest.partition(b" Connection ")
    numbers = head.split(b" ")
    if not found or len(numbers) not in {3, 4} or numbers[0] or numbers[-2] != b"(pid" or numbers[-1][-1:] != b")":
        return None
    socket = numbers[1][1:-1] if len(numbers) == 4 and (numbers[1][:1], numbers[1][-1:]) == (b"(", b")") else None
    pid, tail = numbers[-1][:-1], rest[len(head) + len(found) :]
    status, _, who = tail.partition(b" from ")
    name, bracket, address = who.rpartition(b" [")
    user, at, host = name.rpartition(b"@")
    whole = is_number(pid) and status in {b"received", b"disconnected"} and bracket and at and address[-1:] == b"]"
    if not whole or not host or (len(numbers) == 4 and (socket is None or not is_number(socket))):
        return None
    if not set(host) <= PRINTABLE or not set(address[:-1]) <= PRINTABLE - set(b"[]"):
        return None
    return {
        "pid": int(pid),
        "user": user,
        "host": host,
        "status": "ON" if status == b"received" else "OFF",
        "address": address[:-1],
        "socket": None if socket is None else int(socket),
    }


def is_number(text: bytes, *, signed: bool = False) -> bool:
    digits = text.removeprefix(b"-") if signed else text
    return bool(digits) and set(digits) <= set(b"0123456789")


def in_range(fields: dict[str, object]) -> bool:
    limits = {
        "pid": (0, 2**32 - 1),
        "socket": (0, 2**64 - 1),
        "thread": (0, 2**64 - 1),
        "shot": (-(2**63), 2**63 - 1),
        "node_id": (-(2**63), 2**63 - 1),
    }
    return all(
        low <= value <= high for name, (low, high) in limits.items() if isinstance(value := fields.get(name), int)
    )
