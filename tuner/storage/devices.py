"""Which workers share a device: that with the UUID of their GPU, or the one of their host with that name."""

from typing import Any

from sqlalchemy import ColumnElement, Select, func, select

from tuner.storage import schema

_attempts = schema.attempts


def place_of(host: str, device: str, gpu: str | None) -> str:
    """Identify a device: by the UUID of a GPU, which containers and jobs of one node call by one name, or by name."""
    return gpu or f"{host} {device}"


def place(workers: Any) -> ColumnElement[str]:
    """Return what `place_of` returns for rows of `tuner_workers`, or of an alias of it."""
    return func.coalesce(workers.c.gpu, workers.c.host + " " + workers.c.device)


def neighbours(worker_id: str) -> Select[Any]:
    """Select `worker_id`, `trial_id` and `alone` for the other workers on a worker's device that have not left.

    Trial and `alone` are those of what a worker holds, of whichever study, and NULL without.
    """
    me, other = schema.workers.alias(), schema.workers.alias()
    held = _attempts.alias()
    return (
        select(other.c.worker_id, other.c.seen_at, held.c.trial_id, held.c.alone)
        .join(me, place(me) == place(other))
        .outerjoin(
            held,
            (held.c.worker_id == other.c.worker_id) & held.c.claimed_at.is_not(None) & held.c.finished_at.is_(None),
        )
        .where(me.c.worker_id == worker_id, other.c.worker_id != worker_id, other.c.left_at.is_(None))
    )


def is_kept_free(worker_id: str) -> ColumnElement[bool]:
    """Condition: another worker on the same device holds a trial that must have it for itself."""
    rows = neighbours(worker_id).subquery()
    return select(rows.c.trial_id).where(rows.c.alone).exists()
