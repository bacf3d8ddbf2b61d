"""Validation: predict everything, count on the device, score each case, mean over cases and then over classes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tuner.config.trial import TrainConfig
from tuner.data.arrays import SampleArray, Split, stack_range, zeros_like
from tuner.data.preparation import PreparedData
from tuner.metrics.catalog import METRICS
from tuner.metrics.overlap import confusion_by_case, confusion_counts
from tuner.metrics.scoring import mean_scores, score_case, without_absent
from tuner.training.batches import Samples
from tuner.training.components import PlacedModel
from tuner.training.epoch_report import CaseScore
from tuner.training.sliding_window import sliding_window_inference

Labels = NDArray[np.uint8]


@dataclass(frozen=True)
class Validation:
    """What one validation found."""

    metrics: dict[str, float | None]
    per_class: dict[str, dict[str, float | None]]
    cases: tuple[CaseScore, ...]
    confusion: NDArray[np.int64]
    """[C, C] pixels of all cases, truth along the rows"""
    predictions: SampleArray
    """[N, *S] predicted class of every validation sample, uint8"""

    @property
    def one_class(self) -> bool:
        """Whether all pixels were given the same class."""
        return int(np.count_nonzero(self.confusion.sum(0))) <= 1


@dataclass(frozen=True)
class Predicted:
    """Predicted classes of every validation sample, and their counts against the truth by what is scored as one."""

    labels: SampleArray
    confusion: NDArray[np.int64]
    """[units, C, C]"""


class Validator:
    """Predicts the validation split: whole samples in batches, or windows that slide over samples of any size."""

    def __init__(self, data: PreparedData, device: str, *, train: TrainConfig, share: float = 1.0) -> None:
        self.data, self._train = data, train
        self.patch = train.patch_shape(data.spatial_dims)
        self.units = score_units(data.validation, stacked=data.stacked)
        self.samples = None if self.patch else Samples(data.validation, device, share)
        self._unit_of = torch.repeat_interleave(torch.tensor([unit.stop - unit.start for unit in self.units]))
        if self.samples is not None:
            self._unit_of = self._unit_of.to(device)

    def __len__(self) -> int:
        return len(self.data.validation.labels)

    def predict(self, net: PlacedModel, stop: Callable[[], bool]) -> Predicted | None:
        """Return what the network predicts; None when `stop` said so in the middle."""
        net.model.eval()
        if self.samples is None:
            return self._by_windows(net, stop)
        predicted = predict(net, self.samples, batch_size=self._train.batch_size, stop=stop)
        if predicted is None:
            return None
        labels: Labels = predicted.cpu().numpy()
        return Predicted(labels, self._confusion(predicted, self.samples))

    def _confusion(self, predicted: Tensor, samples: Samples) -> NDArray[np.int64]:
        truth = samples.labels
        if truth is None:
            truth = torch.from_numpy(np.array(self.data.validation.labels)).to(predicted.device)
        counts = confusion_by_case(
            predicted,
            truth,
            self._unit_of,
            cases=len(self.units),
            classes=self.data.classes,
            ignore_index=self.data.ignore_index,
        )
        found: NDArray[np.int64] = counts.cpu().numpy()
        return found

    def _by_windows(self, net: PlacedModel, stop: Callable[[], bool]) -> Predicted | None:
        predicted = zeros_like(self.data.validation.labels)
        for number, image in enumerate(self.data.validation.images):
            labels = sliding_window_inference(
                net,
                image,
                patch=self.patch or (),
                overlap=self._train.overlap,
                batch_size=self._train.batch_size,
                stop=stop,
            )
            if labels is None:
                return None
            predicted[number][...] = labels
        counts = [
            confusion_counts(
                unit.of(predicted),
                unit.of(self.data.validation.labels),
                classes=self.data.classes,
                ignore_index=self.data.ignore_index,
            )
            for unit in self.units
        ]
        return Predicted(predicted, np.stack(counts))


def validate(net: PlacedModel, validator: Validator, *, stop: Callable[[], bool]) -> Validation | None:
    """Score a network on the validation split, distances in mm where the spacing of a case is known.

    None when `stop` said so in the middle.
    """
    data, predicted = validator.data, validator.predict(net, stop)
    if predicted is None:
        return None
    scores = []
    for unit, counts in zip(validator.units, predicted.confusion, strict=True):
        if stop():
            return None
        scores.append(
            score_case(
                unit.of(predicted.labels),
                unit.of(data.validation.labels),
                data.classes,
                data.ignore_index,
                tuple(METRICS),
                spacing=unit.spacing,
                confusion=counts,
                background=data.background,
            )
        )
    confusion = predicted.confusion
    if not data.background:
        scores = without_absent(scores, (confusion.sum((0, 2)) > 0).tolist())
    means, per_class = mean_scores(scores)
    named = zip(validator.units, scores, strict=True)
    return Validation(
        metrics=means,
        per_class=by_class(per_class, data.scored_names),
        cases=tuple(CaseScore(unit.name, by_class(score, data.scored_names)) for unit, score in named),
        confusion=confusion.sum(0),
        predictions=predicted.labels,
    )


@torch.no_grad()
def predict(net: PlacedModel, samples: Samples, *, batch_size: int, stop: Callable[[], bool]) -> Tensor | None:
    """Return the predicted class of every sample, [N, *S] uint8 on the device; None when `stop` said so."""
    net.model.eval()
    found = []
    for index in torch.split(torch.arange(len(samples)), batch_size):
        if stop():
            return None
        images, _ = samples.batch(index)
        found.append(net.logits(net.to_device(images)).argmax(1).to(torch.uint8))
    return torch.cat(found)


@dataclass(frozen=True, slots=True)
class ScoreUnit:
    """What is scored as one: all slices of a case, or a single sample."""

    name: str
    start: int
    stop: int
    single: bool
    spacing: tuple[float, ...] | None = None
    """Size in mm of a pixel along each axis of the unit; None: not known."""

    def of(self, array: SampleArray) -> Labels:
        """Cut the unit out of samples [N, *S]: [slices, H, W] of a stack, [*S] of a sample."""
        return np.asarray(array[self.start]) if self.single else stack_range(array, self.start, self.stop)


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
            yield ScoreUnit(name, int(rows[0]), int(rows[-1]) + 1, single=False, spacing=split.spacing_of(number))


def _singles(split: Split) -> Iterator[ScoreUnit]:
    counts = np.bincount(split.case_of, minlength=len(split.cases))
    seen = np.zeros(len(split.cases), np.int64)
    for row, number in enumerate(split.case_of):
        name = split.cases[number]
        full_name = name if counts[number] == 1 else f"{name}#{seen[number]}"
        yield ScoreUnit(full_name, row, row + 1, single=True, spacing=split.spacing_of(number))
        seen[number] += 1
