"""What tailing knows of its contacts, and which rows of `host_status` and `log_status` follow from it. Pure.

A roster piece lists all contacts of a tailing process; a `lost_contact` piece reports one that was lost since.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import polars as pl

from pingmesh_tasks.fleet.tailing import SILENT_CHUNKS, Contact, Roster
from pingmesh_tasks.pipeline.hot_batches import moment
from pingmesh_tasks.store.hot_batch import HotPiece
from pingmesh_tasks.store.schemas import HOST_STATUS, LOG_STATUS

STAGE, NO_DATA_YET = "follow", "no_data_yet"
_CHUNK_S = 10.0

#: lost_contact: no SSH. silent: SSH, and no chunk. starting: tailed since a moment ago. not_tailed: beyond the number
#: of hosts that are. unknown: no tailing process is at work.
Reason = Literal["lost_contact", "silent", "starting", "not_tailed", "unknown"]


@dataclass(frozen=True, slots=True)
class SilentHost:
    """A host that gave no probe in a span.

    Attributes:
        detail: Why, as far as it is known.
        age_s: For how long the `reason` has held (s), None if that is not known.
    """

    host: str
    reason: Reason
    detail: str = ""
    age_s: float | None = None


def last_contacts(pieces: Iterable[HotPiece], kind: str) -> dict[str, Contact]:
    """Return the newest known state of the contact with each host (`kind` host) or data server (`log`)."""
    contacts: dict[str, Contact] = {}
    for piece in sorted(pieces, key=lambda piece: piece.read_at_us):
        if piece.kind == "roster":
            try:
                roster = Roster.decode(piece.data).contacts
            except (KeyError, TypeError, ValueError):
                continue
            contacts = {contact.name: contact for contact in roster if contact.kind == kind}
        elif piece.kind == "lost_contact" and piece.stream == kind and piece.source in contacts:
            before = contacts[piece.source]
            since_us = piece.read_at_us if before.connected else before.since_us
            contacts[piece.source] = Contact(piece.source, kind, since_us, False, before.heard_us, piece.detail)
    return contacts


def silent_hosts(pieces: Sequence[HotPiece], hosts: Iterable[str], until: datetime) -> list[SilentHost]:
    """Return, for hosts that gave no probe up to `until`, why."""
    contacts = last_contacts(pieces, "host")
    unknown: Reason = "not_tailed" if contacts else "unknown"
    return [_silent_host(contacts[host], until) if host in contacts else SilentHost(host, unknown) for host in hosts]


def _silent_host(contact: Contact, until: datetime) -> SilentHost:
    age_s = (until - moment(contact.since_us)).total_seconds()
    if not contact.connected:
        return SilentHost(contact.name, "lost_contact" if contact.why else "starting", contact.why, age_s)
    if contact.heard_us is None and age_s < SILENT_CHUNKS * _CHUNK_S:
        return SilentHost(contact.name, "starting", "", age_s)
    last_chunk = moment(contact.heard_us or contact.since_us)
    return SilentHost(contact.name, "silent", contact.why, (until - last_chunk).total_seconds())


def status_rows(silent: Iterable[SilentHost], at: datetime, known: Collection[str]) -> pl.DataFrame:
    """Return rows of `HOST_STATUS` for silent hosts, as the rules on hosts read them.

    A host is missed only if it is tailed and has given data before (`known`): one that was never set up, or that is
    not tailed, is left to the batch path.
    """
    rows = [
        {
            **dict.fromkeys(HOST_STATUS),
            "window": at,
            "host": host.host,
            "stage": STAGE,
            "outcome": _outcome(host) if host.host in known else NO_DATA_YET,
            "detail": host.detail,
        }
        for host in silent
    ]
    return pl.DataFrame(rows, schema=HOST_STATUS, orient="row")


def _outcome(host: SilentHost) -> str:
    if host.reason == "lost_contact":
        return host.detail.partition(":")[0] or "unreachable"
    return "no_segment" if host.reason == "silent" else NO_DATA_YET


def log_status(pieces: Sequence[HotPiece], contact: Contact, until: datetime) -> pl.DataFrame | None:
    """Return a row of `LOG_STATUS` that says why there is no contact with a data server.

    None where there is contact, where there was none yet, and where no host is in contact: a tailing process that
    reaches nobody has a fault of its own, which says nothing about any server.
    """
    if contact.connected or not contact.why:
        return None
    all_contacts = [other for kind in ("host", "log") for other in last_contacts(pieces, kind).values()]
    if len(all_contacts) > 1 and not any(other.connected for other in all_contacts):
        return None
    outcome, _, detail = contact.why.partition(": ")
    known = {"window": until, "server": contact.name, "kind": "access", "outcome": outcome, "detail": detail}
    return pl.DataFrame([dict.fromkeys(LOG_STATUS) | known], schema=LOG_STATUS, orient="row")
