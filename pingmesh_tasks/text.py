r"""Text of hosts, users and logs, made safe for one line of a log, a message, a picture or a table.

Three functions for three sources: `one_line` for text, `joined_lines` for text of several lines
that is shown as one, `safe_bytes` for bytes whose every value must be told apart. Nothing that they
return starts a line, moves a cursor or turns the direction of the text around it.
"""

from __future__ import annotations

from collections.abc import Iterable

CUT_MARK = "…"


def cut(text: str, limit: int) -> str:
    """Return `text` in at most `limit` characters, all of which UTF-8 can encode.

    Control characters stay.
    """
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= limit else text[: limit - len(CUT_MARK)] + CUT_MARK


def one_line(text: str, limit: int = 120) -> str:
    r"""Return `text` with each character that does not print as `\uNNNN`.

    The result has at most `limit` characters, the last of them `…` where something is left out. An
    escape is never cut in two.
    """
    return _joined(map(_printable, text), limit)


def joined_lines(text: str, limit: int) -> str:
    """Return text of several lines as `one_line`, each run of white space as one space."""
    return one_line(" ".join(text.split()), limit)


def safe_bytes(raw: bytes, limit: int) -> str:
    r"""Return bytes as text: UTF-8 where it is UTF-8 and prints; other bytes as `\xNN`.

    A backslash is doubled, so that bytes which differ give texts that differ, up to the cut. At most
    `limit` characters, the last of them `…` where something is left out.
    """
    text = raw[: 4 * limit + 4].decode("utf-8", "surrogateescape")
    return _joined(map(_reversible, text), limit)


def _joined(units: Iterable[str], limit: int) -> str:
    """Join whole units: all of them, or as many as fit in `limit` characters before the mark."""
    kept: list[str] = []
    length = 0
    for unit in units:
        kept.append(unit)
        length += len(unit)
        if length > limit:
            while length > limit - len(CUT_MARK):
                length -= len(kept.pop())
            return "".join(kept) + CUT_MARK
    return "".join(kept)


def _printable(char: str) -> str:
    if char.isprintable():
        return char
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"


def _reversible(char: str) -> str:
    if char == "\\":
        return "\\\\"
    if char.isprintable():
        return char
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))
