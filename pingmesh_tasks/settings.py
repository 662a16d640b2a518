"""Settings: everything an operator chooses, read once from `PINGMESH_*` and checked as a whole.

Credentials are not here: they are Airflow connections. `.env.example` lists every variable with its meaning; a test
holds the two together. A bad environment raises one ConfigError that names every fault (`load_settings`). DAG files
must parse nevertheless: they take the valid part of it (`valid_settings`).
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from pingmesh_tasks.errors import ENVIRONMENT, ConfigError
from pingmesh_tasks.windows import cron

PREFIX = "PINGMESH_"
#: Variables with our prefix that are not settings: where tests find things, what the demo listens on.
FOREIGN = ("PINGMESH_TEST_", "PINGMESH_DEMO_")
#: The inventory of `valid_settings` where none is given.
NO_INVENTORY = "PINGMESH_INVENTORY-is-not-set"
#: Bytes as they came for a week, tables and pictures for a month, hours and what was said for a year, days for five.
KEEP_D: Mapping[str, int | None] = {
    "raw": 7,
    "quarantine": 30,
    "tables": 30,
    "hours": 400,
    "days": 1830,
    "artifacts": 30,
    "tables/probe": 7,
    "tables/usage": 400,
    "tables/anomaly": 400,
    "tables/notice": 400,
}

Share = Annotated[float, Field(ge=0, le=1)]
#: Separated by commas in the environment.
Recipients = tuple[Annotated[str, Field(pattern=r"^[^@\s,<>]+@[^@\s,<>]+$")], ...]
#: `name=days` separated by commas in the environment; None is `forever`. Two days are what stages look back.
KeepDays = Mapping[str, Annotated[int, Field(ge=2)] | None]
BucketName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{2,62}$")]


class Settings(BaseModel):
    """One frozen, validated object. Names carry units; `load_settings` makes it from the environment."""

    model_config = ConfigDict(frozen=True, validate_default=True)  # or "~" of a default would stay

    # what is measured
    inventory: Annotated[str, Field(min_length=1, description="Path or s3:// URI of the inventory (.txt, .csv, .yaml)")]
    window_s: Annotated[int, Field(description="Length of a window: one DAG run, one segment, one partition")] = 300
    protocol: Annotated[Literal["tcp", "tcp_echo", "udp"], Field(description="How a pair is probed")] = "tcp"
    payload_bytes: Annotated[int, Field(ge=0, le=65_535, description="Payload of a tcp_echo or udp probe")] = 0
    interval_s: Annotated[float, Field(gt=0, le=3600, description="Time between two probes of one pair")] = 10
    probe_timeout_s: Annotated[float, Field(gt=0, le=30, description="Unanswered for so long, a probe is lost")] = 3
    inter_dc_hosts_per_podset: Annotated[int, Field(ge=1, description="Hosts of a podset that probe other DCs")] = 2
    max_peers_per_host: Annotated[int, Field(ge=1, le=20_000, description="Longest ping list a host may get")] = 2_500
    ring_peers: Annotated[int, Field(ge=1, description="Peers a host gets where a full mesh is too much")] = 100
    budget_probes_per_s: Annotated[int, Field(ge=1, description="Most probes the whole fleet may send")] = 1_000_000

    # the hosts
    agent_home: Annotated[str, Field(min_length=1, description="The agent's directory on a host")] = "~/.pingmesh"
    agent_lab: Annotated[bool, Field(description="Allow intervals under 10 s. Only on hosts you may burden")] = False
    lease_s: Annotated[int, Field(ge=60, description="An agent that no run has renewed for so long stops")] = 900
    spool_max_mib: Annotated[int, Field(ge=1, description="Most an agent keeps on its host's disk")] = 256
    spool_keep_h: Annotated[int, Field(ge=1, description="How long it keeps segments for a backfill")] = 24
    ssh_dir: Annotated[Path, Field(description="Where the fleet's key pair is made if the connection gives none")] = (
        Path("~/.pingmesh-controller")
    )
    ssh_concurrency: Annotated[int, Field(ge=1, le=1000, description="Hosts one task talks to at a time")] = 50
    ssh_pool: Annotated[str, Field(min_length=1, description="Airflow pool of the tasks that use SSH")] = "default_pool"
    ssh_timeout_s: Annotated[float, Field(gt=0, description="Most time a task spends on one host")] = 30
    shard_size: Annotated[int, Field(ge=1, description="Hosts one mapped task takes care of")] = 250
    collect_grace_s: Annotated[float, Field(ge=0, le=60, description="Wait for a segment that is being closed")] = 10
    max_failed_share: Annotated[Share, Field(description="Share of failing hosts above which a run fails")] = 0.5

    # the data servers
    log_mib_per_window: Annotated[int, Field(ge=2, description="Most a window takes of one log; the rest waits")] = 64

    # the object store
    s3_endpoint: Annotated[str | None, Field(description="URL of the S3 server if the connection names none")] = None
    s3_bucket: Annotated[BucketName, Field(description="Made on first use")] = "pingmesh"
    s3_region: Annotated[str, Field(min_length=1)] = "us-east-1"

    # how long it keeps things
    keep_d: Annotated[KeepDays, Field(description="Days by kind of object, beside the defaults")] = KEEP_D
    keep_dry_run: Annotated[bool, Field(description="Only say daily what is too old; false: delete it")] = True

    # the alarm
    rules: Annotated[str | None, Field(description="Path or s3:// URI of a YAML with your limits")] = None
    alert_email_to: Annotated[Recipients, Field(description="Who gets e-mails, separated by commas")] = ()
    alert_repeat_s: Annotated[int, Field(ge=60, description="An open fault is said again after so long")] = 3_600
    alert_heartbeat_s: Annotated[float, Field(ge=1, description="Longest time between two looks at hot data")] = 30
    hot_horizon_s: Annotated[int, Field(ge=20, le=600, description="How much hot data one look takes in")] = 60
    hot_keep_h: Annotated[int, Field(ge=1, description="When hot objects are deleted")] = 24
    follow: Annotated[bool, Field(description="Follow hosts and logs; without it alarms are slower")] = True
    follow_max_hosts: Annotated[int, Field(ge=1, description="Connections held at once; more hosts are sampled")] = 250
    follow_interval_s: Annotated[float, Field(ge=0.2, le=60, description="How often a host is asked for news")] = 1
    trace_budget_s: Annotated[float, Field(ge=0, le=30, description="Most a message waits for traces; 0: none")] = 4

    # the pictures
    timeline_windows: Annotated[int, Field(ge=2, le=288, description="Windows that the timeline shows")] = 12
    latency_slow_us: Annotated[int, Field(gt=0, description="Mean above it is slow: first line in the bars")] = 1_000
    latency_bad_us: Annotated[int, Field(gt=0, description="Mean above it is bad: second line in the bars")] = 5_000

    @field_validator("window_s")
    @classmethod
    def _window_can_be_scheduled(cls, length_s: int) -> int:
        try:
            cron(length_s)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return length_s

    @model_validator(mode="after")
    def _lease_outlasts_a_window(self) -> Settings:
        if self.lease_s <= self.window_s:
            raise PydanticCustomError(
                "settings_together",
                "PINGMESH_LEASE_S={lease_s} is not above PINGMESH_WINDOW_S={window_s}: agents would stop "
                "between two runs; write {enough_s}",
                {"lease_s": self.lease_s, "window_s": self.window_s, "enough_s": 3 * self.window_s},
            )
        return self

    @field_validator("alert_email_to", mode="before")
    @classmethod
    def _addresses_are_split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("keep_d", mode="before")
    @classmethod
    def _ages_are_split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        given = [part.strip() for part in value.split(",") if part.strip()]
        if bad := [part for part in given if "=" not in part]:
            raise ValueError(f"{bad[0]!r} is not like tables=30 or hours=forever")
        pairs = [(name.strip(), days.strip()) for name, _, days in (part.partition("=") for part in given)]
        return {**KEEP_D, **{name: None if days == "forever" else days for name, days in pairs}}

    @field_validator("ssh_dir")
    @classmethod
    def _home_is_expanded(cls, path: Path) -> Path:
        return path.expanduser()


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings that `environ` (default: the process's) gives. Raises ConfigError with every fault in it."""
    settings, fault = valid_settings(environ)
    if fault is not None:
        raise fault
    return settings


