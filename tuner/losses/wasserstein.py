"""The generalised Wasserstein Dice loss: errors cost what the classes are apart."""

import torch
from torch import Tensor

from tuner.losses.batch import View
from tuner.losses.function import segmentation_loss
from tuner.losses.reductions import quotient


@segmentation_loss()
def generalized_wasserstein_dice(view: View, *, sibling_distance: float, weighting: str, smooth: float) -> Tensor:
    """Generalised Wasserstein Dice loss (Fidon et al. 2017), class 0 the background. In [0, 1].

    M[l, c] is 1 between background and any other class, and `sibling_distance` between two foreground classes;
    `wasserstein_dice` takes any matrix.
    """
    distances = torch.full((view.classes, view.classes), sibling_distance, dtype=view.logits.dtype)
    distances[0, :] = 1
    distances[:, 0] = 1
    distances.fill_diagonal_(0)
    return wasserstein_dice(view, distances=distances, weighting=weighting, background=0, smooth=smooth)


def wasserstein_dice(view: View, *, distances: Tensor, weighting: str, background: int, smooth: float) -> Tensor:
    """Wasserstein Dice with class distances M [C, C], symmetric, zero on the diagonal; divided by its maximum.

        W_n = sum_c M[y_n, c] p_n^c,   TP = sum_V [y != b] (M[y, b] - W)
        default: 1 - (2 TP + s) / (2 TP + sum_V W + s)
        gdl:     1 - (2 sum a_y (1 - W) + s) / (sum a_y (2 - W) + s),   a_l = 1 / (T_l + 1)

    Per image, then the mean over images with a valid pixel. The survey's eq. 9 prints only the diagonal, which is
    zero; this is the authors' code. "gdl" (Tilborghs et al. 2020) weighs classes by their volume.
    """
    matrix = distances.to(view.logits.device, view.logits.dtype)
    matrix = matrix / matrix.max()
    spread = torch.matmul(matrix, view.probabilities)
    error = spread.gather(1, view.flat_labels.unsqueeze(1)).squeeze(1)
    if weighting == "default":
        to_background = matrix[:, background][view.flat_labels]
        found = ((to_background - error) * (view.flat_labels != background) * view.valid).sum(1)
        index = quotient(2 * found + smooth, 2 * found + (error * view.valid).sum(1) + smooth)
    else:
        weights = (1 / (view.counts + 1)).gather(1, view.flat_labels) * view.valid
        index = quotient(2 * (weights * (1 - error)).sum(1) + smooth, (weights * (2 - error)).sum(1) + smooth)
    units = (view.counts.sum(1) > 0).to(index.dtype)
    return ((1 - index) * units).sum() / units.sum().clamp_min(1)
