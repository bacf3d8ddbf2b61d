"""Sliding-window inference with Gaussian weights, and labels resized back to the image's own size.

The weights (a Gaussian about the window's centre with a standard deviation of an eighth of its side) and the places
of the windows are those of MONAI's `sliding_window_inference`. What it needs of memory does not grow with the depth
of the sample: sums are kept for one window's depth of planes, and handed on as soon as no window reaches them.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tuner.config.trial import TrainConfig
from tuner.data.images import resize_images, resize_labels
from tuner.training.components import PlacedModel

SIGMA = 0.125
"""Standard deviation of the weights, as a share of the window's side."""
MIN_WEIGHT = 1e-3
"""The smallest weight: what only a window's corner sees still counts."""


Labels = NDArray[np.uint8 | np.int32]
"""The class of every pixel, or the code of its regions."""


def window_starts(size: int, side: int, overlap: float) -> list[int]:
    """Return where windows of `side` begin along an axis of `size` >= `side`; the last one ends with the axis."""
    step = side if side == size else max(1, int(side * (1 - overlap)))
    count = math.ceil((size - side) / step) + 1
    return [min(number * step, size - side) for number in range(count)]


def gaussian_weights(sides: Sequence[int]) -> Tensor:
    """Return [*sides]: the weight of each pixel of a window, 1 in its middle."""
    weights = torch.ones(())
    for axis, side in enumerate(sides):
        distance = torch.arange(side, dtype=torch.float32) - (side - 1) / 2
        along = torch.exp(distance**2 / (-2 * (SIGMA * side) ** 2))
        weights = weights.unsqueeze(-1) * along.view(*[1] * axis, side)
    least = float(weights[weights > 0].min())
    return weights.clamp_(min=max(least, MIN_WEIGHT))


@dataclass(frozen=True, slots=True)
class Planes:
    """Finished planes of a sample: what all windows said of them."""

    first: int
    """Where they begin along the first axis of the sample"""
    sums: Tensor
    """[classes, planes, ...] weighted sums of logits"""
    weights: Tensor
    """[planes, ...] sums of the weights"""

    @property
    def logits(self) -> Tensor:
        """Return the weighted means [classes, planes, ...]."""
        return self.sums / self.weights

    @property
    def place(self) -> slice:
        """Return where they lie along the first axis of the sample."""
        return slice(self.first, self.first + self.sums.shape[1])


def sliding_window_inference(
    net: PlacedModel,
    image: NDArray[np.float32],
    *,
    patch: Sequence[int],
    overlap: float,
    batch_size: int,
    stop: Callable[[], bool] = lambda: False,
) -> Labels | None:
    """Predict a sample of any size by windows, see `slide`.

    Returns:
        The class of every pixel, [*S], or the code of its regions; None when `stop` said so.
    """
    labels: Labels = np.empty(image.shape[1:], net.label_type)
    for planes in slide(net, image, patch=patch, overlap=overlap, batch_size=batch_size, stop=stop):
        if planes is None:
            return None
        # The sum of the weights is the same for all classes: neither the largest class nor a sign needs a division.
        labels[planes.place] = net.decide(planes.sums, 0).cpu().numpy()
    return labels


