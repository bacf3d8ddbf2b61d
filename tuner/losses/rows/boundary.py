"""Rows of the boundary losses."""

from tuner.losses.entry import LossEntry
from tuner.losses.rows import shared_options as shared
from tuner.registry import Option, Search

FOREGROUND_ONLY = frozenset({"class_permutation"})


def foreground() -> Option:
    """Return the choice whether class 0 counts; a border has two sides, so it usually need not."""
    return Option("include_background", "bool", False, "counts class 0 as well")


def distance_exponent() -> Option:
    """Return the exponent of the distance."""
    return Option(
        "alpha",
        "float",
        2.0,
        "exponent of the distance: how much more far errors cost",
        low=0.0,
        high=4.0,
        search=Search(1.0, 3.0),
    )


BOUNDARY: tuple[LossEntry, ...] = (
    LossEntry(
        name="boundary",
        family="boundary",
        survey=True,
        fn="tuner.losses.boundary:boundary",
        options=(
            shared.base(),
            shared.schedule(
                "constant",
                "constant",
                "increase",
                "rebalance",
                summary="weight stays, grows by step an epoch, or takes step an epoch from the base",
            ),
            shared.added_weight(0.01),
            Option(
                "step",
                "float",
                0.01,
                "what increase adds to the weight, and rebalance takes from the base, in every epoch",
                low=0.0,
                high=1.0,
                search=Search(0.002, 0.02, log=True),
            ),
            Option(
                "normalise",
                "bool",
                False,
                "measures distances in image diagonals, so that the weight means the same at any size",
                search=Search(choices=(False, True)),
            ),
            foreground(),
        ),
        paper="Kervadec et al. 2019, arXiv:1812.07032",
        formula="base + weight * mean phi_c p_c, phi the signed distance to the border",
        summary="probability far outside an object costs, deep inside pays",
        good_for="very small objects among much background, beside a region loss; smooth borders",
        bad_for="alone (it may settle on predicting nothing); absent classes; unbounded magnitude",
        needs=("signed_distance",),
        alone=False,
        blend=("base", "schedule", "weight", "step"),
        breaks=FOREGROUND_ONLY | {"zero_minimum"},
    ),
    LossEntry(
        name="hausdorff",
        family="boundary",
        survey=True,
        fn="tuner.losses.hausdorff:hausdorff",
        options=(
            shared.base(),
            shared.schedule(
                "equalise",
                "equalise",
                "ramp",
                summary="never more than the base in any step, or a share that grows over the training",
            ),
            shared.added_weight(1.0),
            Option(
                "variant",
                "str",
                "distance",
                "distance transforms of prediction and target, or ten erosions (faster on a GPU)",
                choices=("distance", "erosion"),
                search=Search(choices=("distance", "erosion")),
            ),
            distance_exponent(),
            Option("normalise", "bool", False, "measures distances in image diagonals"),
            foreground(),
        ),
        paper="Karimi, Salcudean 2020, arXiv:1904.10030",
        formula="base + weight * mean (p - t)^2 (d_p^alpha + d_t^alpha)",
        summary="errors cost the more the farther they are from a border",
        good_for="the Hausdorff distance itself",
        bad_for="outliers and compound shapes; a distance transform of the prediction in every step",
        alone=False,
        blend=("base", "schedule", "weight"),
        breaks=FOREGROUND_ONLY,
    ),
    LossEntry(
        name="active_boundary",
        family="boundary",
        survey=True,
        fn="tuner.losses.active_boundary:active_boundary",
        options=(
            shared.base(),
            shared.added_weight(1.0, low=0.1, high=2.0),
            Option(
                "start",
                "float",
                0.0,
                "share of the training before it comes in",
                low=0.0,
                high=1.0,
                search=Search(0.0, 0.5),
            ),
            Option(
                "boundary_share",
                "float",
                0.01,
                "largest share of an image's pixels that are taken for predicted border",
                low=1e-4,
                high=0.5,
                search=Search(0.005, 0.05, log=True),
            ),
            Option(
                "theta",
                "float",
                20.0,
                "distance in pixels from which all pull alike",
                low=1.0,
                high=1000.0,
                search=Search(choices=(10.0, 20.0, 40.0)),
            ),
            Option(
                "label_smoothing",
                "float",
                0.2,
                "share of the direction's target that is spread over all directions",
                low=0.0,
                high=0.9,
            ),
        ),
        paper="Wang et al. 2022, arXiv:2102.02696",
        formula="base + weight * CE(direction towards the true border)",
        summary="draws predicted borders, pixel by pixel, towards the true ones",
        good_for="details of borders, beside an IoU-type loss",
        bad_for="alone; borders of different objects close together conflict",
        needs=("label_border_distance",),
        alone=False,
        blend=("base", "weight", "start"),
        breaks=frozenset({"zero_minimum"}),
    ),
    LossEntry(
        name="boundary_dou",
        family="boundary",
        survey=True,
        fn="tuner.losses.boundary:boundary_dou",
        options=(
            Option(
                "alpha_max",
                "float",
                0.8,
                "upper limit of the border's influence, which grows with the object",
                low=-1.0,
                high=0.99,
                search=Search(0.5, 0.95),
            ),
            shared.companion(0.0),
            shared.smooth(1e-5),
            shared.classes(),
        ),
        paper="Sun, Luo, Li 2023, arXiv:2308.00220",
        formula="mean_c (A - 2 I + s) / (A - (1 + alpha_c) I + s)",
        summary="difference over union, with large objects judged mostly by their border",
        good_for="large objects",
        bad_for="small and large objects at once: their alpha differs",
        blend=("cross_entropy_weight",),
    ),
    LossEntry(
        name="region_wise",
        family="boundary",
        survey=True,
        fn="tuner.losses.boundary:region_wise",
        options=(
            shared.base(),
            shared.schedule(
                "alone",
                "alone",
                "equal",
                "gradual",
                summary="without the base, beside it, or taking over from it during the training",
            ),
            shared.added_weight(1.0, low=0.1),
            Option(
                "map",
                "str",
                "rrw",
                "rrw: depth inside, in [-1, 0], and 1 outside; boundary: distances on both sides",
                choices=("rrw", "boundary"),
                search=Search(choices=("rrw", "boundary")),
            ),
        ),
        paper="Valverde, Tohka 2023, arXiv:2108.01405",
        formula="mean p_c z_c with a map z of each target",
        summary="every probability is weighed by a map of the target",
        good_for="many things: the map says what matters",
        bad_for="what its map does not say; constant pull however right the prediction is",
        needs=("own_distance", "signed_distance"),
        blend=("base", "schedule", "weight"),
        breaks=frozenset({"zero_minimum"}),
    ),
)
