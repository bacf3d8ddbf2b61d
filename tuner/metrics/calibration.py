"""Calibration: whether a network is right as often as it says, and the negative log-likelihood of the truth.

Expected calibration error (Guo et al., On Calibration of Modern Neural Networks, ICML 2017, eq. 3): pixels are put into
`BINS` bins of equal width by the probability of what is predicted, and ECE = Σ_b n_b / n · |accuracy_b - confidence_b|.
By class, the same over the pixels that are predicted as that class (top-label calibration: Gupta and Ramdas, Top-label
calibration and multiclass-to-binary reductions, ICLR 2022).

Where classes exclude each other, a pixel is one prediction: the most probable class. Regions are a prediction each, yes
or no, whose probability is that of the answer: sigmoid(|logit|); all regions of a pixel count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

BINS = 15
"""Bins of equal width; bin b holds probabilities in (b / BINS, (b + 1) / BINS]. The number of Guo et al."""
_UNIT = 1 << 30
"""Probabilities are added up in whole multiples of 1 / _UNIT: in whatever order, such sums are the same."""


@dataclass(frozen=True)
class CalibrationCounts:
    """What was counted of several units (cases, or samples), by group: the predicted class, or the region.

    Units without a counted pixel have zeros.
    """

    count: NDArray[np.int64]
    """[units, groups, BINS] predictions"""
    correct: NDArray[np.int64]
    """[units, groups, BINS] predictions that are right"""
    confidence: NDArray[np.float64]
    """[units, groups, BINS] sum of the predictions' probabilities"""
    log_loss: NDArray[np.float64]
    """[units] sum of -log p(truth), in nats"""

    @classmethod
    def together(cls, counts: Sequence["CalibrationCounts"]) -> "CalibrationCounts":
        """Return the counts of all units of several."""
        names = ("count", "correct", "confidence", "log_loss")
        return cls(*(np.concatenate([getattr(of, name) for of in counts]) for name in names))

    def of(self, units: slice | Sequence[int]) -> "CalibrationCounts":
        """Return the counts of some of the units."""
        return CalibrationCounts(self.count[units], self.correct[units], self.confidence[units], self.log_loss[units])

    def ece(self, group: int | None = None) -> float | None:
        """Return the expected calibration error of all units together; None where nothing was counted.

        `group`: of what is predicted as this class, or of this region; of everything else.
        """
        rows = (slice(None), slice(None) if group is None else slice(group, group + 1))
        count, correct, confidence = (of[rows].sum((0, 1)) for of in (self.count, self.correct, self.confidence))
        if not count.sum():
            return None
        if not np.isfinite(self.log_loss).all():
            return float("nan")
        return float(np.abs(correct - confidence).sum() / count.sum())

    def nll(self) -> float | None:
        """Return the mean of -log p(truth) over everything that was counted, in nats; None where there is nothing."""
        count = self.count.sum()
        return float(self.log_loss.sum() / count) if count else None

    def scores(self) -> dict[str, float | None]:
        """Return both metrics by their names."""
        return {"ece": self.ece(), "nll": self.nll()}

    def as_dict(self, names: Sequence[str], *, regions: bool) -> dict[str, Any]:
        """Return what a reliability diagram is drawn from, all units together, as plain data for JSON.

        `names` are those of the groups, `regions` whether they overlap.
        """
        groups = {
            name: {"ece": self.ece(number), **_bins(self, slice(number, number + 1))}
            for number, name in enumerate(names)
        }
        return {
            "bins": BINS,
            "of": "regions" if regions else "classes",
            "predictions": int(self.count.sum()),
            **self.scores(),
            **_bins(self, slice(None)),
            "per_class": groups,
        }


def _bins(counts: CalibrationCounts, groups: slice) -> Mapping[str, list[Any]]:
    count, correct, confidence = (
        of[:, groups].sum((0, 1)).tolist() for of in (counts.count, counts.correct, counts.confidence)
    )
    return {
        "count": count,
        "accuracy": [right / n if n else None for right, n in zip(correct, count, strict=True)],
        "confidence": [total / n if n else None for total, n in zip(confidence, count, strict=True)],
    }


