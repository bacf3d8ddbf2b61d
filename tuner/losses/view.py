"""What every loss reads: a batch of logits and labels, checked and flattened once, its softmax computed once."""

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from tuner.errors import LossInputError
from tuner.losses.softmax_sums import SoftmaxSums

LANES = 512


@dataclass(frozen=True, slots=True)
class Overlap:
    """Per unit (image, or the whole batch) and class: the sums that overlap losses are made of, each [U, C].

    `square` is the sum of squared probabilities (None where it was not asked for); `units` [U] is 1 for a unit
    that has a valid pixel.
    """

    tp: Tensor
    p: Tensor
    t: Tensor
    square: Tensor | None
    units: Tensor

    def without_background(self) -> "Overlap":
        """Drop class 0."""
        square = None if self.square is None else self.square[:, 1:]
        return Overlap(self.tp[:, 1:], self.p[:, 1:], self.t[:, 1:], square, self.units)


@dataclass(frozen=True)
class View:
    """Logits [B, C, *S] in float32 or float64 and labels [B, *S] in 0..C-1, with the void pixels apart.

    `void` [B, *S] marks pixels that count nowhere; None where it is known that there are none. `whole_void` is
    None where only the device knows. `sums` and `squares` say which sums the losses of this batch will read,
    so that one pass makes all of them. `maps` keeps the target maps that a loss had to make.
    """

    logits: Tensor
    labels: Tensor
    void: Tensor | None
    whole_void: bool | None
    sums: bool = False
    squares: bool = False
    maps: dict[str, Tensor] = field(default_factory=dict)

    @property
    def classes(self) -> int:
        """Number of classes C."""
        return self.logits.shape[1]

    @cached_property
    def flat_labels(self) -> Tensor:
        """Labels [B, N]; 0 on void pixels."""
        return self.labels.flatten(1)

    @cached_property
    def flat_void(self) -> Tensor | None:
        """Void pixels [B, N]."""
        return None if self.void is None else self.void.flatten(1)

    @cached_property
    def valid(self) -> Tensor:
        """Valid pixels [B, N] as 0 and 1 of the logits' type."""
        if self.flat_void is None:
            return torch.ones_like(self.flat_labels, dtype=self.logits.dtype)
        return (~self.flat_void).to(self.logits.dtype)

    @cached_property
    def counts(self) -> Tensor:
        """Valid pixels of each class in each image, [B, C] of the logits' type."""
        images = torch.arange(len(self.labels), device=self.labels.device).unsqueeze(1)
        bins = self.flat_labels + images * self.classes
        total = len(self.labels) * self.classes
        if self.flat_void is not None:
            bins = bins.masked_fill(self.flat_void, total)
        if bins.device.type == "cpu":
            counted = torch.bincount(bins.flatten(), minlength=total + 1)
        else:
            # bincount reads its input's maximum on the host and would make it wait
            counted = bins.new_zeros(total + 1).scatter_add(0, bins.flatten(), torch.ones_like(bins).flatten())
        return counted[:total].view(-1, self.classes).to(self.logits.dtype)

    @cached_property
    def n_valid(self) -> Tensor:
        """Number of valid pixels in the batch, at least 1, so that it can be divided by."""
        return self.counts.sum().clamp_min(1)

    @cached_property
    def _softmax(self) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        flat = self.logits.flatten(2)
        return SoftmaxSums.apply(  # type: ignore[no-untyped-call,no-any-return]
            flat, self.flat_labels, self.flat_void, self.sums, self.squares
        )

    @property
    def nll(self) -> Tensor:
        """-ln of the true class's probability, [B, N]; 0 on void pixels."""
        return self._softmax[0]

    @property
    def probabilities(self) -> Tensor:
        """Softmax over the classes, [B, C, N]; 0 on void pixels."""
        return self._softmax[1]

    @cached_property
    def clean_logits(self) -> Tensor:
        """Logits [B, C, *S] with 0 on void pixels, whatever stood there; for losses that need more than sums."""
        return self.logits if self.void is None else torch.where(self.void.unsqueeze(1), 0, self.logits)

    @cached_property
    def p_true(self) -> Tensor:
        """Probability of the true class, [B, N]; 0 on void pixels."""
        p_true = torch.exp(-self.nll)
        return p_true if self.flat_void is None else p_true.masked_fill(self.flat_void, 0)

    def class_sums(self, values: Tensor) -> Tensor:
        """Sum values [B, N] by the pixels' true class: [B, C].

        In float64 where there is one: float32 rounds each addend to the digits that a sum of a million leaves.
        Off the CPU each class has LANES bins, or all threads would queue for the same few.
        """
        device = values.device.type
        wide = values if device == "mps" else values.double()
        if device == "cpu":
            sums = wide.new_zeros(len(wide), self.classes).scatter_add(1, self.flat_labels, wide)
        else:
            lanes = torch.arange(wide.shape[1], device=wide.device).remainder_(LANES).mul_(self.classes)
            bins = wide.new_zeros(len(wide), LANES * self.classes).scatter_add(1, self.flat_labels + lanes, wide)
            sums = bins.view(-1, LANES, self.classes).sum(1)
        return sums.to(values.dtype)

    @cached_property
    def _overlap_of_images(self) -> Overlap:
        _, _, total, square = self._softmax
        if total is None:
            raise ValueError("this batch was read without sums")
        units = (self.counts.sum(1) > 0).to(total.dtype)
        return Overlap(self.class_sums(self.p_true), total, self.counts, square, units)

    @cached_property
    def _overlap_of_batch(self) -> Overlap:
        of = self._overlap_of_images
        square = None if of.square is None else of.square.sum(0, keepdim=True)
        tp, p, t = (part.sum(0, keepdim=True) for part in (of.tp, of.p, of.t))
        return Overlap(tp, p, t, square, of.units.amax(0, keepdim=True))

    def overlap(self, *, per_image: bool) -> Overlap:
        """Return the overlap sums, per image or over the whole batch."""
        return self._overlap_of_images if per_image else self._overlap_of_batch


