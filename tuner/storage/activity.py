"""Log of who changed what: newest entries of each study, and of those that were deleted.

It stands beside what it tells of and never in its way: an entry that cannot be written is left out, with a warning.
"""

import getpass
import logging
import os
import socket
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select
from sqlalchemy.exc import SQLAlchemyError

from tuner.errors import TunerError, shortened
from tuner.storage import optuna_schema, schema
from tuner.storage.base import StorageBase, own, same_name
from tuner.storage.engine import iso, seconds_now

logger = logging.getLogger(__name__)

KEPT = 2000
"""Entries of each study; older ones are dropped."""
RETRY_TIMEOUT_S = 5.0
"""So long an entry is tried again when the storage does not answer."""
_MAX_ACTOR = 100
_MAX_DETAIL = 500

_activity = schema.activity
_studies = schema.studies


class Activity(StorageBase):
    """The part of the store that knows who did what."""

    def record(self, study: str, action: str, *, actor: str, detail: str = "") -> None:
        """Add an entry, after what it tells of was done. Raises nothing: what failed is left out of the log."""
        entry = {
            "actor": _line(actor)[:_MAX_ACTOR] or "unknown",
            "study": _line(study)[:100],
            "action": action[:32],
            "detail": shortened(_line(detail), _MAX_DETAIL),
        }

        def add(connection: Connection) -> None:
            study_id = connection.scalar(
                select(_studies.c.study_id).join(optuna_schema.studies, own & same_name).where(_studies.c.name == study)
            )
            connection.execute(insert(_activity).values(at=seconds_now(), study_id=study_id, **entry))
            same = _activity.c.study_id.is_(None) if study_id is None else _activity.c.study_id == study_id
            oldest = select(_activity.c.id).where(same).order_by(_activity.c.id.desc()).offset(KEPT).limit(1)
            connection.execute(delete(_activity).where(same, _activity.c.id <= oldest.scalar_subquery()))

        try:
            self._database.write(add, retry_timeout_s=RETRY_TIMEOUT_S)
        except (TunerError, SQLAlchemyError) as error:
            logger.warning("%s of %s by %s is missing in the log of activity: %s", action, study, actor, error)

    def page(self, name: str | None = None, *, limit: int | None = None, offset: int = 0) -> dict[str, Any]:
        """Return `{"items", "total"}`, newest first: of one study, or of all and of those that were deleted.

        An item is `{"at", "actor", "study", "action", "detail"}`. Raises NotFoundError for an unknown study.
        """

        def read(connection: Connection) -> dict[str, Any]:
            query, count = select(_activity), select(func.count()).select_from(_activity)
            if name is not None:
                same = _activity.c.study_id == self._find(connection, name).study_id
                query, count = query.where(same), count.where(same)
            rows = connection.execute(query.order_by(_activity.c.id.desc()).limit(limit).offset(offset))
            return {
                "items": [
                    {
                        "at": iso(row.at),
                        "actor": row.actor,
                        "study": row.study,
                        "action": row.action,
                        "detail": row.detail,
                    }
                    for row in rows
                ],
                "total": connection.scalar(count) or 0,
            }

        return self._database.read(read)

    def newest(self, name: str | None = None) -> int:
        """Return the number of the newest entry, of one study or of all; 0 without any. For ETags."""

        def read(connection: Connection) -> int:
            query = select(func.max(_activity.c.id))
            if name is not None:
                query = query.where(_activity.c.study_id == self._find(connection, name).study_id)
            return connection.scalar(query) or 0

        return self._database.read(read)


def numbered(numbers: Sequence[int]) -> str:
    """Name trials in one line, as details of an entry."""
    once = list(dict.fromkeys(numbers))
    shown = ", ".join(map(str, once[:20]))
    more = f" and {len(once) - 20} more" if len(once) > 20 else ""
    return f"trial{'s' * (len(once) != 1)} {shown}{more}"


def local_actor(kind: str) -> str:
    """Return who writes on this machine, by which kind of program: `cli:ada@node1`."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a user without a name
        user = str(os.getuid())
    return f"{kind}:{user}@{socket.gethostname()}"


def _line(text: str) -> str:
    """Return a text as one line that every database keeps."""
    return "".join(letter if letter.isprintable() else " " for letter in text).strip()
