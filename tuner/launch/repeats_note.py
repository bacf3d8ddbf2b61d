"""What is said of a budget that is larger than the space: by a launch, a plan, and the answer to a posted study.

Imports Optuna, which a service that only reads does without.
"""

from tuner.config.study import StudySpec
from tuner.registry import Scalar
from tuner.search.finite_space import count_points
from tuner.search.grid import grid_size


def repeats_note(spec: StudySpec, total: int) -> str | None:
    """Say how many of a study's trials can only repeat points that were tried; None when none has to."""
    per_loss = spec.budget.trials_per_loss
    if spec.budget.hours_per_loss is not None:
        return _short_time_note(spec)
    if per_loss and spec.space.find("loss"):
        shares = [(per_loss, count_points(spec.space, {"loss": loss.name})) for loss in spec.candidates]
    else:
        shares = [(total, count_points(spec.space))]
    distinct = sum(trials if points is None else min(trials, points) for trials, points in shares)
    repeats = sum(trials for trials, _ in shares) - distinct
    if repeats <= 0:
        return None
    what = "nothing is searched" if distinct == 1 else f"the search space has only {distinct} points for this budget"
    again = f"{repeats} of {total} trials repeat a point" + (" with the same seed" if _one_seed(spec) else "")
    return (
        f"note: {what}: {again}. `--trials {distinct}` takes each point once; "
        "repeats with other seeds are asked for by `search: {train.seed: [0, 1, 2]}`."
    )


def _short_time_note(spec: StudySpec) -> str | None:
    """Say which losses may run out of points before their training time is used up; None when none can."""
    searched, is_grid = spec.space.find("loss") is not None, spec.sampler["name"] == "grid"
    points = {}
    for loss in spec.candidates:
        fixed: dict[str, Scalar] = {"loss": loss.name} if searched else {}
        points[loss.name] = grid_size(spec.space, fixed) if is_grid else count_points(spec.space, fixed)
    ending = [f"{name} ({count})" for name, count in points.items() if count is not None]
    if not ending:
        return None
    return (
        "note: a loss ends when all its points are tried, also before its time is used up; so many has "
        f"{', '.join(ending)}. Repeats with other seeds are asked for by `search: {{train.seed: [0, 1, 2]}}`."
    )


def _one_seed(spec: StudySpec) -> bool:
    return spec.space.find("train.seed") is None
