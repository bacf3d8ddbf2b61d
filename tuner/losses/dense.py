"""LossInputs of dense targets [B, C, *S]: overlapping classes, soft labels, and pixels that weigh differently.

Every formula that is a mean over pixels, or made of the sums of an overlap, reads these as it reads class ids. A soft
label is the mean over the labels that it stands for: a pixel loss has a value for each of them, weighed by its
probability, so that there are M values an image instead of N. An overlap with soft labels is sum min(p, t) instead of
sum p t (Wang et al. 2023, Dice semimetric losses and Jaccard metric losses): both are the same for hard labels, and
only the first is largest at p = t. Where squares stand in the denominator, sum p t over sum p^2 + sum t^2 is, too.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from tuner.losses.batch import CachedOnce, LossInputs, Overlap
from tuner.losses.sigmoid_stats import LabelNll, SigmoidSums, TotalLabelNll
from tuner.losses.soft_stats import SigmoidEntropy, SoftEntropy, SoftOverlap


@dataclass(frozen=True)
class DenseInputs(LossInputs):
    """Logits [B, C, *S] and targets [B, C, N] in [0, 1]; `labels` and `void` of class ids are not there.

    `target` is of the logits' type, and of zeros and ones where `is_soft` is False. `weight` [B, 1, N] or, with
    `overlapping`, [B, C, N] is how much a pixel counts; None where all count 1. `overlapping` takes a sigmoid of
    every class instead of the softmax over them: no class is background, and values lie at every pixel and class.
    `target_sum` [B, N] is the sum of the target over the classes, where it is known.
    """

    target: Tensor = field(default_factory=lambda: torch.empty(0))
    weight: Tensor | None = None
    overlapping: bool = False
    is_soft: bool = False
    target_sum: Tensor | None = None

    @property
    def first_foreground(self) -> int:
        """The first class that is not background."""
        return 0 if self.overlapping else 1

    @CachedOnce
    def flat(self) -> Tensor:
        """Logits [B, C, N], 0 on pixels that do not count, whatever stood there."""
        flat = self.logits.flatten(2)
        return flat if self.weight is None else torch.where(self.weight > 0, flat, 0)

    @CachedOnce
    def clean_logits(self) -> Tensor:
        """As `flat`, [B, C, *S]."""
        return self.flat.reshape(self.logits.shape)

    @CachedOnce
    def probabilities(self) -> Tensor:
        """Softmax over the classes or sigmoid of each, [B, C, N], also on pixels that do not count."""
        if self.has_sums:
            return self._sigmoid_sums[0]
        if self.has_soft_sums:
            return self._soft_sums[0]
        return torch.sigmoid(self.flat) if self.overlapping else torch.softmax(self.flat, 1)

    @property
    def has_sums(self) -> bool:
        """Whether sums of sigmoids are read, of hard labels that all count alike."""
        return self.overlapping and self.sums and not self.is_soft and self.weight is None

    @property
    def has_soft_sums(self) -> bool:
        """Whether sums are read of soft labels or weighed pixels, or of a softmax."""
        return self.sums and not self.has_sums

    @property
    def by_squares(self) -> bool:
        """Whether overlaps of soft labels are products, which squares in the denominator ask for."""
        return self.is_soft and self.squares

    @CachedOnce
    def _soft_sums(self) -> tuple[Tensor, Tensor, Tensor]:
        return SoftOverlap.apply(  # type: ignore[no-untyped-call,no-any-return]
            self.flat, self.target, self.weight, self.squares, self.by_squares, self.overlapping
        )

    @CachedOnce
    def _sigmoid_sums(self) -> tuple[Tensor, Tensor, Tensor]:
        return SigmoidSums.apply(self.flat, self.target, self.squares)  # type: ignore[no-untyped-call,no-any-return]

    @CachedOnce
    def valid(self) -> Tensor:
        """How much every pixel counts, [B, 1 or C, N]."""
        return self.target.new_ones(len(self.target), 1, self.target.shape[2]) if self.weight is None else self.weight

    @property
    def all_count_alike(self) -> bool:
        """Whether every value counts 1: those of hard labels of classes that overlap, where no pixel has a weight."""
        return self.overlapping and not self.is_soft and self.weight is None

    @CachedOnce
    def label_weights(self) -> Tensor | None:
        """How much each of the values [B, M] counts; they add up to the weight of all pixels."""
        if self.overlapping and not self.is_soft:
            return None if self.weight is None else self.weight.expand_as(self.target).flatten(1)
        shares = torch.stack([self.target, 1 - self.target]) if self.overlapping else self.target
        return self._flatten(shares if self.weight is None else shares * self.weight)

    @CachedOnce
    def n_valid(self) -> Tensor:
        """The weight of all values, so that it can be divided by."""
        if self.weight is None:
            pixels = self.target.numel() // (1 if self.overlapping else self.classes)
            return self.logits.new_tensor(float(pixels))
        weight = self.weight.expand_as(self.target) if self.overlapping else self.weight
        total = weight.sum()
        return torch.where(total > 0, total, 1)

    @CachedOnce
    def counts(self) -> Tensor:
        """Weight of each class in each image, [B, C]."""
        if self.has_sums:
            return self._sigmoid_sums[2]
        if self.has_soft_sums and not self.by_squares:
            return self._soft_sums[2]
        return self._sum(self.target)

    @CachedOnce
    def nll(self) -> Tensor:
        """-ln of the probability of each label, [B, M]."""
        if not self.overlapping:
            return self._flatten(-torch.log_softmax(self.flat, 1))
        if self.is_soft:
            return self._flatten(torch.stack([F.softplus(-self.flat), F.softplus(self.flat)]))
        nll: Tensor = LabelNll.apply(self.flat, self.target)  # type: ignore[no-untyped-call]
        return self._flatten(nll)

    @CachedOnce
    def total_nll(self) -> Tensor:
        """Sum of -ln of the probabilities of all labels, each by how much it counts; a scalar."""
        total: Tensor
        if not self.overlapping:
            total = SoftEntropy.apply(self.flat, self.target, self.weight, self.target_sum)  # type: ignore[no-untyped-call]
            return total
        if not self.is_soft and self.weight is None:
            total = TotalLabelNll.apply(self.flat, self.target)  # type: ignore[no-untyped-call]
            return total
        total = SigmoidEntropy.apply(self.flat, self.target, self.weight)  # type: ignore[no-untyped-call]
        return total

    @CachedOnce
    def exact_nll(self) -> Tensor:
        """As `nll`, with all digits where p is nearly 1."""
        return torch.where(self.wrong < 0.5, -torch.log1p(-self.wrong.clamp_max(0.5)), self.nll)

    @CachedOnce
    def p_true(self) -> Tensor:
        """Probability of each label, [B, M]."""
        return torch.exp(-self.nll)

    @CachedOnce
    def wrong(self) -> Tensor:
        """1 - `p_true`, with all digits, [B, M]."""
        if not self.overlapping:
            p = self.probabilities
            apart = 1 - torch.eye(p.shape[1], dtype=p.dtype, device=p.device)
            return self._flatten(torch.matmul(apart, p))
        if self.is_soft:
            return self._flatten(torch.stack([torch.sigmoid(-self.flat), torch.sigmoid(self.flat)]))
        return self._flatten(torch.sigmoid(self.flat * (1 - 2 * self.target)))

    def of_class(self, table: Tensor) -> Tensor:
        """Look up table [C] for the class of every value: [1, M]."""
        row = table.view(-1, 1).expand(-1, self.target.shape[2]).reshape(1, -1)
        return row.repeat(1, 2) if self.overlapping and self.is_soft else row

    def on_background(self) -> Tensor:
        """Say of every value, as 0 and 1, whether its label is background, or its class absent: [1 or B, M]."""
        if not self.overlapping:
            return self.of_class(torch.eye(1, self.classes, dtype=self.logits.dtype, device=self.logits.device)[0])
        if not self.is_soft:
            return self._flatten(1 - self.target)
        ones = torch.ones_like(self.target[:1])
        return self._flatten(torch.stack([torch.zeros_like(ones), ones]))

    def lead(self) -> Tensor:
        """Return how far each label's logit is above the mean, [B, M]; a class's absence has the logit 0."""
        if not self.overlapping:
            return self._flatten(self.flat - self.flat.mean(1, keepdim=True))
        if self.is_soft:
            return self._flatten(torch.stack([self.flat / 2, -self.flat / 2]))
        return self._flatten(self.flat * (self.target - 0.5))

    def mass(self, table: Tensor) -> Tensor:
        """Return the sum of table [C] over all values."""
        if not self.overlapping:
            return (self.counts * table).sum()
        pixels = self._sum(torch.ones_like(self.target))
        return (pixels * table).sum()

    def pixel_map(self, values: Tensor) -> Tensor:
        """Return values [B, M] in the shape of the image, the labels of a pixel added up: [B, *S] or [B, C, *S]."""
        size, (classes, pixels) = self.logits.shape, self.target.shape[1:]
        if not self.overlapping:
            return values.view(len(values), classes, pixels).sum(1).view(size[0], *size[2:])
        if not self.is_soft:
            return values.view(size)
        return values.view(len(values), 2, classes * pixels).sum(1).view(size)

    def nothing_valid(self) -> Tensor | None:
        """Say on the device whether no pixel counts; None where all do."""
        return None if self.weight is None else ~(self.weight > 0).any()

    def overlap(self, *, per_image: bool) -> Overlap:
        """Return the overlap sums, per image or over the whole batch; classes that overlap are each against the rest.

        `reads` of the loss has said whether it takes squares, which have another intersection with soft labels.
        """
        if self.has_sums:
            return self._hard_overlap(per_image=per_image)
        p, t = self.probabilities, self.target
        if self.has_soft_sums:
            (common, mass, *squares), size = self._soft_sums[1], self._soft_sums[2]
            square, parts = (squares[0] if squares else None), [common, mass, size]
        else:
            common = p * t if self.by_squares or not self.is_soft else torch.minimum(p, t)
            square = self._sum(p * p) if self.squares else None
            parts = [self._sum(common), self._sum(p), self._sum(t * t) if self.by_squares else self.counts]
        pixels = self._pixels()
        if not per_image and len(t) > 1:
            parts = [part.sum(0, keepdim=True) for part in parts]
            square = None if square is None else square.sum(0, keepdim=True)
            pixels = pixels.sum(0, keepdim=True)
        units = (pixels.sum(1) > 0).to(p.dtype)
        of = pixels if self.overlapping else pixels[:, :1]
        return Overlap(parts[0], parts[1], parts[2], square, units, of)

    def _pixels(self) -> Tensor:
        """Return the weight of the pixels for every class, or once for all, [B, C or 1]."""
        if self.weight is None:
            return self.target.new_full((len(self.target), 1), float(self.target.shape[2]))
        return self.weight.sum(-1)

    def _hard_overlap(self, *, per_image: bool) -> Overlap:
        _, sums, t = self._sigmoid_sums
        pixels = t.new_full((len(t), 1), float(self.target.shape[2]))
        if not per_image and len(t) > 1:
            sums, t, pixels = sums.sum(1, keepdim=True), t.sum(0, keepdim=True), pixels.sum(0, keepdim=True)
        tp, p, *square = sums.unbind(0)
        return Overlap(tp, p, t, square[0] if square else None, t.new_ones(len(t)), pixels)

    def error_sums(self, *, per_image: bool, power: float = 1.0) -> tuple[Tensor, Tensor]:
        """Return the sums of max(t - p, 0)^power and of max(p - t, 0)^power, each [U, C]."""
        p, t = self.probabilities, self.target
        if self.is_soft:
            missed, false = (t - p).clamp_min(0), (p - t).clamp_min(0)
        else:
            absent = torch.sigmoid(-self.flat) if self.overlapping else self.wrong.view_as(t)
            missed, false = absent * t, p * (1 - t)
        if power != 1:
            missed, false = missed.pow(power), false.pow(power)
        sums = [self._sum(missed), self._sum(false)]
        if not per_image and len(t) > 1:
            sums = [part.sum(0, keepdim=True) for part in sums]
        return sums[0], sums[1]

    def _sum(self, values: Tensor) -> Tensor:
        """Sum values [B, C, N] over the pixels, each by its weight: [B, C]."""
        if self.weight is None:
            return values.sum(-1)
        if values.shape[1] == self.weight.shape[1]:
            total: Tensor = torch.linalg.vecdot(values, self.weight)
            return total
        return (values * self.weight).sum(-1)

    def _flatten(self, values: Tensor) -> Tensor:
        """Return values [B, C, N] as [B, M]; of a pair [2, B, C, N] the presences first, then the absences."""
        return values.flatten(1) if values.ndim == 3 else values.transpose(0, 1).flatten(1)


def one_hot(view: LossInputs) -> Tensor:
    """Return the labels of class ids as zeros and ones [B, C, N] of the logits' type; all 0 on void pixels."""
    return torch.zeros_like(view.logits.flatten(2)).scatter_(
        1, view.flat_labels.unsqueeze(1), view.valid.unsqueeze(1).to(view.logits.dtype)
    )


