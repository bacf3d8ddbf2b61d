"""Confirmations: studies that belong to another one and train its finalists again, and the looks at their runs.

A confirmation is stored as a study of its own, linked to the search by its identity: claims, retries, heartbeats and
files are those of any trial. Its queue is fixed: a place for each configuration, run and fold.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Select, delete, insert, select, update

from tuner.errors import NotFoundError
from tuner.search.space import SearchSpace
from tuner.storage import schema
from tuner.storage.base import CONFIRMATION, AnyRow, StorageBase, bump_revision, own, same_name, to_record
from tuner.storage.engine import seconds_now
from tuner.storage.optuna_schema import studies as optuna_studies
from tuner.storage.records import ConfirmationRun, Look, NewStudy, StudyRecord, read_space
from tuner.storage.states import DesiredState
from tuner.storage.studies import insert_study, refuse_archived
from tuner.storage.trials import QueueSlot, StudyQueue, append, next_slot

_studies = schema.studies
_looks = schema.looks


class Confirmations(StorageBase):
    """The part of the store that knows which study confirms which."""

    def find(self, name: str) -> StudyRecord | None:
        """Return the confirmation of a study, None when it has none. Raises NotFoundError for an unknown study."""

        def read(connection: Connection) -> StudyRecord | None:
            row = confirmation_of(connection, self._find(connection, name).identity)
            return None if row is None else to_record(row)

        return self._database.read(read)

    def looks(self, name: str) -> tuple[Look, ...]:
        """Return the looks at the confirmation of a study, in order; none when it has no confirmation."""

        def read(connection: Connection) -> tuple[Look, ...]:
            row = confirmation_of(connection, self._find(connection, name).identity)
            return () if row is None else _stored_looks(connection, row.study_id)

        return self._database.read(read)

    def names(self, name: str) -> list[str]:
        """Return the names of all confirmations of a study, the newest one last: those before it were replaced."""

        def read(connection: Connection) -> list[str]:
            rows = connection.execute(_confirmations_of(self._find(connection, name).identity))
            return [row.name for row in rows][::-1]

        return self._database.read(read)

    def create(
        self,
        name: str,
        study: NewStudy,
        runs: Sequence[ConfirmationRun],
        look: Look,
        *,
        replaces: str | None = None,
    ) -> StudyRecord:
        """Store the confirmation of a study with its runs and its first look, in one transaction.

        One that is there already is returned as it is, unless `replaces` is its identity: of several callers at once
        the first one is served. One that is replaced stays with its runs and files, and no run of it is begun any more.
        """
        identity = uuid.uuid4().hex

        def make(connection: Connection) -> StudyRecord:
            parent = self._lock(connection, name)
            found = confirmation_of(connection, parent.identity)
            if found is not None and found.identity != replaces:
                return to_record(found)
            bump_revision(connection, parent.study_id)
            whole = replace(study, name=_next_name(connection, parent), queue=[run.params for run in runs])
            if found is not None:
                wish = {"wanted": DesiredState.STOP.value, "wanted_reason": "user", "message": f"now {whole.name}"}
                bump_revision(connection, found.study_id, **wish)
            study_id = insert_study(connection, whole, identity, parent=parent.identity)
            _append(connection, study_id, study.space, runs)
            _write_look(connection, study_id, look)
            return to_record(_existing(connection, parent))

        return self._database.write(make)

    def add(
        self, name: str, runs: Sequence[ConfirmationRun], look: Look | None, changes: Mapping[str, Any] | None = None
    ) -> int:
        """Add those of these runs that the confirmation does not have, and plan a look; return how many were added.

        A look of the same number is replaced. `changes` are made to the section `confirmation` of what is stored. A
        pause or stop is taken back.
        """

        def grow(connection: Connection) -> int:
            parent = self._lock(connection, name)
            row = _existing(connection, parent)
            bump_revision(connection, row.study_id)  # locks it
            known = select(schema.attempts.c.params).where(
                schema.attempts.c.study_id == row.study_id, schema.attempts.c.attempt == 1
            )
            there = {ConfirmationRun.of(params) for params in connection.scalars(known)}
            missing = [run for run in dict.fromkeys(runs) if run not in there]
            spec = dict(row.spec) | {"confirmation": {**row.spec["confirmation"], **(changes or {})}}
            connection.execute(
                update(_studies)
                .where(_studies.c.study_id == row.study_id)
                .values(
                    total=len(there) + len(missing),
                    spec=spec,
                    wanted=DesiredState.RUN.value,
                    wanted_reason=None,
                    message=None,
                )
            )
            _append(connection, row.study_id, read_space(row.space), missing)
            if look is not None:
                _write_look(connection, row.study_id, look)
            return len(missing)

        return self._database.write(grow)

    def _lock(self, connection: Connection, name: str) -> AnyRow:
        study_id = self._find(connection, name).study_id
        row = connection.execute(select(_studies).where(_studies.c.study_id == study_id).with_for_update()).one()
        refuse_archived(row)
        return row


def confirmation_of(connection: Connection, identity: str) -> AnyRow | None:
    """Return the row of the newest confirmation of the study with that identity, None when it has none."""
    row: AnyRow | None = connection.execute(_confirmations_of(identity).limit(1)).one_or_none()
    return row


def _confirmations_of(identity: str) -> Select[Any]:
    """Return the query of all confirmations of a study, the newest one first."""
    found = select(_studies).join(optuna_studies, own & same_name).where(_studies.c.parent == identity)
    return found.order_by(_studies.c.study_id.desc())


def _next_name(connection: Connection, parent: AnyRow) -> str:
    there = len(connection.execute(_confirmations_of(parent.identity)).all())
    return f"{parent.name}{CONFIRMATION}" + (f"-{there + 1}" if there else "")


def _existing(connection: Connection, parent: AnyRow) -> AnyRow:
    row = confirmation_of(connection, parent.identity)
    if row is None:
        raise NotFoundError(f"study {parent.name!r} has no confirmation.", hint=f"`tuner confirm {parent.name}`")
    return row


def _append(connection: Connection, study_id: int, space: SearchSpace, runs: Sequence[ConfirmationRun]) -> None:
    first = next_slot(connection, study_id)
    places = [
        QueueSlot(first + place, run.params, filled=True, branch=run.configuration) for place, run in enumerate(runs)
    ]
    append(connection, StudyQueue(study_id, space, None), places)


def _stored_looks(connection: Connection, study_id: int) -> tuple[Look, ...]:
    rows = connection.execute(select(_looks).where(_looks.c.study_id == study_id).order_by(_looks.c.look))
    return tuple(Look(row.look, row.runs, row.level, tuple(row.configurations), row.pairs) for row in rows)


def _write_look(connection: Connection, study_id: int, look: Look) -> None:
    connection.execute(delete(_looks).where(_looks.c.study_id == study_id, _looks.c.look == look.look))
    connection.execute(
        insert(_looks).values(
            study_id=study_id,
            look=look.look,
            runs=look.runs,
            level=look.level,
            configurations=list(look.configurations),
            pairs=look.pairs,
            planned_at=seconds_now(),
        )
    )
