"""From the text of an inventory to entries: a line number and the text of each field.

This module knows the three notations and nothing of what a field means. Everything is text until `fields` checks
it, so that `name: no` and `name: 007` in YAML are the names they look like. Faults are gathered, never raised one by
one. Bounded: 64 MiB of text, no YAML aliases, no nesting deeper than an inventory has.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import yaml

from pingmesh_tasks.bounded_yaml import LOADER, find_faults
from pingmesh_tasks.errors import InventoryError
from pingmesh_tasks.suggestions import suggest

MAX_BYTES = 64 * 2**20
MAX_FAULTS = 1_000
_YAML_DEPTH = 6
_YAML_PLAIN = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "timestamp"))
_YAML_NULL = "tag:yaml.org,2002:null"
#: The fields whose value is a list of texts; in every other a list is a slip.
LIST_FIELDS = ("drop",)

Value = str | dict[str, str] | list[str]


@dataclass(frozen=True, slots=True)
class InventoryEntry:
    """One host or log server as written: the line it starts on, and each given field's value and line.

    `nameless`: the notation has no names, the host is called by its address.
    """

    line: int
    values: Mapping[str, tuple[Value, int]]
    nameless: bool = False

    def line_of(self, name: str) -> int:
        return self.values[name][1] if name in self.values else self.line


class Faults:
    """Gathers what is wrong at which line; `raise_if_any` tells all of it, in the order of lines."""

    def __init__(self, location: str, unit: str = "line") -> None:
        self.location = location
        self.unit = unit
        self._found: list[tuple[int, str]] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, line: int, text: str) -> None:
        self._found.append((line, text))

    def raise_if_any(self) -> None:
        if not self._found:
            return
        told = [f"{self.unit} {line}: {text}" for line, text in sorted(self._found, key=lambda fault: fault[0])]
        if len(told) > MAX_FAULTS:
            told[MAX_FAULTS:] = [f"and {len(told) - MAX_FAULTS} more; mend these first"]
        raise InventoryError(self.location, told)


def decode(data: bytes, location: str) -> str:
    """Return the text of a file. Raises InventoryError if it is too big or not UTF-8."""
    if len(data) > MAX_BYTES:
        raise InventoryError(location, [f"is bigger than {MAX_BYTES >> 20} MiB; is this the inventory?"])
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InventoryError(location, ["is UTF-16, which a spreadsheet calls 'Unicode text'; save it as 'CSV UTF-8'"])
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        fault = f"line {line}: byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise InventoryError(location, [fault]) from None


def read_entries(
    text: str, location: str, faults: Faults, *, host_fields: Sequence[str], log_fields: Sequence[str]
) -> tuple[list[InventoryEntry], list[InventoryEntry]]:
    """Return (hosts, log servers) as written in `text`; the ending of `location` tells the notation."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    ending = location.rpartition("/")[2].rpartition(".")[2].lower()
    if ending not in ("txt", "csv", "yaml", "yml"):
        raise InventoryError(location, ["its ending tells no format; name it .txt (addresses), .csv or .yaml"])
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InventoryError(location, [f"line {line}: has a NUL byte; this is no text, or a damaged copy of one"])
    if not text.strip():
        raise InventoryError(location, ["is empty; write at least one host"])
    if ending == "txt":
        return _read_lines(text, faults), []
    if ending == "csv":
        return _read_csv(text, faults, host_fields), []
    return _read_yaml(text, faults, host_fields, log_fields)


def _read_lines(text: str, faults: Faults) -> list[InventoryEntry]:
    """One address a line; `#` starts a comment."""
    entries = []
    for line, content in enumerate(text.split("\n"), 1):
        words = content.partition("#")[0].split()
        if len(words) > 1:
            faults.add(line, f"has {len(words)} words; write one address a line, or names and places in a .csv")
        elif words:
            entries.append(InventoryEntry(line, {"address": (words[0], line)}, nameless=True))
    return entries


def _read_csv(text: str, faults: Faults, known: Sequence[str]) -> list[InventoryEntry]:
    """A header and one host a row, separated by comma, semicolon or tab; rows that start with `#` are comments."""
    rows = _csv_rows(text, faults)
    line, header = next(rows, (1, []))
    columns = [cell.strip().lower() for cell in header]
    for position, column in enumerate(columns):
        if column not in known:
            faults.add(line, f"unknown column {column!r}; {suggest(column, known)}")
        elif column in columns[:position]:
            faults.add(line, f"column {column!r} is there twice; remove one")
    for column in ("name", "address"):
        if column not in columns:
            faults.add(
                line, f"column {column!r} is missing; the first row names the columns: name,address,dc,podset,tor"
            )
    entries = []
    for line, row in rows:
        while len(row) > len(columns) and not row[-1].strip():
            row.pop()
        if len(row) != len(columns):
            faults.add(line, f"has {len(row)} cells, the header {len(columns)}; leave a cell empty, not out")
            continue
        cells = {column: cell.strip() for column, cell in zip(columns, row, strict=True) if column in known}
        entries.append(InventoryEntry(line, {column: (cell, line) for column, cell in cells.items() if cell}))
    return entries


