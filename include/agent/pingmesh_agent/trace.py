"""Traces: at which hop packets to a target stop, by probes with a growing TTL.

Routers choose a path by the ports, so each source port makes a walk of its own, and the walks run
side by side. No privilege is needed: IP_RECVERR gives the ICMP error, and the router that sent it,
to the socket whose packet it was. Each packet has a socket, and a walk asks hop after hop, since
two connects from one source port cannot be in flight at once.

Routers limit their answers (Linux: six at once, then one a second). So a walk that did not arrive
later asks the target itself, whatever lies between, and once more the hops that were silent.
"""

from __future__ import annotations

import errno
import os
import select
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
from pingmesh_agent.limits import require
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
from pingmesh_agent.walk import HOP, SILENT, Walk

TYPE_CHECKING = False  # importing typing would add a megabyte
if TYPE_CHECKING:
    from typing import Any

MAX_PORTS, MAX_TTL, MAX_ROUNDS = 64, 32, 3
DEFAULT_TIMEOUT_S, MAX_TIMEOUT_S = 3.0, 10.0
MAX_PACKETS = 2000
PACKET_GAP_S = 0.003  # between two packets
WALK_GAP_S = 0.02  # between the first packets of two walks, which meet the same first router
PORT_TAKEN_S = 0.05  # before a source port that is in use is tried again
PORT_REST_S = 1.1  # before a source port is used again: a peer may hold half a connection for 1 s
FIRST_PATIENCE_S, MIN_PATIENCE_S, MAX_PATIENCE_S = 0.35, 0.25, 1.0

IP_TTL, IPV6_HOPS = (0, 2), (41, 16)  # (level, option)
ORIGIN_ICMP, ORIGIN_ICMP6 = 2, 3
# (type of time exceeded, (type, code) of port unreachable)
ICMP, ICMP6 = (11, (3, 3)), (3, (1, 4))


