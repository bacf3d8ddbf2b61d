"""Validation: predict everything, count on the device, score each case, mean over cases and then over classes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tuner.data.prepared import PreparedData, Split
from tuner.metrics.catalogue import METRICS
from tuner.metrics.confusion import confusion_by_case
from tuner.metrics.score import mean_scores, score_case, without_absent
from tuner.training.batches import Samples
from tuner.training.reports import CaseScore
from tuner.training.trial import Trial

Labels = NDArray[np.uint8]


@dataclass(frozen=True)
class Validation:
    """What one validation found."""

    metrics: dict[str, float | None]
    per_class: dict[str, dict[str, float | None]]
    cases: tuple[CaseScore, ...]
    confusion: NDArray[np.int64]
    """[C, C] pixels of all cases, truth along the rows"""
    predictions: Labels
    """[N, *S] predicted class of every validation sample"""

    @property
    def one_class(self) -> bool:
        """Whether all pixels were given the same class."""
        return int(np.count_nonzero(self.confusion.sum(0))) <= 1


def validate(
    trial: Trial, samples: Samples, data: PreparedData, *, batch_size: int, stop: Callable[[], bool]
) -> Validation | None:
    """Score the network on the validation half; None when `stop` said so in the middle."""
    split = data.validation
    predicted = predict(trial, samples, batch_size=batch_size, stop=stop)
    if predicted is None:
        return None
    units = score_units(split, stacked=data.stacked)
    confusion = _confusion(predicted, split, units, data)
    predictions: Labels = predicted.cpu().numpy()
    scores = []
    for unit, counts in zip(units, confusion, strict=True):
        if stop():
            return None
        scores.append(
            score_case(
                unit.of(predictions),
                unit.of(split.labels),
                data.classes,
                data.ignore_index,
                tuple(METRICS),
                confusion=counts,
                background=data.background,
            )
        )
    if not data.background:
        scores = without_absent(scores, (confusion.sum((0, 2)) > 0).tolist())
    means, per_class = mean_scores(scores)
    return Validation(
        metrics=means,
        per_class=by_class(per_class, data.scored_names),
        cases=tuple(
            CaseScore(unit.name, by_class(score, data.scored_names)) for unit, score in zip(units, scores, strict=True)
        ),
        confusion=confusion.sum(0),
        predictions=predictions,
    )


@torch.no_grad()
def predict(trial: Trial, samples: Samples, *, batch_size: int, stop: Callable[[], bool]) -> Tensor | None:
    """Return the predicted class of every sample, [N, *S] uint8 on the device; None when `stop` said so."""
    trial.model.eval()
    found = []
    for index in torch.split(torch.arange(len(samples)), batch_size):
        if stop():
            return None
        images, _ = samples.batch(index)
        found.append(trial.logits(trial.to_device(images)).argmax(1).to(torch.uint8))
    return torch.cat(found)


@dataclass(frozen=True, slots=True)
class ScoreUnit:
    """What is scored as one: all slices of a case, or a single sample."""

    name: str
    start: int
    stop: int
    single: bool

    def of(self, array: NDArray[np.uint8]) -> Labels:
        """Cut the unit out of an array [N, *S]: [slices, H, W] of a stack, [*S] of a sample."""
        return np.asarray(array[self.start] if self.single else array[self.start : self.stop])


def by_class(
    scores: Mapping[str, Sequence[float | None]], scored_names: Sequence[str]
) -> dict[str, dict[str, float | None]]:
    """Name the values of the scored classes: metric, then class name, then the value."""
    return {metric: dict(zip(scored_names, values, strict=True)) for metric, values in scores.items()}


def score_units(split: Split, *, stacked: bool) -> list[ScoreUnit]:
    """Divide the samples into what is scored as one; a case of several single samples is numbered."""
    return list(_stacks(split) if stacked else _singles(split))


def _stacks(split: Split) -> Iterator[ScoreUnit]:
    for number, name in enumerate(split.cases):
        rows = np.flatnonzero(split.case_of == number)
        if rows.size:
            yield ScoreUnit(name, int(rows[0]), int(rows[-1]) + 1, single=False)


def _singles(split: Split) -> Iterator[ScoreUnit]:
    counts = np.bincount(split.case_of, minlength=len(split.cases))
    seen = np.zeros(len(split.cases), np.int64)
    for row, number in enumerate(split.case_of):
        name = split.cases[number]
        yield ScoreUnit(name if counts[number] == 1 else f"{name}#{seen[number]}", row, row + 1, single=True)
        seen[number] += 1


def _confusion(predicted: Tensor, split: Split, units: list[ScoreUnit], data: PreparedData) -> NDArray[np.int64]:
    unit_of = torch.repeat_interleave(torch.tensor([unit.stop - unit.start for unit in units]))
    counts = confusion_by_case(
        predicted,
        torch.from_numpy(np.array(split.labels)).to(predicted.device),
        unit_of.to(predicted.device),
        cases=len(units),
        classes=data.classes,
        ignore_index=data.ignore_index,
    )
    found: NDArray[np.int64] = counts.cpu().numpy()
    return found
