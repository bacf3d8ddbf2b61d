"""Small studies for the tests of the storage: those of `tuner.testing`."""

from tuner.storage.dashboard_queries import FigureQueries
from tuner.storage.storage import Storage
from tuner.storage.trial_selection import Measure, Selection
from tuner.testing.storage import (
    DICE,
    DICE_AND_HD95,
    LOSSES,
    SPACE,
    claimed,
    completed,
    epoch,
    failed,
    new_study,
    point,
    pruned,
    run_all,
)

__all__ = [
    "DICE",
    "DICE_AND_HD95",
    "LOSSES",
    "SPACE",
    "claimed",
    "completed",
    "epoch",
    "failed",
    "new_study",
    "point",
    "pruned",
    "ranked_by",
    "run_all",
]


def ranked_by(store: Storage, metric: str, label: str | None = None) -> list[tuple[str, int, float]]:
    """Return loss, number and value of the trials of `organs`, ranked by another stored metric, the best first."""
    measure = Measure(metric, "minimize" if metric == "hd95" else "maximize", label)
    rows = FigureQueries(store).values_by_loss(
        store.studies.get("organs"), most=100, selection=Selection(measure=measure)
    )
    return [(row.branch, row.number, row.value) for row in rows]
