"""Scenes of the vectors made here: 2-D with void and absent classes, 3-D with void, binary in one and two channels."""

from typing import Any

import numpy as np

from tests.losses.by_hand.reading import VOID, Array, Labels


def logits(shape: tuple[int, ...], seed: int) -> Array:
    """Scores, rounded so that the file is short, to so many digits that none tie."""
    return np.random.default_rng(seed).normal(0, 1.2, shape).round(4)


def _plane() -> Labels:
    y = np.zeros((2, 5, 6), dtype=np.int64)
    y[0, 1:4, 1:4] = 1
    y[0, 0:2, 4:6] = 2
    y[1, 2:5, 0:3] = 1
    y[0, 4, :2] = VOID
    y[1, 0, 5] = VOID
    return y


def _volume() -> Labels:
    y = np.zeros((1, 3, 4, 4), dtype=np.int64)
    y[0, :2, 1:3, 1:4] = 1
    y[0, 2, 2:, :2] = 2
    y[0, 0, 0, :2] = VOID
    return y


def inputs() -> dict[str, dict[str, Any]]:
    """Logits and target by name."""
    plane, volume = _plane(), _volume()
    # class 2 is nowhere in "absent", and not in the second image of "plane"
    absent = np.where(plane == 2, 0, plane)
    binary = np.where(plane == 2, 1, plane)
    return {
        "plane": {"logits": logits((2, 3, 5, 6), 1), "target": plane},
        "absent": {"logits": logits((2, 3, 5, 6), 2), "target": absent},
        "volume": {"logits": logits((1, 3, 3, 4, 4), 3), "target": volume},
        "binary": {"logits": logits((2, 2, 5, 6), 4), "target": binary},
        "one_channel": {"logits": logits((2, 1, 5, 6), 5), "target": binary},
        "distances": {"logits": logits((2, 4, 5, 6), 6), "target": plane},
        "distances_3d": {"logits": logits((1, 3, 3, 4, 4), 7), "target": volume},
    }


def features(of: Labels, seed: int) -> dict[str, Array]:
    """What the conditional boundary loss needs beside logits: features of 3 channels, a mask, a classifier."""
    draw = np.random.default_rng(seed)
    return {
        "features": draw.normal(0, 1, (len(of), 3, *of.shape[1:])).round(3),
        "boundary_mask": (draw.random(of.shape) < 0.6).astype(np.int64),
        "classifier_weight": draw.normal(0, 1, (3, 3)).round(3),
        "classifier_bias": draw.normal(0, 1, 3).round(3),
    }
