"""The rules in force: the defaults, or what the file that `PINGMESH_RULES` names makes of them."""

from __future__ import annotations

from pathlib import Path

from pingmesh_tasks.detect.rules import DEFAULT_RULES, RuleBook
from pingmesh_tasks.errors import ConfigError, StoreError
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
