"""Real inputs, kept with the tests: records of a mesh of 2018, logs of an MDSplus server."""

from __future__ import annotations

import functools
import gzip
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "samples"
PINGMESH_2018 = FOLDER / "pingmesh2018"
MDSPLUS = FOLDER / "mdsplus"


def log_names() -> list[str]:
    """Return the names of all MDSplus logs, sorted."""
    return sorted(path.name.removesuffix(".gz") for path in MDSPLUS.glob("*.log*"))


@functools.cache
def log_sample(name: str) -> Path:
    """Return the path of an MDSplus log; a packed one is unpacked until the tests end."""
    packed = MDSPLUS / f"{name}.gz"
    if not packed.exists():
        return MDSPLUS / name
    unpacked = Path(_folder().name, name)
    unpacked.write_bytes(gzip.decompress(packed.read_bytes()))
    return unpacked


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="pingmesh-samples-")
