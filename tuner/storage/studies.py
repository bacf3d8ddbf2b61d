"""Studies: created whole or not at all; budget, pause, stop, resume, enqueue, delete."""

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from sqlalchemy import Connection, delete, exists, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from tuner.errors import ConflictError, Problem, SpecError
from tuner.registry import Scalar
from tuner.storage import optuna_schema, schema
from tuner.storage.base import StorageBase, bump_revision, insert_rows, to_record
from tuner.storage.engine import seconds_now
from tuner.storage.loss_time import limit_s
from tuner.storage.optuna_schema import attribute_rows
from tuner.storage.records import NewStudy, StudyRecord, read_space
from tuner.storage.states import DesiredState, State
from tuner.storage.trials import (
    ENQUEUED,
    QueueSlot,
    StudyQueue,
    append,
    fill_up,
    is_filled,
    next_slot,
    requeue,
    store_fixed_params,
)

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_KEEP = object()
AUTO = "auto"


def _no_name(name: str) -> str:
    return f"{name!r} is no name of a study: 1 to 80 letters, digits and ._-, the first a letter or digit"


class Studies(StorageBase):
    """The part of the store that knows studies."""

    def create(self, study: NewStudy) -> StudyRecord:
        """Store a study with its whole budget as waiting trials. Raises ConflictError when the name is taken."""
        if not NAME.fullmatch(study.name):
            raise SpecError([Problem("name", _no_name(study.name), study.name)])
        identity = uuid.uuid4().hex

        def create(connection: Connection) -> None:
            _forget_orphans(connection)
            if _is_taken(connection, study.name, identity):
                return
            study_id = insert_study(connection, study, identity)
            places = [
                QueueSlot(slot, params, is_filled(study.space, params)) for slot, params in enumerate(study.queue)
            ]
            append(connection, StudyQueue(study_id, study.space, _fixed_loss(study)), places)

        try:
            self._database.write(create)
        except IntegrityError as error:
            raise _taken(study.name) from error
        return self.get(study.name)

    def get(self, name: str) -> StudyRecord:
        """Return a stored study. Raises NotFoundError; ConflictError for a foreign Optuna study."""
        return self._database.read(lambda connection: to_record(self._find(connection, name)))

    def folder_mark(self, name: str) -> str | None:
        """Return the identity that the folder of a study's files is marked with.

        None for what may have any folder: studies of older versions, of other programs, and those that are not there.
        """
        ours = schema.studies.c
        query = select(ours.identity).where(ours.name == name, ours.marks_folder)
        found: str | None = self._database.read(lambda connection: connection.scalar(query))
        return found

    def delete(self, name: str) -> None:
        """Delete a study, its trials and its confirmations. Raises ConflictError while a worker is alive for it."""

        def remove(connection: Connection) -> None:
            row = self._find(connection, name)
            bump_revision(connection, row.study_id)
            family = [row.study_id, *_confirmations_of(connection, row.identity)]
            self._refuse_alive(connection, row, family, "delete it")
            for study_id in family:
                _delete(connection, study_id)

        self._database.write(remove)

    def rename(self, name: str, new: str) -> None:
        """Give a study and its confirmations another name, here and for Optuna; its files are not moved.

        Raises:
            SpecError: `new` is no name of a study.
            ConflictError: There is a study of that name, or workers serve this one, or may at any moment.
        """
        if not NAME.fullmatch(new):
            raise SpecError([Problem("name", _no_name(new), new)])
        identities: list[str] = []

        def change(connection: Connection) -> None:
            ours, theirs = schema.studies, optuna_schema.studies
            if identities:  # that commit may have gone through, only its answer was lost
                there = connection.scalar(select(ours.c.name).where(ours.c.identity == identities[0]))
                if there == new:
                    return
            row = self._lock(connection, name, archived=True)
            identities[:] = [row.identity]
            if connection.scalar(select(theirs.c.study_id).where(theirs.c.study_name == new)) is not None:
                raise ConflictError(f"there is a study {new!r} already.", hint="Choose another name.")
            family = [row.study_id, *_confirmations_of(connection, row.identity)]
            self._refuse_at_work(connection, row, family)
            for study_id in family:
                old = connection.execute(select(ours.c.name, ours.c.spec).where(ours.c.study_id == study_id)).one()
                own_name = new + old.name.removeprefix(name)
                spec = {**old.spec, "name": own_name} if old.spec.get("name") == old.name else old.spec
                bump_revision(connection, study_id, name=own_name, spec=spec)
                connection.execute(update(theirs).where(theirs.c.study_id == study_id).values(study_name=own_name))
                workers = schema.workers
                connection.execute(
                    update(workers).where(workers.c.aside_study_id == study_id).values(aside_study=own_name)
                )

        self._database.write(change)

    def archive(self, name: str, *, archived: bool = True) -> None:
        """Take a study out of lists and of use, or take it back.

        One that is archived keeps all it has and is read as before; nothing of it is begun or queued. Raises
        ConflictError for one that is not done, stopped or paused.
        """

        def change(connection: Connection) -> None:
            set_archived(connection, self._lock(connection, name, archived=True), archived=archived)

        self._database.write(change)

    def raise_budget(self, name: str, total: int, queue: Sequence[Mapping[str, Scalar]] = ()) -> int:
        """Raise the number of trials to `total`; `queue` are the parameters of the first new ones, the rest is empty.

        Several callers at once end at the largest total. Returns the total that holds afterwards. Raises ConflictError
        for a study whose budget is a training time.
        """

        def grow(connection: Connection) -> int:
            row = self._lock(connection, name)
            if limit_s(row) is not None:
                raise ConflictError(
                    f"the budget of study {name!r} is a training time for each loss, no number of trials.",
                    hint=f"`tuner resume {name} --set budget.hours_per_loss=HOURS` raises it.",
                )
            missing = total - row.total
            if missing <= 0:
                return int(row.total)
            ground = StudyQueue(row.study_id, read_space(row.space), row.loss)
            tail = [dict(params) for params in queue][:missing]
            tail += [{} for _ in range(missing - len(tail))]
            first = next_slot(connection, row.study_id)
            places = [QueueSlot(first + i, params, is_filled(ground.space, params)) for i, params in enumerate(tail)]
            append(connection, ground, places)
            bump_revision(connection, row.study_id, total=total)
            return total

        return self._database.write(grow)

    def change_loss_time(self, name: str, limits: Mapping[str, Any]) -> None:
        """Give every loss more training time; `limits` are the changed keys of `budget`."""

        def change(connection: Connection) -> None:
            row = self._lock(connection, name)
            budget = {**(row.spec.get("budget") or {}), **limits}
            bump_revision(connection, row.study_id, spec={**row.spec, "budget": budget})
            fill_up(connection, row.study_id)

        self._database.write(change)

    def enqueue(self, name: str, params: Mapping[str, Scalar]) -> int:
        """Try these parameters next: they take the place of one empty waiting trial, else the total grows by one.

        Returns the number of the trial. Raises SpecError when the parameters do not fit the study's space.
        """
        (number,) = self.enqueue_all(name, [params])
        assert number is not None
        return number

    def enqueue_all(
        self, name: str, points: Sequence[Mapping[str, Scalar]], *, skip_existing: bool = False
    ) -> list[int | None]:
        """Enqueue several points, all or none of them; return the number of the trial of each.

        With `skip_existing`, a point that a trial of the study has already, or an earlier one of these, is passed over:
        None. Raises SpecError when one does not fit the study's space.
        """
        token = uuid.uuid4().hex[:24]

        def put(connection: Connection) -> list[int | None]:
            row = self._lock(connection, name)
            space = read_space(row.space)
            ground = StudyQueue(row.study_id, space, row.loss)
            problems = [
                p.below("params") if len(points) == 1 else replace(p, path=f"point {i}: {p.path}")
                for i, params in enumerate(points, start=1)
                for p in space.problems(params)
            ]
            if problems:
                raise SpecError(problems)
            told = select(schema.attempts.c.enqueue_token, schema.attempts.c.number).where(
                schema.attempts.c.study_id == row.study_id, schema.attempts.c.enqueue_token.startswith(token)
            )
            done = {found.enqueue_token: found.number for found in connection.execute(told)}
            if done:  # that commit went through, only its answer was lost
                return [done.get(f"{token}{i:08x}") for i in range(len(points))]
            known = _known_points(connection, row.study_id) if skip_existing else set()
            numbers: list[int | None] = []
            for i, params in enumerate(points):
                key = _exact(params)
                numbers.append(None if key in known else _enqueue(connection, ground, params, f"{token}{i:08x}"))
                if skip_existing:
                    known.add(key)
            return numbers

        return self._database.write(put)

    def pause(self, name: str, reason: str = "user") -> None:
        """Let running trials finish and start nothing new."""
        self._want(name, DesiredState.PAUSE, reason, None)

    def stop(self, name: str, reason: str = "user", message: str | None = None, *, now: bool = False) -> None:
        """Have running trials returned to the queue. `reason`: `user` or `failures`, `message` says more.

        With `now`, the process of a training that does not answer is ended.
        """
        self._want(name, DesiredState.STOP, reason, message, end_now=now)

    def resume(self, name: str, *, timeout_s: Any = _KEEP, resources: Mapping[str, Any] | None = None) -> None:
        """Take back a pause or stop.

        A `timeout_s` that is given (None: no limit) is a new allowance: the time spent counts from zero again.
        """
        changes: dict[str, Any] = {} if resources is None else {"resources": dict(resources)}
        if timeout_s is not _KEEP:
            changes |= {"timeout_s": timeout_s, "spent_s": 0.0}
        self._want(name, DesiredState.RUN, None, None, end_now=False, **changes)

    def add_resources(self, study_id: int, facts: Mapping[str, Any]) -> None:
        """Store what nobody knew of a study before its first worker; what is stored already stays.

        A study that is posted to the service has met no data yet.
        """
        columns = schema.studies.c

        def add(connection: Connection) -> None:
            bump_revision(connection, study_id)  # first, for it locks the row: of several workers one is the first
            stored = connection.scalar(select(columns.resources).where(columns.study_id == study_id))
            known = {key: value for key, value in (stored or {}).items() if value is not None}
            connection.execute(
                update(schema.studies).where(columns.study_id == study_id).values(resources={**facts, **known})
            )

        self._database.write(add)

    def retry(self, name: str, numbers: Sequence[int] | None = None) -> dict[int, int]:
        """Put failed trials back into the queue, with their parameters and checkpoints: these, or all there are.

        What `budget.retries` counts begins anew for them. Returns the number of the new attempt by the old one.

        Raises:
            ConflictError: One of `numbers` is no trial of the study, or has not failed, or was tried again already;
                then nothing is changed.
        """
        attempts, trials = schema.attempts, optuna_schema.trials
        tries = count()

        def put_back(connection: Connection) -> dict[int, int]:
            row = self._lock(connection, name)
            again = next(tries) > 0
            query = (
                select(attempts, trials.c.state)
                .join(trials, trials.c.trial_id == attempts.c.trial_id)
                .where(attempts.c.study_id == row.study_id)
                .order_by(attempts.c.number)
            )
            if numbers is None:
                query = query.where(trials.c.state == State.FAIL.value, attempts.c.successor.is_(None))
            else:
                query = query.where(attempts.c.number.in_(set(numbers)))
            found = list(connection.execute(query))
            if again and found and all(f.successor is not None for f in found):
                return {f.number: f.successor for f in found}  # that commit went through, only its answer was lost
            if numbers is not None:
                _check_failed(name, numbers, found)
            if found:
                bump_revision(connection, row.study_id)
            return {f.number: requeue(connection, f, alone=False, lost=0) for f in found}

        return self._database.write(put_back)

    def resolve_train(self, study_id: int, values: Mapping[str, Any]) -> None:
        """Store what a study leaves to its first worker (`train.threads`, `train.precision`), unless it is known.

        Then all its trials are trained alike, wherever.
        """
        columns = schema.studies.c

        def resolve(connection: Connection) -> None:
            bump_revision(connection, study_id)  # first, for it locks the row: of several workers one is the first
            spec = connection.scalar(select(columns.spec).where(columns.study_id == study_id))
            if spec is None:
                return
            train = dict(spec.get("train") or {})
            train |= {key: value for key, value in values.items() if train.get(key) in (None, AUTO)}
            connection.execute(
                update(schema.studies).where(columns.study_id == study_id).values(spec={**spec, "train": train})
            )

        self._database.write(resolve)

    def prune_manually(self, name: str, number: int, *, now: bool = False) -> None:
        """Have a running trial ended at its next report; with `now`, at its next step, else its process.

        Raises NotFoundError, ConflictError when it does not run.
        """

        def ask(connection: Connection) -> None:
            row = self._find(connection, name)
            attempts, trials = schema.attempts, optuna_schema.trials
            state = connection.scalar(
                select(trials.c.state).where(trials.c.study_id == row.study_id, trials.c.number == number)
            )
            if state != State.RUNNING:
                raise ConflictError(
                    f"trial {number} of study {name!r} "
                    + ("does not exist." if state is None else f"is {state}, not RUNNING."),
                    hint=f"`tuner trials {name}` lists them.",
                )
            bump_revision(connection, row.study_id)
            connection.execute(
                update(attempts)
                .where(attempts.c.study_id == row.study_id, attempts.c.number == number)
                .values(prune_requested=True, end_now=now)
            )

        self._database.write(ask)

    def _want(
        self,
        name: str,
        wanted: DesiredState,
        reason: str | None,
        message: str | None,
        *,
        end_now: bool | None = None,
        **changes: Any,
    ) -> None:
        def want(connection: Connection) -> None:
            row = self._find(connection, name)
            if wanted is DesiredState.RUN:
                refuse_archived(row)
            wish = {"wanted": wanted.value, "wanted_reason": reason, "message": message}
            bump_revision(connection, row.study_id, **wish, **changes)
            family = [row.study_id, *_confirmations_of(connection, row.identity)[-1:]]  # replaced ones stay stopped
            for study_id in family[1:]:
                bump_revision(connection, study_id, **wish)
            if end_now is not None:
                held = schema.attempts.c
                connection.execute(
                    update(schema.attempts)
                    .where(
                        held.study_id.in_(family),
                        held.claimed_at.is_not(None),
                        held.finished_at.is_(None),
                        ~held.prune_requested,
                        held.end_now.is_not(end_now),
                    )
                    .values(end_now=end_now)
                )

        self._database.write(want)

    def _lock(self, connection: Connection, name: str, *, archived: bool = False) -> Any:
        """Return a study's row, locked until the transaction ends, as it is now that no other writer holds it.

        Raises ConflictError for one that is archived, unless that is `archived`: allowed.
        """
        study_id = self._find(connection, name).study_id
        row = connection.execute(
            select(schema.studies).where(schema.studies.c.study_id == study_id).with_for_update()
        ).one()
        if not archived:
            refuse_archived(row)
        return row

    def _refuse_alive(self, connection: Connection, row: Any, family: Sequence[int], what: str) -> None:
        """Raise ConflictError while a worker is alive for a study or its confirmations."""
        held, workers = schema.attempts.c, schema.workers.c
        holders = select(held.worker_id).where(
            held.study_id.in_(family), held.claimed_at.is_not(None), held.finished_at.is_(None)
        )
        alive = connection.scalar(
            select(func.count()).where(
                (workers.study_id == row.study_id) | workers.worker_id.in_(holders),
                workers.left_at.is_(None),
                workers.seen_at > seconds_now() - self._context.heartbeat_timeout_s,
            )
        )
        if alive:
            raise ConflictError(
                f"study {row.name!r} runs ({alive} live worker{'s' * (alive != 1)}).",
                hint=f"`tuner stop {row.name}` first, then {what}.",
            )

    def _refuse_at_work(self, connection: Connection, row: Any, family: Sequence[int]) -> None:
        """Raise ConflictError while a worker is alive for a study, or one of `--any` may take a trial of it."""
        self._refuse_alive(connection, row, family, "rename it")
        held, workers = schema.attempts.c, schema.workers.c
        waits = select(func.count()).where(held.study_id.in_(family), held.claimed_at.is_(None))
        free = select(func.count()).where(
            workers.study_id.is_(None),
            workers.left_at.is_(None),
            workers.seen_at > seconds_now() - self._context.heartbeat_timeout_s,
        )
        if row.wanted == DesiredState.RUN.value and connection.scalar(waits) and connection.scalar(free):
            raise ConflictError(
                f"study {row.name!r} has trials that workers of `--any` may take at any moment.",
                hint=f"`tuner stop {row.name}` first; `tuner resume` goes on with it under its new name.",
            )


