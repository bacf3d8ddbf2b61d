"""Random label maps with smooth regions, and one-hot masks for MONAI's functions."""

import numpy as np
import torch
from scipy.ndimage import gaussian_filter


def label_pair(shape: tuple[int, ...], classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A truth with every class, and a prediction that resembles it."""
    rng = np.random.default_rng(seed)
    sigma = [min(3.0, extent / 4) for extent in shape]
    scores = [gaussian_filter(rng.normal(size=shape), sigma) for _ in range(classes)]
    moved = [score + 0.4 * gaussian_filter(rng.normal(size=shape), sigma) for score in scores]
    return np.argmax(moved, 0).astype(np.uint8), np.argmax(scores, 0).astype(np.uint8)


def one_hot(labels: np.ndarray, classes: int) -> torch.Tensor:
    """[1, C, *S] as MONAI wants it."""
    return torch.from_numpy(np.stack([labels == index for index in range(classes)])[None].astype(np.float32))
