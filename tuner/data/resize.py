"""Resizing in the plane: images bilinear (areas are averaged where an image shrinks), labels to the nearest pixel."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow


def resize_images(images: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Resize [..., H, W] to [..., *size]; what has the size already is returned as it is."""
    if images.shape[-2:] == size:
        return images
    height, width = size
    planes = images.reshape(-1, *images.shape[-2:])
    resized = np.empty((len(planes), height, width), np.float32)
    for index, plane in enumerate(planes):
        picture = Pillow.fromarray(np.ascontiguousarray(plane, np.float32))
        resized[index] = np.asarray(picture.resize((width, height), Pillow.Resampling.BILINEAR))
    return resized.reshape(*images.shape[:-2], height, width)


def resize_labels(labels: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Take [..., H, W] to [..., *size]: each new pixel takes the label of the old pixel that its centre lies in."""
    if labels.shape[-2:] == size:
        return labels
    rows, columns = (_nearest(old, new) for old, new in zip(labels.shape[-2:], size, strict=True))
    taken: NDArray[Any] = labels[..., rows[:, None], columns[None, :]]
    return taken


def _nearest(old: int, new: int) -> NDArray[np.intp]:
    # Integers: at half-way points a float would round differently from one machine to the next.
    return ((2 * np.arange(new) + 1) * old) // (2 * new)
