"""Losses for thin structures: the centre lines must be found, and must be connected."""

import torch
from torch import Tensor
from torch.nn import functional as F

from tuner.losses.function import segmentation_loss
from tuner.losses.reductions import class_mean, quotient
from tuner.losses.target_maps import target_map
from tuner.losses.view import View


@segmentation_loss()
def soft_cldice(view: View, *, iterations: int, smooth: float, classes: str) -> Tensor:
    """Soft clDice (Shit et al. 2021), sums over the batch, mean over the foreground classes. In [0, 1].

        1 - 2 a b / (a + b),  a = (sum S(p) t + s) / (sum S(p) + s),  b = (sum S(t) p + s) / (sum S(t) + s)

    S is the soft skeleton by `iterations` erosions: at least half the width of the widest tube. Void pixels are
    background to it. Equal to MONAI's `SoftclDiceLoss` for one foreground class.
    """
    shape = view.logits.shape
    p = view.probabilities.reshape(shape)[:, 1:]
    truth = torch.zeros_like(view.probabilities).scatter_(1, view.flat_labels.unsqueeze(1), view.valid.unsqueeze(1))
    t = truth.reshape(shape)[:, 1:]
    dims = tuple(range(2, p.ndim))
    lines, true_lines = soft_skeleton(p, iterations), soft_skeleton(t, iterations)
    if view.void is not None:
        # a line beside a void region may lie on it; void pixels have no say
        lines = lines.masked_fill(view.void.unsqueeze(1), 0)
    precision = quotient((lines * t).sum((0, *dims)) + smooth, lines.sum((0, *dims)) + smooth)
    recall = quotient((true_lines * p).sum((0, *dims)) + smooth, true_lines.sum((0, *dims)) + smooth)
    both = precision + recall
    score = torch.where(both > 0, 2 * precision * recall / torch.where(both > 0, both, 1), 0)
    counts = view.counts.sum(0, keepdim=True)
    units = (counts.sum(1) > 0).to(p.dtype)
    return class_mean((1 - score).unsqueeze(0), counts[:, 1:], units, classes=classes)


def soft_skeleton(maps: Tensor, iterations: int) -> Tensor:
    """Return the soft skeleton of maps [B, C, *S] in [0, 1]: what every erosion loses by opening."""
    bones = torch.relu(maps - _opened(maps))
    for _ in range(iterations):
        maps = _eroded(maps)
        lost = torch.relu(maps - _opened(maps))
        bones = bones + torch.relu(lost - bones * lost)
    return bones


def _opened(maps: Tensor) -> Tensor:
    pool = F.max_pool2d if maps.ndim == 4 else F.max_pool3d
    return pool(_eroded(maps), 3, stride=1, padding=1)


def _eroded(maps: Tensor) -> Tensor:
    """Return the minimum over each pixel and its neighbours along the axes."""
    dims = maps.ndim - 2
    pool = F.max_pool2d if dims == 2 else F.max_pool3d
    least = maps
    for axis in range(dims):
        kernel = [3 if other == axis else 1 for other in range(dims)]
        padding = [1 if other == axis else 0 for other in range(dims)]
        least = torch.minimum(least, -pool(-maps, kernel, stride=1, padding=padding))
    return least


@segmentation_loss()
def skeleton_recall(view: View, *, skeleton: Tensor | None = None, smooth: float, classes: str) -> Tensor:
    """Skeleton recall loss (Kirchhoff et al. 2024): mean_{c > 0} 1 - (sum p_c s_c + s) / (sum s_c + s). In [0, 1].

    s_c is the skeleton of the target's class c, widened by two pixels inside it; sums over the batch. The authors'
    code returns minus recall and thins with a topology-preserving method; ours is the morphological skeleton.
    """
    bones = target_map(view, "skeleton", skeleton).flatten(1) * view.valid
    sizes = view.class_sums(bones).sum(0, keepdim=True)
    found = view.class_sums(view.p_true * bones).sum(0, keepdim=True)
    recall = quotient(found + smooth, sizes + smooth)
    units = (view.counts.sum() > 0).to(found.dtype).unsqueeze(0)
    return class_mean((1 - recall)[:, 1:], sizes[:, 1:], units, classes=classes)