def set_archived(connection: Connection, row: Any, *, archived: bool) -> None:
    """Archive a study with its confirmations, or take them back. Its row must be locked. Raises as `archive`."""
    if row.archived == archived:
        return
    family = [row.study_id, *_confirmations_of(connection, row.identity)]
    if archived and row.wanted == DesiredState.RUN.value:
        attempts = schema.attempts.c
        left = select(func.count()).where(attempts.study_id.in_(family), attempts.finished_at.is_(None))
        if connection.scalar(left):
            raise ConflictError(
                f"study {row.name!r} has trials left to train.", hint=f"`tuner stop {row.name}` first, then archive it."
            )
    for study_id in family:
        bump_revision(connection, study_id, archived=archived)


def refuse_archived(row: Any) -> None:
    """Raise ConflictError for a study that is archived: nothing of it is begun or queued. `row`: or its record."""
    if row.archived:
        raise ConflictError(
            f"study {row.name!r} is archived.", hint=f"`tuner archive {row.name} --undo` takes it back."
        )


def _enqueue(connection: Connection, ground: StudyQueue, params: Mapping[str, Scalar], token: str) -> int:
    place = QueueSlot(0, params, is_filled(ground.space, params), ENQUEUED, token)
    number = _take_empty(connection, ground, place)
    if number is None:
        place = QueueSlot(next_slot(connection, ground.study_id), params, place.filled, ENQUEUED, token)
        number = append(connection, ground, [place])[0]
        bump_revision(connection, ground.study_id, total=schema.studies.c.total + 1)
    else:
        bump_revision(connection, ground.study_id)
    return number


