"""Probabilities of several networks on the validation cases, kept on disk, and what their means score."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tuner.analysis.ensemble_selection import CaseValues
from tuner.atomic_io import require_space
from tuner.data.arrays import Ragged, SampleArray, spatial_shape
from tuner.data.preparation import PreparedData
from tuner.metrics.calibration import CalibrationCounts
from tuner.metrics.catalog import METRICS
from tuner.metrics.scoring import CaseScores, mean_scores, score_case, without_absent
from tuner.training.epoch_report import WHOLE_CASE
from tuner.training.evaluate import ScoreUnit, calibration_counter, score_regions, score_units

_LEAST = 1e-12
"""Probabilities below it are counted as it: a mean may be 0, and its logarithm is not a number."""


class ProbabilityPool:
    """Networks, by what each says of every validation pixel.

    The probabilities lie in files without a name, which are gone when the process is, however it ends.
    """

    def __init__(
        self, data: PreparedData, metric: str, members: int, folder: Path, group: Callable[[str], str]
    ) -> None:
        """Make room for so many networks.

        Args:
            data: The prepared data; its validation cases are scored.
            metric: What an ensemble is scored by.
            members: Number of networks.
            folder: Where the files go.
            group: Returns what a case belongs to that must not be divided (a patient).

        Raises:
            DiskFullError: There is no space for the probabilities.
        """
        self.data, self.metric, self.members = data, METRICS.find(metric).name, members
        self.units = score_units(data.validation, stacked=data.stacked)
        split = data.validation
        self.cases = [group(split.cases[split.case_of[unit.start]]) for unit in self.units]
        self.is_maximized = METRICS[self.metric].direction == "maximize"
        labels = data.validation.labels
        self._shapes = [(data.outputs, *spatial_shape(labels, number)) for number in range(len(labels))]
        size = 4 * members * sum(int(np.prod(shape)) for shape in self._shapes)
        folder.mkdir(parents=True, exist_ok=True)
        require_space(
            folder,
            needed=size,
            purpose=f"the probabilities of {members} trials",
            hint="name fewer trials with --trials, or another folder with --cache.",
        )
        self.probabilities = [self._empty(folder) for _ in range(members)]
        self._occurring = self._truth_of_classes()

    def _empty(self, folder: Path) -> SampleArray:
        total = sum(int(np.prod(shape)) for shape in self._shapes)
        with tempfile.TemporaryFile(dir=folder) as file:
            flat: NDArray[np.float32] = np.memmap(file, np.float32, "w+", shape=(total,))
        if isinstance(self.data.validation.labels, Ragged):
            return Ragged(flat, self._shapes)
        return flat.reshape(len(self._shapes), *self._shapes[0])

    def _truth_of_classes(self) -> list[bool] | None:
        """Return which classes occur at all, where there is no background (as a validation asks); else None."""
        if self.data.background or self.data.regions is not None:
            return None
        labels = self.data.validation.labels
        seen = sum(np.bincount(np.asarray(labels[n]).ravel(), minlength=256) for n in range(len(labels)))
        return [bool(count) for count in np.asarray(seen)[: self.data.classes]]

    def is_finite(self, member: int) -> bool:
        """Say whether all that a network predicted are numbers."""
        found = self.probabilities[member]
        return all(bool(np.isfinite(np.asarray(found[number])).all()) for number in range(len(self._shapes)))

    def keep(self, members: Sequence[int]) -> None:
        """Forget all networks but these, which are numbered anew."""
        self.probabilities = [self.probabilities[member] for member in members]
        self.members = len(members)

    def begin(self, units: Sequence[int]) -> "RunningMean":
        """Return an empty ensemble on some of the units."""
        return RunningMean(self, units)

    def score(self, unit: ScoreUnit, mean: NDArray[np.float32]) -> CaseScores | CalibrationCounts:
        """Score a unit by the mean of probabilities, [C, *S], or [slices, C, H, W] of a stack."""
        data, truth = self.data, unit.of(self.data.validation.labels)
        axis = 0 if unit.single else 1
        values = torch.from_numpy(mean)
        if METRICS[self.metric].of_probabilities:
            return self._count(values if axis else values[None], truth if axis else truth[None])
        if data.regions is not None:
            codes = sum((values.select(axis, k) > 0.5).int() << k for k in range(len(data.regions)))
            assert isinstance(codes, Tensor)
            return {self.metric: score_regions(codes.numpy(), truth, data, unit.spacing, (self.metric,))[self.metric]}
        labels = values.max(axis).indices.numpy().astype(np.uint8)
        return score_case(
            labels,
            truth,
            data.classes,
            data.ignore_index,
            (self.metric,),
            spacing=unit.spacing,
            background=data.background,
        )

    def _count(self, values: Tensor, truth: NDArray[Any]) -> CalibrationCounts:
        values = values.clamp(_LEAST, 1)
        logits = values.log() if self.data.regions is None else torch.logit(values, eps=1e-7)
        counter = calibration_counter(self.data, 1, "cpu")
        labels = torch.from_numpy(np.array(truth, np.int64))
        counter.add(logits, labels, torch.zeros(len(labels), dtype=torch.int64))
        return counter.counts()

    def value(self, scores: Sequence[CaseScores | CalibrationCounts]) -> float | None:
        """Return the metric of several units together, as a validation has it."""
        counts = [found for found in scores if isinstance(found, CalibrationCounts)]
        if counts:
            return CalibrationCounts.together(counts).scores()[self.metric]
        return mean_scores(self._counted(scores))[0][self.metric]

    def by_class(self, scores: Sequence[CaseScores | CalibrationCounts]) -> list[CaseValues]:
        """Return the values of each unit by class."""
        if any(isinstance(found, CalibrationCounts) for found in scores):
            return [{WHOLE_CASE: of.scores()[self.metric]} for of in scores if isinstance(of, CalibrationCounts)]
        names = self.data.scored_names
        return [dict(zip(names, found[self.metric], strict=True)) for found in self._counted(scores)]

    def _counted(self, scores: Sequence[CaseScores | CalibrationCounts]) -> list[CaseScores]:
        cases = [found for found in scores if not isinstance(found, CalibrationCounts)]
        return cases if self._occurring is None else without_absent(cases, self._occurring)


class RunningMean:
    """The sum of the probabilities of an ensemble's members on some units."""

    def __init__(self, pool: ProbabilityPool, units: Sequence[int]) -> None:
        self._pool = pool
        self._units = [pool.units[unit] for unit in units]
        self._sums: list[NDArray[np.float32]] | None = None
        self._count = 0

    def value_with(self, member: int) -> float | None:
        """Return the score that it would have with a further member."""
        return self._pool.value([self._pool.score(unit, mean) for unit, mean in self._with(member)])

    def add(self, member: int) -> None:
        """Take a member in."""
        self._sums = [mean * (self._count + 1) for _, mean in self._with(member)]
        self._count += 1

    def by_unit(self) -> list[CaseValues]:
        """Return the values of each unit, by class."""
        assert self._sums is not None
        scores = [
            self._pool.score(unit, total / np.float32(self._count))
            for unit, total in zip(self._units, self._sums, strict=True)
        ]
        return self._pool.by_class(scores)

    def _with(self, member: int) -> Iterator[tuple[ScoreUnit, NDArray[np.float32]]]:
        """Yield each unit with its mean of a further member, one after the other: they do not lie in memory at once."""
        for number, unit in enumerate(self._units):
            part = np.asarray(unit.of(self._pool.probabilities[member]), np.float32)
            total = part if self._sums is None else self._sums[number] + part
            yield unit, total / np.float32(self._count + 1)
