"""The robust T-loss: a Student-t likelihood that learns how much label noise to tolerate."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tuner.losses.batch import LossInputs, segmentation_loss

MIN_DEGREES = 1e-8


class DegreesOfFreedom(nn.Module):
    """The learned degrees of freedom nu = exp(log_nu) + 1e-8, one for all classes; few: outliers count little."""

    def __init__(self, *, classes: int, log_degrees_of_freedom: float, learning_rate: float) -> None:
        super().__init__()
        self.log_nu = nn.Parameter(torch.tensor(float(log_degrees_of_freedom)))
        self.learning_rate = learning_rate

    def forward(self) -> Tensor:
        """Return nu, a positive scalar."""
        return torch.exp(self.log_nu) + MIN_DEGREES


@segmentation_loss(sums=True, logs=False)
def robust_t(view: LossInputs, *, state: DegreesOfFreedom, per_pixel: bool) -> Tensor:
    """Robust T-loss (Gonzalez-Jimenez et al. 2023), each foreground class against the rest, averaged.

    See `student_t`. The paper has one foreground class; more are our extension. `per_pixel` divides by the number of
    pixels, which the paper does not: the value grows with the image, and so would the gradient.
    """
    of = view.overlap(per_image=True)
    missed, false = view.error_sums(per_image=True, power=2.0)
    # sum (t - p)^2
    errors = missed + false
    pixels = of.valid_pixels()
    value = student_t(errors[:, view.first_foreground :], pixels, state().to(errors.device))
    if per_pixel:
        value = value / pixels.clamp_min(1)
    return (value.mean(1) * of.units).sum() / of.units.sum().clamp_min(1)


def student_t(errors: Tensor, pixels: Tensor, nu: Tensor, *, precision: float = 1.0) -> Tensor:
    """Return -ln of a Student-t density in D = `pixels` dimensions at the squared error S = `errors`.

        -lnG((nu + D)/2) + lnG(nu/2) + (D/2) ln(pi nu) - (D/2) ln l + ((nu + D)/2) ln(1 + l S / nu),   l = `precision`

    The survey has low nu behave like the squared error; it is the reverse: nu -> infinity is the squared error.
    """
    # lnG of a whole image's pixel count has no digits left in float32
    wide = torch.float32 if errors.device.type == "mps" else torch.float64
    s, d, freedom = errors.to(wide), pixels.to(wide), nu.to(wide)
    value: Tensor = StudentT.apply(precision * s.clamp_min(0), d, freedom)  # type: ignore[no-untyped-call]
    return (value - d / 2 * math.log(precision)).to(errors.dtype)


class StudentT(torch.autograd.Function):
    """-ln of the density at precision 1, with its derivatives by S and nu in closed form: a dozen nodes less."""

    @staticmethod
    def forward(ctx: Any, s: Tensor, d: Tensor, nu: Tensor) -> Tensor:
        """Return the value of errors S [B, K] >= 0, dimensions D [B, 1] and a scalar nu."""
        half = (nu + d) / 2
        tail = torch.log1p(s / nu)
        ctx.save_for_backward(s, d, nu, half, tail)
        return torch.lgamma(nu / 2) - torch.lgamma(half) + d / 2 * torch.log(math.pi * nu) + half * tail

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor]:
        """Return the gradients of S and nu."""
        s, d, nu, half, tail = ctx.saved_tensors
        by_error = half / (nu + s)
        by_freedom = (torch.digamma(nu / 2) - torch.digamma(half) + tail + d / nu) / 2 - by_error * s / nu
        return grad * by_error, None, (grad * by_freedom).sum()
