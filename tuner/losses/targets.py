"""Targets of every form that a training loop has, brought to one: class ids, or values of every class."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from tuner.errors import LossInputError
from tuner.losses.batch import LossFunction, LossInputs, check_labels, read_inputs
from tuner.losses.dense import DenseInputs
from tuner.losses.softmax_stats import on_host

Activation = Literal["softmax", "sigmoid"]
ACTIVATIONS = ("softmax", "sigmoid")
SUM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Batch:
    """Logits [B, C, *S] with their target, checked.

    Either `labels` [B, *S] with `mask` [B, *S] bool (None where all pixels count), or `dense` [B, C, *S] of the logits'
    type with `weight` [B, 1 or C, *S] of that type. `ignore_index` is for `labels` alone. `is_soft`: values between 0
    and 1 may be there, and where the target `is_looked_at` they are. `target_sum` [B, N] is the sum of `dense`
    over the classes, where it is known.
    """

    logits: Tensor
    ignore_index: int | None = None
    labels: Tensor | None = None
    mask: Tensor | None = None
    dense: Tensor | None = None
    weight: Tensor | None = None
    overlapping: bool = False
    is_soft: bool = False
    is_looked_at: bool = False
    class_weights: Tensor | None = None
    target_sum: Tensor | None = None

    @property
    def classes(self) -> int:
        """Number of classes; one channel of logits stands for two, unless classes overlap."""
        channels = self.logits.shape[1]
        return 2 if channels == 1 and not self.overlapping else channels

    def images(self) -> Iterable["Batch"]:
        """Yield every image as a batch of its own."""
        for n in range(len(self.logits)):
            one = slice(n, n + 1)
            yield replace(
                self,
                logits=self.logits[one],
                labels=None if self.labels is None else self.labels[one],
                mask=None if self.mask is None else self.mask[one],
                dense=None if self.dense is None else self.dense[one],
                weight=None if self.weight is None else self.weight[one],
                target_sum=None if self.target_sum is None else self.target_sum[one],
            )

    def of_class(self, number: int) -> "Batch":
        """Return the problem of one class against the rest, of classes that overlap."""
        assert self.dense is not None
        mask = None
        if self.weight is not None:
            mask = self.weight[:, number if self.weight.shape[1] > 1 else 0] > 0
        return Batch(self.logits[:, number : number + 1], labels=self.dense[:, number].long(), mask=mask)

    def read(self, *, sums: bool, squares: bool, logs: bool, per_pixel: bool = False) -> LossInputs:
        """Return what formulas read."""
        if self.labels is not None:
            return read_inputs(
                self.logits,
                self.labels,
                ignore_index=self.ignore_index,
                mask=self.mask,
                sums=sums,
                squares=squares,
                logs=logs,
                per_pixel=per_pixel,
                class_weights=self.class_weights,
            )
        assert self.dense is not None
        return DenseInputs(
            self.logits,
            self.dense,
            None,
            False,
            sums,
            squares,
            logs,
            per_pixel=per_pixel,
            class_weights=self.class_weights,
            target=self.dense.flatten(2),
            weight=None if self.weight is None else self.weight.flatten(2),
            overlapping=self.overlapping,
            is_soft=self.is_soft,
            target_sum=self.target_sum,
        )

    def read_for(self, function: LossFunction, options: dict[str, object], *, per_pixel: bool = False) -> LossInputs:
        """Return what one formula with these options reads."""
        sums, squares = function.reads(**options)
        return self.read(sums=sums, squares=squares, logs=function.logs, per_pixel=per_pixel)


def read_batch(
    logits: Tensor,
    target: Tensor,
    *,
    activation: str = "softmax",
    ignore_index: int | None = None,
    mask: Tensor | None = None,
    validate: bool = False,
) -> Batch:
    """Check logits and target, and bring them to one form.

    Softmax: target [B, *S] or [B, 1, *S] of class ids (integers, or bool for two classes); [B, C, *S] of probabilities,
    or one-hot. Sigmoid: target [B, C, *S] in {0, 1} or [0, 1]. One channel of logits is the second of two classes.
    mask [B, *S] or [B, 1, *S] (sigmoid: also [B, C, *S]): bool or integers, nonzero where pixels count, or weights.
    Values are checked where the logits are on the CPU, and with `validate` anywhere.
    Raises LossInputError.
    """
    if activation not in ACTIVATIONS:
        raise LossInputError(
            f"activation {activation!r} is neither 'softmax' (classes exclude each other) nor 'sigmoid' (they overlap)."
        )
    _check_logits(logits, target)
    if logits.dtype not in (torch.float32, torch.float64):
        logits = logits.float()
    looks = validate or on_host(target)
    if activation == "sigmoid":
        return _overlapping(logits, _of_channels(logits, target), ignore_index, mask, looks)
    target = target.squeeze(1) if _has_one_channel(logits, target) else target
    by_pixel = target.shape == (logits.shape[0], *logits.shape[2:])
    if by_pixel and not target.is_floating_point():
        batch = _label(logits, target, ignore_index, mask)
        if validate:
            labels = target if batch.mask is None else target.long().masked_fill(~batch.mask, 0)
            check_labels(labels.long(), classes=batch.classes, ignore_index=ignore_index)
        return batch
    if by_pixel and logits.shape[1] == 1:
        logits, target = F.pad(logits, (0, 0) * (logits.ndim - 2) + (1, 0)), torch.stack([1 - target, target], 1)
    elif by_pixel:
        raise LossInputError(f"{_shapes(logits, target)}: class ids must be integers: pass target.long().")
    return _probabilities(logits, target, ignore_index, mask, looks)


def _label(logits: Tensor, target: Tensor, ignore_index: int | None, mask: Tensor | None) -> Batch:
    labels = target.long() if target.dtype == torch.bool else target
    if mask is None:
        return Batch(logits, ignore_index, labels)
    mask = _fitting_mask(mask, logits, channels=False)
    if not mask.is_floating_point():
        return Batch(logits, ignore_index, labels, mask.squeeze(1) != 0)
    weight = mask.to(logits.dtype)
    if logits.shape[1] == 1:
        logits = F.pad(logits, (0, 0) * (logits.ndim - 2) + (1, 0))
    labels, classes = labels.long(), logits.shape[1]
    if ignore_index is not None:
        weight = weight.masked_fill((labels == ignore_index).unsqueeze(1), 0)
    labels = labels.masked_fill(weight.squeeze(1) == 0, 0)
    if on_host(labels):
        check_labels(labels, classes=classes, ignore_index=None)
    numbers = torch.arange(classes, device=labels.device).view(-1, *(1,) * (labels.ndim - 1))
    hot = (labels.unsqueeze(1) == numbers).to(logits.dtype)
    return Batch(logits, dense=hot, weight=weight)


def _probabilities(logits: Tensor, target: Tensor, ignore_index: int | None, mask: Tensor | None, looks: bool) -> Batch:
    """Return the batch of soft labels, or of one-hot ones, [B, C, *S]."""
    if target.shape != logits.shape:
        size = [logits.shape[0], *logits.shape[2:]]
        raise LossInputError(
            f"{_shapes(logits, target)} do not fit: the target must be {size}, one class id per pixel, "
            f"[{size[0]}, 1, {', '.join(map(str, size[1:]))}], or {list(logits.shape)}, a probability for every class."
        )
    weight = None if mask is None else (_fitting_mask(mask, logits, channels=False))
    if ignore_index is not None:
        counted = (target != ignore_index).all(1, keepdim=True)
        weight = counted if weight is None else weight * counted
        target = target.masked_fill(~counted, 0)
    is_soft = target.is_floating_point()
    is_weighted = weight is not None and weight.is_floating_point()
    marks, weight = weight, _as_weight(weight, logits)
    ids = target
    target = target.to(logits.dtype)
    sums = _sums_near_one(target) if looks and weight is None else None
    if looks and sums is None:
        _check_range(target, weight, logits)
        off = (target.sum(1, keepdim=True) - 1).abs()
        if weight is not None:
            off = off * (weight > 0)
        if off.numel() and off.max().item() > SUM_TOLERANCE:
            raise LossInputError(
                f"{_shapes(logits, target)}: the probabilities of a pixel add up to 1, found one that is "
                f"{off.max().item():.3g} off; for classes that overlap, create the loss with activation='sigmoid'."
            )
    if not is_soft and not is_weighted:
        # one-hot: class ids are faster, and every loss takes them
        return Batch(logits, labels=ids.long().argmax(1), mask=None if marks is None else marks.squeeze(1) != 0)
    return Batch(logits, dense=target, weight=weight, is_soft=is_soft, is_looked_at=looks, target_sum=sums)


def _overlapping(logits: Tensor, target: Tensor, ignore_index: int | None, mask: Tensor | None, looks: bool) -> Batch:
    weight = None if mask is None else _fitting_mask(mask, logits, channels=True)
    if ignore_index is not None:
        counted = target != ignore_index
        weight = counted if weight is None else weight * counted
        target = target.masked_fill(~counted, 0)
    weight = _as_weight(weight, logits)
    is_soft = target.is_floating_point()
    if looks:
        # zeros and ones that come as floats are hard labels, which every loss takes
        is_hard = target.dtype == torch.bool or _is_zero_or_one(target)
        if not is_hard:
            _check_range(target, weight, logits)
        is_soft = is_soft and not is_hard
    target = target.to(logits.dtype)
    return Batch(logits, dense=target, weight=weight, overlapping=True, is_soft=is_soft, is_looked_at=looks)


def _sums_near_one(target: Tensor) -> Tensor | None:
    """Return the sums over the classes, [B, N], where none is negative and all add up to 1; so none is above it."""
    if not target.amin().item() >= 0:
        return None
    sums = target.flatten(2).sum(1)
    low, high = torch.aminmax(sums)
    return sums if low.item() >= 1 - SUM_TOLERANCE and high.item() <= 1 + SUM_TOLERANCE else None


def _is_zero_or_one(target: Tensor) -> bool:
    """Say whether all values are 0 or 1, in as few passes as tell it."""
    if not target.is_floating_point():
        low, high = torch.aminmax(target)
        return low.item() >= 0 and high.item() <= 1
    # t - t^2 is 0 at 0 and 1 alone, in one pass that stays in the cache
    return not any(torch.linalg.vector_norm(torch.addcmul(one, one, one, value=-1)).item() for one in target.float())


def _check_logits(logits: Tensor, target: Tensor) -> None:
    if logits.ndim not in (4, 5) or 0 in logits.shape:
        raise LossInputError(
            f"{_shapes(logits, target)}: logits must be [B, C, H, W] or [B, C, D, H, W], nothing empty."
        )
    if not logits.is_floating_point():
        raise LossInputError(f"{_shapes(logits, target)}: logits must be floating-point numbers.")
    if target.is_complex():
        raise LossInputError(f"{_shapes(logits, target)}: the target must hold class ids or probabilities.")
    if target.device != logits.device:
        raise LossInputError(
            f"logits are on {logits.device} and the target on {target.device}: pass target.to({str(logits.device)!r})."
        )


def _has_one_channel(logits: Tensor, target: Tensor) -> bool:
    return target.ndim == logits.ndim and target.shape[1] == 1


def _of_channels(logits: Tensor, target: Tensor) -> Tensor:
    """Return the target of overlapping classes, [B, C, *S]."""
    if logits.shape[1] == 1 and target.shape == (logits.shape[0], *logits.shape[2:]):
        target = target.unsqueeze(1)
    if target.shape != logits.shape:
        raise LossInputError(
            f"{_shapes(logits, target)} do not fit: with activation='sigmoid' classes overlap, and the target must be "
            f"{list(logits.shape)}, 0 or 1 for every class and pixel."
        )
    return target


def _fitting_mask(mask: Tensor, logits: Tensor, *, channels: bool) -> Tensor:
    """Return a mask as [B, 1 or C, *S]."""
    size = (logits.shape[0], *logits.shape[2:])
    if mask.shape == size:
        return mask.unsqueeze(1)
    if mask.shape == (size[0], 1, *size[1:]) or (channels and mask.shape == logits.shape):
        return mask
    wanted = f"{list(size)}, [{size[0]}, 1, {', '.join(map(str, size[1:]))}]"
    raise LossInputError(
        f"mask is {list(mask.shape)}, but logits are {list(logits.shape)}: it must be "
        + (f"{wanted} or {list(logits.shape)}." if channels else f"{wanted.replace(', [', ' or [')}.")
    )


def _as_weight(mask: Tensor | None, logits: Tensor) -> Tensor | None:
    if mask is None:
        return None
    return mask.to(logits.dtype) if mask.is_floating_point() else (mask != 0).to(logits.dtype)


def _check_range(target: Tensor, weight: Tensor | None, logits: Tensor) -> None:
    counted = target if weight is None else torch.where(weight > 0, target, 0)
    low, high = torch.aminmax(counted)
    if low.item() < 0 or high.item() > 1 or low.item() != low.item():
        raise LossInputError(
            f"{_shapes(logits, target)}: the target holds values from {low.item():.4g} to {high.item():.4g}; "
            "for every class they must lie in [0, 1]. Pass ignore_index= or mask= for pixels that do not count."
        )


def _shapes(logits: Tensor, target: Tensor) -> str:
    return f"logits {list(logits.shape)} {logits.dtype} and target {list(target.shape)} {target.dtype}"


def region_table(regions: Sequence[Sequence[int]]) -> Tensor:
    """Return which of the labels 0 to 255 lie in each of R regions, as 0 and 1: [R, 256] uint8."""
    table = torch.zeros(len(regions), 256, dtype=torch.uint8)
    for row, labels in zip(table, regions, strict=True):
        row[list(labels)] = 1
    return table


def region_targets(labels: Tensor, table: Tensor) -> Tensor:
    """Return the target of regions, [B, R, *S] uint8, from a label map [B, *S] of 0 to 255 and a `region_table`."""
    flat = labels.flatten().long()
    return torch.stack([row.index_select(0, flat).view_as(labels) for row in table], 1)


def mean_over_classes(batch: Batch, value_of: Callable[[Batch], Tensor], *, present_only: bool) -> Tensor:
    """Average what a loss says of every class against the rest; with `present_only` over those in the target."""
    assert batch.dense is not None
    values = torch.stack([value_of(batch.of_class(c)) for c in range(batch.logits.shape[1])])
    if not present_only and batch.class_weights is None:
        return values.mean(0)
    if not present_only:
        weights = batch.class_weights.to(values.dtype)  # type: ignore[union-attr]
        return (values * weights).sum(0) / weights.sum()
    seen = batch.dense if batch.weight is None else batch.dense * batch.weight
    present = (seen.transpose(0, 1).flatten(1) > 0).any(1).to(values.dtype)
    if batch.class_weights is not None:
        present = present * batch.class_weights.to(values.dtype)
    return (values * present).sum(0) / torch.where(present.sum() > 0, present.sum(), 1)