def one_against_the_rest(view: LossInputs) -> DenseInputs:
    """Return the inputs with a sigmoid of every class, whose labels may exclude each other.

    Two classes are one sigmoid, that of z_1 - z_0, as of a network with one output; more are one each, the background
    among them. Classes that overlap are that already.
    """
    if isinstance(view, DenseInputs):
        if view.overlapping:
            return view
        target, is_soft = view.target, view.is_soft
    else:
        target, is_soft = one_hot(view), False
    logits = view.logits
    if view.classes == 2:
        logits, target = logits[:, 1:] - logits[:, :1], target[:, 1:]
    return DenseInputs(
        logits,
        logits,
        None,
        False,
        view.sums,
        view.squares,
        view.logs,
        per_pixel=view.per_pixel,
        class_weights=view.class_weights,
        target=target,
        weight=_weight_of(view),
        overlapping=True,
        is_soft=is_soft,
    )


def _weight_of(view: LossInputs) -> Tensor | None:
    if isinstance(view, DenseInputs):
        return view.weight
    return None if view.void is None else view.valid.unsqueeze(1)


def with_target(view: LossInputs, target: Tensor) -> DenseInputs:
    """Return the inputs with a soft target [B, C, N] in the place of theirs; squares, which read others, are left."""
    overlapping = isinstance(view, DenseInputs) and view.overlapping
    return DenseInputs(
        view.logits,
        target,
        None,
        False,
        view.sums,
        False,
        view.logs,
        per_pixel=view.per_pixel,
        class_weights=view.class_weights,
        target=target,
        weight=_weight_of(view),
        overlapping=overlapping,
        is_soft=True,
    )
