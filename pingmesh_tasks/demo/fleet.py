"""Demo hosts: a data centre on 127.0.0.11 and up, each host a real SSH server with a home directory of its own.

A host is what the fleet sees of a real one: its own address, its own host key, a password first and authorized_keys
afterwards, commands that run under /bin/sh in its home, and agents that outlive the login. It is no isolation: all
hosts share one user, one file system and one process table. It needs no root.

    PINGMESH_DEMO_PASSWORD=... python -m pingmesh_tasks.demo.fleet --root .demo/fleet --inventory .demo/inventory.csv

runs the hosts in the foreground until SIGTERM; nothing of them is left then. `--outage-host` takes one host down for
some windows, and an order in `<root>/faults` (see `faults`) any host at any time: its SSH server closes and its agent
is killed, as when a machine loses power. `--data-server` adds one
more host, outside the mesh: a data server whose home holds the access log and the stderr log of a busy MDSplus server
(`python -m pingmesh_tasks.demo.data_server`, a process that ends with this one).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import csv
import io
import os
import secrets
import shlex
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import asyncssh
import yaml

from pingmesh_tasks.demo.faults import standing
from pingmesh_tasks.demo.population import COUNTRIES
from pingmesh_tasks.errors import ConfigError

DEFAULT_SSH_PORT = 2200
DEFAULT_USER = "demo"
PASSWORD_VARIABLE = "PINGMESH_DEMO_PASSWORD"  # noqa: S105
AGENT_HOME = ".pingmesh"
#: Below the fleet's root: the folder in which faults are ordered, and how often it is looked at.
FAULTS, FAULTS_TICK_S = "faults", 0.1
_CHUNK_BYTES = 64 * 1024
#: What a login finds commands in; this interpreter's directory comes last, for machines whose own Python is too old.
LOGIN_PATH = os.pathsep.join(("/usr/local/bin", "/usr/bin", "/bin", str(Path(sys.executable).parent)))


@dataclass(frozen=True, slots=True)
class DemoHost:
    """One host. Its logins have the shell `login_shell` and the PATH `login_path`."""

    name: str
    address: str
    dc: str = "dc1"
    podset: str = "podset1"
    tor: str = "tor1"
    login_shell: str = "/bin/sh"
    login_path: str = LOGIN_PATH


def demo_hosts(count: int = 8) -> tuple[DemoHost, ...]:
    """Return `count` hosts (up to 240) in 2 DCs of 2 podsets with one ToR each, filled in equal parts, in order."""
    if not 1 <= count <= 240:
        raise ConfigError(f"{count} demo hosts do not fit on 127.0.0.11 … 127.0.0.250; choose 1 … 240")
    hosts = []
    for i in range(count):
        dc, podset = divmod(4 * i // count, 2)
        hosts.append(DemoHost(f"host{i + 1:02d}", f"127.0.0.{11 + i}", f"dc{dc + 1}", f"podset{podset + 1}"))
    return tuple(hosts)


def demo_inventory_csv(hosts: Iterable[DemoHost], ssh_port: int = DEFAULT_SSH_PORT) -> str:
    """Return the hosts as an inventory in CSV."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["name", "address", "dc", "podset", "tor", "ssh_port"])
    table.writerows([h.name, h.address, h.dc, h.podset, h.tor, ssh_port] for h in hosts)
    return text.getvalue()


@dataclass(frozen=True, slots=True)
class DemoDataServer:
    """The host that plays an MDSplus data server; `home` is where its SSH logins are. No agent probes it."""

    host: DemoHost
    home: Path
    timezone: str = "Asia/Shanghai"

    @property
    def log(self) -> Path:
        return self.home / "mdsip" / "access.log"

    @property
    def errors(self) -> Path:
        return self.home / "mdsip" / "errors.log"


def demo_data_server(hosts: Sequence[DemoHost], root: Path, name: str = "data1") -> DemoDataServer:
    """Return the data server beside `hosts` of a fleet under `root`: it has the next address."""
    return DemoDataServer(DemoHost(name, f"127.0.0.{11 + len(hosts)}"), root.resolve() / name / "home")


