"""Softmax statistics: one softmax, its sums by class, and the true class's entries, with a closed-form backward.

On a device nothing makes the host wait.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

INT32 = torch.iinfo(torch.int32).max
LANES = 512


def on_host(tensor: Tensor) -> bool:
    """Say whether the host may look at values at no cost: on the CPU, and not while torch.compile traces."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def true_class_indices(maps: Tensor, labels: Tensor) -> Tensor:
    """Return where in maps [B, C, N] the class of labels [B, N] lies, for `at` and `take_from`.

    On the CPU as positions [B, N] in the flattened maps: several times faster to follow than an index along dim 1.
    """
    if maps.device.type != "cpu":
        return labels.unsqueeze(1)
    images, classes, pixels = maps.shape
    kind = torch.int32 if maps.numel() < INT32 else torch.int64
    places = torch.add(torch.arange(pixels, dtype=kind), labels.to(kind), alpha=pixels)
    if images > 1:
        places += torch.arange(0, maps.numel(), classes * pixels, dtype=kind).unsqueeze(1)
    return places


def gather_true_class(maps: Tensor, places: Tensor) -> Tensor:
    """Return the values [B, N] of contiguous maps [B, C, N] at `true_places`."""
    if maps.device.type != "cpu":
        return maps.gather(1, places).squeeze(1)
    return maps.view(-1).index_select(0, places.view(-1)).view_as(places)


def take_from(maps: Tensor, places: Tensor, values: Tensor) -> None:
    """Subtract values [B, N] from contiguous maps [B, C, N] at `true_places`, in place."""
    if maps.device.type != "cpu":
        maps.scatter_add_(1, places, values.neg().unsqueeze(1))
    else:
        maps.view(-1).index_add_(0, places.view(-1), values.reshape(-1), alpha=-1)


def put_at(maps: Tensor, places: Tensor, values: Tensor) -> None:
    """Write values [B, N] into contiguous maps [B, C, N] at `true_places`."""
    if maps.device.type != "cpu":
        maps.scatter_(1, places, values.unsqueeze(1))
    else:
        maps.view(-1).index_copy_(0, places.view(-1).long(), values.reshape(-1))


