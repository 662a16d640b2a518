"""The version of the agent: a hash of the files of this package."""

from __future__ import annotations

import os

from pingmesh_agent.errors import StartError

TYPE_CHECKING = False  # importing typing would add a megabyte
if TYPE_CHECKING:
    from typing import Any


def agent_version() -> str:
    """First 16 hex digits of the SHA-256 of what `sha256sum *.py` prints in this directory.

    The names are sorted as with LC_ALL=C.
    """
    sha256, listing = _sha256(), []
    package = os.path.dirname(__file__)
    for name in sorted(os.listdir(package)):
        if name.endswith(".py"):
            with open(os.path.join(package, name), "rb") as file:
                listing.append(f"{sha256(file.read()).hexdigest()}  {name}\n")
    return str(sha256("".join(listing).encode()).hexdigest())[:16]


def _sha256() -> Any:
    """The C function: hashlib would load OpenSSL, 4 MB. Its module was renamed in Python 3.12."""
    for name in ("_sha2", "_sha256", "hashlib"):
        try:
            return __import__(name).sha256
        except ImportError:
            continue
    raise StartError(1, "this Python has no SHA-256")
