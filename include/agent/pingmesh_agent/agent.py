"""The pingmesh agent: measures the round trip to every peer on its list, all the time, and answers theirs.

    python3 -I -S pingmesh_agent.py run --home DIR [--detach] [--lab]     probe and answer until stopped
    python3 -I -S pingmesh_agent.py status --home DIR                     one line of JSON
    python3 -I -S pingmesh_agent.py stop --home DIR                       and wait until it has stopped
    python3 -I -S pingmesh_agent.py dump SEGMENT                          the records of a segment, one JSON a line
    python3 -I -S pingmesh_agent.py trace --target ADDRESS --port PORT    where on the way packets stop, JSON

One file, the standard library, Python >= 3.8, Linux, no root. Prober and responder are one process and one thread that
wakes every 40 ms: wake-ups, not the language, are what an agent costs. That is affordable because no clock of ours is
in a result: a round trip is the difference of two times that the kernel took (TCP_INFO for a connect, packet timestamps
for a payload, less the time that the peer held the payload, which its reply carries). When we look at a socket does
not matter.

What always holds:
- every probe that came due is a row of a segment or a count of what was skipped and why;
- a segment is a sequence of self-contained chunks, one per 10 s, so that a kill -9 loses at most the last of them, and
  its name ends in .pms only when nothing will be added to it;
- no pair is probed more often than every 10 s (without --lab), and rate, sockets, memory, log and spool are bounded;
- without a renewed lease it stops by itself; all it writes lies under DIR, the very directory it was started in (see
  Home); a reply is never larger than its request.

Imports are few on purpose: argparse, logging, hashlib and socket would cost a host 9 MB.
"""

from __future__ import annotations

import errno
import fcntl
import gc
import json
import os
import resource
import select
import signal
import struct
import sys
import time
import zlib
from _socket import (  # the C type: no wrapper around each call
    AF_INET,
    AF_INET6,
    IPPROTO_IPV6,
    IPPROTO_TCP,
    IPV6_V6ONLY,
    SO_ERROR,
    SO_LINGER,
    SO_REUSEADDR,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_DEFER_ACCEPT,
    TCP_INFO,
    TCP_NODELAY,
    inet_ntop,
    inet_pton,
    socket,
)
from array import array
from collections import deque

TYPE_CHECKING = False  # typing itself would cost a megabyte on every host
if TYPE_CHECKING:
    from typing import Any, BinaryIO, Callable, Iterator

# ---------------------------------------------------------------------------------------------- what protects the host
TICK_S = 0.04  # wake-ups are what an agent costs: 20 ms is a third dearer, 1 ms four times
MIN_INTERVAL_S = 10.0  # per pair; less only with --lab
LATE_S = 0.25  # a probe that is later than this (a stall) is skipped: no burst after a pause
MAX_PROBES_PER_S = 1000  # 4 % of a core
MAX_TARGETS = 20_000
MAX_PINGLIST_BYTES = 16 << 20
MAX_IN_FLIGHT = 4096  # sockets that wait for an answer
MAX_CONNECTIONS = 128  # that the responder holds; the oldest goes first
CONNECTION_S = 5.0
EVENTS_PER_TICK = 512
DATAGRAMS_PER_TICK = 256
ACCEPTS_PER_TICK = 64
RESERVED_FDS = 32
MEMORY_CAP_BYTES = 64 << 20
MEMORY_LADDER = (1.0, 0.5, 0.25, 0.1)  # share of the probes that is sent; never silent, and at the cap: stop
MAX_PENDING_ROWS = 100_000  # that wait for a disk that is full
MAX_PENDING_WINDOWS = 12
MAX_LOG_BYTES = 256 << 10
NICE = 10
DRAIN_S = 5.0  # what a stop waits for the answers of probes that are under way
PORT_REST_MS = 1000  # before a source port is used again
CHUNK_US = 10_000_000
TRACE_S = 3.0

# ------------------------------------------------------------------------------------------------ outcomes of one probe
OK, TIMEOUT, REFUSED, HOST_UNREACHABLE, NET_UNREACHABLE, RESET, BAD_REPLY, LOCAL_ERROR, NO_ECHO, TOO_BIG = range(10)
PENDING = -1
# TCP_INFO counts our repeats only. What the peer had to send twice shows as its timer: 1 s for a SYN-ACK (RFC 6298),
# 200 ms (TCP_RTO_MIN) and a round trip or two for a reply; both less a tick. No clean answer can be so late.
SYN_REPEAT_US, REPEAT_US = 990_000, 190_000
STATUS_OF_ERRNO = {
    0: PENDING,
    errno.EINPROGRESS: PENDING,
    errno.ETIMEDOUT: TIMEOUT,
    errno.ECONNREFUSED: REFUSED,
    errno.EHOSTUNREACH: HOST_UNREACHABLE,
    errno.EHOSTDOWN: HOST_UNREACHABLE,
    errno.ENETUNREACH: NET_UNREACHABLE,
    errno.ENETDOWN: NET_UNREACHABLE,
    errno.ECONNRESET: RESET,
    errno.EPIPE: RESET,
    errno.EMSGSIZE: TOO_BIG,
}

# ---------------------------------------------------------------------------------------------------- segments: chunks
MAGIC = b"PMS1"
COLUMN_TYPES = "iHIHBB"  # offset_us, target, rtt_us, src_port, status, retransmits
MAX_HEADER_BYTES = 1 << 20
MAX_BODY_BYTES = 64 << 20


class Damaged(ValueError):
    """Bytes that are not whole chunks. The message says which chunk, at which byte, and what is wrong."""


def encode_chunk(
    header: dict[str, Any],
    table: list[list[Any]] | None,
    offsets: array[int],
    targets: array[int],
    rtts: array[int],
    ports: array[int],
    statuses: array[int],
    retransmits: array[int],
) -> bytes:
    """One chunk of a segment: `PMS1 | u32 length | header JSON | body | u32 CRC32 of all before`, little-endian.

    `table` is `[[name, address, port, protocol, scope, payload_bytes], ...]`, or None where the file has it already.
    The columns are arrays of the types in COLUMN_TYPES, equally long. `v`, `rows`, `table_bytes` and `body_bytes` of
    the header are filled in here.
    """
    columns = b"".join(_little_endian(column) for column in (offsets, targets, rtts, ports, statuses, retransmits))
    packed_table = zlib.compress(json.dumps(table, separators=(",", ":")).encode(), 1) if table is not None else b""
    body = packed_table + zlib.compress(columns, 1)
    sizes = {"v": 1, "rows": len(offsets), "table_bytes": len(packed_table), "body_bytes": len(body)}
    packed_header = json.dumps({**header, **sizes}, separators=(",", ":")).encode()
    chunk = MAGIC + struct.pack("<I", len(packed_header)) + packed_header + body
    return chunk + struct.pack("<I", zlib.crc32(chunk))


