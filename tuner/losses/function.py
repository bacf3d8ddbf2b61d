"""A loss as a function: the checks, the precision and the all-void rule, written once for every formula."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import update_wrapper

import torch
from torch import Tensor

from tuner.losses.batch import View, read_view
from tuner.registry import load


class LossFunction:
    """A formula over a View, callable on logits and target.

    `loss(logits, target, ignore_index=255, gamma=2.0)` checks its input, raises half types to float32, switches
    autocast off and returns a scalar; a batch without a valid pixel gives exactly 0 and a zero gradient.
    `loss.on(view, gamma=2.0)` is the same on a view that several losses share; `reads` says what it must hold.
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
            view = read_view(logits, target, ignore_index=ignore_index, sums=sums, squares=squares, logs=self.logs)
            return self.on(view, **options)

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        """Pickle by name, as a function is."""
        return load, (f"{self.formula.__module__}:{self.formula.__qualname__}",)

    def reads(self, **options: object) -> tuple[bool, bool]:
        """Say whether these options need sums of probabilities, and of their squares."""
        return self._sums, self._squares and bool(options.get("squared", True))

    def on(self, view: View, **options: object) -> Tensor:
        """Return the loss of logits and labels that were read before."""
        if view.whole_void:
            return view.clean_logits.sum() * 0
        value = self.formula(view, **options)
        if view.whole_void is None and view.void is not None:
            # only the device knows whether every pixel is void; asking it would make the host wait
            value = torch.where(view.void.all(), value.new_zeros(()), value)
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
