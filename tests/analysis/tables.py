"""Tables of scores whose truth is known."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.analysis.score_table import Candidate, ScoreTable

Values = NDArray[np.float64]


def scores(
    rng: np.random.Generator, *shape: int, sds: Sequence[float] = (1.0, 1.0, 1.0), means: Sequence[float] = ()
) -> Values:
    """Return [*B, C, R, K] with effects of configuration × run, configuration × case, and a rest."""
    *_, count, runs, cases = shape
    head = shape[:-2]
    run, case, rest = sds
    values = run * rng.standard_normal((*head, runs, 1)) + case * rng.standard_normal((*head, 1, cases))
    values = values + rest * rng.standard_normal(shape)
    return values + np.asarray(means or [0.0] * count)[:, None, None]


def table(values: Values, **more: Any) -> ScoreTable:
    """Return a table of values [C, R, K] with names from a on."""
    names = [Candidate(chr(ord("a") + place)) for place in range(len(values))]
    runs = tuple(f"run {r}" for r in range(values.shape[1]))
    cases = tuple(f"case {k}" for k in range(values.shape[2]))
    return ScoreTable(tuple(names), runs, cases, values, **more)