def read_chunks(file: BinaryIO) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Yield header and body of each chunk, checked by its CRC; raise Damaged at the first byte that does not fit.

    After each yield `file` stands at the end of the chunk, so that a caller knows how much of a file is sound.
    """
    number = 0
    while True:
        start = file.tell()
        prefix = file.read(8)
        if not prefix:
            return
        try:
            if len(prefix) < 8 or prefix[:4] != MAGIC:
                raise ValueError("no chunk starts here")
            packed_header = _read_exactly(file, _bounded(struct.unpack("<I", prefix[4:])[0], MAX_HEADER_BYTES))
            header = json.loads(packed_header)
            body = _read_exactly(file, _bounded(header["body_bytes"], MAX_BODY_BYTES))
            if zlib.crc32(prefix + packed_header + body) != struct.unpack("<I", _read_exactly(file, 4))[0]:
                raise ValueError("the checksum does not fit")
        except (ValueError, TypeError, KeyError, RecursionError) as fault:
            raise Damaged(f"chunk {number} at byte {start}: {fault}") from fault
        yield header, body
        number += 1


def decode_body(header: dict[str, Any], body: bytes) -> tuple[list[list[Any]] | None, list[array[int]]]:
    """Target table (None where the chunk has none) and the six columns of a chunk."""
    size = header["table_bytes"]
    table = json.loads(zlib.decompress(body[:size])) if size else None
    raw, at, columns = zlib.decompress(body[size:]), 0, []
    for code in COLUMN_TYPES:
        column = array(code)
        column.frombytes(raw[at : at + header["rows"] * column.itemsize])
        at += len(column) * column.itemsize
        if sys.byteorder == "big":
            column.byteswap()
        columns.append(column)
    return table, columns


def window_id(start_us: int) -> str:
    """Name of the window that starts then, e.g. `20261121T220500Z`. Names sort as time does."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(start_us // 1_000_000))


def _little_endian(column: array[int]) -> bytes:
    if sys.byteorder == "big":
        column = column[:]
        column.byteswap()
    return column.tobytes()


def _read_exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise ValueError(f"ends after {len(data)} of {size} bytes")
    return data


def _bounded(size: int, limit: int) -> int:
    if not 0 <= size <= limit:
        raise ValueError(f"a length of {size} bytes")
    return size


# ------------------------------------------------------------------------------------------------------- the ping list
class Target:
    """One peer and how to probe it. `entry` is its line in the segment's target table."""

    __slots__ = ("address", "entry", "family", "probe", "size")

    def __init__(self, entry: list[Any]) -> None:
        name, address, port, protocol, scope, payload_bytes = entry
        _check(isinstance(name, str) and isinstance(scope, str) and len(name) + len(scope) < 512, "name and scope")
        _check(type(port) is int and 0 < port < 65536, f"port {port!r} is not 1 ... 65535")
        _check(isinstance(protocol, str) and protocol in PROTOCOLS, f"protocol {protocol!r}: known are {_KNOWN}")
        _check(type(payload_bytes) is int, f"payload_bytes {payload_bytes!r} is not a whole number")
        self.probe = PROTOCOLS[protocol]
        self.family = family_of(address)
        self.address = (address, port)
        self.size = max(self.probe.sizes[0], min(self.probe.sizes[1], payload_bytes))
        self.entry = [name, address, port, protocol, scope, self.size]  # the size that is sent, not the one asked for


class PingList:
    """What this agent was told: whom to probe, how often, and its bounds. Immutable; read with `parse_pinglist`."""

    __slots__ = (
        "address", "family", "host", "interval_s", "lease_s", "port", "spool_keep_s", "spool_max_bytes", "targets",
        "timeout_s", "version", "window_s",
    )  # fmt: skip

    def __init__(self, told: dict[str, Any], lab: bool) -> None:
        def number(key: str, low: float, high: float) -> float:
            value = told.get(key)
            _check(type(value) in {int, float} and low <= value <= high, f"{key} {value!r} is not {low} ... {high}")  # type: ignore[operator]
            return value  # type: ignore[return-value]

        for key in ("version", "host", "address"):
            _check(isinstance(told.get(key), str) and len(told[key]) < 256, f"{key} {told.get(key)!r} is not a name")
        self.version, self.host, self.address = told["version"], told["host"], told["address"]
        self.family = family_of(self.address)
        self.port = int(number("probe_port", 1, 65535))
        self.interval_s = float(number("interval_s", 0.05 if lab else MIN_INTERVAL_S, 86_400))
        self.window_s = int(number("window_s", 60, 86_400))
        whole = self.window_s % 60 == 0 and 86_400 % self.window_s == 0
        _check(whole, f"window_s {self.window_s} is not a whole number of minutes that divides a day")
        self.timeout_s = float(number("timeout_s", 0.05, 60))
        self.lease_s = float(number("lease_s", 1, 1e9))
        self.spool_max_bytes = int(number("spool_max_bytes", 0, 1e15))
        self.spool_keep_s = float(number("spool_keep_s", 0, 1e9))
        entries = told.get("targets")
        _check(isinstance(entries, list) and len(entries) <= MAX_TARGETS, f"targets: not a list of <= {MAX_TARGETS}")
        self.targets = []
        for number_in_list, entry in enumerate(entries or ()):
            try:
                self.targets.append(Target(entry))
            except (ValueError, TypeError) as fault:
                raise ValueError(f"target {number_in_list}: {fault}") from fault


