"""What one value of an inventory may be: a check a field, each a pure function from text to the value.

A check raises ValueError whose text says why the value is refused and what to write instead; the caller adds
where it stands. Text from a spreadsheet, a YAML file and a stored plan all come through here, so that no later
stage has to doubt a name, an address or a port: names become object keys, file names and words in shell commands.
"""

from __future__ import annotations

import ipaddress
import re
import zoneinfo
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from pingmesh_tasks.suggestions import did_you_mean

MAX_NAME = 63
LOG_FORMATS = ("mdsip",)
MAX_PATTERN = 1_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@\\+-]{0,63}\$?", re.ASCII)
_COUNTRY = re.compile(r"[A-Za-z]{2}", re.ASCII)
_LABEL_VALUE_MAX = 200


def check_name(text: str) -> str:
    """Return `text` if it can be an object key, a file name and a command's argument as it stands."""
    if _NAME.fullmatch(text):
        return text
    suggestion = re.sub(r"[^A-Za-z0-9._-]+", "-", text).lstrip("-._")[:MAX_NAME]
    hint = f", for example {suggestion!r}" if suggestion else ""
    raise ValueError(
        f"is no name; write at most {MAX_NAME} of A-Z, a-z, 0-9, '.', '_', '-', a letter or digit first{hint}"
    )


def check_address(text: str) -> str:
    """Return the address in its one normal spelling; an IPv4 address mapped into IPv6 becomes IPv4."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"is no IPv4 or IPv6 address: {_address_hint(text)}") from None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            raise ValueError(
                "has a zone, which is another interface on every host; write a global or unique local address"
            )
        address = address.ipv4_mapped or address
    if address.is_unspecified or address.is_multicast or address == ipaddress.IPv4Address("255.255.255.255"):
        raise ValueError("is not the address of one host; write the address that its peers reach it at")
    return str(address)


def _address_hint(text: str) -> str:
    """Return what is probably wrong with an address and what to write."""
    if "/" in text:
        return f"it is a network; write the host's address alone, {text.partition('/')[0]!r}"
    if text.startswith("["):
        return f"brackets belong to URLs; write {text.strip('[]').partition(']')[0]!r}"
    host, colon, port = text.partition(":")
    if colon and port.isdecimal() and ":" not in port:
        return f"a port has its own field; write {host!r} and ssh_port or probe_port"
    parts = text.split(".")
    if len(parts) == 4 and all(part.isdecimal() and part.isascii() for part in parts):
        if all(int(part) <= 255 for part in parts):
            return f"leading zeros may mean octal; write {'.'.join(str(int(part)) for part in parts)!r}"
        return "each of the four numbers is 0 to 255"
    if ":" not in text and re.search(r"[A-Za-z]", text):
        return f"a host name would measure the resolver too; write what 'getent hosts {_safe_word(text)}' prints"
    return "write four numbers 0 to 255 with dots, or IPv6 such as 2001:db8::1"


def _safe_word(text: str) -> str:
    """Return `text` if it may stand in a command that someone copies, else a placeholder."""
    return text if _NAME.fullmatch(text) else "NAME"


def check_port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65_535:
        raise ValueError("is no port; write a whole number from 1 to 65535")
    return int(text)


def check_probe_port(text: str) -> int:
    port = check_port(text)
    if port < 1024:
        raise ValueError("is a privileged port and the agent has no root; write one from 1024 to 65535")
    return port


def check_user(text: str) -> str:
    if not _USER.fullmatch(text):
        raise ValueError("is no user name; write letters, digits, '.', '_', '-', '@' or '+', not starting with '-'")
    return text


def check_labels(value: str | Mapping[str, str]) -> dict[str, str]:
    """Return labels from a mapping, or from the text of one CSV cell: `rack=12; role=storage`."""
    if isinstance(value, str):
        pairs = [part.partition("=") for part in re.split(r"[;\s]+", value) if part]
        if any(not equals for _, equals, _ in pairs):
            raise ValueError("is not a list of labels; write key=value, separated by ';' or spaces")
        keys = [key for key, _, _ in pairs]
        if len(set(keys)) < len(keys):
            raise ValueError("has a label twice; write each key once")
        value = {key: text for key, _, text in pairs}
    for key, text in value.items():
        if not _NAME.fullmatch(key):
            raise ValueError(f"has the label key {key!r}; write letters, digits, '.', '_' or '-'")
        if len(text) > _LABEL_VALUE_MAX or not text.isprintable():
            raise ValueError(f"has a label {key!r} that is no text of at most {_LABEL_VALUE_MAX} printable characters")
    return dict(value)


def check_path(text: str) -> str:
    if not text.isprintable() or not PurePosixPath(text).is_absolute() or text.endswith("/"):
        raise ValueError("is no log file; write an absolute path, for example /var/log/mdsip/access.log")
    return text


def check_timezone(text: str) -> str:
    """Return the IANA name of a time zone that this machine knows."""
    try:
        zoneinfo.ZoneInfo(text)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        known = did_you_mean(text, zoneinfo.available_timezones())
        raise ValueError(f"is no IANA time zone; {known or 'write one such as Asia/Shanghai or UTC'}") from None
    return text


def check_format(text: str) -> str:
    if text not in LOG_FORMATS:
        raise ValueError(f"is no log format; write {' or '.join(LOG_FORMATS)}")
    return text


def check_drop(patterns: Sequence[str]) -> tuple[str, ...]:
    """Return regular expressions that the reader of the log takes, each found anywhere in a line it matches.

    They are Rust's (Polars): linear in the line, so no line can hold the reader up, and without look-around.
    """
    import polars as pl  # here, because most inventories have no pattern and Polars takes its time to load

    for pattern in patterns:
        if not pattern or len(pattern) > MAX_PATTERN:
            raise ValueError(f"has a pattern of {len(pattern)} characters; write 1 to {MAX_PATTERN}")
        try:
            matches_anything = bool(pl.Series(["", "\0"]).str.contains(pattern).all())
        except pl.exceptions.ComputeError as error:
            reason = str(error).rpartition("error: ")[2].partition("\n")[0]
            raise ValueError(f"has the pattern {pattern!r}, which is no regular expression ({reason})") from None
        if matches_anything:
            raise ValueError(f"has the pattern {pattern!r}, which drops every line; say what a dropped line holds")
    return tuple(patterns)


def check_countries(value: Mapping[str, str]) -> dict[str, str]:
    """Return the country of each network, both in their one normal spelling: `198.51.100.0/24: DE`."""
    found: dict[str, str] = {}
    for network, country in value.items():
        try:
            normal = str(ipaddress.ip_network(network))
        except ValueError:
            raise ValueError(f"has the network {network!r}; {_network_hint(network)}") from None
        if not _COUNTRY.fullmatch(country):
            raise ValueError(f"has the country {country!r}; write its ISO 3166 code of two letters, such as DE")
        if normal in found:
            raise ValueError(f"has the network {normal!r} twice; remove one")
        found[normal] = country.upper()
    return found


def _network_hint(text: str) -> str:
    try:
        return f"its host bits are set; write {str(ipaddress.ip_network(text, strict=False))!r}"
    except ValueError:
        return "write an address and a prefix length, such as 198.51.100.0/24 or 2001:db8::/32"
