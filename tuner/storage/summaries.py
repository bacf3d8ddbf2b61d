"""What follows from the attempts of a study and changes only with its revision: counted once for each."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, select, true

from tuner.storage import schema
from tuner.storage.base import Room
from tuner.storage.counting import Tally, counts_of, tallies
from tuner.storage.fronts import front_of
from tuner.storage.newest import Newest
from tuner.storage.rows import AnyRow

_attempts = schema.attempts


@dataclass(frozen=True, slots=True)
class Summary:
    """A study in short; nobody may change what it holds."""

    tallies: list[Tally]
    counts: dict[str, int]
    """The newest attempts by state, in the words of the contract."""
    started: bool
    best: dict[str, Any] | None
    """The best complete trial: `{"number", "value", "values", "loss", "params", "epoch", "trial_id"}`."""


class Summaries(Room):
    """The part of the store that remembers summaries, for as long as a study's revision stays what it is."""

    _summaries: Newest[Summary]

    def _summary(self, connection: Connection, study: AnyRow) -> Summary:
        """Return the summary of a row of `tuner_studies`, which must come from the same snapshot."""
        return self._summaries.get(study.identity, study.revision, lambda: _summarise(connection, study))


def _summarise(connection: Connection, study: AnyRow) -> Summary:
    found = tallies(connection, study.study_id)
    return Summary(found, counts_of(found), any(tally.claimed for tally in found), _best(connection, study))


def _best(connection: Connection, study: AnyRow) -> dict[str, Any] | None:
    chosen: ColumnElement[bool]
    if len(study.objectives) > 1:
        points = front_of(connection, study)
        if not points:
            return None
        chosen = _attempts.c.number == points[0]["number"]
    else:
        chosen = true()
    value = _attempts.c.value
    first = value.desc() if study.objectives[0]["direction"] == "maximize" else value.asc()
    row = connection.execute(
        select(_attempts)
        .where(_attempts.c.study_id == study.study_id, value.is_not(None), chosen)
        .order_by(first, _attempts.c.number)
        .limit(1)
    ).one_or_none()
    if row is None:
        return None
    return {
        "number": row.number,
        "value": row.value,
        "values": row.objective_values,
        "loss": row.branch,
        "params": row.params,
        "epoch": row.best_epoch,
        "trial_id": row.trial_id,
    }
