"""Records that go into the storage and come out of it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tuner.registry import Scalar
from tuner.search.finished_trial import FinishedTrial
from tuner.search.pruners import Peers
from tuner.search.space import Dimension, SearchSpace
from tuner.storage.states import DesiredState, Reason, State, Verdict


@dataclass(frozen=True, slots=True)
class NewStudy:
    """A study that is to be created, checked already by `tuner.config.study`."""

    name: str
    spec: Mapping[str, Any]
    space: SearchSpace
    objectives: Sequence[Mapping[str, str]]
    """`{"metric", "direction": "maximize" | "minimize"}`, the first one is the value of a trial."""
    queue: Sequence[Mapping[str, Scalar]]
    """The budget: for each trial its parameters, `{}` where the sampler chooses, some where only a part is given."""
    seed: int = 0
    retries: int = 3
    timeout_s: float | None = None
    resources: Mapping[str, Any] = field(default_factory=dict)
    version: str = ""

    @property
    def directions(self) -> tuple[str, ...]:
        """Direction of each objective."""
        return tuple(o["direction"] for o in self.objectives)


@dataclass(frozen=True, slots=True)
class StudyRecord:
    """A stored study."""

    study_id: int
    name: str
    identity: str
    parent: str | None
    """Identity of the study whose finalists this one, a confirmation, trains again; None for a search."""
    marks_folder: bool
    """Whether the folder of its files is marked with `identity`; not those of studies of older versions."""
    spec: dict[str, Any]
    space: SearchSpace
    objectives: tuple[dict[str, str], ...]
    seed: int
    total: int
    retries: int
    timeout_s: float | None
    spent_s: float
    resources: dict[str, Any]
    wanted: DesiredState
    wanted_reason: str | None
    message: str | None
    version: str
    revision: int
    archived: bool = False
    """Nothing of it is begun or queued."""

    @property
    def directions(self) -> tuple[str, ...]:
        """Direction of each objective."""
        return tuple(o["direction"] for o in self.objectives)


@dataclass(frozen=True, slots=True)
class ConfirmationRun:
    """One training of a confirmation: with folds, one of several that make a run."""

    configuration: str
    run: int
    """From 1; it has the same seed, folds and order of the data for every configuration."""
    fold: int | None = None

    @property
    def params(self) -> dict[str, Scalar]:
        """Return its point of the confirmation's space."""
        fold = {} if self.fold is None else {"fold": self.fold}
        return {"configuration": self.configuration, "run": self.run, **fold}

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> "ConfirmationRun":
        """Read it back from a trial's parameters."""
        return cls(str(params["configuration"]), int(params["run"]), params.get("fold"))


@dataclass(frozen=True, slots=True)
class Look:
    """A verdict on a confirmation that is planned or was made; it spends a part of the error rate."""

    look: int
    """From 1."""
    runs: int
    """Of each configuration: the look is due when so many are over."""
    level: float
    """The part of alpha that it spends."""
    configurations: tuple[str, ...]
    pairs: int
    """Of the first look: p values are adjusted over so many."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A trial that a worker holds: the ticket for every later call about it."""

    study_id: int
    study_name: str
    study_identity: str
    """A study that was deleted and made anew has another one, though it may have the same id."""
    trial_id: int
    number: int
    slot: int
    """Place in the budget, from 0; the same for every attempt."""
    attempt: int
    """From 1."""
    retry_of: int | None
    params: dict[str, Scalar]
    has_params: bool
    """Whether `params` is the whole point already; else the sampler fills in the rest."""
    previous: tuple[int, ...]
    """Numbers of the earlier attempts, oldest first."""
    exclusive_device: bool
    """Whether it must have its device for itself: with others beside it, it ran out of memory."""
    lost: int
    """How many earlier attempts were lost with their workers, or ended with their processes."""
    worker_id: str
    directions: tuple[str, ...]
    hours_per_loss: float | None = None
    """Training time that each loss of the study gets; None where trials are counted."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What a worker is to do about the trial that it holds, beside training it."""

    stop: bool = False
    """The study is to be stopped."""
    prune: bool = False
    """A user wants the trial ended."""
    now: bool = False
    """It is not to wait for the next report, and its process is ended when it does not answer."""


@dataclass(frozen=True, slots=True)
class EpochRow:
    """One validated epoch. Metrics that are not finite are stored as null."""

    epoch: int
    """From 1."""
    value: float | None
    """The first objective at this epoch."""
    metrics: Mapping[str, float | None]
    per_class: Mapping[str, Mapping[str, float | None]]
    train_loss: float | None
    lr: float | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class ReportAnswer:
    """What the store says to a reported epoch."""

    verdict: Verdict
    reason: str | None = None
    """Why the study stops: `user`, `timeout`, `failures`."""
    peers: Peers | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended."""

    state: State
    reason: Reason | None = None
    message: str | None = None
    values: tuple[float, ...] | None = None
    """Every objective at the best epoch of the first; COMPLETE trials only."""
    last: tuple[int, float] | None = None
    """Epoch and first objective of the last report."""
    retry: bool = False
    """Give the place in the budget back to the queue."""
    counted: bool = False
    """The retry is one of those that `budget.retries` counts, as after a lost worker."""
    spoiled: bool = False
    """Its process can train nothing more, and ends."""
    exclusive_device: bool = False
    """The next attempt must have its device for itself."""


@dataclass(frozen=True, slots=True)
class StopRule:
    """When a study ends before its budget is used up, by its first objective."""

    no_gain_in: int | None = None
    """So many trials that ended COMPLETE or PRUNED since the best one."""
    target: float | None = None


@dataclass(frozen=True, slots=True)
class PriorResult:
    """A result of an earlier study or table, at a point of this study's space. It steers the sampler, nothing else."""

    params: dict[str, Scalar]
    value: float
    same_data: bool
    """Whether it comes from the data of this study; else only its rank among the others means anything."""


@dataclass(frozen=True, slots=True)
class History:
    """What a sampler has not seen yet, and what runs beside it."""

    finished: list[FinishedTrial]
    running: list[FinishedTrial]
    cursor: int


@dataclass(frozen=True, slots=True)
class LostTrial:
    """A trial whose worker is gone, and what became of it."""

    number: int
    worker_id: str | None
    requeued_as: int | None
    """Number of the new attempt; None when the retries are used up."""


def finite(value: float | None) -> float | None:
    """Return the value, or None for one that is not a number or not finite: JSON and SQL have no such thing."""
    return value if value is not None and math.isfinite(value) else None


def read_space(rows: Sequence[Mapping[str, Any]]) -> SearchSpace:
    """Rebuild a space from the JSON form of its dimensions."""
    return SearchSpace(tuple(_dimension(row) for row in rows))


def _dimension(row: Mapping[str, Any]) -> Dimension:
    when = next(iter(row["when"].items())) if row.get("when") else None
    return Dimension(
        name=row["name"],
        kind=row["kind"],
        low=row.get("low", 0.0),
        high=row.get("high", 0.0),
        log=row.get("log", False),
        steps=row.get("steps"),
        step=row.get("step"),
        choices=tuple(row.get("choices", ())),
        when=when,
    )
