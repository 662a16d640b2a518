"""The pingmesh agent: measures the round trip to every peer on its list, all the time, and answers theirs.

Standard library only, Python >= 3.8, Linux, no root. Prober and responder are one process and one thread that wakes
every 40 ms: wake-ups, not the language, are what an agent costs. That is affordable because no clock of the interpreter
is in a result: a round trip is the difference of two times that the kernel took (TCP_INFO for a connect, packet
timestamps for a payload, less the time that the peer held the payload, which its reply carries). When the agent looks
at a socket does not matter.

What always holds:
- every probe that came due is a row of a segment or a count of what was skipped and why;
- a segment is a sequence of self-contained chunks, one per 10 s, so that a kill -9 loses at most the last of them, and
  its name ends in .pms only when nothing will be added to it;
- no pair is probed more often than every 10 s (without --lab), and rate, sockets, memory, log and spool are bounded;
- without a renewed lease the agent stops; all it writes lies under its home directory; a reply is never larger than
  its request.

A module imports only modules above it in this list, and only parts of the standard library that are cheap: argparse,
logging, hashlib and socket would cost a host 9 MB.

    limits      bounds that protect the host, and the pace
    outcomes    what a probe can end with
    errors      why a start fails
    clock       monotonic and wall clock
    addresses   IPv4 and IPv6 addresses, which are local
    chunk       the format of a segment's chunks
    segment     the rows of one window
    payload     requests, replies, the kernel's packet timestamps
    probes      one class a protocol: tcp, tcp_echo, udp
    home        the agent's directory and its lock
    pinglist    whom to probe, how often
    poller      epoll
    ports       source ports
    resources   memory and file descriptors of the process
    release     the version of these files
    spool       the segments on disk
    prober      sends probes at their pace, settles what comes back
    responder   answers the probes of others
    agent       prober, responder and spool under one home
    trace       where on the way packets stop
    commands    run, status, stop, dump, trace
"""
