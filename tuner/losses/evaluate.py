"""The value of one or several formulas on a batch of any form: reduced to a scalar, or per pixel or image."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from tuner.errors import LossInputError
from tuner.losses.batch import LossFunction, LossInputs, full_precision
from tuner.losses.spec import LossSpec
from tuner.losses.targets import Batch, mean_over_classes, read_batch

Reduction = Literal["mean", "none"]
REDUCTIONS = ("mean", "none")

Mix = Callable[[Sequence[Tensor]], Tensor]


@dataclass(frozen=True)
class Formula:
    """A loss of the catalogue with all that its function is called with: options, maps, frequencies, state."""

    entry: LossSpec
    function: LossFunction
    arguments: Mapping[str, Any]

    def value(self, batch: Batch, *, per_pixel: bool = False) -> Tensor:
        """Return its value on a batch, read for it alone."""
        arguments = dict(self.arguments)
        if batch.is_soft and not self.entry.soft_labels:
            # on a device only `validate` looks: zeros and ones come as floats, too
            batch = replace(batch, is_soft=False)
        if not batch.overlapping:
            return self.on(batch.read_for(self.function, arguments, per_pixel=per_pixel), arguments)
        if self.entry.multilabel == "per_class":
            if "include_background" in arguments:
                arguments["include_background"] = False

            def value_of(part: Batch) -> Tensor:
                return self.on(part.read_for(self.function, arguments, per_pixel=per_pixel), arguments)

            if per_pixel:
                parts = [value_of(batch.of_class(c)) for c in range(batch.logits.shape[1])]
                return torch.stack(parts, 1)
            return mean_over_classes(batch, value_of, present_only=arguments.get("classes") == "present")
        if "include_background" in arguments:
            # no class is background
            arguments["include_background"] = True
        return self.on(batch.read_for(self.function, arguments, per_pixel=per_pixel), arguments)

    def on(self, view: LossInputs, arguments: Mapping[str, Any]) -> Tensor:
        """Return its value on what was read."""
        if view.per_pixel and view.whole_void:
            return (view.clean_logits * 0).sum(1)
        return self.function.from_inputs(view, **arguments)


def evaluate(
    formulas: Sequence[Formula],
    mix: Mix,
    logits: Tensor,
    target: Tensor,
    *,
    activation: str,
    ignore_index: int | None,
    mask: Tensor | None,
    reduction: str,
    validate: bool,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Return the mixture of formulas: a scalar; with reduction "none" [B, *S] of pixel losses, [B] of others.

    Every formula that takes class ids reads the same softmax. Raises LossInputError on what does not fit.
    """
    if reduction not in REDUCTIONS:
        raise LossInputError(
            f"reduction {reduction!r} is neither 'mean' nor 'none' (the value of every pixel, or of every image)."
        )
    with full_precision(logits):
        batch = read_batch(
            logits, target, activation=activation, ignore_index=ignore_index, mask=mask, validate=validate
        )
        if class_weights is not None:
            batch = replace(batch, class_weights=_class_weights(class_weights, formulas, batch))
        for formula in formulas:
            check_fit(formula.entry, batch, formula.arguments)
        if reduction == "mean":
            return mix(_values(formulas, batch))
        if all(formula.entry.family == "pixel" for formula in formulas):
            return mix([formula.value(batch, per_pixel=True) for formula in formulas])
        return torch.stack([mix(_values(cut, one)) for cut, one in _by_image(formulas, batch)])


def _class_weights(weights: Tensor, formulas: Sequence[Formula], batch: Batch) -> Tensor:
    if not any(option.name == "classes" for formula in formulas for option in formula.entry.options):
        raise LossInputError(
            f"{formulas[0].entry.name} takes no mean over classes: class_weights have no meaning. Losses with the "
            "option 'classes' take them, and pixel losses weigh classes by class_weight_exponent."
        )
    if weights.shape != (batch.classes,):
        raise LossInputError(f"class_weights are {list(weights.shape)}: one for each of {batch.classes} classes.")
    return weights.to(batch.logits.device)


