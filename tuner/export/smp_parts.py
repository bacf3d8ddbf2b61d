"""A loss as training loops of segmentation_models_pytorch call theirs, and a network of that package with its weights.

    from best import loss, network          # under the name that you gave this file
    criterion = loss()                        # criterion(y_pred, y_true); criterion.on_epoch(epoch, epochs)
    model = network()                         # where the trial's network is one of that package; else any of yours

A part of an exported file. Symbols: N images, C outputs of the network, H and W the size of an image.
"""

from pathlib import Path
from typing import Any

import segmentation_models_pytorch
import torch
from torch import Tensor, nn

from tuner.export.value_comparison import largest_difference
from tuner.losses.batch import EpochProgress
from tuner.losses.module import from_section

SETTINGS: dict[str, Any] = {}
TENSORS = Path(__file__).with_suffix(".pt")


class ExportedLoss(nn.Module):
    """`loss(y_pred, y_true)`, a scalar, of logits [N, C, H, W].

    `mode` is "multiclass": y_true holds class ids, [N, H, W] or [N, 1, H, W], also as floats; logits of one channel are
    those of class 1 of two, the mode "binary" of that package. Or it is "multilabel", where the trial had regions:
    y_true [N, C, H, W] in {0, 1}. What the loss learns are its parameters: give them to the optimizer.

    Args:
        ignore_index: The value of pixels of y_true that count nowhere; None: there is none.
    """

    def __init__(self, ignore_index: int | None = None) -> None:
        super().__init__()
        self.mode = "multilabel" if SETTINGS["activation"] == "sigmoid" else "multiclass"
        self.loss = from_section(
            SETTINGS["loss"],
            activation=SETTINGS["activation"],
            num_classes=SETTINGS["classes"],
            ignore_index=ignore_index,
            class_frequencies=SETTINGS["class_frequencies"],
        )

    def forward(self, y_pred: Tensor, y_true: Tensor) -> Tensor:
        """Return the loss. Raises ValueError where floats are not class ids, and what does not fit otherwise."""
        value: Tensor = self.loss(y_pred, y_true if self.mode == "multilabel" else class_ids(y_true))
        return value

    def on_epoch(self, epoch: int, epochs: int) -> None:
        """Tell schedules which epoch begins, counted from 1, of how many."""
        self.loss.set_progress(EpochProgress(epoch, epochs).progress)


def class_ids(y_true: Tensor) -> Tensor:
    """Return masks as integers. Raises ValueError, on the CPU, for numbers that are none."""
    if not y_true.is_floating_point():
        return y_true
    labels = y_true.long()
    if y_true.device.type == "cpu" and not torch.equal(labels.to(y_true.dtype), y_true):
        raise ValueError("y_true must hold class ids; it has numbers between them")
    return labels


def loss(ignore_index: int | None = None) -> ExportedLoss:
    """Return the loss as it was trained with."""
    return ExportedLoss(ignore_index)


def network(pretrained: bool = True) -> nn.Module:
    """Return the trial's network: `segmentation_models_pytorch.create_model(**SETTINGS["model"])` with its weights.

    With `pretrained=False` it is at random. Raises LookupError where this file does not hold it.
    """
    if SETTINGS["model"] is None:
        raise LookupError("this file holds the loss only; its head says why")
    made: nn.Module = segmentation_models_pytorch.create_model(encoder_weights=None, **SETTINGS["model"])
    if not pretrained:
        return made
    made.load_state_dict(torch.load(TENSORS, weights_only=True)["weights"])
    return made.eval()


def self_test() -> float:
    """Return the largest relative difference from the stored values; raises ValueError above TOLERANCE.

    Then trains a network of the package for one step, and raises ValueError where a gradient is missing.
    """
    stored = torch.load(TENSORS, weights_only=True)
    worst = 0.0
    for case in stored["cases"]:
        criterion = loss(ignore_index=SETTINGS["ignored"]).double()
        for form in forms(case["target"], criterion.mode):
            logits = case["logits"].clone().requires_grad_()
            value = criterion(logits, form)
            value.backward()
            pairs = [("the loss", value.detach(), case["value"]), ("the gradient", logits.grad, case["gradient"])]
            worst = max(worst, largest_difference(case["name"], pairs))
    if SETTINGS["model"] is not None:
        with torch.no_grad():
            found = network().double()(stored["network"]["images"])
        worst = max(worst, largest_difference("the network", [("its output", found, stored["network"]["logits"])]))
    train_one_step(stored["cases"][0]["target"])
    return worst


def forms(target: Tensor, mode: str) -> list[Tensor]:
    """Return masks in every form in which training loops hand them."""
    if mode == "multilabel":
        return [target, target.float()]
    return [target, target.unsqueeze(1), target.float()]


def train_one_step(target: Tensor) -> None:
    """Train the trial's network, or the package's U-Net, on enlarged masks. Raises ValueError for missing gradients."""
    model: Any
    if SETTINGS["model"] is not None:
        model = network().train()
    else:
        shape = {"in_channels": SETTINGS["channels"], "classes": SETTINGS["classes"]}
        model = segmentation_models_pytorch.Unet("resnet18", encoder_weights=None, **shape)
    criterion = loss(ignore_index=SETTINGS["ignored"])
    masks = target.repeat_interleave(4, -2).repeat_interleave(4, -1)
    images = torch.randn(len(masks), SETTINGS["channels"], *masks.shape[-2:])
    optimizer = torch.optim.SGD([*model.parameters(), *criterion.parameters()], lr=0.01)
    criterion(model(images), masks).backward()
    last = [parameter for parameter in model.segmentation_head.parameters() if parameter.requires_grad]
    if not all(p.grad is not None and bool(p.grad.isfinite().all()) and bool(p.grad.any()) for p in last):
        raise ValueError("the loss has no finite gradient for the last layer of a network")
    optimizer.step()


if __name__ == "__main__":
    print(f"self-test passed: the largest relative difference is {self_test():.2g}")  # noqa: T201
