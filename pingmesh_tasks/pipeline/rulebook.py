"""The rules in force: the defaults, or what the file that `PINGMESH_RULES` names makes of them.

What starts a hot evaluation at once follows from them: a batch that has half of what a rule allows is notable.
"""

from __future__ import annotations

from pathlib import Path

from pingmesh_tasks.detect.rules import DEFAULT_RULES, RuleBook
from pingmesh_tasks.errors import ConfigError, StoreError
from pingmesh_tasks.fleet.notable import NotableLimits
from pingmesh_tasks.settings import Settings
from pingmesh_tasks.store.objects import ObjectStore


def read_rules(settings: Settings, store: ObjectStore) -> RuleBook:
    """Return the rule book at the path or `s3://` URI of the settings. Raises ConfigError with every fault in it."""
    location = settings.rules
    if location is None:
        return DEFAULT_RULES
    from pingmesh_tasks.detect.rules_file import load_rules  # its models take 0.1 s to build

    try:
        is_uri = location.startswith("s3://")
        data = store.read_uri(location) if is_uri else Path(location).expanduser().read_bytes()
        return load_rules(data.decode(), location)
    except (OSError, UnicodeDecodeError, StoreError) as error:
        raise ConfigError(f"PINGMESH_RULES={location!r} cannot be read: {error}") from None


def notable_limits(settings: Settings, store: ObjectStore) -> NotableLimits:
    """Return when a hot batch is notable, by the rules in force. Raises ConfigError."""
    return half_of(read_rules(settings, store))


def half_of(rules: RuleBook) -> NotableLimits:
    """Return half of the lowest limits of `rules`, of the rules that bytes and counts of lines can tell.

    Of a burst it is three quarters: a run begins a second or two after what started it, and one that evaluates too
    early delays the next.
    """

    def half(rule: str, limit: str) -> int:
        return max(1, round(rules.lowest(rule, limit) / 2))

    def most(rule: str, limit: str) -> int:
        return max(1, round(rules.lowest(rule, limit) * 0.75))

    return NotableLimits(
        same_read_of_pid=half("heavy_reads", "process_per_min"),
        same_read_of_pid_burst=most("heavy_reads", "process_burst"),
        same_read=half("heavy_reads", "server_per_min"),
        same_read_burst=most("heavy_reads", "server_burst"),
        lines_of_pid=half("user_rate", "operations_per_min"),
        connects_of_client=half("connect_rate", "user_per_min"),
        connects=half("connect_rate", "server_per_min"),
        rejected=half("rejected_lines", "per_min"),
        denied=half("refused_clients", "user_per_min"),
        silent_after_s=half("log_silent", "least_s"),
    )
