"""Every key in the bucket. This is the only place that spells one.

Keys follow from the window alone, so that a second run of a stage replaces what the first one wrote. Names that
become part of a key come from a validated inventory (`[A-Za-z0-9][A-Za-z0-9._-]{0,62}`), so they cannot leave
their folder. No reader relies on the order of a listing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.windows import Window

ARTIFACTS, PLANS = "artifacts", "control/pinglist"
_SHARD = re.compile(r"\.(?P<shard>\d{3,}-of-\d{3,})\.parquet$")


def _partition(window: Window) -> str:
    return f"date={window.start:%Y-%m-%d}/hour={window.start:%H}"


def window_id_of(key: str) -> str:
    """Return the id of the window that a table's or an artifact's key is made from."""
    return key.rpartition("/")[2].partition(".")[0]


def plan(version: str) -> str:
    """A plan: the inventory and the policy that every ping list of one version follows from."""
    return f"{PLANS}/{version}.json"


def raw_probe_prefix(window: Window) -> str:
    return f"raw/probe/{_partition(window)}/{window.id}/"


def raw_probe(window: Window, host: str) -> str:
    """A segment as the agent wrote it."""
    return f"{raw_probe_prefix(window)}{host}.pms"


def table_prefix(table: str, window: Window) -> str:
    """Prefix that every part of a table's window shares, and no other window's part does."""
    return f"tables/{table}/{_partition(window)}/{window.id}."


def table(table: str, window: Window, shard: str | None = None) -> str:
    """One part of a table's window; `shard` None where the window is one part."""
    return table_prefix(table, window) + (f"{shard}.parquet" if shard else "parquet")


def at_level(table: str, level: str) -> str:
    """The table that holds at a level (`window`, `hour`, `day`) what `table` holds of windows."""
    return table if level == "window" else f"{table}_{level}"


def table_day_prefix(table: str, day: datetime) -> str:
    """Prefix of all parts of a table whose windows start on a day (UTC)."""
    return f"tables/{table}/date={day:%Y-%m-%d}/"


def of_shards(count: int) -> str:
    """How the names of the parts of a division into `count` shards end."""
    return f"-of-{count:03d}"


def shard(index: int, count: int) -> str:
    """The name of one shard, e.g. `000-of-002`."""
    return f"{index:03d}{of_shards(count)}"


def shard_of(key: str) -> str | None:
    """Return which shard a table's part is, e.g. `000-of-002`; None where the window is one part."""
    found = _SHARD.search(key)
    return found["shard"] if found else None


def quarantined_segment(window: Window, host: str) -> str:
    """A segment that failed its checks, kept as it came."""
    return f"quarantine/probe/{_partition(window)}/{window.id}/{host}.pms"


def raw_log_prefix(kind: str, server: str, day: datetime | None = None) -> str:
    """Prefix of what was collected of one server's log of a kind (`access`, `errors`), ever or on a day (UTC)."""
    return f"raw/{kind}/server={server}/" + (f"date={day:%Y-%m-%d}/" if day else "")


def raw_log(kind: str, server: str, window: Window) -> str:
    """The bytes that a window brought of a server's log."""
    return f"{raw_log_prefix(kind, server)}{_partition(window)}/{window.id}.log.zst"


def cursor(server: str, kind: str) -> str:
    """How far a server's log was collected; follows from its raw objects."""
    return f"control/cursor/{server}.{kind}.json"


def alert_state() -> str:
    """What the alarm remembers: open incidents, silences, what is left to say."""
    return "control/alerts/state.json"


def alert_traces() -> str:
    """The traces of the newest incidents, as the page shows them."""
    return "control/alerts/traces.json"


def pinned_host_keys() -> str:
    """The host keys that the fleet's hosts must show, in the format of known_hosts."""
    return "control/ssh/known_hosts"


def fleet_public_key() -> str:
    """The public half of the fleet's key, by which a worker without the private key knows that
    there is one."""
    return "control/ssh/fleet_key.pub"


def quarantined_lines(source: str, window: Window, server: str) -> str:
    """Lines that fit no table, with the reason, one JSON object a line."""
    return f"quarantine/{source}/{_partition(window)}/{window.id}.{server}.ndjson"


def artifact(kind: str, window: Window, extension: str) -> str:
    return f"{ARTIFACTS}/{kind}/{_partition(window)}/{window.id}.{extension}"


