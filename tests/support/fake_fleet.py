"""A fleet without hosts: it answers as it is told, and remembers what it was asked to do."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pingmesh_tasks.fleet.connect import HostOutcome, Work
from pingmesh_tasks.topology.inventory import Host
from pingmesh_tasks.windows import Window
from tests.support.log_host import ShellSession


class HostShell(ShellSession):
    """This machine's shell, as the host that work is done on."""

    def __init__(self, host: Host) -> None:
        super().__init__()
        self.host = host


@dataclass
class FakeFleet:
    """Hosts that are well, but for those in `sick`.

    Attributes:
        sick: Outcome and detail of each sick host, for whatever is done to it.
        segments: The segment that each host has; a host without one has no data yet.
        damaged: Hosts whose segment does not pass its check.
        done: What was done: the action and the names of the hosts.
        documents: The ping lists that were dispatched, by host.
        grace_s: How long the last collection was to wait for a segment.
        extra_s: How much longer than usual the last work might take.
    """

    sick: dict[str, tuple[str, str]] = field(default_factory=dict)
    segments: dict[str, bytes] = field(default_factory=dict)
    damaged: set[str] = field(default_factory=set)
    done: list[tuple[str, list[str]]] = field(default_factory=list)
    documents: dict[str, bytes] = field(default_factory=dict)
    grace_s: float = -1
    extra_s: float = -1

    def ensure_keys(self, hosts: Sequence[Host], *, dry_run: bool = False) -> list[HostOutcome]:
        return self._all("ensure_keys", hosts, dry_run, "keys", "unchanged")

    def dispatch_agents(self, hosts: Sequence[Host], documents: Mapping[str, bytes]) -> list[HostOutcome]:
        assert sorted(documents) == sorted(host.name for host in hosts)
        self.documents |= documents
        return self._all("dispatch_agents", hosts, False, "dispatch", "ok")

    def collect_segments(self, hosts, window: Window, deliver, quarantine, *, grace_s: float):
        self.done.append((f"collect {window.id}", [host.name for host in hosts]))
        self.grace_s = grace_s
        return [asyncio.run(self._collect(host, deliver, quarantine)) for host in hosts]

    async def _collect(self, host: Host, deliver, quarantine) -> HostOutcome:
        if host.name in self.sick:
            return HostOutcome(host.name, "collect", *self.sick[host.name])
        data = self.segments.get(host.name)
        if data is None:
            return HostOutcome(host.name, "collect", "no_data_yet")
        if host.name in self.damaged:
            await quarantine(host, data, "chunk 0: its checksum is wrong")
            return HostOutcome(host.name, "collect", "segment_damaged", "chunk 0: its checksum is wrong")
        await deliver(host, data)
        return HostOutcome(host.name, "collect", "ok", segment_bytes=len(data))

    def do(self, hosts: Sequence[Host], work: Work, *, stage: str, extra_s: float = 0) -> list[HostOutcome]:
        self.done.append((stage, [host.name for host in hosts]))
        self.extra_s = extra_s

        async def one(host: Host) -> HostOutcome:
            if host.name in self.sick:
                return HostOutcome(host.name, stage, *self.sick[host.name])
            return await work(HostShell(host))

        return [asyncio.run(one(host)) for host in hosts]

    def stop_agents(self, hosts: Sequence[Host], *, dry_run: bool) -> list[HostOutcome]:
        return self._all("stop_agents", hosts, dry_run, "stop", "ok")

    def clean_hosts(self, hosts: Sequence[Host], *, remove_key: bool, dry_run: bool) -> list[HostOutcome]:
        return self._all(f"clean_hosts remove_key={remove_key}", hosts, dry_run, "clean", "ok")

    def deploy_hook(self, hosts: Sequence[Host], *, directory: str, dry_run: bool) -> list[HostOutcome]:
        return self._all(f"deploy_hook {directory}", hosts, dry_run, "hook", "ok")

    def _all(self, action: str, hosts: Sequence[Host], dry_run: bool, stage: str, well: str) -> list[HostOutcome]:
        self.done.append((f"{action} dry_run" if dry_run else action, [host.name for host in hosts]))
        return [HostOutcome(host.name, stage, *self.sick.get(host.name, (well,))) for host in hosts]
