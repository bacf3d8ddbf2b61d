"""Epoch reports: what a training says of itself, epoch by epoch. Importing this imports no torch."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tuner.errors import RunError

Values = Mapping[str, float | None]
WHOLE_CASE = "all"
"""In the place of a class: a value that a case has as a whole."""


class Diverged(RunError):  # noqa: N818 (a verdict on the parameters, not a mistake of the program)
    """A loss or a metric is not finite: these parameters do not train."""

    code = "diverged"

    def __init__(self, epoch: int, what: str) -> None:
        super().__init__(f"epoch {epoch}: {what}")
        self.epoch = epoch


@dataclass(frozen=True, slots=True)
class CaseScore:
    """Scores of one validation case: metric, then class name, then the value (None: not counted)."""

    case: str
    metrics: Mapping[str, Values]

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {"case": self.case, "metrics": {name: dict(values) for name, values in self.metrics.items()}}


@dataclass(frozen=True, slots=True)
class PeakMemory:
    """The most memory that a training has held until now."""

    of: str
    """`cuda`: the tensors on the device. `process`: all that the process of the training had in memory."""
    bytes: int

    @classmethod
    def from_dict(cls, found: Mapping[str, Any] | None) -> "PeakMemory | None":
        """Read it back; None for None."""
        return None if found is None else cls(str(found["of"]), int(found["bytes"]))


@dataclass(frozen=True, slots=True)
class EpochReport:
    """One finished epoch; an epoch without validation has no metrics."""

    epoch: int
    """From 1."""
    train_loss: float | None
    """Mean over the samples; None when a training function of the user's does not say."""
    lr: float | None
    """Learning rate of the epoch's last step."""
    seconds: float
    metrics: Values = field(default_factory=dict)
    """Mean over classes of the means over cases."""
    per_class: Mapping[str, Values] = field(default_factory=dict)
    """Metric, then class name: the mean over the cases that counted the class."""
    cases: tuple[CaseScore, ...] = ()
    one_class: bool = False
    """True when every validation pixel was given the same class."""
    peak_memory: PeakMemory | None = None
    """Since the training began in this process; None where nobody has measured it."""
    replayed: bool = False
    """True when an earlier attempt trained this epoch, and the report only repeats what it said."""

    def as_dict(self) -> dict[str, Any]:
        """Return the line of `metrics.jsonl`."""
        return {
            "epoch": self.epoch,
            "train_loss": self.train_loss,
            "lr": self.lr,
            "seconds": round(self.seconds, 4),
            "metrics": dict(self.metrics),
            "per_class": {name: dict(values) for name, values in self.per_class.items()},
            "one_class": self.one_class,
            "peak_memory": None if self.peak_memory is None else asdict(self.peak_memory),
        }

    @classmethod
    def from_dict(cls, line: Mapping[str, Any], cases: Iterable[Mapping[str, Any]] = ()) -> "EpochReport":
        """Read a line of `metrics.jsonl` (and those of `cases.jsonl`) back, as a replayed report."""
        return cls(
            epoch=int(line["epoch"]),
            train_loss=line["train_loss"],
            lr=line["lr"],
            seconds=float(line["seconds"]),
            metrics=line["metrics"],
            per_class=line["per_class"],
            cases=tuple(CaseScore(case["case"], case["metrics"]) for case in cases),
            one_class=bool(line.get("one_class", False)),
            peak_memory=PeakMemory.from_dict(line.get("peak_memory")),
            replayed=True,
        )


def check_finite(report: EpochReport) -> EpochReport:
    """Return the report, or raise Diverged when its loss or one of its metrics is not finite."""
    values = {"train_loss": report.train_loss, **report.metrics}
    for name, value in values.items():
        if value is not None and not math.isfinite(value):
            raise Diverged(report.epoch, f"{name} is {value}")
    return report


def is_better(value: float, than: float | None, direction: str) -> bool:
    """Say whether `value` beats `than` in a direction (`maximize` or `minimize`); the first value always does."""
    if than is None:
        return True
    return value > than if direction == "maximize" else value < than
