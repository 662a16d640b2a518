"""What `retention` does to the bucket: say what is too old, and delete it where it may.

The listing is read to plan, and again to delete, a thousand objects a request. It may be killed at any moment: what it
left is found by the next run, and plans, which tables need, go last.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from pingmesh_tasks.settings import Settings
from pingmesh_tasks.store import expiry, layout
from pingmesh_tasks.store.objects import Entry, ObjectStore

log = logging.getLogger(__name__)
BATCH = 1000


class TooMuch(Exception):
    """More of some kinds would go at once than is allowed; they were left alone. The message names them."""


def prune(
    store: ObjectStore, settings: Settings, *, dry_run: bool, max_share: float, now: datetime | None = None
) -> dict[str, Any]:
    """Delete what is too old, or only say it; return, in all and by kind, how many objects and bytes that is.

    Raises TooMuch, after all else is deleted, if more than `max_share` (0…1) of a kind would go. `ConfigError` names
    an age of a kind that there is not.
    """
    ages = expiry.Ages(settings.keep_d, settings.hot_keep_h)
    plan = expiry.survey(_listing(store), ages, now or datetime.now(UTC), max_share)
    told = _told(plan)
    verb = "would delete" if dry_run else "deletes"
    for kind, pile in told["kinds"].items():
        share = f"{pile['objects']} of {plan.all[kind].objects} objects"
        kept = f", refused: more than {max_share:.0%}" if kind in plan.refused else ""
        log.info("%s: %s %s, %d bytes, %s to %s%s", kind, verb, share, *list(pile.values())[1:], kept)
    log.info("in all it %s %d objects, %d bytes", verb, told["objects"], told["bytes"])
    if plan.strangers:
        log.info("%d other objects of these folders do not age, or are not ours: left alone", plan.strangers)
    if dry_run:
        return told | {"dry_run": True}
    deleted = _delete(store, plan)
    if plan.refused:
        raise TooMuch(
            f"more than {max_share:.0%} of {', '.join(plan.refused)} is too old and was left alone ({deleted} other "
            "objects are deleted): is PINGMESH_KEEP_D right, and the clock? If so, run with a higher max_share"
        )
    return told | {"dry_run": False, "deleted": deleted}


def _listing(store: ObjectStore) -> Iterator[Entry]:
    for folder in layout.AGING:
        yield from store.walk(folder)


def _delete(store: ObjectStore, plan: expiry.Plan) -> int:
    doomed = (entry.key for entry in _listing(store) if plan.prunes(entry))
    count = 0
    while batch := list(islice(doomed, BATCH)):
        store.delete_batch(batch)
        count += len(batch)
        log.info("%d deleted, the last %s", count, batch[-1])
    return count


def _told(plan: expiry.Plan) -> dict[str, Any]:
    """Return what goes, as a task returns it."""
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
