"""Pareto fronts, against the definition and against Optuna's."""

from itertools import product

import numpy as np
import pytest
from optuna.study._multi_objective import _fast_non_domination_rank

from tuner.search.pareto import pareto_front, whole_fronts


@pytest.mark.parametrize("objectives", [1, 2, 3])
@pytest.mark.parametrize("levels", [3, 1000])
def test_fronts_are_those_of_optuna(objectives: int, levels: int) -> None:
    """With few levels many rows are equal: of those none beats the other."""
    losses = np.random.default_rng(objectives).integers(0, levels, (60, objectives)).astype(float)
    ranks = _fast_non_domination_rank(losses)

    points = [tuple(row) for row in losses.tolist()]
    front = pareto_front(points)

    assert sorted(front) == np.flatnonzero(ranks == 0).tolist()
    assert [tuple(losses[i]) for i in front] == sorted(tuple(losses[i]) for i in front)
    for count in (0, 1, 7, 30, 59):
        inside, following = whole_fronts(points, count)
        assert len(inside) <= count < len(inside) + len(following)
        assert inside == np.flatnonzero(ranks < ranks[following[0]]).tolist()
        assert following == np.flatnonzero(ranks == ranks[following[0]]).tolist()


def test_the_front_is_what_nothing_beats() -> None:
    """Compared with the definition, on a grid full of ties."""
    points = [(float(a), float(b)) for a, b in product(range(4), repeat=2)] * 2 + [(-1.0, 9.0), (9.0, -1.0)]

    front = pareto_front(points[5:])

    slow = [
        i
        for i, p in enumerate(points[5:])
        if not any(q != p and all(x <= y for x, y in zip(q, p, strict=True)) for q in points[5:])
    ]
    assert sorted(front) == slow


def test_nothing_has_no_front() -> None:
    """A study without a complete trial."""
    assert pareto_front([]) == []