def _exact(params: Mapping[str, Scalar]) -> frozenset[tuple[str, str, Scalar]]:
    """Return what tells parameters apart; True, 1 and 1.0 are three values, but numbers of an interval are one."""
    return frozenset((k, "number" if type(v) in (int, float) else type(v).__name__, v) for k, v in params.items())


def _known_points(connection: Connection, study_id: int) -> set[frozenset[tuple[str, str, Scalar]]]:
    attempts = schema.attempts.c
    query = select(attempts.params).where(
        attempts.study_id == study_id, attempts.successor.is_(None), ~attempts.empty | attempts.filled
    )
    return {_exact(params) for params in connection.scalars(query)}


def _check_failed(name: str, numbers: Sequence[int], found: Sequence[Any]) -> None:
    known = {row.number: row for row in found}
    problems = []
    for number in dict.fromkeys(numbers):
        row = known.get(number)
        if row is None:
            problems.append(f"trial {number} does not exist")
        elif row.successor is not None:
            problems.append(f"trial {number} was tried again already, as trial {row.successor}")
        elif row.state != State.FAIL.value:
            problems.append(f"trial {number} is {row.state}, not FAIL")
    if problems:
        raise ConflictError(
            f"study {name!r}: {'; '.join(problems)}.",
            hint=f"`tuner trials {name}` lists them; `tuner retry {name} --failed` takes all that failed.",
        )


