"""Values of a loss on stored tensors, for the test that an exported file carries: made here, compared there.

Symbols: B images, C classes, H and W the size of an image.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tuner.losses.module import from_section

SIDE = 16
BLOCK = 4
IGNORED = 255


def recorded_cases(
    section: Mapping[str, Any], frequencies: Sequence[float], *, activation: str
) -> list[dict[str, Any]]:
    """Return cases of images [2, C, H, W] with the value and the gradient of a loss in float64.

    Softmax: class ids [2, H, W], with and without ignored pixels. Sigmoid: classes that lie each within the one
    before, [2, C, H, W].
    """
    if activation == "sigmoid":
        return [_case("overlapping classes", section, frequencies, activation=activation)]
    return [
        _case("labels", section, frequencies, activation=activation),
        _case("labels with ignored pixels", section, frequencies, activation=activation, ignored=True),
    ]


def _case(
    name: str, section: Mapping[str, Any], frequencies: Sequence[float], *, activation: str, ignored: bool = False
) -> dict[str, Any]:
    classes = len(frequencies)
    loss = from_section(
        section,
        activation=activation,
        num_classes=classes,
        ignore_index=IGNORED if ignored else None,
        class_frequencies=frequencies,
    ).double()
    draw = torch.Generator().manual_seed(0)
    overlapping = activation == "sigmoid"
    target = drawn_labels(classes + overlapping, draw)
    if overlapping:
        target = torch.stack([(target > c).long() for c in range(classes)], 1)
    if ignored:
        target[:, :2] = IGNORED
    leaf = torch.randn(2, classes, SIDE, SIDE, generator=draw, dtype=torch.float64).requires_grad_()
    value = loss(leaf, target)
    (gradient,) = torch.autograd.grad(value, leaf)
    return {"name": name, "logits": leaf.detach(), "target": target, "value": value.detach(), "gradient": gradient}


def drawn_labels(classes: int, draw: torch.Generator) -> Tensor:
    """Return labels [2, H, W] of blocks: losses of borders and skeletons have nothing to say about noise."""
    blocks = torch.randint(0, classes, (2, SIDE // BLOCK, SIDE // BLOCK), generator=draw)
    return blocks.repeat_interleave(BLOCK, 1).repeat_interleave(BLOCK, 2)
