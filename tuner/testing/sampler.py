"""What every sampler promises: whole points, fixed values kept, the same suggestion from the same facts.

class TestMine(SamplerSuite):
    @pytest.fixture
    def make(self):
        return lambda space, directions, seed: Mine(space, seed)

    directions = ("maximize", "minimize")   # where it wants two objectives
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from tuner.registry import Scalar
from tuner.search.distributions import from_unit
from tuner.search.finished_trial import FinishedTrial
from tuner.search.sampler import Sampler
from tuner.search.space import Dimension, SearchSpace

Maker = Callable[[SearchSpace, Sequence[str], int], Sampler]
TRIALS = 16


def conditional_space(steps: int | None = None) -> SearchSpace:
    """Three losses with options of their own, a learning rate, a batch size; `steps` makes it a grid."""
    focal, tversky = ("loss", "focal"), ("loss", "tversky")
    dimensions = (
        Dimension("loss", "categorical", choices=("cross_entropy", "focal", "tversky")),
        Dimension("train.lr", "float", 1e-5, 1e-2, log=True),
        Dimension("train.batch_size", "categorical", choices=(4, 8, 16)),
        Dimension("loss.focal.gamma", "float", 0.0, 5.0, when=focal),
        Dimension("loss.focal.weighting", "categorical", choices=(None, True, "inverse"), when=focal),
        Dimension("loss.tversky.alpha", "float", 0.0, 1.0, when=tversky),
        Dimension("loss.tversky.rounds", "int", 1, 64, log=True, when=tversky),
    )
    if steps is None:
        return SearchSpace(dimensions)
    return SearchSpace(tuple(d if d.kind == "categorical" else replace(d, steps=steps) for d in dimensions))


def finished_trials(space: SearchSpace, count: int, objectives: int) -> list[FinishedTrial]:
    """Return complete trials at random points, with values that favour a middle learning rate."""
    rng = np.random.default_rng(0)
    trials = []
    for number in range(count):
        params: dict[str, Scalar] = {}
        for dimension in space:
            if dimension.when is None or params.get(dimension.when[0]) == dimension.when[1]:
                params[dimension.name] = from_unit(dimension, float(rng.random()))
        value = -abs(np.log10(float(str(params["train.lr"]))) + 3.5)
        trials.append(FinishedTrial(number, "COMPLETE", params, (value, *[float(rng.random())] * (objectives - 1))))
    return trials


class SamplerSuite:
    """Tests of a sampler; a subclass provides the fixture `make`."""

    directions: Sequence[str] = ("maximize",)

    @pytest.fixture
    def make(self) -> Maker:
        """A function of space, directions and seed that returns the sampler."""
        raise NotImplementedError("a subclass provides the fixture `make`")

    @pytest.fixture
    def space(self) -> SearchSpace:
        """Three losses with options of their own."""
        return conditional_space()

    def taught(self, make: Maker, space: SearchSpace, seed: int = 0) -> Sampler:
        """Return a sampler that has seen some trials."""
        sampler = make(space, self.directions, seed)
        sampler.observe(finished_trials(space, TRIALS, len(self.directions)))
        return sampler

    def test_points_are_complete_and_valid(self, make: Maker, space: SearchSpace) -> None:
        """A trial that lacks an option, or carries one of another loss, could not be trained as suggested."""
        for sampler in (make(space, self.directions, 0), self.taught(make, space)):
            for slot in range(TRIALS, TRIALS + 6):
                point = sampler.suggest(slot, {}, [])

                assert space.problems(point) == []
                assert set(point) == {d.name for d in space.active(point)}

    def test_fixed_values_are_kept(self, make: Maker, space: SearchSpace) -> None:
        """A queue that gives every loss its trials fixes only `loss`; a person may fix anything."""
        cases: tuple[Mapping[str, Scalar], ...] = (
            {"loss": "tversky"},
            {"loss": "focal", "loss.focal.weighting": None},
        )
        for slot, fixed in enumerate(cases, TRIALS):
            point = self.taught(make, space).suggest(slot, fixed, [])

            assert {**point, **fixed} == point
            assert space.problems(point) == []

    def test_another_process_suggests_the_same(self, make: Maker, space: SearchSpace) -> None:
        """A suggestion follows from seed, slot and trials, in whatever order these were observed."""
        trials = finished_trials(space, TRIALS, len(self.directions))
        along = make(space, self.directions, 0)
        for trial in (*trials[::2], *trials[1::2]):
            along.observe([trial])
            along.suggest(trial.number, {}, [])
        late = self.taught(make, space)

        for slot in (TRIALS, TRIALS + 1, 3 * TRIALS):
            assert late.suggest(slot, {}, []) == along.suggest(slot, {}, [])

    def test_workers_do_not_suggest_equal_points(self, make: Maker, space: SearchSpace) -> None:
        """Training a point twice wastes what it costs."""
        running: list[FinishedTrial] = []
        for slot in range(TRIALS, TRIALS + 6):
            point = self.taught(make, space).suggest(slot, {}, running)

            assert point not in [trial.params for trial in running]
            running.append(FinishedTrial(slot, "RUNNING", point))
