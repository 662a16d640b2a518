"""The prober."""

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

TYPE_CHECKING = False  # importing typing would cost a megabyte on every host
if TYPE_CHECKING:
    from typing import Any, Callable


class Prober:
    """Walks the targets in a fixed shuffled order, one slot each, evenly over the interval; settles what comes back."""

    def __init__(self, spool: Spool, poller: Poller, ports: SourcePorts, max_in_flight: int) -> None:
        self.spool, self.poller, self.ports, self.max_in_flight = (
            spool,
            poller,
            ports,
            max_in_flight,
        )
        self.targets: list[Target] = []
        self.sources: dict[int, str] = {}
        self.young: list[Probe] = []
        self.slow: deque[Probe] = deque()  # by deadline
        self.in_flight = 0
        self.memory_share = 1.0

    def load(self, told: PingList, sources: dict[int, str], now_s: float) -> None:
        """Take a new list. Probes under way, and rows that wait, keep their targets: they join the table's end."""
        old, table = self.spool.table, [target.entry for target in told.targets]
        index_of: dict[tuple[Any, ...], int] = {}

        def moved(index: int) -> int:
            if not index_of:
                index_of.update((tuple(entry), position) for position, entry in enumerate(table))
            entry = old[index]
            if tuple(entry) not in index_of:
                index_of[tuple(entry)] = len(table)
                table.append(entry)
            return index_of[tuple(entry)]

        for probe in self.under_way():
            probe.index = moved(probe.index)
        for segment in self.spool.open.values():
            column = segment.columns[1]
            column[:] = array("H", [moved(index) for index in column])
        self.spool.table = table
        self.targets, self.sources, self.timeout_s = told.targets, sources, told.timeout_s
        self.order = shuffled(len(told.targets))
        self.slot_s = told.interval_s / max(1, len(told.targets))
        self.rate_share = min(1.0, MAX_PROBES_PER_S * self.slot_s)
        self.epoch_s, self.next_slot = (
            now_s - self.slot_s / 2,
            0,
        )  # a probe is sent in the middle of its slot

    def under_way(self) -> list[Probe]:
        return self.young + [probe for probe in self.slow if not probe.settled]

    def launch_due(self, now_s: float, wall_us: Callable[[], int], segment: Segment) -> None:
        """Send the probes that came due since the last tick; skip, and count, those that are late."""
        if not self.targets:
            return
        end = int((now_s - self.epoch_s) / self.slot_s)
        on_time = max(self.next_slot, int((now_s - LATE_S - self.epoch_s) / self.slot_s))
        if end <= self.next_slot:
            return
        if on_time > self.next_slot:
            segment.skip("late", min(on_time, end) - self.next_slot)
            segment.scheduled += min(on_time, end) - self.next_slot
            self.next_slot = min(on_time, end)
        disk_full = self.spool.fault is not None and self.spool.pending_rows() >= MAX_PENDING_ROWS
        for slot in range(on_time, end):
            sent_us = wall_us()
            if sent_us >= segment.end_us:
                break  # the window ended since this tick began: the rest is for the next tick, and the next window
            lap, place = divmod(slot, len(self.order))
            if not in_share(lap + place, self.rate_share):  # no peer is always the one left out
                reason: str | None = "rate"
            elif not in_share(lap + place, self.memory_share):
                reason = "memory"
            elif disk_full:
                reason = "disk"
            else:
                reason = self.launch(self.order[place], now_s, sent_us, segment)
            if reason:
                segment.skip(reason, 1)
            segment.scheduled += 1
            self.next_slot = slot + 1

    def launch(self, index: int, now_s: float, sent_us: int, segment: Segment) -> str | None:
        """Send one probe; returns why not, if it could not be sent for want of something on this host."""
        target = self.targets[index]
        if self.in_flight >= self.max_in_flight:
            return "sockets"
        try:
            sock = socket(target.family, target.probe.kind | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
        except OSError:
            return "sockets"
        probe = target.probe(sock, target.address, target.size, index, segment)
        probe.sent_us = sent_us
        try:
            if target.probe.kind == SOCK_STREAM:
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
        """Bind to the next free source port and return it, or 0. Some may be taken: try a few."""
        for _ in range(16):
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
        """Look at the young, once per tick; hand the slow to epoll; give up on those past their deadline."""
        young, self.young = self.young, []
        for probe in young:
            probe.tries += 1
            self.look(probe)
            if probe.settled:
                continue
            if probe.tries < probe.looks:
                self.young.append(probe)
            else:
                self.wait_for(probe)
                self.slow.append(probe)
        slow = self.slow
        while slow and (slow[0].settled or slow[0].deadline_s <= now_s):
            probe = slow.popleft()
            if not probe.settled:
                self.look(probe)
            if not probe.settled:
                self.settle(probe, probe.at_deadline)

    def look(self, probe: Probe) -> None:
        try:
            status = probe.advance()
        except BlockingIOError:
            status = PENDING
        except OSError as fault:
            status = STATUS_OF_ERRNO.get(fault.errno or 0, LOCAL_ERROR)
        if status != PENDING:
            self.settle(probe, status)
        elif probe.waits_for:
            self.wait_for(probe)

    def wait_for(self, probe: Probe) -> None:
        if probe.waits_for != probe.wants:
            probe.waits_for = probe.wants
            self.poller.watch(probe.sock.fileno(), probe.wants, lambda: self.look(probe))

    def settle(self, probe: Probe, status: int) -> None:
        if status == OK and not probe.retransmits:
            if probe.rtt_us > self.timeout_s * 1e6:
                status = probe.at_deadline  # it came, but too late to count, however late we looked
            elif probe.rtt_us >= probe.repeat_us:
                probe.retransmits = 1
        self.poller.close(probe.sock)
        probe.settled = True
        self.in_flight -= 1
        probe.segment.file(probe.sent_us, probe.index, probe.rtt_us, probe.port, status, probe.retransmits)

    def clock_stepped(self, step_us: int) -> None:
        """Move the send times of probes under way to the new clock; those timed by it can no longer be trusted."""
        for probe in self.under_way():
            probe.sent_us += step_us
            probe.stepped = True

    def abandon(self) -> None:
        """Settle what a stop could not wait for as a local error: never as a loss."""
        for probe in self.under_way():
            self.settle(probe, LOCAL_ERROR)
        self.young = []


def shuffled(count: int) -> array[int]:
    """0 ... count-1 in random order (Fisher and Yates), so that no two agents walk their lists in step."""
    order = array("H", range(count))
    for last in range(count - 1, 0, -1):
        other = int.from_bytes(os.urandom(4), "big") % (last + 1)
        order[last], order[other] = order[other], order[last]
    return order


def in_share(number: int, share: float) -> bool:
    """Whether `number` belongs to the evenly spread `share` of all numbers."""
    return int((number + 1) * share) > int(number * share)
