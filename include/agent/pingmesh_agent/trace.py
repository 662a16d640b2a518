"""Traces."""

from __future__ import annotations

import errno
import json
import os
import select
import sys
import time
from _socket import (
    AF_INET,
    AF_INET6,
    SO_ERROR,
    SO_LINGER,
    SO_REUSEADDR,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
    inet_ntop,
    socket,
)

from pingmesh_agent.addresses import WILDCARD, family_of, is_local
from pingmesh_agent.limits import TRACE_S, check
from pingmesh_agent.payload import (
    IP_RECVERR,
    IPV6_RECVERR,
    MSG_ERRQUEUE,
    PAYLOAD,
    REQUEST,
    RST_ON_CLOSE,
)
from pingmesh_agent.ports import ephemeral_ports
from pingmesh_agent.release import agent_version

TYPE_CHECKING = False  # importing typing would cost a megabyte on every host
if TYPE_CHECKING:
    from typing import Any

# Where on the way packets stop: probes with a growing TTL, one walk a source port, since routers choose a path by it.
# No privilege: IP_RECVERR gives the ICMP error, and the router that sent it, to the socket whose packet it was. A
# socket a packet, for two connects of one source port cannot be under way at once; so a walk asks hop after hop, and
# the walks go on side by side. Routers limit how often they answer (Linux: six at once, then one a second): a walk that
# did not arrive asks the target itself later, whatever lies between, and the silent hops once more.
MAX_TRACE_PORTS, MAX_TRACE_TTL, MAX_TRACE_ROUNDS = 64, 32, 3
MAX_TRACE_S = 10.0
MAX_TRACE_PACKETS = 2000
TRACE_GAP_S = 0.003  # between two packets
WALK_GAP_S = 0.02  # between the first packets of two walks: they go to one router, which may limit its answers
MAX_SILENT_RUN = 3  # hops that do not answer, one after the other, end a first walk
ALL_THE_WAY = 64  # the TTL that asks the target itself
PORT_TAKEN_S = 0.05  # until a source port that is taken is tried again
TRACE_REST_S = 1.1  # before a source port is used again: a peer may hold half a connection of it for a second
IP_TTL, IPV6_HOPS = (0, 2), (41, 16)
FINAL = ("open", "refused", "closed")  # the target itself answered
HOP, SILENT = "hop", "silent"


class Walk:
    """The way of one source port. `hops[ttl]`, `hops[ALL_THE_WAY]` too, is [router or None, us or None, what, packets,
    answers]."""

    __slots__ = (
        "again",
        "done",
        "ends",
        "free_s",
        "hops",
        "port",
        "round",
        "sent_s",
        "sock",
        "ttl",
    )

    def __init__(self, port: int, free_s: float) -> None:
        self.port, self.free_s = port, free_s
        self.hops: dict[int, list[Any]] = {}
        self.again: list[int] | None = None  # what is left to be asked in a later round
        self.ttl, self.round, self.sent_s = 1, 1, 0.0
        self.sock: socket | None = None
        self.ends: int | None = None  # the TTL that the target, or an error that ends the way, answered
        self.done = False

    def asked(self) -> int:
        """How far this walk has come, whether or not it was answered there."""
        return self.ends or max((ttl for ttl in self.hops if ttl != ALL_THE_WAY), default=0)

    def heard(self) -> int:
        return max((ttl for ttl, hop in self.hops.items() if hop[4] and ttl != ALL_THE_WAY), default=0)

    def reached(self) -> bool:
        return any(self.hops[ttl][2] in FINAL for ttl in (self.ends, ALL_THE_WAY) if ttl in self.hops)

    def file(self, router: str | None, us: int | None, what: str) -> None:
        """Note one answer, or none; a better one replaces what was noted of that hop before."""
        hop = self.hops.setdefault(self.ttl, [None, None, SILENT, 0, 0])
        hop[3] += 1
        if what != SILENT:
            hop[:3] = [router, us, what]
            hop[4] += 1
        if what not in {SILENT, HOP} and self.ttl != ALL_THE_WAY and (self.ends is None or self.ttl < self.ends):
            self.ends = self.ttl


