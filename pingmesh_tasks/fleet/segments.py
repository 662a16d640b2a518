"""Collect: bring every host's segment of one window home.

A segment is fetched by one command that waits for it a moment, since the agent closes a window's file some seconds
after the window's end. It stays in the host's spool, so that any window within the spool's age can be collected again;
the same bytes come each time. What a host sends is checked before it is delivered: a damaged segment is fetched once
more, then set aside. One segment a slot of the fan-out is in memory, never the fleet's.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Protocol

from pingmesh_tasks.errors import SegmentError
from pingmesh_tasks.fleet.connect import (
    FanoutLimits,
    HostFault,
    HostOutcome,
    Session,
    SshAccess,
    for_each_host,
    parse_object,
)
from pingmesh_tasks.fleet.home import DEFAULT_HOME, RESOLVE_HOME, check_home
from pingmesh_tasks.topology.inventory import Host
from pingmesh_tasks.windows import Window

STAGE = "collect"
SEGMENT_LIMIT_BYTES = 64 * 1024 * 1024
_TICKS_PER_S = 4
_ABSENT = 44
_UNFINISHED = 45

#: $1 home, $2 window id, $3 ticks to wait at all, $4 ticks to wait while the agent still writes the file.
#: Prints the segment; or exits 44 (45: it was begun and never finished) and prints the agent's own account.
FETCH_SCRIPT = (
    RESOLVE_HOME
    + r"""
segment=$home/spool/$1; n=0
until [ -f "$segment.pms" ]; do
  limit=$2; [ ! -f "$segment.part" ] || limit=$3
  [ "$n" -lt "$limit" ] || break
  n=$((n + 1)); sleep 0.25 2>/dev/null || { sleep 1; n=$((n + 3)); }
done
[ ! -f "$segment.pms" ] || exec cat "$segment.pms"
head -c 16384 "$home/agent.json" 2>/dev/null
[ ! -f "$segment.part" ] || exit 45
exit 44
"""
)


class SegmentFacts(Protocol):
    """What the check of a segment says of it."""

    @property
    def host(self) -> str: ...
    @property
    def window(self) -> Window: ...
    @property
    def scheduled(self) -> int: ...
    @property
    def skipped(self) -> Mapping[str, int]: ...
    @property
    def agent(self) -> str: ...
    @property
    def pinglist(self) -> str: ...


def collect_segments(
    hosts: Iterable[Host],
    window: Window,
    access: SshAccess,
    limits: FanoutLimits | None = None,
    *,
    check: Callable[[bytes], SegmentFacts],
    deliver: Callable[[Host, bytes], Awaitable[None]],
    quarantine: Callable[[Host, bytes, str], Awaitable[None]],
    home: str = DEFAULT_HOME,
    grace_s: float = 8.0,
) -> list[HostOutcome]:
    """Fetch the window's segment from every host, `check` it (raises SegmentError) and `deliver` it.

    `quarantine` gets a segment that failed its check twice, with the reason. Both must be idempotent; what they raise
    (an object store that is down) ends the run and is never taken for the host's fault.
    A host may take until `grace_s` after the window's end, or after now while it writes the file.
    Outcomes: ok, no_data_yet (its agent started after the window did), no_segment, segment_damaged, or a fault.
    """
    check_home(home)
    limits = limits or FanoutLimits()
    limits = replace(limits, host_timeout_s=limits.host_timeout_s + grace_s)
    due = window.end.timestamp() + grace_s

    def checked(segment: bytes, host: Host) -> SegmentFacts:
        facts = check(segment)
        _check_origin(facts, host, window, home)
        return facts

    async def collect(session: Session) -> HostOutcome:
        host = session.host
        segment = await _fetch(session, window, home, due, grace_s)
        try:
            facts = checked(segment, host)
        except SegmentError:
            segment = await _fetch(session, window, home, due, grace_s)
            try:
                facts = checked(segment, host)
            except SegmentError as exc:
                await quarantine(host, segment, str(exc))
                return HostOutcome(host.name, STAGE, "segment_damaged", str(exc), segment_bytes=len(segment))
        await deliver(host, segment)
        return HostOutcome(
            host.name,
            STAGE,
            "ok",
            segment_bytes=len(segment),
            scheduled=facts.scheduled,
            skipped=sum(facts.skipped.values()),
            agent_version=facts.agent,
            pinglist_version=facts.pinglist,
        )

    return for_each_host(hosts, collect, access, limits, stage=STAGE)


async def _fetch(session: Session, window: Window, home: str, due: float, grace_s: float) -> bytes:
    wait_s = min(grace_s, max(0.0, due - time.time()))
    ticks = [str(round(seconds * _TICKS_PER_S)) for seconds in (wait_s, grace_s)]
    answer = await session.run(FETCH_SCRIPT, home, window.id, *ticks, limit_bytes=SEGMENT_LIMIT_BYTES)
    if answer.exit_status == 0:
        return answer.stdout
    if answer.exit_status not in (_ABSENT, _UNFINISHED):
        raise HostFault("failed", f"the segment cannot be read: {answer.stderr or f'exit {answer.exit_status}'}")
    status = parse_object(answer.stdout)
    started_us = status.get("started_us")
    if answer.exit_status == _UNFINISHED:
        raise HostFault("no_segment", f"{window.id} was begun, not finished; the agent does that when it starts again")
    if not isinstance(started_us, int):
        raise HostFault("no_segment", f"no agent ever ran in {home}; dispatch starts one")
    if started_us > window.start.timestamp() * 1_000_000:
        raise HostFault("no_data_yet", "the agent started after the window did")
    said = status.get("last_error") or f"the agent's last news is of window {status.get('window')}"
    raise HostFault("no_segment", f"{window.id}.pms is not in the spool: {said}")


def _check_origin(facts: SegmentFacts, host: Host, window: Window, home: str) -> None:
    """Refuse another host's segment: two hosts on one network file system would share a home."""
    if facts.host != host.name:
        raise SegmentError(0, f"was written by host {facts.host!r}, not {host.name!r}; do they share {home}?")
    if facts.window != window:
        raise SegmentError(0, f"is of window {facts.window.id} ({facts.window.length_s} s), not {window.id}")
