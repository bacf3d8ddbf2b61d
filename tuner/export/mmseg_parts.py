"""A loss in mmsegmentation's registry, called as its decode heads call theirs, and a hook for losses with a schedule.

A part of an exported file. Symbols: N images, C classes, H and W the size of an image.
"""

from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmseg.registry import HOOKS, MODELS
from torch import Tensor, nn

from tuner.export.value_comparison import largest_difference
from tuner.losses.module import from_section

SETTINGS: dict[str, Any] = {}
TENSORS = Path(__file__).with_suffix(".pt")


@MODELS.register_module()
class TunedLoss(nn.Module):
    """`loss_decode` of a decode head: of logits [N, C, H, W], or [N, 1, H, W] of two classes, and class ids [N, H, W].

    Args:
        loss_weight: What the value is multiplied by.
        loss_name: The name of the value in logs; one that does not begin with `loss_` is logged and not trained on.
        reduction: "mean", "none" or "sum".
    """

    def __init__(
        self, loss_weight: float = 1.0, loss_name: str = "loss_tuned", reduction: str = "mean", **unknown: Any
    ) -> None:
        super().__init__()
        if unknown:
            raise TypeError(
                f"{type(self).__name__} takes loss_weight, loss_name and reduction, not {', '.join(unknown)}: what a "
                "base configuration gives to its own loss goes with _delete_=True; the loss's options are in SETTINGS"
            )
        self.loss_weight, self.reduction = loss_weight, reduction
        self._loss_name = loss_name
        self.loss = from_section(
            SETTINGS["loss"],
            num_classes=SETTINGS["classes"],
            class_frequencies=SETTINGS["class_frequencies"],
        )

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | None = None,
        reduction_override: str | None = None,
        ignore_index: int | None = 255,
    ) -> Tensor:
        """Return the loss.

        Args:
            pred: Logits.
            target: Class ids.
            weight: How much each pixel counts, [N, H, W]; losses that take no soft labels take zeros and ones.
            avg_factor: What the sum is divided by, with the reduction "mean".
            reduction_override: In place of `reduction`. "none": a value for every pixel [N, H, W] of losses that are
                means over pixels, for every image [N] of others; "sum" adds these up.
            ignore_index: The value of pixels of target that count nowhere.

        Raises:
            ValueError: The reduction is another one, or does not go with avg_factor; the weights do not fit the loss.
        """
        reduction = reduction_override or self.reduction
        if reduction not in ("mean", "none", "sum"):
            raise ValueError(f"reduction {reduction!r} is none of mean, none, sum")
        if avg_factor is not None and reduction == "sum":
            raise ValueError('avg_factor can not be used with reduction="sum"')
        self.loss.ignore_index = ignore_index
        self.loss.reduction = "mean" if reduction == "mean" and avg_factor is None else "none"
        value: Tensor = self.loss(pred, target, mask=None if weight is None else self._mask(weight))
        if reduction == "sum" or (reduction == "mean" and avg_factor is not None):
            # as in mmsegmentation: not divided by zero where nothing counts
            value = value.sum() / (1.0 if avg_factor is None else avg_factor + torch.finfo(torch.float32).eps)
        return self.loss_weight * value

    def _mask(self, weight: Tensor) -> Tensor:
        if all(term.entry.soft_labels for term in self.loss.terms.values()):  # type: ignore[union-attr]
            return weight
        if weight.device.type == "cpu" and bool(((weight != 0) & (weight != 1)).any()):
            raise ValueError(f"{self.loss.name} takes pixels whole or not at all: weights must be 0 or 1")
        return weight != 0

    @property
    def loss_name(self) -> str:
        """The name of the value in logs."""
        return self._loss_name


@HOOKS.register_module()
class ProgressOfTunedLoss(Hook):  # type: ignore[misc]
    """Tells losses with a schedule what share of the training is done."""

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Count iterations, whatever the loop counts in."""
        share = min(1.0, runner.iter / max(1, runner.max_iters - 1))
        for module in runner.model.modules():
            if isinstance(module, TunedLoss):
                module.loss.set_progress(share)


def self_test() -> float:
    """Return the largest relative difference from the stored values; raises ValueError above TOLERANCE.

    The loss is built by the registry and called by mmsegmentation's own head, and once more with weights that leave the
    ignored pixels out.
    """
    worst = 0.0
    for case in torch.load(TENSORS, weights_only=True):
        for what, value_of in (("a decode head", value_of_head), ("a weight for each pixel", value_with_weights)):
            logits = case["logits"].clone().requires_grad_()
            value = value_of(logits, case["target"])
            torch.autograd.backward(value)
            pairs = [("the loss", value.detach(), case["value"]), ("the gradient", logits.grad, case["gradient"])]
            worst = max(worst, largest_difference(f"{case['name']}, {what}", pairs))
    return worst


def value_of_head(logits: Tensor, target: Tensor) -> Tensor:
    """Return what mmsegmentation's own decode head makes of logits and label maps."""
    from mmengine.structures import PixelData
    from mmseg.models.decode_heads import FCNHead
    from mmseg.structures import SegDataSample

    shape = {"in_channels": 4, "channels": 4, "num_convs": 0, "concat_input": False, "num_classes": SETTINGS["classes"]}
    head = FCNHead(**shape, loss_decode={"type": TunedLoss.__name__}).double()
    samples = []
    for label in target:
        sample = SegDataSample()
        sample.gt_sem_seg = PixelData(data=label.unsqueeze(0))
        samples.append(sample)
    value: Tensor = head.loss_by_feat(logits, samples)["loss_tuned"]
    return value


def value_with_weights(logits: Tensor, target: Tensor) -> Tensor:
    """Return the loss with a weight of 0 for ignored pixels and of 1 for others."""
    weight = (target != SETTINGS["ignored"]).to(logits.dtype)
    value: Tensor = MODELS.build({"type": TunedLoss.__name__}).double()(logits, target, weight=weight)
    return value


if __name__ == "__main__":
    print(f"self-test passed: the largest relative difference is {self_test():.2g}")  # noqa: T201