class Trace:
    """One trace of one target; `run` returns its result."""

    def __init__(
        self, target: str, port: int, source: str = "", protocol: str = "tcp", ports: int = 16,
        base_port: int = 0, max_ttl: int = 16, rounds: int = 1,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:  # fmt: skip
        """Prepare the walks.

        Args:
            target: Its IP address.
            port: Its port.
            source: The address to send from; the kernel chooses if this host does not have it.
            protocol: `tcp` or `udp`.
            ports: Number of source ports.
            base_port: The first source port; 0 for a random one.
            max_ttl: The farthest hop to ask.
            rounds: How often to ask every hop.
            timeout_s: The longest that the trace may take.

        Raises:
            ValueError: An argument is out of its bounds; the message names it.
        """
        for name, value, low, high in (
            ("port", port, 1, 65535), ("ports", ports, 1, MAX_PORTS),
            ("base-port", base_port, 0, 65000), ("max-ttl", max_ttl, 1, MAX_TTL),
            ("rounds", rounds, 1, MAX_ROUNDS), ("timeout", timeout_s, 0.1, MAX_TIMEOUT_S),
        ):  # fmt: skip
            require(low <= value <= high, f"{name} {value} is not {low} ... {high}")
        require(protocol in {"tcp", "udp"}, f"protocol {protocol!r}: known are tcp, udp")
        self.target, self.port, self.protocol = target, port, protocol
        self.stream = protocol == "tcp"
        self.family = family_of(target)
        self.v6 = self.family == AF_INET6
        ours = bool(source) and family_of(source) == self.family
        usable = ours and is_local(self.family, source)
        self.source = source if usable else WILDCARD[self.family]
        self.max_ttl, self.rounds, self.timeout_s = max_ttl, rounds, timeout_s
        self.next_port = base_port or random_port(2 * ports)
        self.began_s = self.next_packet_s = time.monotonic()
        self.until_s = self.began_s + timeout_s
        gap_s = min(WALK_GAP_S, timeout_s / 3 / ports)
        self.walks = [
            Walk(self.take_port(), self.began_s + number * gap_s) for number in range(ports)
        ]
        self.in_flight: dict[int, Walk] = {}
        self.poll = select.poll()
        self.packets = 0
        self.slowest_s = 0.0
        self.reason: str | None = None  # why there is no complete result

    def take_port(self) -> int:
        self.next_port += 1
        return self.next_port - 1

    def run(self) -> dict[str, Any]:
        """Walk until all walks are done or the time is over; return the result."""
        started_us = time.time_ns() // 1000
        while not self.reason:
            now_s = time.monotonic()
            waiting = self._waiting()
            if not (waiting or self.in_flight):
                break
            if now_s >= self.until_s or self.packets >= MAX_PACKETS:
                break
            ready = [walk for walk in waiting if walk.free_s <= now_s]
            if ready and now_s >= self.next_packet_s:
                self.launch(min(ready, key=lambda walk: walk.free_s), now_s)
                self.next_packet_s = now_s + PACKET_GAP_S
            for fd, _ in self.poll.poll(max(0.0, self._wake_s() - time.monotonic()) * 1000):
                self.read_answer(self.in_flight[fd])
            self._settle_silent()
        return self._result(started_us)

    def launch(self, walk: Walk, now_s: float) -> None:
        """Send the next packet of a walk.

        An error of this host ends the walk, or the trace if every walk would meet it.
        """
        sock = self._open_socket(walk.ttl)
        if sock is None:
            return
        walk.sock, walk.sent_s = sock, now_s
        self.in_flight[sock.fileno()] = walk
        self.poll.register(sock.fileno(), select.POLLOUT if self.stream else select.POLLIN)
        fault = self._send(sock, walk)
        if fault in {errno.EADDRINUSE, errno.EADDRNOTAVAIL}:
            # The port is in use, perhaps by this host's prober: wait, or take another.
            self.release(walk)
            walk.free_s = now_s + PORT_TAKEN_S
            if not walk.hops:
                walk.port = self.take_port()
            return
        self.packets += 1
        if fault not in {0, errno.EINPROGRESS, errno.ECONNREFUSED}:
            self.settle(walk, None, None, f"this host: {os.strerror(fault)}")

    def read_answer(self, walk: Walk) -> None:
        """Settle the packet of a walk if its socket has an answer."""
        took_s = time.monotonic() - walk.sent_s
        router, outcome = self._answer(walk.sock) if walk.sock else (None, SILENT)
        if outcome == SILENT:
            return
        self.slowest_s = max(self.slowest_s, took_s)
        self.settle(walk, router, int(took_s * 1e6), outcome)

    def settle(self, walk: Walk, router: str | None, rtt_us: int | None, outcome: str) -> None:
        """Record the outcome of a packet, and choose what the walk asks next, and when."""
        self.release(walk)
        walk.record(router, rtt_us, outcome)
        target_ttl = max((other.ends or 0 for other in self.walks), default=0)
        if walk.again is None and walk.goes_on(self.max_ttl, target_ttl):
            walk.ttl += 1
            return
        walk.drop_needless()
        while not walk.again and not walk.done:
            walk.free_s = time.monotonic() + min(PORT_REST_S, self.timeout_s / 3)
            walk.round += 1
            walk.again = walk.next_round(self.rounds)
            walk.done = walk.round > self.rounds + 1 or not walk.again
        if walk.again:
            walk.ttl = walk.again.pop(0)

    def release(self, walk: Walk) -> None:
        """Close the socket of a walk, if it has one."""
        if walk.sock:
            self.poll.unregister(walk.sock.fileno())
            del self.in_flight[walk.sock.fileno()]
            walk.sock.close()
            walk.sock = None

    def patience_s(self) -> float:
        """How long to wait for a hop: several times the slowest answer so far."""
        if not self.slowest_s:
            return FIRST_PATIENCE_S
        return min(MAX_PATIENCE_S, MIN_PATIENCE_S + 4 * self.slowest_s)

    def _waiting(self) -> list[Walk]:
        return [walk for walk in self.walks if not walk.done and walk.sock is None]

    def _wake_s(self) -> float:
        """When the next packet may be sent, or the next hop is given up, or the time is over."""
        patience_s = self.patience_s()
        wake_s = [self.until_s]
        wake_s += [walk.sent_s + patience_s for walk in self.in_flight.values()]
        wake_s += [max(self.next_packet_s, walk.free_s) for walk in self._waiting()]
        return min(wake_s)

    def _settle_silent(self) -> None:
        now_s, patience_s = time.monotonic(), self.patience_s()
        for walk in list(self.in_flight.values()):
            if walk.sent_s + patience_s <= now_s:
                self.settle(walk, None, None, SILENT)

    def _open_socket(self, ttl: int) -> socket | None:
        """A socket for one packet; None, with `reason` set, if the kernel does not trace."""
        kind = SOCK_STREAM if self.stream else SOCK_DGRAM
        sock = socket(self.family, kind | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
        try:
            sock.setsockopt(*(IPV6_RECVERR if self.v6 else IP_RECVERR), 1)
            sock.setsockopt(*(IPV6_HOPS if self.v6 else IP_TTL), ttl)
            if self.stream:
                sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
                sock.setsockopt(SOL_SOCKET, SO_LINGER, RST_ON_CLOSE)
        except OSError as fault:
            self.reason = f"this kernel does not trace for users: {fault.strerror}"
            sock.close()
            return None
        return sock

    def _send(self, sock: socket, walk: Walk) -> int:
        """Send a packet; return the errno, 0 if there was no error."""
        try:
            sock.bind((self.source, walk.port))
            walk.sent_s = time.monotonic()
            fault = sock.connect_ex((self.target, self.port))
            if not self.stream and not fault:
                token = int.from_bytes(os.urandom(4), "big")
                sock.send(PAYLOAD.pack(REQUEST, token, PAYLOAD.size, 0))
            return fault
        except OSError as error:
            return error.errno or errno.EIO

    def _answer(self, sock: socket) -> tuple[str | None, str]:
        """(who answered, outcome): `hop`, one of FINAL, `icmp TYPE/CODE`, or an error's name."""
        try:
            ancillary = sock.recvmsg(512, 512, MSG_ERRQUEUE)[1]
        except OSError:
            ancillary = []
        for level, kind, data in ancillary:
            error = self._icmp_error(level, kind, data)
            if error:
                return error
        fault = sock.getsockopt(SOL_SOCKET, SO_ERROR)
        if fault == errno.ECONNREFUSED:
            return self.target, "refused"
        if fault:
            return None, f"this host: {os.strerror(fault)}"
        if self.stream:
            return self.target, "open"
        try:
            sock.recv(64)
            return self.target, "open"
        except OSError:
            return None, SILENT

    def _icmp_error(self, level: int, kind: int, data: bytes) -> tuple[str, str] | None:
        """Parse sock_extended_err: u32 errno; u8 origin, type, code; then the sender's sockaddr."""
        if (level, kind) == IP_RECVERR and len(data) >= 24 and data[4] == ORIGIN_ICMP:
            router, (exceeded, no_port) = inet_ntop(AF_INET, data[20:24]), ICMP
        elif (level, kind) == IPV6_RECVERR and len(data) >= 40 and data[4] == ORIGIN_ICMP6:
            router, (exceeded, no_port) = inet_ntop(AF_INET6, data[24:40]), ICMP6
        else:
            return None
        icmp_type, code = data[5], data[6]
        if icmp_type == exceeded:
            return router, HOP
        if (icmp_type, code) == no_port and router == self.target:
            return router, "closed"
        return router, f"icmp {icmp_type}/{code}"

    def _result(self, started_us: int) -> dict[str, Any]:
        complete = all(walk.done for walk in self.walks)
        if not self.reason and not any(walk.hops for walk in self.walks):
            self.reason = "no packet was sent: every source port is in use, or there was no time"
        for walk in list(self.in_flight.values()):
            self.release(walk)
        return {
            "agent_version": agent_version(),
            "target": self.target,
            "port": self.port,
            "protocol": self.protocol,
            "source": self.source,
            "started_us": started_us,
            "packets": self.packets,
            "took_ms": int((time.monotonic() - self.began_s) * 1000),
            "complete": complete,
            "reason": self.reason,
            "paths": [walk.result() for walk in self.walks if walk.hops],
        }


def random_port(room: int) -> int:
    """A random source port with `room` more behind it in the ephemeral range."""
    low, high = ephemeral_ports()
    return low + int.from_bytes(os.urandom(4), "big") % max(1, high - low - room)
