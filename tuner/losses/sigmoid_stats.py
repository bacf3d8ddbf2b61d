"""Sigmoid statistics of classes that overlap: sums over pixels and -ln p of the labels, with a closed-form backward.

All of hard labels that count alike. On a device nothing makes the host wait.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tuner.losses.softmax_stats import on_host, spendable

LONG = 4096
"""Pixels of a row from which it is worth a loop of its own."""


class SigmoidSums(torch.autograd.Function):
    """Sigmoid and the sums of it that overlap losses are made of.

    Inputs: logits [B, C, N]; target [B, C, N] of 0 and 1, of the logits' type.
    Outputs: p [B, C, N]; sums [K, B, C]: of p over the class's own pixels, of p over all, and of p squared if asked
    for; counts [B, C] of the target's ones.

    On the host row by row, so that what one pass wrote is in the cache for the next. The gradient takes the place of p
    in memory unless the graph is to be kept. It has no second derivative.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, squares: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the outputs."""
        p = torch.empty_like(logits, memory_format=torch.contiguous_format)
        ctx.save_for_backward(p, target)
        ctx.set_materialize_grads(False)
        found = [_row_sums(*rows, squares=squares) for rows in zip(*_rows(logits, p, target), strict=True)]
        whole = torch.stack([torch.stack(sums) for sums in zip(*found, strict=True)]).view(-1, *logits.shape[:2])
        counts = whole[-1]
        ctx.mark_non_differentiable(counts)
        return p, whole[:-1], counts

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, g_p: Tensor | None, g_sums: Tensor | None, g_counts: None
    ) -> tuple[Tensor | None, None, None]:
        """Return p (1 - p) times the gradient with respect to p."""
        p, target = ctx.saved_tensors
        if g_sums is None:
            return None if g_p is None else torch.ops.aten.sigmoid_backward(g_p, p), None, None
        # detached: p itself would hand its graph to whoever keeps the gradient
        grad = p.detach() if spendable() else torch.empty_like(p)
        own, every, *twice = (_numbers(part, p) for part in g_sums)
        further = _rows(g_p)[0] if g_p is not None else [None] * len(own)
        bends = twice[0] if twice else [None] * len(own)
        for row, t, into, a, b, bend, more in zip(*_rows(p, target, grad), own, every, bends, further, strict=True):
            slope = torch.mul(t, a).add_(b)
            if bend is not None:
                slope.addcmul_(row, bend, value=2)
            if more is not None:
                slope.add_(more)
            torch.ops.aten.sigmoid_backward.grad_input(slope, row, grad_input=into)
        return grad, None, None


def _row_sums(logits: Tensor, p: Tensor, target: Tensor, *, squares: bool) -> list[Tensor]:
    """Fill p and return its sums, and that of the target: of one row [N], or of all [B, C, N]."""
    torch.sigmoid(logits, out=p)
    dot = torch.dot if p.ndim == 1 else torch.linalg.vecdot
    sums = [dot(p, target), p.sum(-1), *([dot(p, p)] if squares else []), target.sum(-1)]
    return [part.reshape(-1) for part in sums] if p.ndim > 1 else sums


def _by_row(maps: Tensor) -> bool:
    return on_host(maps) and maps.shape[2] >= LONG


def _rows(*maps: Tensor) -> list[list[Tensor]]:
    """Return the rows [N] of maps [B, C, N] on the host, where they are long; else each as a whole."""
    if not _by_row(maps[0]):
        return [[one] for one in maps]
    return [list(one.flatten(0, 1).unbind(0)) for one in maps]


def _numbers(part: Tensor, maps: Tensor) -> list[Tensor]:
    """Return what stands for each of `_rows` in a part [B, C]."""
    return list(part.flatten().unbind(0)) if _by_row(maps) else [part.unsqueeze(-1)]


class LabelNll(torch.autograd.Function):
    """-ln of the probability of each label, ln(1 + exp(-z)) of those that are there and ln(1 + exp(z)) of the others.

    logits, target [B, C, N] as for `SigmoidSums`. On the host row by row, and -ln p itself, which is as exact until p
    nears underflow and saves a pass of exponentials.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor) -> Tensor:
        """Return [B, C, N]."""
        p_true = torch.empty_like(logits, memory_format=torch.contiguous_format)
        nll = torch.empty_like(p_true)
        ctx.save_for_backward(p_true, target)
        least = []
        for z, t, p, out in zip(*_rows(logits, target, p_true, nll), strict=True):
            away = torch.addcmul(z, z, t, value=-2)
            if on_host(z):
                torch.sigmoid(away.neg_(), out=p)
                torch.log(p, out=out).neg_()
                least.append(p.amin())
            else:
                torch.sigmoid(-away, out=p)
                out.copy_(torch.nn.functional.softplus(away))
        if least and not torch.stack(least).amin().item() > torch.finfo(nll.dtype).tiny * 1e8:
            return torch.nn.functional.softplus(torch.addcmul(logits, logits, target, value=-2))
        return nll

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Return the probability of the other label, drawn towards the right one."""
        p_true, target = ctx.saved_tensors
        pulls = p_true.detach() if spendable() else torch.empty_like(p_true)
        for p, t, g, into in zip(*_rows(p_true, target, grad, pulls), strict=True):
            # the gradient of a mean is one number, which is faster as such
            wrong = torch.rsub(p, 1).mul_(g[0] if g.ndim == 1 and g.stride(0) == 0 else g)
            torch.addcmul(wrong, wrong, t, value=-2, out=into)
        return pulls, None


class TotalLabelNll(torch.autograd.Function):
    """The sum of `LabelNll` over all pixels and classes, which need not be written: a pass less there and back."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor) -> Tensor:
        """Return a scalar."""
        p_true = torch.empty_like(logits, memory_format=torch.contiguous_format)
        ctx.save_for_backward(p_true, target)
        if not _by_row(logits):
            away = torch.addcmul(logits, logits, target, value=-2)
            torch.sigmoid(-away, out=p_true)
            return torch.nn.functional.softplus(away).sum()
        buffer = torch.empty_like(p_true[0, 0])
        totals, least = [], []
        for z, t, p in zip(*_rows(logits, target, p_true), strict=True):
            torch.sigmoid(torch.addcmul(z, z, t, value=-2, out=buffer).neg_(), out=p)
            totals.append(torch.log(p, out=buffer).sum())
            least.append(p.amin())
        if not torch.stack(least).amin().item() > torch.finfo(p_true.dtype).tiny * 1e8:
            return torch.nn.functional.softplus(torch.addcmul(logits, logits, target, value=-2)).sum()
        return torch.stack(totals).sum().neg()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Return the probability of the other label, drawn towards the right one."""
        p_true, target = ctx.saved_tensors
        pulls = p_true.detach() if spendable() else torch.empty_like(p_true)
        for p, t, into in zip(*_rows(p_true, target, pulls), strict=True):
            # 1 - p by a reversed subtraction, which is one pass
            wrong = torch.rsub(p, 1).mul_(grad)
            torch.addcmul(wrong, wrong, t, value=-2, out=into)
        return pulls, None
