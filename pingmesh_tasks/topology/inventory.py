"""The inventory: which servers there are and where each one stands.

Three formats, told apart by the ending: `.txt` (one address a line, the 2018 format), `.csv` and `.yaml`. Each is
read into entries (a line number and the text of each field), and one builder checks the entries, so that a rule
holds in all formats. A bad inventory raises one InventoryError with every fault in it, before any host is touched.

Invariants: names and addresses are unique, whatever their case or spelling; hosts are sorted by DC, podset, ToR and
name, numbers in names compared as numbers; `Inventory.from_document(i.to_document()) == i`.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from pingmesh_tasks.errors import InventoryError
from pingmesh_tasks.suggestions import did_you_mean
from pingmesh_tasks.topology import fields as checks
from pingmesh_tasks.topology.formats import MAX_BYTES, Faults, InventoryEntry, Value, decode, read_entries

DEFAULT_PROBE_PORT = 8765
DEFAULT_SSH_PORT = 22


@dataclass(frozen=True, slots=True)
class Host:
    """One server. `address` is an IPv4 or IPv6 literal; `ssh_port` and `ssh_user` None: the SSH connection decides."""

    name: str
    address: str
    dc: str = "dc1"
    podset: str = "podset1"
    tor: str = "tor1"
    ssh_port: int | None = None
    ssh_user: str | None = None
    probe_port: int = DEFAULT_PROBE_PORT
    labels: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def tor_key(self) -> tuple[str, str, str]:
        """The ToR's full name: ToR names repeat between podsets, and podsets between DCs."""
        return (self.dc, self.podset, self.tor)


@dataclass(frozen=True, slots=True)
class LogServer:
    """One access log of a data server. `timezone` is the IANA name of the zone that the log's times are in.

    `ssh_port` and `ssh_user` None: the SSH connection decides. `errors_path` is the server's stderr log, if it keeps
    one. A line in which a regular expression of `drop` is found is counted and thrown away. `countries` says whose
    networks are where, before any GeoIP library is asked: the longest prefix that holds an address wins.
    """

    name: str
    address: str
    path: str
    timezone: str
    format: str = "mdsip"
    ssh_port: int | None = None
    ssh_user: str | None = None
    errors_path: str | None = None
    drop: tuple[str, ...] = ()
    countries: Mapping[str, str] = field(default_factory=dict, hash=False)

    def as_host(self) -> Host:
        """Return the server as a host to log in to."""
        return Host(self.name, self.address, ssh_port=self.ssh_port, ssh_user=self.ssh_user)


@dataclass(frozen=True, slots=True)
class Inventory:
    """All hosts, sorted by (dc, podset, tor, name) with numbers in names compared as numbers."""

    hosts: tuple[Host, ...]
    has_topology: bool = False
    log_servers: tuple[LogServer, ...] = ()
    _by_name: dict[str, Host] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        place = {key: tuple(map(natural_key, key)) for key in {host.tor_key for host in self.hosts}}
        ordered = sorted(self.hosts, key=lambda host: (place[host.tor_key], natural_key(host.name)))
        object.__setattr__(self, "hosts", tuple(ordered))
        object.__setattr__(self, "log_servers", tuple(sorted(self.log_servers, key=lambda log: natural_key(log.name))))
        object.__setattr__(self, "_by_name", {host.name: host for host in ordered})

    def host(self, name: str) -> Host:
        """Return the host called `name`. Raises InventoryError, with the nearest names, if there is none."""
        return self.subset([name]).hosts[0]

    def subset(self, names: Iterable[str]) -> Inventory:
        """Return an inventory of the named hosts only. Raises InventoryError that lists every unknown name."""
        wanted = dict.fromkeys(names)
        unknown = [name for name in wanted if name not in self._by_name]
        if unknown or not wanted:
            faults = [f"there is no host {name!r}; {self._nearest(name)}" for name in unknown]
            raise InventoryError("inventory", faults or ["no host is named; name at least one"])
        return Inventory(tuple(self._by_name[name] for name in wanted), self.has_topology, self.log_servers)

    def _nearest(self, name: str) -> str:
        return did_you_mean(name, self._by_name) or f"it has {', '.join([*self._by_name][:3]) or 'none'}, …"

    def to_document(self) -> dict[str, Any]:
        """Return the inventory as plain values for JSON; most fields at their default are left out."""
        return {
            "has_topology": self.has_topology,
            "hosts": [_given(host) for host in self.hosts],
            "log_servers": [_given(log) for log in self.log_servers],
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any], location: str = "inventory document") -> Inventory:
        """Return the inventory of `to_document()`, checked like one written by hand. Raises InventoryError."""
        faults = Faults(location, unit="entry")
        try:
            hosts = [_entry_of(number, values) for number, values in enumerate(document["hosts"], 1)]
            logs = [_entry_of(number, values) for number, values in enumerate(document["log_servers"], 1)]
            has_topology = bool(document["has_topology"])
        except (KeyError, TypeError, AttributeError) as error:
            fault = f"is no inventory document ({error!r}); write it with to_document()"
            raise InventoryError(location, [fault]) from None
        built = _build_inventory(hosts, logs, faults)
        return cls(built.hosts, has_topology, built.log_servers)


