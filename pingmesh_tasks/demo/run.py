"""The demo: a real S3 server, eight hosts and a data server with real SSH servers, an inbox, and Airflow; no root.

`up` starts what does not run yet, waits for the first artifacts and says where to look; `stop` ends everything;
`status` says what runs. All state is below `.demo/` in the repository: logs, the store's data, credentials made for
this installation (mode 0600). The demo goes on until it is stopped: a new window every minute. It has two faults in
its script, and `fault` causes one at once: a host that stops answering, or a user who hammers one node.
The commands are `pingmesh demo up | stop | status | fault`.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx

from pingmesh_tasks import bundled
from pingmesh_tasks.demo.airflow import USER, DemoAirflow
from pingmesh_tasks.demo.daemon import Daemon
from pingmesh_tasks.demo.faults import order
from pingmesh_tasks.demo.fleet import FAULTS, PASSWORD_VARIABLE, demo_data_server, demo_hosts, demo_inventory_yaml
from pingmesh_tasks.demo.inbox import HTTP_PORT, SMTP_PORT
from pingmesh_tasks.demo.object_store import EmbeddedObjectStore
from pingmesh_tasks.errors import PingmeshError
from pingmesh_tasks.pipeline.pictures import EXTENSIONS
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.objects import ObjectStore
from pingmesh_tasks.windows import window_containing

#: Where the demo keeps everything: below the checkout, or below the current directory.
ROOT = (bundled.checkout() or Path.cwd()) / ".demo"
WINDOW_S = 60
FIRST_ARTIFACTS_TIMEOUT_S = 420
SSH_USER = "pingmesh"
OUTAGE_HOST, HAMMER_USER = "host04", "mallory"
#: What the program that plays an MDSplus server is told: log lines a second, how often its log is rotated, and that a
#: process serves one client (inetd), so that it is known who reads what.
DATA_SERVER = "--rate 100 --rotate-every-s 180 --mode inetd"
#: The script, in the order in which it is seen: the host is down in windows 6 and 7, then the user reads for 90 s.
OUTAGE = f"--outage-host {OUTAGE_HOST} --outage-after-windows 6 --outage-windows 2"
HAMMER = f"--hammer-user {HAMMER_USER} --hammer-after-s 660 --hammer-for-s 90 --hammer-rate 20 --hammer-every-s 3600"
MAIL_TO = "oncall@example.org"
#: The pool of the tasks that use SSH.
SSH_POOL, SSH_POOL_SLOTS = "pingmesh_ssh", 4
KINDS = EXTENSIONS | {"usage": ("png", "html")}


@dataclass(frozen=True)
class Ports:
    """What the demo listens on; each can be moved by `PINGMESH_DEMO_<NAME>_PORT`."""

    airflow: int = 18080
    s3: int = 18333
    ssh: int = 2200
    smtp: int = SMTP_PORT
    inbox: int = HTTP_PORT

    @classmethod
    def from_environment(cls) -> Ports:
        names = asdict(cls())
        moved = {name: os.environ.get(f"PINGMESH_DEMO_{name.upper()}_PORT") for name in names}
        try:
            return cls(**{name: int(value) for name, value in moved.items() if value})
        except ValueError as error:
            raise PingmeshError(f"a PINGMESH_DEMO_…_PORT is no number: {error}") from None


@dataclass(frozen=True)
class Secrets:
    """Made once per installation."""

    airflow_password: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    jwt_secret: str = field(default_factory=lambda: secrets.token_urlsafe(64))
    s3_secret: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    bootstrap_password: str = field(default_factory=lambda: secrets.token_urlsafe(16))

    @classmethod
    def of(cls, file: Path) -> Secrets:
        with suppress(FileNotFoundError):
            return cls(**json.loads(file.read_text()))
        made = cls()
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.touch(mode=0o600)
        file.write_text(json.dumps(asdict(made)))
        return made


class Demo:
    """The demo's processes below `root`."""

    def __init__(self, root: Path, ports: Ports, *, outage: bool = True) -> None:
        made = Secrets.of(root / "secrets.json")
        self.root, self.ports, self.secrets, self.outage = root, ports, made, outage
        self.s3 = EmbeddedObjectStore(root / "s3", ports.s3, secret_access_key=made.s3_secret)
        self.fleet = Daemon(root / "fleet", "fleet")
        self.inbox = Daemon(root / "inbox", "inbox")
        self.inventory = root / "inventory.yaml"
        self.airflow = DemoAirflow(
            root / "airflow", ports.airflow, made.airflow_password, made.jwt_secret, self._dag_environment()
        )

    def _dag_environment(self) -> dict[str, str]:
        ssh = {"conn_type": "ssh", "login": SSH_USER, "port": self.ports.ssh}
        slack = {"conn_type": "slackwebhook", "host": self.inbox_url, "password": "services/T/B/X"}
        plain = {"disable_ssl": True, "disable_tls": True, "from_email": "pingmesh@example.org"}
        smtp = {"conn_type": "smtp", "host": "127.0.0.1", "port": self.ports.smtp, "extra": plain}
        return {
            "PINGMESH_INVENTORY": str(self.inventory),
            "PINGMESH_WINDOW_S": str(WINDOW_S),
            "PINGMESH_INTERVAL_S": "2",  # our own hosts: thirty probes a pair and window make better pictures
            "PINGMESH_PROBE_TIMEOUT_S": "2",
            "PINGMESH_AGENT_LAB": "true",
            "PINGMESH_S3_ENDPOINT": f"http://127.0.0.1:{self.ports.s3}",
            "PINGMESH_SSH_DIR": str(self.root / "ssh"),
            "PINGMESH_SSH_POOL": SSH_POOL,
            "PINGMESH_ALERT_EMAIL_TO": MAIL_TO,
            "AIRFLOW_CONN_PINGMESH_SLACK": json.dumps(slack),
            "AIRFLOW_CONN_PINGMESH_SMTP": json.dumps(smtp),
            "AIRFLOW_CONN_PINGMESH_WEBHOOK": json.dumps({"conn_type": "http", "host": f"{self.inbox_url}/webhook"}),
            "AIRFLOW_CONN_PINGMESH_SSH": json.dumps(ssh),
            "AIRFLOW_CONN_PINGMESH_BOOTSTRAP": json.dumps(ssh | {"password": self.secrets.bootstrap_password}),
            "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps({"conn_type": "spark", "host": "local[2]"}),  # after `make spark`
            "AIRFLOW_CONN_PINGMESH_S3": json.dumps(
                {"conn_type": "aws", "login": self.s3.access_key_id, "password": self.s3.secret_access_key}
            ),
        }

    @property
    def inbox_url(self) -> str:
        return f"http://127.0.0.1:{self.ports.inbox}"

    def up(self, say: Callable[[str], None]) -> ObjectStore:
        """Start what does not run; return the store."""
        self._check_ports()
        say(f"[1/4] S3 server on 127.0.0.1:{self.ports.s3}, inbox for alarms on {self.inbox_url}")
        store = self.s3.start()
        self.start_inbox()
        say(f"[2/4] eight hosts on 127.0.0.11 … 18 and a data server on … 19, SSH port {self.ports.ssh}")
        self._start_fleet()
        say(f"[3/4] Airflow on {self.airflow.url} (takes about a minute)")
        if self.airflow.daemon.pid is None:
            self.airflow.start()
        self.airflow.await_up()
        self.airflow.ensure_pool(SSH_POOL, SSH_POOL_SLOTS, "Tasks of Pingmesh that use SSH")
        return store

    def _start_fleet(self) -> None:
        hosts = demo_hosts()
        data_server = demo_data_server(hosts, self.root / "fleet" / "hosts")
        self.inventory.write_text(demo_inventory_yaml(hosts, self.ports.ssh, data_server))
        if self.fleet.pid is not None:
            return
        command = [sys.executable, "-m", "pingmesh_tasks.demo.fleet", "--root", str(self.root / "fleet" / "hosts")]
        command += ["--port", str(self.ports.ssh), "--user", SSH_USER, "--window-s", str(WINDOW_S)]
        command += ["--data-server", f"{DATA_SERVER} {HAMMER}" if self.outage else DATA_SERVER]
        command += OUTAGE.split() if self.outage else []
        self.fleet.start(command, _environment() | {PASSWORD_VARIABLE: self.secrets.bootstrap_password})
        self._await_listening(self.fleet, "the demo's hosts", ("127.0.0.19", self.ports.ssh))

    def start_inbox(self) -> None:
        if self.inbox.pid is not None:
            return
        command = [sys.executable, "-m", "pingmesh_tasks.demo.inbox", "--root", str(self.root / "inbox" / "messages")]
        command += ["--smtp-port", str(self.ports.smtp), "--port", str(self.ports.inbox)]
        self.inbox.start(command, _environment())
        places = [("127.0.0.1", port) for port in (self.ports.smtp, self.ports.inbox)]
        self._await_listening(self.inbox, "the inbox", *places)

    def _await_listening(self, daemon: Daemon, what: str, *places: tuple[str, int]) -> None:
        deadline = time.monotonic() + 30
        while not all(_listens(*place) for place in places):
            if daemon.pid is None or time.monotonic() > deadline:
                raise PingmeshError(f"{what} did not start; {daemon.log}:\n{daemon.last_lines()}")
            time.sleep(0.1)

    def cause(self, what: str, seconds: float) -> str:
        """Let a fault begin now, and end by itself; say what happens. Raises PingmeshError.

        `what` is a host that goes down, or `hammer`: HAMMER_USER reads one node of the data server over and over.
        """
        if self.fleet.pid is None:
            raise PingmeshError("the demo does not run; `make demo` starts it")
        orders = self.root / "fleet" / "hosts" / FAULTS
        if what == "hammer":
            order(orders, "hammer", HAMMER_USER, seconds)
            return f"{HAMMER_USER} reads one node of the data server twenty times a second, for {seconds:g} s"
        hosts = [host.name for host in demo_hosts()]
        if what not in hosts:
            raise PingmeshError(f"there is no fault {what!r}; name hammer or a host: {', '.join(hosts)}")
        order(orders, "outage", what, seconds)
        return f"{what} is down for {seconds:g} s"

    def _check_ports(self) -> None:
        """Raise PingmeshError that names every port which a stranger holds."""
        ours = {
            "s3": (self.s3.is_running, "127.0.0.1"),
            "ssh": (self.fleet.pid is not None, "127.0.0.11"),
            "airflow": (self.airflow.daemon.pid is not None, "127.0.0.1"),
            "smtp": (self.inbox.pid is not None, "127.0.0.1"),
            "inbox": (self.inbox.pid is not None, "127.0.0.1"),
        }
        taken = [
            f"port {port} on {ours[name][1]} is taken; set PINGMESH_DEMO_{name.upper()}_PORT to another"
            for name, port in asdict(self.ports).items()
            if not ours[name][0] and _listens(ours[name][1], port)
        ]
        if taken:
            raise PingmeshError("the demo cannot start:\n" + "\n".join(f"  - {fault}" for fault in taken))

    def await_artifacts(self, store: ObjectStore, say: Callable[[str], None]) -> list[str]:
        """Wait until each kind of artifact is there of a window that ended since Airflow was started; return the keys.

        What an earlier start of the demo left does not count.
        """
        since = datetime.fromtimestamp(self.airflow.daemon.started_s, UTC)
        oldest = window_containing(since, WINDOW_S).id
        say("[4/4] first window with data (the first run only starts the agents)")
        deadline, told = time.monotonic() + FIRST_ARTIFACTS_TIMEOUT_S, ""
        while not all(newest := _newest_artifacts(store, oldest)):
            if time.monotonic() > deadline:
                raise PingmeshError(f"no picture within {FIRST_ARTIFACTS_TIMEOUT_S} s; {self._last_runs()}")
            now = self._last_runs()
            if now != told:
                say(f"      {now}")
                told = now
            time.sleep(1)
        return newest

    def _last_runs(self) -> str:
        try:
            runs = self.airflow.runs("pingmesh")[-3:]
        except httpx.HTTPError:
            return "Airflow is starting"
        states = ", ".join(f"{run['run_after'][11:19]} {run['state']}" for run in runs)
        return f"runs of `pingmesh`: {states}" if states else "Airflow is reading the DAGs"

    def stop(self, say: Callable[[str], None]) -> None:
        """End Airflow, the hosts with their agents, the inbox and the store; what they stored stays."""
        say("Airflow stopped" if self.airflow.stop() else "Airflow did not run")
        say("hosts and agents stopped" if self.fleet.stop() else "hosts did not run")
        say("inbox stopped" if self.inbox.stop() else "inbox did not run")
        was_running = self.s3.is_running
        self.s3.stop()
        say("S3 server stopped" if was_running else "S3 server did not run")

    def copy_latest(self, store: ObjectStore, keys: list[str]) -> None:
        """Copy artifacts to `latest/`, each under the name of its kind."""
        for key in keys:
            copy = self.root / "latest" / f"{key.split('/')[1]}{Path(key).suffix}"
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(store.get(key))

    def summary(self, keys: list[str]) -> str:
        """Return where to look in a demo that is up, with its passwords; `keys` are of the first artifacts."""
        lines = [
            "",
            "The mesh runs: a new window every minute.",
            "",
            f"  Inbox     {self.inbox_url}   what Slack, e-mail and a webhook would have received",
            f"  Airflow   {self.airflow.url}   login {USER} / {self.secrets.airflow_password}",
            f"  S3        {self.s3.access.endpoint}   login {self.s3.access_key_id} / {self.s3.secret_access_key}",
            f"  Artifacts, newest of each kind, in bucket {self.s3.bucket} (copies in {self.root / 'latest'})",
            *(f"    {key}" for key in keys),
            "",
        ]
        if self.outage:
            lines += [
                f"  {OUTAGE_HOST} goes down for two windows a few minutes from now, and later {HAMMER_USER}",
                "  hammers the data server for a while: watch the timeline, and the inbox.",
            ]
        lines += [
            f"  Cause a fault now with `make fault` ({OUTAGE_HOST} stops answering) or `make fault WHAT=hammer`, for a"
            " minute.",
            "  Stop with `make stop`; `make clean` also removes what was stored.",
        ]
        return "\n".join(lines)

    def is_up(self) -> bool:
        """Whether every process runs."""
        daemons = (self.fleet, self.inbox, self.airflow.daemon)
        return self.s3.is_running and all(daemon.pid is not None for daemon in daemons)


def _newest_artifacts(store: ObjectStore, oldest: str) -> list[str]:
    """The newest key of each kind and ending whose window is `oldest` or later; "" where there is none."""
    found = [key for kind in KINDS for key in store.keys(f"{layout.ARTIFACTS}/{kind}/")]
    found = [key for key in found if layout.window_id_of(key) >= oldest]
    wanted = [(f"/{kind}/", f".{ending}") for kind, endings in KINDS.items() for ending in endings]
    return [max((k for k in found if folder in k and k.endswith(ending)), default="") for folder, ending in wanted]


def _environment() -> dict[str, str]:
    """What our own programs are started with."""
    root = bundled.checkout()
    return {"PATH": os.environ.get("PATH", os.defpath)} | ({"PYTHONPATH": str(root)} if root else {})


def _listens(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0
