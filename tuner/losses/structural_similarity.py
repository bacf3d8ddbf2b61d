"""Structural similarity of probabilities and labels, in Gaussian windows."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tuner.losses.batch import LossInputs, segmentation_loss
from tuner.losses.softmax_stats import on_host

C1, C2 = 0.01**2, 0.03**2
SIGMA = 1.5
"""The constants of Wang et al. (2004), for maps in [0, 1], and the width of their window in pixels."""

TILE = 32
"""Pixels along an axis that one matrix product blurs on the host: of a whole side most of the matrix is zeros."""

IN_CACHE, AT_ONCE = 2**17, 2**26
"""How many probabilities the host and a device take at once: what lies beside them is a dozen times as much."""


@segmentation_loss(logs=False)
def ssim(view: LossInputs, *, window: int, compared: str, include_background: bool) -> Tensor:
    """Structural similarity loss (Qin et al. 2019, after Wang et al. 2004): 1 - mean SSIM(p_c, t_c). In [0, 2].

        SSIM = (2 m_p m_t + C1)(2 s_pt + C2) / ((m_p^2 + m_t^2 + C1)(s_p^2 + s_t^2 + C2))

    Means m, variances s^2 and covariance s_pt are those of a Gaussian window of odd side `window` around every pixel,
    1.5 pixels wide; C1 = 0.01^2, C2 = 0.03^2. The mean is over the valid pixels of the batch and the classes. Windows
    hold only valid pixels inside the image, and their weights add up to 1; the authors' code pads with zeros.
    `compared`: "all", or "structure", contrast and structure without luminance (the right-hand factors).
    MONAI's `SSIMLoss` compares images, in windows that do not leave them, and knows no ignore_index.
    """
    shape = view.logits.shape
    first = 0 if include_background else view.first_foreground
    p = view.probabilities.reshape(shape)[:, first:]
    labels = view.labels if view.void is None else view.labels.masked_fill(view.void, view.classes)
    gaussian = Window.of(window, p)
    total: Tensor = Unlikeness.apply(p, labels - first, gaussian, compared == "all")  # type: ignore[no-untyped-call]
    return total / (view.n_valid * p.shape[1])


@dataclass(frozen=True, slots=True)
class Window:
    """A Gaussian window over so many axes that reaches so many pixels each way.

    `bands` holds the matrix [L, L] that blurs an axis of length L.
    """

    dims: int
    reach: int
    bands: Mapping[int, Tensor]

    @classmethod
    def of(cls, side: int, maps: Tensor) -> "Window":
        """Return the window of odd side whose weights add up to 1, for maps [B, C, *S]."""
        reach = side // 2
        whole = sum(math.exp(k * k / (-2 * SIGMA**2)) for k in range(-reach, reach + 1))
        bands = {}
        for length in set(maps.shape[2:]):
            places = torch.arange(length, dtype=maps.dtype, device=maps.device)
            away = (places.unsqueeze(1) - places).square_()
            bands[length] = torch.exp(away / (-2 * SIGMA**2)).div_(whole).mul_(away <= reach * reach)
        return cls(maps.ndim - 2, reach, bands)

    def blur(self, maps: Tensor) -> Tensor:
        """Return the sums of maps [..., *S] over the window around every pixel, zeros outside the image.

        By matrix products (a convolution of one channel is several times slower on the host, and rounds to TF32 on
        some devices); as the matrices are symmetric, this is its own transpose.
        """
        for axis in range(maps.ndim - 1, maps.ndim - 1 - self.dims, -1):
            maps = self._along(maps, axis)
        return maps

    def _along(self, maps: Tensor, axis: int) -> Tensor:
        length = maps.shape[axis]
        band = self.bands[length]
        rows = maps.reshape(-1, length, math.prod(maps.shape[axis + 1 :]))
        if not on_host(maps):
            last = rows.shape[2] == 1
            return (rows[:, :, 0] @ band if last else torch.matmul(band, rows)).view_as(maps)
        out = torch.empty_like(rows)
        for start in range(0, length, TILE):
            stop = min(start + TILE, length)
            seen = slice(max(0, start - self.reach), min(length, stop + self.reach))
            if rows.shape[2] == 1:
                torch.mm(rows[:, seen, 0], band[seen, start:stop], out=out[:, start:stop, 0])
            else:
                tile = band[start:stop, seen].expand(len(rows), -1, -1)
                torch.bmm(tile, rows[:, seen], out=out[:, start:stop])
        return out.view_as(maps)


class Unlikeness(torch.autograd.Function):
    """Sum of 1 - SSIM over valid pixels and classes, a scalar; one pass back, for the slope is made on the way.

    Inputs: p [B, C, *S]; labels [B, *S], 0..C-1, negative for another class, C on void pixels; the window; whether
    luminance counts. A part after the other, which bounds the memory beside p and its slope.
    """

    @staticmethod
    def forward(ctx: Any, p: Tensor, labels: Tensor, window: Window, luminance: bool) -> Tensor:
        """Return the sum."""
        slope = torch.empty_like(p, memory_format=torch.contiguous_format) if ctx.needs_input_grad[0] else None
        numbers = torch.arange(p.shape[1], device=p.device).view(-1, *(1,) * window.dims)
        totals = []
        images, classes = _at_once(p)
        for some in _slices(len(p), images):
            own = labels[some].unsqueeze(1)
            valid = (own < p.shape[1]).to(p.dtype)
            mass = window.blur(valid).clamp_min_(torch.finfo(p.dtype).tiny)
            for few in _slices(p.shape[1], classes):
                t = (own == numbers[few]).to(p.dtype)
                into = None if slope is None else slope[some, few]
                totals.append(_unlikeness(p[some, few], t, valid, mass, window, luminance=luminance, slope=into))
        if slope is not None:
            ctx.save_for_backward(slope)
        return totals[0] if len(totals) == 1 else torch.stack(totals).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        """Return the gradient of p."""
        (slope,) = ctx.saved_tensors
        return slope * grad, None, None, None


def _at_once(p: Tensor) -> tuple[int, int]:
    """Return how many images and classes of p [B, C, *S] are taken together."""
    pixels = p[0, 0].numel()
    if on_host(p):
        return 1, max(1, IN_CACHE // pixels)
    return max(1, AT_ONCE // (pixels * p.shape[1])), p.shape[1]


def _slices(length: int, step: int) -> list[slice]:
    return [slice(start, start + step) for start in range(0, length, step)]


def _unlikeness(
    p: Tensor, t: Tensor, valid: Tensor, mass: Tensor, window: Window, *, luminance: bool, slope: Tensor | None
) -> Tensor:
    """Return the sum over some images and classes, and write its gradient with respect to p into slope if there is one.

    p, t [B, C, *S]; valid and mass, the sum of valid pixels in the window, [B, 1, *S].
    """
    # By errors e = p - t: 1 less the first factor is m_e^2 / (m_p^2 + m_t^2 + C1), and 1 less the second
    # s_e^2 / (s_p^2 + s_t^2 + C2), which keep their digits where all is nearly right. t^2 is t.
    e = p - t
    m_t, m_e, ee, pp = window.blur(torch.stack([t, e, e * e, p * p])).div_(mass).unbind(0)
    m_p = m_t + m_e
    spread = pp.addcmul_(m_p, m_p, value=-1).add_(m_t).addcmul_(m_t, m_t, value=-1).add_(C2)
    apart = ee.addcmul_(m_e, m_e, value=-1).div_(spread)
    if luminance:
        level = (m_p * m_p).addcmul_(m_t, m_t).add_(C1)
        off = (m_e * m_e).div_(level)
        unlike = (apart + off).addcmul_(apart, off, value=-1)
    else:
        unlike = apart
    total = (unlike * valid).sum()
    if slope is None:
        return total
    # half the slope with respect to the mean of e, and the slopes with respect to those of e^2 and p^2
    weight = valid / mass
    by_ee = weight / spread
    by_e = (m_p * apart).sub_(m_e)
    if luminance:
        by_ee.addcmul_(by_ee, off, value=-1)
        by_level = torch.rsub(apart, 1).mul_(weight).div_(level)
        by_e.mul_(by_ee).addcmul_(by_level, m_e.addcmul_(m_p, off, value=-1))
    else:
        by_e.mul_(by_ee)
    direct, of_ee, of_pp = window.blur(torch.stack([by_e, by_ee, (by_ee * apart).neg_()])).unbind(0)
    torch.mul(direct.addcmul_(of_ee, e).addcmul_(of_pp, p), 2, out=slope)
    return total