def _fixed_loss(study: NewStudy) -> str | None:
    """Return the loss of a study that does not search it."""
    loss = None if study.space.find("loss") else study.spec.get("loss")
    if isinstance(loss, Mapping):
        loss = loss.get("name")
    return loss if isinstance(loss, str) else None


def insert_study(connection: Connection, study: NewStudy, identity: str, *, parent: str | None = None) -> int:
    """Write the rows of a study without its trials; return its id."""
    theirs = optuna_schema.studies
    study_id: int = connection.scalars(insert(theirs).values(study_name=study.name).returning(theirs.c.study_id)).one()
    insert_rows(
        connection,
        optuna_schema.study_directions,
        [
            {"study_id": study_id, "objective": i, "direction": direction.upper()}
            for i, direction in enumerate(study.directions)
        ],
    )
    names = {"study_id": study_id, "key": "study:metric_names"}
    names["value_json"] = attribute_rows(0, {"": [o["metric"] for o in study.objectives]})[0]["value_json"]
    insert_rows(connection, optuna_schema.study_system_attributes, [names])
    now = seconds_now()
    connection.execute(
        insert(schema.studies).values(
            study_id=study_id,
            name=study.name,
            identity=identity,
            parent=parent,
            marks_folder=True,
            spec=dict(study.spec),
            space=[d.as_dict() for d in study.space],
            objectives=[dict(o) for o in study.objectives],
            resources=dict(study.resources),
            seed=study.seed,
            loss=_fixed_loss(study),
            total=len(study.queue),
            retries=study.retries,
            timeout_s=study.timeout_s,
            spent_s=0.0,
            spent_at=now,
            alive_since=now,
            wanted=DesiredState.RUN.value,
            finished=0,
            revision=0,
            version=study.version,
            created_at=now,
        )
    )
    return study_id


