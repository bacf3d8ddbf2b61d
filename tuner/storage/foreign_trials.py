"""What other programs add to our studies through Optuna's API: points to try, and trials that they have finished.

`study.enqueue_trial` leaves a waiting trial: it becomes a place of the budget. `study.add_trial` leaves a finished one:
it is listed as foreign and shown to the sampler, and is neither a place of the budget nor ever the best.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select, update

from tuner.registry import Scalar
from tuner.search.finished_trial import FinishedTrial
from tuner.storage import optuna_schema, schema
from tuner.storage.base import StorageBase, bump_revision, insert_rows
from tuner.storage.engine import seconds_now, utc_now
from tuner.storage.optuna_schema import attribute_rows, param_rows
from tuner.storage.records import PriorResult, read_space
from tuner.storage.states import Reason, State, constraints
from tuner.storage.trials import ENQUEUED, QueueSlot, StudyQueue, fresh_attempt, is_filled

_attempts, _studies, _trials = schema.attempts, schema.studies, optuna_schema.trials


PRIOR = "tuner:warm_start"
"""Study attribute that holds the results a study starts from."""


class ForeignTrials(StorageBase):
    """The part of the store that knows trials which another program has added to a study of ours."""

    def waiting(self, name: str) -> int:
        """Return how many points another program has enqueued that are no place of the budget yet."""

        def read(connection: Connection) -> int:
            study_id = self._find(connection, name).study_id
            return connection.scalar(select(func.count()).where(_theirs(study_id, State.WAITING))) or 0

        return self._database.read(read)

    def adopt(self, study_id: int) -> list[int]:
        """Make what another program has enqueued places of the budget, which grows; return the numbers of the trials.

        A point that does not lie in the study's space becomes a trial that has failed, and says why. One statement when
        there is nothing to do.
        """
        query = select(_trials.c.trial_id, _trials.c.number).where(_theirs(study_id, State.WAITING))
        if not self._database.single(lambda connection: connection.execute(query.limit(1)).all()):
            return []

        def take(connection: Connection) -> list[int]:
            lock = select(_studies).where(_studies.c.study_id == study_id).with_for_update()
            study = connection.execute(lock).one_or_none()
            if study is None:
                return []
            ground = StudyQueue(study_id, read_space(study.space), study.loss)
            newest = connection.scalar(select(func.max(_attempts.c.slot)).where(_attempts.c.study_id == study_id))
            slot = -1 if newest is None else newest
            taken = []
            for row in connection.execute(query.order_by(_trials.c.number)).all():
                slot += 1
                params = _fixed_params(connection, row.trial_id)
                _adopt(connection, ground, row.trial_id, row.number, slot, params)
                taken.append(row.number)
            if taken:
                bump_revision(connection, study_id, total=_studies.c.total + len(taken))
            return taken

        return self._database.write(take)

    def finished(self, study_id: int) -> list[FinishedTrial]:
        """Return the complete trials that another program has added, for the sampler."""
        return [
            FinishedTrial(row["number"], "COMPLETE", row["params"], tuple(row["values"]))
            for row in self._database.read(lambda connection: _rows(connection, study_id))
        ]

    def put_prior(self, study_id: int, results: Sequence[PriorResult]) -> bool:
        """Store the results that a study starts from, unless it has some already; tell whether they were stored."""
        text = json.dumps([[r.params, r.value, r.same_data] for r in results])
        attributes = optuna_schema.study_user_attributes

        def put(connection: Connection) -> bool:
            bump_revision(connection, study_id)  # first, for it locks the row
            found = select(attributes.c.key).where(attributes.c.study_id == study_id, attributes.c.key == PRIOR)
            if connection.execute(found).first() is not None:
                return False
            insert_rows(connection, attributes, [{"study_id": study_id, "key": PRIOR, "value_json": text}])
            return True

        return self._database.write(put)

    def prior(self, study_id: int) -> list[PriorResult]:
        """Return the results that a study starts from."""
        attributes = optuna_schema.study_user_attributes.c
        query = select(attributes.value_json).where(attributes.study_id == study_id, attributes.key == PRIOR)
        text = self._database.read(lambda connection: connection.scalar(query))
        return [PriorResult(*row) for row in json.loads(text)] if text else []

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Return the complete trials that another program has added, in the form of `trials`, with `foreign: true`."""
        return self._database.read(lambda connection: _rows(connection, self._find(connection, name).study_id))


