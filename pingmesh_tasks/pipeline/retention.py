"""What `retention` does to the bucket: find what is too old, and delete it unless it is a dry run.

The bucket is listed to plan, and again to delete, a thousand objects a request. It may be killed at any moment: the
next run finds what is left. Ping list plans, which tables need, are deleted last.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from pingmesh_tasks.errors import RetentionError
from pingmesh_tasks.settings import Settings
from pingmesh_tasks.store import expiry, layout
from pingmesh_tasks.store.objects import ObjectStore, StoredObject

log = logging.getLogger(__name__)
BATCH = 1000


def prune(
    store: ObjectStore, settings: Settings, *, dry_run: bool, max_share: float, now: datetime | None = None
) -> dict[str, Any]:
    """Delete what is too old, or only log it; return how many objects and bytes that is, in all and by kind.

    Args:
        max_share: Largest share (0…1) of a kind that may go at once.

    Raises:
        ConfigError: The settings name an age of an unknown kind.
        RetentionError: More than `max_share` of a kind is too old; all other kinds are deleted.
        StoreError: The object store refused.
    """
    ages = expiry.Ages(settings.keep_d, settings.hot_keep_h)
    plan = expiry.survey(_listing(store), ages, now or datetime.now(UTC), max_share)
    summary = _summary(plan)
    _log_plan(plan, summary, "would delete" if dry_run else "deletes", max_share)
    if dry_run:
        return summary | {"dry_run": True}
    deleted = _delete(store, plan)
    if plan.refused:
        raise RetentionError(
            f"more than {max_share:.0%} of {', '.join(plan.refused)} is too old and was left alone ({deleted} other "
            "objects are deleted); check PINGMESH_KEEP_D and the clock, then run again with a higher max_share"
        )
    return summary | {"dry_run": False, "deleted": deleted}


def _log_plan(plan: expiry.ExpiryPlan, summary: dict[str, Any], verb: str, max_share: float) -> None:
    for kind, pile in summary["kinds"].items():
        share = f"{pile['objects']} of {plan.all[kind].objects} objects"
        kept = f", refused: more than {max_share:.0%}" if kind in plan.refused else ""
        facts = (pile["bytes"], pile["oldest"], pile["newest"])
        log.info("%s: %s %s, %d bytes, %s to %s%s", kind, verb, share, *facts, kept)
    log.info("in all it %s %d objects, %d bytes", verb, summary["objects"], summary["bytes"])
    if plan.strangers:
        log.info("%d other objects of these folders do not age, or are not ours: left alone", plan.strangers)


def _listing(store: ObjectStore) -> Iterator[StoredObject]:
    for folder in layout.AGING:
        yield from store.walk(folder)


def _delete(store: ObjectStore, plan: expiry.ExpiryPlan) -> int:
    expired = (entry.key for entry in _listing(store) if plan.prunes(entry))
    count = 0
    while batch := list(islice(expired, BATCH)):
        store.delete_batch(batch)
        count += len(batch)
        log.info("%d deleted, the last %s", count, batch[-1])
    return count


def _summary(plan: expiry.ExpiryPlan) -> dict[str, Any]:
    """Return what is to be deleted, as a task returns it."""
    kinds = {
        kind: {
            "objects": pile.objects,
            "bytes": pile.size,
            "oldest": pile.oldest.isoformat() if pile.oldest else None,
            "newest": pile.newest.isoformat() if pile.newest else None,
        }
        for kind, pile in plan.old.items()
        if pile.objects
    }
    gone = [pile for kind, pile in plan.old.items() if kind not in plan.refused]
    return {
        "objects": sum(pile.objects for pile in gone),
        "bytes": sum(pile.size for pile in gone),
        "kinds": kinds,
        "refused": list(plan.refused),
    }
