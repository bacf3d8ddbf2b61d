"""The behaviour suite that others can subclass, on every sampler of the catalogue."""

from collections.abc import Sequence
from typing import Any

import pytest

from tuner.registry import defaults, load
from tuner.search.catalog import SAMPLERS
from tuner.search.sampler import Sampler
from tuner.search.space import SearchSpace
from tuner.testing.sampler import Maker, SamplerSuite, conditional_space

FEW: dict[str, dict[str, Any]] = {"nsga2": {"population": 8}, "gp": {"startup_trials": 6}}


class Listed(SamplerSuite):
    """A sampler of the catalogue by its name."""

    name: str

    @pytest.fixture
    def make(self) -> Maker:
        """As the search makes it, with a short start."""

        def made(space: SearchSpace, directions: Sequence[str], seed: int) -> Sampler:
            options = {**defaults(SAMPLERS[self.name]), **FEW.get(self.name, {})}
            return load(SAMPLERS[self.name].fn)(space, tuple(directions), seed, options)

        return made

    @pytest.fixture
    def space(self) -> SearchSpace:
        """Intervals of a grid need steps."""
        return conditional_space(steps=5 if self.name == "grid" else None)


for _name in SAMPLERS:
    _directions = ("maximize", "minimize") if _name == "nsga2" else ("maximize",)
    globals()[f"Test_{_name}"] = type(f"Test_{_name}", (Listed,), {"name": _name, "directions": _directions})