def read_view(logits: Tensor, target: Tensor, *, ignore_index: int, sums: bool = False, squares: bool = False) -> View:
    """Check and flatten what a loss is given.

    logits [B, C, *S] raw scores, 2-D or 3-D; one channel z enters as two, [0, z]; half types are raised to float32.
    target [B, *S] integer class ids, or ignore_index on void pixels.
    Labels are checked on the CPU; on a device that would make the host wait (see `check_labels`).
    Raises LossInputError on shapes that do not fit, on labels out of range and on targets that are no integers.
    """
    _check_shapes(logits, target)
    if logits.dtype not in (torch.float32, torch.float64):
        logits = logits.float()
    if logits.shape[1] == 1:
        logits = F.pad(logits, (0, 0) * (logits.ndim - 2) + (1, 0))
    labels = target.long()
    classes = logits.shape[1]
    if labels.device.type != "cpu":
        void = labels == ignore_index
        return View(logits, labels.masked_fill(void, 0), void, None, sums, squares)
    if _all_in_range(labels, classes) and not 0 <= ignore_index < classes:
        return View(logits, labels, None, False, sums, squares)
    void = labels == ignore_index
    labels = labels.masked_fill(void, 0)
    check_labels(labels, classes=classes, ignore_index=ignore_index)
    return View(logits, labels, void, bool(void.all()), sums, squares)


def check_labels(target: Tensor, *, classes: int, ignore_index: int) -> None:
    """Raise LossInputError if a label is neither a class nor void; waits for the device where there is one."""
    labels = target.masked_fill(target == ignore_index, 0)
    if not _all_in_range(labels, classes):
        wrong = sorted({int(label) for label in torch.unique(labels) if not 0 <= label < classes})
        raise LossInputError(
            f"target holds the labels {', '.join(map(str, wrong[:5]))}, but logits have {classes} classes: "
            f"labels are 0 to {classes - 1}, or {ignore_index} on pixels to ignore."
        )


def _all_in_range(labels: Tensor, classes: int) -> bool:
    if labels.numel() == 0:
        return True
    low, high = torch.aminmax(labels)
    return bool((low >= 0) & (high < classes))


def _check_shapes(logits: Tensor, target: Tensor) -> None:
    shapes = f"logits {list(logits.shape)} {logits.dtype} and target {list(target.shape)} {target.dtype}"
    if logits.ndim not in (4, 5) or 0 in logits.shape:
        raise LossInputError(f"{shapes}: logits must be [B, C, H, W] or [B, C, D, H, W], nothing empty.")
    if target.shape != (logits.shape[0], *logits.shape[2:]):
        fitting = [logits.shape[0], *logits.shape[2:]]
        raise LossInputError(f"{shapes} do not fit: the target must be {fitting}, one class id per pixel.")
    if not logits.is_floating_point():
        raise LossInputError(f"{shapes}: logits must be floating-point numbers.")
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise LossInputError(f"{shapes}: the target must hold integer class ids.")
