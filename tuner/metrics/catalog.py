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


_DISTANCE_UNIT = "pixels; mm where the data set states a spacing"
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
    ),
)