@torch.no_grad()
def slide(
    net: PlacedModel,
    image: NDArray[np.float32],
    *,
    patch: Sequence[int],
    overlap: float,
    batch_size: int,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Planes | None]:
    """Yield a sample of any size plane by plane, in order; what a window takes from outside of the sample is 0.

    Args:
        net: A network in evaluation mode.
        image: [C, *S], read window by window.
        patch: Sides of a window, [*P].
        overlap: Share of a window that the next one covers again.
        batch_size: Windows in a forward pass; more where the network is faster with more, and gives the same.
        stop: Asked before each of them; when it says yes, None is yielded, and nothing more.
    """
    space = image.shape[1:]
    before = [max(side - size, 0) // 2 for size, side in zip(space, patch, strict=True)]
    whole = [max(side, size) for size, side in zip(space, patch, strict=True)]
    places = list(product(*(window_starts(size, side, overlap) for size, side in zip(whole, patch, strict=True))))
    sums = _RollingSums(whole, patch, net.device)
    inside = tuple(slice(shift, shift + size) for shift, size in zip(before, space, strict=True))
    step = net.inference_batch(batch_size)
    for start in range(0, len(places), step):
        if stop():
            yield None
            return
        chosen = places[start : start + step]
        windows = [
            crop(image, [at - shift for at, shift in zip(place, before, strict=True)], patch) for place in chosen
        ]
        logits = net.logits(net.to_device(torch.from_numpy(np.stack(windows)))).float()
        for place, found in zip(chosen, logits, strict=True):
            yield from _cut(sums.add(place, found), inside)
    yield from _cut(sums.finish(), inside)


def _cut(planes: Planes | None, inside: tuple[slice, ...]) -> Iterator[Planes]:
    """Yield what of the planes of a padded sample lies in the sample itself."""
    if planes is None:
        return
    low, high = max(planes.place.start, inside[0].start), min(planes.place.stop, inside[0].stop)
    if low < high:
        part = (slice(low - planes.first, high - planes.first), *inside[1:])
        yield Planes(low - inside[0].start, planes.sums[(slice(None), *part)], planes.weights[part])


def crop(array: NDArray[Any], start: Sequence[int], sides: Sequence[int], fill: int = 0) -> NDArray[Any]:
    """Copy the piece of the last axes that begins at `start`; what lies outside of the array is `fill`."""
    space = array.shape[array.ndim - len(sides) :]
    piece: NDArray[Any] = np.full((*array.shape[: array.ndim - len(sides)], *sides), fill, array.dtype)
    there: list[Any] = [...]
    here: list[Any] = [...]
    for size, at, side in zip(space, start, sides, strict=True):
        low, high = max(at, 0), min(at + side, size)
        there.append(slice(low, max(low, high)))
        here.append(slice(low - at, max(low, high) - at))
    piece[tuple(here)] = array[tuple(there)]
    return piece


class _RollingSums:
    """Weighted sums of logits for as many planes as a window is deep; windows come in order of their first axis."""

    def __init__(self, whole: Sequence[int], patch: Sequence[int], device: str) -> None:
        self._whole, self._patch = tuple(whole), tuple(patch)
        self._weights = gaussian_weights(patch).to(device)
        self._sums: Tensor | None = None
        """[classes + 1, planes, ...], the sums of the weights behind those of the classes"""
        self._first = 0

    def add(self, place: Sequence[int], logits: Tensor) -> Planes | None:
        """Add the logits [classes, *P] of the window at a place; return planes that no further window reaches."""
        if self._sums is None:
            self._sums = logits.new_zeros((len(logits) + 1, self._patch[0], *self._whole[1:]))
        done = self._advance(self._sums, place[0] - self._first) if place[0] > self._first else None
        inside = tuple(slice(at, at + side) for at, side in zip(place[1:], self._patch[1:], strict=True))
        self._sums[:-1][(slice(None), slice(None), *inside)] += logits * self._weights
        self._sums[-1][(slice(None), *inside)] += self._weights
        return done

    def finish(self) -> Planes | None:
        """Return the planes that are left."""
        return None if self._sums is None else self._advance(self._sums, self._whole[0] - self._first)

    def _advance(self, sums: Tensor, planes: int) -> Planes:
        done = Planes(self._first, sums[:-1, :planes], sums[-1, :planes])
        self._sums = torch.cat([sums[:, planes:], torch.zeros_like(sums[:, :planes])], 1)
        self._first += planes
        return done


@dataclass(frozen=True, slots=True)
class Geometry:
    """What the samples of a run look like."""

    sample_shape: tuple[int, ...]
    """[C, *S]; zeros for *S where samples keep the sizes that they have"""
    patch: tuple[int, ...] | None
    """Sides of a sliding window; None: whole samples"""
    overlap: float
    batch_size: int

    @classmethod
    def of(cls, train: TrainConfig, sample_shape: tuple[int, ...]) -> "Geometry":
        """Return the geometry of a run."""
        return cls(sample_shape, train.patch_shape(len(sample_shape) - 1), train.overlap, train.batch_size)

    @property
    def volumes(self) -> bool:
        """Whether samples are volumes."""
        return len(self.sample_shape) == 4

    @property
    def resized(self) -> bool:
        """Whether all samples have one size."""
        return 0 not in self.sample_shape[1:]


def predict_image(
    net: PlacedModel,
    image: NDArray[np.float32],
    geometry: Geometry,
    stop: Callable[[], bool] = lambda: False,
    on_plane: Callable[[int, Tensor], None] = lambda number, logits: None,
) -> Labels | None:
    """Predict an image: slice by slice (2-D), in slabs of the depth of the samples, or by a sliding window.

    It is resized in the plane as the samples were, cut as they were, and the labels are taken back to its own size.

    Args:
        net: The network.
        image: [C, D, H, W] normalised as in training; D is 1 for a picture.
        geometry: Of the run.
        stop: Asked now and then.
        on_plane: Told the number of each plane and its logits [classes, *P], in the size of the samples.

    Returns:
        The class of every pixel, [D, H, W], or the code of its regions; None when `stop` said so.
    """
    planes: list[Labels] = []
    for logits in plane_logits(net, image, geometry, stop):
        if logits is None:
            return None
        on_plane(len(planes), logits)
        planes.append(net.decide(logits, 0).cpu().numpy())
    return in_size_of(image, planes, net)


def in_size_of(image: NDArray[Any], planes: Sequence[Labels], net: PlacedModel) -> Labels:
    """Return the labels of an image [C, D, H, W] from those of its planes [*P] in the size of the samples."""
    height, width = image.shape[2:]
    return np.asarray(resize_labels(np.stack(planes), (height, width)), net.label_type)


@torch.no_grad()
def plane_logits(
    net: PlacedModel, image: NDArray[np.float32], geometry: Geometry, stop: Callable[[], bool] = lambda: False
) -> Iterator[Tensor | None]:
    """Yield the logits [classes, *P] of each plane of an image [C, D, H, W], in order, in the size of the samples.

    None once `stop` said so, and then nothing more.
    """
    net.model.eval()
    planes = 0
    samples = _samples(image, geometry)
    for piece in _by_windows(net, samples, geometry, stop) if geometry.patch else _whole(net, samples, geometry, stop):
        if piece is None:
            yield None
            return
        for logits in piece.unbind(1):
            if planes == image.shape[1]:
                return  # the last slab reaches beyond the image
            planes += 1
            yield logits


def _samples(image: NDArray[np.float32], geometry: Geometry) -> NDArray[np.float32]:
    """Cut an image into samples [N, C, *S]."""
    if geometry.resized:
        image = resize_images(np.ascontiguousarray(image, np.float32), geometry.sample_shape[-2:])  # type: ignore[arg-type]
    if not geometry.volumes:
        return np.ascontiguousarray(np.moveaxis(image, 1, 0))
    if not geometry.resized:
        return image[None]
    step = geometry.sample_shape[1]
    missing = -image.shape[1] % step
    whole = np.pad(image, ((0, 0), (0, missing), (0, 0), (0, 0)), mode="edge")
    slabs = whole.reshape(len(whole), -1, step, *whole.shape[2:])
    return np.ascontiguousarray(np.moveaxis(slabs, 1, 0))


def _whole(
    net: PlacedModel, samples: NDArray[np.float32], geometry: Geometry, stop: Callable[[], bool]
) -> Iterator[Tensor | None]:
    """Yield [classes, planes, *P] of each sample."""
    for batch in torch.split(torch.from_numpy(samples), geometry.batch_size):
        if stop():
            yield None
            return
        logits = net.logits(net.to_device(batch)).float()
        yield from logits if geometry.volumes else logits[:, :, None]


def _by_windows(
    net: PlacedModel, samples: NDArray[np.float32], geometry: Geometry, stop: Callable[[], bool]
) -> Iterator[Tensor | None]:
    """Yield [classes, planes, *P] of each sample, in several pieces where it is a volume."""
    for sample in samples:
        found = slide(
            net,
            sample,
            patch=geometry.patch or (),
            overlap=geometry.overlap,
            batch_size=geometry.batch_size,
            stop=stop,
        )
        rows = []
        for planes in found:
            if planes is None:
                yield None
                return
            if geometry.volumes:
                yield planes.logits
            else:
                rows.append(planes.logits)
        if rows:
            yield torch.cat(rows, 1)[:, None]
