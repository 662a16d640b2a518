"""Hold every packet of an NFQUEUE for a fixed time: a link of constant extra delay where the kernel has no netem.

`python3 nfq_relay.py QUEUE DELAY_MS`, in the namespace whose iptables rule feeds the queue; prints `up` when it
listens. Standard library only, netlink by hand (linux/netfilter/nfnetlink_queue.h). Costs about 0.1 ms of CPU a packet.
"""

from __future__ import annotations

import heapq
import select
import socket
import struct
import sys
import time

NETLINK_NETFILTER = 12
NFNL_SUBSYS_QUEUE = 3
NFQNL_MSG_PACKET, NFQNL_MSG_VERDICT, NFQNL_MSG_CONFIG = 0, 1, 2
NFQA_CFG_CMD, NFQA_CFG_PARAMS, NFQA_CFG_QUEUE_MAXLEN, NFQA_VERDICT_HDR = 1, 2, 3, 2
BIND = struct.pack(">BBH", 1, 0, socket.AF_INET)
COPY_META_ONLY = struct.pack(">IB", 0, 1)
QUEUE_MAXLEN = struct.pack(">I", 8192)
NF_ACCEPT = struct.pack(">I", 1)
SPIN_S = 0.0015  # below this epoll, which counts in ms, would oversleep


def message(queue: int, kind: int, attribute: int, data: bytes) -> bytes:
    """One nfnetlink message with one attribute: nlmsghdr, nfgenmsg (queue number big-endian), padded attribute."""
    body = struct.pack(">BBH", 0, 0, queue) + struct.pack("HH", 4 + len(data), attribute) + data + bytes(-len(data) % 4)
    return struct.pack("IHHII", 16 + len(body), NFNL_SUBSYS_QUEUE << 8 | kind, 1, 0, 0) + body


def packet_ids(datagram: bytes) -> list[bytes]:
    """The big-endian ids of the queued packets in `datagram`: the first attribute of each packet message."""
    ids, at = [], 0
    while at + 16 <= len(datagram):
        length, kind = struct.unpack_from("IH", datagram, at)
        if kind == NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_PACKET:
            ids.append(datagram[at + 24 : at + 28])
        at += (length + 3) & ~3
    return ids


def relay(queue: int, delay_s: float) -> None:
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
    netlink.bind((0, 0))
    netlink.setblocking(False)
    for attribute, data in (
        (NFQA_CFG_CMD, BIND),
        (NFQA_CFG_PARAMS, COPY_META_ONLY),
        (NFQA_CFG_QUEUE_MAXLEN, QUEUE_MAXLEN),
    ):
        netlink.send(message(queue, NFQNL_MSG_CONFIG, attribute, data))
    held: list[tuple[float, bytes]] = []
    poll = select.epoll()
    poll.register(netlink, select.EPOLLIN)
    print("up", flush=True)
    while True:
        wait_s = held[0][0] - time.monotonic() if held else -1
        if held and wait_s < SPIN_S:
            time.sleep(max(wait_s, 0))
        else:
            poll.poll(wait_s - 0.001 if held else -1)
        try:
            while True:
                for packet in packet_ids(netlink.recv(65536)):
                    heapq.heappush(held, (time.monotonic() + delay_s, packet))
        except BlockingIOError:
            pass
        while held and held[0][0] <= time.monotonic():
            verdict = NF_ACCEPT + heapq.heappop(held)[1]
            netlink.send(message(queue, NFQNL_MSG_VERDICT, NFQA_VERDICT_HDR, verdict))


if __name__ == "__main__":
    relay(int(sys.argv[1]), float(sys.argv[2]) / 1000)