def demo_inventory_yaml(
    hosts: Iterable[DemoHost], ssh_port: int = DEFAULT_SSH_PORT, data_server: DemoDataServer | None = None
) -> str:
    """Return the hosts, and the data server if there is one, as an inventory in YAML."""
    places = ("name", "address", "dc", "podset", "tor")
    listed = [{place: getattr(host, place) for place in places} | {"ssh_port": ssh_port} for host in hosts]
    document: dict[str, list[dict[str, Any]]] = {"hosts": listed}
    if data_server:
        server = {
            "name": data_server.host.name,
            "address": data_server.host.address,
            "ssh_port": ssh_port,
            "path": str(data_server.log),
            "errors_path": str(data_server.errors),
            "timezone": data_server.timezone,
            "countries": COUNTRIES,
        }
        document["log_servers"] = [server]
    return yaml.safe_dump(document, sort_keys=False)


class DemoFleet:
    """Hosts under `root`, one directory each. Host keys and homes stay, so that a restarted host is the same host."""

    def __init__(
        self,
        root: Path,
        password: str,
        hosts: Sequence[DemoHost] | None = None,
        *,
        ssh_port: int = DEFAULT_SSH_PORT,
        user: str = DEFAULT_USER,
    ) -> None:
        self.root = root
        self.hosts = tuple(hosts) if hosts is not None else demo_hosts()
        self.ssh_port = ssh_port
        self.user = user
        self._password = password
        self._servers: dict[str, asyncssh.SSHAcceptor] = {}
        self._logins: dict[str, set[asyncssh.SSHServerConnection]] = {h.name: set() for h in self.hosts}
        self._commands: dict[str, set[asyncio.Task[None]]] = {h.name: set() for h in self.hosts}

    def home(self, name: str) -> Path:
        """The host's home directory."""
        return self.root / name / "home"

    async def start(self) -> None:
        """Start every host. Raises ConfigError if an address and port cannot be had."""
        for host in self.hosts:
            await self.start_host(host.name)

    async def stop(self) -> None:
        """Stop every host and its agent: nothing is left running."""
        for host in self.hosts:
            await self.stop_host(host.name)

    async def start_host(self, name: str) -> None:
        """Let a host come up. Its agent does not come with it: that is what dispatch is for."""
        if name in self._servers:
            return
        host = self._host(name)
        (self.home(name) / ".ssh").mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._servers[name] = await asyncssh.create_server(
                lambda: _Login(self, host),
                host.address,
                self.ssh_port,
                server_host_keys=[self._host_key(name)],
                encoding=None,
                process_factory=lambda process: self._run(process, host),
                reuse_address=True,
            )
        except OSError as exc:
            raise ConfigError(f"{name} cannot listen on {host.address} port {self.ssh_port}: {exc.strerror}") from None

    async def stop_host(self, name: str) -> None:
        """Take a host down as if it lost power: no SSH, no logins, and its agent killed without a word."""
        server = self._servers.pop(name, None)
        if server is not None:
            server.close()
            for login in list(self._logins[name]):
                login.abort()
            await server.wait_closed()
            await asyncio.gather(*self._commands[name], return_exceptions=True)
        kill_agent(self.home(name) / AGENT_HOME)

    async def _run(self, process: asyncssh.SSHServerProcess[bytes], host: DemoHost) -> None:
        command = asyncio.ensure_future(_run_command(process, self.home(host.name), host))
        self._commands[host.name].add(command)
        command.add_done_callback(self._commands[host.name].discard)
        await command

    def _host(self, name: str) -> DemoHost:
        for host in self.hosts:
            if host.name == name:
                return host
        raise ConfigError(f"no demo host is called {name!r}; there are {', '.join(h.name for h in self.hosts)}")

    def _host_key(self, name: str) -> asyncssh.SSHKey:
        path = self.root / name / "host_key"
        if not path.exists():
            key = asyncssh.generate_private_key("ssh-ed25519")
            path.touch(mode=0o600)
            path.write_bytes(key.export_private_key("openssh"))
        return asyncssh.read_private_key(path)

    def accepts_password(self, user: str, password: str) -> bool:
        return user == self.user and secrets.compare_digest(password.encode(), self._password.encode())

    def login_began(self, host: DemoHost, connection: asyncssh.SSHServerConnection) -> None:
        self._logins[host.name].add(connection)

    def login_ended(self, host: DemoHost, connection: asyncssh.SSHServerConnection) -> None:
        self._logins[host.name].discard(connection)