def _is_taken(connection: Connection, name: str, identity: str) -> bool:
    """Tell whether this very study is there already: its commit had gone through, only the answer was lost."""
    theirs = optuna_schema.studies.c
    if connection.scalar(select(theirs.study_id).where(theirs.study_name == name)) is None:
        return False
    ours = schema.studies.c
    if connection.scalar(select(ours.identity).where(ours.name == name)) == identity:
        return True
    raise _taken(name)


def _taken(name: str) -> ConflictError:
    return ConflictError(
        f"there is a study {name!r} already.",
        hint=f"Choose another name, or `tuner resume {name}`, or `tuner delete {name}`.",
    )


def _take_empty(connection: Connection, ground: StudyQueue, place: QueueSlot) -> int | None:
    """Give the first empty waiting trial these parameters; None when there is none."""
    attempts, trials = schema.attempts, optuna_schema.trials
    row = connection.execute(
        select(attempts.c.trial_id, attempts.c.number)
        .join(trials, trials.c.trial_id == attempts.c.trial_id)
        .where(
            attempts.c.study_id == ground.study_id,
            attempts.c.claimed_at.is_(None),
            attempts.c.attempt == 1,
            attempts.c.empty,
            trials.c.state == State.WAITING.value,
        )
        .order_by(attempts.c.slot)
        .limit(1)
        .with_for_update(of=trials, skip_locked=True)
    ).one_or_none()
    if row is None:
        return None
    connection.execute(
        update(attempts)
        .where(attempts.c.trial_id == row.trial_id)
        .values(
            params=dict(place.params),
            empty=False,
            filled=place.filled,
            branch=place.params.get("loss", ground.loss),
            urgency=place.urgency,
            enqueue_token=place.enqueue_token,
        )
    )
    store_fixed_params(connection, ground.space, [(row.trial_id, place)])
    return int(row.number)


