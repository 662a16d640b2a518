"""Names that the page uses for parts of the axis: a DC, podset or ToR by its full name, a host by its own."""

from __future__ import annotations

from pingmesh_tasks.queries.refusal import NoAnswer
from pingmesh_tasks.topology.axis import GROUPS, HostAxis, Span


def span_of(axis: HostAxis, name: str | None, kind: str | None = None) -> Span:
    """Return where a group or host stands; None is the whole axis. Raises NoAnswer for a name that is not on it.

    Without a `kind`, groups come before hosts where both have one name.
    """
    if name is None:
        return Span("", "", 0, len(axis.hosts))
    for group in GROUPS if kind is None else (kind,):
        for span in axis.spans.get(group, ()):
            if span.name == name:
                return span
    at = axis.position.get(name) if kind in (None, "host") else None
    if at is None:
        raise NoAnswer("no_place", f"the plan of this window has no {kind or 'group or host'} {name!r}")
    return Span(name, name, at, at + 1)


def number_of(axis: HostAxis, kind: str, name: str) -> int:
    """Return which of its kind a group (or host) is, in the order of the axis. Raises NoAnswer."""
    if kind == "host":
        return span_of(axis, name, "host").start
    for number, span in enumerate(axis.spans[kind]):
        if span.name == name:
            return number
    raise NoAnswer("no_place", f"the plan of this window has no {kind} {name!r}")
