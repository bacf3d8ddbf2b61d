"""Validation: predict everything, count on the device, score each case, mean over cases and then over classes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tuner.config.trial import TrainConfig
from tuner.data.arrays import SampleArray, Split, stack_range, zeros_like
from tuner.data.preparation import PreparedData
from tuner.data.transfer import copy_to_device
from tuner.losses.targets import region_table
from tuner.metrics.calibration import CalibrationCounter, CalibrationCounts
from tuner.metrics.catalog import MASK_METRICS
from tuner.metrics.overlap import confusion_by_case, confusion_counts
from tuner.metrics.scoring import CaseScores, mean_scores, score_case, score_masks, without_absent
from tuner.metrics.surface import KnownDistances
from tuner.training.batches import Samples
from tuner.training.components import PlacedModel
from tuner.training.epoch_report import WHOLE_CASE, CaseScore, Values
from tuner.training.sliding_window import Labels, slide

KNOWN_BYTES = 128 << 20
"""Of surface distances that are kept from one validation to the next."""


@dataclass(frozen=True)
class Validation:
    """What one validation found."""

    metrics: dict[str, float | None]
    per_class: dict[str, dict[str, float | None]]
    cases: tuple[CaseScore, ...]
    confusion: NDArray[np.int64]
    """[C, C] pixels of all cases, truth along the rows"""
    predictions: SampleArray
    """[N, *S] predicted class of every validation sample, uint8; the codes of regions where classes overlap"""
    one_class: bool
    """Whether all pixels were given the same class, or the same regions"""
    calibration: CalibrationCounts
    """Of every unit, by predicted class, or by region"""


@dataclass(frozen=True)
class Predicted:
    """Predicted classes of every validation sample, and their counts against the truth by what is scored as one."""

    labels: SampleArray
    """Codes where classes overlap"""
    calibration: CalibrationCounts
    confusion: NDArray[np.int64] | None
    """[units, C, C]; None where classes overlap"""


class Validator:
    """Predicts the validation split: whole samples in batches, or windows that slide over samples of any size."""

    def __init__(self, data: PreparedData, device: str, *, train: TrainConfig, share: float = 1.0) -> None:
        self.data, self._train = data, train
        self.patch = train.patch_shape(data.spatial_dims)
        self.units = score_units(data.validation, stacked=data.stacked)
        self.known = [KnownDistances(KNOWN_BYTES // len(self.units)) for _ in self.units]
        self.samples = None if self.patch else Samples(data.validation, device, share)
        unit_of = torch.repeat_interleave(torch.tensor([unit.stop - unit.start for unit in self.units]))
        self._unit_of = unit_of.to(device)
        self._device = device

    def __len__(self) -> int:
        return len(self.data.validation.labels)

    def predict(self, net: PlacedModel, stop: Callable[[], bool]) -> Predicted | None:
        """Return what the network predicts; None when `stop` said so in the middle."""
        net.model.eval()
        if self.samples is None:
            return self._by_windows(net, stop)
        counter = self._counter()
        predicted = predict(
            net,
            self.samples,
            batch_size=self._train.batch_size,
            stop=stop,
            on_logits=lambda logits, found, labels, index: counter.add(logits, labels, self._unit_of[index], found),
        )
        if predicted is None:
            return None
        labels: Labels = predicted.cpu().numpy()
        confusion = None if self.data.regions is not None else self._confusion(predicted, self.samples)
        return Predicted(labels, counter.counts(), confusion)

    def _counter(self) -> CalibrationCounter:
        return calibration_counter(self.data, len(self.units), self._device)

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
        predicted, counter = zeros_like(self.data.validation.labels, net.label_type), self._counter()
        for number, image in enumerate(self.data.validation.images):
            truth = self.data.validation.labels[number]
            found = slide(
                net,
                image,
                patch=self.patch or (),
                overlap=self._train.overlap,
                batch_size=self._train.batch_size,
                stop=stop,
            )
            for planes in found:
                if planes is None:
                    return None
                classes = net.decide(planes.sums, 0)
                predicted[number][planes.place] = classes.cpu().numpy()
                labels = copy_to_device(torch.from_numpy(np.array(truth[planes.place])), self._device)
                counter.add(planes.logits[None], labels[None], self._unit_of[number : number + 1], classes[None])
        if self.data.regions is not None:
            return Predicted(predicted, counter.counts(), None)
        counts = [
            confusion_counts(
                unit.of(predicted),
                unit.of(self.data.validation.labels),
                classes=self.data.classes,
                ignore_index=self.data.ignore_index,
            )
            for unit in self.units
        ]
        return Predicted(predicted, counter.counts(), np.stack(counts))


def validate(net: PlacedModel, validator: Validator, *, stop: Callable[[], bool]) -> Validation | None:
    """Score a network on the validation split, distances in mm where the spacing of a case is known.

    None when `stop` said so in the middle.
    """
    data, predicted = validator.data, validator.predict(net, stop)
    if predicted is None:
        return None
    if predicted.confusion is None:
        return _validate_regions(validator, predicted, stop)
    scores = []
    for unit, counts, known in zip(validator.units, predicted.confusion, validator.known, strict=True):
        if stop():
            return None
        scores.append(
            score_case(
                unit.of(predicted.labels),
                unit.of(data.validation.labels),
                data.classes,
                data.ignore_index,
                MASK_METRICS,
                spacing=unit.spacing,
                confusion=counts,
                background=data.background,
                known=known,
            )
        )
    confusion = predicted.confusion
    if not data.background:
        scores = without_absent(scores, (confusion.sum((0, 2)) > 0).tolist())
    one_class = int(np.count_nonzero(confusion.sum((0, 1)))) <= 1
    return _validation(validator, predicted, scores, confusion.sum(0), one_class=one_class)


def _validate_regions(validator: Validator, predicted: Predicted, stop: Callable[[], bool]) -> Validation | None:
    """Score every region by itself; the confusion matrix is that of the label maps that are written."""
    data, regions = validator.data, validator.data.regions
    assert regions is not None
    scores, codes = [], set()
    confusion = np.zeros((data.classes, data.classes), np.int64)
    for unit in validator.units:
        if stop():
            return None
        found, labels = unit.of(predicted.labels), unit.of(data.validation.labels)
        scores.append(score_regions(found, labels, data, unit.spacing))
        codes |= set(np.unique(found).tolist())
        truth = regions.written(labels, ignore_index=data.ignore_index)
        confusion += confusion_counts(
            regions.label_map(found), truth, classes=data.classes, ignore_index=data.ignore_index
        )
    return _validation(validator, predicted, scores, confusion, one_class=len(codes) <= 1)


def _validation(
    validator: Validator,
    predicted: Predicted,
    scores: Sequence[CaseScores],
    confusion: NDArray[np.int64],
    *,
    one_class: bool,
) -> Validation:
    """Put together what was found of all units; `confusion` [C, C] is that of them all."""
    names = validator.data.scored_names
    means, per_class = mean_scores(scores)
    calibration = predicted.calibration
    cases = [
        CaseScore(unit.name, by_class(score, names) | whole_case(calibration.of([number]).scores()))
        for number, (unit, score) in enumerate(zip(validator.units, scores, strict=True))
    ]
    return Validation(
        metrics=means | calibration.scores(),
        per_class=by_class(per_class | {"ece": _ece_by_class(validator.data, calibration)}, names),
        cases=tuple(cases),
        calibration=calibration,
        confusion=confusion,
        predictions=predicted.labels,
        one_class=one_class,
    )


def _ece_by_class(data: PreparedData, counts: CalibrationCounts) -> list[float | None]:
    """Return the calibration error of what is predicted as each of the scored classes, or of each region."""
    first = data.outputs - len(data.scored_names)
    return [counts.ece(number) for number in range(first, data.outputs)]


def score_regions(
    codes: NDArray[Any],
    labels: NDArray[Any],
    data: PreparedData,
    spacing: Sequence[float] | None,
    metrics: Sequence[str] = MASK_METRICS,
) -> CaseScores:
    """Score predicted codes of regions against a label map, both [*S]."""
    regions = data.regions
    assert regions is not None
    ignored, truth = labels == data.ignore_index, regions.codes(labels)
    pairs = ((regions.mask(codes, number), regions.mask(truth, number)) for number in range(len(regions)))
    return score_masks(pairs, ignored if ignored.any() else None, metrics, spacing)


def calibration_counter(data: PreparedData, units: int, device: str) -> CalibrationCounter:
    """Return a counter for so many units of a data set, by class or by region."""
    members = None if data.regions is None else region_table(data.regions.members)
    return CalibrationCounter(units, data.outputs, device=device, ignore_index=data.ignore_index, members=members)


def whole_case(scores: Values) -> dict[str, dict[str, float | None]]:
    """Return metrics that a case has one value of as `by_class` returns those that it has by class."""
    return {metric: {WHOLE_CASE: value} for metric, value in scores.items()}


@torch.no_grad()
def predict(
    net: PlacedModel,
    samples: Samples,
    *,
    batch_size: int,
    stop: Callable[[], bool],
    on_logits: Callable[[Tensor, Tensor, Tensor, Tensor], None] = lambda logits, found, labels, index: None,
) -> Tensor | None:
    """Return the predicted class (or code) of every pixel, [N, *S] on the device; None when `stop` said so.

    `on_logits` is given the logits [B, C, *S], what was predicted [B, *S] and the labels [B, *S] of at most
    `batch_size` samples on the device, and their numbers [B] on the CPU.
    """
    net.model.eval()
    found = []
    for index in torch.split(torch.arange(len(samples)), net.inference_batch(batch_size)):
        if stop():
            return None
        images, labels = samples.batch(index)
        logits = net.logits(net.to_device(images))
        found.append(net.decide(logits, 1))
        for part in zip(*(torch.split(of, batch_size) for of in (logits, found[-1], labels, index)), strict=True):
            on_logits(*part)
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
