"""Losses as modules for anybody's training loop: `create`, and what it returns."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tuner.errors import LossInputError
from tuner.losses.batch import EpochProgress
from tuner.losses.build import Term, WeightedSum, build_terms, terms_of
from tuner.losses.catalog.registry import LOSSES
from tuner.losses.evaluate import REDUCTIONS, Formula, check_frequencies, check_inputs, evaluate
from tuner.losses.targets import ACTIVATIONS
from tuner.registry import Scalar


class Loss(nn.Module):
    """A loss of the catalogue: `loss(logits, target)`, a scalar, or with reduction "none" a value per pixel or image.

    See `create` for what it takes. What it learns are its parameters: give an optimizer `loss.parameters()`.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        name: str,
        terms: Mapping[str, Term],
        mixing: WeightedSum,
        *,
        activation: str,
        ignore_index: int | None,
        reduction: str,
        validate: bool,
        class_weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.name = name
        self.terms = nn.ModuleDict(dict(terms))
        self.mixing = mixing
        self.activation = activation
        self.ignore_index = ignore_index
        self.reduction = reduction
        self.validate = validate
        self.moment = EpochProgress()

    def forward(self, logits: Tensor, target: Tensor, *, mask: Tensor | None = None, **inputs: Tensor) -> Tensor:
        """Return the loss of logits [B, C, *S], in float32 or, of double logits, in float64.

        target: see `create`. mask: which pixels count, or how much. inputs: what `losses.info(name).needs` names; maps
        of the target are made here where they are left out. Raises LossInputError on what does not fit.
        """
        terms: list[Term] = list(self.terms.values())  # type: ignore[arg-type]
        check_inputs([term.entry for term in terms], inputs)
        weights = self.mixing.weights(self.moment)
        weighed = [(term, weight) for term, weight in zip(terms, weights, strict=True) if weight != 0]
        formulas = [Formula(term.entry, term.function, term.arguments(inputs, self.moment)) for term, _ in weighed]
        shares = [weight for _, weight in weighed]
        return evaluate(
            formulas,
            lambda values: self.mixing.mix(values, shares),
            logits,
            target,
            activation=self.activation,
            ignore_index=self.ignore_index,
            mask=mask,
            reduction=self.reduction,
            validate=self.validate,
            class_weights=self.class_weights,
        )

    def set_progress(self, share: float) -> None:
        """Say what share of the training is done, 0.0 to 1.0, to losses with a schedule; until told, all of it."""
        if not 0 <= share <= 1:
            raise LossInputError(f"the share of the training that is done is {share!r}: it must lie in [0, 1].")
        self.moment = EpochProgress.at_share(float(share))

    @property
    def options(self) -> dict[str, Scalar]:
        """Every option of the loss itself with its value."""
        term: Term = self.terms[self.name]  # type: ignore[assignment]
        return {**term.options, **self.mixing.options()}

    def extra_repr(self) -> str:
        """Say what it was created with."""
        options = "".join(f", {key}={value!r}" for key, value in self.options.items())
        return f"{self.name!r}, activation={self.activation!r}{options}"


def create(
    name: str,
    *,
    activation: str = "softmax",
    num_classes: int | None = None,
    ignore_index: int | None = None,
    reduction: str = "mean",
    class_frequencies: Tensor | Sequence[float] | None = None,
    class_weights: Tensor | Sequence[float] | None = None,
    validate: bool = False,
    **options: Any,
) -> Loss:
    """Build a loss by its name in the catalogue.

    Args:
        name: One of `losses.names()`. A loss that cannot stand alone comes with its base.
        activation: "softmax": classes exclude each other, class 0 is the background. The target is [B, *S] or
            [B, 1, *S] of class ids (integers; bool for two classes), or, where the loss allows soft labels,
            [B, C, *S] of probabilities. One channel of logits [B, 1, *S] is the score of class 1 against class 0.
            "sigmoid": classes overlap and none is background; the target is [B, C, *S] in {0, 1}, or in [0, 1].
        num_classes: From the logits where it is left out; boundary_aware, which learns a head, needs it.
        ignore_index: The value of target pixels that count nowhere.
        reduction: "mean", a scalar; "none", the value of every pixel [B, *S] (sigmoid: [B, C, *S]) of a pixel loss, 0
            where none counts, or of every image alone, [B], of all others.
        class_frequencies: Share of each class in the training data, for options that weigh by it; see
            `count_class_frequencies`.
        class_weights: How much each class counts in the mean over classes, for losses with the option `classes`.
        validate: Check labels on every device; the host waits for it. On the CPU they always are.
        options: By their names in `losses.info(name).options`, and `preset`; the rest has its published default.

    Raises:
        UnknownNameError: There is no such loss or option.
        SpecError: A value is not legal.
        LossInputError: Something is needed that is not given, or has no meaning for the loss.
    """
    entry = LOSSES.find(name)
    _check_words(activation, reduction)
    if activation == "sigmoid" and not entry.multilabel:
        raise LossInputError(
            f"{name} is defined for classes that exclude each other: activation='sigmoid' has no meaning for it. "
            "losses.names(multilabel=True) lists those that have one."
        )
    shares = None if class_frequencies is None else [float(share) for share in class_frequencies]
    if shares is not None and num_classes is not None and len(shares) != num_classes:
        raise LossInputError(f"{len(shares)} class_frequencies for num_classes={num_classes}: one for each class.")
    count = num_classes if shares is None else len(shares)
    if entry.state_needs_classes and count is None:
        raise LossInputError(f"{name} learns something of its own for each class: pass num_classes=.")
    terms, mixing = build_terms(name, options, shares, classes=count)
    for term in terms.values():
        check_frequencies(term.entry, term.options, shares)
    return Loss(
        name,
        terms,
        mixing,
        activation=activation,
        ignore_index=ignore_index,
        reduction=reduction,
        validate=validate,
        class_weights=None if class_weights is None else torch.as_tensor(class_weights, dtype=torch.float32),
    )


