"""From an image as it was recorded to its labels: the size that the network was trained with, and back."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tuner.config.train_section import TrainConfig
from tuner.data.resize import resize_images, resize_labels
from tuner.training.network import Net
from tuner.training.sliding_window import slide

Labels = NDArray[np.uint8]


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


@torch.no_grad()
def predict_image(
    net: Net, image: NDArray[np.float32], geometry: Geometry, stop: Callable[[], bool] = lambda: False
) -> Labels | None:
    """Predict an image: slice by slice (2-D), in slabs of the depth of the samples, or by a sliding window.

    It is resized in the plane as the samples were, cut as they were, and the labels are taken back to its own size.

    Args:
        net: The network.
        image: [C, D, H, W] normalised as in training; D is 1 for a picture.
        geometry: Of the run.
        stop: Asked now and then.

    Returns:
        The class of every pixel, [D, H, W]; None when `stop` said so.
    """
    net.model.eval()
    depth, height, width = image.shape[1:]
    samples = _samples(image, geometry)
    found = _by_windows(net, samples, geometry, stop) if geometry.patch else _whole(net, samples, geometry, stop)
    if found is None:
        return None
    planes = np.concatenate(found)[:depth] if geometry.volumes else np.stack(found)
    return np.asarray(resize_labels(planes, (height, width)), np.uint8)


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


def _whole(net: Net, samples: NDArray[np.float32], geometry: Geometry, stop: Callable[[], bool]) -> list[Labels] | None:
    found: list[Labels] = []
    for batch in torch.split(torch.from_numpy(samples), geometry.batch_size):
        if stop():
            return None
        found.extend(net.logits(net.to_device(batch)).argmax(1).to(torch.uint8).cpu().numpy())
    return found


def _by_windows(
    net: Net, samples: NDArray[np.float32], geometry: Geometry, stop: Callable[[], bool]
) -> list[Labels] | None:
    found = []
    for sample in samples:
        labels = slide(
            net,
            sample,
            patch=geometry.patch or (),
            overlap=geometry.overlap,
            batch_size=geometry.batch_size,
            stop=stop,
        )
        if labels is None:
            return None
        found.append(labels)
    return found
