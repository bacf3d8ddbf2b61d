"""Cross-entropy with one more idea: a prior, a polynomial term, or neighbours that soften the target."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from tuner.losses.batch import View
from tuner.losses.function import segmentation_loss
from tuner.losses.reductions import pixel_mean, window_mean

LEAST_PRIOR = 1e-8


@segmentation_loss()
def poly1(view: View, *, epsilon: float) -> Tensor:
    """Poly-1 cross-entropy (Leng et al. 2022): mean over V of -ln p_t + epsilon (1 - p_t). Ours: MONAI has none."""
    return pixel_mean(view.nll - epsilon * torch.expm1(-view.nll), view)


@segmentation_loss()
def logit_adjusted_ce(view: View, *, class_frequencies: Tensor | Sequence[float], tau: float) -> Tensor:
    """Logit-adjusted cross-entropy (Menon et al. 2021): cross-entropy of z + tau ln f, f the class frequencies.

    For training only: the network is read without the adjustment, and so favours rare classes. Ours: MONAI has none.
    """
    prior = torch.as_tensor(class_frequencies, dtype=view.logits.dtype, device=view.logits.device)
    shift = tau * (prior / prior.sum()).clamp_min(LEAST_PRIOR).log()
    logits = view.logits + shift.view(1, -1, *(1,) * (view.logits.ndim - 2))
    adjusted = replace(view, logits=logits)
    return pixel_mean(adjusted.nll, adjusted)


@segmentation_loss()
def nacl(view: View, *, weight: float) -> Tensor:
    """Neighbour-aware calibration (Murugesan et al. 2023): cross-entropy + weight mean_{V, C} |z - u|.

    u is the mean of the one-hot target over the 3 x 3 (3 x 3 x 3) neighbourhood, zero outside the image and on void
    pixels; z are the logits themselves, so a constant added to them is seen. Ours equals MONAI's `NACLLoss`,
    which knows no ignore_index.
    """
    hot = F.one_hot(view.labels, view.classes).movedim(-1, 1).to(view.logits.dtype)
    if view.void is not None:
        hot = hot.masked_fill(view.void.unsqueeze(1), 0)
    soft = window_mean(hot, 3)
    gap = (view.clean_logits - soft).abs().flatten(2) * view.valid.unsqueeze(1)
    return pixel_mean(view.nll, view) + weight * gap.sum() / (view.n_valid * view.classes)
