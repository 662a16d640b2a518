"""A laboratory for faults: real hosts' network stacks behind one router, and faults that happen exactly when told.

    with laboratory(["a", "b"]) as lab, lab.drop("a", "b") as fault:
        lab.run("a", "ping", "-c1", lab.address("b"), check=False)
        assert fault.packets == 1

Every host is a network namespace with one address on `lo` and an unnumbered link to the router `tor`, whose forward
chain holds the faults (nft) and whose NFQUEUE holds the delays. All of it lives in a world of its own: a process, mount
and network namespace (and a user namespace where we are not root) that ends with the test process, however that dies.
The world's `/run` is a private tmpfs, so the machine's addresses, routes, sysctls and namespaces are never touched and
nothing can be left behind. Processes inside are named by their pid *in the world*; files are the machine's own.
"""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TypeVar

from tests.support.needs import PATH, find_tool, lack, require

ROUTER, ROUTER_ADDRESS = "tor", "10.252.0.1"
ENVIRONMENT = {**os.environ, "PATH": PATH}

# What `lose_first` may lose.
SYN, SYN_ACK = "tcp flags & (syn|ack) == syn", "tcp flags & (syn|ack) == syn|ack"
PAYLOAD = "tcp flags & (syn|rst) == 0 meta length > 80"

RELAY = Path(__file__).with_name("nfq_relay.py")
# A router forwards; no ICMP error is held back, so that every reject is seen.
SYSCTLS = {"ip_forward": 1, "icmp_ratelimit": 0, "icmp_msgs_per_sec": 100_000}

# Process 1 of the world. Ignoring SIGCHLD makes the kernel reap orphans; at the end of its standard input, which the
# death of the test process closes too, `cat` ends and the kernel kills all that is left in the world. The rules and the
# link are there to learn at once whether this machine lets us make such things.
_FIRST_PROCESS = """
set -e
mount -t tmpfs lab /run
mount -t sysfs sys /sys
mkdir /run/netns
ip netns add probe
ip link add eth0 netns probe type veth peer name eth1
printf 'table inet probe {\nchain forward {\ntype filter hook forward priority 0;\ncounter drop\n}\n}\n' | nft -f -
ip netns del probe
trap "" CHLD
echo up
exec cat >/dev/null
"""


AnyLab = TypeVar("AnyLab", bound="Lab")


class LabError(Exception):
    """A command in the laboratory failed; says which, where and what it printed."""


@contextmanager
def laboratory(hosts: Sequence[str], *, as_root: bool | None = None) -> Iterator[Lab]:
    """Build the hosts and the router, give the laboratory, and end everything in it. Host i has address 10.0.0.i.

    `as_root` False builds it in a user namespace, as for every user who is not root (None: whoever runs this).
    Skips the test where it cannot be: a tool is not installed, or namespaces are allowed neither to root nor to users.
    """
    addresses = {name: f"10.0.{i >> 8}.{i & 255}" for i, name in enumerate(hosts, 1)}
    with opened(Lab(addresses, as_root=os.geteuid() == 0 if as_root is None else as_root)) as lab:
        yield lab


@contextmanager
def opened(lab: AnyLab) -> Iterator[AnyLab]:
    """Start the world of a laboratory, build what is in it, and end it. Skips the test where it cannot be."""
    require("ip", "nft", lab.namespaces)
    try:
        lab.start_world()
        lab.build_network()
        yield lab
    finally:
        lab.end()


@dataclass(frozen=True)
class Fault:
    """A rule that is in force."""

    lab: Lab
    table: str
    router: str

    @property
    def packets(self) -> int:
        """How many packets the rule has hit."""
        listing = json.loads(self.lab.run(self.router, "nft", "-j", "list", "table", "inet", self.table))
        rules = [entry["rule"]["expr"] for entry in listing["nftables"] if "rule" in entry]
        return sum(e["counter"]["packets"] for rule in rules for e in rule if "counter" in e)


