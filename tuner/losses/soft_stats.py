"""Softmax statistics of soft labels and weighed pixels: overlap sums and cross-entropy, with closed-form backward.

On the host row by row, so that what one pass wrote is in the cache for the next. On a device nothing makes the host
wait.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tuner.losses.sigmoid_stats import LONG
from tuner.losses.softmax_stats import on_host, spendable


def _by_row(maps: Tensor) -> bool:
    return on_host(maps) and maps.shape[2] >= LONG


class SoftOverlap(torch.autograd.Function):
    """Softmax over dim 1, or sigmoids, and the sums of them and of a target that overlap losses are made of.

    Inputs: logits, target [B, C, N] of one type; weight [B, 1 or C, N] of that type, how much pixels count, None where
    all count 1; whether squares are summed; whether the intersection is the product p t, else it is min(p, t); whether
    classes overlap, and p are sigmoids.
    Outputs: p [B, C, N]; sums [K, B, C], each by weight: of the intersection, of p, and of p squared if asked for;
    counts [B, C]: of t, or of t squared where products are taken.

    The gradient takes the place of p in memory unless the graph is to be kept. It has no second derivative.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        target: Tensor,
        weight: Tensor | None,
        squares: bool,
        products: bool,
        overlapping: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the outputs."""
        p = (torch.sigmoid(logits) if overlapping else torch.softmax(logits, 1)).contiguous()
        ctx.save_for_backward(p, target, weight)
        ctx.products, ctx.overlapping = products, overlapping
        ctx.set_materialize_grads(False)
        if _by_row(p):
            buffer, found = torch.empty_like(p[0, 0]), []
            for n, (t, image) in enumerate(zip(target, p, strict=True)):
                found += [
                    torch.stack(_sums(row, own, _row(weight, n, c), buffer, squares=squares, products=products))
                    for c, (row, own) in enumerate(zip(image, t, strict=True))
                ]
            whole = torch.stack(found).T.reshape(-1, *p.shape[:2])
        else:
            whole = torch.stack(_sums(p, target, weight, torch.empty_like(p), squares=squares, products=products))
        counts = whole[-1]
        ctx.mark_non_differentiable(counts)
        return p, whole[:-1], counts

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, g_p: Tensor | None, g_sums: Tensor | None, g_counts: None
    ) -> tuple[Tensor | None, None, None, None, None, None]:
        """Return p (s - sum_c p s), or p (1 - p) s, s the gradient with respect to p."""
        p, target, weight = ctx.saved_tensors
        if g_sums is None:
            grad = None if g_p is None else _logit_slope(g_p, p, overlapping=ctx.overlapping)
            return grad, None, None, None, None, None
        parts = [part.unsqueeze(-1) for part in g_sums]
        if not _by_row(p):
            slope = torch.empty_like(p)
            _fill_slope(slope, p, target, weight, parts, products=ctx.products)
            slope = slope if g_p is None else slope.add_(g_p)
            return _logit_slope(slope, p, overlapping=ctx.overlapping), None, None, None, None, None
        # detached: p itself would hand its graph to whoever keeps the gradient
        grad = p.detach() if spendable() else torch.empty_like(p)
        slope = torch.empty_like(p[0])
        for n, image in enumerate(p):
            for c, row in enumerate(slope):
                own = [part[n, c] for part in parts]
                _fill_slope(row, image[c], target[n, c], _row(weight, n, c), own, products=ctx.products)
                if g_p is not None:
                    row.add_(g_p[n, c])
                if ctx.overlapping:
                    torch.ops.aten.sigmoid_backward.grad_input(row, image[c], grad_input=grad[n, c])
                else:
                    row.mul_(image[c])
            if not ctx.overlapping:
                torch.addcmul(slope, image, slope.sum(0), value=-1, out=grad[n])
        return grad, None, None, None, None, None


def _logit_slope(slope: Tensor, p: Tensor, *, overlapping: bool) -> Tensor:
    """Return the gradient of logits for that of p, both [B, C, N]."""
    found: Tensor
    if overlapping:
        found = torch.ops.aten.sigmoid_backward(slope, p)
    else:
        found = torch.ops.aten._softmax_backward_data(slope, p, 1, p.dtype)
    return found


def _row(weight: Tensor | None, image: int, number: int) -> Tensor | None:
    """Return the weights [N] of a class, which may be those of all."""
    return None if weight is None else weight[image, number if weight.shape[1] > 1 else 0]


def _sums(
    p: Tensor, t: Tensor, weight: Tensor | None, buffer: Tensor, *, squares: bool, products: bool
) -> list[Tensor]:
    """Return the sums over the last dim of p and t, [N] or [B, C, N], that `SoftOverlap` is made of; buffer is one."""
    dot = torch.dot if p.ndim == 1 else torch.linalg.vecdot
    common = torch.mul(p, t, out=buffer) if products else torch.minimum(p, t, out=buffer)
    if weight is None:
        found = [common.sum(-1), p.sum(-1), *([dot(p, p)] if squares else [])]
        return [*found, dot(t, t) if products else t.sum(-1)]
    found = [dot(common, weight), dot(p, weight)]
    if squares:
        found.append(dot(torch.mul(p, p, out=buffer), weight))
    return [*found, dot(torch.mul(t, t, out=buffer) if products else t, weight)]


def _fill_slope(
    out: Tensor, p: Tensor, t: Tensor, weight: Tensor | None, parts: list[Tensor], *, products: bool
) -> None:
    """Write the gradient of the sums with respect to p; at p = t that of min(p, t) is a half."""
    own, every, *twice = parts
    if products:
        torch.mul(t, own, out=out).add_(every)
    else:
        half = own / 2
        torch.sub(t, p, out=out).sign_().mul_(half).add_(half + every)
    for bend in twice:
        out.addcmul_(p, bend, value=2)
    if weight is not None:
        out.mul_(weight)


class SoftEntropy(torch.autograd.Function):
    """Sum over all pixels of w sum_c t_c (-ln p_c), p the softmax over dim 1.

    logits, target, weight as for `SoftOverlap`; mass [B, N] is sum_c t_c where it is known, else None. The gradient
    takes the place of ln p in memory unless the graph is to be kept. It has no second derivative.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, weight: Tensor | None, mass: Tensor | None) -> Tensor:
        """Return the sum, a scalar."""
        log_p = torch.log_softmax(logits, 1).contiguous()
        ctx.save_for_backward(log_p, target, weight, mass)
        if not _by_row(log_p):
            of_class = torch.linalg.vecdot(target, log_p) if weight is None else (target * log_p * weight).sum(-1)
            return of_class.sum().neg()
        totals = []
        for n, (t, image) in enumerate(zip(target, log_p, strict=True)):
            if weight is None:
                totals.append(torch.dot(t.reshape(-1), image.view(-1)))
                continue
            buffer = torch.mul(t[0], image[0])
            for own, row in zip(t[1:], image[1:], strict=True):
                buffer.addcmul_(own, row)
            totals.append(torch.dot(buffer, weight[n, 0]))
        return torch.stack(totals).sum().neg()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        """Return w (p sum_c t_c - t)."""
        log_p, target, weight, mass = ctx.saved_tensors
        by_pixel = grad if weight is None else grad * weight
        into = log_p.detach() if spendable() else torch.empty_like(log_p)
        if not _by_row(log_p):
            torch.exp(log_p, out=into).mul_(target.sum(1, keepdim=True) * by_pixel).addcmul_(target, by_pixel, value=-1)
            return into, None, None, None
        for n, image in enumerate(into):
            pull = by_pixel if weight is None else by_pixel[n, 0]
            whole = (target[n].sum(0) if mass is None else mass[n]) * pull
            torch.exp(log_p[n], out=image).mul_(whole).addcmul_(target[n], pull, value=-1)
        return into, None, None, None


