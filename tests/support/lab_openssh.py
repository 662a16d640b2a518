"""OpenSSH on hosts of the laboratory: a server, a host key and a home of its own on each, one account on all.

The account `USER` with password `PASSWORD` exists in the laboratory's copy of /etc/passwd only. Its home is `HOME` in
every session; on each host that is another directory of this machine. Needs root: sshd gives up rights that only
root has.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.lab import Lab, LabError
from tests.support.needs import find_tool, require

USER, UID, HOME = "pm", 4242, "/run/home/pm"
PASSWORD = "first contact"
_HASH = "$6$pingmesh$qnhqLex2f4Tg4EmWO6IrC8bHcYzepcH96K7DgY0A1Yb0pSjI10B5ZINBJ1emktP40H7XUypVg6MDAWC06KViL0"

_ACCOUNT = f"""
mkdir -p /run/sshd {HOME}
cp -p /etc/passwd /etc/shadow /etc/group /run
echo '{USER}:x:{UID}:{UID}::{HOME}:/bin/sh' >>/run/passwd
echo '{USER}:{_HASH}:19000:0:99999:7:::' >>/run/shadow
echo '{USER}:x:{UID}:' >>/run/group
for file in passwd shadow group; do mount --bind /run/$file /etc/$file; done
"""
_CONFIG = """
Port 22
ListenAddress {address}
HostKey {directory}/host_key
PidFile {directory}/sshd.pid
UsePAM no
PasswordAuthentication yes
UseDNS no
PrintMotd no
Subsystem sftp internal-sftp
"""


@dataclass
class OpenSsh:
    """One server. `home` is the account's home of that host, as a path of this machine."""

    lab: Lab
    host: str
    directory: Path
    pid: int = 0

    @property
    def home(self) -> Path:
        return self.directory / "home"

    def start(self) -> None:
        config = self.directory / "sshd_config"
        config.write_text(_CONFIG.format(address=self.lab.address(self.host), directory=self.directory))
        pid_file = self.directory / "sshd.pid"
        pid_file.unlink(missing_ok=True)
        # A mount of `ip netns exec` is seen in that session only, and in what it starts.
        serve = f"mount --bind {self.home} {HOME} && exec {find_tool('sshd')} -f {config} -E {self.directory}/log"
        self.lab.run(self.host, "sh", "-c", serve)
        deadline = time.monotonic() + 5
        while not (pid_file.exists() and pid_file.read_text()):
            if time.monotonic() > deadline:
                raise LabError(f"sshd on {self.host} did not start: {self.log()}")
            time.sleep(0.01)
        self.pid = int(pid_file.read_text())

    def stop(self) -> None:
        self.lab.signal("KILL", self.pid)

    def freeze(self) -> None:
        """Let its kernel go on accepting connections, which nobody will serve."""
        self.lab.signal("STOP", self.pid)

    def change_host_key(self) -> None:
        """Come back with another host key, as after a new installation, or as somebody else."""
        self.stop()
        (self.directory / "host_key").unlink()
        self.make_host_key()
        self.start()

    def make_host_key(self) -> None:
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.directory / "host_key")]
        self.lab.run(None, *command)

    def log(self) -> str:
        return (self.directory / "log").read_text()


@contextmanager
def openssh_servers(lab: Lab, hosts: Sequence[str], root: Path) -> Iterator[dict[str, OpenSsh]]:
    """Run a server on each of `hosts`, with its files under `root`; they end with the block."""
    require("root", "sshd", "ssh-keygen")
    lab.run(None, "sh", "-ec", _ACCOUNT)
    servers = {host: OpenSsh(lab, host, root / host) for host in hosts}
    for server in servers.values():
        server.home.mkdir(parents=True)
        os.chown(server.home, UID, UID)
        server.make_host_key()
        server.start()
    try:
        yield servers
    finally:
        for server in servers.values():
            server.stop()


def processes_of_user(lab: Lab) -> list[str]:
    """The command lines of all that runs as USER, on any host."""
    ask = f'for p in /proc/[0-9]*; do [ "$(stat -c %u $p)" != {UID} ] || tr "\\0" " " <$p/cmdline; echo; done'
    return [line for line in lab.run(None, "sh", "-c", ask, check=False).splitlines() if line.strip()]
