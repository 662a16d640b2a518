"""Traces between hosts, from both ends, by the agents that are installed there: the evidence of an alarm.

An alarm does not wait: what is not there within the budget is dropped, and its `PathTrace` says so. A host that is
down, an agent of an older release, a kernel that does not let users trace: a reason, never an error. What a host sends
is bounded and held against what a trace can be before anything of it is shown.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pingmesh_tasks.errors import InventoryError
from pingmesh_tasks.fleet.agents import INTERPRETERS
from pingmesh_tasks.fleet.connect import Answer, FanoutLimits, HostFault, SshAccess, escaped, parse_object
from pingmesh_tasks.fleet.home import DEFAULT_HOME, RESOLVE_HOME, check_home
from pingmesh_tasks.fleet.live import LiveSession, Logins
from pingmesh_tasks.fleet.trace_paths import FINAL, SILENT, Hop, PathTrace, PortPath
from pingmesh_tasks.topology.inventory import Host, Inventory

MAX_PAIRS = 8
#: That one host runs at a time: it is part of a mesh that others measure.
MAX_TRACES_PER_HOST = 4
LONGEST_TRACE_S, SHORTEST_TRACE_S = 3.0, 0.5
#: Of the budget, for the answer to come back.
MARGIN_S = 0.4
MAX_PATHS, MAX_HOPS = 64, 64
_WHAT = re.compile(r"hop|silent|open|refused|closed|icmp \d{1,3}/\d{1,3}|this host: .{1,100}")

#: $1 home, $2 interpreters with spaces between, then options of the agent's `trace`.
TRACE_SCRIPT = (
    RESOLVE_HOME
    + r"""
pythons=$1; shift
[ -f "$home/agent.py" ] || exit 8
for python in $pythons; do
  "$python" -I -S -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null || continue
  exec "$python" -I -S "$home/agent.py" trace "$@" </dev/null