class Trace:
    """One trace: `run()` returns what it found. Raises ValueError for what it will not do."""

    def __init__(
        self, target: str, port: int, source: str = "", protocol: str = "tcp", ports: int = 16, base_port: int = 0,
        max_ttl: int = 16, rounds: int = 1, timeout_s: float = TRACE_S,
    ) -> None:  # fmt: skip
        for name, value, low, high in (
            ("port", port, 1, 65535), ("ports", ports, 1, MAX_TRACE_PORTS), ("base-port", base_port, 0, 65000),
            ("max-ttl", max_ttl, 1, MAX_TRACE_TTL), ("rounds", rounds, 1, MAX_TRACE_ROUNDS),
            ("timeout", timeout_s, 0.1, MAX_TRACE_S),
        ):  # fmt: skip
            check(low <= value <= high, f"{name} {value} is not {low} ... {high}")
        check(protocol in {"tcp", "udp"}, f"protocol {protocol!r}: known are tcp, udp")
        self.target, self.port, self.protocol = target, port, protocol
        self.family = family_of(target)
        self.v6 = self.family == AF_INET6
        mine = bool(source) and family_of(source) == self.family and is_local(self.family, source)
        self.source = source if mine else WILDCARD[self.family]
        self.max_ttl, self.rounds, self.timeout_s = max_ttl, rounds, timeout_s
        low, high = ephemeral_ports()
        self.next_port = base_port or low + int.from_bytes(os.urandom(4), "big") % max(1, high - low - 2 * ports)
        self.began_s = time.monotonic()
        gap_s = min(WALK_GAP_S, timeout_s / 3 / ports)
        self.walks = [Walk(self.take_port(), self.began_s + number * gap_s) for number in range(ports)]
        self.in_flight: dict[int, Walk] = {}
        self.poll = select.poll()
        self.packets = 0
        self.slowest_s = 0.0
        self.reason: str | None = None

    def take_port(self) -> int:
        self.next_port += 1
        return self.next_port - 1

    def run(self) -> dict[str, Any]:
        started_us, next_packet_s = time.time_ns() // 1000, 0.0
        until_s = self.began_s + self.timeout_s
        while not self.reason:
            now_s = time.monotonic()
            waiting = [walk for walk in self.walks if not walk.done and walk.sock is None]
            if now_s >= until_s or self.packets >= MAX_TRACE_PACKETS or not (waiting or self.in_flight):
                break
            ready = [walk for walk in waiting if walk.free_s <= now_s]
            if ready and now_s >= next_packet_s:
                self.launch(min(ready, key=lambda walk: walk.free_s), now_s)
                next_packet_s = now_s + TRACE_GAP_S
            wake_s = [
                until_s,
                *(walk.sent_s + self.patience_s() for walk in self.in_flight.values()),
            ]
            wake_s += [max(next_packet_s, walk.free_s) for walk in waiting if walk.sock is None and not walk.done]
            for fd, _ in self.poll.poll(max(0.0, min(wake_s) - time.monotonic()) * 1000):
                self.answered(self.in_flight[fd])
            now_s = time.monotonic()
            for walk in [w for w in self.in_flight.values() if w.sent_s + self.patience_s() <= now_s]:
                self.settle(walk, None, None, SILENT)
        complete = all(walk.done for walk in self.walks)
        if not self.reason and not any(walk.hops for walk in self.walks):
            self.reason = "no packet was sent: every source port was taken, or there was no time"
        for walk in list(self.in_flight.values()):
            self.release(walk)
        return {
            "agent_version": agent_version(), "target": self.target, "port": self.port, "protocol": self.protocol,
            "source": self.source, "started_us": started_us, "packets": self.packets,
            "took_ms": int((time.monotonic() - self.began_s) * 1000), "complete": complete, "reason": self.reason,
            "paths": [
                {"port": walk.port, "reached": walk.reached(),
                 "hops": [[ttl, *walk.hops[ttl]] for ttl in range(1, walk.asked() + 1) if ttl in walk.hops],
                 "directly": walk.hops.get(ALL_THE_WAY)}
                for walk in self.walks if walk.hops
            ],
        }  # fmt: skip

    def patience_s(self) -> float:
        """How long a hop is waited for: some round trips of what was seen so far."""
        return min(1.0, 0.25 + 4 * self.slowest_s) if self.slowest_s else 0.35

    def launch(self, walk: Walk, now_s: float) -> None:
        """Send a walk's next packet; an error of this host ends the walk, or the trace where all would meet it."""
        stream = self.protocol == "tcp"
        sock = socket(self.family, (SOCK_STREAM if stream else SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
        walk.sock, walk.sent_s = sock, now_s
        try:
            sock.setsockopt(*(IPV6_RECVERR if self.v6 else IP_RECVERR), 1)
            sock.setsockopt(*(IPV6_HOPS if self.v6 else IP_TTL), walk.ttl)
            if stream:
                sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
                sock.setsockopt(SOL_SOCKET, SO_LINGER, RST_ON_CLOSE)
        except OSError as fault:
            self.reason = f"this kernel does not trace for users: {fault.strerror}"
            sock.close()
            return
        self.in_flight[sock.fileno()] = walk
        self.poll.register(sock.fileno(), select.POLLOUT if stream else select.POLLIN)
        try:
            sock.bind((self.source, walk.port))
            walk.sent_s = time.monotonic()
            fault_number = sock.connect_ex((self.target, self.port))
            if not stream and not fault_number:
                sock.send(PAYLOAD.pack(REQUEST, int.from_bytes(os.urandom(4), "big"), PAYLOAD.size, 0))
        except OSError as fault:
            fault_number = fault.errno or errno.EIO
        if fault_number in {errno.EADDRINUSE, errno.EADDRNOTAVAIL}:
            self.release(walk)  # someone here uses this port, maybe our own prober: wait, or take another in time
            walk.free_s = now_s + PORT_TAKEN_S
            if not walk.hops:
                walk.port = self.take_port()
            return
        self.packets += 1
        if fault_number not in {0, errno.EINPROGRESS, errno.ECONNREFUSED}:
            self.settle(walk, None, None, f"this host: {os.strerror(fault_number)}")

    def answered(self, walk: Walk) -> None:
        took_s = time.monotonic() - walk.sent_s
        router, what = self.read(walk.sock) if walk.sock else (None, SILENT)
        if what == SILENT:
            return  # woken for nothing
        self.slowest_s = max(self.slowest_s, took_s)
        self.settle(walk, router, int(took_s * 1e6), what)

    def read(self, sock: socket) -> tuple[str | None, str]:
        """(who answered, what): `hop`, one of FINAL, `icmp TYPE/CODE`, or an error's name."""
        try:
            ancillary = sock.recvmsg(512, 512, MSG_ERRQUEUE)[1]
        except OSError:
            ancillary = []
        for level, kind, data in ancillary:
            # sock_extended_err: u32 errno, u8 origin, type, code; then the sockaddr of who sent it
            if (level, kind) == IP_RECVERR and len(data) >= 24 and data[4] == 2:
                router = inet_ntop(AF_INET, data[20:24])
                return router, self.icmp(router, data[5], data[6], 11, (3, 3))
            if (level, kind) == IPV6_RECVERR and len(data) >= 40 and data[4] == 3:
                router = inet_ntop(AF_INET6, data[24:40])
                return router, self.icmp(router, data[5], data[6], 3, (1, 4))
        fault = sock.getsockopt(SOL_SOCKET, SO_ERROR)
        if fault:
            refused = fault == errno.ECONNREFUSED
            return (self.target, "refused") if refused else (None, f"this host: {os.strerror(fault)}")
        if self.protocol == "tcp":
            return self.target, "open"
        try:
            sock.recv(64)
            return self.target, "open"
        except OSError:
            return None, SILENT

    def icmp(self, router: str, kind: int, code: int, exceeded: int, no_port: tuple[int, int]) -> str:
        if kind == exceeded:
            return HOP
        return "closed" if (kind, code) == no_port and router == self.target else f"icmp {kind}/{code}"

    def release(self, walk: Walk) -> None:
        if walk.sock:
            self.poll.unregister(walk.sock.fileno())
            del self.in_flight[walk.sock.fileno()]
            walk.sock.close()
            walk.sock = None

    def settle(self, walk: Walk, router: str | None, us: int | None, what: str) -> None:
        """Note what came, and choose what this walk asks next, and when."""
        self.release(walk)
        walk.file(router, us, what)
        if walk.again is None and self.goes_on(walk):
            walk.ttl += 1
            return
        walk.again = [ttl for ttl in walk.again or () if ttl <= walk.asked() or (ttl == ALL_THE_WAY and not walk.ends)]
        while not walk.again and not walk.done:
            walk.free_s = time.monotonic() + min(TRACE_REST_S, self.timeout_s / 3)
            walk.round += 1
            walk.again = self.next_round(walk)
            walk.done = walk.round > self.rounds + 1 or not walk.again
        if walk.again:
            walk.ttl = walk.again.pop(0)

    def next_round(self, walk: Walk) -> list[int]:
        """What to ask after a rest: all again, and the last time those that never answered: the target first, and of
        the hops behind the last that answered only the next."""
        hops = range(1, walk.asked() + 1)
        if walk.round <= self.rounds:
            return list(hops)
        silent = [ttl for ttl in hops if ttl <= walk.heard() + 2 and not (ttl in walk.hops and walk.hops[ttl][4])]
        return silent if walk.ends else [ALL_THE_WAY, *silent]

    def goes_on(self, walk: Walk) -> bool:
        """Whether a first walk asks one hop more. Other walks may know how far the target is."""
        far = [other.ends for other in self.walks if other.ends]
        enough = walk.ttl - walk.heard() >= MAX_SILENT_RUN or (far and walk.ttl >= max(far))
        return not (walk.ends or walk.ttl >= self.max_ttl or enough)


TRACE_OPTIONS = {
    "--target": str, "--source": str, "--protocol": str, "--port": int, "--ports": int, "--base-port": int,
    "--max-ttl": int, "--rounds": int, "--timeout": float,
}  # fmt: skip


def trace(words: list[str]) -> int:
    """Trace the way to `--target` at `--port` and print one line of JSON: every source port's hops."""
    try:
        check(len(words) % 2 == 0, f"{words[-1]} has no value" if words else "")
        told = {}
        for name, value in zip(words[::2], words[1::2]):  # noqa: B905
            check(name in TRACE_OPTIONS, f"{name} is no option; there are {', '.join(TRACE_OPTIONS)}")
            told[name[2:].replace("-", "_")] = TRACE_OPTIONS[name](value)
        told["timeout_s"] = told.pop("timeout", TRACE_S)
        check("target" in told and "port" in told, "trace needs --target and --port")
        print(json.dumps(Trace(**told).run(), separators=(",", ":")))
    except (ValueError, OSError) as fault:
        print(f"trace: {fault}", file=sys.stderr)
        return 1
    return 0
