"""LossInputs: a batch of logits and labels, checked and flattened once, its softmax statistics computed once.

`segmentation_loss` makes a formula over them a function of logits and target.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import update_wrapper
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from tuner.errors import LossInputError
from tuner.losses.softmax_stats import ClassSums, ErrorSums, SoftmaxSums, WrongSums, on_host, true_class_indices
from tuner.registry import load

T = TypeVar("T")


class KeepsResults(Protocol):
    """An object with a place for what was computed."""

    @property
    def kept(self) -> dict[str, Any]:
        """Values by name."""
        ...


class CachedOnce(Generic[T]):
    """Decorates a method of an object that `KeepsResults`: its first result stays in `kept`."""

    def __init__(self, read: Callable[[Any], T]) -> None:
        self.read = read
        self.name = read.__name__
        self.__doc__ = read.__doc__

    def __get__(self, instance: KeepsResults, owner: object = None) -> T:
        """Return the value, computed now or before."""
        if self.name not in instance.kept:
            instance.kept[self.name] = self.read(instance)
        value: T = instance.kept[self.name]
        return value


@dataclass(frozen=True, slots=True)
class Overlap:
    """Per unit (image, or the whole batch) and class: the sums that overlap losses are made of, each [U, C].

    `square` is the sum of squared probabilities (None where it was not asked for); `units` [U] is 1 for a unit
    that has a valid pixel. `pixels` [U, 1] counts the valid pixels where the classes do not: where they overlap.
    """

    tp: Tensor
    p: Tensor
    t: Tensor
    square: Tensor | None
    units: Tensor
    pixels: Tensor | None = None

    def without_background(self) -> "Overlap":
        """Drop class 0."""
        square = None if self.square is None else self.square[:, 1:]
        return Overlap(self.tp[:, 1:], self.p[:, 1:], self.t[:, 1:], square, self.units, self.pixels)

    def valid_pixels(self) -> Tensor:
        """Count the valid pixels of every unit, [U, 1]."""
        return self.t.sum(1, keepdim=True) if self.pixels is None else self.pixels

    def others(self, sums: Tensor) -> Tensor:
        """Return, for sums [U, C] over every class, those over all pixels that are not of it, [U, C].

        Classes that exclude each other: the sum of the others', exact where the total less the one is not.
        """
        if self.pixels is not None:
            return self.pixels - sums
        apart = 1 - torch.eye(sums.shape[1], dtype=sums.dtype, device=sums.device)
        return sums @ apart


@dataclass(frozen=True)
class LossInputs:
    """Logits [B, C, *S] in float32 or float64 and labels [B, *S] in 0..C-1, with the void pixels apart.

    `void` [B, *S] marks pixels that count nowhere; None where it is known that there are none. `whole_void` is
    None where only the device knows. `sums` and `squares` say which sums the losses of this batch will read,
    so that one pass makes all of them; without `logs` they hardly need -ln p. `maps` keeps the target maps that a loss
    had to make. `per_pixel` asks pixel losses for the value of every pixel instead of the mean.
    `class_weights` [C] say how much classes count in the mean over them.
    """

    logits: Tensor
    labels: Tensor
    void: Tensor | None
    whole_void: bool | None
    sums: bool = False
    squares: bool = False
    logs: bool = True
    maps: dict[str, Tensor] = field(default_factory=dict)
    per_pixel: bool = False
    class_weights: Tensor | None = None
    kept: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    @property
    def classes(self) -> int:
        """Number of classes C."""
        return self.logits.shape[1]

    @property
    def first_foreground(self) -> int:
        """The first class that is not background."""
        return 1

    @property
    def all_count_alike(self) -> bool:
        """Whether it is known that every one of the values [B, M] of a pixel loss counts 1."""
        return self.void is None

    @property
    def label_weights(self) -> Tensor | None:
        """How much each of the values [B, M] of a pixel loss counts; None where all count 1, or 0 on void pixels."""
        return None

    def of_class(self, table: Tensor) -> Tensor:
        """Look up table [C] at every pixel's label: [B, N]; class 0 on void pixels."""
        # several times faster than indexing
        return table.index_select(0, self.flat_labels.flatten()).view_as(self.flat_labels)

    def on_background(self) -> Tensor:
        """Say of every pixel, as 0 and 1, whether it is background: [B, N]."""
        return self.of_class(torch.eye(1, self.classes, dtype=self.logits.dtype, device=self.logits.device)[0])

    def lead(self) -> Tensor:
        """Return how far the true class's logit is above the mean of all, [B, N]: what label smoothing costs."""
        logits = self.clean_logits.flatten(2)
        return logits.gather(1, self.flat_labels.unsqueeze(1)).squeeze(1) - logits.mean(1)

    def mass(self, table: Tensor) -> Tensor:
        """Return the sum of table [C] over the labels of all valid pixels."""
        return (self.counts * table).sum()

    def pixel_map(self, values: Tensor) -> Tensor:
        """Return values [B, N] in the shape of the image, [B, *S]."""
        return values.view(self.labels.shape)

    def nothing_valid(self) -> Tensor | None:
        """Say on the device whether there is no valid pixel; None where that is known to be otherwise."""
        return self.void.all() if self.whole_void is None and self.void is not None else None

    @CachedOnce
    def flat_labels(self) -> Tensor:
        """Labels [B, N]; 0 on void pixels."""
        return self.labels.flatten(1)

    @CachedOnce
    def flat_void(self) -> Tensor | None:
        """Void pixels [B, N]."""
        return None if self.void is None else self.void.flatten(1)

    @CachedOnce
    def valid(self) -> Tensor:
        """Valid pixels [B, N] as 0 and 1 of the logits' type."""
        if self.flat_void is None:
            return torch.ones_like(self.flat_labels, dtype=self.logits.dtype)
        return (~self.flat_void).to(self.logits.dtype)

    @CachedOnce
    def counts(self) -> Tensor:
        """Valid pixels of each class in each image, [B, C] of the logits' type."""
        marked, void = self.flat_labels, self.flat_void
        if void is not None:
            marked = marked.masked_fill(void, self.classes)
        if on_host(marked):
            counted = torch.stack([torch.bincount(image, minlength=self.classes + 1) for image in marked])
        else:
            # bincount reads its input's maximum on the host and would make it wait
            counted = marked.new_zeros(len(marked), self.classes + 1)
            counted = counted.scatter_add(1, marked, torch.ones_like(marked))
        return counted[:, : self.classes].to(self.logits.dtype)

    @CachedOnce
    def places(self) -> Tensor:
        """Where the true classes lie in maps [B, C, N], for `tuner.losses.softmax_stats`; class 0 on void pixels."""
        return true_class_indices(self.logits.flatten(2), self.flat_labels)

    @CachedOnce
    def n_valid(self) -> Tensor:
        """Number of valid pixels in the batch, at least 1, so that it can be divided by."""
        if self.void is None:
            return self.logits.new_tensor(float(self.labels.numel()))
        return (self.labels.numel() - self.void.sum()).clamp_min(1).to(self.logits.dtype)

    @CachedOnce
    def _softmax(self) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        flat = self.logits.flatten(2)
        return SoftmaxSums.apply(  # type: ignore[no-untyped-call,no-any-return]
            flat, self.flat_labels, self.places, self.flat_void, self.sums, self.squares, self.logs
        )

    @property
    def probabilities(self) -> Tensor:
        """Softmax over the classes, [B, C, N]; 0 on void pixels."""
        return self._softmax[0]

    @property
    def p_true(self) -> Tensor:
        """Probability of the true class, [B, N]; 0 on void pixels."""
        return self._softmax[1]

    @CachedOnce
    def wrong(self) -> Tensor:
        """Probability of all other classes, 1 - `p_true`, [B, N]; 0 on void pixels."""
        wrong = 1 - self.p_true
        return wrong if self.flat_void is None else wrong.masked_fill(self.flat_void, 0)

    @CachedOnce
    def nll(self) -> Tensor:
        """-ln of the true class's probability, [B, N]; 0 on void pixels."""
        nll = self._softmax[2]
        if nll is not None:
            return nll
        p_true = self.p_true if self.flat_void is None else self.p_true.masked_fill(self.flat_void, 1)
        return -torch.log(p_true)

    @property
    def total_nll(self) -> Tensor:
        """Sum of `nll` over all pixels, a scalar."""
        return self.nll.sum()

    @CachedOnce
    def exact_nll(self) -> Tensor:
        """As `nll`, but with all digits where p is nearly 1: for powers below 1, which magnify what rounding leaves."""
        wrong: Tensor = WrongSums.apply(self.probabilities, self.places)  # type: ignore[no-untyped-call]
        return torch.where(wrong < 0.5, -torch.log1p(-wrong.clamp_max(0.5)), self.nll)

    @CachedOnce
    def clean_logits(self) -> Tensor:
        """Logits [B, C, *S] with 0 on void pixels, whatever stood there; for losses that need more than sums."""
        return self.logits if self.void is None else torch.where(self.void.unsqueeze(1), 0, self.logits)

    def class_sums(self, values: Tensor) -> Tensor:
        """Sum values [B, N] by the pixels' true class: [B, C].

        In float64 where there is one: float32 rounds each addend to the digits that a sum of a million leaves.
        """
        sums: Tensor = ClassSums.apply(values, self.flat_labels, self.classes)  # type: ignore[no-untyped-call]
        return sums

    def error_sums(self, *, per_image: bool, power: float = 1.0) -> tuple[Tensor, Tensor]:
        """Return the sums of (1 - p_c)^power over the pixels of c, and of p_c^power over all others, each [U, C].

        With power 1 they are the false negatives and the false positives. They keep their digits however small they
        are beside the image, which 1 - Dice, P_c - TP_c and the like do not.
        """
        sums: Tensor = ErrorSums.apply(self.probabilities, self.flat_labels, self.places, power)  # type: ignore[no-untyped-call]
        if not per_image and len(self.logits) > 1:
            sums = sums.sum(1, keepdim=True)
        missed, false = sums.unbind(0)
        return missed, false

    def overlap(self, *, per_image: bool) -> Overlap:
        """Return the overlap sums, per image or over the whole batch."""
        sums, t = self._softmax[3], self.counts
        if sums is None:
            raise ValueError("this batch was read without sums")
        if not per_image and len(t) > 1:
            sums, t = sums.sum(1, keepdim=True), t.sum(0, keepdim=True)
        tp, p, *square = sums.unbind(0)
        # a batch that is all void comes no further than `LossFunction.on`
        units = t.new_ones(1) if len(t) == 1 else (t.sum(1) > 0).to(t.dtype)
        return Overlap(tp, p, t, square[0] if square else None, units)


