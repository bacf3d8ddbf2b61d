"""The robust T-loss: a Student-t likelihood that learns how much label noise to tolerate."""

import math

import torch
from torch import Tensor, nn

from tuner.losses.function import segmentation_loss
from tuner.losses.overlap_variants import squared_errors
from tuner.losses.view import View

LEAST = 1e-8


class Tolerance(nn.Module):
    """The learned degrees of freedom nu = exp(log_nu) + 1e-8, one for all classes; few: outliers count little."""

    def __init__(self, *, classes: int, log_degrees_of_freedom: float, learning_rate: float) -> None:
        super().__init__()
        self.log_nu = nn.Parameter(torch.tensor(float(log_degrees_of_freedom)))
        self.learning_rate = learning_rate

    def forward(self) -> Tensor:
        """Return nu, a positive scalar."""
        return torch.exp(self.log_nu) + LEAST


@segmentation_loss(sums=True, squares=True, logs=False)
def robust_t(view: View, *, state: Tolerance, per_pixel: bool) -> Tensor:
    """Robust T-loss (Gonzalez-Jimenez et al. 2023), each foreground class against the rest, averaged.

    See `student_t`. The paper has one foreground class; more are our extension. `per_pixel` divides by the number of
    pixels, which the paper does not: the value grows with the image, and so would the gradient.
    """
    missed, false = squared_errors(view)
    nu = state().to(missed.device)
    value = student_t((missed + false)[:, 1:], view.counts.sum(1, keepdim=True), nu)
    if per_pixel:
        value = value / view.counts.sum(1, keepdim=True).clamp_min(1)
    units = (view.counts.sum(1) > 0).to(value.dtype)
    return (value.mean(1) * units).sum() / units.sum().clamp_min(1)


def student_t(errors: Tensor, pixels: Tensor, nu: Tensor, *, precision: float = 1.0) -> Tensor:
    """Return -ln of a Student-t density in D = `pixels` dimensions at the squared error S = `errors`.

        -lnG((nu + D)/2) + lnG(nu/2) + (D/2) ln(pi nu) - (D/2) ln l + ((nu + D)/2) ln(1 + l S / nu),   l = `precision`

    The survey has low nu behave like the squared error; it is the reverse: nu -> infinity is the squared error.
    """
    # lnG of a whole image's pixel count has no digits left in float32
    wide = torch.float32 if errors.device.type == "mps" else torch.float64
    s, d, freedom = errors.to(wide), pixels.to(wide), nu.to(wide)
    half = (freedom + d) / 2
    volume = torch.lgamma(freedom / 2) - torch.lgamma(half) + d / 2 * torch.log(math.pi * freedom / precision)
    return (volume + half * torch.log1p(precision * s.clamp_min(0) / freedom)).to(errors.dtype)
