"""The agent."""

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

TYPE_CHECKING = False  # importing typing would cost a megabyte on every host
if TYPE_CHECKING:
    from typing import Any


class Agent:
    """Prober, responder and spool under one home directory. `tick` is called every 40 ms and never blocks."""

    def __init__(self, home: str, lab: bool = False, clock: Clock | None = None) -> None:
        """Take the lock, the ping list, what a predecessor left, and the port; raises StartError."""
        self.lab, self.clock = lab, clock or Clock()
        self.stopping: str | None = None
        self.homeless = False
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
        now_s = self.clock.monotonic_s()
        self.told_signature = self.signature("pinglist.json")
        try:
            told = read_pinglist(self.home, lab)
        except (OSError, ValueError) as fault:
            raise StartError(1, f"{home}/pinglist.json: {fault}") from fault
        files = descriptor_limit()
        self.poller = Poller()
        ports = SourcePorts(*ephemeral_ports())
        self.prober = Prober(
            self.spool,
            self.poller,
            ports,
            max(8, min(MAX_IN_FLIGHT, files * 3 // 4 - RESERVED_FDS)),
        )
        self.responder: Responder | None = None
        self.place: tuple[int, str, int] | None = None
        self.files = files
        self.log(f"start: agent {self.version}, Python {sys.version.split()[0]}, pid {os.getpid()}")
        try:
            self.adopt(told, now_s)
        except OSError as fault:
            raise StartError(1, f"cannot listen on {told.address} port {told.port}: {fault}") from fault
        self.lease_signature, self.renewed_s = self.signature("lease"), now_s
        self.drift_us = self.clock.wall_us() - int(now_s * 1e6)
        self.chunk_number = self.clock.wall_us() // CHUNK_US
        self.next_second_s = self.next_guard_s = now_s
        self.spool.prune(self.started_us, told.spool_keep_s, told.spool_max_bytes)
        self.write_status()

    def adopt(self, told: PingList, now_s: float) -> None:
        """Listen and probe as the list says; raises OSError, with nothing changed, if its port cannot be had."""
        here = told.address if is_local(told.family, told.address) else WILDCARD[told.family]
        place = (told.family, here, told.port)
        if self.responder is None or place != self.place:
            responder = Responder(self.poller, *place, now_s)  # the old one stays if this fails
            responder.max_connections = min(MAX_CONNECTIONS, self.files // 8)
            if self.responder:
                self.responder.close()
            self.responder, self.place = responder, place
            if here != told.address:
                self.log(f"address {told.address} is not on this host: bound to {here}")
        for segment in self.spool.open.values():
            self.spool.flush(segment, self.clock.wall_us())
        self.prober.load(told, {**WILDCARD, told.family: here}, now_s)
        self.spool.identity = {
            "host": told.host,
            "ip": told.address,
            "agent": self.version,
            "pinglist": told.version,
        }
        self.told = told
        share = f", {self.prober.rate_share:.0%} of it: over the cap" if self.prober.rate_share < 1 else ""
        self.log(f"ping list {told.version}: {len(told.targets)} targets every {told.interval_s:g} s{share}")

    def run(self) -> None:
        """Tick until something says stop; then wait for the answers that are under way, and leave a clean spool."""
        os.nice(NICE)
        gc.collect()
        gc.freeze()
        gc.disable()  # nothing here makes cycles in number; a collection is made once per window
        while not self.stopping:
            self.tick()
            time.sleep(TICK_S)
        if self.homeless:
            return
        self.log(f"stop: {self.stopping}")
        until_s = self.clock.monotonic_s() + min(DRAIN_S, self.told.timeout_s + 4 * TICK_S)
        while self.prober.in_flight and self.clock.monotonic_s() < until_s:
            self.tick()
            time.sleep(TICK_S)
        if self.prober.in_flight:
            self.tick()  # a busy host may have let us sleep past the last timeouts: those probes are lost
        self.finish()

    def tick(self) -> None:
        now_s, now_us = self.clock.monotonic_s(), self.clock.wall_us()
        if abs(now_us - int(now_s * 1e6) - self.drift_us) > 200_000:
            now_s, now_us = (
                self.clock.monotonic_s(),
                self.clock.wall_us(),
            )  # or we slept between the two
            self.clock_stepped(now_us - int(now_s * 1e6) - self.drift_us, now_us)
        self.drift_us = now_us - int(now_s * 1e6)
        self.poller.poll()
        self.prober.collect(now_s)
        segment = self.spool.segment(now_us, self.told.window_s)
        if not self.stopping:
            self.prober.launch_due(now_s, self.clock.wall_us, segment)
        if self.responder:
            self.responder.expire(now_s)
        if now_us // CHUNK_US != self.chunk_number:
            self.chunk_number = now_us // CHUNK_US
            for open_segment in list(self.spool.open.values()):
                idle = open_segment.chunk_start_us >= min(now_us, open_segment.end_us)
                if not idle or open_segment.columns[0] or open_segment.scheduled:
                    self.spool.flush(open_segment, now_us)
            self.write_status()
        if self.spool.close_finished(now_us):
            self.spool.prune(now_us, self.told.spool_keep_s, self.told.spool_max_bytes)
            gc.collect()
        if now_s >= self.next_second_s:
            self.next_second_s = now_s + 1
            self.each_second(now_s)

    def clock_stepped(self, step_us: int, now_us: int) -> None:
        """Pacing does not care (it is monotonic); times in the segment start anew, and its header says so."""
        if abs(step_us) <= 200_000:
            return
        self.log(f"the clock stepped by {step_us / 1e6:+.3f} s")
        for segment in self.spool.open.values():
            self.spool.flush(segment, now_us - step_us)
            if not segment.columns[0]:
                segment.chunk_start_us = now_us
        self.spool.step_us += step_us
        self.prober.clock_stepped(step_us)

    def each_second(self, now_s: float) -> None:
        if not os.fstat(self.lock_fd).st_nlink:  # whoever removed our home wants us gone
            self.stopping, self.homeless = "its directory was removed", True
            return
        lease = self.signature("lease")
        if lease != self.lease_signature:
            self.lease_signature, self.renewed_s = lease, now_s
        elif now_s - self.renewed_s > self.told.lease_s and not self.stopping:
            self.stopping = f"the lease was not renewed for {self.told.lease_s:g} s"
        told = self.signature("pinglist.json")
        if told != self.told_signature and told is not None:
            self.told_signature = told
            self.reload(now_s)
        if now_s >= self.next_guard_s:
            self.next_guard_s = now_s + 5
            self.guard_memory(resident_bytes())

    def reload(self, now_s: float) -> None:
        try:
            told = read_pinglist(self.home, self.lab)
            if len(told.targets) + len(self.spool.table) > 65_535:
                raise ValueError("with the targets of the list before, more than a segment's table holds: restart")
            self.adopt(told, now_s)
        except (OSError, ValueError) as fault:
            self.log(f"pinglist.json is of no use, the one before stays: {fault}")
        self.write_status()

    def guard_memory(self, rss_bytes: int) -> None:
        """One step down the ladder near the cap, one up when there is room again; at the cap: stop."""
        share = next_share(self.prober.memory_share, rss_bytes)
        if share != self.prober.memory_share:
            self.log(f"{rss_bytes >> 20} MB resident: sending {share:.0%} of the probes")
            self.prober.memory_share = share
        if rss_bytes >= MEMORY_CAP_BYTES and not self.stopping:
            self.stopping = f"{rss_bytes >> 20} MB resident, the cap is {MEMORY_CAP_BYTES >> 20} MB"

    def finish(self) -> None:
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
        responder = self.responder
        return {
            "pid": os.getpid(), "agent_version": self.version, "pinglist_version": self.told.version,
            "host": self.told.host, "address": self.told.address, "listens_on": self.place[1:] if self.place else None,
            "python": sys.version.split()[0], "started_us": self.started_us, "updated_us": self.clock.wall_us(),
            "window": self.spool.current.id if self.spool.current else None, "targets": len(self.told.targets),
            "in_flight": self.prober.in_flight, "rss_bytes": resident_bytes(), "counters": self.spool.counts,
            "replies": responder.answered if responder else 0, "not_a_probe": responder.refused if responder else 0,
            "stopping": self.stopping, "last_error": self.spool.fault,
        }  # fmt: skip

    def write_status(self) -> None:
        try:
            self.home.replace("agent.json", json.dumps(self.status()).encode() + b"\n")
        except OSError:
            self.spool.counts["write_errors"] += 1

    def log(self, text: str) -> None:
        """Add a line to agent.log, which has one predecessor and never grows beyond its bound."""
        line = time.strftime("%Y-%m-%dT%H:%M:%SZ ", time.gmtime(self.clock.wall_us() // 1_000_000)) + ascii(text)[1:-1]
        try:
            there = self.home.stat("agent.log")
            if there and there.st_size > MAX_LOG_BYTES:
                self.home.rename("agent.log", "agent.log.1")
            self.home.append("agent.log", line[:2000].encode() + b"\n")
        except OSError:
            pass  # a full disk is counted where data are written

    def signature(self, name: str) -> tuple[int, int, int] | None:
        try:
            found = self.home.stat(name)
        except OSError:
            return None
        return (found.st_mtime_ns, found.st_ino, found.st_size) if found else None
