"""Windows: the slices of time that every object key, table partition and DAG run is named after.

A window is half-open, `[start, start + length_s)`, in UTC, aligned to the epoch, so that two machines that
never spoke agree on its name. Invariant: `Window.parse(w.id, w.length_s) == w`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pingmesh_tasks.errors import ConfigError

SECONDS_PER_DAY = 86_400
#: The levels of history above the windows of the settings (level `window`), by how long theirs are.
LEVELS_S = {"hour": 3_600, "day": SECONDS_PER_DAY}
_ID_FORMAT = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, order=True, slots=True)
class Window:
    """One slice of time. `start` is aware, in UTC and a multiple of `length_s`; `length_s` divides a day."""

    start: datetime
    length_s: int

    def __post_init__(self) -> None:
        check_length(self.length_s)
        if self.start.utcoffset() != timedelta(0):
            raise ConfigError(f"window start {self.start} is not in UTC; use an aware datetime in UTC")
        if self.start.microsecond or int(self.start.timestamp()) % self.length_s:
            raise ConfigError(f"window start {self.start} is no multiple of {self.length_s} s; use window_containing()")

    @property
    def end(self) -> datetime:
        return self.start + timedelta(seconds=self.length_s)

    @property
    def id(self) -> str:
        """Name used in every key, e.g. `20261121T220500Z`."""
        return self.start.strftime(_ID_FORMAT)

    def shifted(self, steps: int) -> Window:
        """Return the window `steps` later; negative steps go back."""
        return Window(self.start + timedelta(seconds=steps * self.length_s), self.length_s)

    @classmethod
    def parse(cls, window_id: str, length_s: int) -> Window:
        """Return the window called `window_id`. Raises ConfigError if it is none of that length."""
        try:
            start = datetime.strptime(window_id, _ID_FORMAT).replace(tzinfo=UTC)
        except ValueError:
            raise ConfigError(f"{window_id!r} is no window id; one looks like 20261121T220500Z") from None
        return cls(start, length_s)


def check_length(length_s: int) -> None:
    """Raise ConfigError unless `length_s` is a whole number of minutes that divides a day."""
    if length_s <= 0 or length_s % 60 or SECONDS_PER_DAY % length_s:
        raise ConfigError(
            f"window length {length_s} s is not a whole number of minutes that divides a day; try 60, 300 or 3600"
        )


def window_containing(moment: datetime, length_s: int) -> Window:
    """Return the window that `moment` (aware, any zone) falls into."""
    check_length(length_s)
    if moment.tzinfo is None:
        raise ConfigError(f"{moment} has no time zone; use an aware datetime")
    epoch_s = int(moment.timestamp() // length_s) * length_s
    return Window(datetime.fromtimestamp(epoch_s, UTC), length_s)


def last_complete_window(moment: datetime, length_s: int) -> Window:
    """Return the newest window that had ended at `moment`."""
    return window_containing(moment, length_s).shifted(-1)


def levels_above(length_s: int) -> list[str]:
    """Return the levels that windows of a length are rolled up to: those whose own are longer."""
    return [level for level, level_s in LEVELS_S.items() if level_s > length_s]


def cron(length_s: int) -> str:
    """Return the cron line that fires at the end of every window of `length_s`.

    Raises ConfigError where cron has no words for it, as for 40 minutes: a length fits that divides an hour in
    minutes or a day in hours.
    """
    check_length(length_s)
    minutes = length_s // 60
    if minutes == 1:
        return "* * * * *"
    if 60 % minutes == 0:
        return f"*/{minutes} * * * *" if minutes < 60 else "0 * * * *"
    if minutes % 60 == 0:
        return f"0 */{minutes // 60} * * *" if minutes < 24 * 60 else "0 0 * * *"
    raise ConfigError(
        f"window length {length_s} s cannot be scheduled by cron; take minutes that divide an hour "
        f"(1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30) or hours that divide a day"
    )