OF_STUDY = (
    schema.activity,
    schema.tags,
    schema.annotations,
    schema.looks,
    schema.notices,
    schema.scores,
    schema.epochs,
    schema.attempts,
    schema.studies,
)
"""Our tables with what belongs to a study, in the order in which rows may be deleted."""


def _confirmations_of(connection: Connection, identity: str) -> list[int]:
    """Return the ids of the confirmations of a study, the newest one last."""
    ours = schema.studies.c
    return list(connection.scalars(select(ours.study_id).where(ours.parent == identity).order_by(ours.study_id)))


def _delete(connection: Connection, study_id: int) -> None:
    for ours in OF_STUDY:
        connection.execute(delete(ours).where(ours.c.study_id == study_id))
    trials = optuna_schema.trials
    of_study = select(trials.c.trial_id).where(trials.c.study_id == study_id)
    for child in optuna_schema.TRIAL_CHILDREN:
        connection.execute(delete(child).where(child.c.trial_id.in_(of_study)))
    connection.execute(delete(trials).where(trials.c.study_id == study_id))
    for child in optuna_schema.STUDY_CHILDREN:
        connection.execute(delete(child).where(child.c.study_id == study_id))
    connection.execute(delete(optuna_schema.studies).where(optuna_schema.studies.c.study_id == study_id))


def _forget_orphans(connection: Connection) -> None:
    """Remove what belongs to studies that Optuna's own tools have deleted: SQLite gives their ids again."""
    ours, theirs = schema.studies, optuna_schema.studies
    there = exists().where(theirs.c.study_id == ours.c.study_id, theirs.c.study_name == ours.c.name)
    orphans = list(connection.scalars(select(ours.c.study_id).where(~there)))
    for table in OF_STUDY if orphans else ():
        connection.execute(delete(table).where(table.c.study_id.in_(orphans)))
    identities = select(ours.c.identity)
    for study_id in list(connection.scalars(select(ours.c.study_id).where(ours.c.parent.not_in(identities)))):
        _delete(connection, study_id)
