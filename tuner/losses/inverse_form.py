"""InverseForm: how far the predicted border has to be moved, turned and stretched to lie on the true one."""

import torch
from torch import Tensor

LEAST = 1e-12


def euclidean_distance(theta: Tensor) -> Tensor:
    """Return ||theta - I|| over the free parameters of transforms [..., 3, 3] or [..., 2, 3] (Borse et al. 2021)."""
    identity = torch.eye(3, dtype=theta.dtype, device=theta.device)[: theta.shape[-2]]
    return coefficient_distance((theta - identity).flatten(-2))


def coefficient_distance(coefficients: Tensor) -> Tensor:
    """Return the norm of coefficients [..., K] that are all zero for the identity; its slope at zero is zero."""
    square = coefficients.square().sum(-1)
    away = square > LEAST
    return torch.where(away, torch.where(away, square, 1).sqrt(), 0)


def geodesic_distance(theta: Tensor) -> Tensor:
    """Return the angle of the rotation that is nearest to theta [..., 3, 3], arccos((trace - 1) / 2)."""
    u, _, v = torch.linalg.svd(theta)
    sign = torch.linalg.det(u @ v)
    flip = torch.ones(*theta.shape[:-2], 3, dtype=theta.dtype, device=theta.device)
    flip = torch.cat([flip[..., :2], sign.unsqueeze(-1)], -1)
    rotation = u @ torch.diag_embed(flip) @ v
    trace = rotation.diagonal(dim1=-2, dim2=-1).sum(-1)
    return torch.arccos(((trace - 1) / 2).clamp(-1 + LEAST, 1 - LEAST))
