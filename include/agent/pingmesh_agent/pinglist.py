"""The ping list: whom to probe, how often, within which bounds."""

from __future__ import annotations

import json

from pingmesh_agent.addresses import family_of
from pingmesh_agent.home import Home
from pingmesh_agent.limits import MAX_PINGLIST_BYTES, MAX_TARGETS, MIN_INTERVAL_S, check
from pingmesh_agent.probes import PROTOCOLS

TYPE_CHECKING = False  # importing typing would cost a megabyte on every host
if TYPE_CHECKING:
    from typing import Any


class Target:
    """One peer and how to probe it. `entry` is its line in the segment's target table."""

    __slots__ = ("address", "entry", "family", "probe", "size")

    def __init__(self, entry: list[Any]) -> None:
        name, address, port, protocol, scope, payload_bytes = entry
        check(
            isinstance(name, str) and isinstance(scope, str) and len(name) + len(scope) < 512,
            "name and scope",
        )
        check(type(port) is int and 0 < port < 65536, f"port {port!r} is not 1 ... 65535")
        check(
            isinstance(protocol, str) and protocol in PROTOCOLS,
            f"protocol {protocol!r}: known are {', '.join(PROTOCOLS)}",
        )
        check(type(payload_bytes) is int, f"payload_bytes {payload_bytes!r} is not a whole number")
        self.probe = PROTOCOLS[protocol]
        self.family = family_of(address)
        self.address = (address, port)
        self.size = max(self.probe.sizes[0], min(self.probe.sizes[1], payload_bytes))
        self.entry = [
            name,
            address,
            port,
            protocol,
            scope,
            self.size,
        ]  # the size that is sent, not the one asked for


class PingList:
    """What this agent was told: whom to probe, how often, and its bounds. Immutable; read with `parse_pinglist`."""

    __slots__ = (
        "address", "family", "host", "interval_s", "lease_s", "port", "spool_keep_s", "spool_max_bytes", "targets",
        "timeout_s", "version", "window_s",
    )  # fmt: skip

    def __init__(self, told: dict[str, Any], lab: bool) -> None:
        def number(key: str, low: float, high: float) -> float:
            value = told.get(key)
            within = type(value) in {int, float} and low <= value <= high  # type: ignore[operator]
            check(within, f"{key} {value!r} is not {low} ... {high}")
            return value  # type: ignore[return-value]

        for key in ("version", "host", "address"):
            check(
                isinstance(told.get(key), str) and len(told[key]) < 256,
                f"{key} {told.get(key)!r} is not a name",
            )
        self.version, self.host, self.address = told["version"], told["host"], told["address"]
        self.family = family_of(self.address)
        self.port = int(number("probe_port", 1, 65535))
        self.interval_s = float(number("interval_s", 0.05 if lab else MIN_INTERVAL_S, 86_400))
        self.window_s = int(number("window_s", 60, 86_400))
        whole = self.window_s % 60 == 0 and 86_400 % self.window_s == 0
        check(whole, f"window_s {self.window_s} is not a whole number of minutes that divides a day")
        self.timeout_s = float(number("timeout_s", 0.05, 60))
        self.lease_s = float(number("lease_s", 1, 1e9))
        self.spool_max_bytes = int(number("spool_max_bytes", 0, 1e15))
        self.spool_keep_s = float(number("spool_keep_s", 0, 1e9))
        entries = told.get("targets")
        check(
            isinstance(entries, list) and len(entries) <= MAX_TARGETS,
            f"targets: not a list of <= {MAX_TARGETS}",
        )
        self.targets = []
        for number_in_list, entry in enumerate(entries or ()):
            try:
                self.targets.append(Target(entry))
            except (ValueError, TypeError) as fault:
                raise ValueError(f"target {number_in_list}: {fault}") from fault


def parse_pinglist(text: bytes, lab: bool = False) -> PingList:
    """Read pinglist.json. Raises ValueError that says what is wrong with which value."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError) as fault:
        raise ValueError(f"not JSON: {fault}") from fault
    check(isinstance(told, dict), "not a JSON object")
    return PingList(told, lab)


def read_pinglist(home: Home, lab: bool) -> PingList:
    with home.open("pinglist.json") as file:
        return parse_pinglist(file.read(MAX_PINGLIST_BYTES), lab)
