"""A loss of the user's own as the trainer uses one."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from tuner.errors import EntryError
from tuner.losses.batch import check_labels, full_precision, read_inputs
from tuner.losses.build import SegmentationLoss, WeightedSum
from tuner.losses.targets import region_table, region_targets
from tuner.registry import Scalar

WHERE = "loss.entry"


class OwnLoss(SegmentationLoss):
    """A function `loss(logits, target, *, ignore_index, **options)` that returns a scalar, or a module class.

    logits [B, C, *S] raw scores in at least float32, target [B, *S] class ids in int64, `ignore_index` on pixels that
    do not count. With regions both are [B, R, *S], the target of 0 and 1, and `ignore_index` in all regions of pixels
    that do not count. A class is made with its options, and its instances are called as the function is; what they
    learn is given to the optimizer.
    """

    table: Tensor | None

    def __init__(
        self,
        name: str,
        path: str,
        function: Callable[..., Any],
        options: Mapping[str, Scalar],
        *,
        classes: int,
        ignore_index: int,
        regions: Sequence[Sequence[int]] | None = None,
    ) -> None:
        outputs = classes if regions is None else len(regions)
        super().__init__(name, {}, WeightedSum([1.0], {}), classes=outputs, ignore_index=ignore_index)
        self.labels = classes
        self.register_buffer("table", None if regions is None else region_table(regions), persistent=False)
        self.path, self.own_options = path, dict(options)
        self.module: nn.Module | None = None
        keywords: dict[str, Any] = dict(options)
        try:
            if inspect.isclass(function):
                self.module, keywords = cast(nn.Module, function(**keywords)), {}
                function = self.module
            target: Any = function.forward if isinstance(function, nn.Module) else function
            inspect.signature(target).bind(None, None, ignore_index=ignore_index, **keywords)
        except Exception as error:
            raise EntryError(
                f"{path} cannot be called as loss(logits, target, ignore_index={ignore_index}"
                f"{''.join(f', {key}={value!r}' for key, value in options.items())}): {error}.",
                where=WHERE,
            ) from error
        self._call, self._keywords = function, keywords

    def forward(self, logits: Tensor, target: Tensor, inputs: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return the loss, a scalar. Raises EntryError when the function fails or returns anything else."""
        self._check(logits)
        with full_precision(logits):
            scores = logits if logits.dtype in (torch.float32, torch.float64) else logits.float()
            value = self._call(scores, self._target(target), ignore_index=self.ignore_index, **self._keywords)
        if not isinstance(value, Tensor) or value.numel() != 1:
            found = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise EntryError(f"{self.path} returned {found}; a loss returns a tensor of one value.", where=WHERE)
        return value.reshape(())

    def effective_options(self) -> dict[str, Scalar]:
        """Return the loss and the options that it was called or made with."""
        return {"loss": self.name} | {f"loss.{self.name}.{key}": value for key, value in self.own_options.items()}

    def ramp_end(self) -> float:
        """Return 0.0: of ramps inside the function nothing is known."""
        return 0.0

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return what the module learns, without weight decay."""
        learned = [] if self.module is None else [p for p in self.module.parameters() if p.requires_grad]
        return [{"params": learned, "weight_decay": 0.0}] if learned else []

    def states(self) -> list[nn.Module]:
        """Return nothing: the training has nothing to give to the module."""
        return []

    def check(self, logits: Tensor, target: Tensor) -> None:
        """Check shapes and labels, as of any other loss."""
        if self.table is None:
            read_inputs(logits, target, ignore_index=self.ignore_index)
        check_labels(target, classes=self.labels, ignore_index=self.ignore_index)

    def _target(self, labels: Tensor) -> Tensor:
        if self.table is None:
            return labels.long()
        void = (labels == self.ignore_index).unsqueeze(1)
        return region_targets(labels, self.table).long().masked_fill(void, self.ignore_index)
