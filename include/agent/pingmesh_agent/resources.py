"""Memory and file descriptors of this process."""

from __future__ import annotations

import resource

from pingmesh_agent.limits import MAX_IN_FLIGHT, MEMORY_CAP_BYTES, MEMORY_LADDER

STEP_DOWN_BYTES = int(0.9 * MEMORY_CAP_BYTES)
STEP_UP_BYTES = int(0.675 * MEMORY_CAP_BYTES)


def next_share(share: float, rss_bytes: int) -> float:
    """Share of the probes to send from now on: one step of MEMORY_LADDER down, up, or the same."""
    step = MEMORY_LADDER.index(share)
    if rss_bytes >= STEP_DOWN_BYTES:
        step = min(step + 1, len(MEMORY_LADDER) - 1)
    elif rss_bytes <= STEP_UP_BYTES:
        step = max(step - 1, 0)
    return MEMORY_LADDER[step]


def resident_bytes() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def descriptor_limit() -> int:
    """Raise the limit of open files as far as needed and allowed, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * MAX_IN_FLIGHT
    wanted = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return int(wanted)
