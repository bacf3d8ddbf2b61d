"""Other programs' searches on LossBench, as they ship: SMAC3 and Syne Tune's promotion ASHA.

SMAC3 races configurations over seeds; with promotion a paused trial goes on from its checkpoint. Neither is needed by
the product: they are used where they are installed (`pip install smac`, `pip install syne-tune==0.13.0`, the last
version with promotion). Both search the task's own space, SMAC with its conditions. A proposal becomes the nearest
recorded configuration of the same loss that was not taken, as in `tuner.search.replay`; the program is told the value
under its own proposal. A further seed that SMAC asks for is the configuration's next recorded one.
"""

import heapq
import importlib.util
import logging
import math
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import Any, Protocol

import numpy as np

from tuner.registry import Scalar
from tuner.search.curve_table import Curve
from tuner.search.replay import Nearest, Run, Task
from tuner.search.space import Dimension, SearchSpace

WORST = 1.0
"""What SMAC, which minimises, is told of a training that diverged: 1 - value, for values from 0 on."""


@dataclass(slots=True)
class Training:
    """A training of a recorded configuration, under the name that the program has given it."""

    key: Any
    configuration: int
    curve: Curve
    epoch: int = 0
    best: float = -math.inf
    complete: bool = False
    about: Any = None
    """What the program calls it."""


class Peer(Protocol):
    """A program that says what is trained next, and whether it goes on."""

    def ask(self) -> tuple[Any, Mapping[str, Scalar] | None, Any]:
        """Return a key, its point (None: the training of this key goes on), and what the program calls it."""

    def report(self, training: Training, value: float) -> bool:
        """Take the value of an epoch; tell whether the training goes on now."""

    def finish(self, training: Training) -> None:
        """Take a training that has come to its end."""

    def recommended(self, trainings: Mapping[Any, Training]) -> int | None:
        """Return the place of the configuration that the program would recommend now."""