done
exit 9
"""
)


def trace_pairs(
    pairs: Sequence[tuple[str, str]],
    inventory: Inventory,
    access: SshAccess,
    limits: FanoutLimits | None = None,
    *,
    home: str = DEFAULT_HOME,
    budget_s: float = 4.0,
    protocol: str = "tcp",
    ports: int = 16,
) -> list[PathTrace]:
    """Trace each pair (names of hosts) there and back; return two traces a pair, in order, within `budget_s`.

    `protocol` is `tcp` or `udp`; `ports` are the source ports of each trace, 1 … 64. Of more than
    MAX_PAIRS pairs the first are traced. Raises ConfigError for a key, known_hosts text or home
    that cannot be used, StoreError where the bucket that holds them cannot be asked, and nothing
    else.
    """
    check_home(home)
    ways = list(dict.fromkeys(way for source, target in pairs for way in ((source, target), (target, source))))
    found = {way: PathTrace(*way, protocol) for way in ways}
    jobs: dict[Host, list[tuple[Host, PathTrace]]] = {}
    for number, way in enumerate(ways):
        try:
            source, target = (inventory.host(name) for name in way)
        except InventoryError:
            found[way] = replace(found[way], reason=f"no longer in the inventory: {' or '.join(way)}")
            continue
        found[way] = replace(found[way], port=target.probe_port)
        if number >= 2 * MAX_PAIRS:
            found[way] = replace(found[way], reason=f"not traced: only the first {MAX_PAIRS} pairs are")
        elif len(jobs.setdefault(source, [])) >= MAX_TRACES_PER_HOST:
            found[way] = replace(found[way], reason=f"not traced: {source.name} makes {MAX_TRACES_PER_HOST} already")
        else:
            jobs[source].append((target, found[way]))
    options = {"--protocol": protocol, "--ports": str(ports)}
    fanout = _Fanout(jobs, access, budget_s, (limits or FanoutLimits()).concurrency)
    for trace in asyncio.run(fanout.run(home, options)):
        found[trace.source, trace.destination] = trace
    return [found[way] for source, target in pairs for way in ((source, target), (target, source))]


def parse_trace(answer: Answer, trace: PathTrace) -> PathTrace:
    """Return `trace` with what TRACE_SCRIPT printed, or with the reason why it printed nothing of use."""
    source = trace.source
    match answer.exit_status:
        case 0:
            try:
                return _filled(parse_object(answer.stdout), trace)
            except (KeyError, TypeError, ValueError, OverflowError) as fault:
                return replace(trace, reason=escaped(f"{source} answered with something that is no trace: {fault}"))
        case 2:  # its usage: it does not know the command
            return replace(trace, reason=f"the agent on {source} is of a release that cannot trace; dispatch renews it")
        case 8:
            return replace(trace, reason=f"no agent is installed on {source}")
        case 9:
            return replace(trace, reason=f"{source} has no Python 3.8 or later")
    said = answer.stderr.splitlines()[-1:] or [f"exit {answer.exit_status} without a word"]
    return replace(trace, reason=escaped(f"the agent on {source} did not trace: {said[0]}"))


class _Fanout:
    """One round of traces: a session to each source, its traces side by side, all within one deadline."""

    def __init__(
        self, jobs: Mapping[Host, list[tuple[Host, PathTrace]]], access: SshAccess, budget_s: float, slots: int
    ) -> None:
        self._jobs, self._budget_s = jobs, budget_s
        self._deadline = time.monotonic() + budget_s
        self._logins, self._slots = Logins(access, budget_s), asyncio.Semaphore(slots)
        self._done: dict[tuple[str, str], PathTrace] = {}
        for traces in jobs.values():
            for _, trace in traces:
                self._finish(replace(trace, reason=f"not there within {budget_s:g} s", complete=False))

    async def run(self, home: str, options: Mapping[str, str]) -> Iterable[PathTrace]:
        """Return a trace for each job. Raises ConfigError for a key or a known_hosts file that cannot be used."""
        tasks = [asyncio.create_task(self._from_host(host, home, options)) for host in self._jobs]
        if tasks:
            finished, late = await asyncio.wait(tasks, timeout=max(0.0, self._deadline - time.monotonic()))
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
            errors = [task.exception() for task in finished]
            for error in filter(None, errors):
                raise error  # a ConfigError is for the operator
        return self._done.values()

    async def _from_host(self, host: Host, home: str, options: Mapping[str, str]) -> None:
        traces = self._jobs[host]
        try:
            async with self._slots, self._logins.session(host) as session:
                await asyncio.gather(*(self._trace(session, home, options, *job) for job in traces))
        except HostFault as fault:
            for _, trace in traces:
                self._finish(replace(trace, reason=_said(fault)))

    async def _trace(
        self, session: LiveSession, home: str, options: Mapping[str, str], target: Host, trace: PathTrace
    ) -> None:
        left_s = min(LONGEST_TRACE_S, self._deadline - time.monotonic() - MARGIN_S)
        if left_s < SHORTEST_TRACE_S:
            return
        given = {
            "--source": session.host.address,
            "--target": target.address,
            "--port": str(target.probe_port),
            "--timeout": f"{left_s:.2f}",
            **options,
        }
        words = [word for option in given.items() for word in option]
        try:
            answer = await session.run(TRACE_SCRIPT, home, " ".join(INTERPRETERS), *words)
            self._finish(parse_trace(answer, trace))
        except HostFault as fault:
            self._finish(replace(trace, reason=_said(fault)))

    def _finish(self, trace: PathTrace) -> None:
        self._done[trace.source, trace.destination] = trace


def _said(fault: HostFault) -> str:
    return escaped(f"{fault.outcome}: {fault.detail}")


def _filled(found: Mapping[str, Any], trace: PathTrace) -> PathTrace:
    """`trace` with the agent's answer in it. Raises for anything that is no such answer."""
    paths, reason = found["paths"], found["reason"]
    if not isinstance(paths, list) or len(paths) > MAX_PATHS:
        raise ValueError("paths are no list, or too many")
    return replace(
        trace,
        paths=tuple(_path(path) for path in paths),
        reason=escaped(f"{trace.source}: {reason}") if reason else None,
        complete=found["complete"] is True,
        took_ms=_whole(found["took_ms"], 60_000),
    )


def _path(said: Mapping[str, Any]) -> PortPath:
    hops = said["hops"]
    if not isinstance(hops, list) or len(hops) > MAX_HOPS:
        raise ValueError("hops are no list, or too many")
    walked = tuple(_hop(hop) for hop in hops)
    if [hop.ttl for hop in walked] != sorted({hop.ttl for hop in walked}):
        raise ValueError("hops are in no order")
    directly = _hop([MAX_HOPS, *said["directly"]]) if said["directly"] else None
    reached = any(hop.what in FINAL for hop in (*walked, *([directly] if directly else [])))
    return PortPath(_whole(said["port"], 65_535), reached, walked, directly)


def _hop(said: Sequence[Any]) -> Hop:
    ttl, router, rtt_us, what, sent, answered = said
    if not isinstance(what, str) or not _WHAT.fullmatch(what):
        raise ValueError("a hop is none of what hops are")
    if router is not None:
        router = str(ipaddress.ip_address(router if isinstance(router, str) else ""))
    if (router is None) != (what == SILENT or what.startswith("this host: ")):
        raise ValueError(f"a hop that is {what} with router {router}")
    sent, answered = _whole(sent, 1000), _whole(answered, 1000)
    if answered > sent:
        raise ValueError("more answers than packets")
    rtt = None if rtt_us is None else _whole(rtt_us, 60_000_000)
    return Hop(_whole(ttl, MAX_HOPS), router, rtt, escaped(what), sent, answered)


def _whole(value: Any, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{value!r} is not 0 … {most}")
    return value
