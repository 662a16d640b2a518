"""Faults on demand in the running demo: orders in a folder, which the hosts and the data server look at.

An order is one small file that says what suffers and until when, so that whoever watches needs no memory: a fault
stands as long as its file says, whichever process was restarted meanwhile.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Literal

from pingmesh_tasks.errors import ConfigError

Kind = Literal["outage", "hammer"]
LONGEST_S = 3600.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def order(folder: Path, kind: Kind, what: str, seconds: float) -> float:
    """Let a fault begin: `outage` of the host `what`, or `hammer` by the user `what`. Returns when it ends.

    Seconds since the epoch; 0 seconds end one that stands. Raises ConfigError for a name or time that cannot be.
    """
    if not _NAME.fullmatch(what) or not 0 <= seconds <= LONGEST_S:
        raise ConfigError(f"no fault of {what!r} for {seconds:g} s: name a host or user, and 0 … {LONGEST_S:g} s")
    until_s = time.time() + seconds
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = folder / f".{kind}-{what}"
    part.write_text(repr(until_s))
    part.rename(folder / f"{kind}-{what}")
    return until_s


def standing(folder: Path, kind: Kind, now_s: float) -> dict[str, float]:
    """Return what suffers now, and until when. An order that is over is removed."""
    found = {}
    for file in folder.glob(f"{kind}-*"):
        with suppress(OSError, ValueError):
            until_s = float(file.read_text())
            if until_s > now_s:
                found[file.name.partition("-")[2]] = until_s
            else:
                file.unlink()
    return found
