"""Small studies for the tests of the storage: those of `tuner.testing`."""

from tuner.testing.storage import (
    DICE,
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
    "LOSSES",
    "SPACE",
    "claimed",
    "completed",
    "epoch",
    "failed",
    "new_study",
    "point",
    "pruned",
    "run_all",
]