class CalibrationCounter:
    """Counts batch after batch, on the device of the logits."""

    def __init__(
        self, units: int, groups: int, *, device: str, ignore_index: int, members: Tensor | None = None
    ) -> None:
        """Count for so many units.

        Args:
            units: Number of what is scored as one.
            groups: Number of classes C, or of regions R.
            device: Where the logits are.
            ignore_index: The label that takes a pixel out.
            members: [R, 256] whether a label lies in a region; None: classes exclude each other.
        """
        self._shape = (units, groups, BINS)
        self._ignore = ignore_index
        self._members = None if members is None else members.to(device, torch.bool)
        size = units * groups * BINS * 2
        # behind the last bin there is one for pixels that do not count: a boolean index would make the device wait
        self._count = torch.zeros(size + 2, dtype=torch.int64, device=device)
        self._confidence = torch.zeros(size // 2 + 1, dtype=torch.int64, device=device)
        self._loss: list[tuple[Tensor, Tensor]] = []

    def add(self, logits: Tensor, labels: Tensor, unit_of: Tensor, predicted: Tensor | None = None) -> None:
        """Count a batch.

        Args:
            logits: [B, C, *S], or [B, R, *S] of regions.
            labels: [B, *S] integers, label maps in both cases.
            unit_of: [B] the unit that a sample belongs to; on the device of the logits it needs no copy.
            predicted: [B, *S] integers, the most probable classes, where the caller has them; not asked for of regions.
        """
        units, groups, bins = self._shape
        ignored = labels == self._ignore
        # an accelerator would have to wait for the answer
        has_ignored = labels.device.type != "cpu" or bool(ignored.any())
        truth = (labels.masked_fill(ignored, 0) if has_ignored else labels).long()
        if self._members is None:
            log_p = functional.log_softmax(logits.float(), 1)
            top = log_p.amax(1)  # four times as fast as a maximum that says where it is
            group = logits.max(1).indices if predicted is None else predicted
            loss = log_p.gather(1, truth[:, None])[:, 0].neg_()
            right = group == labels
        else:
            inside = self._members[:, truth].transpose(0, 1)
            top = functional.logsigmoid(logits.float().abs())
            loss = functional.softplus(torch.where(inside, -logits, logits).float())
            right = (logits > 0) == inside
            ignored = ignored[:, None].expand_as(inside)
            group = torch.arange(groups, device=logits.device).view(1, -1, *[1] * (labels.ndim - 1)).expand_as(inside)
        probability = top.exp_().nan_to_num_()
        place = (probability * bins).ceil_().clamp_(1, bins).to(torch.int32)
        first = unit_of.to(logits.device, torch.int32) * (groups * bins) - 1
        place.add_(first.view(-1, *[1] * (place.ndim - 1))).add_(group, alpha=bins)
        if has_ignored:
            place.masked_fill_(ignored, units * groups * bins)
            loss.masked_fill_(ignored, 0)
        place = place.flatten()
        # whole numbers are added up by index, which no device waits for, as it does for the size of a bincount
        self._confidence.index_add_(0, place, probability.mul_(_UNIT).long().flatten())
        kinds = place.mul_(2).add_(right.flatten())
        self._count.index_add_(0, kinds, torch.ones_like(kinds, dtype=torch.int64))
        self._loss.append((unit_of, loss.flatten(1).sum(1)))

    def counts(self) -> CalibrationCounts:
        """Return what was counted until now."""
        count = self._count[:-2].view(*self._shape, 2).cpu().numpy()
        log_loss = np.zeros(self._shape[0])
        for unit_of, loss in self._loss:
            np.add.at(log_loss, unit_of.cpu().numpy(), loss.double().cpu().numpy())
        confidence = self._confidence[:-1].view(self._shape).cpu().numpy() / _UNIT
        return CalibrationCounts(count.sum(-1), count[..., 1].copy(), confidence, log_loss)