def read_inputs(
    logits: Tensor,
    target: Tensor,
    *,
    ignore_index: int | None,
    mask: Tensor | None = None,
    sums: bool = False,
    squares: bool = False,
    logs: bool = True,
    per_pixel: bool = False,
    class_weights: Tensor | None = None,
) -> LossInputs:
    """Check and flatten what a loss is given.

    logits [B, C, *S] raw scores, 2-D or 3-D; one channel z enters as two, [0, z]; half types are raised to float32.
    target [B, *S] integer class ids, or ignore_index on void pixels; mask [B, *S] bool is False on more of them.
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

    def inputs(labels: Tensor, void: Tensor | None, whole_void: bool | None) -> LossInputs:
        reads = (sums, squares, logs)
        return LossInputs(logits, labels, void, whole_void, *reads, per_pixel=per_pixel, class_weights=class_weights)

    if not on_host(labels):
        void = _void(labels, ignore_index, mask)
        return inputs(labels, None, False) if void is None else inputs(labels.masked_fill(void, 0), void, None)
    unmarked = ignore_index is None or not 0 <= ignore_index < classes
    if mask is None and unmarked and _all_in_range(labels, classes):
        return inputs(labels, None, False)
    void = _void(labels, ignore_index, mask)
    if void is None:
        void = torch.zeros_like(labels, dtype=torch.bool)
    labels = labels.masked_fill(void, 0)
    check_labels(labels, classes=classes, ignore_index=ignore_index)
    return inputs(labels, void, bool(void.all()))


def _void(labels: Tensor, ignore_index: int | None, mask: Tensor | None) -> Tensor | None:
    """Say which pixels do not count; None where all do."""
    marked = None if ignore_index is None else labels == ignore_index
    if mask is None:
        return marked
    return ~mask if marked is None else marked.logical_or_(~mask)


def check_labels(target: Tensor, *, classes: int, ignore_index: int | None) -> None:
    """Raise LossInputError if a label is neither a class nor void; waits for the device where there is one."""
    labels = target if ignore_index is None else target.masked_fill(target == ignore_index, 0)
    if not _all_in_range(labels, classes):
        wrong = sorted({int(label) for label in torch.unique(labels) if not 0 <= label < classes})
        void = "; pass ignore_index=" if ignore_index is None else f", or {ignore_index} on pixels to ignore."
        advice = f"{void}{wrong[0]} if that marks pixels to ignore." if ignore_index is None else void
        raise LossInputError(
            f"target holds the labels {', '.join(map(str, wrong[:5]))}, but logits have {classes} classes: "
            f"labels are 0 to {classes - 1}{advice}"
        )


def _all_in_range(labels: Tensor, classes: int) -> bool:
    if labels.numel() == 0:
        return True
    low, high = torch.aminmax(labels)
    return low.item() >= 0 and high.item() < classes


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


@dataclass(frozen=True, slots=True)
class EpochProgress:
    """An epoch, counted from 1, of so many; the default is the end, where every schedule has arrived."""

    epoch: float = 1
    epochs: float = 1

    @classmethod
    def at_share(cls, share: float) -> "EpochProgress":
        """Return the moment at which a share of the training lies behind, from 0.0 to 1.0."""
        return cls(1 + share, 2)

    @property
    def progress(self) -> float:
        """Share of the training that lies behind, 0.0 in the first epoch and 1.0 in the last."""
        return 1.0 if self.epochs <= 1 else min(1.0, (self.epoch - 1) / (self.epochs - 1))


END = EpochProgress()


class LossFunction:
    """A formula over LossInputs, callable on logits and target.

    `loss(logits, target, ignore_index=255, gamma=2.0)` checks its input, raises half types to float32, switches
    autocast off and returns a scalar; a batch without a valid pixel gives exactly 0 and a zero gradient.
    `loss.from_inputs(view, gamma=2.0)` is the same on a view that several losses share; `reads` says what it must hold.
    """

    def __init__(self, formula: Callable[..., Tensor], *, sums: bool, squares: bool, logs: bool) -> None:
        update_wrapper(self, formula)
        self.logs = logs
        self.formula = formula
        self._sums = sums
        self._squares = squares

    def __call__(self, logits: Tensor, target: Tensor, *, ignore_index: int, **options: object) -> Tensor:
        """Return the loss of logits [B, C, *S] against target [B, *S], a scalar."""
        sums, squares = self.reads(**options)
        with full_precision(logits):
            view = read_inputs(logits, target, ignore_index=ignore_index, sums=sums, squares=squares, logs=self.logs)
            return self.from_inputs(view, **options)

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        """Pickle by name, as a function is."""
        return load, (f"{self.formula.__module__}:{self.formula.__qualname__}",)

    def reads(self, **options: object) -> tuple[bool, bool]:
        """Say whether these options need sums of probabilities, and of their squares."""
        return self._sums, self._squares and bool(options.get("squared", True))

    def from_inputs(self, view: LossInputs, **options: object) -> Tensor:
        """Return the loss of logits and labels that were read before."""
        if view.whole_void:
            return view.clean_logits.sum() * 0
        value = self.formula(view, **options)
        nothing = view.nothing_valid()
        if nothing is not None:
            # only the device knows whether every pixel is void; asking it would make the host wait
            value = torch.where(nothing, value.new_zeros(()), value)
        return value


def segmentation_loss(
    *, sums: bool = False, squares: bool = False, logs: bool = True
) -> Callable[[Callable[..., Tensor]], LossFunction]:
    """Make a formula over a View a loss; `sums` and `squares` name the softmax sums that it reads.

    A formula with an option `squared` reads squares only where that is true. One without `logs` does not read -ln p.
    """

    def wrap(formula: Callable[..., Tensor]) -> LossFunction:
        return LossFunction(formula, sums=sums, squares=squares, logs=logs)

    return wrap


def full_precision(logits: Tensor) -> AbstractContextManager[object]:
    """Switch autocast off: sums over an image overflow float16 and lose bfloat16's few digits."""
    kind = logits.device.type
    on = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if on else nullcontext()
