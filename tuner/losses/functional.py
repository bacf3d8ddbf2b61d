"""Every loss as a function, bare: the formula alone, without base, companion or schedule.

`losses.functional.NAME(logits, target, *, activation="softmax", ignore_index=None, mask=None, reduction="mean",
class_frequencies=None, validate=False, **options)`; what `losses.info(NAME).needs` names are further keywords. Target,
keywords and errors are those of `losses.create`. A loss that learns something takes it as `state`, a module; without
one it starts from its options.
"""

from collections.abc import Callable, Sequence
from inspect import Parameter, Signature, cleandoc, signature
from typing import Any

import torch
from torch import Tensor, nn

from tuner.errors import LossInputError
from tuner.losses.batch import LossFunction
from tuner.losses.build import Term, read_options
from tuner.losses.catalog.registry import LOSSES
from tuner.losses.evaluate import Formula, check_frequencies, check_inputs, evaluate
from tuner.losses.spec import PRESET, LossSpec
from tuner.registry import load

__all__ = sorted(LOSSES)

_COMMON: dict[str, Any] = {
    "activation": "softmax",
    "ignore_index": None,
    "mask": None,
    "reduction": "mean",
    "class_frequencies": None,
    "class_weights": None,
    "validate": False,
}


def _function_of(entry: LossSpec) -> Callable[..., Tensor]:
    names = {option.name for option in entry.own_options} | {PRESET}
    bare: LossFunction = load(entry.fn)
    taken = frozenset(signature(bare.formula).parameters)

    def function(
        logits: Tensor,
        target: Tensor,
        *,
        activation: str = "softmax",
        ignore_index: int | None = None,
        mask: Tensor | None = None,
        reduction: str = "mean",
        class_frequencies: Tensor | Sequence[float] | None = None,
        class_weights: Tensor | Sequence[float] | None = None,
        validate: bool = False,
        state: nn.Module | None = None,
        **keywords: Any,
    ) -> Tensor:
        inputs = {name: value for name, value in keywords.items() if name in entry.needs}
        chosen = {name: value for name, value in keywords.items() if name in names or name not in entry.needs}
        options = read_options(entry, entry.own_options, chosen, where=entry.name)
        shares = None if class_frequencies is None else [float(share) for share in class_frequencies]
        check_frequencies(entry, options, shares)
        check_inputs([entry], inputs)
        if state is not None and not entry.state:
            raise LossInputError(f"{entry.name} learns nothing: leave state out.")
        if state is None and entry.state_needs_classes and inputs.get("boundary_head") is None:
            raise LossInputError(
                f"{entry.name} learns a head: pass boundary_head=, the head's scores, or use losses.create."
            )
        arguments: dict[str, Any] = {name: value for name, value in options.items() if name in taken}
        arguments |= {name: inputs.get(name) for name in entry.needs}
        if "class_frequencies" in entry.needs:
            arguments["class_frequencies"] = shares
        if entry.state and state is None:
            state = Term(entry, options, None, classes=logits.shape[1]).to(logits.device).state
        if entry.state:
            arguments["state"] = state
        return evaluate(
            [Formula(entry, bare, arguments)],
            lambda values: values[0],
            logits,
            target,
            activation=activation,
            ignore_index=ignore_index,
            mask=mask,
            reduction=reduction,
            validate=validate,
            class_weights=None if class_weights is None else torch.as_tensor(class_weights),
        )

    function.__name__ = function.__qualname__ = entry.name
    function.__module__ = __name__
    function.__doc__ = cleandoc(bare.__doc__ or entry.summary)
    function.__signature__ = _signature(entry)  # type: ignore[attr-defined]
    return function


def _signature(entry: LossSpec) -> Signature:
    both = [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in ("logits", "target")]
    keywords = {option.name: option.default for option in entry.own_options} | _COMMON
    keywords |= {name: None for name in entry.needs if name not in keywords}
    keywords |= {"state": None} if entry.state else {}
    rest = [Parameter(name, Parameter.KEYWORD_ONLY, default=value) for name, value in keywords.items()]
    return Signature([*both, *rest])


globals().update({entry.name: _function_of(entry) for entry in LOSSES.values()})


def __getattr__(name: str) -> Callable[..., Tensor]:
    LOSSES.find(name)  # its error names the closest one
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
