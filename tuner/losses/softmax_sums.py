"""One softmax for all: what losses sum up of the probabilities, with a backward that is one expression."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class SoftmaxSums(torch.autograd.Function):
    """Softmax over dim 1 and the sums of it that losses are made of; void pixels are zero in every output.

    Inputs: logits [B, C, N] float; labels [B, N] in 0..C-1; void [B, N] bool, or None where there is none.
    Outputs: nll [B, N]; p [B, C, N]; sum of p [B, C] or None; sum of p squared [B, C] or None.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, void: Tensor | None, sums: bool, squares: bool
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Compute the outputs in as few passes over [B, C, N] as torch allows."""
        p, nll = _softmax(logits, labels, void)
        if void is not None:
            # masked_fill and not a product: logits on void pixels may be NaN or infinite
            nll.masked_fill_(void, 0)
            p.masked_fill_(void.unsqueeze(1), 0)
        ctx.save_for_backward(p, labels, void)
        ctx.set_materialize_grads(False)
        total = p.sum(-1) if sums else None
        total_square = torch.linalg.vector_norm(p, dim=-1).square() if squares else None
        return nll, p, total, total_square

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, g_nll: Tensor | None, g_p: Tensor | None, g_sum: Tensor | None, g_square: Tensor | None
    ) -> tuple[Tensor | None, None, None, None, None]:
        """Chain all gradients through one softmax: p (g - sum_c p g) + g_nll (p - t)."""
        p, labels, void = ctx.saved_tensors
        if g_nll is not None and void is not None:
            g_nll = g_nll.masked_fill(void, 0)
        slope, owned = _slope(p, g_p, g_sum, g_square)
        if slope is None:
            if g_nll is None:
                return None, None, None, None, None
            grad = p * g_nll.unsqueeze(1)
        elif slope.shape[-1] == 1:
            # where the slope is one number per class, a matrix product replaces a pass over [B, C, N]
            mean = torch.bmm(slope.mT, p).squeeze(1)
            grad = torch.add(slope, (mean.neg_() if g_nll is None else g_nll - mean).unsqueeze(1)).mul_(p)
        else:
            # fresh memory costs more than arithmetic: one buffer from here to the end
            grad = slope.mul_(p) if owned else slope * p
            mean = grad.sum(1)
            grad.addcmul_(p, (mean.neg_() if g_nll is None else g_nll - mean).unsqueeze(1))
        if g_nll is not None:
            grad.scatter_add_(1, labels.unsqueeze(1), -g_nll.unsqueeze(1))
        return grad, None, None, None, None


def _softmax(logits: Tensor, labels: Tensor, void: Tensor | None) -> tuple[Tensor, Tensor]:
    picked = labels.unsqueeze(1)
    if logits.device.type == "cpu":
        p = torch.softmax(logits, 1)
        p_t = p.gather(1, picked).squeeze(1)
        least = p_t if void is None else p_t.masked_fill(void, 1)
        # -ln p is as exact as log-softmax until p nears underflow, and saves a pass of exponentials
        if bool(least.min() > torch.finfo(p.dtype).tiny * 1e8):
            return p, p_t.log_().neg_()
    log_p = torch.log_softmax(logits, 1)
    nll = log_p.gather(1, picked).squeeze(1).neg_()
    return log_p.exp_(), nll


def _slope(p: Tensor, g_p: Tensor | None, g_sum: Tensor | None, g_square: Tensor | None) -> tuple[Tensor | None, bool]:
    """Return the gradient with respect to p, [B, C, 1] where it is one number per class, else [B, C, N].

    The second result says whether it was made here, so that it may be written to.
    """
    slope, owned = None if g_sum is None else g_sum.unsqueeze(-1), False
    if g_square is not None:
        steep = p * (2 * g_square).unsqueeze(-1)
        slope, owned = (steep if slope is None else steep.add_(slope)), True
    if g_p is None:
        return slope, owned
    if slope is None:
        return g_p, False
    return (slope.add_(g_p) if owned else slope + g_p), True
