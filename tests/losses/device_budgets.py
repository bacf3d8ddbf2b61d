"""What a step of a loss may cost on a GPU, held by `test_device.py`: `python -m tests.losses.device_budgets` measures.

A step is forward and backward, on the pretended device, of two images with void pixels and three classes, without
target maps from the loader and with the base that a loss is trained with. Launches are those of torch's operators; the
budgets are rounded up to tens, for another release of torch may need some more.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tests.losses.images import FREQUENCIES, VOID
from tests.pretended_cuda import LOG, home, pretend
from tuner.losses.build import SegmentationLoss, build_loss
from tuner.losses.catalog.registry import LOSSES

SIZES = {2: (24, 20), 3: (8, 12, 10)}
FEATURES = 8


@dataclass(frozen=True)
class Budget:
    """The most launches a step in 2-D and 3-D; host waits, and copies from pageable memory, exactly."""

    flat: int
    solid: int
    waits: int = 0
    pageable: int = 0


HOST_MAP = {"waits": 2, "pageable": 1}
"""The one exception: labels go to the host, where skeletons are thinned, and these come back.

In a training the loader makes the maps, and no step waits.
"""

BUDGETS: dict[str, Budget] = {
    "cross_entropy": Budget(30, 30),
    "topk": Budget(60, 60),
    "focal": Budget(40, 40),
    "distance_map_ce": Budget(90, 110),
    "dice": Budget(80, 80),
    "log_cosh_dice": Budget(80, 80),
    "generalized_wasserstein_dice": Budget(100, 100),
    "jaccard": Budget(80, 80),
    "lovasz_softmax": Budget(180, 180),
    "tversky": Budget(80, 80),
    "focal_tversky": Budget(120, 120),
    "sensitivity_specificity": Budget(120, 120),
    "region_mutual_information": Budget(190, 290),
    "robust_t": Budget(140, 140),
    "boundary": Budget(150, 160),
    "hausdorff": Budget(170, 190),
    "boundary_aware": Budget(220, 240),
    "active_boundary": Budget(260, 290),
    "inverse_form": Budget(250, 250),
    "conditional_boundary": Budget(280, 290),
    "boundary_dou": Budget(140, 150),
    "region_wise": Budget(100, 120),
    "combo": Budget(90, 90),
    "exponential_logarithmic": Budget(210, 210),
    "unified_focal": Budget(150, 150),
    "dice_cross_entropy": Budget(90, 90),
    "dice_focal": Budget(100, 100),
    "poly1": Budget(40, 40),
    "logit_adjusted_ce": Budget(40, 40),
    "ohem_ce": Budget(70, 70),
    "nacl": Budget(60, 60),
    "generalized_dice": Budget(100, 100),
    "dice_plus_plus": Budget(140, 140),
    "mcc": Budget(150, 150),
    "soft_cldice": Budget(830, 1120),
    "skeleton_recall": Budget(150, 150, **HOST_MAP),
    "blob": Budget(390, 420),
    "log_hausdorff": Budget(160, 180),
    "dice_topk": Budget(110, 110),
    "generalized_dice_focal": Budget(120, 120),
    "sigmoid_focal": Budget(50, 50),
    "ldam": Budget(50, 50),
    "balanced_softmax": Budget(40, 40),
    "log_dice": Budget(80, 80),
    "lovasz_hinge": Budget(80, 80),
    "jdt": Budget(100, 100),
    "ssim": Budget(170, 180),
    "cbdice": Budget(540, 660),
    "bce_dice": Budget(90, 90),
    "marginal_dice_cross_entropy": Budget(120, 120),
    "sum": Budget(160, 180),
}
"""By name in the catalogue; `sum` is that of SUM."""

SUM = {
    "name": "sum",
    "terms": ["dice", "boundary", "focal"],
    "sum": {"weight": {"boundary": 0.1, "focal": 0.5}, "focal": {"gamma": 1.5}},
}


@dataclass(frozen=True)
class Step:
    """Value and gradient on the CPU and on the device, and what the device was asked for."""

    here: tuple[Tensor, Tensor]
    there: tuple[Tensor, Tensor]
    launches: int
    waits: list[str]
    pageable: list[str]


def config_of(name: str, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The `loss` section for a loss of the catalogue, or for the weighted sum."""
    return dict(SUM) if name == "sum" else {"name": name, name: options or {}}


def scene(dims: int, *, void: bool = True) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Logits, labels with a void edge, one image without a foreground, and a network's features."""
    generator = torch.Generator().manual_seed(0)
    sizes = SIZES[dims]
    target = torch.zeros(2, *sizes, dtype=torch.int64)
    target[(0, *(slice(side // 4, side // 2) for side in sizes))] = 1
    target[(0, *(slice(side // 2, 3 * side // 4) for side in sizes))] = 2
    if void:
        target[:, :2] = VOID
    logits = 2 * torch.randn(2, len(FREQUENCIES), *sizes, generator=generator)
    features = torch.randn(2, FEATURES, *sizes, generator=generator)
    weight = torch.randn(len(FREQUENCIES), FEATURES, generator=generator)
    return logits, target, {"features": features, "classifier_weight": weight}


def measured(
    config: Mapping[str, Any], dims: int, *, void: bool = True, regions: Sequence[Sequence[int]] | None = None
) -> Step:
    """Run two steps on the CPU and two on the pretended device, of which the second is counted.

    `regions` of the labels are as many as there are classes.
    """
    logits, target, extra = scene(dims, void=void)
    here = _step(_built(config, regions), logits, target, extra)
    with pretend() as device:
        loss = _built(config, regions).to(device)
        inputs = {name: value.to(device) for name, value in extra.items()}
        arguments = logits.to(device), target.to(device), inputs
        # what a loss learns or copies once is no part of a step
        _step(loss, *arguments)
        LOG.clear()
        there = home(_step(loss, *arguments))
        launches = sum(LOG.launches.values())
        waits, pageable = (
            [f"{what} at {where}" for what, where in counter.elements()] for counter in (LOG.waits, LOG.pageable)
        )
    return Step(here, there, launches, waits, pageable)


def _built(config: Mapping[str, Any], regions: Sequence[Sequence[int]] | None) -> SegmentationLoss:
    torch.manual_seed(0)
    loss = build_loss(
        config, classes=len(FREQUENCIES), ignore_index=VOID, class_frequencies=FREQUENCIES, regions=regions
    )
    loss.on_epoch(2, 4)
    return loss


def _step(loss: SegmentationLoss, logits: Tensor, target: Tensor, extra: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    leaf = logits.detach().requires_grad_()
    leaf.grad = None
    given = {name: value for name, value in extra.items() if "features" in loss.needs}
    value = loss(leaf, target, given)
    value.backward()
    assert leaf.grad is not None
    return value.detach(), leaf.grad


def table() -> Iterator[str]:
    """Measure all losses and yield the rows of a table in Markdown."""
    yield "| loss | launches 2-D | launches 3-D | host waits | pageable copies |"
    yield "|---|---|---|---|---|"
    for name in (*LOSSES, "sum"):
        flat, solid = (measured(config_of(name), dims) for dims in (2, 3))
        waits, pageable = max(len(flat.waits), len(solid.waits)), max(len(flat.pageable), len(solid.pageable))
        yield f"| {name} | {flat.launches} | {solid.launches} | {waits} | {pageable} |"


if __name__ == "__main__":
    torch.set_num_threads(1)
    for row in table():
        sys.stdout.write(row + "\n")
