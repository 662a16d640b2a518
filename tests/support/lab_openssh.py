"""OpenSSH on hosts of the laboratory: a server, a host key and a home of its own on each, one account on all.

The account `USER` with password `PASSWORD` exists in the laboratory's copy of /etc/passwd only. Its home is `HOME` in
every session; on each host that is another directory of this machine. Needs root: sshd gives up rights that only
root has.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.lab import Lab, LabError, find_tool

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


@contextmanager
def openssh_servers(lab: Lab, hosts: Sequence[str], root: Path) -> Iterator[dict[str, Path]]:
    """Run a server on each of `hosts` until the block ends; gives the home directory of each, as seen from here."""
    if os.geteuid() != 0:
        pytest.skip("OpenSSH servers in the laboratory need root")
    if not find_tool("sshd"):
        pytest.skip("not installed: sshd (package openssh-server)")
    lab.run(None, "sh", "-ec", _ACCOUNT)
    with ExitStack() as servers:
        yield {host: servers.enter_context(_server(lab, host, root / host)) for host in hosts}


@contextmanager
def _server(lab: Lab, host: str, directory: Path) -> Iterator[Path]:
    home = directory / "home"
    home.mkdir(parents=True)
    home.chmod(0o755)
    os.chown(home, UID, UID)
    config = directory / "sshd_config"
    config.write_text(_CONFIG.format(address=lab.address(host), directory=directory))
    make_host_key(lab, directory)
    serve = f"mount --bind {home} {HOME} && exec {find_tool('sshd')} -D -f {config} -E {directory}/log"
    with lab.spawn(host, "sh", "-c", serve):
        deadline = time.monotonic() + 5
        while not (directory / "sshd.pid").exists():
            if time.monotonic() > deadline:
                raise LabError(f"sshd on {host} did not start: {(directory / 'log').read_text()}")
            time.sleep(0.01)
        yield home


def make_host_key(lab: Lab, directory: Path) -> None:
    """Give the server of `directory` a (new) host key; a running one reads it at its next start."""
    (directory / "host_key").unlink(missing_ok=True)
    lab.run(None, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / "host_key"))
