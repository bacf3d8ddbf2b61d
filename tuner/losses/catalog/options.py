"""Options that several losses share, declared once."""

from tuner.registry import Option, Search

BACKGROUND_APART = frozenset({"class_permutation"})
"""What a loss violates that treats class 0 unlike the others."""


def smooth(default: float, *, search: bool = False) -> Option:
    """Return the term that is added to numerator and denominator of an overlap."""
    return Option(
        "smooth",
        "float",
        default,
        "added to numerator and denominator, in pixels; keeps an empty class defined",
        low=0.0,
        high=1000.0,
        search=Search(1e-6, 1.0, log=True) if search else None,
    )


def squared(*, search: bool = False) -> Option:
    """Return the choice of the denominator."""
    return Option(
        "squared",
        "bool",
        False,
        "sums squared probabilities in the denominator, as V-Net did",
        search=Search(choices=(False, True)) if search else None,
    )


def batch(*, search: bool = False) -> Option:
    """Return the choice of the unit over which an overlap is summed."""
    return Option(
        "batch",
        "bool",
        True,
        "sums over the whole batch (steady for rare classes) instead of per image",
        search=Search(choices=(True, False)) if search else None,
    )


def include_background(*, search: bool = False) -> Option:
    """Return the choice whether class 0 counts."""
    return Option(
        "include_background",
        "bool",
        True,
        "counts class 0 as well",
        search=Search(choices=(True, False)) if search else None,
    )


def classes(*, search: bool = False) -> Option:
    """Return the rule for absent classes."""
    return Option(
        "classes",
        "str",
        "present",
        "averages over the classes present in the target, or over all (an absent class that is predicted costs)",
        choices=("present", "all"),
        search=Search(choices=("present", "all")) if search else None,
    )


def class_weight_exponent(*, search: bool = True) -> Option:
    """Return the exponent of the class weights."""
    return Option(
        "class_weight_exponent",
        "float",
        0.0,
        "class weights are frequency^-exponent, scaled to mean 1: 0 none, 0.5 inverse square root, 1 inverse",
        low=0.0,
        high=2.0,
        search=Search(0.0, 1.0) if search else None,
    )


def false_positives() -> Option:
    """Return Tversky's alpha."""
    return Option("alpha", "float", 0.3, "weight of false positives", low=0.0, high=1.0, search=Search(0.1, 0.7))


def false_negatives() -> Option:
    """Return Tversky's beta."""
    return Option(
        "beta", "float", None, "weight of false negatives; null is 1 - alpha", low=0.0, high=1.0, nullable=True
    )


def focusing(default: float) -> Option:
    """Return the focal exponent."""
    return Option(
        "gamma",
        "float",
        default,
        "exponent of 1 - p_t: how much easy pixels are played down; 0 is cross-entropy",
        low=0.0,
        high=10.0,
        search=Search(0.0, 5.0),
    )


def share(of: str, default: float = 0.5) -> Option:
    """Return the share of the pixel term in a compound loss."""
    return Option(
        "weight",
        "float",
        default,
        f"share of {of}; the rest is the overlap loss",
        low=0.0,
        high=1.0,
        search=Search(0.05, 0.95),
    )


def overlap_options(*, smooth_default: float = 1e-5, search: bool = False) -> tuple[Option, ...]:
    """Return the options of Dice and of everything that is made like it."""
    return (
        smooth(smooth_default, search=search),
        squared(search=search),
        batch(search=search),
        include_background(search=search),
        classes(search=search),
    )


BASES = (
    "dice_cross_entropy",
    "dice_focal",
    "cross_entropy",
    "focal",
    "topk",
    "dice",
    "jaccard",
    "tversky",
    "focal_tversky",
    "generalized_dice",
    "combo",
    "unified_focal",
)


def base() -> Option:
    """Return the loss that an add-on is added to."""
    return Option(
        "base",
        "str",
        "dice_cross_entropy",
        "the loss it is added to, with that one's defaults",
        choices=BASES,
    )


def added_weight(default: float, *, low: float = 0.01, high: float = 1.0) -> Option:
    """Return the weight of an add-on beside its base."""
    return Option(
        "weight",
        "float",
        default,
        "weight beside the base, which has weight 1",
        low=0.0,
        high=1000.0,
        search=Search(low, high, log=True),
    )


def schedule(default: str, *choices: str, summary: str) -> Option:
    """Return how an add-on comes in."""
    return Option("schedule", "str", default, summary, choices=choices, search=Search(choices=choices))


def companion(default: float, *, high: float = 1.0) -> Option:
    """Return the share of cross-entropy beside a loss."""
    return Option(
        "cross_entropy_weight",
        "float",
        default,
        "share of cross-entropy beside it; the rest is the loss itself",
        low=0.0,
        high=1.0,
        search=Search(0.0, high),
    )


def class_weighting() -> Option:
    """Return how generalized Dice weighs classes."""
    return Option(
        "class_weighting",
        "str",
        "square",
        "classes weigh one over their volume squared, over their volume, or the same",
        choices=("square", "simple", "uniform"),
        search=Search(choices=("square", "simple", "uniform")),
    )
