"""One stage of the fleet, run on the laboratory's controller: `python -m tests.support.lab_fleet STAGE <PLAN`.

`PLAN` is JSON: `hosts` (name → address), `directory` (of the controller's files), `username`, `password`; for dispatch
`documents` (name → pinglist.json), for collect `window` and `window_s`. Prints the outcomes as JSON. What is collected
goes to `directory/raw/<host>.pms`. A process of its own, because a socket belongs to the namespace that made it.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from pingmesh_tasks.fleet.agents import AgentRelease, clean_hosts, dispatch_agents
from pingmesh_tasks.fleet.connect import FanoutLimits, HostOutcome, SshAccess
from pingmesh_tasks.fleet.keys import ensure_keys
from pingmesh_tasks.fleet.segments import collect_segments
from pingmesh_tasks.latency.segment import verify_segment
from pingmesh_tasks.topology.inventory import Host
from pingmesh_tasks.windows import Window

LIMITS = FanoutLimits(host_timeout_s=5, retries=0)


def run_stage(stage: str, plan: dict[str, Any]) -> list[HostOutcome]:
    directory = Path(plan["directory"])
    hosts = [Host(name, address) for name, address in plan["hosts"].items()]
    access = SshAccess(
        plan["username"],
        directory / "known_hosts",
        private_key=directory / "key",
        connect_timeout_s=2,
        login_timeout_s=2,
    )
    match stage:
        case "keys":
            bootstrap = replace(access, private_key=None, password=plan["password"])
            return ensure_keys(hosts, access, bootstrap, LIMITS)
        case "dispatch":
            documents = {name: text.encode() for name, text in plan["documents"].items()}
            return dispatch_agents(hosts, documents, AgentRelease.load(), access, LIMITS, lab=True)
        case "collect":
            window = Window.parse(plan["window"], plan["window_s"])
            keep = partial(_keep, directory / "raw")
            return collect_segments(
                hosts, window, access, LIMITS, check=verify_segment, deliver=keep, quarantine=_refuse
            )
        case "clean":
            return clean_hosts(hosts, access, LIMITS, remove_key=True)
        case _:
            raise SystemExit(f"no stage {stage!r}")


async def _keep(directory: Path, host: Host, segment: bytes) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{host.name}.pms").write_bytes(segment)


async def _refuse(host: Host, segment: bytes, reason: str) -> None:
    raise AssertionError(f"{host.name} wrote a damaged segment of {len(segment)} bytes: {reason}")


if __name__ == "__main__":
    print(json.dumps([asdict(outcome) for outcome in run_stage(sys.argv[1], json.load(sys.stdin))]))