def parse_pinglist(text: bytes, lab: bool = False) -> PingList:
    """Read pinglist.json. Raises ValueError that says what is wrong with which value."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError) as fault:
        raise ValueError(f"not JSON: {fault}") from fault
    _check(isinstance(told, dict), "not a JSON object")
    return PingList(told, lab)


def read_pinglist(home: Home, lab: bool) -> PingList:
    with home.open("pinglist.json") as file:
        return parse_pinglist(file.read(MAX_PINGLIST_BYTES), lab)


def family_of(address: str) -> int:
    """AF_INET or AF_INET6; names are not resolved here, for that would block the loop."""
    for family in (AF_INET, AF_INET6):
        try:
            inet_pton(family, address)
            return int(family)
        except (OSError, ValueError, TypeError):
            continue
    raise ValueError(f"address {address!r} is not an IP address")


def _check(condition: bool, fault: str) -> None:
    if not condition:
        raise ValueError(fault)


# ------------------------------------------------------------------------------------------ payloads, kernel timestamps
# Request and reply are as long as each other: magic | token | length | ns that the peer held it | filling.
PAYLOAD = struct.Struct("!4sIII")
REQUEST, REPLY = b"PMQ1", b"PMR1"  # two of them, so that two responders can never talk to each other
FILLING = bytes(range(256)) * 256
MAX_TCP_PAYLOAD, MAX_UDP_PAYLOAD = len(FILLING), 1400  # one datagram fits a frame
SO_TIMESTAMPING = 37  # SCM_TIMESTAMPING too; not in Python's socket module
STAMP_ARRIVALS = 8 | 16  # RX_SOFTWARE, SOFTWARE
STAMP_BOTH = STAMP_ARRIVALS | 2 | 2048  # TX_SOFTWARE, OPT_TSONLY: the time without a copy of the packet
MSG_ERRQUEUE = 0x2000
IP_RECVERR, IPV6_RECVERR = (0, 11), (41, 25)  # level, option: an unreachable peer is said to be one, not lost
IP_PKTINFO, IPV6_RECVPKTINFO, IPV6_PKTINFO = (0, 8), (41, 49), (41, 50)
ANCILLARY_BYTES = 256
TIMESPEC = struct.Struct("@ll")
RST_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER 0: no TIME_WAIT is left behind


def kernel_time_ns(ancillary: list[tuple[int, int, bytes]]) -> int | None:
    """When the kernel saw the packet that these control messages came with (CLOCK_REALTIME), or None."""
    for level, kind, data in ancillary:
        if level == SOL_SOCKET and kind == SO_TIMESTAMPING and len(data) >= TIMESPEC.size:
            seconds, nanoseconds = TIMESPEC.unpack_from(data)
            return int(seconds) * 1_000_000_000 + int(nanoseconds) or None
    return None


def departure_ns(sock: socket) -> int | None:
    """When the kernel sent the last packet of `sock`, from its error queue; None if it does not say (yet)."""
    try:
        return kernel_time_ns(sock.recvmsg(0, ANCILLARY_BYTES, MSG_ERRQUEUE)[1])
    except BlockingIOError:
        return None


def source_of_reply(ancillary: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """Control messages by which a reply leaves from the address that was asked; a socket bound to all of a host's
    addresses would choose one of its own, and the peer would not know it."""
    for level, kind, data in ancillary:
        if (level, kind) == IP_PKTINFO:
            return [(level, kind, bytes(4) + data[4:])]  # whatever the interface
        if (level, kind) == IPV6_PKTINFO:
            return [(level, kind, data[:16] + bytes(4))]
    return []


def reply_to(request: bytes, arrived_ns: int | None) -> bytes | None:
    """The answer to a whole request, exactly as long; None for anything that is not one."""
    if len(request) < PAYLOAD.size:
        return None
    magic, token, size, _ = PAYLOAD.unpack_from(request)
    if magic != REQUEST or size != len(request):
        return None
    now_ns = time.time_ns()
    held_ns = max(0, min(0xFFFFFFFF, now_ns - (arrived_ns or now_ns)))
    return PAYLOAD.pack(REPLY, token, size, held_ns) + request[PAYLOAD.size :]


# ---------------------------------------------------------------------------------------------------------- the probes
# A probe owns one socket from launch to settlement. To add a protocol (icmp, http): a subclass with launch() and
# advance(), and a line in PROTOCOLS.
class Probe:
    """One probe under way. launch() and advance() return its status, or PENDING; advance() never blocks."""

    kind = SOCK_STREAM
    sizes = (0, 0)  # smallest and largest payload
    looks = 1  # ticks after which it is no longer looked at each tick, but given to epoll
    at_deadline = TIMEOUT
    wants = select.EPOLLOUT

    __slots__ = ("deadline_s", "index", "port", "repeat_us", "retransmits", "rtt_us", "segment", "sent_us", "settled",
                 "sock", "stepped", "target", "tries", "waits_for")  # fmt: skip

    def __init__(self, sock: socket, target: Target, index: int, port: int, segment: Segment) -> None:
        self.sock, self.target, self.index, self.port, self.segment = sock, target, index, port, segment
        self.rtt_us = self.retransmits = self.tries = self.sent_us = self.waits_for = 0
        self.deadline_s = 0.0
        self.repeat_us = 1 << 32  # a round trip from here on had something sent twice in it
        self.settled = self.stepped = False

    def launch(self) -> int:
        raise NotImplementedError

    def advance(self) -> int:
        raise NotImplementedError


class TcpProbe(Probe):
    """A TCP connect, closed by RST. The RTT is the kernel's own, from SYN to SYN-ACK: no process has a part in it."""

    __slots__ = ()

    def launch(self) -> int:
        self.repeat_us = SYN_REPEAT_US
        return STATUS_OF_ERRNO.get(self.sock.connect_ex(self.target.address), LOCAL_ERROR)

    def advance(self) -> int:
        info = self.sock.getsockopt(IPPROTO_TCP, TCP_INFO, 104)
        self.rtt_us, self.retransmits = U32(info, 68)[0], min(255, U32(info, 100)[0])
        if info[0] not in {SYN_SENT, CLOSED}:
            self.rtt_us = self.rtt_us or 1
            return OK
        fault = self.sock.getsockopt(SOL_SOCKET, SO_ERROR)  # a rejected SYN leaves the state at SYN_SENT
        return STATUS_OF_ERRNO.get(fault, LOCAL_ERROR) if fault or info[0] == SYN_SENT else RESET


class PayloadProbe(Probe):
    """What the probes with a payload share: a request, two kernel times, and a reply to be held against both."""

    __slots__ = ("departed_ns", "token")

    def request(self) -> bytes:
        self.departed_ns: int | None = None
        self.token = int.from_bytes(os.urandom(4), "big")
        return PAYLOAD.pack(REQUEST, self.token, self.target.size, 0) + FILLING[PAYLOAD.size : self.target.size]

    def judge(self, reply: bytes, arrived_ns: int | None) -> int:
        """Status of a probe whose reply is complete; sets rtt_us: there and back, less the time the peer held it."""
        if len(reply) != self.target.size:
            return BAD_REPLY
        magic, token, size, held_ns = PAYLOAD.unpack_from(reply)
        if (magic, token, size) != (REPLY, self.token, len(reply)):
            return BAD_REPLY
        if reply[PAYLOAD.size :] != FILLING[PAYLOAD.size : size]:
            return BAD_REPLY
        if self.stepped or self.departed_ns is None or arrived_ns is None:
            return LOCAL_ERROR  # no two times of one clock
        rtt_us = (arrived_ns - self.departed_ns - held_ns) // 1000
        if not self.retransmits and not -50 <= rtt_us < 1 << 32:
            return LOCAL_ERROR  # the clock was set between them
        self.rtt_us = max(1, min(0xFFFFFFFF, rtt_us))
        return OK


