"""Which losses to try first on a data set, before anything is trained on it, and how unsure that is.

What is expected of a loss is what the sampler `auto` would expect before its first trial: the results of LossBench's
tasks, those of similar data counting more. Beside it stands what the survey of losses says of such data; it was
measured by nobody here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tuner.analysis.data_facts import MEANINGS, outside, similarity
from tuner.losses.catalog.registry import LOSSES
from tuner.search.auto import Auto
from tuner.search.replay import space_of
from tuner.search.task_prior import PriorTask, TaskPrior

DRAWS = 2000
"""Possible outcomes that are drawn, to say how often each loss is the best."""
BAND = (0.1, 0.9)
MIN_WEIGHT = 0.05
SURVEY = (
    "Loss Functions in the Era of Semantic Segmentation (survey, 2023), table 2 and figure 3; and the losses' papers"
)


@dataclass(frozen=True, slots=True)
class Guidance:
    """What is said in the literature of losses for data of a kind."""

    reason: str
    losses: tuple[str, ...]


def recommend(name: str, facts: Mapping[str, float], prior: TaskPrior) -> dict[str, Any]:
    """Return the document of `tuner recommend --json`.

    Args:
        name: Of the data set.
        facts: What `measure_facts` says of it.
        prior: Results of other tasks.
    """
    weights = {task.name: similarity(facts, task.facts) for task in prior.tasks}
    tasks = sorted(prior.tasks, key=lambda task: -weights[task.name])
    advice = guidance(facts)
    return {
        "dataset": name,
        "facts": dict(facts),
        "outside": outside(facts, prior.tasks),
        "tasks": [
            {
                "task": task.name,
                "similarity": round(weights[task.name], 3),
                "facts": dict(task.facts),
                "metric": task.metric,
                "configurations": len(task.rows),
                "noise": task.noise,
            }
            for task in tasks
        ],
        "losses": expected_losses(_weighted(prior, weights), advice),
        "guidance": [{"reason": each.reason, "losses": list(each.losses), "source": SURVEY} for each in advice],
    }


def _weighted(prior: TaskPrior, weights: Mapping[str, float]) -> TaskPrior:
    """Let the results of data unlike this count as if they had been measured with fewer seeds."""
    return replace(
        prior,
        tasks=tuple(
            replace(
                task,
                rows=tuple(replace(row, seeds=row.seeds * max(weights[task.name], MIN_WEIGHT)) for row in task.rows),
            )
            for task in prior.tasks
        ),
    )


def expected_losses(prior: TaskPrior, advice: list[Guidance]) -> list[dict[str, Any]]:
    """Return what is expected of each loss that was measured, the best first.

    `expected`, `low`, `high`: its best value in standard deviations of a task's values, with a band of 80 %;
    `best_share`: how often it is the best of all; `train.lr`: where its best value lies; `ranks`: its place among the
    losses in each task, by the best mean.
    """
    rows = [row.params for task in prior.tasks for row in task.rows]
    if not rows:
        return []
    points, mean, covariance = Auto(space_of(rows), "maximize", 0, prior).expected()
    losses = [str(point["loss"]) for point in points]
    names = list(dict.fromkeys(losses))
    rng = np.random.default_rng(0)
    factor = np.linalg.cholesky(covariance + 1e-6 * np.eye(len(mean)))
    draws = mean[:, None] + factor @ rng.standard_normal((len(mean), DRAWS))
    places = {loss: np.flatnonzero(np.array(losses) == loss) for loss in names}
    # a loss is worth what its point of the best expectation is: nobody knows beforehand where it does best
    chosen = {loss: int(members[np.argmax(mean[members])]) for loss, members in places.items()}
    outcomes = np.stack([draws[chosen[loss]] for loss in names])
    best = np.bincount(outcomes.argmax(0), minlength=len(names)) / DRAWS
    ranks = {task.name: _ranks(task) for task in prior.tasks}
    found = []
    for i, loss in enumerate(names):
        low, high = np.quantile(outcomes[i], BAND)
        found.append(
            {
                "loss": loss,
                "expected": float(mean[chosen[loss]]),
                "low": float(low),
                "high": float(high),
                "best_share": float(best[i]),
                "train.lr": points[chosen[loss]].get("train.lr"),
                "ranks": {task: known[loss] for task, known in ranks.items() if loss in known},
                "good_for": LOSSES[loss].good_for if loss in LOSSES else None,
                "guidance": [each.reason for each in advice if loss in each.losses],
            }
        )
    return sorted(found, key=lambda row: -row["expected"])


def _ranks(task: PriorTask) -> dict[str, int]:
    best: dict[str, float] = {}
    for row in task.rows:
        loss = str(row.params["loss"])
        best[loss] = max(best.get(loss, row.value), row.value)
    return {loss: place for place, loss in enumerate(sorted(best, key=lambda name: -best[name]), start=1)}


def guidance(facts: Mapping[str, float]) -> list[Guidance]:
    """Return what the literature says of data with such facts."""
    found = []
    if facts["imbalance"] >= 50:
        found.append(
            Guidance(
                f"strong imbalance ({MEANINGS['imbalance']}: {facts['imbalance']:.0f})",
                ("tversky", "focal_tversky", "unified_focal", "dice_focal", "generalized_dice", "focal"),
            )
        )
    if 0 < facts["object_share"] < 0.005:
        found.append(
            Guidance(
                f"small objects (the median one takes {100 * facts['object_share']:.2g} % of the image)",
                ("exponential_logarithmic", "combo", "focal", "dice_focal", "blob", "boundary"),
            )
        )
    if facts["thinness"] >= 5:
        found.append(
            Guidance(
                f"thin objects ({facts['thinness']:.0f} times as long as wide)", ("skeleton_recall", "soft_cldice")
            )
        )
    if facts["boundary_per_area"] >= 0.4:
        found.append(
            Guidance(
                f"much boundary ({facts['boundary_per_area']:.2g} pixels of it per pixel of an object)",
                ("jaccard", "lovasz_softmax", "distance_map_ce", "conditional_boundary"),
            )
        )
    if facts["object_share"] >= 0.05 and facts["boundary_per_area"] < 0.2:
        found.append(Guidance("large objects", ("boundary_dou", "dice_cross_entropy")))
    if facts["classes"] >= 10:
        found.append(Guidance(f"many classes ({facts['classes']:.0f})", ("logit_adjusted_ce", "lovasz_softmax")))
    return found or [Guidance("nothing out of the ordinary", ("dice_cross_entropy", "dice", "cross_entropy"))]
