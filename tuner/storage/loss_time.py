"""Training time of each competing loss, and which of them `budget.hours_per_loss` gives the next trial. Only reads.

A study with such a budget has as many trials as its time allows: its queue grows. A worker that finds nothing waiting
gets a place for the loss that has had the least, as long as what runs, counted to its likely end, leaves time. When the
last trial that waits or runs ends, the next place is added with it, so that a study without any is over. Both happen in
the transaction that claims or ends a trial, with the study's row locked.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select

from tuner.search.grid import grid_size
from tuner.search.space import SearchSpace
from tuner.storage import schema
from tuner.storage.base import AnyRow
from tuner.storage.records import read_space
from tuner.storage.states import Reason

_attempts = schema.attempts
_epochs = schema.epochs
_studies = schema.studies

FUTILE_TRIALS = 10
"""A loss of which so many trials have ended, none with a single epoch, gets no further one."""
_NOT_ITS_FAULT = (Reason.INTERRUPTED.value, Reason.WORKER_LOST.value)


@dataclass(slots=True)
class LossTime:
    """What one loss has had."""

    loss: str | None
    """None where the study's only loss has no name."""
    seconds: float = 0.0
    """Its epochs, each training of one counted once, whichever attempt at which trial it belongs to."""
    trials: int = 0
    ended: list[float] = field(default_factory=list)
    """Seconds of each trial that has ended."""
    open: list[tuple[float, int]] = field(default_factory=list)
    """Seconds and epochs so far of each trial that waits or runs."""
    epochs: int = 0

    def left_s(self, epochs: int) -> float | None:
        """Return the seconds that the open trials will likely take; None where nothing tells yet.

        Args:
            epochs: Of a whole trial.
        """
        if not self.open:
            return 0.0
        known = [seconds / done for seconds, done in self.open if done]
        if not self.ended and not known:
            return None
        whole = fmean(self.ended) if self.ended else fmean(known) * epochs
        return sum(max(0.0, whole - seconds) for seconds, _ in self.open)


def hours_per_loss() -> ColumnElement[float]:
    """Return `budget.hours_per_loss` of a row of `tuner_studies` as SQL; null where trials are counted."""
    found: ColumnElement[float] = _studies.c.spec["budget"]["hours_per_loss"].as_float()
    return found


def limit_s(study: AnyRow) -> float | None:
    """Return the training time that each loss of a study gets; None where trials are counted, as in a confirmation."""
    hours = (study.spec.get("budget") or {}).get("hours_per_loss")
    return None if hours is None or study.parent is not None else 3600.0 * float(hours)


def loss_times(connection: Connection, study: AnyRow) -> list[LossTime]:
    """Return what each competing loss has had, in the order in which they compete."""
    dimension = read_space(study.space).find("loss")
    names = [study.loss] if dimension is None else [str(choice) for choice in dimension.choices]
    found = {name: LossTime(name) for name in names}
    had = _seconds_of_places(connection, study.study_id)
    newest = select(_attempts.c.slot, _attempts.c.branch, _attempts.c.finished_at).where(
        _attempts.c.study_id == study.study_id, _attempts.c.successor.is_(None)
    )
    for slot, branch, finished_at in connection.execute(newest):
        of = found.get(branch)
        if of is None:  # the sampler has not chosen its loss yet
            continue
        seconds, epochs = had[slot]
        of.trials += 1
        of.seconds += seconds
        of.epochs += epochs
        if finished_at is None:
            of.open.append((seconds, epochs))
        else:
            of.ended.append(seconds)
    return list(found.values())


def due(connection: Connection, study: AnyRow, *, spare: bool) -> LossTime | None:
    """Return the loss that gets another trial now: of those with time left, the one that has had the least.

    Args:
        connection: Of the transaction that holds the study's row.
        study: The row, with a limit.
        spare: A worker has nothing to do, and gets one beside what runs; else one is due only where nothing is open.
    """
    limit = limit_s(study)
    budget, space = study.spec["budget"], read_space(study.space)
    if limit is None or study.total >= int(budget.get("trials") or study.total):
        return None
    times = loss_times(connection, study)
    if not spare and any(time.open for time in times):
        return None
    epochs = int((study.spec.get("train") or {}).get("epochs") or 1)
    likely = [(time.seconds + left, i) for i, time in enumerate(times) if (left := time.left_s(epochs)) is not None]
    for total, i in sorted(likely):
        if total < limit and _may_grow(times[i], study, space, budget.get("trials_per_loss")):
            return times[i]
    return None


def _may_grow(time: LossTime, study: AnyRow, space: SearchSpace, most: int | None) -> bool:
    if most is not None and time.trials >= most:
        return False
    if not time.epochs and len(time.ended) >= FUTILE_TRIALS:
        return False
    from tuner.search.finite_space import count_points  # imports Optuna, which nobody who only reads needs

    fixed = {} if space.find("loss") is None or time.loss is None else {"loss": time.loss}
    is_grid = (study.spec.get("sampler") or {}).get("name") == "grid"
    points = grid_size(space, fixed) if is_grid else count_points(space, fixed)
    return points is None or time.trials < points


def _seconds_of_places(connection: Connection, study_id: int) -> dict[int, tuple[float, int]]:
    """Return seconds and epochs by place of the budget.

    An attempt that goes on from a checkpoint reports the epochs before it again, with the same seconds: they count
    once. One that was trained again, for want of a checkpoint, has other seconds, and counts twice. A trial without an
    epoch counts from its claim to its end, unless it was interrupted.
    """
    found: dict[int, tuple[float, int]] = defaultdict(lambda: (0.0, 0))
    once = (
        select(_attempts.c.slot, _epochs.c.epoch, _epochs.c.seconds)
        .join(_epochs, _epochs.c.trial_id == _attempts.c.trial_id)
        .where(_attempts.c.study_id == study_id, _epochs.c.seconds.is_not(None))
        .distinct()
        .subquery()
    )
    trained = select(once.c.slot, func.sum(once.c.seconds), func.count(once.c.epoch.distinct())).group_by(once.c.slot)
    for slot, seconds, epochs in _rows(connection, trained):
        found[slot] = (float(seconds), int(epochs))
    without = ~select(_epochs.c.id).where(_epochs.c.trial_id == _attempts.c.trial_id).exists()
    lost = (
        select(_attempts.c.slot, func.sum(_attempts.c.finished_at - _attempts.c.claimed_at))
        .where(
            _attempts.c.study_id == study_id,
            _attempts.c.claimed_at.is_not(None),
            _attempts.c.finished_at.is_not(None),
            _attempts.c.reason.not_in(_NOT_ITS_FAULT),
            without,
        )
        .group_by(_attempts.c.slot)
    )
    for slot, seconds in _rows(connection, lost):
        before, epochs = found[slot]
        found[slot] = (before + float(seconds), epochs)
    return found


def _rows(connection: Connection, query: Any) -> Iterator[Any]:
    return iter(connection.execute(query).all())
