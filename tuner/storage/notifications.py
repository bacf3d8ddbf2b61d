"""Claims of notifications: each event is sent by one process, and by another when that one died meanwhile."""

from typing import Literal

from sqlalchemy import Connection, func, select, update

from tuner.storage import schema
from tuner.storage.base import StorageBase, insert_or_ignore
from tuner.storage.engine import seconds_now

_attempts, _notices = schema.attempts, schema.notices

CLAIM_TIMEOUT_S = 120.0
"""Whoever has taken a notice has so long to send it, then another one may."""

ClaimedNotification = Literal["yours", "others", "sent"]


class Notifications(StorageBase):
    """The part of the store that knows what was announced."""

    def claim(self, study_id: int, event: str, subject: str) -> ClaimedNotification:
        """Take the announcement of an event: `yours`, or `others` have it, or it was `sent` already.

        `subject` tells one event of a kind from the next. A compare-and-set: of all who ask at once one gets it.
        """
        mine = (_notices.c.study_id == study_id, _notices.c.event == event, _notices.c.subject == subject)

        def take(connection: Connection) -> ClaimedNotification:
            new = insert_or_ignore(connection.dialect.name, _notices)
            row = {"study_id": study_id, "event": event, "subject": subject, "taken_at": seconds_now()}
            if connection.execute(new.values(**row).returning(_notices.c.event)).one_or_none() is not None:
                return "yours"
            stale = _notices.c.taken_at < seconds_now() - CLAIM_TIMEOUT_S
            again = update(_notices).where(*mine, _notices.c.sent_at.is_(None), stale).values(taken_at=seconds_now())
            if connection.execute(again).rowcount == 1:
                return "yours"
            sent = connection.scalar(select(_notices.c.sent_at).where(*mine))
            return "others" if sent is None else "sent"

        return self._database.write(take)

    def sent(self, study_id: int, event: str, subject: str) -> None:
        """Say that a notice was delivered (or that nobody shall try again)."""
        mine = (_notices.c.study_id == study_id, _notices.c.event == event, _notices.c.subject == subject)
        self._database.single(
            lambda connection: connection.execute(update(_notices).where(*mine).values(sent_at=seconds_now()))
        )

    def claims(self, study_id: int) -> int:
        """Count the claims of a study so far: it grows whenever work goes on."""
        query = select(func.count()).where(_attempts.c.study_id == study_id, _attempts.c.claimed_at.is_not(None))
        return self._database.read(lambda connection: connection.scalar(query)) or 0
