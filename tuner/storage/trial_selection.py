"""Which trials a figure or a table is about, and by which number they are ranked: as SQL."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, Text, and_, cast, func, or_, select

from tuner.registry import Scalar
from tuner.storage import schema
from tuner.storage.annotations import has_tag, is_starred, mentions
from tuner.storage.scores import MEAN

_attempts, _epochs, _scores = schema.attempts, schema.epochs, schema.scores

VALUE = "value"
"""Name of a filter that is about a trial's value, not about a parameter."""
TAG, STARRED, TEXT = "tag", "starred", "text"
"""Names of filters that are about what people have written beside a trial: `text` is one in its notes or tags."""


@dataclass(frozen=True, slots=True)
class TrialFilter:
    """Trials whose parameter lies in a closed interval, or is one of some choices."""

    name: str
    low: float | None = None
    high: float | None = None
    choices: tuple[Scalar, ...] = ()

    @property
    def condition(self) -> ColumnElement[bool]:
        """Return the condition on rows of `tuner_attempts`; trials without the parameter do not meet it."""
        if self.name == VALUE:
            return _attempts.c.value.between(self.low, self.high)
        if self.name == TAG:
            return has_tag([str(choice) for choice in self.choices])
        if self.name == STARRED:
            return is_starred() if self.choices[0] else ~is_starred()
        if self.name == TEXT:
            return and_(*(mentions(str(choice)) for choice in self.choices))
        if self.name == "loss":
            return _attempts.c.branch.in_([str(choice) for choice in self.choices])
        if not self.choices:
            number: ColumnElement[Any] = _attempts.c.params[self.name].as_float()
            return number.between(self.low, self.high)
        written = cast(_attempts.c.params[self.name].as_string(), Text)
        found = written.in_([text for choice in self.choices if choice is not None for text in _texts(choice)])
        return or_(found, written.is_(None)) if None in self.choices else found


@dataclass(frozen=True, slots=True)
class Measure:
    """A metric that was stored beside the objective, of one class or the mean of all; read at the best epoch."""

    metric: str
    direction: str
    label: str | None = None
    """A class."""

    @property
    def column(self) -> ColumnElement[Any]:
        """Return the number in rows of `tuner_epochs`, where a curve is read."""
        found: Any = _epochs.c.metrics[self.metric]
        if self.label is not None:
            found = _epochs.c.per_class[(self.metric, self.label)]
        number: ColumnElement[Any] = found.as_float()
        return number

    @property
    def title(self) -> str:
        """Return the name for an axis."""
        return self.metric if self.label is None else f"{self.metric} of {self.label}"


@dataclass(frozen=True, slots=True)
class Selection:
    """Complete trials that meet every filter, with the first objective or another stored metric as their value."""

    filters: tuple[TrialFilter, ...] = ()
    measure: Measure | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return the conditions of the filters on rows of `tuner_attempts`."""
        return [found.condition for found in self.filters]

    def direction(self, objective: str) -> str:
        """Return which way the value gets better; `objective` is the direction of the first objective."""
        return objective if self.measure is None else self.measure.direction

    def scored(self, study_id: int) -> Select[Any]:
        """Select complete trials: number, branch, value.

        Where nothing is filtered, an index answers alone; rows of trials are wide, those of epochs even more so.
        """
        conditions = self.conditions()
        if self.measure is None:
            value = _attempts.c.value
            complete = (value + 0.0 if conditions else value).is_not(None)  # as in `is_newest`
            chosen = select(_attempts.c.number, _attempts.c.branch, value).where(_attempts.c.study_id == study_id)
            return chosen.where(complete, *conditions)
        of_trial = (_attempts.c.study_id == _scores.c.study_id) & (_attempts.c.number == _scores.c.number)
        branch = func.nullif(_scores.c.branch, "").label("branch")
        return (
            select(_scores.c.number, branch, _scores.c.value)
            .select_from(_scores.join(_attempts, of_trial) if conditions else _scores)
            .where(
                _scores.c.study_id == study_id,
                _scores.c.metric == self.measure.metric,
                _scores.c.label == (self.measure.label or MEAN),
                *conditions,
            )
        )


def is_newest(filters: Sequence[TrialFilter]) -> ColumnElement[bool]:
    """Return the condition that no later attempt stands at the place of a trial.

    A filter reads every row: then in the order in which they lie, and not in that of an index, which takes longer.
    """
    return (_attempts.c.successor + 0 if filters else _attempts.c.successor).is_(None)


ALL = Selection()
"""Every complete trial by the first objective."""


def _texts(choice: Scalar) -> Sequence[str]:
    """Return how databases write a value of a JSON document as text: SQLite writes truth values as numbers."""
    if isinstance(choice, bool):
        return ("true", "1") if choice else ("false", "0")
    if isinstance(choice, float) and choice.is_integer():
        return (str(choice), str(int(choice)))
    return (str(choice),)