def from_section(
    section: Mapping[str, Any],
    *,
    activation: str = "softmax",
    num_classes: int | None = None,
    ignore_index: int | None = None,
    class_frequencies: Sequence[float] | None = None,
) -> Loss:
    """Build the loss of a configuration's `loss` section, a sum of several as well, as `create` builds one by its name.

    Raises what `create` raises.
    """
    terms, mixing = terms_of(section, class_frequencies, classes=num_classes)
    for term in terms.values():
        if activation == "sigmoid" and not term.entry.multilabel:
            raise LossInputError(
                f"{term.entry.name} is defined for classes that exclude each other: activation='sigmoid' has no "
                "meaning for it. losses.names(multilabel=True) lists those that have one."
            )
        check_frequencies(term.entry, term.options, class_frequencies)
    return Loss(
        str(section.get("name")),
        terms,
        mixing,
        activation=activation,
        ignore_index=ignore_index,
        reduction="mean",
        validate=False,
    )


def _check_words(activation: str, reduction: str) -> None:
    for word, value, known in (("activation", activation, ACTIVATIONS), ("reduction", reduction, REDUCTIONS)):
        if value not in known:
            raise LossInputError(f"{word} {value!r} is none of {', '.join(known)}.")


class DeepSupervision(nn.Module):
    """A loss over the outputs of several resolutions: sum of w_i loss(logits_i, target_i), the weights adding up to 1.

    loss(logits, target): logits a sequence of [B, C, *S_i], the finest first; target a sequence as long, or one target
    that is brought to every resolution: class ids and 0/1 by the nearest pixel, soft labels by averages; a mask
    likewise. weights: one for each output, None for 1, 1/2, 1/4, ...; an output of weight 0 is left out (nnU-Net leaves
    out the last). They are divided by their sum, as nnU-Net's are (Isensee et al. 2021). Other inputs go to the finest.
    """

    def __init__(self, loss: nn.Module, weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.loss = loss
        self.weights = None if weights is None else tuple(float(weight) for weight in weights)
        if self.weights is not None and (min(self.weights, default=0) < 0 or sum(self.weights) <= 0):
            raise LossInputError(f"weights {list(self.weights)}: none may be negative, and one must be more than 0.")

    def forward(
        self,
        logits: Sequence[Tensor],
        target: Tensor | Sequence[Tensor],
        *,
        mask: Tensor | None = None,
        **inputs: Any,
    ) -> Tensor:
        """Return the weighted mean. Raises LossInputError where the lengths of the sequences differ."""
        outputs = [logits] if isinstance(logits, Tensor) else list(logits)
        weights = self.weights or tuple(0.5**n for n in range(len(outputs)))
        targets = None if isinstance(target, Tensor) else list(target)
        if len(weights) != len(outputs) or (targets is not None and len(targets) != len(outputs)):
            found = "one target" if targets is None else f"{len(targets)} targets"
            raise LossInputError(
                f"{len(outputs)} outputs with {len(weights)} weights and {found}: there must be as many of each."
            )
        total: Tensor | None = None
        for n, (output, weight) in enumerate(zip(outputs, weights, strict=True)):
            if weight == 0:
                continue
            part = targets[n] if targets is not None else resized(target, output)  # type: ignore[arg-type]
            given = {} if mask is None else {"mask": resized(mask, output)}
            value: Tensor = self.loss(output, part, **given, **(inputs if n == 0 else {})) * (weight / sum(weights))
            total = value if total is None else total + value
        assert total is not None
        return total

    def set_progress(self, share: float) -> None:
        """Say what share of the training is done, as to the loss alone."""
        self.loss.set_progress(share)  # type: ignore[operator]


def resized(maps: Tensor, output: Tensor) -> Tensor:
    """Return a target or mask [B, *S] or [B, K, *S] at the size of an output [B, C, *S']."""
    size = tuple(output.shape[2:])
    channels = maps.ndim == output.ndim
    if tuple(maps.shape[2 if channels else 1 :]) == size:
        return maps
    stacked = maps if channels else maps.unsqueeze(1)
    if maps.is_floating_point():
        small = nn.functional.interpolate(stacked, size=list(size), mode="area")
    else:
        for axis, side in enumerate(size, start=2):
            length = stacked.shape[axis]
            centres = (torch.arange(side, device=maps.device) + 0.5) * (length / side)
            stacked = stacked.index_select(axis, centres.long().clamp_max(length - 1))
        small = stacked
    return small if channels else small.squeeze(1)
