"""A study in memory, as some of Optuna's algorithms want one for the length of a suggestion."""

import logging
from collections.abc import Sequence

import optuna
from optuna.study import StudyDirection


def scratch_study(directions: Sequence[str]) -> optuna.Study:
    """Return an empty study in memory, without Optuna's announcement that it was created."""
    logger = logging.getLogger("optuna.storages._in_memory")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        return optuna.create_study(directions=[StudyDirection[direction.upper()] for direction in directions])
    finally:
        logger.setLevel(level)
