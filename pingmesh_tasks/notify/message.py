"""What an alert says: one notice, told in plain text, Slack blocks, an e-mail and JSON.

`compose` is pure. Everything that came from hosts or logs is escaped for where it goes, and cut to a length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pingmesh_tasks.detect.incident import Notice


@dataclass(frozen=True, slots=True)
class Links:
    """Where a reader can go on; None: there is no such place. `object` is the heatmap's key or URL in the bucket."""

    page: str | None = None
    heatmap: str | None = None
    object: str | None = None
    admin: str | None = None


@dataclass(frozen=True, slots=True)
class Hop:
    """One hop of a trace: who answered (None: nobody), the share of probes that it lost (0…1), and its RTT."""

    ttl: int
    address: str | None
    loss: float | None = None
    rtt_us: float | None = None


@dataclass(frozen=True, slots=True)
class Trace:
    """The path of one pair in one direction. `verdict` is one sentence: where loss starts, or why it cannot be said."""

    src: str
    dst: str
    verdict: str
    hops: Sequence[Hop] = ()
    lossy_from_ttl: int | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """A notice ready for every channel. `heatmap` is the PNG that `html` shows as `cid:heatmap`."""

    id: str
    incident: str
    severity: str
    subject: str
    text: str
    slack_text: str
    slack_blocks: list[dict[str, Any]]
    html: str
    webhook: Mapping[str, Any]
    heatmap: bytes | None = None


def compose(
    notice: Notice, links: Links = Links(), heatmap: bytes | None = None, traces: Sequence[Trace] = ()
) -> Message:
    """Return the message of a notice. `heatmap` is a PNG; `traces` what the trace on anomaly found."""
    raise NotImplementedError
