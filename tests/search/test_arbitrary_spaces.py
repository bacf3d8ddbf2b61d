"""Whatever space a user writes, every sampler fills it in completely and legally."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.search.planted_optimum import complete
from tuner.search.catalog import SAMPLERS
from tuner.search.finished_trial import FinishedTrial
from tuner.search.sampler import SeededSampler
from tuner.search.space import Dimension, SearchSpace

SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.floats(-2, 2), st.sampled_from(["a", "b", "c"]))


@st.composite
def intervals(draw: st.DrawFn, name: str, when: tuple[str, str] | None) -> Dimension:
    kind: Any = draw(st.sampled_from(["float", "int"]))
    log = draw(st.booleans())
    low = draw(st.integers(1, 50)) if kind == "int" else draw(st.floats(1e-6, 10))
    width = draw(st.integers(0, 100)) if kind == "int" else draw(st.floats(0, 100))
    return Dimension(name, kind, low, low + width, log=log, steps=draw(st.integers(1, 4)), when=when)


@st.composite
def choices(draw: st.DrawFn, name: str, when: tuple[str, str] | None) -> Dimension:
    values = draw(st.lists(SCALARS, min_size=1, max_size=4, unique_by=lambda v: (type(v), v)))
    return Dimension(name, "categorical", choices=tuple(values), when=when)


@st.composite
def spaces(draw: st.DrawFn) -> SearchSpace:
    """Up to three switches, dimensions that depend on them and dimensions that every trial has."""
    dimensions: list[Dimension] = []
    for switch in ("loss", "model.name", "train.optimizer")[: draw(st.integers(0, 3))]:
        names = tuple(f"{switch}_{i}" for i in range(draw(st.integers(1, 4))))
        dimensions.append(Dimension(switch, "categorical", choices=names))
        for name in names:
            for i in range(draw(st.integers(0, 2))):
                kind = draw(st.sampled_from([intervals, choices]))
                dimensions.append(draw(kind(f"{switch}.{name}.{i}", (switch, name))))
    for i in range(draw(st.integers(0 if dimensions else 1, 3))):
        dimensions.append(draw(draw(st.sampled_from([intervals, choices]))(f"train.{i}", None)))
    return SearchSpace(tuple(dimensions))


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "gp"])
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(space=spaces(), seed=st.integers(0, 2**63 - 1), data=st.data())
def test_every_point_is_complete_and_valid(name: str, space: SearchSpace, seed: int, data: st.DataObject) -> None:
    """A worker cannot train a point that lacks a parameter or lies outside a range."""
    check(name, space, seed, data.draw(st.lists(st.sampled_from("cpix"), min_size=14, max_size=14)))


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(space=spaces(), seed=st.integers(0, 2**63 - 1), data=st.data())
def test_every_point_of_a_gaussian_process_is_complete_and_valid(
    space: SearchSpace, seed: int, data: st.DataObject
) -> None:
    """The same for the sampler that takes longest."""
    check("gp", space, seed, data.draw(st.lists(st.sampled_from("cpix"), min_size=7, max_size=7)))


def check(name: str, space: SearchSpace, seed: int, fates: list[str]) -> None:
    """Play a short study in which trials complete, are pruned, are infeasible, or stay running."""
    several = name == "nsga2"
    options = {"population": 4} if several else {"startup_trials": 4} if name in ("tpe", "gp", "cmaes") else {}
    directions = ("maximize", "minimize") if several else ("minimize",)
    searcher = SeededSampler(space, directions, sampler=name, options=options, seed=seed)
    running: list[FinishedTrial] = []
    for slot, fate in enumerate(fates):
        point = searcher.suggest(slot, fixed={}, running=running)

        assert space.problems(point) == []
        assert list(point) == [d.name for d in space.active(point)]
        if fate == "x":
            running.append(FinishedTrial(slot, "RUNNING", point))
        elif fate == "i":
            searcher.observe([FinishedTrial(slot, "PRUNED", point, feasible={"memory": 1.0, "finite": -1.0})])
        elif fate == "p":
            searcher.observe([FinishedTrial(slot, "PRUNED", point, last=None if several else (3, 0.5))])
        else:
            searcher.observe([complete(slot, point, *[float(slot % 5)] * len(directions))])