class TcpEchoProbe(PayloadProbe, TcpProbe):
    """A TCP connect, then `size` bytes there and back. Above about 14 KB (the first congestion window) TCP itself
    needs several round trips, and the RTT has those of the way back."""

    __slots__ = ("reply", "unsent")
    sizes = (PAYLOAD.size, MAX_TCP_PAYLOAD)
    looks = 3

    def launch(self) -> int:
        self.unsent: memoryview | None = None
        self.reply = b""
        return TcpProbe.launch(self)

    @property
    def wants(self) -> int:  # type: ignore[override]
        return select.EPOLLIN if self.unsent is not None and not self.unsent else select.EPOLLOUT

    @property
    def at_deadline(self) -> int:  # type: ignore[override]
        return TIMEOUT if self.unsent is None else NO_ECHO

    def advance(self) -> int:
        if self.unsent is None:
            status = TcpProbe.advance(self)
            if status != OK:
                return status
            self.repeat_us = REPEAT_US + 2 * self.rtt_us if self.rtt_us < SYN_REPEAT_US else 0
            self.sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
            self.sock.setsockopt(SOL_SOCKET, SO_TIMESTAMPING, STAMP_BOTH)
            self.unsent = memoryview(self.request())
        if self.unsent:
            self.unsent = self.unsent[self.sock.send(self.unsent) :]
        stamp = departure_ns(self.sock)
        while stamp:  # one for each send
            self.departed_ns, stamp = stamp, departure_ns(self.sock)
        data, ancillary, _, _ = self.sock.recvmsg(MAX_TCP_PAYLOAD, ANCILLARY_BYTES)
        self.reply += data
        if data and len(self.reply) < self.target.size:
            return PENDING
        self.retransmits = min(255, U32(self.sock.getsockopt(IPPROTO_TCP, TCP_INFO, 104), 100)[0])
        return self.judge(self.reply, kernel_time_ns(ancillary))


class UdpProbe(PayloadProbe):
    """One datagram there and back; a socket each, so that the source port sweeps over the paths as TCP's does."""

    __slots__ = ()
    kind = SOCK_DGRAM
    sizes = (PAYLOAD.size, MAX_UDP_PAYLOAD)
    looks = 2
    wants = select.EPOLLIN

    def launch(self) -> int:
        v6 = self.target.family == AF_INET6
        self.sock.setsockopt(*(IPV6_RECVERR if v6 else IP_RECVERR), 1)
        self.sock.setsockopt(SOL_SOCKET, SO_TIMESTAMPING, STAMP_BOTH)
        self.sock.connect(self.target.address)
        self.sock.send(self.request())
        return PENDING

    def advance(self) -> int:
        self.departed_ns = self.departed_ns or departure_ns(self.sock)
        data, ancillary, _, _ = self.sock.recvmsg(MAX_UDP_PAYLOAD + 1, ANCILLARY_BYTES)
        return self.judge(data, kernel_time_ns(ancillary))


PROTOCOLS: dict[str, type[Probe]] = {"tcp": TcpProbe, "tcp_echo": TcpEchoProbe, "udp": UdpProbe}
_KNOWN = ", ".join(PROTOCOLS)
U32 = struct.Struct("=I").unpack_from
SYN_SENT, CLOSED = 2, 7  # tcpi_state
WILDCARD = {int(AF_INET): "0.0.0.0", int(AF_INET6): "::"}  # noqa: S104


