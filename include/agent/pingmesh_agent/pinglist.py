"""The ping list: which peers an agent probes, how often, and within which bounds."""

from __future__ import annotations

import json

from pingmesh_agent.addresses import family_of
from pingmesh_agent.home import Home
from pingmesh_agent.limits import MAX_PINGLIST_BYTES, MAX_TARGETS, MIN_INTERVAL_S, require
from pingmesh_agent.probes import PROTOCOLS

TYPE_CHECKING = False  # importing typing would add a megabyte
if TYPE_CHECKING:
    from typing import Any

MIN_LAB_INTERVAL_S = 0.05
MAX_NAME = 256
MAX_NAME_AND_SCOPE = 512
DAY_S = 86_400


class Target:
    """One peer and how to probe it. `entry` is its row in the target table of a segment."""

    __slots__ = ("address", "entry", "family", "probe", "size")

    def __init__(self, entry: list[Any]) -> None:
        name, address, port, protocol, scope, payload_bytes = entry
        named = isinstance(name, str) and isinstance(scope, str)
        require(named and len(name) + len(scope) < MAX_NAME_AND_SCOPE, "name and scope")
        require(type(port) is int and 0 < port < 65536, f"port {port!r} is not 1 ... 65535")
        known = isinstance(protocol, str) and protocol in PROTOCOLS
        require(known, f"protocol {protocol!r}: known are {', '.join(PROTOCOLS)}")
        whole = type(payload_bytes) is int
        require(whole, f"payload_bytes {payload_bytes!r} is not a whole number")
        self.probe = PROTOCOLS[protocol]
        self.family = family_of(address)
        self.address = (address, port)
        smallest, largest = self.probe.sizes
        self.size = max(smallest, min(largest, payload_bytes))
        # The table has the payload that is sent, not the one that was asked for.
        self.entry = [name, address, port, protocol, scope, self.size]


class PingList:
    """A ping list that was checked. Made by `parse_pinglist`; never changed."""

    __slots__ = (
        "address", "family", "host", "interval_s", "lease_s", "port", "spool_keep_s",
        "spool_max_bytes", "targets", "timeout_s", "version", "window_s",
    )  # fmt: skip

    def __init__(self, fields: dict[str, Any], lab: bool) -> None:
        self.version = _name(fields, "version")
        self.host = _name(fields, "host")
        self.address = _name(fields, "address")
        self.family = family_of(self.address)
        self.port = int(_number(fields, "probe_port", 1, 65535))
        shortest_s = MIN_LAB_INTERVAL_S if lab else MIN_INTERVAL_S
        self.interval_s = float(_number(fields, "interval_s", shortest_s, DAY_S))
        self.window_s = int(_number(fields, "window_s", 60, DAY_S))
        whole = self.window_s % 60 == 0 and DAY_S % self.window_s == 0
        fault = f"window_s {self.window_s} is not a whole number of minutes that divides a day"
        require(whole, fault)
        self.timeout_s = float(_number(fields, "timeout_s", 0.05, 60))
        self.lease_s = float(_number(fields, "lease_s", 1, 1e9))
        self.spool_max_bytes = int(_number(fields, "spool_max_bytes", 0, 1e15))
        self.spool_keep_s = float(_number(fields, "spool_keep_s", 0, 1e9))
        self.targets = _targets(fields.get("targets"))


def parse_pinglist(text: bytes, lab: bool = False) -> PingList:
    """Parse the content of pinglist.json.

    Args:
        text: The file's content.
        lab: Whether intervals below MIN_INTERVAL_S are allowed.

    Raises:
        ValueError: With the name of the value that is wrong and what is expected.
    """
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as fault:
        raise ValueError(f"not JSON: {fault}") from fault
    require(isinstance(fields, dict), "not a JSON object")
    return PingList(fields, lab)


def read_pinglist(home: Home, lab: bool) -> PingList:
    """Read pinglist.json of a home. Raises OSError or ValueError."""
    with home.open("pinglist.json") as file:
        return parse_pinglist(file.read(MAX_PINGLIST_BYTES), lab)


def _name(fields: dict[str, Any], key: str) -> str:
    value = fields.get(key)
    require(isinstance(value, str) and len(value) < MAX_NAME, f"{key} {value!r} is not a name")
    return str(value)


def _number(fields: dict[str, Any], key: str, low: float, high: float) -> float:
    value: Any = fields.get(key)
    within = type(value) in {int, float} and low <= value <= high
    require(within, f"{key} {value!r} is not {low} ... {high}")
    number: float = value
    return number


def _targets(entries: Any) -> list[Target]:
    few = isinstance(entries, list) and len(entries) <= MAX_TARGETS
    require(few, f"targets: not a list of <= {MAX_TARGETS}")
    targets = []
    for number, entry in enumerate(entries):
        try:
            targets.append(Target(entry))
        except (ValueError, TypeError) as fault:
            raise ValueError(f"target {number}: {fault}") from fault
    return targets
