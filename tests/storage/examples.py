"""Small studies for the tests of the store."""

from collections.abc import Mapping, Sequence
from typing import Any

from tuner.registry import Scalar
from tuner.search.space import Dimension, SearchSpace
from tuner.storage.records import Claim, EpochRow, NewStudy, Outcome
from tuner.storage.states import Reason, State
from tuner.storage.storage import Storage

LOSSES = ("dice", "focal", "tversky")
SPACE = SearchSpace(
    (
        Dimension("loss", "categorical", choices=LOSSES),
        Dimension("train.lr", "float", 1e-5, 1e-2, log=True),
        Dimension("train.batch_size", "categorical", choices=(4, 8, 16)),
        Dimension("train.nesterov", "categorical", choices=(True, False)),
        Dimension("model.width", "int", 8, 64, log=True),
        Dimension("loss.focal.gamma", "float", 0.5, 5.0, when=("loss", "focal")),
        Dimension("loss.tversky.alpha", "float", 0.1, 0.9, when=("loss", "tversky")),
    )
)
DICE = ({"metric": "dice", "direction": "maximize"},)
DICE_AND_HD95 = (*DICE, {"metric": "hd95", "direction": "minimize"})


def new_study(name: str = "organs", trials: int = 3, **changes: Any) -> NewStudy:
    """Describe a study with an empty queue."""
    fields: dict[str, Any] = {
        "name": name,
        "spec": {"dataset": {"name": "phantom"}, "model": {"name": "unet"}},
        "space": SPACE,
        "objectives": DICE,
        "queue": [{}] * trials,
        "seed": 7,
        "version": "test",
    }
    return NewStudy(**(fields | changes))


def point(loss: str = "focal", **changes: Scalar) -> dict[str, Scalar]:
    """Return a whole point of SPACE."""
    params: dict[str, Scalar] = {
        "loss": loss,
        "train.lr": 1e-3,
        "train.batch_size": 8,
        "train.nesterov": False,
        "model.width": 16,
    }
    if loss == "focal":
        params["loss.focal.gamma"] = 2.0
    if loss == "tversky":
        params["loss.tversky.alpha"] = 0.3
    return params | changes


def epoch(number: int, value: float | None = 0.5, hd95: float | None = 10.0, **changes: Any) -> EpochRow:
    """Return one reported epoch."""
    fields: dict[str, Any] = {
        "epoch": number,
        "value": value,
        "metrics": {"dice": value, "hd95": hd95},
        "per_class": {"dice": {"liver": value, "aorta": None}},
        "train_loss": 1.0 / number,
        "lr": 1e-3,
        "seconds": 0.5,
    }
    return EpochRow(**(fields | changes))


def claimed(store: Storage, study_id: int, worker: str = "w1", params: Mapping[str, Scalar] | None = None) -> Claim:
    """Claim the next trial and give it a whole point."""
    claim = store.trials.claim(study_id, worker)
    assert claim is not None
    whole = claim.params if claim.has_params else dict(params or point())
    assert store.trials.set_params(claim, whole, SPACE)
    return claim


def completed(value: float, *others: float, last: tuple[int, float] | None = None) -> Outcome:
    """Return the outcome of a trial that ran to its end."""
    return Outcome(State.COMPLETE, values=(value, *others), last=last or (1, value))


def pruned(reason: Reason = Reason.PRUNED, last: tuple[int, float] | None = (1, 0.1)) -> Outcome:
    """Return the outcome of a trial that was ended early."""
    return Outcome(State.PRUNED, reason, last=last)


def failed(reason: Reason = Reason.ERROR, *, retry: bool = False, alone: bool = False) -> Outcome:
    """Return the outcome of a trial that failed."""
    return Outcome(State.FAIL, reason, "a message", retry=retry, exclusive_device=alone)


def run_all(store: Storage, study_id: int, values: Sequence[float], loss: str = "focal") -> list[Claim]:
    """Complete one trial for each value, each with two epochs."""
    claims = []
    for value in values:
        claim = claimed(store, study_id, params=point(loss))
        store.epochs.report(claim, epoch(1, value / 2, 100 * value))
        store.epochs.report(claim, epoch(2, value, 10 * value))
        assert store.trials.finish(
            claim, completed(value, *[10 * value] * (len(claim.directions) - 1), last=(2, value))
        )
        claims.append(claim)
    return claims
