"""Evolution on a conditional space: `cmaes`, one for each loss, and `nsga2`, for several objectives.

Both are replayed from the history: trials in order of number are dealt into generations, and the state after the
last full generation is what the new point is drawn from. Nothing about a generation has to be stored with a trial, and
every worker comes to the same state.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from optuna.samplers._lazy_random_state import LazyRandomState
from optuna.samplers.nsgaii import UniformCrossover
from optuna.samplers.nsgaii._child_generation_strategy import NSGAIIChildGenerationStrategy
from optuna.samplers.nsgaii._elite_population_selection_strategy import NSGAIIElitePopulationSelectionStrategy
from optuna.trial import FrozenTrial, create_trial

from tuner.errors import Problem, SpecError
from tuner.registry import Scalar
from tuner.search.branch_sampler import BranchSampler
from tuner.search.distributions import distribution, external, from_unit, single, to_unit
from tuner.search.finished_trial import FinishedTrial
from tuner.search.grid import combinations
from tuner.search.sampler import in_memory_study, suggestion_rng
from tuner.search.space import SearchSpace
from tuner.search.trial_table import TrialTable

_FIRST_SIGMA = 0.2


class Cmaes(BranchSampler):
    """TPE over losses and other choices, CMA-ES over the numbers, one for each combination of the switches."""

    def __init__(self, space: SearchSpace, directions: Sequence[str], seed: int, *, startup_trials: int) -> None:
        if len(directions) > 1:
            wrong = f"`cmaes` takes one objective, not {len(directions)}; use `tpe`, `gp` or `nsga2`"
            raise SpecError([Problem("sampler.name", wrong)])
        super().__init__(space, directions, seed, startup_trials=startup_trials, numeric=True)

    def _suggest_branch(
        self,
        table: TrialTable,
        params: Mapping[str, Scalar],
        slot: int,
        fixed: Mapping[str, Scalar],
        running: Sequence[FinishedTrial],
    ) -> dict[str, Scalar]:
        if not table.dimensions:
            return {}
        point = self._evolve(table, int(suggestion_rng(self._seed, slot, 3).randint(2**31 - 1)))
        drawn = {d.name: from_unit(d, share) for d, share in zip(table.dimensions, point, strict=True)}
        return {name: value for name, value in drawn.items() if name not in fixed}

    def _evolve(self, ledger: TrialTable, seed: int) -> list[float]:
        """Return a point of the unit cube, drawn after the last full generation."""
        from cmaes import CMA

        losses = self._branches.losses(ledger)[:, 0]
        rows = ledger.columns()[1]
        points = np.array(
            [[to_unit(d, external(d, x)) for d, x in zip(ledger.dimensions, row, strict=True)] for row in rows]
        ).reshape(len(rows), len(ledger.dimensions))
        # The first trial of a loss is its published default, or else a random point; both beat the middle.
        start = points[0] if len(points) else np.full(len(ledger.dimensions), 0.5)
        bounds = np.tile([0.0, 1.0], (len(start), 1))
        cma = CMA(mean=start, sigma=_FIRST_SIGMA, bounds=bounds, seed=seed, n_max_resampling=10 * len(start))
        for begin in range(0, len(points) - cma.population_size + 1, cma.population_size):
            block = range(begin, begin + cma.population_size)
            cma.tell([(points[i], float(losses[i])) for i in block])
        return [float(x) for x in cma.ask()]


def cmaes(space: SearchSpace, directions: Sequence[str], seed: int, options: Mapping[str, Any]) -> Cmaes:
    """Make the sampler `cmaes`. Raises SpecError when there are several objectives."""
    return Cmaes(space, directions, seed, startup_trials=options["startup_trials"])


class Nsga2:
    """Optuna's NSGA-II with genomes that hold the options of every loss; those of the other losses are silent.

    Silent genes are not stored with a trial. They are drawn from its number, so every worker sees the same genome.
    """

    def __init__(self, space: SearchSpace, directions: Sequence[str], seed: int, *, population: int) -> None:
        self._space, self._seed, self._population = space, seed, population
        self._genes = {d.name: distribution(d) for d in space if not single(d)}
        blocks = combinations(space)
        expressed = sum(len(space.active(block)) for block in blocks) / len(blocks)
        self._mutation = min(1.0, 1.0 / max(1.0, expressed))
        self._study = in_memory_study(directions)
        self._select = NSGAIIElitePopulationSelectionStrategy(population_size=population)
        self._individuals: dict[int, FrozenTrial] = {}
        self._parents: list[tuple[list[int], list[FrozenTrial]]] = []

    def observe(self, trials: Iterable[FinishedTrial]) -> None:
        """Learn complete trials; the others leave no children."""
        for trial in trials:
            if trial.state == "COMPLETE" and trial.values and not self._space.problems(trial.params):
                params = {**self._silent(trial.number), **trial.params}
                individual = create_trial(
                    values=list(trial.values),
                    params={name: params[name] for name in self._genes},
                    distributions=self._genes,
                )
                individual.number = trial.number
                self._individuals[trial.number] = individual

    def suggest(self, slot: int, fixed: Mapping[str, Scalar], running: Sequence[FinishedTrial]) -> dict[str, Scalar]:
        """Return a complete point: a child of the last full generation, at random before there is one."""
        rng = suggestion_rng(self._seed, slot)
        genome: dict[str, Scalar] = {}
        parents = self._last_parents()
        if parents:
            breed = NSGAIIChildGenerationStrategy(
                crossover=UniformCrossover(),
                crossover_prob=0.9,
                swapping_prob=0.5,
                mutation_prob=self._mutation,
                rng=LazyRandomState(int(rng.randint(2**31 - 1))),
            )
            genome = breed(self._study, self._genes, parents)
        params = dict(fixed)
        for dimension in self._space:
            share = rng.random_sample()
            if dimension.name not in params and dimension in self._space.active(params):
                gene = dimension.name in genome
                params[dimension.name] = genome[dimension.name] if gene else from_unit(dimension, share)
        return params

    def _last_parents(self) -> list[FrozenTrial]:
        """Replay the generations; those that are as they were when last replayed are not replayed again."""
        numbers = sorted(self._individuals)
        size = self._population
        parents: list[FrozenTrial] = []
        for i in range(len(numbers) // size):
            block = numbers[i * size : (i + 1) * size]
            if i >= len(self._parents) or self._parents[i][0] != block:
                parents = self._select(self._study, [self._individuals[n] for n in block] + parents)
                self._parents[i:] = [(block, parents)]
            parents = self._parents[i][1]
        return parents

    def _silent(self, number: int) -> dict[str, Scalar]:
        rng = suggestion_rng(self._seed, number, 5)
        return {d.name: from_unit(d, rng.random_sample()) for d in self._space}


def nsga2(space: SearchSpace, directions: Sequence[str], seed: int, options: Mapping[str, Any]) -> Nsga2:
    """Make the sampler `nsga2`."""
    return Nsga2(space, directions, seed, population=options["population"])