def valid_settings(environ: Mapping[str, str] | None = None) -> tuple[Settings, ConfigError | None]:
    """Return the settings of the valid variables in `environ`, defaults in place of the others, and the fault.

    The fault is what `load_settings` would raise, None where there is none. For reading DAG files: a task that
    measures, deletes or alerts must not run on part of what its operator wrote.
    """
    given = _given(os.environ if environ is None else environ)
    faults = [_unknown(name) for name in sorted(given.keys() - Settings.model_fields.keys())]
    valid = {name: value for name, value in given.items() if name in Settings.model_fields}
    while True:
        try:
            settings = Settings.model_validate(valid)
        except ValidationError as error:
            problems = [dict(problem) for problem in error.errors()]
            faults += [_fault(problem) for problem in problems]
            for name in {name for problem in problems for name in _names(problem)}:
                valid.pop(name, None)
            valid.setdefault("inventory", NO_INVENTORY)
            continue
        if not faults:
            return settings, None
        listed = "\n".join(f"  - {fault}" for fault in faults)
        return settings, ConfigError(f"{ENVIRONMENT} has faults:\n{listed}")


def _given(environ: Mapping[str, str]) -> dict[str, object]:
    """Return what is set, by the name of the setting; an empty variable means the default."""
    return {
        name.removeprefix(PREFIX).lower(): value
        for name, value in environ.items()
        if name.startswith(PREFIX) and not name.startswith(FOREIGN) and value != ""
    }


def _names(problem: dict[str, Any]) -> list[str]:
    """Return the settings that a problem is about; a problem of several settings lists them in its context."""
    return [str(problem["loc"][0])] if problem["loc"] else [name for name in problem["ctx"] if name != "enough_s"]


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, Settings.model_fields, n=1)
    return f"{PREFIX}{name.upper()} is not a setting" + (f"; did you mean {PREFIX}{near[0].upper()}?" if near else "")


def _fault(problem: dict[str, Any]) -> str:
    if not problem["loc"]:  # of two settings together
        return str(problem["msg"])
    name = str(problem["loc"][0])
    variable, meaning = PREFIX + name.upper(), Settings.model_fields[name].description
    if problem["type"] == "missing":
        return f"{variable} is missing: {meaning}"
    return f"{variable}={problem['input']!r}: {problem['msg'].removeprefix('Value error, ')}"
