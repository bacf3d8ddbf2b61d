"""Spaces and objectives with a known optimum, and a study that is played on them without training or database."""

import math
from collections.abc import Callable, Mapping

from tuner.registry import Scalar
from tuner.search.finished_trial import FinishedTrial
from tuner.search.sampler import SeededSampler
from tuner.search.space import SearchSpace
from tuner.testing.sampler import conditional_space

Objective = Callable[[Mapping[str, Scalar]], FinishedTrial]
BEST_GAMMA = 1.2


def planted(params: Mapping[str, Scalar]) -> float:
    """Return a score whose best loss is focal with gamma 1.2, at a learning rate of 3e-4."""
    score = 0.5 - 0.05 * (math.log10(float(params["train.lr"])) + 3.5) ** 2
    if params["loss"] == "focal":
        score += 0.3 - 0.1 * (float(params["loss.focal.gamma"]) - BEST_GAMMA) ** 2
    return score


def complete(number: int, params: Mapping[str, Scalar], *values: float) -> FinishedTrial:
    return FinishedTrial(number, "COMPLETE", dict(params), values)


def infeasible(number: int, params: Mapping[str, Scalar]) -> FinishedTrial:
    return FinishedTrial(number, "PRUNED", dict(params), feasible={"memory": 1.0, "finite": -1.0})


def scored(number: int, params: Mapping[str, Scalar]) -> FinishedTrial:
    return complete(number, params, planted(params))


def scored_twice(number: int, params: Mapping[str, Scalar]) -> FinishedTrial:
    return complete(number, params, planted(params), float(params["train.lr"]))


def play(
    searcher: SeededSampler, trials: int, judge: Callable[[int, Mapping[str, Scalar]], FinishedTrial] = scored
) -> list[FinishedTrial]:
    """Run a study with one worker and return its trials."""
    seen = []
    for slot in range(trials):
        trial = judge(slot, searcher.suggest(slot, fixed={}))
        searcher.observe([trial])
        seen.append(trial)
    return seen


def searcher_for(
    name: str, *, seed: int = 0, space: SearchSpace | None = None, options: Mapping[str, object] | None = None
) -> SeededSampler:
    """Make a searcher over the conditional space with directions that suit the sampler."""
    directions = ("maximize", "minimize") if name == "nsga2" else ("maximize",)
    if options is None:
        options = {"nsga2": {"population": 8}, "gp": {"startup_trials": 6}}.get(name, {})
    space = space or conditional_space(steps=5 if name == "grid" else None)
    return SeededSampler(space, directions, sampler=name, options=options, seed=seed)


def judge_for(name: str) -> Callable[[int, Mapping[str, Scalar]], FinishedTrial]:
    return scored_twice if name == "nsga2" else scored
