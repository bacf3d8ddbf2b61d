"""Structural similarity of probabilities and labels, in Gaussian windows."""

import torch
from torch import Tensor
from torch.nn import functional as F

from tuner.losses.batch import LossInputs, segmentation_loss
from tuner.losses.dense import one_hot

C1, C2 = 0.01**2, 0.03**2
SIGMA = 1.5
"""The constants of Wang et al. (2004), for maps in [0, 1], and the width of their window in pixels."""


@segmentation_loss()
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
    p, t = view.probabilities.reshape(shape)[:, first:], one_hot(view).reshape(shape)[:, first:]
    valid = view.valid.reshape(shape[0], 1, *shape[2:])
    kernel = _gaussian(window, p)
    mass = _blur(valid, kernel).clamp_min(torch.finfo(p.dtype).tiny)
    # By errors e = p - t: 1 less the first factor is m_e^2 / (m_p^2 + m_t^2 + C1), and 1 less the second
    # s_e^2 / (s_p^2 + s_t^2 + C2), which keep their digits where all is nearly right. t^2 is t.
    e = p - t
    blurred = _blur(torch.stack([t, e, e * e, p * p]).flatten(0, 1), kernel).view(4, *p.shape) / mass
    m_t, m_e, ee, pp = blurred.unbind(0)
    m_p = m_t + m_e
    unlike = (ee - m_e * m_e) / ((pp - m_p * m_p) + (m_t - m_t * m_t) + C2)
    if compared == "all":
        apart = m_e * m_e / (m_p * m_p + m_t * m_t + C1)
        unlike = unlike + apart - unlike * apart
    return (unlike * valid).sum() / (view.n_valid * unlike.shape[1])


def _gaussian(side: int, like: Tensor) -> Tensor:
    """Return the weights [side] of a Gaussian window, which add up to 1."""
    away = torch.arange(side, dtype=like.dtype, device=like.device) - side // 2
    weights = torch.exp(away.square() / (-2 * SIGMA**2))
    return weights / weights.sum()


def _blur(maps: Tensor, kernel: Tensor) -> Tensor:
    """Return the sums of maps [B, C, *S] over the window around every pixel, zeros outside the image."""
    flat, dims = maps.flatten(0, 1).unsqueeze(1), maps.ndim - 2
    convolve = F.conv2d if dims == 2 else F.conv3d
    for axis in range(dims):
        sides = [len(kernel) if axis == other else 1 for other in range(dims)]
        flat = convolve(flat, kernel.view(1, 1, *sides), padding=[side // 2 for side in sides])
    return flat.view_as(maps)
