"""The agent: prober, responder and spool of one home, and what makes it stop."""

from __future__ import annotations

import gc
import json
import os
import sys
import time

from pingmesh_agent.addresses import WILDCARD, is_local
from pingmesh_agent.clock import Clock
from pingmesh_agent.errors import StartError
from pingmesh_agent.home import Home, take_lock
from pingmesh_agent.limits import (
    CHUNK_US,
    DRAIN_S,
    MAX_CONNECTIONS,
    MAX_IN_FLIGHT,
    MAX_LOG_BYTES,
    MEMORY_CAP_BYTES,
    NICE,
    RESERVED_FDS,
    TICK_S,
)
from pingmesh_agent.pinglist import PingList, read_pinglist
from pingmesh_agent.poller import Poller
from pingmesh_agent.ports import SourcePorts, ephemeral_ports
from pingmesh_agent.prober import Prober
from pingmesh_agent.release import agent_version
from pingmesh_agent.resources import descriptor_limit, next_share, resident_bytes
from pingmesh_agent.responder import Responder
from pingmesh_agent.spool import Spool

TYPE_CHECKING = False  # importing typing would add a megabyte
if TYPE_CHECKING:
    from typing import Any

CLOCK_STEP_US = 200_000  # a smaller change of the wall clock is not a step
MEMORY_CHECK_S = 5.0
MAX_TABLE = 65_535  # targets that a segment's column can number
MAX_LOG_LINE = 2000


