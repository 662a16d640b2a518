"""What to write instead of a word that is not known: the second half of many error messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `did you mean 'x' or 'y'?` with the nearest known words; empty if none is near."""
    by_folded = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(word.casefold(), by_folded, n=3, cutoff=0.6)
    return f"did you mean {' or '.join(repr(by_folded[name]) for name in near)}?" if near else ""


def suggest(word: str, known: Iterable[str]) -> str:
    """Return `did you mean …?`, or the known words where none is near."""
    names = list(known)
    return did_you_mean(word, names) or f"known: {', '.join(names)}"