# ------------------------------------------------------------------------------------------------- the home, the spool
class Home:
    """The agent's directory, opened once; all that is read, written and renamed in it is named relative to that
    descriptor. A directory that was removed takes no new entries (ENOENT), so that nothing of ours can come to lie in
    another one that was made in its place, where another agent may live."""

    def __init__(self, path: str, make: bool = False) -> None:
        if make:
            os.makedirs(path, 0o700, exist_ok=True)
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def descriptor(self, name: str, flags: int) -> int:
        """The open file, made with mode 0600 where `flags` have O_CREAT."""
        return os.open(name, flags | os.O_CLOEXEC, 0o600, dir_fd=self.fd)

    def open(self, name: str) -> BinaryIO:
        return open(name, "rb", opener=self.descriptor)

    def stat(self, name: str) -> os.stat_result | None:
        """What is known of a file; None where there is none."""
        try:
            return os.stat(name, dir_fd=self.fd)
        except FileNotFoundError:
            return None

    def make_directory(self, name: str) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=self.fd)
        except FileExistsError:
            pass

    def names(self, directory: str) -> list[str]:
        fd = self.descriptor(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return sorted(os.listdir(fd))
        finally:
            os.close(fd)

    def rename(self, name: str, to: str) -> None:
        os.replace(name, to, src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def remove(self, name: str) -> None:
        os.unlink(name, dir_fd=self.fd)

    def truncate(self, name: str, size: int) -> None:
        fd = self.descriptor(name, os.O_WRONLY)
        try:
            os.ftruncate(fd, size)
        finally:
            os.close(fd)

    def replace(self, name: str, data: bytes) -> None:
        """Write a file whole, under another name first."""
        if self.stat(name + ".tmp"):
            self.remove(name + ".tmp")
        self.append(name + ".tmp", data)
        self.rename(name + ".tmp", name)

    def append(self, name: str, data: bytes) -> None:
        """Add `data` to a file whole, or leave the file as it was and raise OSError."""
        fd = self.descriptor(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            size = os.fstat(fd).st_size
            written = os.write(fd, data)
            if written != len(data):
                os.ftruncate(fd, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
        finally:
            os.close(fd)


class Segment:
    """The probes of one window, filed by when they were sent: the rows of the chunk that is being filled."""

    def __init__(self, start_us: int, now_us: int) -> None:
        self.id, self.start_us = window_id(start_us), start_us
        self.path = "spool/" + self.id  # and its ending
        self.window_s = self.end_us = 0
        self.chunks = 0  # that the file has
        self.in_flight = 0
        self.table: list[list[Any]] | None = None  # the one that the file has last
        self.total_skipped: dict[str, int] = {}
        self.begin(now_us)

    def begin(self, now_us: int) -> None:
        """Start the next chunk."""
        self.chunk_start_us = now_us
        self.columns = tuple(array(code) for code in COLUMN_TYPES)
        self.scheduled = self.sent = 0
        self.skipped: dict[str, int] = {}

    def skip(self, reason: str, count: int) -> None:
        self.skipped[reason] = self.skipped.get(reason, 0) + count
        self.total_skipped[reason] = self.total_skipped.get(reason, 0) + count

    def file(self, probe: Probe, status: int) -> None:
        offset = max(-0x80000000, min(0x7FFFFFFF, probe.sent_us - self.chunk_start_us))
        offsets, targets, rtts, ports, statuses, retransmits = self.columns
        offsets.append(offset)
        targets.append(probe.index)
        rtts.append(probe.rtt_us)
        ports.append(probe.port)
        statuses.append(status)
        retransmits.append(probe.retransmits)
        self.in_flight -= 1

    def chunk(self, now_us: int, identity: dict[str, Any], table: list[list[Any]], more: dict[str, Any]) -> bytes:
        statuses = self.columns[4]
        header = {
            **identity, "window": self.id, "window_s": self.window_s, "chunk": self.chunks,
            "start_us": self.chunk_start_us, "span_us": max(0, now_us - self.chunk_start_us),
            "scheduled": self.scheduled, "sent": self.sent, "skipped": self.skipped,
            "answered": statuses.count(OK), "lost": statuses.count(TIMEOUT) + statuses.count(NO_ECHO),
        }  # fmt: skip
        errors = {str(code): statuses.count(code) for code in sorted(set(statuses)) if code != OK}
        if errors:
            header["errors"] = errors
        return encode_chunk({**header, **more}, table if self.table is not table else None, *self.columns)


class Spool:
    """The segments on disk, and the one or two windows that are still open. Never raises for a disk that is full:
    rows wait in memory, up to a bound, and the next chunk carries them."""

    def __init__(self, home: Home, log: Callable[[str], None]) -> None:
        self.home, self.log = home, log
        self.identity: dict[str, Any] = {}
        self.table: list[list[Any]] = []
        self.open: dict[str, Segment] = {}
        self.current: Segment | None = None
        self.fault: str | None = None
        self.step_us = 0  # by which the clock was set since the last chunk
        self.counts = {"scheduled": 0, "sent": 0, "answered": 0, "lost": 0, "skipped": 0, "chunks": 0,
                       "write_errors": 0, "segments_pruned": 0, "rows_dropped": 0}  # fmt: skip

    def segments(self) -> list[tuple[str, int]]:
        """(file name, bytes) of all that is in the spool, oldest first."""
        found = []
        for name in self.home.names("spool"):
            if name.endswith((".pms", ".part")):
                there = self.home.stat("spool/" + name)
                if there:  # the collector may remove what it has
                    found.append((name, there.st_size))
        return found

    def recover(self, now_us: int) -> None:
        """Finish what a predecessor left: cut a torn tail, and close the windows that are over."""
        for name, size in self.segments():
            if not name.endswith(".part"):
                continue
            part = "spool/" + name
            chunks, sound, header = survey(self.home, part)
            if sound < size:
                self.home.truncate(part, sound)
            over = chunks and name[:-5] <= window_id(now_us - int(header["window_s"]) * 1_000_000)
            if over:
                self.home.rename(part, part[:-5] + ".pms")
            elif not chunks:
                self.home.remove(part)
            self.log(f"found {name}: {chunks} chunks, cut {size - sound} bytes, {'closed' if over else 'goes on'}")

    def segment(self, now_us: int, window_s: int) -> Segment:
        """The segment of this moment's window; opened, or taken up again, when it is not the current one."""
        segment = self.current
        if segment and segment.start_us <= now_us < segment.end_us and segment.window_s == window_s:
            return segment
        start_us = now_us // (window_s * 1_000_000) * (window_s * 1_000_000)
        segment = self.open.get(window_id(start_us))
        if segment is None:
            segment = Segment(start_us, now_us)
            try:
                if self.home.stat(segment.path + ".pms"):  # the clock went back
                    self.home.rename(segment.path + ".pms", segment.path + ".part")
                if self.home.stat(segment.path + ".part"):
                    segment.chunks, sound, _ = survey(self.home, segment.path + ".part")
                    self.home.truncate(segment.path + ".part", sound)
            except OSError as fault:
                self.trouble(fault)
            self.open[segment.id] = segment
        segment.window_s, segment.end_us = window_s, start_us + window_s * 1_000_000
        self.current = segment
        return segment

    def flush(self, segment: Segment, now_us: int) -> bool:
        """Append the chunk that is being filled; on failure it goes on filling. Returns whether all is on disk."""
        try:
            step = {"clock_step_us": self.step_us} if self.step_us else {}
            self.home.append(segment.path + ".part", segment.chunk(now_us, self.identity, self.table, step))
        except OSError as fault:
            self.trouble(fault)
            return False
        statuses = segment.columns[4]
        for key, count in (("scheduled", segment.scheduled), ("sent", segment.sent), ("answered", statuses.count(OK)),
                           ("lost", statuses.count(TIMEOUT) + statuses.count(NO_ECHO)),
                           ("skipped", sum(segment.skipped.values())), ("chunks", 1)):  # fmt: skip
            self.counts[key] += count
        self.step_us = 0
        segment.chunks += 1
        segment.table = self.table
        segment.begin(now_us)
        if self.fault:
            self.log(f"writing again, after: {self.fault}")
            self.fault = None
        return True

    def close(self, segment: Segment, now_us: int) -> bool:
        """Write what is left of a window and give the file its final name."""
        if (segment.columns[0] or segment.scheduled or not segment.chunks) and not self.flush(segment, now_us):
            return False
        try:
            self.home.rename(segment.path + ".part", segment.path + ".pms")
        except OSError as fault:
            self.trouble(fault)
            if not isinstance(fault, FileNotFoundError):
                return False
        self.open.pop(segment.id, None)
        skipped = f", skipped {segment.total_skipped}" if segment.total_skipped else ""
        self.log(f"closed {segment.id}: {segment.chunks} chunks{skipped}")
        return True

    def close_finished(self, now_us: int) -> bool:
        """Close the windows that are over and have no probe under way. Returns whether one was closed."""
        closed = False
        for segment in list(self.open.values()):
            over = segment is not self.current and not segment.start_us <= now_us < segment.end_us
            if over and not segment.in_flight and not self.fault:
                closed |= self.close(segment, now_us)
        while len(self.open) > MAX_PENDING_WINDOWS:
            oldest = self.open.pop(min(self.open))
            self.counts["rows_dropped"] += len(oldest.columns[0])
            self.log(f"gave up {oldest.id}: the disk is full and {MAX_PENDING_WINDOWS} later windows wait")
        return closed

    def prune(self, now_us: int, keep_s: float, max_bytes: int) -> None:
        """Remove finished segments that are too old, and the oldest ones while the spool is over its cap."""
        try:
            found = self.segments()
            total = sum(size for _, size in found)
            too_old = window_id(now_us - int(keep_s * 1e6))
            for name, size in found:
                if name.endswith(".pms") and (total > max_bytes or name < too_old):
                    self.home.remove("spool/" + name)
                    total -= size
                    self.counts["segments_pruned"] += 1
                    self.log(f"removed {name}: {'the spool is over its cap' if name >= too_old else 'too old'}")
        except OSError as fault:
            self.trouble(fault)

    def trouble(self, fault: OSError) -> None:
        self.counts["write_errors"] += 1
        if not self.fault:
            self.log(f"cannot write: {fault}")
        self.fault = str(fault)

    def pending_rows(self) -> int:
        return sum(len(segment.columns[0]) for segment in self.open.values())


def survey(home: Home, name: str) -> tuple[int, int, dict[str, Any]]:
    """(sound chunks, bytes they take, header of the last) of a segment that may be torn."""
    chunks, sound = 0, 0
    last: dict[str, Any] = {}
    with home.open(name) as file:
        try:
            for header, _ in read_chunks(file):
                chunks, sound, last = chunks + 1, file.tell(), header
        except Damaged:
            pass
    return chunks, sound, last


# ---------------------------------------------------------------------------------------------------------- the prober
class Poller:
    """epoll and who is to be told. A handler may be called without need: all of them read without blocking."""

    def __init__(self) -> None:
        self.epoll = select.epoll()
        self.handlers: dict[int, Callable[[], None]] = {}

    def watch(self, fd: int, events: int, handler: Callable[[], None]) -> None:
        if fd in self.handlers:
            self.epoll.modify(fd, events)
        else:
            self.epoll.register(fd, events)
        self.handlers[fd] = handler

    def close(self, sock: socket) -> None:
        self.handlers.pop(sock.fileno(), None)
        sock.close()

    def poll(self) -> None:
        for fd, _ in self.epoll.poll(0, EVENTS_PER_TICK):
            handler = self.handlers.get(fd)
            if handler:
                handler()


class SourcePorts:
    """Sweeps over the ephemeral ports, for routers choose a path by them: a fault on one of many paths is met now and
    then, not always or never. A port rests for a second."""

    def __init__(self, low: int, high: int) -> None:
        self.low, self.count = low, high - low + 1
        self.used_ms = array("q", [-PORT_REST_MS]) * self.count
        self.at = int.from_bytes(os.urandom(4), "big") % self.count

    def take(self, now_ms: int) -> int:
        """The next port, or 0 while all are resting."""
        at = self.at
        if now_ms - self.used_ms[at] < PORT_REST_MS:
            return 0
        self.used_ms[at] = now_ms
        self.at = at + 1 if at + 1 < self.count else 0
        return self.low + at


class Prober:
    """Walks the targets in a fixed shuffled order, one slot each, evenly over the interval; settles what comes back."""

    def __init__(self, spool: Spool, poller: Poller, ports: SourcePorts, max_in_flight: int) -> None:
        self.spool, self.poller, self.ports, self.max_in_flight = spool, poller, ports, max_in_flight
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
        self.epoch_s, self.next_slot = now_s - self.slot_s / 2, 0  # a probe is sent in the middle of its slot

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
        probe = target.probe(sock, target, index, 0, segment)
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
        probe.segment.file(probe, status)

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


# ------------------------------------------------------------------------------------------------------- the responder
class Responder:
    """Answers probes, and nothing else. A bare connect never wakes this process: the kernel defers the accept."""

    def __init__(self, poller: Poller, family: int, address: str, port: int, now_s: float) -> None:
        self.poller, self.family, self.now_s = poller, family, now_s
        self.connections: dict[int, Connection] = {}  # oldest first
        self.answered = self.refused = 0
        self.max_connections = MAX_CONNECTIONS
        self.listener = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
        self.datagrams = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
        try:
            self.listener.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
            for sock in (self.listener, self.datagrams):
                if family == AF_INET6:
                    sock.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, 1)
                sock.setsockopt(SOL_SOCKET, SO_TIMESTAMPING, STAMP_ARRIVALS)
                sock.bind((address, port))
            self.listener.setsockopt(IPPROTO_TCP, TCP_DEFER_ACCEPT, 1)
            self.listener.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)  # this and the next are inherited by connections
            self.listener.setsockopt(SOL_SOCKET, SO_LINGER, RST_ON_CLOSE)
            self.listener.listen(1024)
        except OSError:
            self.listener.close()
            self.datagrams.close()
            raise
        if address == WILDCARD[family]:
            self.datagrams.setsockopt(*(IPV6_RECVPKTINFO if family == AF_INET6 else IP_PKTINFO), 1)
        poller.watch(self.listener.fileno(), select.EPOLLIN, self.accept)
        poller.watch(self.datagrams.fileno(), select.EPOLLIN, self.answer_datagrams)

    def answer_datagrams(self) -> None:
        for _ in range(DATAGRAMS_PER_TICK):
            try:
                request, ancillary, _, sender = self.datagrams.recvmsg(MAX_UDP_PAYLOAD + 1, ANCILLARY_BYTES)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error for an earlier reply
            reply = reply_to(request, kernel_time_ns(ancillary)) if len(request) <= MAX_UDP_PAYLOAD else None
            if reply is None:
                self.refused += 1
                continue
            try:
                self.datagrams.sendmsg([reply], source_of_reply(ancillary), 0, sender)
                self.answered += 1
            except OSError:
                self.refused += 1

    def accept(self) -> None:
        for _ in range(ACCEPTS_PER_TICK):
            try:
                fd, _ = self.listener._accept()  # type: ignore[attr-defined]
            except BlockingIOError:
                return
            except OSError:  # out of descriptors, or gone again
                self.drop_oldest()
                return
            connection = Connection(socket(self.family, SOCK_STREAM, 0, fd), self)
            while len(self.connections) >= self.max_connections:
                self.drop_oldest()
            self.connections[fd] = connection
            connection.advance()

    def drop_oldest(self) -> None:
        for connection in self.connections.values():
            self.refused += 1
            connection.close()
            break

    def expire(self, now_s: float) -> None:
        self.now_s = now_s
        while self.connections:
            oldest = next(iter(self.connections.values()))
            if oldest.deadline_s > now_s:
                break
            oldest.close()

    def close(self) -> None:
        for connection in list(self.connections.values()):
            connection.close()
        self.poller.close(self.listener)
        self.poller.close(self.datagrams)


class Connection:
    """One request and one reply; then the peer closes. Anything else, or five seconds: closed by RST, unanswered."""

    __slots__ = ("buffer", "deadline_s", "fd", "responder", "sock", "unsent")

    def __init__(self, sock: socket, responder: Responder) -> None:
        sock.setblocking(False)
        self.sock, self.fd, self.responder = sock, sock.fileno(), responder
        self.deadline_s = responder.now_s + CONNECTION_S
        self.buffer = b""
        self.unsent: memoryview | None = None

    def advance(self) -> None:
        try:
            done = self.receive() if self.unsent is None else self.after_reply()
            if self.unsent:
                self.unsent = self.unsent[self.sock.send(self.unsent) :]
        except BlockingIOError:
            done = False
        except OSError:
            done = True
        if done:
            self.close()
        else:
            self.responder.poller.watch(self.fd, select.EPOLLOUT if self.unsent else select.EPOLLIN, self.advance)

    def receive(self) -> bool:
        data, ancillary, _, _ = self.sock.recvmsg(MAX_TCP_PAYLOAD, ANCILLARY_BYTES)
        self.buffer += data
        if len(self.buffer) < PAYLOAD.size:
            return not data
        magic, _, size, _ = PAYLOAD.unpack_from(self.buffer)
        if magic != REQUEST or not len(self.buffer) <= size <= MAX_TCP_PAYLOAD:
            self.responder.refused += 1
            return True
        if len(self.buffer) < size:
            return not data
        reply = reply_to(self.buffer, kernel_time_ns(ancillary))
        if reply:
            self.responder.answered += 1
            self.unsent = memoryview(reply)
            self.buffer = b""
        return reply is None

    def after_reply(self) -> bool:
        return not self.unsent  # the peer closed, or sent more than it should

    def close(self) -> None:
        self.responder.connections.pop(self.fd, None)
        self.responder.poller.close(self.sock)


# ----------------------------------------------------------------------------------------------------------- the agent
class StartError(Exception):
    """Why an agent cannot start: exit code and one line that says what to do."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Clock:
    """The machine's clocks. PINGMESH_LAB_CLOCK_OFFSET_US sets the wall clock wrong, for tests of just that."""

    def __init__(self) -> None:
        self.offset_us = int(os.environ.get("PINGMESH_LAB_CLOCK_OFFSET_US") or 0)

    def monotonic_s(self) -> float:
        return time.monotonic()

    def wall_us(self) -> int:
        return time.time_ns() // 1000 + self.offset_us


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
        self.prober = Prober(self.spool, self.poller, ports, max(8, min(MAX_IN_FLIGHT, files * 3 // 4 - RESERVED_FDS)))
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
        self.spool.identity = {"host": told.host, "ip": told.address, "agent": self.version, "pinglist": told.version}
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
            now_s, now_us = self.clock.monotonic_s(), self.clock.wall_us()  # or we slept between the two
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


def next_share(share: float, rss_bytes: int) -> float:
    """The next step of the memory ladder: down at 90 % of the cap, up again at 75 % of that; never to nothing."""
    step = MEMORY_LADDER.index(share)
    if rss_bytes >= 0.9 * MEMORY_CAP_BYTES:
        step = min(step + 1, len(MEMORY_LADDER) - 1)
    elif rss_bytes <= 0.675 * MEMORY_CAP_BYTES:
        step = max(step - 1, 0)
    return MEMORY_LADDER[step]


def resident_bytes() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def descriptor_limit() -> int:
    """How many files this process may have open, raised as far as it needs and may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MAX_IN_FLIGHT if hard == resource.RLIM_INFINITY else min(hard, 2 * MAX_IN_FLIGHT)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return int(wanted)


def ephemeral_ports() -> tuple[int, int]:
    """First and last port to send from: of the range where no service listens, at most 16,384."""
    try:
        with open("/proc/sys/net/ipv4/ip_local_port_range", "rb") as file:
            low, high = map(int, file.read().split())
    except (OSError, ValueError):
        low, high = 32768, 60999
    return low, min(high, low + 16_383)


def is_local(family: int, address: str) -> bool:
    sock = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0)
    try:
        sock.bind((address, 0))
        return True
    except OSError:
        return False
    finally:
        sock.close()


def agent_version() -> str:
    """First 16 hex digits of the SHA-256 of this file. From the C module: hashlib would load OpenSSL, 4 MB."""
    with open(__file__, "rb") as file:
        source = file.read()
    for name in ("_sha2", "_sha256", "hashlib"):
        try:
            return str(__import__(name).sha256(source).hexdigest())[:16]
        except ImportError:
            continue
    raise StartError(1, "this Python has no SHA-256")


# ---------------------------------------------------------------------------------------------------------- the trace
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

    __slots__ = ("again", "done", "ends", "free_s", "hops", "port", "round", "sent_s", "sock", "ttl")

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
            _check(low <= value <= high, f"{name} {value} is not {low} ... {high}")
        _check(protocol in {"tcp", "udp"}, f"protocol {protocol!r}: known are tcp, udp")
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
            wake_s = [until_s, *(walk.sent_s + self.patience_s() for walk in self.in_flight.values())]
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
        _check(len(words) % 2 == 0, f"{words[-1]} has no value" if words else "")
        told = {}
        for name, value in zip(words[::2], words[1::2]):  # noqa: B905
            _check(name in TRACE_OPTIONS, f"{name} is no option; there are {', '.join(TRACE_OPTIONS)}")
            told[name[2:].replace("-", "_")] = TRACE_OPTIONS[name](value)
        told["timeout_s"] = told.pop("timeout", TRACE_S)
        _check("target" in told and "port" in told, "trace needs --target and --port")
        print(json.dumps(Trace(**told).run(), separators=(",", ":")))
    except (ValueError, OSError) as fault:
        print(f"trace: {fault}", file=sys.stderr)
        return 1
    return 0


# -------------------------------------------------------------------------------------------------------- the commands
def take_lock(home: Home) -> int:
    """The descriptor that holds this home's lock; StartError 3 if an agent has it."""
    fd = home.descriptor("agent.lock", os.O_RDWR | os.O_CREAT)
    for attempt in range(10):  # `status` holds it for an instant
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if attempt == 9:
                os.close(fd)
                raise StartError(3, f"an agent (pid {lock_holder(home.path)}) already runs in {home.path}") from None
            time.sleep(0.02)
    os.ftruncate(fd, 0)
    os.write(fd, b"%d\n" % os.getpid())
    return fd


def lock_holder(home: str) -> int | None:
    """Process id of the agent that runs in this home, or None."""
    try:
        with open(os.path.join(home, "agent.lock"), "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return None
            except BlockingIOError:
                return int(file.read() or 0)
    except (OSError, ValueError):
        return None


def run(home: str, detach: bool, lab: bool) -> int:
    os.umask(0o077)
    if detach:
        return run_detached(home, lab)
    agent = Agent(home, lab)
    print(json.dumps({"running": True, **agent.status()}), flush=True)
    return serve(agent)


def serve(agent: Agent) -> int:
    def stop(number: int, _: object) -> None:
        agent.stopping = f"signal {number}"

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        agent.run()
    except Exception as fault:
        import traceback

        agent.log(f"ended by a fault of its own: {traceback.format_exc()}")
        agent.stopping = repr(fault)
        agent.finish()
        return 1
    return 0


def run_detached(home: str, lab: bool) -> int:
    """Start in the background; return when the agent listens, or with its reason why not."""
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            answer = pipe.read().decode()
        code, _, text = answer.partition(" ")
        print(text or "the agent died as it started", file=sys.stderr if code != "0" else sys.stdout, flush=True)
        return int(code or 1)
    os.close(reader)
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nowhere, fd)
    os.close(nowhere)
    try:
        agent = Agent(home, lab)
    except StartError as fault:
        os.write(writer, f"{fault.code} {fault}".encode())
        os._exit(fault.code)
    os.write(writer, b"0 " + json.dumps({"running": True, **agent.status()}).encode())
    os.close(writer)
    os._exit(serve(agent))


def status(home: str) -> int:
    """Print one line: what the agent last said of itself, whether it runs, and this host's clock."""
    said: dict[str, Any] = {}
    try:
        with open(os.path.join(home, "agent.json"), "rb") as file:
            said = dict(json.loads(file.read()))
    except (OSError, ValueError, TypeError):
        pass
    try:
        segments = Spool(Home(home), lambda _: None).segments()
    except OSError:
        segments = []
    pid = lock_holder(home)
    said.update(
        running=pid is not None, pid=pid, now_us=Clock().wall_us(), python=sys.version.split()[0],
        spool_bytes=sum(size for _, size in segments), spool_segments=len(segments),
    )  # fmt: skip
    print(json.dumps(said))
    return 0


def stop(home: str) -> int:
    """SIGTERM, and SIGKILL after ten seconds; returns when the agent is gone."""
    pid = lock_holder(home)
    if not pid:
        return 0
    for number, patience_s in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0)):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return 0
        until_s = time.monotonic() + patience_s
        while time.monotonic() < until_s:
            if lock_holder(home) != pid:
                return 0
            time.sleep(0.02)
    print(f"the agent (pid {pid}) in {home} does not die", file=sys.stderr)
    return 1


def dump(path: str) -> int:
    """Print the records of a segment as JSON lines, in the order of fields of 2018; RTT is null unless it is clean."""
    table: list[list[Any]] = []
    records = 0
    try:
        with open(path, "rb") as file:
            for header, body in read_chunks(file):
                new_table, columns = decode_body(header, body)
                table = new_table if new_table is not None else table
                for offset_us, index, rtt_us, port, code, retransmits in zip(*columns):  # noqa: B905
                    name, address, dst_port, protocol, scope, size = table[index]
                    sent_us = header["start_us"] + offset_us
                    record = {
                        "Timestamp": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(sent_us // 1_000_000))
                        + f".{sent_us % 1_000_000:06d}Z",
                        "SrcIP": header["ip"], "SrcPort": port, "DstIP": address, "DstPort": dst_port,
                        "Protocol": protocol, "ProbingType": scope, "MsgLen": size,
                        "RTT_us": rtt_us if code == OK and not retransmits else None, "ErrCode": code,
                        "Src": header["host"], "Dst": name, "Retransmits": retransmits,
                    }  # fmt: skip
                    print(json.dumps(record))
                    records += 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the reader has seen enough
        return 0
    except (OSError, ValueError, LookupError, TypeError, zlib.error) as fault:
        print(f"{path}: {fault}; the {records} records before it are whole", file=sys.stderr)
        return 1
    return 0


def main(arguments: list[str]) -> int:
    if sys.version_info < (3, 8):
        print(f"the agent needs Python 3.8 or later, this is {sys.version.split()[0]}", file=sys.stderr)
        return 1
    options = [argument for argument in arguments if argument in {"--detach", "--lab"}]
    words = [argument for argument in arguments if argument not in {"--detach", "--lab"}]
    command = words[0] if words else None
    try:
        if command == "trace":
            return trace(arguments[1:])
        if command == "dump" and len(words) == 2 and not options:
            return dump(words[1])
        if len(words) == 3 and words[1] == "--home" and (command == "run" or not options):
            home = os.path.abspath(words[2])
            if command == "run":
                return run(home, "--detach" in options, "--lab" in options)
            if command in {"status", "stop"}:
                return status(home) if command == "status" else stop(home)
    except StartError as fault:
        print(fault, file=sys.stderr)
        return fault.code
    print("\n".join((__doc__ or "").splitlines()[2:7]), file=sys.stderr)
    return 2


def start_from_bytecode(arguments: list[str]) -> None:
    """Replace this process by one that imports this file. Compiling it leaves 3 MB behind in a process that lives for
    months; an import takes the bytecode that the import here has cached beside the file."""
    directory, name = os.path.split(os.path.abspath(__file__))
    sys.path.append(directory)
    __import__(name[:-3])
    program = f"import sys; sys.path.append({directory!r}); sys.exit(__import__({name[:-3]!r}).main(sys.argv[1:]))"
    os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", program, *arguments])  # noqa: S606


if __name__ == "__main__":
    if sys.argv[1:2] == ["run"] and __file__.endswith(".py") and sys.executable:
        start_from_bytecode(sys.argv[1:])
    sys.exit(main(sys.argv[1:]))
