"""Options of the augmentations: defaults and legal intervals, declared once. Importing this imports no torch."""

from collections.abc import Mapping
from typing import Any

from tuner.data.catalog import DATASETS
from tuner.errors import Problems
from tuner.registry import Option, Scalar, complete_options, require_options


def _share(name: str, default: float, summary: str, *, high: float = 1.0) -> Option:
    return Option(name, "float", default, summary, low=0.0, high=high)


AUGMENTATIONS = (
    _share("affine", 0.5, "Probability that a sample is rotated, scaled and shifted."),
    _share("rotation", 20.0, "Largest rotation in the plane (about the last two axes), in degrees.", high=180.0),
    _share("scale", 0.1, "Largest relative change of size, one factor for all axes.", high=0.9),
    _share("translation", 0.05, "Largest shift along each axis, as a share of its length."),
    _share("flip_width", 0.0, "Probability of mirroring the last axis (left and right)."),
    _share("flip_height", 0.0, "Probability of mirroring the last axis but one (up and down)."),
    _share("flip_depth", 0.0, "Probability of mirroring the first axis of a volume."),
    _share("quarter_turns", 0.0, "Probability of a turn by 90, 180 or 270 degrees in the plane."),
    _share("intensity", 0.5, "Probability that brightness, contrast and gamma of a sample are changed."),
    _share("brightness", 0.05, "Largest shift, as a share of the sample's own range."),
    _share("contrast", 0.1, "Largest relative change of the differences from the sample's mean."),
    _share("gamma", 0.1, "Largest change of the logarithm of gamma, on the sample's own range.", high=2.0),
    _share("noise", 0.2, "Probability of Gaussian noise."),
    _share("noise_std", 0.03, "Largest standard deviation of the noise, as a share of the sample's own range."),
)
"""A probability of 0 switches an augmentation off."""


def complete_augmentation(options: Mapping[str, Any], *, dataset: str | None = None) -> dict[str, float]:
    """Return every augmentation option: the given ones, else the data set's, else the defaults.

    Raises:
        UnknownNameError, SpecError: An option that there is not, or a value beyond its limits.
    """
    preset: Mapping[str, Scalar] = DATASETS.find(dataset).augment if dataset else {}
    require_options(AUGMENTATIONS, options, kind="augmentation option")
    problems = Problems()
    chosen = complete_options(AUGMENTATIONS, {**preset, **options}, "", problems)
    problems.refuse()
    return {name: float(value) for name, value in chosen.items() if value is not None}
