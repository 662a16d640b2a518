"""Every error this package raises on purpose.

    PingmeshError
     ├── ConfigError        a setting, a window length or a policy that cannot work
     ├── InventoryError     an inventory with faults; lists every one
     ├── PinglistError      a plan that would cost more than its budget
     ├── FleetError         too many hosts failed for a run to mean anything
     ├── NotificationError  no channel takes messages
     ├── SegmentError       an agent's segment that is damaged; names the chunk
     ├── RetentionError     more of a kind is too old than may be deleted at once
     └── StoreError         the object store refused, or a table is not of its schema
          └── StoreAuthError   the object store refused the credentials

An error says what is wrong, where, and what to do. A single sick host is no error: it is a row of `host_status`.
"""

from __future__ import annotations

from collections.abc import Iterable

#: What is at fault where settings are: each of them names its variable.
ENVIRONMENT = "the environment"


class PingmeshError(Exception):
    """Base of all errors of this package."""


class ConfigError(PingmeshError):
    """A setting, a window length or a policy that cannot work."""


class InventoryError(PingmeshError):
    """An inventory with faults. `faults` has them all: location, what is wrong, what to write instead."""

    def __init__(self, location: str, faults: Iterable[str]) -> None:
        self.location = location
        self.faults = tuple(faults)
        count = len(self.faults)
        super().__init__(
            f"{location}: {count} fault{'s' * (count != 1)}\n" + "\n".join(f"  - {f}" for f in self.faults)
        )


class PinglistError(PingmeshError):
    """A plan over its probe budget, refused with the figure."""


class FleetError(PingmeshError):
    """More hosts failed than the run allows."""


class NotificationError(PingmeshError):
    """No channel takes messages. They wait in the outbox, which knows when to try again."""


class SegmentError(PingmeshError):
    """A damaged segment. `chunk` is the index of the first chunk that cannot be read (0 = the first)."""

    def __init__(self, chunk: int, reason: str) -> None:
        self.chunk = chunk
        super().__init__(f"chunk {chunk}: {reason}")


class RetentionError(PingmeshError):
    """More of some kinds is too old than may be deleted at once; they were left alone. The message names them."""


class StoreError(PingmeshError):
    """The object store refused a request, or a table does not fit its schema."""


class StoreAuthError(StoreError):
    """The object store refused the credentials: trying again does not help."""


def faults_of(error: PingmeshError) -> list[str]:
    """Return the faults that an error lists, each as one sentence or two."""
    if isinstance(error, InventoryError):
        return [f"{error.location}: {fault}" for fault in error.faults]
    lines = str(error).splitlines()
    subject = lines[0].removesuffix(":").removesuffix(" has faults") if lines else ""
    place = "" if subject == ENVIRONMENT else f"{subject}: "
    listed = [place + line.removeprefix("  - ") for line in lines if line.startswith("  - ")]
    return listed or [" ".join(line.strip() for line in lines)]