def load_inventory(location: str, read: Callable[[str], bytes] | None = None) -> Inventory:
    """Return the inventory at a path, or at an `s3://` URI which `read` fetches.

    Raises InventoryError that lists every fault: line, what is wrong, what to write instead. Errors of `read` pass.
    """
    if "://" not in location:
        return parse_inventory(decode(_read_file(location), location), location)
    if not location.startswith("s3://"):
        raise InventoryError(location, ["only paths and s3:// URIs can be read; copy the inventory to one of them"])
    if read is None:
        raise InventoryError(location, ["no object store is at hand here; pass read=, or write the path of a file"])
    return parse_inventory(decode(read(location), location), location)


def parse_inventory(text: str, location: str) -> Inventory:
    """Return the inventory written in `text`; the ending of `location` tells the format. Pure.

    Raises InventoryError that lists every fault.
    """
    faults = Faults(location)
    hosts, logs = read_entries(text, location, faults, host_fields=list(_HOST_CHECKS), log_fields=list(_LOG_CHECKS))
    return _build_inventory(hosts, logs, faults)


def natural_key(text: str) -> tuple[list[str | int], str]:
    """Return a sort key by which `node10` follows `node9`; a tie of case is broken by the text itself."""
    parts = re.split(r"([0-9]+)", text.casefold())
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], text


