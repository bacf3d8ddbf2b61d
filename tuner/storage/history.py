"""What the sampler learns from: finished trials since last time, and what runs beside. Two statements."""

from sqlalchemy import Connection, select

from tuner.search.history import Observation
from tuner.storage import optuna_schema, schema
from tuner.storage.base import Room
from tuner.storage.records import History
from tuner.storage.rows import AnyRow
from tuner.storage.states import State

_attempts, _trials = schema.attempts, optuna_schema.trials
_COLUMNS = (
    _attempts.c.number,
    _attempts.c.params,
    _attempts.c.objective_values,
    _attempts.c.last_epoch,
    _attempts.c.last_value,
    _attempts.c.feasible,
    _attempts.c.finished_revision,
    _trials.c.state,
)


class Histories(Room):
    """The part of the store that samplers read."""

    def history(self, study_id: int, cursor: int = 0) -> History:
        """Return trials that finished since `cursor` (COMPLETE and PRUNED), those that run, and the next cursor.

        Finished trials come in the order in which they finished; none is ever missed or seen twice.
        """

        def read(connection: Connection) -> History:
            joined = select(*_COLUMNS).join(_trials, _trials.c.trial_id == _attempts.c.trial_id)
            running = connection.execute(
                joined.where(
                    _attempts.c.study_id == study_id,
                    _attempts.c.claimed_at.is_not(None),
                    _attempts.c.finished_at.is_(None),
                    _attempts.c.filled,
                    _trials.c.state == State.RUNNING.value,
                ).order_by(_attempts.c.number)
            ).all()
            finished = connection.execute(
                joined.where(
                    _attempts.c.study_id == study_id,
                    _attempts.c.finished_revision > cursor,
                    _trials.c.state.in_([State.COMPLETE.value, State.PRUNED.value]),
                ).order_by(_attempts.c.finished_revision)
            ).all()
            ended = {row.number for row in finished}
            return History(
                finished=[_observation(row) for row in finished],
                running=[_observation(row) for row in running if row.number not in ended],
                cursor=finished[-1].finished_revision if finished else cursor,
            )

        return self._database.single(read)


def _observation(row: AnyRow) -> Observation:
    feasible: dict[str, float] = row.feasible or {"memory": -1.0, "finite": -1.0}
    last = None
    blamed = any(value > 0 for value in feasible.values())
    if row.state == State.PRUNED and row.last_epoch is not None and not blamed:
        last = (row.last_epoch, row.last_value)
    values = row.objective_values if row.state == State.COMPLETE else None
    return Observation(
        number=row.number,
        state=row.state,
        params=row.params,
        values=None if values is None else tuple(values),
        last=last,
        feasible=feasible,
    )