def _values(formulas: Sequence[Formula], batch: Batch) -> list[Tensor]:
    if batch.labels is None:
        return [formula.value(batch) for formula in formulas]
    reads = [formula.function.reads(**formula.arguments) for formula in formulas]
    view = batch.read(
        sums=any(sums for sums, _ in reads),
        squares=any(squares for _, squares in reads),
        logs=any(formula.function.logs for formula in formulas),
    )
    return [formula.on(view, formula.arguments) for formula in formulas]


def _by_image(formulas: Sequence[Formula], batch: Batch) -> list[tuple[list[Formula], Batch]]:
    """Return every image as a batch of its own, its maps and features with it."""
    cuts = []
    for n, one in enumerate(batch.images()):
        cut = []
        for formula in formulas:
            arguments = dict(formula.arguments)
            for name in formula.entry.needs:
                value = arguments.get(name)
                if name in PER_IMAGE and isinstance(value, Tensor):
                    arguments[name] = value[n : n + 1]
            cut.append(Formula(formula.entry, formula.function, arguments))
        cuts.append((cut, one))
    return cuts


PER_IMAGE = frozenset(
    {
        "own_distance",
        "signed_distance",
        "label_border_distance",
        "skeleton",
        "objects",
        "features",
        "boundary_head",
        "labelled",
    }
)


def check_fit(entry: LossSpec, batch: Batch, arguments: Mapping[str, Any]) -> None:
    """Raise LossInputError where a loss has no meaning for this form of target, or counts other classes."""
    if batch.overlapping and not entry.multilabel:
        raise LossInputError(
            f"{entry.name} is defined for classes that exclude each other: activation='sigmoid' has no meaning for it. "
            "losses.names(multilabel=True) lists those that have one."
        )
    if batch.overlapping and any(isinstance(arguments.get(name), Tensor) for name in PER_IMAGE):
        raise LossInputError(f"{entry.name} makes its maps itself where classes overlap: leave them out.")
    if batch.labels is None and not entry.soft_labels:
        if batch.is_soft and (batch.is_looked_at or not batch.overlapping):
            raise LossInputError(
                f"{entry.name} takes no soft labels: pass class ids (or zeros and ones as integers). Losses that take "
                "them have losses.info(name).soft_labels."
            )
        if not batch.overlapping:
            raise LossInputError(
                f"{entry.name} takes class ids [B, *S] and a mask of True and False: no one-hot targets, no weights. "
                "Pass target.argmax(1), or mask.bool(). Losses that take them have losses.info(name).soft_labels."
            )
        if batch.weight is not None and not torch.compiler.is_compiling() and batch.weight.device.type == "cpu":
            weights = batch.weight
            if bool(((weights != 0) & (weights != 1)).any()):
                raise LossInputError(f"{entry.name} takes no weights of pixels: its mask must be True and False.")
    frequencies = arguments.get("class_frequencies")
    if frequencies is not None and len(frequencies) != batch.classes:
        raise LossInputError(
            f"{len(frequencies)} class_frequencies for logits {list(batch.logits.shape)}: there must be "
            f"{batch.classes}, one for each class."
        )


def needs_frequencies(entry: LossSpec, options: Mapping[str, Any]) -> bool:
    """Say whether a loss with these options must know how often classes occur."""
    return "class_frequencies" in entry.needs and options.get("class_weight_exponent", 1) != 0


def check_frequencies(entry: LossSpec, options: Mapping[str, Any], frequencies: object) -> None:
    """Raise LossInputError if they are needed and not there."""
    if frequencies is None and needs_frequencies(entry, options):
        which = "class_weight_exponent"
        setting = f" with {which}={options[which]}" if which in options else ""
        raise LossInputError(
            f"{entry.name}{setting} needs class_frequencies, the share of each class in the training data: pass "
            "class_frequencies=losses.count_class_frequencies(targets, num_classes=C)."
        )


def check_inputs(entries: Sequence[LossSpec], inputs: Mapping[str, object]) -> None:
    """Raise LossInputError for a keyword that none of the losses takes."""
    known = sorted({name for entry in entries for name in entry.needs if name != "class_frequencies"})
    for name in inputs:
        if name not in known:
            takes = ", ".join(known) if known else "none beside mask"
            raise LossInputError(f"{entries[0].name} has no input {name!r}; it takes {takes}.")