def canonical_json(document: object) -> bytes:
    """Return the one JSON text of a document: keys sorted, no spaces. Equal documents have equal bytes."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


Checks = Mapping[str, Callable[[Any], object]]
_CONTACT: Checks = {
    "name": checks.check_name,
    "address": checks.check_address,
    "ssh_port": checks.check_port,
    "ssh_user": checks.check_user,
}
_TOPOLOGY = ("dc", "podset", "tor")
_HOST_CHECKS: Checks = {
    **_CONTACT,
    **dict.fromkeys(_TOPOLOGY, checks.check_name),
    "probe_port": checks.check_probe_port,
    "labels": checks.check_labels,
}
_LOG_CHECKS: Checks = {
    **_CONTACT,
    "path": checks.check_path,
    "timezone": checks.check_timezone,
    "format": checks.check_format,
    "errors_path": checks.check_path,
    "drop": checks.check_drop,
    "countries": checks.check_countries,
}
#: What the value of a field is, where it is not one text.
_SHAPES: Mapping[str, tuple[type, ...]] = {"labels": (dict, str), "drop": (list,), "countries": (dict,)}
_SHAPE_NAMES: Mapping[type, str] = {str: "one value", dict: "a mapping", list: "a list"}


def _build_inventory(
    host_entries: Sequence[InventoryEntry], log_entries: Sequence[InventoryEntry], faults: Faults
) -> Inventory:
    """Check every entry and what must hold between them; raise if `faults` has any in the end."""
    hosts = [(entry, _build(Host, entry, _HOST_CHECKS, faults)) for entry in host_entries]
    logs = [(entry, _build(LogServer, entry, _LOG_CHECKS, faults)) for entry in log_entries]
    if not hosts and not faults:
        faults.add(1, "has no host; write at least one")
    _check_unique(hosts, "address", faults)
    if not faults:
        for entry, values in hosts:
            if entry.nameless:
                values["name"] = re.sub("^-", "0-", values["address"].replace(":", "-"))
    _check_unique(hosts, "name", faults)
    _check_unique(logs, "name", faults)
    has_topology = _check_topology(host_entries, faults)
    _check_one_family(hosts, faults)
    _check_ports_apart(hosts, faults)
    faults.raise_if_any()
    return Inventory(
        hosts=tuple(Host(**values) for _, values in hosts),
        has_topology=has_topology,
        log_servers=tuple(LogServer(**values) for _, values in logs),
    )


def _build(kind: type, entry: InventoryEntry, checks_by_field: Checks, faults: Faults) -> dict[str, Any]:
    """Return the checked values of one entry; what was refused is missing from them and in `faults`."""
    values: dict[str, Any] = {}
    for name, (value, line) in entry.values.items():
        try:
            if type(value) not in (shapes := _SHAPES.get(name, (str,))):
                raise ValueError(f"is {_SHAPE_NAMES[type(value)]}; write {_SHAPE_NAMES[shapes[0]]}")
            values[name] = checks_by_field[name](value)
        except ValueError as error:
            shown = repr(value if len(str(value)) <= 80 else str(value)[:80] + "…")
            faults.add(line, f"{name} {shown} {error}")
    for required in (f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING):
        if required not in entry.values and not (entry.nameless and required == "name"):
            faults.add(entry.line, f"{required} is missing; write it")
    return values


def _check_unique(built: Iterable[tuple[InventoryEntry, dict[str, Any]]], name: str, faults: Faults) -> None:
    """Names become object keys and file names, so names that differ only by case are one name."""
    first: dict[str, tuple[InventoryEntry, str]] = {}
    for entry, values in built:
        if (value := values.get(name)) is None:
            continue
        earlier, spelling = first.setdefault(value.casefold(), (entry, value))
        if earlier is not entry:
            by_case = "" if value == spelling else f", which differs only by case from {spelling!r},"
            where = f"{faults.unit} {earlier.line_of(name)}"
            told = f"{name} {value!r}{by_case} is on {where} already; give each its own, or remove one"
            faults.add(entry.line_of(name), told)


def _check_topology(entries: Sequence[InventoryEntry], faults: Faults) -> bool:
    """Tell whether places are given. A place that only some hosts have would file the others into a wrong rack."""
    for name in _TOPOLOGY:
        without = [entry for entry in entries if name not in entry.values]
        if without and len(without) < len(entries):
            for entry in without:
                faults.add(entry.line, f"has no {name}, other hosts have one; write {name} for every host or for none")
    return any(name in entry.values for entry in entries for name in _TOPOLOGY)


def _check_one_family(built: Iterable[tuple[InventoryEntry, dict[str, Any]]], faults: Faults) -> None:
    """A probe leaves from the host's own address, so it cannot cross from IPv4 to IPv6."""
    families: dict[int, list[tuple[InventoryEntry, str]]] = {4: [], 6: []}
    for entry, values in built:
        if "address" in values:
            families[ipaddress.ip_address(values["address"]).version].append((entry, values["address"]))
    fewer, more = sorted(families, key=lambda version: len(families[version]))
    for entry, address in families[fewer]:
        faults.add(
            entry.line_of("address"),
            f"address {address!r} is IPv{fewer}, most hosts have IPv{more} and cannot probe it; "
            f"write its IPv{more} address, or an inventory of its own",
        )


def _check_ports_apart(built: Iterable[tuple[InventoryEntry, dict[str, Any]]], faults: Faults) -> None:
    for entry, values in built:
        if values.get("ssh_port", DEFAULT_SSH_PORT) == values.get("probe_port", DEFAULT_PROBE_PORT):
            faults.add(entry.line, f"SSH and the probes share port {values.get('ssh_port')}; write another probe_port")


def _read_file(location: str) -> bytes:
    try:
        with Path(location).expanduser().open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise InventoryError(location, [f"there is no such file in {Path.cwd()}; write its absolute path"]) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InventoryError(location, [f"cannot be read ({reason}); write the path of a readable file"]) from None


def _given(value: Host | LogServer) -> dict[str, Any]:
    """Return the fields that differ from their default; places always, because some must not stand without others."""
    found: dict[str, Any] = {}
    for f in fields(value):
        default = f.default_factory() if f.default_factory is not MISSING else f.default
        if (current := getattr(value, f.name)) != default or f.name in _TOPOLOGY:
            found[f.name] = dict(current) if isinstance(current, Mapping) else current
    return found


def _entry_of(number: int, values: Mapping[str, Any]) -> InventoryEntry:
    as_text = {name: _text_of(value) for name, value in values.items()}
    return InventoryEntry(number, {name: (value, number) for name, value in as_text.items()})


def _text_of(value: Any) -> Value:
    if isinstance(value, Mapping):
        return {str(key): str(text) for key, text in value.items()}
    return [str(text) for text in value] if isinstance(value, list | tuple) else str(value)
