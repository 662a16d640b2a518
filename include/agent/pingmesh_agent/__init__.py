"""The pingmesh agent measures the round trip to every peer on its ping list and answers its peers.

Standard library only, Python >= 3.8, Linux, no root. Prober and responder are one process and one
thread that wakes up every 40 ms: wake-ups are what an agent costs, not the language. A result never
depends on a clock of the interpreter, so it does not matter when the agent looks at a socket: a
round trip is the difference of two times that the kernel took (TCP_INFO for a connect, packet
timestamps for a payload, less the time that the peer held the payload, which its reply carries).

Invariants:
- every probe that came due is a row of a segment, or is counted as skipped with the reason;
- a segment is a sequence of self-contained chunks, one per 10 s, so that a kill -9 loses at most
  the last chunk; its name ends in .pms only when nothing will be added to it;
- no pair is probed more often than every 10 s (without --lab); the rate, sockets, memory, log and
  spool are bounded;
- the agent stops when its lease is not renewed; it writes only below its home directory; a reply is
  never larger than its request.

A module imports only modules above it in this list, and only parts of the standard library that
cost little memory: argparse, logging, hashlib and socket would add 9 MB.

    limits      bounds that protect the host, and the pace
    outcomes    the status codes of a probe
    errors      why a start fails
    clock       monotonic clock and wall clock
    addresses   IPv4 and IPv6 addresses, and which of them are local
    chunk       the format of a segment's chunks
    segment     the rows of one window
    payload     requests, replies, and the kernel's packet timestamps
    probes      one class per protocol: tcp, tcp_echo, udp
    home        the agent's directory and its lock
    pinglist    which peers to probe, how often
    poller      epoll
    ports       source ports
    resources   memory and file descriptors of the process
    release     the version of these files
    spool       the segments on disk
    prober      sends probes at their pace and records their outcomes
    responder   answers the probes of other agents
    agent       prober, responder and spool of one home
    walk        state of one walk of a trace
    trace       at which hop packets stop
    commands    run, status, stop, dump, trace
"""
