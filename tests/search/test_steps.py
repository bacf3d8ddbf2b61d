"""Ranges with steps: every sampler keeps the width, numbers are as they are written, one value is a fixed value."""

import optuna
import pytest

from tests.storage.examples import new_study
from tests.worker.studies import create, tiny
from tuner.errors import SpecError
from tuner.search.catalog import SAMPLERS
from tuner.search.sampler import SeededSampler
from tuner.search.space import Dimension
from tuner.storage.records import read_space
from tuner.storage.storage import Storage

STEPPED = Dimension("train.clip_norm", "float", 0.1, 0.7, step=0.1)


def test_points_of_a_grid_are_as_they_are_written() -> None:
    """0.30000000000000004 is nobody's number."""
    assert Dimension("x", "float", 0.1, 0.5, steps=5).grid() == (0.1, 0.2, 0.3, 0.4, 0.5)
    assert Dimension("x", "float", 1e-5, 1e-2, log=True, steps=4).grid() == (1e-5, 1e-4, 1e-3, 1e-2)
    assert STEPPED.grid() == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)


@pytest.mark.parametrize(("value", "inside"), [(0.3, True), (0.1 + 0.2, True), (0.35, False), (0.8, False)])
def test_a_value_between_two_steps_is_none_of_the_range(value: float, inside: bool) -> None:
    """What is enqueued must be a point of the space."""
    assert STEPPED.contains(value) is inside


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "nsga2"])
def test_every_sampler_keeps_the_step(sampler: str) -> None:
    """Each has its own way to a number."""
    overrides = [
        "search.train.clip_norm={low: 0.1, high: 0.75, step: 0.1}",
        "search.train.epochs={low: 2, high: 9, step: 3}",
    ]
    overrides += ["search.train.lr=0.01", "search.options=default", f"sampler={sampler}"]
    spec = tiny(*overrides, "budget.trials=12")
    searcher = SeededSampler(spec.space, spec.directions, sampler=sampler, options={}, seed=1)
    queue = spec.queue()

    points = [searcher.suggest(slot, fixed=queue[slot], running=[]) for slot in range(12)]

    assert {p["train.clip_norm"] for p in points} <= set(STEPPED.grid())
    assert {p["train.epochs"] for p in points} <= {2, 5, 8}
    assert all(spec.space.problems(p) == [] for p in points)


def test_a_step_is_stored_and_optuna_knows_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Its dashboard draws what was searched."""
    url = f"sqlite:///{tmp_path_factory.mktemp('steps') / 'tuner.db'}"
    spec = tiny("search.train.lr={low: 0.1, high: 0.7, step: 0.1}", "search.loss=[dice]", "budget.trials=1")
    with Storage.open(url, create=True) as store:
        create(store, spec)
        study = store.studies.get("tiny")
        assert study.space.find("train.lr") == spec.space.find("train.lr")
        claim = store.trials.claim(study.study_id, "w")
        assert claim is not None
        params = {d.name: d.nearest(0.31) if d.kind != "categorical" else d.choices[0] for d in study.space}
        assert store.trials.set_params(claim, params, study.space)
        stored = optuna.load_study(study_name="tiny", storage=url).trials[0]

    assert stored.params["train.lr"] == 0.3
    assert stored.distributions["train.lr"] == optuna.distributions.FloatDistribution(0.1, 0.7, step=0.1)
    assert read_space(new_study().space and [STEPPED.as_dict()]).dimensions == (STEPPED,)


def test_a_range_of_one_value_fixes_it() -> None:
    """Narrowing a range to a point is no mistake; `upside down` is another thing."""
    spec = tiny("search.train.lr={low: 0.01, high: 0.01}")

    assert spec.space.find("train.lr") is None
    assert spec.config({"loss": "dice"}).train.lr == 0.01


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("{low: 0.1, high: 1, step: 0}", "step: 0 is not a number above 0"),
        ("{low: 0.1, high: 1, step: true}", "step: True is not a number above 0"),
        ("{low: 0.1, high: 1, step: 2}", "wider than the range"),
        ("{low: 0.1, high: 1, step: 0.1, log: true}", "exclude each other"),
        ("{low: 0.1, high: 1, step: 0.1, steps: 4}", "exclude each other"),
        ("{low: 1, high: 0.1}", "upside down"),
    ],
)
def test_a_step_that_cannot_be_is_refused(given: str, words: str) -> None:
    """Before anything is created."""
    with pytest.raises(SpecError, match=words):
        tiny(f"search.train.clip_norm={given}")


def test_whole_numbers_take_whole_steps() -> None:
    """Half an epoch is nothing."""
    with pytest.raises(SpecError, match="whole number"):
        tiny("search.train.epochs={low: 2, high: 9, step: 0.5}")
