"""The follower against OpenSSH: what is left on a host when it is killed."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest

from tests.support.follow import command
from tests.support.lab import Lab, laboratory
from tests.support.lab_openssh import PASSWORD, UID, USER, OpenSsh, openssh_servers, processes_of_user
from tests.support.segments import TABLE, chunk
from tests.support.waiting import await_true

pytestmark = [pytest.mark.integration, pytest.mark.lab]

REPO = Path(__file__).parents[2]


def spool(server: OpenSsh) -> None:
    folder = server.home / ".pingmesh" / "spool"
    folder.mkdir(parents=True)
    rows = [(0, 0, 100, 40_000, 0, 0)]
    window = "20261121T220500Z"
    (folder / f"{window}.part").write_bytes(chunk(rows, TABLE, 0, host=server.host, window=window))
    for path in (folder.parent, folder):
        os.chown(path, UID, UID)


def test_a_follower_that_is_killed_leaves_no_process_on_a_host_with_openssh(tmp_path: Path):
    with laboratory(["a", "controller"]) as lab, openssh_servers(lab, ["a"], tmp_path) as servers:
        spool(servers["a"])
        driver = ["env", f"PYTHONPATH={REPO}", sys.executable, "-m", "tests.support.lab_fleet", "keys"]
        plan = {"hosts": {"a": lab.address("a")}, "directory": str(tmp_path / "controller"), "username": USER}
        lab.run("controller", *driver, input=json.dumps(plan | {"password": PASSWORD}), timeout_s=60)
        log = str(servers["a"].home / "access.log")
        follow = plan | {"key": "key", "logs": [["data1", lab.address("a"), log]], "limits": {"interval_s": 0.1}}
        start = ("env", f"PYTHONPATH={REPO}", *command(follow))
        with lab.spawn("controller", *start) as pid:
            await_scripts(lab, 2)  # one for the spool, one for the log
            lab.signal("KILL", pid)
            await_scripts(lab, 0)
        await_true("left alone", lambda: not processes_of_user(lab))


def await_scripts(lab: Lab, count: int) -> None:
    """Wait until so many of the follower's scripts run on the host."""
    deadline = time.monotonic() + 30
    while len(found := [line for line in processes_of_user(lab) if "read -r limit" in line]) != count:
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