def sums_by_class(values: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Sum values [B, N] by labels [B, N]: [B, C], added up in float64 where the device has it.

    float32 would round each addend to the digits that a sum of a million leaves. Off the CPU each class has LANES
    bins, or all threads would queue for the same few.
    """
    device = values.device.type
    wide = values if device == "mps" else values.double()
    if device == "cpu":
        sums = wide.new_zeros(len(wide), classes).scatter_add_(1, labels, wide)
    else:
        lanes = torch.arange(wide.shape[1], device=wide.device).remainder_(LANES).mul_(classes)
        bins = wide.new_zeros(len(wide), LANES * classes).scatter_add_(1, labels + lanes, wide)
        sums = bins.view(-1, LANES, classes).sum(1)
    return sums.to(values.dtype)


def constant(values: Sequence[int] | Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Return a few numbers as a tensor on a device. From pageable memory the host would wait for the copy."""
    if device.type != "cuda" or torch.compiler.is_compiling():
        return torch.tensor(values, device=device)
    return torch.tensor(values).pin_memory().to(device, non_blocking=True)


def picked_places(flags: Tensor, most: int, step: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return where the first, the (1 + step)-th, ... True of flags [N] lie, [most], and which of them there are.

    What `nonzero` finds, with a size that does not depend on values, so that the host need not know how many there are.
    Places that there are not lead somewhere into flags. `step` is a number on the device, 1 if None.
    """
    counted = flags.cumsum(0)
    wanted = torch.arange(most, device=flags.device)
    wanted = (wanted if step is None else wanted * step) + 1
    places = torch.searchsorted(counted, wanted).clamp_max_(len(flags) - 1)
    return places, wanted <= counted[-1]


class SoftmaxSums(torch.autograd.Function):
    """Softmax over dim 1 and the sums of it that losses are made of; void pixels are zero in every output.

    Inputs: logits [B, C, N] float; labels [B, N] in 0..C-1 and their `true_places`; void [B, N] bool, or None where
    there is none.
    Outputs: p [B, C, N]; p of the true class [B, N]; -ln of it [B, N], None where nobody asked and the logarithm of p
    is as exact; sums [K, B, C] or None: of p over the class's own pixels, of p over all, and of p squared.

    The gradient takes the place of p in memory unless the graph is to be kept. It has no second derivative.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        labels: Tensor,
        places: Tensor,
        void: Tensor | None,
        sums: bool,
        squares: bool,
        logs: bool,
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Compute the outputs in as few passes over [B, C, N] as torch allows."""
        p, p_true, nll = _softmax(logits, places, void, logs)
        ctx.save_for_backward(p, p_true, labels, places, void)
        ctx.set_materialize_grads(False)
        if not sums:
            return p, p_true, nll, None
        parts = [sums_by_class(p_true, labels, p.shape[1]), p.sum(-1)]
        if squares:
            parts.append(torch.linalg.vector_norm(p, dim=-1).square())
        return p, p_true, nll, torch.stack(parts)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, g_p: Tensor | None, g_true: Tensor | None, g_nll: Tensor | None, g_sums: Tensor | None
    ) -> tuple[Tensor | None, None, None, None, None, None, None]:
        """Chain all gradients through one softmax: p (g - sum_c p g) + pull (p - t), `pull` that of the true class."""
        p, p_true, labels, places, void = ctx.saved_tensors
        if g_sums is not None:
            of_class = g_sums[0].gather(1, labels)
            g_true = of_class if g_true is None else of_class.add_(g_true)
        pull = g_nll if g_true is None else torch.mul(p_true, g_true).neg_()
        if g_true is not None and g_nll is not None and pull is not None:
            pull.add_(g_nll)
        if pull is not None and void is not None:
            pull = pull.masked_fill(void, 0)
        if g_sums is not None and len(g_sums) > 2 and g_p is None and on_host(p):
            grad = _quadratic(p, g_sums[1].unsqueeze(-1), 2 * g_sums[2].unsqueeze(-1), places, pull)
            return grad, None, None, None, None, None, None
        slope, owned = _slope(p, g_p, g_sums)
        if slope is None and pull is None:
            return None, None, None, None, None, None, None
        return _chain(p, slope, pull, places, owned=owned), None, None, None, None, None, None


def _softmax(logits: Tensor, places: Tensor, void: Tensor | None, logs: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return p, p of the true class and -ln of it."""
    if on_host(logits):
        p = torch.softmax(logits, 1)
        p_true = gather_true_class(p, places)
        least = p_true if void is None else p_true.masked_fill(void, 1)
        # -ln p is as exact as log-softmax until p nears underflow, and saves a pass of exponentials
        if least.min().item() > torch.finfo(p.dtype).tiny * 1e8:
            nll = least.log().neg_() if logs else None
            return _known(p, void), _known(p_true, void), nll
    log_p = torch.log_softmax(logits, 1)
    nll = gather_true_class(log_p, places).neg_()
    return _known(log_p.exp_(), void), _known(torch.exp(-nll), void), _known(nll, void)


def _known(values: Tensor, void: Tensor | None) -> Tensor:
    """Set values [B, N] or [B, C, N] to zero on void pixels; in place."""
    if void is None:
        return values
    # masked_fill and not a product: logits on void pixels may be NaN or infinite
    return values.masked_fill_(void if values.ndim == 2 else void.unsqueeze(1), 0)


def _slope(p: Tensor, g_p: Tensor | None, g_sums: Tensor | None) -> tuple[Tensor | None, bool]:
    """Return the gradient with respect to p, [B, C, 1] where it is one number per class, else [B, C, N].

    The second result says whether it was made here, so that it may be written to.
    """
    slope: Tensor | None = None
    owned = False
    if g_sums is not None:
        slope = g_sums[1].unsqueeze(-1)
        if len(g_sums) > 2:
            slope, owned = torch.addcmul(slope, p, g_sums[2].unsqueeze(-1), value=2), True
    if g_p is None:
        return slope, owned
    if slope is None:
        return g_p, False
    return (slope.add_(g_p) if owned else slope + g_p), True


def _chain(p: Tensor, slope: Tensor | None, pull: Tensor | None, places: Tensor, *, owned: bool) -> Tensor:
    """Return p (slope - sum_c p slope) + pull (p - t), contiguous, in memory of p or slope if it is free."""
    if slope is not None and slope.shape[-1] > 1:
        # fresh memory costs more than arithmetic: one buffer from here to the end
        # p first, whose layout the product takes: a gradient may come transposed
        grad = slope.mul_(p) if owned and slope.is_contiguous() else p * slope
        mean = grad.sum(1)
        grad.addcmul_(p, (mean.neg_() if pull is None else pull - mean).unsqueeze(1))
        if pull is not None:
            take_from(grad, places, pull)
        return grad
    factor = pull
    if slope is not None:
        # one number per class: a matrix product replaces a pass over [B, C, N]
        mean = torch.bmm(slope.mT, p).squeeze(1)
        factor = mean.neg_() if pull is None else pull - mean
    if factor is None:
        return torch.zeros_like(p)
    return _scale(p, slope, factor, places, pull)


def _scale(p: Tensor, by_class: Tensor | None, by_pixel: Tensor, places: Tensor, pull: Tensor | None) -> Tensor:
    """Return p times (by_class [B, C, 1] + by_pixel [B, N]), less pull [B, N] at the true classes."""
    if not on_host(p):
        columns = by_pixel.unsqueeze(1)
        grad = p * columns if by_class is None else torch.add(by_class, columns).mul_(p)
        if pull is not None:
            take_from(grad, places, pull)
        return grad
    # detached: p itself would hand its graph to whoever keeps the gradient
    grad = p.detach() if spendable() else torch.empty_like(p)
    flat = grad.view(-1)
    # image by image, so that all of it stays in the cache
    for n, image in enumerate(p):
        factor = by_pixel[n] if by_class is None else by_class[n] + by_pixel[n]
        torch.mul(image, factor, out=grad[n])
        if pull is not None:
            flat.index_add_(0, places[n], pull[n], alpha=-1)
    return grad


def _quadratic(p: Tensor, by_class: Tensor, twice: Tensor, places: Tensor, pull: Tensor | None) -> Tensor:
    """Return what `_chained` does for the slope by_class + twice p, both [B, C, 1], on the host."""
    grad = p.detach() if spendable() else p.clone()
    flat = grad.view(-1)
    linear = bool(by_class.any())
    squares = torch.empty_like(grad[0])
    for n, image in enumerate(grad):
        torch.mul(image, image, out=squares)
        mean = torch.mm(twice[n].mT, squares).squeeze(0)
        if linear:
            mean += torch.mm(by_class[n].mT, image).squeeze(0)
        factor = mean.neg_() if pull is None else pull[n] - mean
        image.mul_(by_class[n] + factor if linear else factor).addcmul_(squares, twice[n])
        if pull is not None:
            flat.index_add_(0, places[n], pull[n], alpha=-1)
    return grad


def spendable() -> bool:
    """Say whether nobody will ask this graph for gradients again, so that what it saved may be overwritten."""
    if torch.compiler.is_compiling():
        return False
    keeps = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", None)
    return keeps is not None and not keeps()


class ClassSums(torch.autograd.Function):
    """Sum values [B, N] by labels [B, N]: [B, C]."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, labels: Tensor, classes: int) -> Tensor:
        """Add up as `sums_by_class` does."""
        ctx.save_for_backward(labels)
        return sums_by_class(values, labels, classes)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Hand every pixel the gradient of its class."""
        (labels,) = ctx.saved_tensors
        return grad.gather(1, labels), None, None


class WrongSums(torch.autograd.Function):
    """1 - p of the true class, as the sum of the other classes' probabilities: [B, N], exact where p is nearly 1."""

    @staticmethod
    def forward(ctx: Any, p: Tensor, places: Tensor) -> Tensor:
        """Return the sum of p [B, C, N], contiguous, over all but the true classes."""
        ctx.save_for_backward(places)
        ctx.classes = p.shape[1]
        off = p.clone(memory_format=torch.contiguous_format)
        put_at(off, places, torch.zeros_like(p[:, 0]))
        return off.sum(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of p, which is zero for the true classes."""
        (places,) = ctx.saved_tensors
        slope = grad.unsqueeze(1).expand(-1, ctx.classes, -1).contiguous()
        put_at(slope, places, torch.zeros_like(grad))
        return slope, None


class ErrorSums(torch.autograd.Function):
    """Sums of (1 - p_c)^a over the pixels of class c, and of p_c^a over all others: [2, B, C].

    Every sum is one of numbers that are not negative. 1 - p_c is the sum of the other classes' probabilities, and the
    class's own pixels are left out before adding up: taken as differences (1 - p, or P_c - TP_c), errors that are small
    beside the image have no digits left in float32. p [B, C, N] is contiguous; a >= 1.
    """

    @staticmethod
    def forward(ctx: Any, p: Tensor, labels: Tensor, places: Tensor, power: float) -> Tensor:
        """Return the missed and the false errors."""
        off = p.clone(memory_format=torch.contiguous_format)
        put_at(off, places, torch.zeros_like(labels, dtype=p.dtype))
        wrong = off.sum(1)
        if power == 1:
            ctx.save_for_backward(labels, places)
            false, missed = off.sum(-1), wrong
        else:
            ctx.save_for_backward(labels, places, off, wrong)
            false, missed = off.pow(power).sum(-1), wrong.pow(power)
        ctx.shape, ctx.power = p.shape, power
        return torch.stack([sums_by_class(missed, labels, p.shape[1]), false])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        """Return the gradient of p, which is zero for the true classes."""
        labels, places, *kept = ctx.saved_tensors
        pull = grad[0].gather(1, labels)
        if kept:
            off, wrong = kept
            pull = pull * wrong.pow(ctx.power - 1)
            slope = off.pow(ctx.power - 1) * grad[1].unsqueeze(-1) + pull.unsqueeze(1)
            slope *= ctx.power
        else:
            slope = (grad[1].unsqueeze(-1) + pull.unsqueeze(1)).expand(ctx.shape).contiguous()
        put_at(slope, places, torch.zeros_like(pull))
        return slope, None, None, None
