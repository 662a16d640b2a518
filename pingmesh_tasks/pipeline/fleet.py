"""The seam between the use cases and the hosts: what they do to hosts, and its implementation over SSH.

A use case asks its `Run` for the `Fleet`. Tests give the run one of their own (`tests.support.fake_fleet`), so that
they need no SSH server. Every method returns one outcome a host and never raises for a sick host.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from pingmesh_tasks.fleet.connect import FanoutLimits, HostOutcome, SshAccess, Work
from pingmesh_tasks.topology.inventory import Host
from pingmesh_tasks.windows import Window

#: Outcomes of a stage that are no fault of the host.
HEALTHY = frozenset({"ok", "unchanged", "no_data_yet"})


#: Keeps a segment that passed its check.
Deliver = Callable[[Host, bytes], Awaitable[None]]
#: Keeps a damaged segment apart, with the reason.
Quarantine = Callable[[Host, bytes, str], Awaitable[None]]


class Fleet(Protocol):
    """What the use cases do to hosts. All actions are idempotent; a dry run changes nothing."""

    def ensure_keys(self, hosts: Sequence[Host], *, dry_run: bool = False) -> list[HostOutcome]:
        """Make sure that our key opens every host; pin host keys at the first contact."""

    def dispatch_agents(self, hosts: Sequence[Host], documents: Mapping[str, bytes]) -> list[HostOutcome]:
        """Bring every agent to this release and its ping list (`documents`, by host), renew its lease."""

    def collect_segments(
        self,
        hosts: Sequence[Host],
        window: Window,
        deliver: Deliver,
        quarantine: Quarantine,
        *,
        grace_s: float,
    ) -> list[HostOutcome]:
        """Fetch the segments of a window; wait up to `grace_s` seconds for one that is being closed."""

    def do(self, hosts: Sequence[Host], work: Work, *, stage: str, extra_s: float = 0) -> list[HostOutcome]:
        """Do `work` on every host; one host may take `extra_s` seconds longer than usual."""

    def forget_host_keys(self, hosts: Sequence[Host], *, dry_run: bool) -> list[HostOutcome]:
        """Forget the pinned host keys of hosts that were installed anew."""

    def stop_agents(self, hosts: Sequence[Host], *, dry_run: bool) -> list[HostOutcome]:
        """Stop the agents."""

    def clean_hosts(self, hosts: Sequence[Host], *, remove_key: bool, dry_run: bool) -> list[HostOutcome]:
        """Stop the agents and remove their directory; with `remove_key` also our authorized key."""

    def deploy_hook(self, hosts: Sequence[Host], *, directory: str, dry_run: bool) -> list[HostOutcome]:
        """Build the MDSplus hook library in `directory` of every data server."""


@dataclass(frozen=True)
class SshFleet:
    """The hosts, over SSH. Its imports load asyncssh, so each method imports what it needs."""

    access: SshAccess
    bootstrap: SshAccess | None
    limits: FanoutLimits
    agent_home: str
    agent_lab: bool

    def ensure_keys(self, hosts: Sequence[Host], *, dry_run: bool = False) -> list[HostOutcome]:
        from pingmesh_tasks.fleet import keys

        return keys.ensure_keys(hosts, self.access, self.bootstrap, self.limits, dry_run=dry_run)

    def dispatch_agents(self, hosts: Sequence[Host], documents: Mapping[str, bytes]) -> list[HostOutcome]:
        from pingmesh_tasks.fleet import agents

        return agents.dispatch_agents(
            hosts,
            documents,
            agents.AgentRelease.load(),
            self.access,
            self.limits,
            home=self.agent_home,
            lab=self.agent_lab,
        )

    def collect_segments(
        self,
        hosts: Sequence[Host],
        window: Window,
        deliver: Deliver,
        quarantine: Quarantine,
        *,
        grace_s: float,
    ) -> list[HostOutcome]:
        from pingmesh_tasks.fleet import segments
        from pingmesh_tasks.latency.segment import verify_segment

        return segments.collect_segments(
            hosts,
            window,
            self.access,
            self.limits,
            home=self.agent_home,
            check=verify_segment,
            deliver=deliver,
            quarantine=quarantine,
            grace_s=grace_s,
        )

    def do(self, hosts: Sequence[Host], work: Work, *, stage: str, extra_s: float = 0) -> list[HostOutcome]:
        from pingmesh_tasks.fleet.connect import for_each_host

        limits = replace(self.limits, host_timeout_s=self.limits.host_timeout_s + extra_s)
        return for_each_host(hosts, work, self.access, limits, stage=stage)

    def forget_host_keys(self, hosts: Sequence[Host], *, dry_run: bool) -> list[HostOutcome]:
        from pingmesh_tasks.fleet import keys

        return keys.forget_host_keys(hosts, self.access, dry_run=dry_run)

    def stop_agents(self, hosts: Sequence[Host], *, dry_run: bool) -> list[HostOutcome]:
        from pingmesh_tasks.fleet import agents

        return agents.stop_agents(hosts, self.access, self.limits, home=self.agent_home, dry_run=dry_run)

    def clean_hosts(self, hosts: Sequence[Host], *, remove_key: bool, dry_run: bool) -> list[HostOutcome]:
        from pingmesh_tasks.fleet import agents

        return agents.clean_hosts(
            hosts, self.access, self.limits, home=self.agent_home, remove_key=remove_key, dry_run=dry_run
        )

    def deploy_hook(self, hosts: Sequence[Host], *, directory: str, dry_run: bool) -> list[HostOutcome]:
        from pingmesh_tasks.fleet.hook import deploy_hook

        return deploy_hook(hosts, self.access, self.limits, directory=directory, dry_run=dry_run)
