"""Memory and descriptors of this process."""

from __future__ import annotations

import resource

from pingmesh_agent.limits import MAX_IN_FLIGHT, MEMORY_CAP_BYTES, MEMORY_LADDER


def next_share(share: float, rss_bytes: int) -> float:
    """The next step of the memory ladder: down at 90 % of the cap, up again at 75 % of that; never to nothing."""
    step = MEMORY_LADDER.index(share)
    if rss_bytes >= 0.9 * MEMORY_CAP_BYTES:
        step = min(step + 1, len(MEMORY_LADDER) - 1)
    elif rss_bytes <= 0.675 * MEMORY_CAP_BYTES:
        step = max(step - 1, 0)
    return MEMORY_LADDER[step]


def resident_bytes() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def descriptor_limit() -> int:
    """How many files this process may have open, raised as far as it needs and may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MAX_IN_FLIGHT if hard == resource.RLIM_INFINITY else min(hard, 2 * MAX_IN_FLIGHT)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return int(wanted)
