"""Augmentation of whole batches on their device: one grid for rotation, scale, shift, flips and turns.

What is done to a sample is drawn by a CPU generator, so the same seed moves and shades alike on every device; the grain
of the noise is drawn where the images are. Only the samples that are drawn are touched. Symbols: B batch, C channels,
*S space ([H, W] or [D, H, W]), n samples that were drawn.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tuner.data.augmentation_options import complete_augmentation
from tuner.data.transfer import copy_to_device
from tuner.errors import DataError

_DRAWS = 20
"""Uniform numbers per sample; more than are used, so that a further augmentation shifts no stream."""


class Augment:
    """Augments batches; options are those of `tuner.data.augmentation`.

    What a transformed image takes from outside of the original is 0, the intensity of air in CT, and its label there is
    `outside`: the background (0) of whole images, `ignore_index` of patches, beyond whose edge the image goes on. A
    label keeps its id exactly (nearest pixel); `ignore_index` travels like any other label.
    """

    def __init__(self, options: Mapping[str, Any], ignore_index: int, outside: int = 0) -> None:
        self.options = complete_augmentation(options)
        self.ignore_index = ignore_index
        self.outside = outside
        self._scratch: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}

    def __call__(
        self, images: Tensor, labels: Tensor, generator: torch.Generator, grain: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return augmented copies; the inputs are left as they are.

        Args:
            images: [B, C, *S] floating point.
            labels: [B, *S] integers.
            generator: A CPU generator; its state decides everything but the grain.
            grain: A generator on the device of the images, for their noise; None: `generator`, and the noise is copied.

        Raises:
            DataError: Shapes do not belong together.
        """
        if images.ndim not in (4, 5) or labels.shape != (images.shape[0], *images.shape[2:]):
            raise DataError(f"images {tuple(images.shape)} and labels {tuple(labels.shape)} do not belong together.")
        draws = torch.rand((len(images), _DRAWS), generator=generator)
        images, labels = images.clone(), labels.clone()
        self._move(images, labels, draws)
        self._shade(images, draws)
        self._add_noise(images, draws, generator if grain is None else grain)
        return images, labels

    def _move(self, images: Tensor, labels: Tensor, draws: Tensor) -> None:
        matrices, moved = _matrices(self.options, draws, tuple(images.shape[2:]))
        rows = _indices(moved, images.device)
        if rows is None:
            return
        theta = copy_to_device(matrices[moved], images.device).to(images.dtype)
        space = tuple(images.shape[2:])
        grid = _fill_grid(self._buffer("grid", (len(rows), *space, len(space)), theta), theta)
        chosen = self._take(images, rows)
        sampled = F.grid_sample(chosen, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        # Labels up to 255 are exact in every floating type, bfloat16 included, and so are their differences.
        ids = self._buffer("ids", (len(rows), 1, *space), theta).copy_(self._take(labels, rows)[:, None])
        ids = F.grid_sample(ids.sub_(self.outside), grid, mode="nearest", padding_mode="zeros", align_corners=False)
        ids.add_(self.outside)
        images.index_copy_(0, rows, sampled)
        labels.index_copy_(0, rows, ids[:, 0].to(labels.dtype))

    def _shade(self, images: Tensor, draws: Tensor) -> None:
        """Low + range · t^gamma on t = (x - low) / range in 0..1, then contrast about the mean, then a shift."""
        chosen = draws[:, 10] < self.options["intensity"]
        rows = _indices(chosen, images.device)
        if rows is None:
            return
        signed = copy_to_device(2 * draws[chosen, 11:14] - 1, images.device).to(images.dtype)
        shift, contrast, gamma = (signed[:, k].view(-1, *[1] * (images.ndim - 1)) for k in range(3))
        x = self._take(images, rows)
        low, extent = _range(x)
        if self.options["gamma"]:
            x.sub_(low).div_(extent).clamp_(0, 1).pow_(torch.exp(gamma * self.options["gamma"])).mul_(extent).add_(low)
        mean = x.mean(tuple(range(1, x.ndim)), keepdim=True)
        gain = 1 + contrast * self.options["contrast"]
        x.mul_(gain).add_(mean * (1 - gain) + shift * extent * self.options["brightness"])
        images.index_copy_(0, rows, x)

    def _add_noise(self, images: Tensor, draws: Tensor, generator: torch.Generator) -> None:
        chosen = draws[:, 14] < self.options["noise"]
        rows = _indices(chosen, images.device)
        if rows is None:
            return
        shape = (len(rows), *images.shape[1:])
        strength = (draws[chosen, 15] * self.options["noise_std"]).view(-1, *[1] * (images.ndim - 1))
        if generator.device.type == images.device.type:
            grain = torch.randn(shape, generator=generator, device=images.device)
            grain *= copy_to_device(strength, images.device)
        else:
            grain = copy_to_device(torch.randn(shape, generator=generator).mul_(strength), images.device)
        x = self._take(images, rows)
        images.index_copy_(0, rows, x.add_(grain.to(x.dtype).mul_(_range(x)[1])))

    def _take(self, batch: Tensor, rows: Tensor) -> Tensor:
        return torch.index_select(batch, 0, rows, out=self._buffer("rows", (len(rows), *batch.shape[1:]), batch))

    def _buffer(self, name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Uninitialised memory, kept from call to call: fresh pages cost the CPU as much as the arithmetic."""
        key, wanted = (name, like.dtype, like.device), math.prod(shape)
        kept = self._scratch.get(key)
        if kept is None or kept.numel() < wanted:
            kept = self._scratch[key] = like.new_empty(wanted)
        return kept[:wanted].view(shape)


def _matrices(options: Mapping[str, float], draws: Tensor, space: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Maps from output to input coordinates, [B, d, d + 1] in the order x, y(, z), and which samples they move."""
    batch, dims = len(draws), len(space)
    affine = draws[:, 0] < options["affine"]
    signed = torch.where(affine[:, None], 2 * draws[:, 1:6] - 1, torch.zeros(()))
    turned = draws[:, 6] < options["quarter_turns"]
    quarters = torch.where(turned, 1 + (draws[:, 6] / max(options["quarter_turns"], 1e-12) * 3).floor(), 0)
    angle = signed[:, 0] * math.radians(options["rotation"]) + quarters * (math.pi / 2)
    zoom = 1 + signed[:, 1] * options["scale"]
    flips = [draws[:, 7 + k] < options[name] for k, name in enumerate(("flip_width", "flip_height", "flip_depth"))]
    signs = torch.stack([torch.where(flip, -1.0, 1.0) for flip in flips[:dims]], 1)
    cos, sin = angle.cos(), angle.sin()
    # Coordinates run from -1 to 1 on every axis: a rotation of pixels needs the plane's proportions.
    ratio = space[-2] / space[-1]
    linear = torch.zeros(batch, dims, dims)
    linear[:, 0, 0], linear[:, 0, 1] = cos, -sin * ratio
    linear[:, 1, 0], linear[:, 1, 1] = sin / ratio, cos
    if dims == 3:
        linear[:, 2, 2] = 1
    linear = linear * signs[:, None, :] / zoom[:, None, None]
    shift = 2 * options["translation"] * signed[:, 2 : 2 + dims]
    moved = affine | turned | torch.stack(flips[:dims]).any(0)
    return torch.cat([linear, shift[..., None]], 2), moved


def _fill_grid(grid: Tensor, theta: Tensor) -> Tensor:
    """Write what `affine_grid` computes, [n, *S, d], as one outer sum per axis: several times faster on the CPU."""
    count, *space, dims = grid.shape
    columns = [_coordinates(space[axis], dims, axis, theta) for axis in reversed(range(dims))]
    weights = theta.view(count, dims, dims + 1, *[1] * dims)
    for row in range(dims):
        rest = weights[:, row, dims]
        for column in reversed(range(1, dims)):
            rest = rest + weights[:, row, column] * columns[column]
        torch.add(rest, weights[:, row, 0] * columns[0], out=grid[..., row])
    return grid


def _coordinates(length: int, dims: int, axis: int, like: Tensor) -> Tensor:
    """Centres of the pixels of one axis, -1 to 1 from edge to edge, shaped to broadcast over [n, *S]."""
    shape = [1] * dims
    shape[axis] = length
    steps = torch.arange(length, device=like.device, dtype=torch.float32)
    return ((2 * steps + 1) / length - 1).to(like.dtype).view(1, *shape)


def _indices(chosen: Tensor, device: torch.device) -> Tensor | None:
    """Numbers of the chosen samples, found on the CPU: a boolean index would make the device wait."""
    rows = chosen.nonzero()[:, 0]
    return copy_to_device(rows, device) if len(rows) else None


def _range(images: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest value and range of each sample, [n, 1, …]; the range of a constant sample is 1."""
    low, high = (reduce(images, dim=tuple(range(1, images.ndim)), keepdim=True) for reduce in (torch.amin, torch.amax))
    extent = high - low
    return low, torch.where(extent > 0, extent, torch.ones_like(extent))