def play(name: str, task: Task, *, parallel: int, seed: int, budget: int) -> Run:
    """Replay one search of a program: until so many trainings were begun, and none goes on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SMAC's forest and Syne Tune's advice, some for each suggestion
        return _play(name, task, parallel=parallel, seed=seed, budget=budget)


def _play(name: str, task: Task, *, parallel: int, seed: int, budget: int) -> Run:
    peer, search = PEERS[name].make(task, seed, budget), _Loop(task, seed)
    found, ticket = Run(), count()
    events: list[tuple[float, int, Training | None]] = [(0.0, next(ticket), None) for _ in range(parallel)]
    while events:
        now, _, training = heapq.heappop(events)
        if training is not None:
            found.cost += training.curve.seconds[training.epoch]
            if search.advance(training, peer):
                heapq.heappush(events, (now + training.curve.seconds[training.epoch], next(ticket), training))
                continue
            found.complete += training.complete
            best = peer.recommended(search.trainings)
            if best is not None and (not found.recommended or best != found.recommended[-1]):
                found.costs.append(found.cost)
                found.recommended.append(best)
        if len(search.trainings) < budget:
            training = search.begin(peer)
            heapq.heappush(events, (now + training.curve.seconds[training.epoch], next(ticket), training))
    found.pruned = len(search.trainings) - found.complete
    return found


class _Loop:
    """The trainings of one search."""

    def __init__(self, task: Task, seed: int) -> None:
        self._task, self._nearest = task, Nearest(task)
        self._rng = np.random.default_rng([seed, 77])
        self.trainings: dict[Any, Training] = {}
        self._places: dict[Any, int] = {}
        self._used: dict[int, int] = {}
        self._orders: dict[int, list[int]] = {}

    def begin(self, peer: Peer) -> Training:
        key, point, about = peer.ask()
        if point is None:
            return self.trainings[key]
        identity = key[0] if isinstance(key, tuple) else key  # (configuration, seed), or the number of a trial
        if identity not in self._places:
            place = self._nearest.find(point, self._places.values())
            assert place is not None
            self._places[identity] = place
        place = self._places[identity]
        curves = self._task.configurations[place].curves
        order = self._orders.setdefault(place, self._rng.permutation(len(curves)).tolist())
        used = self._used[place] = self._used.get(place, -1) + 1
        training = Training(key, place, curves[order[used % len(order)]], about=about)
        self.trainings[key] = training
        return training

    def advance(self, training: Training, peer: Peer) -> bool:
        """Let a training finish its epoch; tell whether it goes on now."""
        value = training.curve.values[training.epoch]
        training.epoch += 1
        if not math.isnan(value):
            training.best = max(training.best, value)
            if training.epoch < len(training.curve.values):
                return peer.report(training, value)
            peer.report(training, value)
            training.complete = True
        peer.finish(training)
        return False


class Smac:
    """SMAC3's facade for hyperparameter optimisation: random forest, and an intensifier that races over seeds."""

    def __init__(self, task: Task, seed: int, budget: int) -> None:
        from ConfigSpace import ConfigurationSpace
        from smac import HyperparameterOptimizationFacade, Scenario

        logging.getLogger("smac").setLevel(logging.ERROR)
        self._space = task.space
        self._folder = tempfile.TemporaryDirectory()
        space = ConfigurationSpace(seed=seed)
        _fill(space, task.space)
        scenario = Scenario(space, deterministic=False, n_trials=budget, seed=seed, output_directory=self._folder.name)
        fewest = min(len(c.curves) for c in task.configurations)
        self._smac = HyperparameterOptimizationFacade(
            scenario,
            lambda config, seed=0: 0.0,
            intensifier=HyperparameterOptimizationFacade.get_intensifier(scenario, max_config_calls=max(2, fewest)),
            initial_design=HyperparameterOptimizationFacade.get_initial_design(scenario, max_ratio=0.25),
            overwrite=True,
            logging_level=False,
        )
        self._names: dict[Any, int] = {}

    def ask(self) -> tuple[Any, Mapping[str, Scalar] | None, Any]:
        """Return (configuration, seed)."""
        info = self._smac.ask()
        number = self._names.setdefault(info.config, len(self._names))
        return (number, info.seed), _read(dict(info.config), self._space), info

    def report(self, training: Training, value: float) -> bool:
        """Go on: it ends no training."""
        return True

    def finish(self, training: Training) -> None:
        """Tell the value; higher is better there, lower here."""
        from smac.runhistory import StatusType, TrialValue

        seconds = sum(training.curve.seconds[: training.epoch])
        cost = 1.0 - training.best if training.complete else WORST
        self._smac.tell(training.about, TrialValue(cost, seconds, status=StatusType.SUCCESS), save=False)

    def recommended(self, trainings: Mapping[Any, Training]) -> int | None:
        """Return its incumbent, which leads by the mean of its seeds."""
        for config in self._smac.intensifier.get_incumbents():
            number = self._names.get(config)
            place = next((t.configuration for key, t in trainings.items() if key[0] == number), None)
            if place is not None:
                return place
        return None