class Lab:
    """Hosts by name. `address(name)`, `run` and `spawn` a command on one, `fault`, `drop`, `delay`."""

    def __init__(self, addresses: dict[str, str], *, as_root: bool) -> None:
        self.addresses = addresses
        self._as_root = as_root
        self._numbers = count()
        self._world: subprocess.Popen[bytes] | None = None
        self._enter: list[str] = []

    @property
    def namespaces(self) -> str:
        """What the laboratory needs of the kernel, by its name in tests/support/needs.py."""
        return "namespaces" if self._as_root == (os.geteuid() == 0) else "user namespaces"

    def address(self, host: str) -> str:
        return self.addresses[host]

    # ---- the world

    def start_world(self) -> None:
        as_user = [] if self._as_root else ["--user", "--map-root-user"]
        isolate = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
        world = subprocess.Popen(
            [*isolate, *as_user, "sh", "-c", _FIRST_PROCESS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
            start_new_session=True,  # Ctrl-C is for the test, which then ends the world
        )
        self._world = world
        assert world.stdout and world.stderr
        if world.stdout.readline() != b"up\n":
            lack("veth and nftables", detail=world.stderr.read().decode().strip())
        spaces = {"user": "user", "mount": "mnt", "net": "net", "pid": "pid_for_children"}
        if not as_user:
            del spaces["user"]
        self._enter = ["nsenter", *(["--preserve-credentials"] if as_user else [])]
        self._enter += [f"--{kind}=/proc/{world.pid}/ns/{name}" for kind, name in spaces.items()]

    def build_network(self) -> None:
        names = [ROUTER, *self.addresses]
        self._ip(None, [f"netns add {name}" for name in names])
        self._ip(None, [f"link add eth0 netns {h} type veth peer name {h} netns {ROUTER}" for h in self.addresses])
        self._ip(ROUTER, ["link set dev lo up", f"addr add {ROUTER_ADDRESS}/32 dev lo"])
        for host, address in self.addresses.items():
            self._ip(host, ["link set dev lo up", f"addr add {address}/32 dev lo", "link set dev eth0 up"])
            self._ip(ROUTER, [f"link set dev {host} up", f"route add {address}/32 dev {host}"])
            self._ip(host, [f"route add default via {ROUTER_ADDRESS} dev eth0 onlink src {address}"])
        settings = "\n".join(f"echo {value} >/proc/sys/net/ipv4/{name}" for name, value in SYSCTLS.items())
        for name in names:
            self.run(name, "sh", "-ec", settings)

    def end(self) -> None:
        """End every process of the world and the world itself. Safe to call twice, and on half a laboratory."""
        world, self._world = self._world, None
        if world is not None:
            world.communicate(timeout=10)  # closes its standard input

    def _ip(self, host: str | None, lines: Sequence[str]) -> None:
        self.run(None, "ip", *(["-n", host] if host else []), "-batch", "-", input="\n".join(lines) + "\n")

    # ---- processes

    def argv(self, host: str | None, *command: str) -> list[str]:
        """The command line that runs `command` on `host` (None: in the world, on no host) when started out here."""
        return [*self._enter, *(["ip", "netns", "exec", host] if host else []), *command]

    def run(
        self, host: str | None, *command: str, input: str | None = None, check: bool = True, timeout_s: float = 30
    ) -> str:
        """Run to the end and return what it wrote (standard output, then error). LabError when it fails and `check`."""
        done = subprocess.run(
            self.argv(host, *command),
            input=input,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env=ENVIRONMENT,
        )
        if check and done.returncode:
            said = (done.stderr + done.stdout).strip()
            raise LabError(f"on {host}: `{' '.join(command)}` → {done.returncode}: {said}")
        return done.stdout + ("" if check else done.stderr)

    @contextmanager
    def spawn(self, host: str, *command: str, until: str | None = None, timeout_s: float = 5) -> Iterator[int]:
        """Run beside the test until the block ends; gives the pid. Waits until it writes the line `until`."""
        told = ["sh", "-c", 'echo $$; exec "$@"', "sh", *command]
        child = subprocess.Popen(
            self.argv(host, *told),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            bufsize=0,  # `select` sees no line that waits in a buffer of ours
            env=ENVIRONMENT,
        )
        assert child.stdout
        pid = int(child.stdout.readline())
        try:
            deadline = time.monotonic() + timeout_s
            while until:
                ready, _, _ = select.select([child.stdout], [], [], max(0.0, deadline - time.monotonic()))
                line = child.stdout.readline().decode().strip() if ready else "nothing in time"
                if line == until:
                    break
                if not ready or not line:
                    raise LabError(f"on {host}: `{' '.join(command)}` said {line!r}, not {until!r}")
            yield pid
        finally:
            self.signal("KILL", pid)
            child.wait(10)
            child.stdout.close()

    def signal(self, name: str, pid: int) -> None:
        """Send SIG`name` to a process of the world; one that has ended is no error."""
        self.run(None, "kill", f"-{name}", str(pid), check=False)

    # ---- faults

    @contextmanager
    def fault(self, match: str, verdict: str, *declare: str, router: str = ROUTER) -> Iterator[Fault]:
        """`nft` rule `match counter verdict` on every packet that `router` forwards, until the block ends.

        `declare`: sets that the rule uses, e.g. `set seen { type inet_service; flags dynamic; }`.
        """
        table = f"fault{next(self._numbers)}"
        lines = [
            f"table inet {table} {{",
            *declare,
            "chain forward {",
            "type filter hook forward priority 0;",
            f"{match} counter {verdict}",
            "}",
            "}",
        ]
        self.run(router, "nft", "-f", "-", input="\n".join(lines) + "\n")
        try:
            yield Fault(self, table, router)
        finally:
            self.run(router, "nft", "delete", "table", "inet", table)

    def path(self, source: str, destination: str) -> str:
        """The nft match of all that goes from `source` to `destination`."""
        return f"ip saddr {self.address(source)} ip daddr {self.address(destination)}"

    @contextmanager
    def drop(self, source: str, destination: str) -> Iterator[Fault]:
        """Lose everything from `source` to `destination`: a black hole of one pair and direction."""
        with self.fault(self.path(source, destination), "drop") as fault:
            yield fault

    @contextmanager
    def lose_first(self, source: str, destination: str, segment: str, port: str) -> Iterator[Fault]:
        """Lose, of every TCP connection, the first `segment` (an nft match) from `source`, and none of its repeats.

        `port` is the field that names the connection: `sport` on the client's way, `dport` on the way back.
        """
        seen = "set seen {\ntype inet_service; flags dynamic,timeout; timeout 60s;\n}"
        match = f"{self.path(source, destination)} {segment} tcp {port} != @seen add @seen {{ tcp {port} }}"
        with self.fault(match, "drop", seen) as fault:
            yield fault

    @contextmanager
    def black_hole(self, network: str) -> Iterator[None]:
        """Swallow all that goes to `network`, e.g. `10.9.0.0/16`: for peers that never answer, without a host each."""
        self.run(ROUTER, "ip", "route", "add", "blackhole", network)
        try:
            yield
        finally:
            self.run(ROUTER, "ip", "route", "del", "blackhole", network)

    @contextmanager
    def no_route(self, source: str, destination: str) -> Iterator[None]:
        """Take the route to `destination` from `source`: its connect says ENETUNREACH at once."""
        route = ["throw", f"{self.address(destination)}/32"]
        self.run(source, "ip", "route", "add", *route)
        try:
            yield
        finally:
            self.run(source, "ip", "route", "del", *route)

    @contextmanager
    def delay(self, source: str, delay_ms: float) -> Iterator[None]:
        """Hold all that `source` sends for `delay_ms` in the router: that much more in each of its round trips.

        Skips the test without `iptables-legacy`.
        """
        with self.delay_in(ROUTER, delay_ms, "-i", source):
            yield

    @contextmanager
    def delay_in(self, router: str, delay_ms: float, *match: str) -> Iterator[None]:
        """Hold what a router forwards, all of it or what `match` (of iptables) says, for `delay_ms` each time."""
        require("iptables")
        queue = str(next(self._numbers))
        rule = ["FORWARD", *match, "-j", "NFQUEUE", "--queue-num", queue, "--queue-bypass"]
        real_time = ["chrt", "-f", "10"] if self._as_root and find_tool("chrt") else []
        with self.spawn(router, *real_time, sys.executable, "-I", "-S", str(RELAY), queue, str(delay_ms), until="up"):
            self.run(router, "iptables-legacy", "-A", *rule)
            try:
                yield
            finally:
                self.run(router, "iptables-legacy", "-D", *rule)

    # ---- measuring

    def ping_ms(self, source: str, destination: str, pings: int = 5, interval_s: float = 0.02) -> list[float]:
        """Return the round trips of `pings` echo requests; those that were lost are missing.

        Skips the test without `ping`.
        """
        require("ping")
        command = f"ping -n -c {pings} -i {interval_s} -W 1 {self.address(destination)}"
        out = self.run(source, *command.split(), check=False)
        return [float(ms) for ms in re.findall(r"time=([\d.]+) ms", out)]
