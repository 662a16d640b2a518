"""Raw objects of made-up logs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pingmesh_tasks.access.raw import encode_header, new_packer


def raw_object(header: Mapping[str, Any], chunks: Iterable[bytes]) -> bytes:
    """Return the raw object of a log's bytes, in any division."""
    packer = new_packer()
    packed = [packer.compress(chunk) for chunk in chunks]
    return b"".join([encode_header(header), *packed, packer.flush()])
