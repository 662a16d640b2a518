"""The prober: sends the probes of a ping list at their pace and records their outcomes."""

from __future__ import annotations

import errno
import os
from _socket import (
    SO_LINGER,
    SO_REUSEADDR,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
    socket,
)
from array import array
from collections import deque

from pingmesh_agent.limits import LATE_S, MAX_PENDING_ROWS, MAX_PROBES_PER_S
from pingmesh_agent.outcomes import LOCAL_ERROR, OK, PENDING, STATUS_OF_ERRNO
from pingmesh_agent.payload import RST_ON_CLOSE
from pingmesh_agent.pinglist import PingList, Target
from pingmesh_agent.poller import Poller
from pingmesh_agent.ports import SourcePorts
from pingmesh_agent.probes import Probe
from pingmesh_agent.segment import Segment
from pingmesh_agent.spool import Spool

TYPE_CHECKING = False  # importing typing would add a megabyte
if TYPE_CHECKING:
    from typing import Any, Callable

PORT_TRIES = 16


class Prober:
    """Walks the targets in a fixed random order, one slot each, evenly over the interval.

    A probe is advanced in each of its first ticks, in which most answers come; a slower one is
    left to epoll and to its deadline.

    Attributes:
        sources: Address to send from, by family.
        young: Probes in their first ticks.
        slow: Probes that epoll watches, by deadline; some are settled.
        in_flight: Number of probes without an outcome.
        rate_share, memory_share: Shares of the probes that the rate cap and the memory allow.
    """

    def __init__(
        self, spool: Spool, poller: Poller, ports: SourcePorts, max_in_flight: int
    ) -> None:
        self.spool, self.poller, self.ports = spool, poller, ports
        self.max_in_flight = max_in_flight
        self.targets: list[Target] = []
        self.sources: dict[int, str] = {}
        self.young: list[Probe] = []
        self.slow: deque[Probe] = deque()
        self.in_flight = 0
        self.rate_share = self.memory_share = 1.0

    def load(self, pinglist: PingList, sources: dict[int, str], now_s: float) -> None:
        """Take a new list. Probes in flight and pending rows keep their targets."""
        self._extend_table([target.entry for target in pinglist.targets])
        self.targets, self.sources = pinglist.targets, sources
        self.timeout_s = pinglist.timeout_s
        self.order = shuffled(len(self.targets))
        self.slot_s = pinglist.interval_s / max(1, len(self.targets))
        self.rate_share = min(1.0, MAX_PROBES_PER_S * self.slot_s)
        # A probe is sent in the middle of its slot.
        self.epoch_s, self.next_slot = now_s - self.slot_s / 2, 0

    def unsettled(self) -> list[Probe]:
        """The probes in flight."""
        return self.young + [probe for probe in self.slow if not probe.settled]

    def launch_due(self, now_s: float, wall_us: Callable[[], int], segment: Segment) -> None:
        """Send the probes that came due since the last tick; skip, and count, the late ones."""
        if not self.targets:
            return
        end = int((now_s - self.epoch_s) / self.slot_s)
        if end <= self.next_slot:
            return
        on_time = int((now_s - LATE_S - self.epoch_s) / self.slot_s)
        if on_time > self.next_slot:
            segment.skip("late", on_time - self.next_slot)
            segment.scheduled += on_time - self.next_slot
            self.next_slot = on_time
        disk_full = self.spool.fault is not None and self.spool.pending_rows() >= MAX_PENDING_ROWS
        for slot in range(self.next_slot, end):
            sent_us = wall_us()
            if sent_us >= segment.end_us:
                break  # the window ended during this tick: the rest belongs to the next tick
            lap, place = divmod(slot, len(self.order))
            reason = self._excluded(lap + place, disk_full)
            if reason is None:
                reason = self.launch(self.order[place], now_s, sent_us, segment)
            if reason:
                segment.skip(reason, 1)
            segment.scheduled += 1
            self.next_slot = slot + 1

    def launch(self, index: int, now_s: float, sent_us: int, segment: Segment) -> str | None:
        """Send one probe. Returns what this host lacks if it could not be sent, else None."""
        if self.in_flight >= self.max_in_flight:
            return "sockets"
        target = self.targets[index]
        kind = target.probe.kind
        try:
            sock = socket(target.family, kind | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
        except OSError:
            return "sockets"
        probe = target.probe(sock, target.address, target.size, index, segment)
        probe.sent_us = sent_us
        try:
            if kind == SOCK_STREAM:
                sock.setsockopt(SOL_SOCKET, SO_LINGER, RST_ON_CLOSE)
                sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
            probe.port = self.bind(sock, target.family, int(now_s * 1000))
            if not probe.port:
                sock.close()
                return "ports"
            status = probe.launch()
        except OSError as fault:
            status = STATUS_OF_ERRNO.get(fault.errno or 0, LOCAL_ERROR)
        segment.sent += 1
        segment.in_flight += 1
        self.in_flight += 1
        probe.deadline_s = now_s + self.timeout_s
        if status == PENDING:
            self.young.append(probe)
        else:
            self.settle(probe, status)
        return None

    def bind(self, sock: socket, family: int, now_ms: int) -> int:
        """Bind to the next source port that is free and return it, or 0."""
        for _ in range(PORT_TRIES):
            port = self.ports.take(now_ms)
            if not port:
                break
            try:
                sock.bind((self.sources[family], port))
                return port
            except OSError as fault:
                if fault.errno != errno.EADDRINUSE:
                    raise
        return 0

    def collect(self, now_s: float) -> None:
        """Advance the young probes, once per tick; settle those that are past their deadline."""
        young, self.young = self.young, []
        for probe in young:
            probe.ticks += 1
            self.advance(probe)
            if probe.settled:
                continue
            if probe.ticks < probe.young_ticks:
                self.young.append(probe)
            else:
                self.watch(probe)
                self.slow.append(probe)
        slow = self.slow
        while slow and (slow[0].settled or slow[0].deadline_s <= now_s):
            probe = slow.popleft()
            if not probe.settled:
                self.advance(probe)
            if not probe.settled:
                self.settle(probe, probe.at_deadline)

    def advance(self, probe: Probe) -> None:
        """Let a probe go on as far as it can without blocking."""
        try:
            status = probe.advance()
        except BlockingIOError:
            status = PENDING
        except OSError as fault:
            status = STATUS_OF_ERRNO.get(fault.errno or 0, LOCAL_ERROR)
        if status != PENDING:
            self.settle(probe, status)
        elif probe.watched_events:
            self.watch(probe)

    def watch(self, probe: Probe) -> None:
        """Let epoll watch what the probe waits for now."""
        if probe.watched_events != probe.wants:
            probe.watched_events = probe.wants
            self.poller.watch(probe.sock.fileno(), probe.wants, lambda: self.advance(probe))

    def settle(self, probe: Probe, status: int) -> None:
        """Record the outcome of a probe and close its socket."""
        if status == OK and not probe.retransmits:
            if probe.rtt_us > self.timeout_s * 1e6:
                status = probe.at_deadline  # it came too late, whenever the agent looked
            elif probe.rtt_us >= probe.repeat_us:
                probe.retransmits = 1
        self.poller.close(probe.sock)
        probe.settled = True
        self.in_flight -= 1
        probe.segment.add_row(
            probe.sent_us, probe.index, probe.rtt_us, probe.port, status, probe.retransmits
        )

    def step_clock(self, step_us: int) -> None:
        """Move the send times of probes in flight by a step of the wall clock."""
        for probe in self.unsettled():
            probe.sent_us += step_us
            probe.stepped = True

    def abandon(self) -> None:
        """Settle the probes for which a stop cannot wait: as local errors, never as losses."""
        for probe in self.unsettled():
            self.settle(probe, LOCAL_ERROR)
        self.young = []

    def _excluded(self, number: int, disk_full: bool) -> str | None:
        """Why the probe of this number is not sent. The number makes every peer lose equally."""
        if not in_share(number, self.rate_share):
            return "rate"
        if not in_share(number, self.memory_share):
            return "memory"
        return "disk" if disk_full else None

    def _extend_table(self, table: list[list[Any]]) -> None:
        """Make `table` the target table, extended by the old targets that are still needed."""
        old = self.spool.table
        index_of: dict[tuple[Any, ...], int] = {}

        def moved(index: int) -> int:
            if not index_of:  # not needed, and not made, at the start
                index_of.update((tuple(entry), position) for position, entry in enumerate(table))
            key = tuple(old[index])
            if key not in index_of:
                index_of[key] = len(table)
                table.append(old[index])
            return index_of[key]

        for probe in self.unsettled():
            probe.index = moved(probe.index)
        for segment in self.spool.open.values():
            column = segment.columns[1]
            column[:] = array("H", [moved(index) for index in column])
        self.spool.table = table


def shuffled(count: int) -> array[int]:
    """0 ... count-1 in random order (Fisher and Yates), so that no two agents walk in step."""
    order = array("H", range(count))
    for last in range(count - 1, 0, -1):
        other = int.from_bytes(os.urandom(4), "big") % (last + 1)
        order[last], order[other] = order[other], order[last]
    return order


def in_share(number: int, share: float) -> bool:
    """Whether `number` belongs to the evenly spread `share` of all numbers."""
    return int((number + 1) * share) > int(number * share)