class Agent:
    """One agent. `tick` is called every 40 ms and never blocks.

    Attributes:
        stopping: Why the agent stops, or None.
        homeless: The home was removed: nothing must be written any more.
        pinglist: The ping list in use.
        place: (family, address, port) where the responder listens.
        drift_us: Wall clock minus monotonic clock; it changes when the wall clock is set.
    """

    def __init__(self, home: str, lab: bool = False, clock: Clock | None = None) -> None:
        """Take the lock, the ping list, what the previous agent left, and the port.

        Raises:
            StartError: One of these cannot be had.
        """
        self.lab, self.clock = lab, clock or Clock()
        self.stopping: str | None = None
        self.homeless = False
        self._open_home(home)
        now_s = self.clock.monotonic_s()
        self.pinglist_signature = self.home.signature("pinglist.json")
        try:
            pinglist = read_pinglist(self.home, lab)
        except (OSError, ValueError) as fault:
            raise StartError(1, f"{home}/pinglist.json: {fault}") from fault
        self.poller = Poller()
        self.files = descriptor_limit()
        in_flight = max(8, min(MAX_IN_FLIGHT, self.files * 3 // 4 - RESERVED_FDS))
        ports = SourcePorts(*ephemeral_ports())
        self.prober = Prober(self.spool, self.poller, ports, in_flight)
        self.responder: Responder | None = None
        self.place: tuple[int, str, int] | None = None
        python = sys.version.split()[0]
        self.log(f"start: agent {self.version}, Python {python}, pid {os.getpid()}")
        try:
            self.adopt(pinglist, now_s)
        except OSError as fault:
            where = f"{pinglist.address} port {pinglist.port}"
            raise StartError(1, f"cannot listen on {where}: {fault}") from fault
        self.lease_signature, self.renewed_s = self.home.signature("lease"), now_s
        self.drift_us = self.clock.wall_us() - int(now_s * 1e6)
        self.chunk_number = self.clock.wall_us() // CHUNK_US
        self.next_second_s = self.next_memory_check_s = now_s
        self.spool.prune(self.started_us, pinglist.spool_keep_s, pinglist.spool_max_bytes)
        self.write_status()

    def adopt(self, pinglist: PingList, now_s: float) -> None:
        """Listen and probe as the list says.

        Raises:
            OSError: The port cannot be had; nothing was changed.
        """
        family, address = pinglist.family, pinglist.address
        here = address if is_local(family, address) else WILDCARD[family]
        place = (family, here, pinglist.port)
        if self.responder is None or place != self.place:
            responder = Responder(self.poller, *place, now_s)
            responder.max_connections = min(MAX_CONNECTIONS, self.files // 8)
            if self.responder:
                self.responder.close()
            self.responder, self.place = responder, place
            if here != address:
                self.log(f"address {address} is not on this host: bound to {here}")
        for segment in self.spool.open.values():
            self.spool.flush(segment, self.clock.wall_us())
        self.prober.load(pinglist, {**WILDCARD, family: here}, now_s)
        self.spool.identity = {
            "host": pinglist.host,
            "ip": address,
            "agent": self.version,
            "pinglist": pinglist.version,
        }
        self.pinglist = pinglist
        share = self.prober.rate_share
        capped = f", {share:.0%} of it: over the cap" if share < 1 else ""
        pace = f"{len(pinglist.targets)} targets every {pinglist.interval_s:g} s"
        self.log(f"ping list {pinglist.version}: {pace}{capped}")

    def run(self) -> None:
        """Tick until the agent is to stop; then wait for answers and leave a complete spool."""
        os.nice(NICE)
        gc.collect()
        gc.freeze()
        gc.disable()  # there are few reference cycles: one collection per window is enough
        while not self.stopping:
            self.tick()
            time.sleep(TICK_S)
        if self.homeless:
            return
        self.log(f"stop: {self.stopping}")
        patience_s = min(DRAIN_S, self.pinglist.timeout_s + 4 * TICK_S)
        until_s = self.clock.monotonic_s() + patience_s
        while self.prober.in_flight and self.clock.monotonic_s() < until_s:
            self.tick()
            time.sleep(TICK_S)
        if self.prober.in_flight:
            self.tick()  # on a busy host a sleep may last beyond the last timeouts
        self.finish()

    def tick(self) -> None:
        """Do what is due: read answers, send probes, answer peers, write chunks."""
        now_s, now_us = self._read_clocks()
        self.poller.poll()
        self.prober.collect(now_s)
        segment = self.spool.segment(now_us, self.pinglist.window_s)
        if not self.stopping:
            self.prober.launch_due(now_s, self.clock.wall_us, segment)
        if self.responder:
            self.responder.expire(now_s)
        if now_us // CHUNK_US != self.chunk_number:
            self.chunk_number = now_us // CHUNK_US
            self.spool.flush_due(now_us)
            self.write_status()
        if self.spool.close_ended(now_us):
            self._prune(now_us)
            gc.collect()
        if now_s >= self.next_second_s:
            self.next_second_s = now_s + 1
            self.each_second(now_s)

    def step_clock(self, step_us: int, now_us: int) -> None:
        """Start new chunks after a step of the wall clock; their headers contain the step.

        The pace does not change, since it follows the monotonic clock.
        """
        self.log(f"the clock stepped by {step_us / 1e6:+.3f} s")
        for segment in self.spool.open.values():
            self.spool.flush(segment, now_us - step_us)
            if not segment.columns[0]:
                segment.chunk_start_us = now_us
        self.spool.step_us += step_us
        self.prober.step_clock(step_us)

    def each_second(self, now_s: float) -> None:
        """Look for what others changed in the home: its removal, the lease, the ping list."""
        if not os.fstat(self.lock_fd).st_nlink:
            self.stopping, self.homeless = "its directory was removed", True
            return
        lease = self.home.signature("lease")
        if lease != self.lease_signature:
            self.lease_signature, self.renewed_s = lease, now_s
        elif now_s - self.renewed_s > self.pinglist.lease_s and not self.stopping:
            self.stopping = f"the lease was not renewed for {self.pinglist.lease_s:g} s"
        signature = self.home.signature("pinglist.json")
        if signature is not None and signature != self.pinglist_signature:
            self.pinglist_signature = signature
            self.reload(now_s)
        if now_s >= self.next_memory_check_s:
            self.next_memory_check_s = now_s + MEMORY_CHECK_S
            self.guard_memory(resident_bytes())

    def reload(self, now_s: float) -> None:
        """Adopt the new ping list, or log why it is rejected."""
        try:
            pinglist = read_pinglist(self.home, self.lab)
            if len(pinglist.targets) + len(self.spool.table) > MAX_TABLE:
                raise ValueError(
                    "together with the previous targets too many for a segment's table; "
                    "restart the agent"
                )
            self.adopt(pinglist, now_s)
        except (OSError, ValueError) as fault:
            self.log(f"pinglist.json is rejected, the previous list stays: {fault}")
        self.write_status()

    def guard_memory(self, rss_bytes: int) -> None:
        """Send fewer probes near the memory cap, more when there is room; stop at the cap."""
        share = next_share(self.prober.memory_share, rss_bytes)
        megabytes = f"{rss_bytes >> 20} MB resident"
        if share != self.prober.memory_share:
            self.log(f"{megabytes}: sending {share:.0%} of the probes")
            self.prober.memory_share = share
        if rss_bytes >= MEMORY_CAP_BYTES and not self.stopping:
            self.stopping = f"{megabytes}, the cap is {MEMORY_CAP_BYTES >> 20} MB"

    def finish(self) -> None:
        """Settle what is in flight, write what is pending, give up port and lock."""
        now_us = self.clock.wall_us()
        self.prober.abandon()
        for segment in list(self.spool.open.values()):
            if now_us >= segment.end_us:
                self.spool.close(segment, now_us)
            else:
                self.spool.flush(segment, now_us)
        self.write_status()
        if self.responder:
            self.responder.close()
        os.close(self.lock_fd)

    def status(self) -> dict[str, Any]:
        """State of the agent, as in agent.json."""
        responder, current = self.responder, self.spool.current
        return {
            "pid": os.getpid(),
            "agent_version": self.version,
            "pinglist_version": self.pinglist.version,
            "host": self.pinglist.host,
            "address": self.pinglist.address,
            "listens_on": self.place[1:] if self.place else None,
            "python": sys.version.split()[0],
            "started_us": self.started_us,
            "updated_us": self.clock.wall_us(),
            "window": current.id if current else None,
            "targets": len(self.pinglist.targets),
            "in_flight": self.prober.in_flight,
            "rss_bytes": resident_bytes(),
            "counters": self.spool.counts,
            "replies": responder.answered if responder else 0,
            "not_a_probe": responder.refused if responder else 0,
            "stopping": self.stopping,
            "last_error": self.spool.fault,
        }

    def write_status(self) -> None:
        try:
            self.home.replace("agent.json", json.dumps(self.status()).encode() + b"\n")
        except OSError:
            self.spool.counts["write_errors"] += 1

    def log(self, text: str) -> None:
        """Add a line to agent.log, which becomes agent.log.1 when it is full."""
        seconds = self.clock.wall_us() // 1_000_000
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
        line = f"{now} {ascii(text)[1:-1]}"
        try:
            status = self.home.stat("agent.log")
            if status and status.st_size > MAX_LOG_BYTES:
                self.home.rename("agent.log", "agent.log.1")
            self.home.append("agent.log", line[:MAX_LOG_LINE].encode() + b"\n")
        except OSError:
            pass  # a full disk is counted where data are written

    def _open_home(self, home: str) -> None:
        try:
            self.home = Home(home, make=True)
            self.home.make_directory("spool")
            self.lock_fd = take_lock(self.home)
            self.version = agent_version()
            self.started_us = self.clock.wall_us()
            self.spool = Spool(self.home, self.log)
            self.spool.recover(self.started_us)
        except OSError as fault:
            raise StartError(1, f"cannot use {home}: {fault}") from fault

    def _read_clocks(self) -> tuple[float, int]:
        """Monotonic and wall clock now; a step of the wall clock takes effect first."""
        now_s, now_us = self.clock.monotonic_s(), self.clock.wall_us()
        if abs(now_us - int(now_s * 1e6) - self.drift_us) > CLOCK_STEP_US:
            # Either the clock was set, or this process slept between the two calls.
            now_s, now_us = self.clock.monotonic_s(), self.clock.wall_us()
            step_us = now_us - int(now_s * 1e6) - self.drift_us
            if abs(step_us) > CLOCK_STEP_US:
                self.step_clock(step_us, now_us)
        self.drift_us = now_us - int(now_s * 1e6)
        return now_s, now_us

    def _prune(self, now_us: int) -> None:
        self.spool.prune(now_us, self.pinglist.spool_keep_s, self.pinglist.spool_max_bytes)