class SyneTune:
    """Syne Tune's asynchronous successive halving by promotion, with its defaults and random configurations."""

    def __init__(self, task: Task, seed: int, budget: int) -> None:
        from syne_tune.config_space import choice, loguniform, randint, uniform
        from syne_tune.optimizer.schedulers.hyperband import HyperbandScheduler

        logging.getLogger("syne_tune").setLevel(logging.ERROR)
        self._space = task.space
        kinds = {"categorical": choice, "int": randint}
        space: dict[str, Any] = {"epochs": task.epochs}
        for i, d in enumerate(task.space):
            if d.kind == "categorical":
                space[f"p{i}"] = choice([str(k) for k in range(len(d.choices))])
            else:
                draw = loguniform if d.log else kinds.get(d.kind, uniform)
                space[f"p{i}"] = draw(d.low, d.high if d.high > d.low else d.low + 1e-9)
        self._scheduler = HyperbandScheduler(
            space, searcher="random", type="promotion", metric="value", mode="max", resource_attr="epoch",
            max_resource_attr="epochs", random_seed=seed,
        )  # fmt: skip
        self._trials: dict[int, Any] = {}

    def ask(self) -> tuple[Any, Mapping[str, Scalar] | None, Any]:
        """Return the number of a new trial, or of one that goes on."""
        from syne_tune.backend.trial_status import Trial

        asked = self._scheduler.suggest(len(self._trials))
        if not asked.spawn_new_trial_id:
            return asked.checkpoint_trial_id, None, None
        number = len(self._trials)
        self._trials[number] = Trial(number, asked.config, datetime.now())
        self._scheduler.on_trial_add(self._trials[number])
        return number, _read(asked.config, self._space), None

    def report(self, training: Training, value: float) -> bool:
        """Tell an epoch; it may pause the trial."""
        result = {"value": training.best, "epoch": training.epoch}
        return bool(self._scheduler.on_trial_result(self._trials[training.key], result) == "CONTINUE")

    def finish(self, training: Training) -> None:
        """Tell the end; a training that diverged is removed."""
        trial = self._trials[training.key]
        if training.complete:
            self._scheduler.on_trial_complete(trial, {"value": training.best, "epoch": training.epoch})
        else:
            self._scheduler.on_trial_error(trial)

    def recommended(self, trainings: Mapping[Any, Training]) -> int | None:
        """Return the complete trial with the best value."""
        complete = [t for t in trainings.values() if t.complete]
        return max(complete, key=lambda t: t.best).configuration if complete else None


def _fill(space: Any, dimensions: SearchSpace) -> None:
    """Add the dimensions of a task to a ConfigSpace, each under its number, choices by theirs."""
    from ConfigSpace import Categorical, EqualsCondition, Float, Integer

    made: dict[str, tuple[Any, Dimension]] = {}
    for i, d in enumerate(dimensions):
        if d.kind == "categorical":
            parameter = Categorical(f"p{i}", [str(k) for k in range(len(d.choices))])
        else:
            high = d.high if d.high > d.low else d.low + 1
            bounds = (int(d.low), int(high)) if d.kind == "int" else (d.low, high)
            parameter = (Integer if d.kind == "int" else Float)(f"p{i}", bounds, log=d.log)
        space.add(parameter)
        made[d.name] = parameter, d
        if d.when is not None:
            switch, other = made[d.when[0]]
            space.add(EqualsCondition(parameter, switch, str(other.choices.index(d.when[1]))))


def _read(values: Mapping[str, Any], dimensions: SearchSpace) -> dict[str, Scalar]:
    """Return the point of a proposal."""
    point: dict[str, Scalar] = {}
    for i, d in enumerate(dimensions):
        value = values.get(f"p{i}")
        if value is None or (d.when is not None and point.get(d.when[0]) != d.when[1]):
            continue
        point[d.name] = d.choices[int(value)] if d.kind == "categorical" else d.nearest(value)
    return point


@dataclass(frozen=True, slots=True)
class Program:
    """A program, and the modules that it needs."""

    make: Callable[[Task, int, int], Peer]
    modules: tuple[str, ...]
    install: str

    def missing(self) -> str | None:
        """Say why it cannot be used; None where it can."""
        for module in self.modules:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    found = importlib.util.find_spec(module) is not None
            except ImportError:
                found = False
            if not found:
                return f"{module} is not installed: {self.install}"
        return None


PEERS = {
    "smac3": Program(Smac, ("smac", "ConfigSpace"), "pip install smac"),
    "syne_tune_promotion": Program(
        SyneTune, ("syne_tune.optimizer.schedulers.hyperband",), "pip install syne-tune==0.13.0"
    ),
}
"""By the name in the tables."""