def artifact_day_prefix(kind: str, day: datetime) -> str:
    """Prefix of all artifacts of a kind whose windows start on a day (UTC)."""
    return f"{ARTIFACTS}/{kind}/date={day:%Y-%m-%d}/"


def latest_artifact(kind: str, extension: str) -> str:
    """The newest artifact of a kind: the same bytes as the newest window's `artifact`."""
    return f"{ARTIFACTS}/latest/{kind}.{extension}"


HOT = "hot/"
_HOT_BATCH = re.compile(r"hot/(?P<ms>[0-9]{13})-[0-9a-f]{8}-[0-9]{6}-(?P<mark>[nq])")


def hot_batch(written_ms: int, writer: str, number: int, *, notable: bool) -> str:
    """A batch of the follower `writer` (8 hex digits): flat and of one width, so that names sort as times do."""
    return f"{hot_since(written_ms)}-{writer}-{number % 1_000_000:06d}-{'n' if notable else 'q'}"


def hot_since(written_ms: int) -> str:
    """What is less than the key of any batch of `written_ms` (UTC, ms since the epoch) or later, and of no earlier."""
    return f"{HOT}{written_ms:013d}"


def hot_cursor() -> str:
    """How far the hot batches were looked at."""
    return "control/alerts/hot_cursor.json"


def hot_facts(key: str) -> tuple[int, bool] | None:
    """Return when a batch was written, in ms since the epoch, and whether it is notable; None for a key of no batch."""
    found = _HOT_BATCH.fullmatch(key)
    return (int(found["ms"]), found["mark"] == "n") if found else None


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """What a key tells of its object.

    `kind` is its first folders, e.g. `raw/probe`, `tables/pair_latency`, `artifacts/heatmap`, `control/pinglist`;
    `start` where its window begins (of a hot batch: when it was written), None for a plan; `server` whose log it is, of
    raw logs.
    """

    kind: str
    start: datetime | None
    server: str = ""


#: Where everything is that `facts` knows; plans last.
AGING = ("raw/", "quarantine/", "tables/", f"{ARTIFACTS}/", HOT, f"{PLANS}/")


def kind_of_table(table: str) -> str:
    """The kind (`KeyFacts`) of a table's parts."""
    return f"tables/{table}"


def kind_of_artifact(name: str) -> str:
    """The kind (`KeyFacts`) of an artifact."""
    return f"{ARTIFACTS}/{name}"


_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
_TIME = r"date=(?P<date>\d{4}-\d\d-\d\d)/hour=(?P<hour>\d\d)/(?P<window>\d{8}T\d{6}Z)"
_FORMS = [
    re.compile(form, re.ASCII)
    for form in (
        rf"(?P<kind>(raw|quarantine)/probe)/{_TIME}/{_NAME}\.pms",
        rf"(?P<kind>raw/(access|errors))/server=(?P<server>{_NAME})/{_TIME}\.log\.zst",
        rf"(?P<kind>quarantine/[a-z_]+)/{_TIME}\.{_NAME}\.ndjson",
        rf"(?P<kind>tables/[a-z_]+)/{_TIME}\.({_NAME}\.)?parquet",
        rf"(?P<kind>{ARTIFACTS}/[a-z_]+)/{_TIME}\.[a-z]+",
        rf"(?P<kind>{PLANS})/[0-9a-f]{{16}}\.json",
    )
]


def facts(key: str) -> KeyFacts | None:
    """Return what a key tells that one of the functions above made; None for any other key.

    None too, on purpose, for what belongs to no window and no plan: cursors, the alarm's memory, `latest`.
    """
    if hot := hot_facts(key):
        return KeyFacts(HOT.rstrip("/"), datetime.fromtimestamp(hot[0] / 1000, UTC))
    found = next((found for form in _FORMS if (found := form.fullmatch(key))), None)
    if found is None:
        return None
    told = found.groupdict()
    if "window" not in told:
        return KeyFacts(told["kind"], None)
    try:
        window = Window.parse(told["window"], 60)
    except ConfigError:
        return None
    agrees = _partition(window) == f"date={told['date']}/hour={told['hour']}"
    return KeyFacts(told["kind"], window.start, told.get("server") or "") if agrees else None