class _Login(asyncssh.SSHServer):
    """One connection to one host."""

    def __init__(self, fleet: DemoFleet, host: DemoHost) -> None:
        self._fleet = fleet
        self._host = host

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._fleet.login_began(self._host, conn)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fleet.login_ended(self._host, self._connection)

    def begin_auth(self, username: str) -> bool:
        authorized = self._fleet.home(self._host.name) / ".ssh" / "authorized_keys"
        if username == self._fleet.user:
            # asyncssh then holds each key to its options (from=, no-pty ...); it raises where the file has no key.
            with contextlib.suppress(OSError, ValueError):
                self._connection.set_authorized_keys(str(authorized))
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return self._fleet.accepts_password(username, password)


class _Source(Protocol):
    async def read(self, n: int) -> bytes: ...


class _Sink(Protocol):
    def write(self, data: bytes) -> None: ...
    async def drain(self) -> None: ...
    def write_eof(self) -> None: ...


async def _run_command(process: asyncssh.SSHServerProcess[bytes], home: Path, host: DemoHost) -> None:
    """Run one command as sshd does: in the home, in a session of its own, killed when the connection goes."""
    child = await asyncio.create_subprocess_exec(
        host.login_shell,
        "-c",
        process.command or "exit 0",
        cwd=home,
        env={"HOME": str(home), "PATH": host.login_path, "LANG": "C.UTF-8"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert child.stdin and child.stdout and child.stderr  # noqa: S101
    feeding = asyncio.ensure_future(_feed(process.stdin, child.stdin))
    output = asyncio.gather(_pump(child.stdout, process.stdout), _pump(child.stderr, process.stderr), child.wait())
    gone = asyncio.ensure_future(process.channel.wait_closed())
    try:
        await asyncio.wait((output, gone), return_when=asyncio.FIRST_COMPLETED)
        if output.done():
            status = child.returncode or 0
            process.exit(status if status >= 0 else 128 - status)
    finally:
        for task in (feeding, output, gone):
            task.cancel()
        await asyncio.gather(feeding, output, gone, return_exceptions=True)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError, OSError):  # what is left in the pipes: asyncio ends no process before
            await asyncio.wait_for(child.communicate(), timeout=2)


async def _pump(source: _Source, sink: _Sink) -> None:
    """Copy until the source ends or the sink has gone.

    It sends no EOF: stdout and stderr share a channel, and the first EOF would cut off the other.
    """
    with contextlib.suppress(OSError, asyncssh.Error):
        while data := await source.read(_CHUNK_BYTES):
            sink.write(data)
            await sink.drain()


async def _feed(source: _Source, sink: _Sink) -> None:
    await _pump(source, sink)
    with contextlib.suppress(OSError):
        sink.write_eof()


def kill_agent(home: Path) -> None:
    """SIGKILL the agent whose lock lies in `home`, if it still is that agent."""
    with contextlib.suppress(OSError, ValueError):
        pid = int((home / "agent.lock").read_text().split()[0])
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if str(home).encode() in arguments:
            os.kill(pid, signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class Outage:
    """One host that is down from `begin_s` to `end_s`, seconds since the epoch."""

    host: str
    begin_s: float
    end_s: float

    @classmethod
    def of_windows(cls, host: str, after_windows: int, windows: int, window_s: int) -> Outage:
        """Whole windows, from the start of the one that is `after_windows` away."""
        begin_s = (int(time.time()) // window_s + after_windows) * window_s
        return cls(host, begin_s, begin_s + windows * window_s)


async def _keep_faults(fleet: DemoFleet, script: Outage | None) -> None:
    """Take hosts down and up again, as the script and the orders say, until this is cancelled."""
    down: set[str] = set()
    everyone = {host.name for host in fleet.hosts}
    while True:
        now_s = time.time()
        wanted = everyone & standing(fleet.root / FAULTS, "outage", now_s).keys()
        if script and script.begin_s <= now_s < script.end_s:
            wanted.add(script.host)
        for name in sorted(wanted - down):
            print(f"outage: {name} goes down", flush=True)
            await fleet.stop_host(name)
        for name in sorted(down - wanted):
            await fleet.start_host(name)
            print(f"outage: {name} is up again", flush=True)
        down = wanted
        await asyncio.sleep(FAULTS_TICK_S)


async def _play(server: DemoDataServer, options: Sequence[str], orders: Path) -> None:
    """Run the data server's program until this is cancelled; nothing of it is left then."""
    program = [sys.executable, "-m", "pingmesh_tasks.demo.data_server", "--with-parent", "--orders", str(orders)]
    files = ["--log", str(server.log), "--errors", str(server.errors), "--timezone", server.timezone]
    environment = {name: value for name, value in os.environ.items() if name != PASSWORD_VARIABLE}
    child = await asyncio.create_subprocess_exec(*program, *files, *options, env=environment)
    try:
        print(f"data server: ended with status {await child.wait()}", file=sys.stderr, flush=True)
    finally:
        if child.returncode is None:
            child.terminate()
            try:
                await asyncio.wait_for(child.wait(), timeout=5)
            except TimeoutError:
                child.kill()
                await child.wait()


async def _serve(fleet: DemoFleet, data_server: DemoDataServer | None, options: argparse.Namespace) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    faults = playing = None
    try:
        await fleet.start()
        if data_server:
            orders = fleet.root / FAULTS
            playing = asyncio.create_task(_play(data_server, shlex.split(options.data_server), orders))
        print(f"ready: {len(fleet.hosts)} hosts on port {fleet.ssh_port}, user {fleet.user}", flush=True)
        script = None
        if options.outage_host:
            schedule = (options.outage_after_windows, options.outage_windows, options.window_s)
            script = Outage.of_windows(options.outage_host, *schedule)
        faults = asyncio.create_task(_keep_faults(fleet, script))
        await ended.wait()
    finally:
        if faults:
            faults.cancel()
            await asyncio.gather(faults, return_exceptions=True)
        if playing:
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)
        await fleet.stop()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run demo hosts in the foreground until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m pingmesh_tasks.demo.fleet", description=main.__doc__)
    parser.add_argument("--root", type=Path, required=True, help="directory of the hosts' homes and keys")
    parser.add_argument("--hosts", type=int, default=8, help="how many (8)")
    parser.add_argument(
        "--port", type=int, default=DEFAULT_SSH_PORT, help=f"SSH port of all hosts ({DEFAULT_SSH_PORT})"
    )
    parser.add_argument("--user", default=DEFAULT_USER, help=f"login name ({DEFAULT_USER})")
    parser.add_argument("--inventory", type=Path, help="write the hosts there, as CSV or, by its ending, as YAML")
    parser.add_argument(
        "--data-server", nargs="?", const="", metavar="OPTIONS", help="add a data server; OPTIONS are its program's"
    )
    parser.add_argument("--outage-host", help="a host that goes down")
    parser.add_argument("--outage-after-windows", type=int, default=4, help="at the start of which window from now (4)")
    parser.add_argument("--outage-windows", type=int, default=2, help="for how many (2)")
    parser.add_argument("--window-s", type=int, default=60, help="length of a window (60)")
    options = parser.parse_args(arguments)
    try:
        password = os.environ.get(PASSWORD_VARIABLE)
        if not password:
            raise ConfigError(f"set {PASSWORD_VARIABLE} to the password of the hosts' user")
        root, hosts = options.root.resolve(), demo_hosts(options.hosts)
        data_server = demo_data_server(hosts, root) if options.data_server is not None else None
        if options.inventory:
            in_yaml = options.inventory.suffix != ".csv"
            text = demo_inventory_yaml(hosts, options.port, data_server) if in_yaml else None
            options.inventory.write_text(text or demo_inventory_csv(hosts, options.port))
        everyone = (*hosts, data_server.host) if data_server else hosts
        fleet = DemoFleet(root, password, everyone, ssh_port=options.port, user=options.user)
        asyncio.run(_serve(fleet, data_server, options))
    except ConfigError as exc:
        sys.exit(f"demo hosts: {exc}")


if __name__ == "__main__":
    main()
