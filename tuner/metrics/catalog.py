"""What a study can be ranked by. Importing this imports neither numpy nor torch."""

from dataclasses import dataclass
from typing import Literal

from tuner.registry import Option, Registry

Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric: its better direction, its unit, and the rule for an organ that only one of the masks holds.

    An organ that is absent from truth and prediction is never counted, whatever the metric.
    """

    name: str
    direction: Direction
    unit: str
    summary: str
    one_empty: str
    options: tuple[Option, ...] = ()
    of_probabilities: bool = False
    """Whether it is measured of what the network says of every pixel, and not of the masks that come of it.

    Such a metric has one value a case, and that of a validation is of all its pixels together, not a mean over cases.
    """


_DISTANCE_UNIT = "pixels; mm where the data set states a spacing"
_ALL_PIXELS = "every pixel counts, whichever mask it is in"
_DIAGONAL = "the diagonal of the case's volume"

METRICS: Registry[MetricSpec] = Registry(
    "metric",
    (
        MetricSpec("dice", "maximize", "1", "2 TP / (2 TP + FP + FN), the share of agreement.", "0"),
        MetricSpec("iou", "maximize", "1", "TP / (TP + FP + FN), intersection over union.", "0"),
        MetricSpec(
            "hd95",
            "minimize",
            _DISTANCE_UNIT,
            "Hausdorff distance at 95 %: the larger of the two directed 95th percentiles of surface distances.",
            _DIAGONAL,
        ),
        MetricSpec(
            "assd",
            "minimize",
            _DISTANCE_UNIT,
            "Average symmetric surface distance: the mean over the points of both surfaces.",
            _DIAGONAL,
        ),
        MetricSpec(
            "surface_dice",
            "maximize",
            "1",
            "The share of both surfaces that lies within one unit (pixel or mm) of the other.",
            "0",
        ),
        MetricSpec(
            "ece",
            "minimize",
            "1",
            "Expected calibration error: how far the probability of what is predicted is from how often it is right.",
            _ALL_PIXELS,
            of_probabilities=True,
        ),
        MetricSpec(
            "nll",
            "minimize",
            "nats",
            "Negative log-likelihood: the mean of -log p(truth) over all pixels.",
            _ALL_PIXELS,
            of_probabilities=True,
        ),
    ),
)

MASK_METRICS = tuple(name for name, metric in METRICS.items() if not metric.of_probabilities)
"""Names of the metrics that a predicted and a true mask suffice for."""