class SigmoidEntropy(torch.autograd.Function):
    """Sum over all pixels and classes of w (-t ln p - (1 - t) ln (1 - p)), p the sigmoid.

    logits, target, weight as for `SoftOverlap`. The gradient takes the place of p in memory unless the graph is to be
    kept. It has no second derivative.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """Return the sum, a scalar."""
        p = torch.empty_like(logits, memory_format=torch.contiguous_format)
        ctx.save_for_backward(p, target, weight)
        if not _by_row(p):
            value = _entropy(logits, target, p, torch.empty_like(p))
            return value.sum() if weight is None else (value * weight).sum()
        buffer, totals = torch.empty_like(p[0, 0]), []
        for n, image in enumerate(p):
            for c, row in enumerate(image):
                value, own = _entropy(logits[n, c], target[n, c], row, buffer), _row(weight, n, c)
                totals.append(value.sum() if own is None else torch.dot(value, own))
        return torch.stack(totals).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Return w (p - t)."""
        p, target, weight = ctx.saved_tensors
        into = p.detach() if spendable() else torch.empty_like(p)
        if not _by_row(p):
            torch.sub(p, target, out=into).mul_(grad if weight is None else grad * weight)
            return into, None, None
        for n, image in enumerate(into):
            for c, row in enumerate(image):
                own = _row(weight, n, c)
                torch.sub(p[n, c], target[n, c], out=row).mul_(grad)
                if own is not None:
                    row.mul_(own)
        return into, None, None


def _entropy(logits: Tensor, t: Tensor, p: Tensor, out: Tensor) -> Tensor:
    """Fill p with the sigmoid and return the entropy, ln (1 + exp -|z|) + max(z, 0) - t z, of one row or all.

    Two terms that are not negative: where p is nearly t, nothing is lost in a difference of large numbers.
    """
    torch.sigmoid(logits, out=p)
    if on_host(logits):
        # the first as -ln max(p, 1 - p), which saves a pass of exponentials; max(p, 1 - p) is 1/2 + |p - 1/2|
        torch.sub(p, 0.5, out=out).abs_().add_(0.5).log_().neg_()
    else:
        out = torch.nn.functional.softplus(-logits.abs())
    return out.add_(logits.clamp_min(0).addcmul_(logits, t, value=-1))