def _csv_rows(text: str, faults: Faults) -> Iterator[tuple[int, list[str]]]:
    """Yield (line on which it starts, cells) of each row that says something."""
    head = next((line for line in text.split("\n") if line.strip() and not line.startswith("#")), "")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            faults.add(line, f"is no CSV ({error}); look for a quote that is not closed")
            return
        if any(cell.strip() for cell in row) and not row[0].lstrip().startswith("#"):
            yield line, row


def _read_yaml(
    text: str, faults: Faults, host_fields: Sequence[str], log_fields: Sequence[str]
) -> tuple[list[InventoryEntry], list[InventoryEntry]]:
    """A mapping with the lists `hosts` and, if any, `log_servers`."""
    root = _compose(text, faults)
    sections = {"hosts": host_fields, "log_servers": log_fields}
    found: dict[str, list[InventoryEntry]] = {name: [] for name in sections}
    if root is None:
        return [], []
    if not isinstance(root, yaml.MappingNode):
        faults.add(_line(root), "is no mapping; write 'hosts:' and under it one '- name: …' a host")
        return [], []
    for name, node in _items(root, faults):
        if name not in sections:
            faults.add(_line(node), f"unknown section {name!r}; {suggest(name, list(sections))}")
        elif isinstance(node, yaml.SequenceNode):
            found[name] = [entry for item in node.value if (entry := _yaml_entry(item, faults, sections[name]))]
        elif node.tag != _YAML_NULL:
            faults.add(_line(node), f"{name} is no list; write one '- name: …' for each")
    return found["hosts"], found["log_servers"]


def _compose(text: str, faults: Faults) -> yaml.Node | None:
    """Return the tree of a YAML text, or None after adding why there is none."""
    found = find_faults(text, max_depth=_YAML_DEPTH, example="example.yaml")
    for line, fault in found:
        faults.add(line, fault)
    return None if found else yaml.compose(text, Loader=LOADER)


def _yaml_entry(node: yaml.Node, faults: Faults, known: Sequence[str]) -> InventoryEntry | None:
    if not isinstance(node, yaml.MappingNode):
        faults.add(_line(node), "is no mapping; write '- name: …' and 'address: …' below it")
        return None
    values: dict[str, tuple[Value, int]] = {}
    for name, item in _items(node, faults):
        if name not in known:
            faults.add(_line(item), f"unknown field {name!r}; {suggest(name, known)}")
        elif (value := (_yaml_list if name in LIST_FIELDS else _yaml_value)(item, faults)) not in (None, "", {}, []):
            values[name] = (value, _line(item))
    return InventoryEntry(_line(node), values)


def _yaml_value(node: yaml.Node, faults: Faults) -> str | dict[str, str] | None:
    """Return a scalar's text as written, or a mapping of such; null and what is refused are None."""
    if isinstance(node, yaml.ScalarNode) and node.tag in _YAML_PLAIN:
        return str(node.value).strip()
    if isinstance(node, yaml.MappingNode):
        texts = ((name, _yaml_value(item, faults)) for name, item in _items(node, faults))
        return {name: text for name, text in texts if isinstance(text, str)}
    if node.tag != _YAML_NULL:
        faults.add(_line(node), f"{node.tag.rpartition(':')[2]!r} is no plain value; write text or a number")
    return None


def _yaml_list(node: yaml.Node, faults: Faults) -> list[str]:
    """Return a sequence's texts exactly as written, blanks and all."""
    if isinstance(node, yaml.SequenceNode):
        texts = [item.value for item in node.value if isinstance(item, yaml.ScalarNode) and item.tag in _YAML_PLAIN]
        if len(texts) == len(node.value):
            return texts
    if node.tag != _YAML_NULL:
        faults.add(_line(node), "is no list of texts; write one '- …' for each below it")
    return []


def _items(node: yaml.MappingNode, faults: Faults) -> Iterator[tuple[str, yaml.Node]]:
    """Yield the items of a mapping; a key that is there twice or is no text is a fault."""
    seen: set[str] = set()
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            faults.add(_line(key), "has a key that is no text; write 'field: value'")
        elif key.value in seen:
            faults.add(_line(key), f"{key.value!r} is there twice; remove one")
        else:
            seen.add(key.value)
            yield key.value, value


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