def _theirs(study_id: int, state: State) -> ColumnElement[bool]:
    """Condition on Optuna's trials: of the study, in this state, and not made by us."""
    ours = select(_attempts.c.trial_id).where(_attempts.c.trial_id == _trials.c.trial_id)
    return (_trials.c.study_id == study_id) & (_trials.c.state == state.value) & ~ours.exists()


def _fixed_params(connection: Connection, trial_id: int) -> dict[str, Any]:
    attributes = optuna_schema.trial_system_attributes.c
    text = connection.scalar(
        select(attributes.value_json).where(attributes.trial_id == trial_id, attributes.key == "fixed_params")
    )
    found = json.loads(text) if text else {}
    return found if isinstance(found, dict) else {}


def _adopt(
    connection: Connection, ground: StudyQueue, trial_id: int, number: int, slot: int, params: Mapping[str, Scalar]
) -> None:
    problems = ground.space.problems(params)
    known = {} if problems else dict(params)
    place = QueueSlot(slot, known, is_filled(ground.space, known), ENQUEUED)
    row = fresh_attempt(ground, trial_id, number, place)
    if problems:
        message = "enqueued by another program, and no point of this study: " + "; ".join(map(str, problems))
        now = seconds_now()
        row |= {
            "claimed_at": now,
            "finished_at": now,
            "finished_revision": 0,
            "reason": Reason.ERROR.value,
            "message": message[:2000],
            "feasible": constraints(State.FAIL, Reason.ERROR),
        }
        connection.execute(
            update(_trials)
            .where(_trials.c.trial_id == trial_id)
            .values(state=State.FAIL.value, datetime_complete=utc_now())
        )
        told = attribute_rows(trial_id, {"reason": Reason.ERROR.value, "message": message[:2000]})
        insert_rows(connection, optuna_schema.trial_user_attributes, told)
    elif place.filled:
        insert_rows(connection, optuna_schema.trial_params, param_rows(trial_id, ground.space, known))
    connection.execute(schema.attempts.insert().values(**row))


def _rows(connection: Connection, study_id: int) -> list[dict[str, Any]]:
    found = connection.execute(
        select(_trials).where(_theirs(study_id, State.COMPLETE)).order_by(_trials.c.number)
    ).all()
    if not found:
        return []
    ids = [row.trial_id for row in found]
    params: dict[int, dict[str, Scalar]] = {trial_id: {} for trial_id in ids}
    values: dict[int, list[float]] = {trial_id: [] for trial_id in ids}
    stored, numbers = optuna_schema.trial_params.c, optuna_schema.trial_values.c
    told = select(stored.trial_id, stored.param_name, stored.param_value, stored.distribution_json)
    for trial_id, name, number, text in connection.execute(
        told.where(stored.trial_id.in_(ids)).order_by(stored.param_id)
    ):
        params[trial_id][name] = _external(text, number)
    results = select(numbers.trial_id, numbers.value).where(numbers.trial_id.in_(ids)).order_by(numbers.objective)
    for trial_id, value in connection.execute(results):
        values[trial_id].append(value)
    return [
        {
            "number": row.number,
            "state": State.COMPLETE.value,
            "value": values[row.trial_id][0],
            "values": values[row.trial_id],
            "params": params[row.trial_id],
            "loss": params[row.trial_id].get("loss"),
            "reason": None,
            "message": None,
            "retry_of": None,
            "attempts": 1,
            "epochs": 0,
            "last_value": None,
            "best_value": None,
            "best_epoch": None,
            "duration_s": None,
            "worker": None,
            "slot": None,
            "started": None,
            "finished": None,
            "foreign": True,
        }
        for row in found
        if values[row.trial_id] and None not in values[row.trial_id]
    ]


def _external(distribution_json: str, number: float) -> Scalar:
    from optuna.distributions import json_to_distribution

    found: Scalar = json_to_distribution(distribution_json).to_external_repr(number)
    return found
